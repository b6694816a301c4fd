// Sums, AVX2.
#include "kernels/loops/code_sums.hpp"
#include "kernels/list.hpp"
#include "simd/avx2.hpp"

namespace bytenorm {
namespace {

using V = __m256i;

template <bool Signed>
BYTENORM_INLINE V code(V v) {  // u
    return Signed ? _mm256_xor_si256(v, _mm256_set1_epi8(-128)) : v;
}

V filled(V u, V inside) {  // 255 outside
    return _mm256_or_si256(u, Avx2::bit_not(inside));
}

int64_t total_of(V dwords) {  // unsigned
    const V zero = _mm256_setzero_si256();
    const V pairs = _mm256_add_epi64(_mm256_unpacklo_epi32(dwords, zero), _mm256_unpackhi_epi32(dwords, zero));
    const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    return _mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1);
}

uint8_t least(V v) {
    __m128i low = _mm_min_epu8(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    low = _mm_min_epu8(low, _mm_srli_epi16(low, 8));  // each word: its lower byte
    return static_cast<uint8_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_and_si128(low, _mm_set1_epi16(0xff)))));
}

template <bool Signed>
struct PlaneAccumulator {
    using Vector = Avx2;
    // A step adds four squares to a dword: 16384 * 4 * 65025 < 2^32.
    static constexpr int64_t most_steps = 16384;

    V sum = _mm256_setzero_si256(), square = _mm256_setzero_si256();
    V low = _mm256_set1_epi8(-1), high = _mm256_setzero_si256();

    BYTENORM_INLINE void add(V v) {
        const V u = code<Signed>(v);
        count(u);
        low = _mm256_min_epu8(low, u);
    }
    BYTENORM_INLINE void add_two(V v, V w) {
        add(v);
        add(w);
    }
    BYTENORM_INLINE void add_some(V v, V inside) {
        const V u = Avx2::bit_and(code<Signed>(v), inside);  // zeros add nothing
        count(u);
        low = _mm256_min_epu8(low, filled(u, inside));
    }
    void empty_into(Sums& total) {
        total.sum += total_of(sum), total.square += total_of(square);  // sums of 8 bytes, in qwords
        const uint8_t l = least(low), h = static_cast<uint8_t>(~least(Avx2::bit_not(high)));
        if (l < total.low) total.low = l;
        if (h > total.high) total.high = h;
        *this = PlaneAccumulator();
    }

  private:
    BYTENORM_INLINE void count(V u) {
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(u, _mm256_setzero_si256()));
        const V even = _mm256_and_si256(u, _mm256_set1_epi16(0xff)), odd = _mm256_srli_epi16(u, 8);
        const V both = _mm256_add_epi32(_mm256_madd_epi16(even, even), _mm256_madd_epi16(odd, odd));
        square = _mm256_add_epi32(square, both);
        high = _mm256_max_epu8(high, u);
    }
};

// Two rows interleaved make a dword of the two words of each lane: one multiplication squares and adds both.
template <bool Signed>
struct RowAccumulator {
    using Vector = Avx2;
    static constexpr int rows = 2;

    V sum[4], square[4], low, high;

    RowAccumulator(const LaneSums& s, int64_t lane)
        : low(Avx2::load(s.low + lane)), high(Avx2::load(s.high + lane)) {
        for (int k = 0; k < 4; ++k) sum[k] = load(s.sum + lane + 8 * k), square[k] = load(s.square + lane + 8 * k);
    }
    BYTENORM_INLINE void add(const V* v) {
        const V u[2] = {code<Signed>(v[0]), code<Signed>(v[1])};
        count(u[0], u[1]);
        low = _mm256_min_epu8(low, _mm256_min_epu8(u[0], u[1]));
        high = _mm256_max_epu8(high, _mm256_max_epu8(u[0], u[1]));
    }
    BYTENORM_INLINE void add_some(const V* v, int present, V inside) {
        V u[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};  // zeros add nothing
        for (int k = 0; k < present; ++k) {
            u[k] = Avx2::bit_and(code<Signed>(v[k]), inside);
            low = _mm256_min_epu8(low, filled(u[k], inside));
            high = _mm256_max_epu8(high, u[k]);
        }
        count(u[0], u[1]);
    }
    void empty_into(const LaneSums& s, int64_t lane) const {
        for (int k = 0; k < 4; ++k) store(s.sum + lane + 8 * k, sum[k]), store(s.square + lane + 8 * k, square[k]);
        Avx2::store(s.low + lane, low), Avx2::store(s.high + lane, high);
    }

  private:
    static V load(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const V*>(p)); }
    static void store(uint32_t* p, V v) { _mm256_storeu_si256(reinterpret_cast<V*>(p), v); }

    BYTENORM_INLINE void count(V u, V w) {
        const V first = _mm256_unpacklo_epi8(u, w), second = _mm256_unpackhi_epi8(u, w);
        const V words[4] = {Avx2::words_low(first), Avx2::words_high(first), Avx2::words_low(second),
                            Avx2::words_high(second)};
        for (int k = 0; k < 4; ++k) {
            sum[k] = Avx2::multiply_add(sum[k], words[k], _mm256_set1_epi16(1));
            square[k] = Avx2::multiply_add(square[k], words[k], words[k]);
        }
    }
};

}  // namespace

void PlaneSums_integer32_avx2(const PlaneSums& p) {
    p.is_signed ? walk_planes<PlaneAccumulator<true>>(p) : walk_planes<PlaneAccumulator<false>>(p);
}
void RowSums_integer32_avx2(const RowSums& r) {
    r.is_signed ? walk_rows<RowAccumulator<true>>(r) : walk_rows<RowAccumulator<false>>(r);
}

}  // namespace bytenorm
