// Finds integers that reproduce a channel exactly, and proves it on all 256 inputs.
#pragma once

#include <cstdint>

#include "kernels/structs.hpp"

namespace bytenorm {

struct IntegerFit {
    int32_t multiplier, addend, shift;
    bool proved;
};

// `wanted[u]` is the exact output byte for the u-th smallest input.
IntegerFit fit_integer(float slope, float intercept, float zero_point, const Conversion& conversion,
                       const uint8_t wanted[256]);

}  // namespace bytenorm
