// The norm of an exact sum over runs of bytes: of one channel each, or of channels side by side. What integers are
// too coarse for, some elements in a hundred thousand, double decides.
#pragma once

#include <cstring>

#include "kernels/list.hpp"

namespace bytenorm {
namespace {

template <class Arithmetic, bool ByLane>
class ExactWalk {
    using V = typename Arithmetic::Vector;
    using Bytes = typename V::Bytes;
    using Params = typename Arithmetic::Params;
    static constexpr int W = V::width;

  public:
    explicit ExactWalk(const ExactSum& s) : s_(s), arithmetic_(s.conversion) {}

    // Parameters of a channel serve a whole run.
    void planes() const {
        for (int64_t i = 0; i < s_.count; ++i) {
            const int64_t channel = i * s_.channel_stride;
            const Params p = Arithmetic::broadcast(blocks(), s_.channel + channel);
            const uint8_t *a = s_.a + i * s_.a_stride, *b = s_.b + i * s_.b_stride;
            uint8_t* y = s_.y + i * s_.y_stride;
            const int64_t n = s_.length;
            if (n < W) {
                if (n > 0) partial(a, b, y, n, p, channel);
                continue;
            }
            // The last vector overlaps the one before, which in place is stored by then.
            const Bytes last_a = V::load(a + n - W), last_b = V::load(b + n - W);
            int64_t j = 0;
            for (; j + W <= n; j += W) store(V::load(a + j), V::load(b + j), y + j, W, p, channel);
            if (j < n) store(last_a, last_b, y + n - W, W, p, channel);
        }
    }

    // Parameters of a vector of channels serve all runs.
    void rows() const {
        for (int64_t lane = 0; lane < s_.length; lane += W) {
            const Params p = Arithmetic::load(blocks()[(s_.channel + lane) / W]);
            const int64_t n = s_.length - lane;
            const uint8_t *a = s_.a + lane, *b = s_.b + lane;
            uint8_t* y = s_.y + lane;
            if (n < W)
                for (int64_t i = 0; i < s_.count; ++i, a += s_.a_stride, b += s_.b_stride, y += s_.y_stride)
                    partial(a, b, y, n, p, lane);
            else {
                int64_t i = 0;
                for (; i + 2 <= s_.count;
                     i += 2, a += 2 * s_.a_stride, b += 2 * s_.b_stride, y += 2 * s_.y_stride) {
                    const Bytes two_a[2] = {V::load(a), V::load(a + s_.a_stride)};
                    const Bytes two_b[2] = {V::load(b), V::load(b + s_.b_stride)};
                    store(two_a, two_b, y, s_.y_stride, W, p, lane);
                }
                if (i < s_.count) store(V::load(a), V::load(b), y, W, p, lane);
            }
        }
    }

  private:
    const typename Arithmetic::Block* blocks() const {
        return static_cast<const typename Arithmetic::Block*>(s_.blocks);
    }

    BYTENORM_INLINE void partial(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, const Params& p,
                                 int64_t channel) const {
        store(V::load_partial(a, n), V::load_partial(b, n), y, n, p, channel);
    }

    // `channel` counts from the first run's first.
    template <int N>
    BYTENORM_INLINE void store(const Bytes (&a)[N], const Bytes (&b)[N], uint8_t* y, int64_t y_step, int64_t n,
                               const Params& p, int64_t channel) const {
        typename Arithmetic::Sums sums[N];
        arithmetic_.add(a, b, p, sums);
        for (int i = 0; i < N; ++i, y += y_step) {
            if (__builtin_expect(Arithmetic::unsure(sums[i], p), 0))
                decide(a[i], b[i], y, n, channel);
            else
                put(y, arithmetic_.codes(sums[i], p), n);
        }
    }
    BYTENORM_INLINE void store(Bytes a, Bytes b, uint8_t* y, int64_t n, const Params& p, int64_t channel) const {
        const Bytes one_a[1] = {a}, one_b[1] = {b};
        store(one_a, one_b, y, 0, n, p, channel);
    }
    BYTENORM_INLINE static void put(uint8_t* y, Bytes codes, int64_t n) {
        if (n == W)
            V::store(y, codes);
        else
            V::store_partial(y, codes, n);
    }

    // Stores n codes, those that integers are unsure of from double. It loads and computes once more: what the
    // loop would hand over it would have to keep in memory.
    __attribute__((noinline)) void decide(Bytes a, Bytes b, uint8_t* y, int64_t n, int64_t channel) const {
        const Params p = ByLane ? Arithmetic::load(blocks()[(s_.channel + channel) / W])
                                : Arithmetic::broadcast(blocks(), s_.channel + channel);
        typename Arithmetic::Sums all[1], &sums = all[0];
        const Bytes one_a[1] = {a}, one_b[1] = {b};
        arithmetic_.add(one_a, one_b, p, all);
        alignas(64) uint8_t of_a[W], of_b[W], decided[W], sure[W];
        V::store(of_a, a), V::store(of_b, b), V::store(decided, arithmetic_.codes(sums, p));
        V::store(sure, Arithmetic::sure(sums, p));
        ExactSum one = s_;
        one.count = one.length = 1;
        for (int start = 0; start < n; start += 8) {
            uint64_t eight;  // bytes of 0 to 127
            memcpy(&eight, sure + start, 8);
            if (((eight - 0x0101010101010101u) & 0x8080808080808080u) == 0) continue;
            for (int i = start; i < start + 8 && i < n; ++i) {
                if (sure[i] != 0) continue;
                const int64_t c = channel + (ByLane ? i : 0);
                one.a = of_a + i, one.b = of_b + i, one.y = decided + i;
                one.slope_a = s_.slope_a + c, one.slope_b = s_.slope_b + c, one.intercept = s_.intercept + c;
                ExactSum_fp64_scalar(one);
            }
        }
        put(y, V::load(decided), n);
    }

    const ExactSum& s_;
    const Arithmetic arithmetic_;
};

template <class Arithmetic>
void walk_exact_sum(const ExactSum& s) {
    if (s.channel_step)
        ExactWalk<Arithmetic, true>(s).rows();
    else
        ExactWalk<Arithmetic, false>(s).planes();
}

}  // namespace
}  // namespace bytenorm
