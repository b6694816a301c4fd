// One stretch of a pass: the kernels that a plan names, over planes, rows or anything else at even distances.
#pragma once

#include "plan.hpp"

namespace bytenorm {

// From so many bytes on memory wants few streams in order.
constexpr int64_t tiles_below = int64_t{8} << 20;

// Outputs beyond any cache are stored past it; below, whoever reads the result next finds it there.
int64_t stream_from();
int64_t set_stream_from(int64_t bytes);  // for tests, whose arrays are small; returns what was before

// `p` says where the planes are; `channel` is that of the first one.
void planes_segment(const Plan& plan, const Folded& folded, const Planes& p, int64_t channel);

// `count` runs as `loop` and `inner` say, through the table of `channel` and those after it.
void strided_segment(const Folded& folded, const uint8_t* x, uint8_t* y, int64_t count, const Loop& loop,
                     const Loop& inner, int64_t channel);

// Rows of one folded norm. Where several arithmetics are needed, they take turns pixel by pixel.
struct RowWalk {
    const Folded& folded;
    const PackedRows& packed;
    int64_t size;  // of the whole pass: what is larger than the caches is walked in another order
    bool stream;
    bool images = false;  // a row is an image: far apart, and read as if each were alone

    // `lanes` of each pixel, beginning with that of `first_lane`: a multiple of the kernel's width.
    void operator()(const uint8_t* x, uint8_t* y, int64_t pixels, int64_t first_lane, int64_t lanes,
                    int64_t x_stride, int64_t y_stride) const;
};

}  // namespace bytenorm
