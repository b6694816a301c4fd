// The norm of a sum that is not rounded, avx2: float32, and double where float32 is too near a tie to decide. That
// is one element in some thousand. 256-bit on AVX-512 machines too, as all float kernels.
#include "kernels/list.hpp"
#include "simd/avx2.hpp"

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
        const int64_t n = s_.length;
        if (n < 32) {
            if (n == 0) return;
            const Whole last_a(a, n), last_b(b, n);
            const Codes codes(*this, last_a.bytes, last_b.bytes, same, channel);
            return finish(last_a.bytes, last_b.bytes, y, codes.bytes, n, channel,
                          codes.unsure() & ((1u << n) - 1));
        }
        // The last vector overlaps the one before. In place that one is stored by then, so it is computed first.
        alignas(32) uint8_t last[32];
        if (n % 32) vector(a + n - 32, b + n - 32, last, same, channel + (ByLane ? n - 32 : 0));
        for (int64_t i = 0; i + 32 <= n; i += 32) vector(a + i, b + i, y + i, same, channel + (ByLane ? i : 0));
        if (n % 32) Avx2::store(y + n - 32, Avx2::load(last));
    }

  private:
    // 32 codes, and where float32 is too near a tie.
    struct Codes {
        __m256i bytes;
        __m256 near[4];

        BYTENORM_INLINE Codes(const Walk& walk, const uint8_t* a, const uint8_t* b, const Eight& same, int64_t c) {
            const Conversion& conversion = walk.s_.conversion;
            __m256i y[4];
            for (int q = 0; q < 4; ++q) {
                const Eight p = ByLane ? Eight::load(walk.s_, c + 8 * q) : same;
                const __m256 inner = _mm256_fmadd_ps(p.slope_b, floats<Signed>(b + 8 * q), p.offset);
                const __m256 real = _mm256_fmadd_ps(p.slope_a, floats<Signed>(a + 8 * q), inner);
                // What no int32 holds becomes INT_MIN. Parameters that allow such numbers have a limit of -1, and
                // NaN is within none: double decides.
                y[q] = _mm256_cvtps_epi32(real);
                const __m256 off = _mm256_sub_ps(real, _mm256_cvtepi32_ps(y[q]));
                near[q] = _mm256_cmp_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), off), p.limit, _CMP_NLE_UQ);
            }
            const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(y[0], y[1]), walk.zero_point_);
            const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(y[2], y[3]), walk.zero_point_);
            bytes = conversion.output_signed ? _mm256_packs_epi16(low, high) : _mm256_packus_epi16(low, high);
            // Packing works on halves of the registers: the dwords are in the order 0 2 4 6 1 3 5 7.
            bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            if (!conversion.relu) return;
            bytes = conversion.output_signed ? _mm256_max_epi8(bytes, walk.lowest_)
                                             : _mm256_max_epu8(bytes, walk.lowest_);
        }

        BYTENORM_INLINE bool any_unsure() const {
            return _mm256_movemask_ps(
                _mm256_or_ps(_mm256_or_ps(near[0], near[1]), _mm256_or_ps(near[2], near[3])));
        }
        uint32_t unsure() const {
            uint32_t bits = 0;
            for (int q = 0; q < 4; ++q) bits |= static_cast<uint32_t>(_mm256_movemask_ps(near[q])) << 8 * q;
            return bits;
        }
    };

    BYTENORM_INLINE void vector(const uint8_t* a, const uint8_t* b, uint8_t* y, const Eight& same,
                                int64_t channel) const {
        const Codes codes(*this, a, b, same, channel);
        if (__builtin_expect(codes.any_unsure(), 0))
            finish(a, b, y, codes.bytes, 32, channel, codes.unsure());
        else
            Avx2::store(y, codes.bytes);
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
