// Channels first: the parameters of a plane fill the registers, then the plane streams through them.
#pragma once

#include "../kernels.hpp"

namespace bytenorm {
namespace {

template <class Arithmetic>
void walk_planes(const Planes& p) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const Arithmetic arithmetic(p.conversion);
    for (int64_t i = 0; i < p.count; ++i) {
        const auto params = Arithmetic::broadcast(p, i * p.channel_step);
        const uint8_t* x = p.x + i * p.x_stride;
        uint8_t* y = p.y + i * p.y_stride;
        int64_t j = 0;
        if (p.stream) {
            const int64_t head = -reinterpret_cast<intptr_t>(y) & (W - 1);
            if (head > 0 && head <= p.length) {
                V::store_partial(y, arithmetic(V::load_partial(x, head), params), head);
                j = head;
            }
            if (head <= p.length)
                for (; j + W <= p.length; j += W) V::stream(y + j, arithmetic(V::load(x + j), params));
        }
        for (; j + W <= p.length; j += W) V::store(y + j, arithmetic(V::load(x + j), params));
        if (j < p.length) {
            const int64_t rest = p.length - j;
            V::store_partial(y + j, arithmetic(V::load_partial(x + j, rest), params), rest);
        }
    }
    if (p.stream) _mm_sfence();
}

}  // namespace
}  // namespace bytenorm
