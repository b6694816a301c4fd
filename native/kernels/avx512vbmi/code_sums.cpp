// Sums, AVX-512 with VNNI: `vpdpbusd` adds the products of four unsigned and four signed bytes to a dword. With
// ones it adds the codes u, with u - 128 it adds u^2 - 128 u. Turning the top bit of a byte makes one of the
// other.
#include "kernels/loops/code_sums.hpp"
#include "kernels/list.hpp"
#include "simd/avx512.hpp"

namespace bytenorm {
namespace {

using V = __m512i;

V turned(V v) {
    return _mm512_xor_si512(v, _mm512_set1_epi8(-128));
}

// Sum and product of four lanes each, from -4096 to 32385 a product: 16384 steps of 4 stay below 2^31.
template <bool Signed>
BYTENORM_INLINE void count(V v, V& sum, V& product) {
    const V other = turned(v);
    const V u = Signed ? other : v, centred = Signed ? v : other;
    sum = _mm512_dpbusd_epi32(sum, u, _mm512_set1_epi8(1));
    product = _mm512_dpbusd_epi32(product, u, centred);
}

// Least and greatest as the bytes lie in memory.
template <bool Signed>
struct Range {
    V low = _mm512_set1_epi8(Signed ? 127 : -1), high = _mm512_set1_epi8(Signed ? -128 : 0);

    BYTENORM_INLINE void add(V v) { add(v, v); }
    BYTENORM_INLINE void add(V lower, V upper) {
        low = Signed ? _mm512_min_epi8(low, lower) : _mm512_min_epu8(low, lower);
        high = Signed ? _mm512_max_epi8(high, upper) : _mm512_max_epu8(high, upper);
    }
    void add_some(V v, V inside) {
        const V absent_low = _mm512_set1_epi8(Signed ? 127 : -1),
                absent_high = _mm512_set1_epi8(Signed ? -128 : 0);
        const __mmask64 in = _mm512_movepi8_mask(inside);
        add(_mm512_mask_mov_epi8(absent_low, in, v), _mm512_mask_mov_epi8(absent_high, in, v));
    }
    V lowest() const { return Signed ? turned(low) : low; }  // of the u
    V highest() const { return Signed ? turned(high) : high; }
};

uint8_t least(V v) {
    const __m256i half = _mm256_min_epu8(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    __m128i last = _mm_min_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    last = _mm_min_epu8(last, _mm_srli_epi16(last, 8));  // each word: its lower byte
    return static_cast<uint8_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_and_si128(last, _mm_set1_epi16(0xff)))));
}

template <bool Signed>
V zeroed(V v, V inside) {  // bytes of u = 0 outside, which add nothing
    return _mm512_mask_mov_epi8(_mm512_set1_epi8(Signed ? -128 : 0), _mm512_movepi8_mask(inside), v);
}

template <bool Signed>
struct PlaneAccumulator {
    using Vector = Avx512;
    static constexpr int64_t most_steps = 16384;

    // Two of each: an addition waits for the one before, four cycles or five.
    V sum[2], product[2];
    Range<Signed> range;

    PlaneAccumulator() { sum[0] = sum[1] = product[0] = product[1] = _mm512_setzero_si512(); }

    BYTENORM_INLINE void add(V v) {
        count<Signed>(v, sum[0], product[0]);
        range.add(v);
    }
    BYTENORM_INLINE void add_two(V v, V w) {
        add(v);
        count<Signed>(w, sum[1], product[1]);
        range.add(w);
    }
    BYTENORM_INLINE void add_some(V v, V inside) {
        count<Signed>(zeroed<Signed>(v, inside), sum[0], product[0]);
        range.add_some(v, inside);
    }
    void empty_into(Sums& total) {
        const int64_t s = _mm512_reduce_add_epi32(_mm512_add_epi32(sum[0], sum[1]));  // 16384 * 64 * 255 < 2^31
        // The steps of both together are 16384 at most: so is what a dword may hold.
        const V both = _mm512_add_epi32(product[0], product[1]);
        const V lower = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(both));
        const V upper = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(both, 1));
        total.sum += s, total.square += _mm512_reduce_add_epi64(_mm512_add_epi64(lower, upper)) + 128 * s;
        const V all = _mm512_set1_epi8(-1);
        const uint8_t l = least(range.lowest());
        const uint8_t h = static_cast<uint8_t>(~least(_mm512_xor_si512(range.highest(), all)));
        if (l < total.low) total.low = l;
        if (h > total.high) total.high = h;
        *this = PlaneAccumulator();
    }
};

// Four rows interleaved make a dword of the four bytes of each lane.
template <bool Signed>
struct RowAccumulator {
    using Vector = Avx512;
    static constexpr int rows = 4;

    V sum[4], product[4];
    Range<Signed> range;

    RowAccumulator(const LaneSums&, int64_t) {
        for (int k = 0; k < 4; ++k) sum[k] = product[k] = _mm512_setzero_si512();
    }
    BYTENORM_INLINE void add(const V* v) {
        count_rows(v);
        for (int k = 0; k < 4; ++k) range.add(v[k]);
    }
    BYTENORM_INLINE void add_some(const V* v, int present, V inside) {
        V u[4];
        for (int k = 0; k < 4; ++k)
            u[k] = k < present ? zeroed<Signed>(v[k], inside) : zeroed<Signed>(inside, V{});
        count_rows(u);
        for (int k = 0; k < present; ++k) range.add_some(v[k], inside);
    }
    void empty_into(const LaneSums& s, int64_t lane) const {
        for (int k = 0; k < 4; ++k) {
            uint32_t *to_sum = s.sum + lane + 16 * k, *to_square = s.square + lane + 16 * k;
            _mm512_storeu_si512(to_sum, _mm512_add_epi32(_mm512_loadu_si512(to_sum), sum[k]));
            const V squares = _mm512_add_epi32(product[k], _mm512_slli_epi32(sum[k], 7));
            _mm512_storeu_si512(to_square, _mm512_add_epi32(_mm512_loadu_si512(to_square), squares));
        }
        Avx512::store(s.low + lane, _mm512_min_epu8(Avx512::load(s.low + lane), range.lowest()));
        Avx512::store(s.high + lane, _mm512_max_epu8(Avx512::load(s.high + lane), range.highest()));
    }

  private:
    BYTENORM_INLINE void count_rows(const V* v) {
        const V a = _mm512_unpacklo_epi8(v[0], v[1]), b = _mm512_unpackhi_epi8(v[0], v[1]);
        const V c = _mm512_unpacklo_epi8(v[2], v[3]), d = _mm512_unpackhi_epi8(v[2], v[3]);
        count<Signed>(_mm512_unpacklo_epi16(a, c), sum[0], product[0]);
        count<Signed>(_mm512_unpackhi_epi16(a, c), sum[1], product[1]);
        count<Signed>(_mm512_unpacklo_epi16(b, d), sum[2], product[2]);
        count<Signed>(_mm512_unpackhi_epi16(b, d), sum[3], product[3]);
    }
};

}  // namespace

void PlaneSums_integer32_avx512vbmi(const PlaneSums& p) {
    p.is_signed ? walk_planes<PlaneAccumulator<true>>(p) : walk_planes<PlaneAccumulator<false>>(p);
}
void RowSums_integer32_avx512vbmi(const RowSums& r) {
    r.is_signed ? walk_rows<RowAccumulator<true>>(r) : walk_rows<RowAccumulator<false>>(r);
}

}  // namespace bytenorm
