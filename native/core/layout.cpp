#include "layout.hpp"

#include <utility>

namespace bytenorm {
namespace {

int64_t magnitude(int64_t stride) {
    return stride < 0 ? -stride : stride;
}

// Whether `outer` just repeats `inner` further along, in both arrays.
bool joins(const Loop& outer, const Loop& inner) {
    return outer.channel_step == 0 && inner.channel_step == 0 && outer.x_stride == inner.n * inner.x_stride &&
           outer.y_stride == inner.n * inner.y_stride;
}

}  // namespace

Layout analyse(const uint8_t* x, const int64_t* x_strides, uint8_t* y, const int64_t* y_strides,
               const int64_t* shape, int ndim, int axis, bool join) {
    Layout layout;
    for (int d = 0; d < ndim; ++d) {
        if (shape[d] > 0) continue;
        // No elements: strides, and products of lengths, may be anything.
        layout.kind = Layout::planes, layout.x = x, layout.y = y, layout.size = 0;
        layout.inner = {0, 1, 1, 0}, layout.outer[0] = {1, 0, 0, 0}, layout.outers = 1;
        return layout;
    }
    layout.size = 1;
    Loop* loops = layout.outer;
    int count = 0;
    for (int d = 0; d < ndim; ++d) {
        Loop loop{shape[d], x_strides[d], y_strides[d], d == axis ? 1 : 0};
        layout.size *= loop.n;
        if (loop.n == 1) continue;
        // The channel axis keeps its direction: its parameters are read upwards.
        if (d != axis && loop.x_stride < 0 && loop.y_stride < 0) {
            x += (loop.n - 1) * loop.x_stride, y += (loop.n - 1) * loop.y_stride;
            loop.x_stride = -loop.x_stride, loop.y_stride = -loop.y_stride;
        }
        int at = count++;  // insertion sort, longest stride of y first: at most 64 axes, nearly always sorted
        for (; at > 0 && magnitude(loops[at - 1].y_stride) < magnitude(loop.y_stride); --at)
            loops[at] = loops[at - 1];
        loops[at] = loop;
    }
    int kept = 0;
    for (int d = 0; d < count; ++d) {
        if (join && kept > 0 && joins(loops[kept - 1], loops[d]))
            loops[kept - 1] = {loops[kept - 1].n * loops[d].n, loops[d].x_stride, loops[d].y_stride, 0};
        else
            loops[kept++] = loops[d];
    }
    layout.inner = kept > 0 ? loops[--kept] : Loop{1, 1, 1, 0};
    if (kept == 0) loops[kept++] = {1, 0, 0, 0};
    layout.outers = kept;
    layout.x = x, layout.y = y;
    const bool contiguous = layout.inner.x_stride == 1 && layout.inner.y_stride == 1;
    layout.kind = !contiguous ? Layout::strided : layout.inner.channel_step == 1 ? Layout::rows : Layout::planes;
    return layout;
}

}  // namespace bytenorm
