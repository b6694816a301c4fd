// Channels last: neighbouring bytes belong to different channels, so the parameters are vectors too.
#pragma once

#include "kernels/structs.hpp"
#include "partial.hpp"
#include "simd/put.hpp"

namespace bytenorm {
namespace {

// How far ahead of its loads a loop asks for bytes: for the next cache level, and not out of the first.
constexpr int64_t prefetch_distance = 1024;

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
// the next tile needs. The strides are copies: a store of bytes may change any memory.
template <bool Stream, class Arithmetic>
void walk_tiles(const Arithmetic& arithmetic, const Rows& r) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const auto* blocks = static_cast<const typename Arithmetic::Block*>(r.blocks);
    const int64_t full = r.lanes / W, rest = r.lanes % W, tile = r.tile, x_step = r.x_stride, y_step = r.y_stride;
    const int64_t ahead = tile * x_step;
    for (int64_t start = 0; start < r.pixels; start += tile) {
        const int64_t end = start + tile < r.pixels ? start + tile : r.pixels;
        const uint8_t* x_tile = r.x + start * x_step;
        uint8_t* y_tile = r.y + start * y_step;
        for (int64_t b = 0; b < full; ++b, x_tile += W, y_tile += W) {
            const auto params = Arithmetic::load(blocks[b]);
            const uint8_t* x = x_tile;
            uint8_t* y = y_tile;
            int64_t p = start;
            for (; p + 2 <= end; p += 2, x += 2 * x_step, y += 2 * y_step) {
                V::prefetch(x + ahead);
                V::prefetch(x + ahead + x_step);
                typename V::Bytes v[2] = {V::load(x), V::load(x + x_step)};
                arithmetic.apply(v, params);
                put<Stream, V>(y, v[0]);
                put<Stream, V>(y + y_step, v[1]);
            }
            if (p < end) {  // loads its parameters itself: what lives on behind a loop is spilled before it
                typename V::Bytes v[1] = {V::load(x)};
                arithmetic.apply(v, Arithmetic::load(blocks[b]));
                put<Stream, V>(y, v[0]);
            }
        }
        if (rest)
            walk_partials(arithmetic, Arithmetic::load(blocks[full]), x_tile, x_step, y_tile, y_step, end - start,
                          rest);
    }
}

// N pixels abreast from pixel `p` on, block by block, four at a time; returns the first that is left.
template <int N, class Arithmetic>
int64_t walk_abreast(const Arithmetic& arithmetic, const Rows& r, int64_t p) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width, together = 4;
    const auto* blocks = static_cast<const typename Arithmetic::Block*>(r.blocks);
    const int64_t full = r.lanes / W, rest = r.lanes % W, x_step = r.x_stride, y_step = r.y_stride;
    for (; p + N <= r.pixels; p += N) {
        const uint8_t* x = r.x + p * x_step;
        uint8_t* y = r.y + p * y_step;
        for (int64_t b = 0; b < full; ++b, x += W, y += W) {
            const auto params = Arithmetic::load(blocks[b]);
            for (int k = 0; k < N; k += together) {
                typename V::Bytes v[together];
                for (int i = 0; i < together; ++i) v[i] = V::load(x + (k + i) * x_step);
                arithmetic.apply(v, params);
                for (int i = 0; i < together; ++i) V::store(y + (k + i) * y_step, v[i]);
            }
        }
        if (rest) walk_partials(arithmetic, Arithmetic::load(blocks[full]), x, x_step, y, y_step, N, rest);
    }
    return p;
}

template <class Arithmetic>
void walk_rows(const Rows& r) {
    const Arithmetic arithmetic(r.conversion);
    if constexpr (Arithmetic::abreast) {
        if (r.abreast > 0 && !r.stream) {
            int64_t p = r.abreast == 8 ? walk_abreast<8>(arithmetic, r, 0) : 0;
            p = walk_abreast<4>(arithmetic, r, p);
            Rows last = r;
            last.x += p * r.x_stride, last.y += p * r.y_stride, last.pixels -= p;
            return walk_pixels<false>(arithmetic, last);
        }
    }
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
