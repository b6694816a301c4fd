// Channels last: the channels of a pixel that do not fill a vector.
#pragma once

#include "kernels/structs.hpp"

namespace bytenorm {
namespace {

template <class Arithmetic>
BYTENORM_INLINE void walk_partial(const Arithmetic& arithmetic, const typename Arithmetic::Params& params,
                                  const uint8_t* x, uint8_t* y, int64_t n) {
    using V = typename Arithmetic::Vector;
    typename V::Bytes v[1] = {V::load_partial(x, n)};
    arithmetic.apply(v, params);
    V::store_partial(y, v[0], n);
}

// Whether two pixels of so many channels fit a vector: its parameters are there twice (fold/fitted.cpp).
template <class V>
constexpr bool two_fit(int64_t n) {
    return V::most_parts > 1 && 2 * n <= V::width;
}

// `pixels` of them, `n` channels each, the parameters those of a vector that begins with them.
template <class Arithmetic>
BYTENORM_INLINE void walk_partials(const Arithmetic& arithmetic, const typename Arithmetic::Params& params,
                                   const uint8_t* x, int64_t x_step, uint8_t* y, int64_t y_step, int64_t pixels,
                                   int64_t n) {
    using V = typename Arithmetic::Vector;
    int64_t p = 0;
    if constexpr (V::most_parts > 1) {
        if (two_fit<V>(n)) {
            const typename V::Lanes first = V::lanes(0, n), second = V::lanes(n, 2 * n);
            for (; p + 2 <= pixels; p += 2, x += 2 * x_step, y += 2 * y_step) {
                typename V::Bytes v[1] = {V::add_lanes(V::load_lanes(x, first), x + x_step - n, second)};
                arithmetic.apply(v, params);
                V::store_lanes(y, v[0], first);
                V::store_lanes(y + y_step - n, v[0], second);
            }
        }
    }
    for (; p < pixels; ++p, x += x_step, y += y_step) {
        walk_partial(arithmetic, params, x, y, n);
    }
}

}  // namespace
}  // namespace bytenorm
