// The norm of a sum that is not rounded, avx2: float32, and double where float32 is too near a tie to decide. That
// is one element in some thousand. 256-bit on AVX-512 machines too, as all float kernels.
#include "../kernel_list.hpp"
#include "../vector_avx2.hpp"

namespace bytenorm {
namespace {

struct Eight {
    __m256 slope_a, slope_b, offset, limit;

    static Eight broadcast(const ExactSum& s, int64_t c) {
        return {_mm256_set1_ps(s.slope_a[c]), _mm256_set1_ps(s.slope_b[c]), _mm256_set1_ps(s.offset[c]),
                _mm256_set1_ps(s.limit[c])};
    }
    static Eight load(const ExactSum& s, int64_t c) {
        return {_mm256_loadu_ps(s.slope_a + c), _mm256_loadu_ps(s.slope_b + c), _mm256_loadu_ps(s.offset + c),
                _mm256_loadu_ps(s.limit + c)};
    }
};

template <bool Signed>
BYTENORM_INLINE __m256 floats(const uint8_t* p) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(Signed ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
}

// A last vector of n bytes as a whole one.
struct Whole {
    alignas(32) uint8_t bytes[32];
    Whole(const uint8_t* p, int64_t n) { Avx2::store(bytes, Avx2::load_partial(p, n)); }
};

template <bool Signed, bool ByLane>
class Walk {
  public:
    explicit Walk(const ExactSum& s)
        : s_(s),
          zero_point_(_mm256_set1_epi16(static_cast<int16_t>(s.conversion.output_zero_point))),
          lowest_(_mm256_set1_epi8(static_cast<char>(s.conversion.output_zero_point))) {}

    void run(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t channel) const {
        const Eight same = Eight::broadcast(s_, channel);
        int64_t i = 0;
        for (; i + 32 <= s_.length; i += 32) {
            const int64_t c = channel + (ByLane ? i : 0);
            uint32_t unsure;
            const __m256i codes = vector(a + i, b + i, same, c, unsure);
            if (__builtin_expect(unsure != 0, 0))
                finish(a + i, b + i, y + i, codes, 32, c, unsure);
            else
                Avx2::store(y + i, codes);
        }
        if (const int64_t rest = s_.length - i) {
            const int64_t c = channel + (ByLane ? i : 0);
            const Whole last_a(a + i, rest), last_b(b + i, rest);
            uint32_t unsure;
            const __m256i codes = vector(last_a.bytes, last_b.bytes, same, c, unsure);
            finish(last_a.bytes, last_b.bytes, y + i, codes, rest, c, unsure & ((1u << rest) - 1));
        }
    }

  private:
    BYTENORM_INLINE __m256i vector(const uint8_t* a, const uint8_t* b, const Eight& same, int64_t c,
                                   uint32_t& unsure) const {
        __m256i y[4];
        unsure = 0;
        for (int q = 0; q < 4; ++q) {
            const Eight p = ByLane ? Eight::load(s_, c + 8 * q) : same;
            const __m256 inner = _mm256_fmadd_ps(p.slope_b, floats<Signed>(b + 8 * q), p.offset);
            const __m256 real = _mm256_fmadd_ps(p.slope_a, floats<Signed>(a + 8 * q), inner);
            // Bounded, so that the conversion is defined; what is as large saturates in any case.
            const __m256 bounded =
                _mm256_max_ps(_mm256_min_ps(real, _mm256_set1_ps(1048576.0f)), _mm256_set1_ps(-1048576.0f));
            const __m256 whole = _mm256_round_ps(bounded, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
            const __m256 off = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(bounded, whole));
            const __m256 near = _mm256_cmp_ps(off, p.limit, _CMP_NLE_UQ);
            unsure |= static_cast<uint32_t>(_mm256_movemask_ps(near)) << 8 * q;
            y[q] = _mm256_cvtps_epi32(whole);
        }
        const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(y[0], y[1]), zero_point_);
        const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(y[2], y[3]), zero_point_);
        __m256i codes =
            s_.conversion.output_signed ? _mm256_packs_epi16(low, high) : _mm256_packus_epi16(low, high);
        // Packing works on halves of the registers: the dwords are in the order 0 2 4 6 1 3 5 7.
        codes = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        if (!s_.conversion.relu) return codes;
        return s_.conversion.output_signed ? _mm256_max_epi8(codes, lowest_) : _mm256_max_epu8(codes, lowest_);
    }

    // Stores n codes, those of the bits in `unsure` from double. y may be a or b.
    __attribute__((noinline)) void finish(const uint8_t* a, const uint8_t* b, uint8_t* y, __m256i codes, int64_t n,
                                          int64_t channel, uint32_t unsure) const {
        uint8_t sure[32];
        ExactSum one = s_;
        one.count = one.length = 1;
        for (uint32_t left = unsure; left; left &= left - 1) {
            const int i = __builtin_ctz(left);
            const int64_t c = channel + (ByLane ? i : 0);
            one.a = a + i, one.b = b + i, one.y = sure + i;
            one.slope_a = s_.slope_a + c, one.slope_b = s_.slope_b + c, one.intercept = s_.intercept + c;
            ExactSum_fp64_scalar(one);
        }
        if (n == 32)
            Avx2::store(y, codes);
        else
            Avx2::store_partial(y, codes, n);
        for (uint32_t left = unsure; left; left &= left - 1) {
            const int i = __builtin_ctz(left);
            y[i] = sure[i];
        }
    }

    const ExactSum& s_;
    const __m256i zero_point_, lowest_;
};

template <bool Signed, bool ByLane>
void walk_exact(const ExactSum& s) {
    const Walk<Signed, ByLane> walk(s);
    for (int64_t i = 0; i < s.count; ++i)
        walk.run(s.a + i * s.a_stride, s.b + i * s.b_stride, s.y + i * s.y_stride, i * s.channel_stride);
}

}  // namespace

void ExactSum_fp32_avx2(const ExactSum& s) {
    if (s.conversion.input_signed)
        s.channel_step ? walk_exact<true, true>(s) : walk_exact<true, false>(s);
    else
        s.channel_step ? walk_exact<false, true>(s) : walk_exact<false, false>(s);
}

}  // namespace bytenorm
