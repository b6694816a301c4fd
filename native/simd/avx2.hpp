// 32 bytes in an AVX2 register: the few operations that the kernel templates need.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "part.hpp"

namespace bytenorm {
namespace {

struct Avx2 {
    static constexpr int width = 32;
    using Bytes = __m256i;   // 32 bytes
    using Dwords = __m256i;  // 8 int32

    static Bytes load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static void store(uint8_t* p, Bytes v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
    // Past the cache: p is aligned to a whole vector. `fence` once behind all of them.
    static void stream(uint8_t* p, Bytes v) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), v); }
    static void fence() { _mm_sfence(); }
    // Inlined before gcc 12 takes it, in some loops, for a call that does nothing and leaves it out.
    __attribute__((always_inline)) static void prefetch(const uint8_t* p) {
        _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
    }

    // The first n bytes, 0 < n < 32, touching no other.
    static Bytes load_partial(const uint8_t* p, int64_t n) {
        if (n < 16) return _mm256_zextsi128_si256(load_partial16(p, n));
        const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm256_inserti128_si256(_mm256_castsi128_si256(low), load_partial16(p + 16, n - 16), 1);
    }
    static void store_partial(uint8_t* p, Bytes v, int64_t n) {
        __m128i part = _mm256_castsi256_si128(v);
        if (n >= 16) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(p), part);
            part = _mm256_extracti128_si256(v, 1);
            p += 16, n -= 16;
        }
        store_partial16(p, part, n);
    }

    // A vector whose bytes come from several addresses: here from one, from its start.
    static constexpr int most_parts = 1;
    using Lanes = int64_t;  // how many
    static Lanes lanes(int64_t, int64_t to) { return to; }
    static Bytes load_lanes(const uint8_t* p, Lanes n) { return n == width ? load(p) : load_partial(p, n); }
    static Bytes add_lanes(Bytes v, const uint8_t*, Lanes) { return v; }

    static Dwords load_params(const int32_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
    static Dwords broadcast(int32_t v) { return _mm256_set1_epi32(v); }
    static Bytes broadcast8(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
    static Bytes first_bytes(int64_t n) {  // all ones, zeros behind them
        const __m256i place = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
                                               19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
        return _mm256_cmpgt_epi8(broadcast8(static_cast<int>(n)), place);
    }
    static Bytes bit_xor(Bytes a, Bytes b) { return _mm256_xor_si256(a, b); }
    static Bytes bit_not(Bytes v) { return bit_xor(v, broadcast8(-1)); }
    static Bytes bit_and(Bytes a, Bytes b) { return _mm256_and_si256(a, b); }
    static Bytes bit_or(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
    // Of unsigned bytes: the average, rounded up.
    static Bytes average_up(Bytes a, Bytes b) { return _mm256_avg_epu8(a, b); }
    static Bytes subtract(Bytes a, Bytes b) { return _mm256_sub_epi8(a, b); }

    // a + the products of the two words of each dword
    static Dwords multiply_add(Dwords a, Bytes x, Dwords factor) {
        return _mm256_add_epi32(a, _mm256_madd_epi16(x, factor));
    }
    // a + the products of the unsigned bytes of `factor` with the signed ones of x, four a dword. Of two
    // neighbours one is zero.
    static Dwords multiply_add_bytes(Dwords a, Bytes x, Dwords factor) {
        return multiply_add(a, _mm256_maddubs_epi16(factor, x), _mm256_set1_epi16(1));
    }
    // Of two vectors of signed bytes, 4q to 4q+3 of each 128-bit lane, each in the upper byte of a word: 256 times
    // as much. a + their products with two multipliers of 24 bits a dword: words `high`, bytes `low` above a zero.
    using WidePairs = Bytes;
    static WidePairs wide_pairs(Bytes a, Bytes b, int q) {
        const Bytes both = q < 2 ? interleave_low(a, b) : interleave_high(a, b), zero = broadcast8(0);
        return q % 2 ? interleave_high(zero, both) : interleave_low(zero, both);
    }
    static Dwords multiply_add_wide(Dwords a, WidePairs x, Dwords high, Dwords low) {
        return multiply_add(multiply_add_bytes(a, x, low), x, high);
    }
    // Whether a dword has none of the mask's bits.
    static bool any_without(const Dwords (&v)[4], Dwords mask) {
        const Dwords low = _mm256_min_epu32(bit_and(v[0], mask), bit_and(v[1], mask));
        const Dwords high = _mm256_min_epu32(bit_and(v[2], mask), bit_and(v[3], mask));
        const Dwords least = _mm256_min_epu32(low, high);
        return _mm256_movemask_epi8(_mm256_cmpeq_epi32(least, _mm256_setzero_si256())) != 0;
    }
    static Dwords shift_right(Dwords v, Dwords count) { return _mm256_srav_epi32(v, count); }
    static Dwords shift_left(Dwords v, Dwords count) { return _mm256_sllv_epi32(v, count); }

    // The lower or upper 8 bytes of each 128-bit lane as words, and words back to bytes, saturated.
    static Bytes words_low(Bytes v) { return _mm256_unpacklo_epi8(v, _mm256_setzero_si256()); }
    static Bytes words_high(Bytes v) { return _mm256_unpackhi_epi8(v, _mm256_setzero_si256()); }
    template <bool Signed>
    static Bytes pack_words(Bytes a, Bytes b) {
        return Signed ? _mm256_packs_epi16(a, b) : _mm256_packus_epi16(a, b);
    }
    // Bytes of both in turn, from the lower or upper 8 of each 128-bit lane; dwords to words, and words,
    // saturated.
    static Bytes interleave_low(Bytes a, Bytes b) { return _mm256_unpacklo_epi8(a, b); }
    static Bytes interleave_high(Bytes a, Bytes b) { return _mm256_unpackhi_epi8(a, b); }
    static Bytes pack_dwords(Dwords a, Dwords b) { return _mm256_packs_epi32(a, b); }
    // The codes 4q to 4q+3 of each 128-bit lane of two vectors as the two words of dwords.
    using Pairs = Bytes;
    static Pairs pairs(Bytes a, Bytes b, int q) {
        const Bytes both = q < 2 ? interleave_low(a, b) : interleave_high(a, b);
        return q % 2 ? words_high(both) : words_low(both);
    }
    static Bytes add_words(Bytes a, Bytes b) { return _mm256_adds_epi16(a, b); }
    static Bytes load_words(const int16_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
    static Bytes broadcast16(int16_t v) { return _mm256_set1_epi16(v); }
    // (a * b + 2^14) >> 15
    static Bytes multiply_round(Bytes a, Bytes b) { return _mm256_mulhrs_epi16(a, b); }
    // Each word by its own count, which is 2^(16 - count) here.
    static Bytes shift_words(Bytes v, Bytes count) { return _mm256_mulhi_epi16(v, count); }
    static Dwords less_one_where_zero(Dwords v, Dwords what) {
        return _mm256_add_epi32(v, _mm256_cmpeq_epi32(what, _mm256_setzero_si256()));
    }
    // Dwords of the lower word of one and the upper word of the other.
    static Bytes merge_words(Dwords lower, Dwords upper) { return _mm256_blend_epi16(lower, upper, 0xaa); }

    // For arithmetics in float32: 8 at a time.
    using Floats = __m256;
    static Floats load_floats(const int32_t* p) { return _mm256_load_ps(reinterpret_cast<const float*>(p)); }
    static Floats broadcast_float(float v) { return _mm256_set1_ps(v); }
    static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
    static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }  // a * b + c
    static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
    static Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
    static Floats or_floats(Floats a, Floats b) { return _mm256_or_ps(a, b); }
    // Half to even, and some large number beyond int32. The conversion gives INT_MIN for 2^31 and more (witness:
    // slope 3e9, x 1), which would saturate on the wrong side; below -2^31 INT_MIN is right as it is.
    static Dwords round(Floats v) { return _mm256_cvtps_epi32(_mm256_min_ps(v, broadcast_float(1073741824.0f))); }
    // Rounded; two of those in words, with a zero point; saturated.
    class ToWords {
      public:
        explicit ToWords(int zero_point) : zero_point_(broadcast16(static_cast<int16_t>(zero_point))) {}
        Dwords round(Floats v) const { return Avx2::round(v); }
        Bytes pack(Dwords a, Dwords b) const { return add_words(pack_dwords(a, b), zero_point_); }

      private:
        Bytes zero_point_;
    };
    // Anywhere in memory. All ones where either is a NaN; whether there are such.
    static Floats load_reals(const float* p) { return _mm256_loadu_ps(p); }
    static void store_reals(float* p, Floats v) { _mm256_storeu_ps(p, v); }
    template <bool Signed>
    static Floats load_codes(const uint8_t* p) {  // a quarter of a vector of bytes, anywhere
        const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return _mm256_cvtepi32_ps(Signed ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v));
    }
    static Floats unordered(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
    static Floats no_floats() { return _mm256_setzero_ps(); }
    static bool any(Floats v) { return _mm256_movemask_ps(v) != 0; }
    // Two packs of four vectors in a row leave dwords of the first, second, third and fourth in turn.
    static Bytes in_order(Bytes v) {
        return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    // Bytes 4q to 4q+3 of each 128-bit lane, each 2^23 more: in the low bits of the float 2^23 a byte is the float
    // 2^23 + byte, and no conversion is needed.
    static Floats floats(Bytes v, int q) {
        const __m256i first = _mm256_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3);  // 0x80 in a byte of an index gives zero
        const __m256i index = _mm256_add_epi32(first, _mm256_set1_epi32(static_cast<int>(0x80808000u) + 4 * q));
        const __m256 two_23 = broadcast_float(8388608.0f);
        return _mm256_castsi256_ps(_mm256_or_si256(_mm256_shuffle_epi8(v, index), _mm256_castps_si256(two_23)));
    }

    template <bool Signed>
    static Bytes max(Bytes a, Bytes b) {
        return Signed ? _mm256_max_epi8(a, b) : _mm256_max_epu8(a, b);
    }

  private:
    static __m128i load_partial16(const uint8_t* p, int64_t n) {  // 0 <= n < 16
        if (n >= 8) {
            const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
            const __m128i high = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + n - 8));
            const __m128i count = _mm_cvtsi64_si128(8 * (16 - n));  // 64 when n is 8: shifts everything out
            return _mm_unpacklo_epi64(low, _mm_srl_epi64(high, count));
        }
        return n == 0 ? _mm_setzero_si128() : _mm_cvtsi64_si128(static_cast<int64_t>(load_part(p, n)));
    }
    static void store_partial16(uint8_t* p, __m128i v, int64_t n) {  // 0 <= n < 16
        store_part(p, static_cast<uint64_t>(_mm_cvtsi128_si64(v)), static_cast<uint64_t>(_mm_extract_epi64(v, 1)),
                   n);
    }
};

}  // namespace
}  // namespace bytenorm
