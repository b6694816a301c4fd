// Quantize and dequantize in plain C++: for the scalar set, for what is shorter than a vector, and for double.
#pragma once

#include "kernels/structs.hpp"

namespace bytenorm {
namespace {

template <Rounding Rule, class Real>
inline Real quantized(Real x, Real factor, Real zero_point, Real lowest, Real highest) {
    Real q;
    if constexpr (Rule == Rounding::fused)
        q = __builtin_rintf(__builtin_fmaf(x, factor, zero_point));
    else if constexpr (Rule == Rounding::product)
        q = __builtin_rintf(x * factor + zero_point);
    else if constexpr (Rule == Rounding::after)
        q = __builtin_rintf(x * factor) + zero_point;
    else if constexpr (Rule == Rounding::divided)
        q = __builtin_rintf(x / factor) + zero_point;
    else
        q = __builtin_rint(x * factor) + zero_point;
    // Written so that a NaN becomes `lowest`, which converts to an integer; the caller refuses it anyway.
    const Real low = q > lowest ? q : lowest;
    return low < highest ? low : highest;
}

template <Rounding Rule, bool Step, class Real>
void quantize_loop(const Quantize& r, const Real* factor) {
    const Real lowest = r.output_signed ? -128 : 0, highest = r.output_signed ? 127 : 255;
    const Real first_factor = factor[0], first_zero_point = r.zero_point[0];
    // Local and restricted: a store of bytes may otherwise change anything, which stops the vectorizer.
    const float* __restrict x = r.x, * __restrict zero_points = r.zero_point;
    const Real* __restrict factors = factor;
    uint8_t* __restrict y = r.y;
    const int64_t n = r.n;
    int32_t nan = 0;
    for (int64_t i = 0; i < n; ++i) {
        nan |= x[i] != x[i] ? 1 : 0;
        const Real q = quantized<Rule, Real>(x[i], Step ? factors[i] : first_factor,
                                             Step ? zero_points[i] : first_zero_point, lowest, highest);
        y[i] = static_cast<uint8_t>(static_cast<int32_t>(q));
    }
    *r.nan = *r.nan || nan;
}

template <Rounding Rule>
void quantize_by(const Quantize& r) {
    return r.step ? quantize_loop<Rule, true>(r, r.factor) : quantize_loop<Rule, false>(r, r.factor);
}

template <class Scale, bool Signed, bool Step>
void dequantize_loop(const Dequantize& r) {
    const Scale scale = static_cast<Scale>(r.scale[0]);
    const float zero_point = r.zero_point[0];
    const uint8_t* __restrict x = r.x;
    const double* __restrict scales = r.scale;
    const float* __restrict zero_points = r.zero_point;
    float* __restrict y = r.y;
    const int64_t n = r.n;
    for (int64_t i = 0; i < n; ++i) {
        const int32_t code = Signed ? static_cast<int32_t>(static_cast<int8_t>(x[i])) : static_cast<int32_t>(x[i]);
        const Scale centred = static_cast<float>(code) - (Step ? zero_points[i] : zero_point);
        y[i] = static_cast<float>(centred * (Step ? static_cast<Scale>(scales[i]) : scale));
    }
}

[[maybe_unused]] void run_quantize(const Quantize& r) {
    switch (r.rounding) {
        case Rounding::fused:
            return quantize_by<Rounding::fused>(r);
        case Rounding::product:
            return quantize_by<Rounding::product>(r);
        case Rounding::after:
            return quantize_by<Rounding::after>(r);
        case Rounding::divided:
            return quantize_by<Rounding::divided>(r);
        case Rounding::wide:
            break;
    }
    return r.step ? quantize_loop<Rounding::wide, true>(r, r.wide_factor)
                  : quantize_loop<Rounding::wide, false>(r, r.wide_factor);
}

[[maybe_unused]] void run_dequantize(const Dequantize& r) {
    if (!r.per_channel)
        return r.input_signed ? dequantize_loop<float, true, false>(r) : dequantize_loop<float, false, false>(r);
    if (r.input_signed)
        return r.step ? dequantize_loop<double, true, true>(r) : dequantize_loop<double, true, false>(r);
    return r.step ? dequantize_loop<double, false, true>(r) : dequantize_loop<double, false, false>(r);
}

}  // namespace
}  // namespace bytenorm
