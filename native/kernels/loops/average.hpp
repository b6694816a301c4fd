// The average of 2x2 pixels, half to even, in bytes alone: instructions that average two round up, and what they
// added is taken off again.
#pragma once

#include "kernels/structs.hpp"

namespace bytenorm {
namespace {

// p and q are the averages of two, r that of p and q, all rounded up: 4 r = a + b + c + d + e, where e counts what
// was added, the last bits of a ^ b and c ^ d, and that of p ^ q twice. r is one too many where e is 3 or 4, and
// where e is 2, a tie, and r is odd: with p ^ q odd, where any of a ^ b, c ^ d and r is odd; else, where all are.
// Witness: 0 0 1 1 is a half and gives 0, 1 1 2 2 gives 2.
template <class V>
BYTENORM_INLINE typename V::Bytes average(typename V::Bytes a, typename V::Bytes b, typename V::Bytes c,
                                          typename V::Bytes d) {
    const auto p = V::average_up(a, b), q = V::average_up(c, d), r = V::average_up(p, q);
    const auto x = V::bit_xor(a, b), y = V::bit_xor(c, d), odd = V::bit_xor(p, q);
    const auto any = V::bit_or(V::bit_or(x, y), r), all = V::bit_and(V::bit_and(x, y), r);
    const auto over = V::bit_or(all, V::bit_and(odd, any));
    return V::subtract(r, V::bit_and(over, V::broadcast8(1)));
}

template <class V, bool Signed>
void walk_average(const Average& a) {
    using Bytes = typename V::Bytes;
    // Signed bytes count from -128 on as unsigned ones; four times 128 leaves halves and evens alone.
    const Bytes lowest = V::broadcast8(0x80);
    const auto flip = [&](Bytes v) { return Signed ? V::bit_xor(v, lowest) : v; };
    const int64_t n = a.channels;
    const uint8_t *top = a.top, *bottom = a.bottom;
    uint8_t* y = a.y;
    const auto whole = [&](int64_t c) {
        V::store(y + c, flip(average<V>(flip(V::load(top + c)), flip(V::load(top + n + c)),
                                        flip(V::load(bottom + c)), flip(V::load(bottom + n + c)))));
    };
    for (int64_t p = 0; p < a.pixels; ++p, top += 2 * n, bottom += 2 * n, y += n) {
        int64_t c = 0;
        for (; c + V::width <= n; c += V::width) whole(c);
        if (c == n) continue;
        if (n > V::width) {  // the last vector overlaps the one before
            whole(n - V::width);
            continue;
        }
        V::store_partial(y,
                         flip(average<V>(flip(V::load_partial(top, n)), flip(V::load_partial(top + n, n)),
                                         flip(V::load_partial(bottom, n)), flip(V::load_partial(bottom + n, n)))),
                         n);
    }
}

template <class V>
void run_average(const Average& a) {
    if (a.is_signed)
        walk_average<V, true>(a);
    else
        walk_average<V, false>(a);
}

}  // namespace
}  // namespace bytenorm
