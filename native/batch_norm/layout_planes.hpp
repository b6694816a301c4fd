// Channels first: the parameters of a plane fill the registers, then the plane streams through them.
#pragma once

#include "../kernels.hpp"

namespace bytenorm {
namespace {

template <bool Stream, class Arithmetic>
void walk_plane(const Arithmetic& arithmetic, const typename Arithmetic::Params& params, const uint8_t* x,
                uint8_t* y, int64_t length) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    int64_t j = 0;
    if (Stream) {  // past the cache, which takes whole aligned vectors
        const int64_t head = -reinterpret_cast<intptr_t>(y) & (W - 1);
        if (head <= length) {
            if (head > 0) V::store_partial(y, arithmetic(V::load_partial(x, head), params), head);
            for (j = head; j + W <= length; j += W) V::stream(y + j, arithmetic(V::load(x + j), params));
        }
    }
    for (; j + W <= length; j += W) V::store(y + j, arithmetic(V::load(x + j), params));
    if (j < length) {
        const int64_t rest = length - j;
        V::store_partial(y + j, arithmetic(V::load_partial(x + j, rest), params), rest);
    }
}

template <class Arithmetic>
void walk_planes(const Planes& p) {
    const Arithmetic arithmetic(p.conversion);
    for (int64_t i = 0; i < p.count; ++i) {
        const auto params = Arithmetic::broadcast(p, i * p.channel_step);
        for (int64_t k = 0; k < p.images; ++k) {
            const uint8_t* x = p.x + i * p.x_stride + k * p.x_image;
            uint8_t* y = p.y + i * p.y_stride + k * p.y_image;
            if (p.stream)
                walk_plane<true>(arithmetic, params, x, y, p.length);
            else
                walk_plane<false>(arithmetic, params, x, y, p.length);
        }
    }
    if (p.stream) _mm_sfence();
}

}  // namespace
}  // namespace bytenorm
