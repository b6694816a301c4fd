// A channel in float32, the contract to the letter: q = rint(fma(slope, x - zero_point, intercept)) + output
// zero point, saturated. 256-bit only, also on AVX-512 machines: dense 512-bit float lowers the clock of
// some.
#pragma once

#include "kernels/structs.hpp"
#include "simd/avx2.hpp"

namespace bytenorm {
namespace {

template <bool InputSigned, bool OutputSigned, bool Relu>
class Fp32Arithmetic {
  public:
    using Vector = Avx2;
    struct Params {
        __m256 slope[4], intercept[4], bias[4];
    };

    explicit Fp32Arithmetic(const Conversion& c)
        : zero_point_(_mm256_set1_epi16(static_cast<int16_t>(c.output_zero_point))),
          lowest_(_mm256_set1_epi8(static_cast<char>(c.output_zero_point))) {}

    static Params load(const ParamBlock<32>& block) {
        Params p;
        for (int q = 0; q < 4; ++q) {
            p.slope[q] = _mm256_load_ps(reinterpret_cast<const float*>(block.first) + 8 * q);
            p.intercept[q] = _mm256_load_ps(reinterpret_cast<const float*>(block.second) + 8 * q);
            p.bias[q] = bias(_mm256_load_ps(reinterpret_cast<const float*>(block.third) + 8 * q));
        }
        return p;
    }
    static Params broadcast(const Planes& planes, int64_t channel) {
        const __m256 slope = _mm256_set1_ps(planes.real.slope[channel]);
        const __m256 intercept = _mm256_set1_ps(planes.real.intercept[channel]);
        const __m256 bias_all = bias(_mm256_set1_ps(planes.real.zero_point[channel]));
        return {{slope, slope, slope, slope},
                {intercept, intercept, intercept, intercept},
                {bias_all, bias_all, bias_all, bias_all}};
    }

    template <int N>
    BYTENORM_INLINE void apply(__m256i (&x)[N], const Params& p) const {
        for (int i = 0; i < N; ++i) x[i] = one(x[i], p);
    }

  private:
    BYTENORM_INLINE __m256i one(__m256i x, const Params& p) const {
        if (InputSigned) x = _mm256_xor_si256(x, _mm256_set1_epi8(static_cast<char>(0x80)));
        __m256i y[4];
        for (int q = 0; q < 4; ++q) {
            // A byte in the low bits of the float 2^23 is the float 2^23 + byte: no conversion needed, and
            // taking (2^23 + zero point) away is exact.
            const __m256i bits = _mm256_or_si256(spread(x, q), _mm256_castps_si256(_mm256_set1_ps(two_23)));
            const __m256 centred = _mm256_sub_ps(_mm256_castsi256_ps(bits), p.bias[q]);
            const __m256 real = _mm256_fmadd_ps(p.slope[q], centred, p.intercept[q]);
            // The conversion gives INT_MIN for 2^31 and more (witness: slope 3e9, x 1), which would saturate
            // on the wrong side; below -2^31 INT_MIN is right as it is.
            y[q] = _mm256_cvtps_epi32(_mm256_min_ps(real, _mm256_set1_ps(1073741824.0f)));
        }
        const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(y[0], y[1]), zero_point_);
        const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(y[2], y[3]), zero_point_);
        __m256i result = OutputSigned ? _mm256_packs_epi16(low, high) : _mm256_packus_epi16(low, high);
        if (Relu) result = Avx2::max<OutputSigned>(result, lowest_);
        return result;
    }

    static constexpr float two_23 = 8388608.0f;
    static __m256 bias(__m256 zero_point) {
        return _mm256_add_ps(zero_point, _mm256_set1_ps(two_23 + (InputSigned ? 128.0f : 0.0f)));
    }

    // Bytes 4q to 4q+3 of each 128-bit lane as dwords.
    static __m256i spread(__m256i x, int q) {
        const __m256i first = _mm256_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3);  // 0x80 in a byte of an index gives zero
        const __m256i index = _mm256_add_epi32(first, _mm256_set1_epi32(static_cast<int>(0x80808000u) + 4 * q));
        return _mm256_shuffle_epi8(x, index);
    }

    __m256i zero_point_, lowest_;
};

}  // namespace
}  // namespace bytenorm
