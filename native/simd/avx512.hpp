// 64 bytes in an AVX-512 register: the operations of Avx2 but those of floats, with masks for the tails.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace bytenorm {
namespace {

struct Avx512 {
    static constexpr int width = 64;
    using Bytes = __m512i;
    using Dwords = __m512i;

    static Bytes load(const uint8_t* p) { return _mm512_loadu_si512(p); }
    static void store(uint8_t* p, Bytes v) { _mm512_storeu_si512(p, v); }
    static void stream(uint8_t* p, Bytes v) { _mm512_stream_si512(reinterpret_cast<__m512i*>(p), v); }
    static void fence() { _mm_sfence(); }
    __attribute__((always_inline)) static void prefetch(const uint8_t* p) {
        _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
    }

    static __mmask64 first(int64_t n) { return ~0ull >> (64 - n); }  // 0 < n <= 64
    static Bytes load_partial(const uint8_t* p, int64_t n) { return _mm512_maskz_loadu_epi8(first(n), p); }
    static void store_partial(uint8_t* p, Bytes v, int64_t n) { _mm512_mask_storeu_epi8(p, first(n), v); }

    // A vector whose bytes come from several addresses: those from the first of these lanes to before the last.
    static constexpr int most_parts = 4;
    using Lanes = __mmask64;
    static Lanes lanes(int64_t from, int64_t to) { return first(to) & ~0ull << from; }
    static Bytes load_lanes(const uint8_t* p, Lanes lanes) { return _mm512_maskz_loadu_epi8(lanes, p); }
    static void store_lanes(uint8_t* p, Bytes v, Lanes lanes) { _mm512_mask_storeu_epi8(p, lanes, v); }
    static Bytes add_lanes(Bytes v, const uint8_t* p, Lanes lanes) { return _mm512_mask_loadu_epi8(v, lanes, p); }

    static Dwords load_params(const int32_t* p) { return _mm512_load_si512(p); }
    static Dwords broadcast(int32_t v) { return _mm512_set1_epi32(v); }
    static Bytes broadcast8(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
    static Bytes first_bytes(int64_t n) { return _mm512_movm_epi8(n > 0 ? first(n) : 0); }  // all ones, then zeros
    static Bytes bit_xor(Bytes a, Bytes b) { return _mm512_xor_si512(a, b); }
    static Bytes bit_not(Bytes v) { return bit_xor(v, broadcast8(-1)); }
    static Bytes bit_and(Bytes a, Bytes b) { return _mm512_and_si512(a, b); }
    static Bytes bit_or(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
    static Bytes average_up(Bytes a, Bytes b) { return _mm512_avg_epu8(a, b); }
    static Bytes subtract(Bytes a, Bytes b) { return _mm512_sub_epi8(a, b); }

    static Dwords multiply_add(Dwords a, Bytes x, Dwords factor) {
#if defined(__AVX512VNNI__)
        return _mm512_dpwssd_epi32(a, x, factor);
#else
        return _mm512_add_epi32(a, _mm512_madd_epi16(x, factor));
#endif
    }
    static Dwords multiply_add_bytes(Dwords a, Bytes x, Dwords factor) {
#if defined(__AVX512VNNI__)
        return _mm512_dpbusd_epi32(a, factor, x);
#else
        return multiply_add(a, _mm512_maddubs_epi16(factor, x), _mm512_set1_epi16(1));
#endif
    }
    using WidePairs = Bytes;
    static WidePairs wide_pairs(Bytes a, Bytes b, int q) {
        const Bytes both = q < 2 ? interleave_low(a, b) : interleave_high(a, b), zero = broadcast8(0);
        return q % 2 ? interleave_high(zero, both) : interleave_low(zero, both);
    }
    static Dwords multiply_add_wide(Dwords a, WidePairs x, Dwords high, Dwords low) {
        return multiply_add(multiply_add_bytes(a, x, low), x, high);
    }
    static bool any_without(const Dwords (&v)[4], Dwords mask) {
        __mmask16 all = _mm512_test_epi32_mask(v[0], mask);
        for (int q = 1; q < 4; ++q) all = _mm512_mask_test_epi32_mask(all, v[q], mask);
        return !_kortestc_mask16_u8(all, all);
    }
    static Dwords shift_right(Dwords v, Dwords count) { return _mm512_srav_epi32(v, count); }
    static Dwords shift_left(Dwords v, Dwords count) { return _mm512_sllv_epi32(v, count); }

    // The lower or upper 8 bytes of each 128-bit lane as words, and words back to bytes, saturated.
    static Bytes words_low(Bytes v) { return _mm512_unpacklo_epi8(v, _mm512_setzero_si512()); }
    static Bytes words_high(Bytes v) { return _mm512_unpackhi_epi8(v, _mm512_setzero_si512()); }
    template <bool Signed>
    static Bytes pack_words(Bytes a, Bytes b) {
        return Signed ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
    }
    // Bytes of both in turn, from the lower or upper 8 of each 128-bit lane; dwords to words, and words,
    // saturated.
    static Bytes interleave_low(Bytes a, Bytes b) { return _mm512_unpacklo_epi8(a, b); }
    static Bytes interleave_high(Bytes a, Bytes b) { return _mm512_unpackhi_epi8(a, b); }
    static Bytes pack_dwords(Dwords a, Dwords b) { return _mm512_packs_epi32(a, b); }
    using Pairs = Bytes;
    static Pairs pairs(Bytes a, Bytes b, int q) {
        const Bytes both = q < 2 ? interleave_low(a, b) : interleave_high(a, b);
        return q % 2 ? words_high(both) : words_low(both);
    }
    static Bytes add_words(Bytes a, Bytes b) { return _mm512_adds_epi16(a, b); }
    static Bytes load_words(const int16_t* p) { return _mm512_load_si512(p); }
    static Bytes broadcast16(int16_t v) { return _mm512_set1_epi16(v); }
    static Bytes multiply_round(Bytes a, Bytes b) { return _mm512_mulhrs_epi16(a, b); }
    static Bytes shift_words(Bytes v, Bytes count) { return _mm512_srav_epi16(v, count); }
    // 16 bytes from anywhere, in each 128-bit lane; of those, the ones that an index names, from 0 to 15.
    static Bytes repeat16(const void* p) {
        return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    }
    static Bytes look_up(Bytes table, Bytes index) { return _mm512_shuffle_epi8(table, index); }
    // Counts for shift_words from bytes.
    static Bytes word_counts_low(Bytes v) { return words_low(v); }
    static Bytes word_counts_high(Bytes v) { return words_high(v); }
    static Dwords less_one_where_zero(Dwords v, Dwords what) {
        return _mm512_mask_sub_epi32(v, _mm512_testn_epi32_mask(what, what), v, _mm512_set1_epi32(1));
    }
    // Dwords of the lower word of one and the upper word of the other.
    static Bytes merge_words(Dwords lower, Dwords upper) {
        return _mm512_mask_blend_epi16(0xaaaaaaaa, lower, upper);
    }
    template <bool Signed>
    static Bytes max(Bytes a, Bytes b) {
        return Signed ? _mm512_max_epi8(a, b) : _mm512_max_epu8(a, b);
    }
};

}  // namespace
}  // namespace bytenorm
