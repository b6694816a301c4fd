// Integers for the norm of an exact sum, and how far they may be off.
//
// A multiplier has 24 bits: code = (addend + a * u + b * v) >> shift, u and v counted from the middle of their
// type, 32 bits in all. The error of both multipliers and of the addend, in units of the last bit, is added to the
// addend: a result is too large by 0 to twice as much. Only where its fraction is smaller than that may a tie lie
// between it and the truth; there it has none of the bits of `mask`.
#pragma once

#include "core/memory.hpp"
#include "kernels/structs.hpp"

namespace bytenorm {

// One entry a channel.
struct ExactParameters {
    const float *slope_a, *slope_b, *intercept;
    int32_t zero_point_a, zero_point_b;
};

// ExactBlocks of this width. Channels for which 32 bits are too few have no bits at all, so that all of their
// elements are left to double.
AlignedArray<uint8_t> fit_exact_blocks(int width, int64_t channels, const ExactParameters& of,
                                       const Conversion& conversion);

}  // namespace bytenorm
