// AVX-512 in software, for machines that have AVX2 alone: the intrinsics that native/ uses, each half of a vector
// by AVX2, what crosses halves by the pseudo-code of Intel's guide. CMake's BYTENORM_EMULATE has this included
// before the files of those sets. It shows what kernels compute, not what compilers make of them.
#pragma once

#include <immintrin.h>  // the compiler's own: the names below hide its names

#include <cstdint>

namespace bytenorm {
namespace {

struct __m512i {
    __m256i lower, upper;
};

// Each half for itself, and with it each 128-bit lane.
#define BYTENORM_SAME(name, of256)                                 \
    inline __m512i _mm512_##name(__m512i a, __m512i b) {           \
        return {of256(a.lower, b.lower), of256(a.upper, b.upper)}; \
    }
BYTENORM_SAME(add_epi32, _mm256_add_epi32)
BYTENORM_SAME(add_epi64, _mm256_add_epi64)
BYTENORM_SAME(adds_epi16, _mm256_adds_epi16)
BYTENORM_SAME(and_si512, _mm256_and_si256)
BYTENORM_SAME(avg_epu8, _mm256_avg_epu8)
BYTENORM_SAME(madd_epi16, _mm256_madd_epi16)
BYTENORM_SAME(maddubs_epi16, _mm256_maddubs_epi16)
BYTENORM_SAME(max_epi8, _mm256_max_epi8)
BYTENORM_SAME(max_epu8, _mm256_max_epu8)
BYTENORM_SAME(min_epi8, _mm256_min_epi8)
BYTENORM_SAME(min_epu8, _mm256_min_epu8)
BYTENORM_SAME(mulhrs_epi16, _mm256_mulhrs_epi16)
BYTENORM_SAME(or_si512, _mm256_or_si256)
BYTENORM_SAME(packs_epi16, _mm256_packs_epi16)
BYTENORM_SAME(packs_epi32, _mm256_packs_epi32)
BYTENORM_SAME(packus_epi16, _mm256_packus_epi16)
BYTENORM_SAME(shuffle_epi8, _mm256_shuffle_epi8)
BYTENORM_SAME(sllv_epi32, _mm256_sllv_epi32)
BYTENORM_SAME(srav_epi32, _mm256_srav_epi32)
BYTENORM_SAME(sub_epi8, _mm256_sub_epi8)
BYTENORM_SAME(unpackhi_epi16, _mm256_unpackhi_epi16)
BYTENORM_SAME(unpackhi_epi8, _mm256_unpackhi_epi8)
BYTENORM_SAME(unpacklo_epi16, _mm256_unpacklo_epi16)
BYTENORM_SAME(unpacklo_epi8, _mm256_unpacklo_epi8)
BYTENORM_SAME(xor_si512, _mm256_xor_si256)
#undef BYTENORM_SAME

// Elements one by one.
template <class T>
struct Elements {
    static constexpr int count = 64 / sizeof(T);
    T at[count];

