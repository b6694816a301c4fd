// Between float32 and bytes: quantize and dequantize, per tensor or per channel.
#pragma once

#include <cstdint>

#include "../layout.hpp"

namespace bytenorm {

// A run of contiguous elements. The parameters advance by `step` an element: 0 in a plane, 1 along channels.
struct QuantizeRun {
    const float* x;
    uint8_t* y;
    int64_t n;
    const float* inverse_scale;
    const float* zero_point;
    int64_t step;
    bool output_signed;
    bool per_channel;  // torch rounds the product before it adds the zero point, per tensor it does not
};
struct DequantizeRun {
    const uint8_t* x;
    float* y;
    int64_t n;
    const double* scale;
    const float* zero_point;
    int64_t step;
    bool input_signed;
    bool per_channel;  // torch multiplies by the scale in double, per tensor in float32
};

bool quantize_run_scalar(const QuantizeRun&);  // whether it met a NaN
void dequantize_run_scalar(const DequantizeRun&);
bool quantize_run_avx2(const QuantizeRun&);
void dequantize_run_avx2(const DequantizeRun&);

}  // namespace bytenorm
