// Channels last, read from several arrays: a vector of channels is put together from those that hold them.
#pragma once

#include "../kernels.hpp"

namespace bytenorm {
namespace {

// One vector's worth of channels of every pixel, read from P arrays; `last` bytes of it are stored.
template <int P, class Arithmetic>
void walk_parts(const Arithmetic& arithmetic, const typename Arithmetic::Params& params, const Joined& j,
                const JoinedPart* parts, int64_t lane, int64_t last) {
    using V = typename Arithmetic::Vector;
    const uint8_t* x[P];
    int64_t step[P];
    typename V::Lanes lanes[P];
    for (int i = 0; i < P; ++i) {
        const int64_t from = parts[i].first_lane - lane, to = from + parts[i].lanes;
        x[i] = parts[i].x - from, step[i] = parts[i].x_stride;  // lane 0 of the vector; only `lanes` are read
        lanes[i] = V::lanes(from < 0 ? 0 : from, to < last ? to : last);
    }
    uint8_t* y = j.y + lane;
    const auto load = [&] {
        typename V::Bytes v = V::load_lanes(x[0], lanes[0]);
        for (int i = 1; i < P; ++i) v = V::add_lanes(v, x[i], lanes[i]);
        for (int i = 0; i < P; ++i) x[i] += step[i];
        return v;
    };
    int64_t p = 0;
    if (last == V::width) {
        for (; p + 2 <= j.pixels; p += 2, y += 2 * j.y_stride) {
            for (int i = 0; i < P; ++i)  // for the next tile; two pixels of a small array share a line
                _mm_prefetch(reinterpret_cast<const char*>(x[i]) + j.pixels * step[i], _MM_HINT_T0);
            if (P == 1) _mm_prefetch(reinterpret_cast<const char*>(x[0]) + (j.pixels + 1) * step[0], _MM_HINT_T0);
            typename V::Bytes v[2];
            v[0] = load();
            v[1] = load();
            arithmetic.apply(v, params);
            V::store(y, v[0]);
            V::store(y + j.y_stride, v[1]);
        }
    }
    for (; p < j.pixels; ++p, y += j.y_stride) {
        typename V::Bytes v[1] = {load()};
        arithmetic.apply(v, params);
        if (last == V::width)
            V::store(y, v[0]);
        else
            V::store_partial(y, v[0], last);
    }
}

template <class Arithmetic>
void walk_joined(const Joined& j) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const Arithmetic arithmetic(j.conversion);
    const auto* blocks = static_cast<const ParamBlock<W>*>(j.blocks);
    const JoinedPart* part = j.parts;
    for (int64_t lane = 0; lane < j.lanes; lane += W) {
        const int64_t last = j.lanes - lane < W ? j.lanes - lane : W;
        while (part->first_lane + part->lanes <= lane) ++part;
        int count = 1;
        while (part[count - 1].first_lane + part[count - 1].lanes < lane + last) ++count;
        const auto params = Arithmetic::load(blocks[lane / W]);
        if constexpr (V::most_parts > 1) {
            if (count == 2) {
                walk_parts<2>(arithmetic, params, j, part, lane, last);
                continue;
            }
            if (count == 3) {
                walk_parts<3>(arithmetic, params, j, part, lane, last);
                continue;
            }
            if (count == 4) {
                walk_parts<4>(arithmetic, params, j, part, lane, last);
                continue;
            }
        }
        walk_parts<1>(arithmetic, params, j, part, lane, last);
    }
}

}  // namespace
}  // namespace bytenorm
