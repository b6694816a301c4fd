// Channels last: neighbouring bytes belong to different channels, so the parameters are vectors too.
#pragma once

#include "kernels/structs.hpp"
#include "partial.hpp"
#include "prefetch.hpp"
#include "simd/put.hpp"

namespace bytenorm {
namespace {

// Pixel by pixel: data streams in memory order, parameters come from the first cache.
template <bool Stream, class Arithmetic>
void walk_pixels(const Arithmetic& arithmetic, const Rows& r) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const auto* blocks = static_cast<const typename Arithmetic::Block*>(r.blocks);
    const int64_t full = r.lanes / W, rest = r.lanes % W;
    for (int64_t p = 0; p < r.pixels; ++p) {
        const uint8_t* x = r.x + p * r.x_stride;
        uint8_t* y = r.y + p * r.y_stride;
        for (int64_t b = 0; b < full; ++b, x += W, y += W) {
            V::prefetch(x + prefetch_distance);
            typename V::Bytes v[1] = {V::load(x)};
            arithmetic.apply(v, Arithmetic::load(blocks[b]));
            put<Stream, V>(y, v[0]);
        }
        if (rest) walk_partial(arithmetic, Arithmetic::load(blocks[full]), x, y, rest);
    }
}

// Tile by tile: one block's parameters serve all pixels of a tile, two at a time, which asks for the bytes that
// the next tile needs.
template <bool Stream, class Arithmetic>
void walk_tiles(const Arithmetic& arithmetic, const Rows& r) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const auto* blocks = static_cast<const typename Arithmetic::Block*>(r.blocks);
    const int64_t full = r.lanes / W, rest = r.lanes % W, ahead = r.tile * r.x_stride;
    for (int64_t start = 0; start < r.pixels; start += r.tile) {
        const int64_t end = start + r.tile < r.pixels ? start + r.tile : r.pixels;
        const uint8_t* x_tile = r.x + start * r.x_stride;
        uint8_t* y_tile = r.y + start * r.y_stride;
        for (int64_t b = 0; b < full; ++b, x_tile += W, y_tile += W) {
            const auto params = Arithmetic::load(blocks[b]);
            const uint8_t* x = x_tile;
            uint8_t* y = y_tile;
            int64_t p = start;
            for (; p + 2 <= end; p += 2, x += 2 * r.x_stride, y += 2 * r.y_stride) {
                V::prefetch(x + ahead);
                V::prefetch(x + ahead + r.x_stride);
                typename V::Bytes v[2] = {V::load(x), V::load(x + r.x_stride)};
                arithmetic.apply(v, params);
                put<Stream, V>(y, v[0]);
                put<Stream, V>(y + r.y_stride, v[1]);
            }
            if (p < end) {  // loads its parameters itself: what lives on behind a loop is spilled before it
                typename V::Bytes v[1] = {V::load(x)};
                arithmetic.apply(v, Arithmetic::load(blocks[b]));
                put<Stream, V>(y, v[0]);
            }
        }
        if (rest)
            walk_partials(arithmetic, Arithmetic::load(blocks[full]), x_tile, r.x_stride, y_tile, r.y_stride,
                          end - start, rest);
    }
}

template <class Arithmetic>
void walk_rows(const Rows& r) {
    const Arithmetic arithmetic(r.conversion);
    if (r.tile > 0 && r.stream)
        walk_tiles<true>(arithmetic, r);
    else if (r.tile > 0)
        walk_tiles<false>(arithmetic, r);
    else if (r.stream)
        walk_pixels<true>(arithmetic, r);
    else
        walk_pixels<false>(arithmetic, r);
    if (r.stream) Arithmetic::Vector::fence();
}

}  // namespace
}  // namespace bytenorm
