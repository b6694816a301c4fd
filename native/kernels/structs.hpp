// What a kernel is: a pure function of one const struct. It allocates nothing, throws nothing, reads and
// writes only the bytes the struct describes, accepts sizes of 0 and, unless the struct says otherwise, y == x.
//
// A channel maps each of 256 input bytes to one output byte. Kernels differ in how they compute that map
// (a table, float32, integers) and in the layout they walk (planes, rows, any strides).
#pragma once

#include <cstdint>

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

// One entry a channel, in channel order: y = fma(slope, x - zero_point, intercept).
struct FloatParams {
    const float* slope;
    const float* intercept;
    const float* zero_point;
};

// One entry a channel, in channel order: y = (addend + multiplier * u) >> shift, where u is the input byte
// counted from the smallest value of its type. The multiplier fits an int16, the shift is 16 at most.
struct IntegerParams {
    const int32_t* multiplier;
    const int32_t* addend;
    const int32_t* shift;
};

// One entry a channel, in channel order: words16_fit.hpp.
struct WordParams {
    const int16_t* multiplier;
    const int16_t* addend;
    const uint8_t* shift;
    const uint8_t* fine;
};

// The parameters of channels, from some channel on; null what the kernel's arithmetic has no use for.
struct ChannelParams {
    const uint8_t* table;  // 256 bytes a channel
    FloatParams real;
    IntegerParams integer;
    WordParams words;
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
    // For kernels that compute slope_a * a + (slope_b * b + offset) in float32: where the result is less than
    // `limit` from a whole number, double rounds to the same. Entries for a whole vector may be read beyond the
    // last channel.
    const float *offset, *limit;
    int32_t zero_point_a, zero_point_b;
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

// The parameters of W neighbouring lanes as a row kernel loads them: four vectors of dwords for each of
// slope, intercept, zero_point (floats) or multiplier, addend, shift. Which dword a lane has depends on how the
// arithmetic spreads bytes to dwords, so that packing undoes it without any further step.
template <int W>
struct alignas(64) ParamBlock {
    int32_t first[W], second[W], third[W];
};

// The same in words: two vectors for each of three numbers, and one of bytes.
template <int W>
struct alignas(W) WordBlock {
    int16_t multiplier[W], addend[W], count[W];
    uint8_t fine[W];
};

// Where the parameters of a lane lie in a block of `width`. Each file of a set has these functions to itself: of
// ones that files share the linker keeps one, which may be that of another set.
namespace {

// fp32, and the sums of statistics: the bytes of a 128-bit lane go four by four.
constexpr int real_slot(int width, int lane) {
    return lane % 16 / 4 * (width / 4) + lane / 16 * 4 + lane % 4;
}

// Integers: the bytes of a 128-bit lane go even, odd, even, odd: the even and the odd ones of its first half,
// then of its second. A pair of bytes shares a dword: the odd one lies in its upper half.
constexpr int integer_slot(int width, int lane) {
    return (lane % 16 / 8 * 2 + lane % 2) * (width / 4) + lane / 16 * 4 + lane % 8 / 2;
}
constexpr int32_t integer_factor(int lane, int32_t multiplier) {  // in the half of the dword that holds the byte
    return lane % 2 ? static_cast<int32_t>(static_cast<uint32_t>(multiplier) << 16) : multiplier & 0xffff;
}
constexpr int32_t integer_count(int lane, int32_t shift) {  // right for even, left for odd bytes
    return lane % 2 ? 16 - shift : shift;
}

// Words: the lower and the upper half of each 128-bit lane.
constexpr int word_slot(int width, int lane) {
    return lane % 16 / 8 * (width / 2) + lane / 16 * 8 + lane % 8;
}
// AVX2 has no shift of words by counts of their own: the upper half of a product is one.
constexpr int16_t word_count(int width, int shift) {
    return static_cast<int16_t>(width == 32 ? 1 << (16 - shift) : shift);
}

}  // namespace
}  // namespace bytenorm
