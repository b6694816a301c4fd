// The norm of a sum of any number of tensors, avx2: sixteen elements in four vectors of doubles. A product is
// exact, so an fma rounds what two operations would. 256-bit on AVX-512 machines too, as all float kernels.
#include <immintrin.h>

#include "kernels/list.hpp"

namespace bytenorm {
namespace {

constexpr int64_t width = 16;

// One number for all elements, or one each.
template <bool ByLane>
BYTENORM_INLINE __m256d of_channels(const float* numbers, int64_t channel, int lane) {
    return ByLane ? _mm256_cvtps_pd(_mm_loadu_ps(numbers + channel + lane))
                  : _mm256_set1_pd(static_cast<double>(numbers[channel]));
}
template <bool ByLane>
BYTENORM_INLINE __m256d of_channels(const double* numbers, int64_t channel, int lane) {
    return ByLane ? _mm256_loadu_pd(numbers + channel + lane) : _mm256_set1_pd(numbers[channel]);
}

template <bool Signed, bool ByLane>
BYTENORM_INLINE void vector(const ExactSums& s, int64_t at, int64_t channel) {
    __m256d total[4];
    for (int q = 0; q < 4; ++q) total[q] = of_channels<ByLane>(s.intercept, channel, 4 * q);
    for (int64_t k = s.summands - 1; k >= 0; --k) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(s.x[k] + at));
        const __m128i quarters[] = {bytes, _mm_srli_si128(bytes, 4), _mm_srli_si128(bytes, 8),
                                    _mm_srli_si128(bytes, 12)};
        const __m128i zero_point = _mm_set1_epi32(s.zero_points[k]);
        for (int q = 0; q < 4; ++q) {
            const __m128i code = Signed ? _mm_cvtepi8_epi32(quarters[q]) : _mm_cvtepu8_epi32(quarters[q]);
            const __m256d centred = _mm256_cvtepi32_pd(_mm_sub_epi32(code, zero_point));
            total[q] = _mm256_fmadd_pd(of_channels<ByLane>(s.slopes[k], channel, 4 * q), centred, total[q]);
        }
    }
    const __m256d bound = _mm256_set1_pd(1024.0);  // no code lies as far from a zero point
    __m128i y[4];
    for (int q = 0; q < 4; ++q) {
        total[q] = _mm256_max_pd(total[q], of_channels<ByLane>(s.lowest, channel, 4 * q));
        total[q] = _mm256_min_pd(total[q], of_channels<ByLane>(s.highest, channel, 4 * q));
        total[q] = _mm256_min_pd(_mm256_max_pd(total[q], _mm256_sub_pd(_mm256_setzero_pd(), bound)), bound);
        y[q] = _mm256_cvtpd_epi32(total[q]);
    }
    const __m128i zero_point = _mm_set1_epi16(static_cast<int16_t>(s.conversion.output_zero_point));
    const __m128i low = _mm_add_epi16(_mm_packs_epi32(y[0], y[1]), zero_point);
    const __m128i high = _mm_add_epi16(_mm_packs_epi32(y[2], y[3]), zero_point);
    const __m128i floor = _mm_set1_epi8(static_cast<char>(s.conversion.output_zero_point));
    __m128i codes = s.conversion.output_signed ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
    if (s.conversion.relu)
        codes = s.conversion.output_signed ? _mm_max_epi8(codes, floor) : _mm_max_epu8(codes, floor);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(s.y + at), codes);
}

template <bool Signed, bool ByLane>
void walk(const ExactSums& s) {
    if (s.length < width) return ExactSums_fp64_scalar(s);
    for (int64_t run = 0; run < s.count; ++run) {
        const int64_t at = s.from + run * s.length, c = s.channel + run * s.channel_stride;
        int64_t i = 0;
        for (; i + width <= s.length; i += width) vector<Signed, ByLane>(s, at + i, ByLane ? c + i : c);
        i = s.length - width;  // the last vector overlaps the one before
        if (s.length % width) vector<Signed, ByLane>(s, at + i, ByLane ? c + i : c);
    }
}

}  // namespace

void ExactSums_fp64_avx2(const ExactSums& s) {
    if (s.conversion.input_signed)
        s.channel_step ? walk<true, true>(s) : walk<true, false>(s);
    else
        s.channel_step ? walk<false, true>(s) : walk<false, false>(s);
}

}  // namespace bytenorm
