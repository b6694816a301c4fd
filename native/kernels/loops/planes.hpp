// Channels first: the parameters of a plane fill the registers, then the plane streams through them.
#pragma once

#include "kernels/structs.hpp"
#include "simd/put.hpp"

namespace bytenorm {
namespace {

template <bool Stream, class Arithmetic>
BYTENORM_INLINE void walk_plane(const Arithmetic& arithmetic, const typename Arithmetic::Params& params,
                                const uint8_t* x, uint8_t* y, int64_t length) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const auto partial = [&](int64_t at, int64_t n) {
        typename V::Bytes v[1] = {V::load_partial(x + at, n)};
        arithmetic.apply(v, params);
        V::store_partial(y + at, v[0], n);
    };
    if (length < W) return partial(0, length);
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

// N planes of up to two vectors, step by step in all of them: loads, then stores. A load right behind a store to
// the same place of another page waits for it, one near a masked store too. `params(k)` are those of plane k.
template <int N, class Arithmetic, class ParamsOf>
BYTENORM_INLINE void walk_abreast(const Arithmetic& arithmetic, const ParamsOf& params, const uint8_t* x,
                                  int64_t x_step, uint8_t* y, int64_t y_step, int64_t length) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    if (length < W) {
        typename V::Bytes v[N][1];
        for (int k = 0; k < N; ++k) v[k][0] = V::load_partial(x + k * x_step, length);
        for (int k = 0; k < N; ++k) arithmetic.apply(v[k], params(k));
        for (int k = 0; k < N; ++k) V::store_partial(y + k * y_step, v[k][0], length);
        return;
    }
    typename V::Bytes v[N][2];  // the second overlaps the first
    for (int k = 0; k < N; ++k) {
        v[k][0] = V::load(x + k * x_step);
        v[k][1] = V::load(x + k * x_step + length - W);
    }
    for (int k = 0; k < N; ++k) arithmetic.apply(v[k], params(k));
    for (int k = 0; k < N; ++k) {
        V::store(y + k * y_step, v[k][0]);
        V::store(y + k * y_step + length - W, v[k][1]);
    }
}

// Planes of up to two vectors: four images of a channel at once, or four channels.
template <class Arithmetic>
void walk_short_planes(const Arithmetic& arithmetic, const Planes& p) {
    int64_t i = 0;
    if (p.images == 1) {
        for (; i + 4 <= p.count; i += 4) {
            const auto params = [&](int k) { return Arithmetic::broadcast(p.params, (i + k) * p.channel_step); };
            walk_abreast<4>(arithmetic, params, p.x + i * p.x_stride, p.x_stride, p.y + i * p.y_stride, p.y_stride,
                            p.length);
        }
    }
    for (; i < p.count; ++i) {
        const auto channel = Arithmetic::broadcast(p.params, i * p.channel_step);
        const auto params = [&](int) -> const auto& { return channel; };
        const uint8_t* x = p.x + i * p.x_stride;
        uint8_t* y = p.y + i * p.y_stride;
        int64_t k = 0;
        for (; k + 4 <= p.images; k += 4)
            walk_abreast<4>(arithmetic, params, x + k * p.x_image, p.x_image, y + k * p.y_image, p.y_image,
                            p.length);
        for (; k < p.images; ++k)
            walk_abreast<1>(arithmetic, params, x + k * p.x_image, 0, y + k * p.y_image, 0, p.length);
    }
}

// Short planes that touch, in several images at once: vector by vector over all planes of an image, so that every
// vector is full and, if the images begin on a vector's border, aligned. The parameters of a vector, which may be
// of several channels, are put together once for all images.
template <int N, class Arithmetic>
BYTENORM_INLINE int64_t walk_images(const Arithmetic& arithmetic, const typename Arithmetic::Params& params,
                                    const Planes& p, int64_t at, int64_t image) {
    using V = typename Arithmetic::Vector;
    for (; image + N <= p.images; image += N) {
        const uint8_t* x = p.x + image * p.x_image + at;
        uint8_t* y = p.y + image * p.y_image + at;
        typename V::Bytes v[N];
        for (int k = 0; k < N; ++k) v[k] = V::load(x + k * p.x_image);
        arithmetic.apply(v, params);
        for (int k = 0; k < N; ++k) V::store(y + k * p.y_image, v[k]);
    }
    return image;
}

constexpr int images_abreast = 8;

template <class Arithmetic>
void walk_touching_planes(const Arithmetic& arithmetic, const Planes& p) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const int64_t size = p.count * p.length;
    int64_t channel = 0, inside = 0;  // of the vector's first byte
    for (int64_t at = 0; at < size; at += W) {
        const int64_t n = size - at < W ? size - at : W;
        const auto params = inside + n <= p.length
                                ? Arithmetic::broadcast(p.params, channel)
                                : Arithmetic::spread(p.params, channel, p.count - channel, inside, p.length);
        if (n == W) {
            const int64_t done = walk_images<images_abreast>(arithmetic, params, p, at, 0);
            walk_images<1>(arithmetic, params, p, at, done);
        } else {
            for (int64_t k = 0; k < p.images; ++k) {
                typename V::Bytes v[1] = {V::load_partial(p.x + k * p.x_image + at, n)};
                arithmetic.apply(v, params);
                V::store_partial(p.y + k * p.y_image + at, v[0], n);
            }
        }
        for (inside += W; inside >= p.length; inside -= p.length) ++channel;
    }
}

// Whether that pays: parameters put together take as long as three vectors. Images a multiple of 2 KiB apart share
// the sets of the first cache, which has too few lines for eight of them in and out.
BYTENORM_INLINE bool worth_touching(const Planes& p, int width) {
    const bool touch = p.x_stride == p.length && p.y_stride == p.length && p.channel_step == 1;
    return touch && !p.stream && p.images >= images_abreast && 7 * p.length >= width && p.length < 4 * width &&
           (p.x_image | p.y_image) % 2048 != 0;
}

template <class Arithmetic>
void walk_planes(const Planes& p) {
    const Arithmetic arithmetic(p.conversion);
    if (p.length == 0) return;
    if constexpr (Arithmetic::spreads) {
        if (worth_touching(p, Arithmetic::Vector::width)) return walk_touching_planes(arithmetic, p);
    }
    if (!p.stream && p.length <= 2 * Arithmetic::Vector::width) return walk_short_planes(arithmetic, p);
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
