// Exact statistics of codes, a channel each: integers, so that they depend on no order, thread or machine.
//
// All of it is about u, a code counted from the smallest of its type: 0 to 255. An uint8 byte is u; an int8 byte
// becomes u when its top bit is turned.
#pragma once

#include <cstdint>

#include "core/layout.hpp"

namespace bytenorm {

// One channel, added to what is there. A sum of squares is at most 65025 = 255^2 times the number of codes: int64
// holds that of 2^47 codes, more than any memory does.
struct Sums {
    int64_t sum, square;
    uint8_t low, high;  // 255 and 0 before the first code
};

// Runs of `length` contiguous bytes of one channel, `runs` of them `stride` bytes apart, and as many of each of
// the next channels, `channel_stride` bytes further.
struct PlaneSums {
    const uint8_t* x;
    int64_t channels, channel_stride;
    int64_t runs, stride, length;
    bool is_signed;
    Sums* totals;  // one a channel
};

// Sums of neighbouring lanes, each in its dword of a block of the kernel's width (`real_slot`; scalar: where its
// number says); low and high as the bytes lie in memory. Unsigned 32 bits hold the squares of 65536 codes of a
// lane, 65536 * 65025 < 2^32, so these are emptied after as many rows at the latest.
struct LaneSums {
    uint32_t *sum, *square;
    uint8_t *low, *high;
};
constexpr int64_t lane_rows = 65536;

// Rows of `lanes` contiguous bytes, added to the sums of lane 0 on.
struct RowSums {
    const uint8_t* x;
    int64_t rows, lanes, stride;
    bool is_signed;
    LaneSums total;
};

// Adds the codes of an array to the sums of its channels, or to their histograms: 256 counts of u each.
void add_sums(const Layout& layout, int64_t channels, bool is_signed, Sums* totals);
void add_histogram(const Layout& layout, int64_t channels, bool is_signed, int64_t* counts);

}  // namespace bytenorm
