// Between float32 and bytes: quantize and dequantize, per tensor or per channel.
#pragma once

#include <cstdint>

namespace bytenorm {

// What becomes of a number before it is clamped to a code. The first two are torch 2.13's, the zero point added
// before the rounding; the next is torch's from 2.14 on. Where they differ: x 0.3, scale 0.12, zero point 2 (2.5
// steps) makes 5, 4 and 4; x 0.18 (1.5 steps) with zero point 1 makes 2 before and 3 behind the rounding.
enum class Rounding {
    fused,    // rint(fma(x, factor, zero_point))
    product,  // rint(x * factor + zero_point)
    after,    // rint(x * factor) + zero_point
    divided,  // rint(x / factor) + zero_point
    wide,     // rint(x * wide_factor) + zero_point in double
};

// A run of contiguous elements. The parameters advance by `step` an element: 0 in a plane, 1 along channels.
struct Quantize {
    const float* x;
    uint8_t* y;
    int64_t n;
    const float* factor;        // 1 / scale; the scale itself where it divides; null where the rule is `wide`
    const double* wide_factor;  // else null
    const float* zero_point;
    int64_t step;
    bool output_signed;
    Rounding rounding;
    bool* nan;  // set where a number is NaN
};
struct Dequantize {
    const uint8_t* x;
    float* y;
    int64_t n;
    const double* scale;
    const float* zero_point;
    int64_t step;
    bool input_signed;
    bool per_channel;  // torch multiplies by the scale in double, per tensor in float32
};

}  // namespace bytenorm
