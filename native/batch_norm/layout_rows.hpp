// Channels last: neighbouring bytes belong to different channels, so the parameters are vectors too.
#pragma once

#include "../kernels.hpp"

namespace bytenorm {
namespace {

// Far enough ahead for the next cache level, near enough to stay in the first.
constexpr int64_t prefetch_distance = 1024;

template <class Arithmetic>
void walk_rows(const Rows& r) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const Arithmetic arithmetic(r.conversion);
    const auto* blocks = static_cast<const ParamBlock<W>*>(r.blocks);
    const int64_t full = r.lanes / W, rest = r.lanes % W;

    if (r.tile == 0) {  // pixel by pixel: data streams in memory order, parameters come from the first cache
        for (int64_t p = 0; p < r.pixels; ++p) {
            const uint8_t* x = r.x + p * r.x_stride;
            uint8_t* y = r.y + p * r.y_stride;
            for (int64_t b = 0; b < full; ++b, x += W, y += W) {
                _mm_prefetch(reinterpret_cast<const char*>(x) + prefetch_distance, _MM_HINT_T0);
                const auto result = arithmetic(V::load(x), Arithmetic::load(blocks[b]));
                if (r.stream)
                    V::stream(y, result);
                else
                    V::store(y, result);
            }
            if (rest)
                V::store_partial(y, arithmetic(V::load_partial(x, rest), Arithmetic::load(blocks[full])), rest);
        }
        if (r.stream) _mm_sfence();
        return;
    }
    const int64_t ahead = r.tile * r.x_stride;                    // the same place in the next tile
    for (int64_t start = 0; start < r.pixels; start += r.tile) {  // a tile's parameters stay in registers
        const int64_t end = start + r.tile < r.pixels ? start + r.tile : r.pixels;
        for (int64_t b = 0; b < full; ++b) {
            const auto params = Arithmetic::load(blocks[b]);
            const uint8_t* x = r.x + start * r.x_stride + b * W;
            uint8_t* y = r.y + start * r.y_stride + b * W;
            for (int64_t p = start; p < end; ++p, x += r.x_stride, y += r.y_stride) {
                _mm_prefetch(reinterpret_cast<const char*>(x) + ahead, _MM_HINT_T0);
                const auto result = arithmetic(V::load(x), params);
                if (r.stream)
                    V::stream(y, result);
                else
                    V::store(y, result);
            }
        }
        if (rest) {
            const auto params = Arithmetic::load(blocks[full]);
            const uint8_t* x = r.x + start * r.x_stride + full * W;
            uint8_t* y = r.y + start * r.y_stride + full * W;
            for (int64_t p = start; p < end; ++p, x += r.x_stride, y += r.y_stride)
                V::store_partial(y, arithmetic(V::load_partial(x, rest), params), rest);
        }
    }
    if (r.stream) _mm_sfence();
}

}  // namespace
}  // namespace bytenorm
