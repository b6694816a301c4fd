// Channels last, read from several arrays: a vector of channels is put together from those that hold them.
#pragma once

#include "partial.hpp"

namespace bytenorm {
namespace {

template <int N>
struct Constant {
    static constexpr int value = N;
};

// Reads a vector's lanes of one pixel after another from P arrays.
template <int P, class V>
class Joint {
  public:
    // `parts` hold the `n` lanes from `lane` on.
    Joint(const JoinedPart* parts, int64_t lane, int64_t n) {
        for (int i = 0; i < P; ++i) {
            const int64_t from = parts[i].first_lane - lane, to = from + parts[i].lanes;
            x_[i] = parts[i].x - from;  // lane 0 of the vector; only `lanes_` are read
            step_[i] = parts[i].x_stride;
            lanes_[i] = V::lanes(from < 0 ? 0 : from, to < n ? to : n);
        }
    }

    BYTENORM_INLINE typename V::Bytes whole() {
        return next(P == 1 ? V::load(x_[0]) : V::load_lanes(x_[0], lanes_[0]));
    }
    BYTENORM_INLINE typename V::Bytes partial() { return next(V::load_lanes(x_[0], lanes_[0])); }

  private:
    BYTENORM_INLINE typename V::Bytes next(typename V::Bytes v) {
        for (int i = 1; i < P; ++i) v = V::add_lanes(v, x_[i], lanes_[i]);
        for (int i = 0; i < P; ++i) x_[i] += step_[i];
        return v;
    }

    const uint8_t* x_[P];
    int64_t step_[P];
    typename V::Lanes lanes_[P];
};

// A whole vector of channels of every pixel. Nothing asks for the next tile's bytes: measured, see
// docs/kernels-layouts.md. `pixels` and `y_step` are copies of what `Joined` says: a store of
// bytes may change any memory, which would be read again for every pixel.
template <int P, class Arithmetic>
void walk_whole(const Arithmetic& arithmetic, const typename Arithmetic::Block& block, const JoinedPart* parts,
                int64_t lane, uint8_t* y, int64_t pixels, int64_t y_step) {
    using V = typename Arithmetic::Vector;
    Joint<P, V> x(parts, lane, V::width);
    const auto params = Arithmetic::load(block);
    int64_t p = 0;
    for (; p + 2 <= pixels; p += 2, y += 2 * y_step) {
        typename V::Bytes v[2];
        v[0] = x.whole();
        v[1] = x.whole();
        arithmetic.apply(v, params);
        V::store(y, v[0]);
        V::store(y + y_step, v[1]);
    }
    if (p < pixels) {  // loads its parameters itself: what lives on behind a loop is spilled before it
        typename V::Bytes v[1] = {x.whole()};
        arithmetic.apply(v, Arithmetic::load(block));
        V::store(y, v[0]);
    }
}

// The last vector, of `n` channels.
template <int P, class Arithmetic>
void walk_last(const Arithmetic& arithmetic, const typename Arithmetic::Block& block, const JoinedPart* parts,
               int64_t lane, uint8_t* y, int64_t pixels, int64_t y_step, int64_t n) {
    using V = typename Arithmetic::Vector;
    const auto params = Arithmetic::load(block);
    if constexpr (P == 1)
        return walk_partials(arithmetic, params, parts->x + (lane - parts->first_lane), parts->x_stride, y, y_step,
                             pixels, n);
    Joint<P, V> x(parts, lane, n);
    for (int64_t p = 0; p < pixels; ++p, y += y_step) {
        typename V::Bytes v[1] = {x.partial()};
        arithmetic.apply(v, params);
        V::store_partial(y, v[0], n);
    }
}

template <class Arithmetic>
void walk_joined(const Joined& j) {
    using V = typename Arithmetic::Vector;
    constexpr int W = V::width;
    const Arithmetic arithmetic(j.conversion);
    const auto* block = static_cast<const typename Arithmetic::Block*>(j.blocks);
    const JoinedPart* part = j.parts;
    for (int64_t lane = 0; lane < j.lanes; lane += W, ++block) {
        const int64_t n = j.lanes - lane < W ? j.lanes - lane : W;
        while (part->first_lane + part->lanes <= lane) ++part;
        int count = 1;
        while (part[count - 1].first_lane + part[count - 1].lanes < lane + n) ++count;
        const auto walk = [&](auto parts) {
            constexpr int P = decltype(parts)::value;
            if (n == W)
                walk_whole<P>(arithmetic, *block, part, lane, j.y + lane, j.pixels, j.y_stride);
            else
                walk_last<P>(arithmetic, *block, part, lane, j.y + lane, j.pixels, j.y_stride, n);
        };
        if constexpr (V::most_parts > 1) {
            if (count == 2) {
                walk(Constant<2>{});
                continue;
            }
            if (count == 3) {
                walk(Constant<3>{});
                continue;
            }
            if (count == 4) {
                walk(Constant<4>{});
                continue;
            }
        }
        walk(Constant<1>{});
    }
}

}  // namespace
}  // namespace bytenorm
