// How a kernel computes, and what parameters it is given for that: of channels, and of a block of lanes. All ways
// give the same bits.
//
// Where a new arithmetic goes, docs/kernels-adding.md has the recipe: here its enumerator, what is behind it and
// its parameters; a class in kernels/arithmetic/, of which kernels/vector.cpp knows; lines in kernels/list.hpp;
// fold/fitted.cpp finds its parameters and writes its blocks; passes/plan.cpp says when that is worth it.
// Everything else asks for a kernel by layout and arithmetic, and for the arithmetic of a channel or a block.
#pragma once

#include <cstdint>

namespace bytenorm {

enum class Arithmetic {
    table,      // 256 results a channel, looked up
    fp32,       // the contract to the letter
    fp64,       // of exact sums
    integer32,  // a multiplication, an addition and a shift in 32 bits, proved
    words16,    // the same in 16 bits, proved
    bytes,      // of averages
};
constexpr int arithmetics = 6;

// What computes a channel for which `arithmetic` is not proved.
constexpr Arithmetic behind(Arithmetic arithmetic) {
    return arithmetic == Arithmetic::words16 ? Arithmetic::integer32 : Arithmetic::fp32;
}

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

// The norm of an exact sum, for W neighbouring channels: (addend + (256 * high + low) . [u, v]) >> shift, u and v
// being codes counted from the middle of their type. `high` and `low` hold those of both, in the halves of a dword
// that u and v are in. Where the result has none of the mask's bits, it is too near a tie.
template <int W>
struct alignas(64) ExactBlock {
    int32_t high[W], low[W], addend[W];  // a dword for each lane, in the order of real_slot
    int32_t shift, mask;
};

// Where the parameters of a lane lie in a block of `width`. Each file of a set has these functions to itself: of
// ones that files share the linker keeps one, which may be that of another set.
namespace {

// fp32, exact sums, and the sums of statistics: the bytes of a 128-bit lane go four by four.
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
// AVX2 has no shift of words by counts of their own: the upper half of a product is one. That of NEON goes to the
// left.
constexpr int16_t word_count(int width, int shift) {
    return static_cast<int16_t>(width == 32 ? 1 << (16 - shift) : width == 16 ? -shift : shift);
}

}  // namespace
}  // namespace bytenorm