    Elements() : at() {}
    explicit Elements(__m512i v) { __builtin_memcpy(at, &v, sizeof at); }
    explicit Elements(T all) {
        for (T& one : at) one = all;
    }
    operator __m512i() const {
        __m512i v;
        __builtin_memcpy(&v, at, sizeof at);
        return v;
    }
};

// Memory. What has to be aligned ends the program where it is not, as the processor does; what a mask leaves out
// is not touched.
inline __m512i _mm512_loadu_si512(const void* p) {
    __m512i v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
inline void _mm512_storeu_si512(void* p, __m512i v) {
    __builtin_memcpy(p, &v, sizeof v);
}
inline void check_aligned(const void* p) {
    if (reinterpret_cast<uintptr_t>(p) % 64) __builtin_trap();
}
inline __m512i _mm512_load_si512(const void* p) {
    check_aligned(p);
    return _mm512_loadu_si512(p);
}
inline void _mm512_stream_si512(__m512i* p, __m512i v) {
    check_aligned(p);
    _mm256_stream_si256(&p->lower, v.lower);
    _mm256_stream_si256(&p->upper, v.upper);
}
inline bool bit(uint64_t mask, int i) {
    return mask >> i & 1;
}
inline __m512i _mm512_mask_loadu_epi8(__m512i other, __mmask64 mask, const void* p) {
    Elements<uint8_t> v(other);
    for (int i = 0; i < v.count; ++i)
        if (bit(mask, i)) v.at[i] = static_cast<const uint8_t*>(p)[i];
    return v;
}
inline __m512i _mm512_maskz_loadu_epi8(__mmask64 mask, const void* p) {
    return _mm512_mask_loadu_epi8(Elements<uint8_t>(), mask, p);
}
inline void _mm512_mask_storeu_epi8(void* p, __mmask64 mask, __m512i v) {
    const Elements<uint8_t> from(v);
    for (int i = 0; i < from.count; ++i)
        if (bit(mask, i)) static_cast<uint8_t*>(p)[i] = from.at[i];
}

// Constants and halves.
inline __m512i _mm512_setzero_si512() {
    return Elements<uint8_t>();
}
inline __m512i _mm512_set1_epi8(char v) {
    return Elements<char>(v);
}
inline __m512i _mm512_set1_epi16(int16_t v) {
    return Elements<int16_t>(v);
}
inline __m512i _mm512_set1_epi32(int32_t v) {
    return Elements<int32_t>(v);
}
inline __m512i _mm512_broadcast_i32x4(__m128i v) {
    return {_mm256_broadcastsi128_si256(v), _mm256_broadcastsi128_si256(v)};
}
inline __m256i _mm512_castsi512_si256(__m512i v) {
    return v.lower;
}
#undef _mm512_extracti64x4_epi64
inline __m256i _mm512_extracti64x4_epi64(__m512i v, int upper) {
    return upper ? v.upper : v.lower;
}
inline __m512i _mm512_cvtepi32_epi64(__m256i v) {
    return {_mm256_cvtepi32_epi64(_mm256_castsi256_si128(v)),
            _mm256_cvtepi32_epi64(_mm256_extracti128_si256(v, 1))};
}

// Masks.
inline __mmask64 _mm512_movepi8_mask(__m512i v) {
    return static_cast<uint32_t>(_mm256_movemask_epi8(v.lower)) |
           static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(v.upper))) << 32;
}
template <class T>
__m512i blend(uint64_t mask, __m512i where_not, __m512i where) {
    Elements<T> v(where_not);
    const Elements<T> other(where);
    for (int i = 0; i < v.count; ++i)
        if (bit(mask, i)) v.at[i] = other.at[i];
    return v;
}
inline __m512i _mm512_mask_mov_epi8(__m512i v, __mmask64 mask, __m512i other) {
    return blend<uint8_t>(mask, v, other);
}
inline __m512i _mm512_movm_epi8(__mmask64 mask) {
    return blend<uint8_t>(mask, _mm512_setzero_si512(), _mm512_set1_epi8(-1));
}
inline __m512i _mm512_mask_blend_epi16(__mmask32 mask, __m512i a, __m512i b) {
    return blend<uint16_t>(mask, a, b);
}
inline __mmask16 _mm512_test_epi32_mask(__m512i a, __m512i b) {
    const Elements<uint32_t> both(_mm512_and_si512(a, b));
    unsigned mask = 0;
    for (int i = 0; i < both.count; ++i) mask |= static_cast<unsigned>(both.at[i] != 0) << i;
    return static_cast<__mmask16>(mask);
}
inline __mmask16 _mm512_testn_epi32_mask(__m512i a, __m512i b) {
    return static_cast<__mmask16>(~_mm512_test_epi32_mask(a, b));
}
inline __mmask16 _mm512_mask_test_epi32_mask(__mmask16 mask, __m512i a, __m512i b) {
    return static_cast<__mmask16>(mask & _mm512_test_epi32_mask(a, b));
}
inline uint8_t _kortestc_mask16_u8(__mmask16 a, __mmask16 b) {
    return (a | b) == 0xffff;
}
inline __m512i _mm512_mask_sub_epi32(__m512i v, __mmask16 mask, __m512i a, __m512i b) {
    return blend<uint32_t>(mask, v, {_mm256_sub_epi32(a.lower, b.lower), _mm256_sub_epi32(a.upper, b.upper)});
}

// Shifts that AVX2 lacks, sums, tables, and the products of VNNI, whose sums wrap.
inline __m512i _mm512_slli_epi32(__m512i v, unsigned count) {
    return _mm512_sllv_epi32(v, _mm512_set1_epi32(static_cast<int32_t>(count)));
}
inline __m512i _mm512_srav_epi16(__m512i v, __m512i counts) {
    Elements<int16_t> words(v);
    const Elements<uint16_t> by(counts);
    for (int i = 0; i < words.count; ++i)
        words.at[i] = static_cast<int16_t>(words.at[i] >> (by.at[i] < 16 ? by.at[i] : 15));
    return words;
}
inline int32_t _mm512_reduce_add_epi32(__m512i v) {
    uint32_t sum = 0;
    for (uint32_t one : Elements<uint32_t>(v).at) sum += one;
    return static_cast<int32_t>(sum);
}
inline int64_t _mm512_reduce_add_epi64(__m512i v) {
    uint64_t sum = 0;
    for (uint64_t one : Elements<uint64_t>(v).at) sum += one;
    return static_cast<int64_t>(sum);
}
inline __m512i _mm512_permutex2var_epi8(__m512i a, __m512i index, __m512i b) {
    Elements<uint8_t> v(index);
    const Elements<uint8_t> of_a(a), of_b(b);
    for (uint8_t& one : v.at) one = one & 64 ? of_b.at[one & 63] : of_a.at[one & 63];
    return v;
}
inline __m512i _mm512_dpwssd_epi32(__m512i sum, __m512i a, __m512i b) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
}
inline __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
    Elements<uint32_t> sums(sum);
    const Elements<uint8_t> of_a(a);
    const Elements<int8_t> of_b(b);
    for (int i = 0; i < of_a.count; ++i) sums.at[i / 4] += static_cast<uint32_t>(of_a.at[i] * of_b.at[i]);
    return sums;
}

}  // namespace
}  // namespace bytenorm

// What native/simd asks the compiler.
#define __AVX512BW__ 1
#if defined(BYTENORM_EMULATED_VNNI)
#define __AVX512VNNI__ 1
#endif
