// From shape and strides to loops: which bytes lie next to each other, and what is walked around them.
#pragma once

#include <cstdint>

namespace bytenorm {

constexpr int max_dims = 64;  // NumPy's own limit

// One loop: n steps of x_stride and y_stride bytes; channel_step is 1 on the channel axis, else 0.
struct Loop {
    int64_t n, x_stride, y_stride, channel_step;
};

struct Layout {
    enum Kind {
        planes,   // `inner` is contiguous in x and y and belongs to one channel
        rows,     // `inner` is contiguous in x and y and is the channel axis
        strided,  // anything else
    } kind;
    const uint8_t* x;
    uint8_t* y;
    Loop inner;
    Loop outer[max_dims];  // outermost first; never empty: the last one is the kernel's `count` or `pixels`
    int outers;
    int64_t size;  // elements in all

    int64_t outer_size() const {  // items of all outer loops taken as one sequence
        int64_t n = 1;
        for (int d = 0; d < outers; ++d) n *= outer[d].n;
        return n;
    }
};

// Whether a row of so many lanes leaves at most 15 % of its vectors empty. Else pixels that touch are better
// walked side by side, as one row.
constexpr bool fills_vectors(int64_t lanes, int64_t width) {
    return 20 * lanes >= 17 * ((lanes + width - 1) / width * width);
}

// Drops axes of length 1, walks axes reversed in both arrays forwards, orders them by y's strides, and, if
// `join`, joins neighbours that one loop covers.
Layout analyse(const uint8_t* x, const int64_t* x_strides, uint8_t* y, const int64_t* y_strides,
               const int64_t* shape, int ndim, int axis, bool join = true);

// Calls body(x, y, channel, count) for runs of the last outer loop that together are items [begin, end) of
// all outer loops taken as one sequence.
template <class F>
void for_each_run(const Layout& layout, int64_t begin, int64_t end, F&& body) {
    const Loop& last = layout.outer[layout.outers - 1];
    int64_t done = begin;
    while (done < end) {
        const int64_t start = done % last.n;
        int64_t rest = done / last.n;
        const uint8_t* x = layout.x + start * last.x_stride;
        uint8_t* y = layout.y + start * last.y_stride;
        int64_t channel = start * last.channel_step;
        for (int d = layout.outers - 2; d >= 0; --d) {
            const Loop& loop = layout.outer[d];
            const int64_t i = rest % loop.n;
            rest /= loop.n;
            x += i * loop.x_stride, y += i * loop.y_stride, channel += i * loop.channel_step;
        }
        const int64_t count = last.n - start < end - done ? last.n - start : end - done;
        body(x, y, channel, count);
        done += count;
    }
}

}  // namespace bytenorm
