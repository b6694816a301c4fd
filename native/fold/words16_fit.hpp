// Finds 16-bit words that reproduce a channel exactly, and proves it on all 256 inputs.
//
// Below each input byte lies one that the channel chooses, `fine`:
//
//     word = 256 * x + fine                               x: the input, counted from the middle of its type
//     code = saturate(((word * multiplier + 2^14) >> 15) + addend) >> shift, then clamped
//
// `addend` is whole, so that both shifts are one: code = floor(x * multiplier / 2^(shift + 7) + constant), where
// constant = (fine * multiplier + 2^14 + 2^15 * addend) / 2^(shift + 15). In steps of the addend alone most
// channels have no constant; the fine byte makes them up to 256 times as fine.
#pragma once

#include <cstdint>

#include "kernels/structs.hpp"

namespace bytenorm {

struct Words16Fit {
    int16_t multiplier, addend;
    uint8_t shift, fine;  // the shift is 2 to 9
    bool proved;
};

// `wanted[u]` is the exact output byte for the u-th smallest input.
Words16Fit fit_words16(float slope, float intercept, float zero_point, const Conversion& conversion,
                       const uint8_t wanted[256]);

}  // namespace bytenorm
