// 64 bytes in an AVX-512 register: the operations of vector_avx2.hpp, with masks for the tails.
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

    static __mmask64 first(int64_t n) { return ~0ull >> (64 - n); }  // 0 < n <= 64
    static Bytes load_partial(const uint8_t* p, int64_t n) { return _mm512_maskz_loadu_epi8(first(n), p); }
    static void store_partial(uint8_t* p, Bytes v, int64_t n) { _mm512_mask_storeu_epi8(p, first(n), v); }

    static Dwords load_params(const int32_t* p) { return _mm512_load_si512(p); }
    static Dwords broadcast(int32_t v) { return _mm512_set1_epi32(v); }
    static Bytes broadcast8(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
    static Bytes bit_xor(Bytes a, Bytes b) { return _mm512_xor_si512(a, b); }

    struct Spread {
        __m512i index[4];
        Spread(int second, int third, int fourth) {
            for (int q = 0; q < 4; ++q) {
                alignas(64) uint8_t b[64];
                for (int d = 0; d < 16; ++d) {
                    const uint8_t byte = static_cast<uint8_t>(4 * q + d % 4);
                    const int repeat[4] = {1, second, third, fourth};
                    for (int k = 0; k < 4; ++k) b[4 * d + k] = repeat[k] ? byte : 0x80;
                }
                index[q] = _mm512_load_si512(b);
            }
        }
        Dwords operator()(Bytes v, int quarter) const { return _mm512_shuffle_epi8(v, index[quarter]); }
    };

    static Dwords multiply_add(Dwords a, Dwords x, Dwords factor) {
#if defined(__AVX512VNNI__)
        return _mm512_dpwssd_epi32(a, x, factor);
#else
        return _mm512_add_epi32(a, _mm512_madd_epi16(x, factor));
#endif
    }
    static Dwords shift_right(Dwords v, Dwords count) { return _mm512_srav_epi32(v, count); }

    template <bool Signed>
    static Bytes pack(Dwords a, Dwords b, Dwords c, Dwords d) {
        const __m512i low = _mm512_packs_epi32(a, b), high = _mm512_packs_epi32(c, d);
        return Signed ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
    }
    template <bool Signed>
    static Bytes max(Bytes a, Bytes b) {
        return Signed ? _mm512_max_epi8(a, b) : _mm512_max_epu8(a, b);
    }
};

}  // namespace
}  // namespace bytenorm
