// What a kernel is: a pure function of one const struct. It allocates nothing, throws nothing, reads and
// writes only the bytes the struct describes, accepts sizes of 0 and, unless the struct says otherwise, y == x.
//
// A channel maps each of 256 input bytes to one output byte. Kernels differ in how they compute that map
// (arithmetic.hpp) and in the layout they walk, which these structs say.
#pragma once

#include <cstdint>

#include "arithmetic.hpp"

// For the few functions inside a kernel's loop: a call there passes vectors through memory.
#define BYTENORM_INLINE __attribute__((always_inline)) inline

namespace bytenorm {

// The bytes that stand for numbers: uint8, or int8 in two's complement.
struct Conversion {
    bool input_signed;
    bool output_signed;
    bool relu;
    int32_t output_zero_point;
};

// Channels first: `count` planes of `length` contiguous bytes, each of one channel, in each of `images` images.
struct Planes {
    const uint8_t* x;
    uint8_t* y;
    int64_t count, length;
    int64_t x_stride, y_stride;        // bytes from one plane to the next
    int64_t channel_step;              // 1: the next plane is of the next channel, 0: of the same
    int64_t images, x_image, y_image;  // how many planes share a channel's parameters, bytes between these
    ChannelParams params;              // from the first plane's channel
    Conversion conversion;
    bool stream;  // store past the cache: for outputs larger than any cache
};

// Channels last: `pixels` rows of `lanes` contiguous bytes. Lane i has the parameters of entry i of `blocks`,
// blocks as the kernel's arithmetic has them, each of the kernel's width.
struct Rows {
    const uint8_t* x;
    uint8_t* y;
    int64_t pixels, lanes;
    int64_t x_stride, y_stride;  // bytes from one pixel to the next
    const void* blocks;
    int64_t tile;  // pixels walked with one block's parameters in registers; 0: pixel by pixel, all blocks
    int abreast;   // 4 or 8: so many pixels at once, block by block, in kernels of few registers; 0: by `tile`
    Conversion conversion;
    bool stream;
};

// Channels last, from several arrays: the `lanes` of a pixel are those of its parts, one after another.
struct JoinedPart {
    int64_t first_lane, lanes;
    const uint8_t* x;
    int64_t x_stride;
};
struct Joined {
    const JoinedPart* parts;  // a vector of lanes may lie in no more parts than `most_parts` of the kernel's set
    uint8_t* y;
    int64_t pixels, lanes, y_stride;
    const void* blocks;  // as for Rows, from the first lane
    Conversion conversion;
};

// code = whole + ((((fraction + low . [u, v]) >> 15) + high . [u, v]) >> high_shift), saturated, where u and v are
// the codes counted from the smallest. With `ties`, one less where neither shift drops a bit that is set and the
// result of the second is odd or, `odd` being 1, even. sum_fit.hpp finds these.
struct SumInteger {
    int16_t high_a, high_b, low_a, low_b, whole;
    int32_t fraction;
    int high_shift;
    bool ties;
    int32_t odd;
};

// `n` sums of two codes in a third quantization. Kernels other than the table's take steps of 1.
struct Sum {
    const uint8_t *a, *b;
    uint8_t* y;
    int64_t n, a_step, b_step, y_step;
    const uint8_t* table;  // 256 bytes for each byte of a
    SumInteger integer;
    bool is_signed;
};

// The norm of a sum that is not rounded: `count` runs of `length` elements, in double, where both products are
// exact. Kernels other than the scalar one take steps of 1. y = slope_a * (a - zero_point_a) + (slope_b * (b -
// zero_point_b) + intercept).
struct ExactSum {
    const uint8_t *a, *b;
    uint8_t* y;
    int64_t count, a_stride, b_stride, y_stride, channel_stride;  // from one run to the next
    int64_t length, a_step, b_step, y_step, channel_step;         // inside a run; the channel steps are 0 or 1
    const float *slope_a, *slope_b, *intercept;                   // one entry a channel, from the first run's on
    int32_t zero_point_a, zero_point_b;
    // For kernels in integers: ExactBlocks of the kernel's width, of all channels, and the first run's channel.
    // Where channels are side by side that is the first of a block.
    const void* blocks;
    int64_t channel;
    Conversion conversion;
};

// The norm of a sum of any number of tensors that is not rounded, in double, where each product is exact: to the
// intercept the summands are added from the last to the first, each slope * (x - zero_point), and the total is cut
// off between two limits. `count` runs of `length` elements, one behind the other from element `from` of each
// array on. y lies apart.
struct ExactSums {
    const uint8_t* const* x;  // of each summand
    uint8_t* y;
    int64_t summands, from, count, length;
    int64_t channel, channel_stride, channel_step;  // the first run's; to the next run, inside a run: 0 or 1
    const float* const* slopes;                     // of each summand, one entry a channel
    const float* intercept;
    const double *lowest, *highest;  // one entry a channel
    const int32_t* zero_points;      // of each summand
    Conversion conversion;
};

// Channels last: `pixels` averages of 2x2 codes, half to even, each of two neighbours in two rows. `y` lies apart.
struct Average {
    const uint8_t *top, *bottom;  // 2 * pixels * channels bytes each
    uint8_t* y;
    int64_t pixels, channels;
    bool is_signed;
};

// Any strides: `count` runs of `length` bytes, x and y advancing by their own steps.
struct Strided {
    const uint8_t* x;
    uint8_t* y;
    int64_t count, x_stride, y_stride, channel_stride;  // from one run to the next
    int64_t length, x_step, y_step, channel_step;       // inside a run; the channel steps are 0 or 1
    const uint8_t* table;                               // 256 bytes a channel
};

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

// Between float32 and bytes: a run of contiguous elements. The parameters advance by `step` an element: 0 in a
// plane, 1 along channels.
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
