// The loops of the sums around the few vector operations of an instruction set. An accumulator takes bytes as they
// lie in memory and knows from its template argument whether they are signed.
#pragma once

#include "kernels/structs.hpp"
#include "statistics/statistics.hpp"

namespace bytenorm {
namespace {

// Planes of one channel.
template <class Accumulator>
void walk_channel(const PlaneSums& p) {
    using V = typename Accumulator::Vector;
    constexpr int W = V::width;
    const int64_t whole = p.length / W, tail = p.length % W;
    // The last vector overlaps the one before, whose bytes are then left out.
    const typename V::Bytes inside = whole ? V::bit_not(V::first_bytes(W - tail)) : V::first_bytes(tail);
    Accumulator sums;
    int64_t left = Accumulator::most_steps;
    for (int64_t i = 0; i < p.runs; ++i) {
        if (left <= whole) sums.empty_into(*p.totals), left = Accumulator::most_steps;
        left -= whole + 1;
        const uint8_t* x = p.x + i * p.stride;
        int64_t k = 0;
        for (; k + 2 <= whole; k += 2) sums.add_two(V::load(x + k * W), V::load(x + k * W + W));
        if (k < whole) sums.add(V::load(x + k * W));
        if (tail) sums.add_some(whole ? V::load(x + p.length - W) : V::load_partial(x, tail), inside);
    }
    sums.empty_into(*p.totals);
}

// Short planes of four neighbouring channels. One channel after another would walk the same cache lines, in as
// many images as there are, four times.
template <class Accumulator>
void walk_four_channels(const PlaneSums& p) {
    using V = typename Accumulator::Vector;
    constexpr int W = V::width;
    const int64_t whole = p.length / W, tail = p.length % W, step = p.channel_stride;
    const typename V::Bytes inside = whole ? V::bit_not(V::first_bytes(W - tail)) : V::first_bytes(tail);
    Accumulator a, b, c, d;  // no array, which the compiler would keep in memory
    for (int64_t i = 0; i < p.runs; ++i) {
        const uint8_t* x = p.x + i * p.stride;
        for (int64_t k = 0; k < whole; ++k) {
            a.add(V::load(x + k * W)), b.add(V::load(x + step + k * W));
            c.add(V::load(x + 2 * step + k * W)), d.add(V::load(x + 3 * step + k * W));
        }
        if (!tail) continue;
        const auto last = [&](const uint8_t* plane) {
            return whole ? V::load(plane + p.length - W) : V::load_partial(plane, tail);
        };
        a.add_some(last(x), inside), b.add_some(last(x + step), inside);
        c.add_some(last(x + 2 * step), inside), d.add_some(last(x + 3 * step), inside);
    }
    a.empty_into(p.totals[0]), b.empty_into(p.totals[1]);
    c.empty_into(p.totals[2]), d.empty_into(p.totals[3]);
}

template <class Accumulator>
void walk_planes(const PlaneSums& given) {
    constexpr int W = Accumulator::Vector::width;
    constexpr int64_t longest = (Accumulator::most_steps - 1) * W;
    const bool by_four = given.length <= 4 * W && given.runs <= Accumulator::most_steps / 8;
    PlaneSums p = given;
    for (int64_t c = 0; c < given.channels; p.x = given.x + c * p.channel_stride, p.totals = given.totals + c) {
        if (by_four && c + 4 <= given.channels) {
            walk_four_channels<Accumulator>(p);
            c += 4;
            continue;
        }
        ++c;
        if (given.length <= longest) {
            walk_channel<Accumulator>(p);
            continue;
        }
        PlaneSums part = p;
        part.runs = 1;
        for (int64_t i = 0; i < p.runs; ++i) {
            for (int64_t start = 0; start < p.length; start += longest) {
                part.x = p.x + i * p.stride + start;
                part.length = p.length - start < longest ? p.length - start : longest;
                walk_channel<Accumulator>(part);
            }
        }
    }
}

// Tiles of rows, block of lanes after block of lanes: the sums of a block stay in registers over a tile, and the
// tile in the first cache over its blocks.
template <class Accumulator>
void walk_rows(const RowSums& r) {
    using V = typename Accumulator::Vector;
    constexpr int W = V::width, R = Accumulator::rows;
    const int64_t fitting = 65536 / r.lanes / R * R, tile = fitting < 32 ? 32 : fitting > 256 ? 256 : fitting;
    for (int64_t start = 0; start < r.rows; start += tile) {
        const int64_t rows = r.rows - start < tile ? r.rows - start : tile;
        for (int64_t lane = 0; lane < r.lanes; lane += W) {
            const int64_t n = r.lanes - lane;
            const uint8_t* x = r.x + start * r.stride + lane;
            const uint8_t* ahead = r.rows - start >= 2 * tile ? x + tile * r.stride : x;
            Accumulator sums(r.total, lane);
            typename V::Bytes v[R];
            int64_t i = 0;
            if (n >= W) {
                for (; i + R <= rows; i += R) {
                    for (int k = 0; k < R; ++k) {
                        __builtin_prefetch(ahead + (i + k) * r.stride, 0, 2);
                        v[k] = V::load(x + (i + k) * r.stride);
                    }
                    sums.add(v);
                }
            }
            const typename V::Bytes inside = V::first_bytes(n < W ? n : W);
            for (; i < rows; i += R) {
                const int present = static_cast<int>(rows - i < R ? rows - i : R);
                for (int k = 0; k < present; ++k) {
                    const uint8_t* at = x + (i + k) * r.stride;
                    v[k] = n < W ? V::load_partial(at, n) : V::load(at);
                }
                sums.add_some(v, present, inside);
            }
            sums.empty_into(r.total, lane);
        }
    }
}

}  // namespace
}  // namespace bytenorm
