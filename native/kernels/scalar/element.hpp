// One element in plain C++: the contract that every other kernel is held to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/structs.hpp"

namespace bytenorm {

inline uint8_t element(uint8_t byte, float slope, float intercept, float zero_point, const Conversion& c) {
    const float x = c.input_signed ? static_cast<int8_t>(byte) : byte;
    const float y = std::rint(std::fma(slope, x - zero_point, intercept));
    const float lowest = c.output_signed ? -128.0f : 0.0f, highest = c.output_signed ? 127.0f : 255.0f;
    const float zp = static_cast<float>(c.output_zero_point);
    // In float, before converting: an integer conversion of 2^31 and more is undefined. Adding the zero point
    // to a rounded y is exact below 2^23 and saturates beyond.
    const float q = std::min(std::max(y + zp, c.relu ? std::max(zp, lowest) : lowest), highest);
    return static_cast<uint8_t>(static_cast<int>(q));
}

// The same for a sum that is not rounded: `total` is the real result, in steps of the output.
inline uint8_t exact_element(double total, const Conversion& c) {
    const double lowest = c.output_signed ? -128.0 : 0.0, highest = c.output_signed ? 127.0 : 255.0;
    const double zp = static_cast<double>(c.output_zero_point);
    const double big = 6755399441055744.0;  // 1.5 * 2^52: what is added to it is rounded half to even
    const double bounded = std::min(std::max(total, -1024.0), 1024.0);
    const double y = (bounded + big) - big + zp;
    return static_cast<uint8_t>(static_cast<int>(std::min(std::max(y, c.relu ? zp : lowest), highest)));
}

}  // namespace bytenorm
