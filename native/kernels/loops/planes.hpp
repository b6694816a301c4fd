// Channels first: the parameters of a plane fill the registers, then the plane streams through them.
#pragma once

#include "kernels/structs.hpp"
#include "simd/put.hpp"

namespace bytenorm {
namespace {

template <bool Stream, class Arithmetic>
void walk_plane(const Arithmetic& arithmetic, const typename Arithmetic::Params& params, const uint8_t* x,
                uint8_t* y, int64_t length) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const auto partial = [&](int64_t at, int64_t n) {
        typename V::Bytes v[1] = {V::load_partial(x + at, n)};
        arithmetic.apply(v, params);
        V::store_partial(y + at, v[0], n);
    };
    if (length < W) {
        if (length > 0) partial(0, length);
        return;
    }
    // The last vector overlaps the one before and, in a plane shorter than two vectors, the head. In place both
    // are stored by then, so it is loaded first. Witness: 47 bytes whose output begins 28 bytes before a vector's
    // border; bytes 15 to 27 would be normalized twice.
    const typename V::Bytes last = V::load(x + length - W);
    int64_t j = 0;
    if (Stream) {  // past the cache, which takes whole aligned vectors
        j = -reinterpret_cast<intptr_t>(y) & (W - 1);
        if (j > 0) partial(0, j);
    }
    for (; j + 2 * W <= length; j += 2 * W) {
        typename V::Bytes v[2] = {V::load(x + j), V::load(x + j + W)};
        arithmetic.apply(v, params);
        put<Stream, V>(y + j, v[0]);
        put<Stream, V>(y + j + W, v[1]);
    }
    if (j + W < length) {
        typename V::Bytes v[2] = {V::load(x + j), last};
        arithmetic.apply(v, params);
        put<Stream, V>(y + j, v[0]);
        V::store(y + length - W, v[1]);
    } else if (j < length) {
        typename V::Bytes v[1] = {last};
        arithmetic.apply(v, params);
        V::store(y + length - W, v[0]);
    }
}

template <class Arithmetic>
void walk_planes(const Planes& p) {
    const Arithmetic arithmetic(p.conversion);
    for (int64_t i = 0; i < p.count; ++i) {
        const auto params = Arithmetic::broadcast(p.params, i * p.channel_step);
        for (int64_t k = 0; k < p.images; ++k) {
            const uint8_t* x = p.x + i * p.x_stride + k * p.x_image;
            uint8_t* y = p.y + i * p.y_stride + k * p.y_image;
            if (p.stream)
                walk_plane<true>(arithmetic, params, x, y, p.length);
            else
                walk_plane<false>(arithmetic, params, x, y, p.length);
        }
    }
    if (p.stream) Arithmetic::Vector::fence();
}

}  // namespace
}  // namespace bytenorm
