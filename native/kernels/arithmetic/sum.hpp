// The sum of two codes in integers of 30 bits: a multiplier is two int16. The low halves are added and shifted
// first; what is shifted out can no longer reach a whole number, so that nothing is lost.
#pragma once

#include "kernels/structs.hpp"

namespace bytenorm {
namespace {

template <class V, bool Signed, bool Ties>
class SumArithmetic {
    using Bytes = typename V::Bytes;
    using Dwords = typename V::Dwords;

  public:
    explicit SumArithmetic(const SumInteger& s)
        : low_(V::broadcast(pair(s.low_a, s.low_b))),
          high_(V::broadcast(pair(s.high_a, s.high_b))),
          fraction_(V::broadcast(s.fraction)),
          low_shift_(V::broadcast(15)),
          high_shift_(V::broadcast(s.high_shift)),
          low_rest_(V::broadcast((1 << 15) - 1)),
          high_rest_(V::broadcast((1 << s.high_shift) - 1)),
          even_(V::broadcast(1 - s.odd)),
          whole_(V::broadcast16(s.whole)) {}

    BYTENORM_INLINE Bytes add(Bytes a, Bytes b) const {
        if (Signed) {
            a = V::bit_xor(a, V::broadcast8(0x80));
            b = V::bit_xor(b, V::broadcast8(0x80));
        }
        const Bytes low = V::pack_dwords(four(V::pairs(a, b, 0)), four(V::pairs(a, b, 1)));
        const Bytes high = V::pack_dwords(four(V::pairs(a, b, 2)), four(V::pairs(a, b, 3)));
        return V::template pack_words<Signed>(V::add_words(low, whole_), V::add_words(high, whole_));
    }

  private:
    static int32_t pair(int16_t even, int16_t odd) {
        return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint16_t>(odd)) << 16 |
                                    static_cast<uint16_t>(even));
    }
    BYTENORM_INLINE Dwords four(typename V::Pairs codes) const {
        const Dwords low = V::multiply_add(fraction_, codes, low_);
        const Dwords high = V::multiply_add(V::shift_right(low, low_shift_), codes, high_);
        const Dwords result = V::shift_right(high, high_shift_);
        if (!Ties) return result;
        // Zero where all that was shifted out is zero and the result is odd.
        const Dwords rest = V::bit_or(V::bit_and(low, low_rest_), V::bit_and(high, high_rest_));
        const Dwords even = V::bit_and(V::bit_xor(result, even_), V::broadcast(1));
        return V::less_one_where_zero(result, V::bit_or(rest, even));
    }

    Dwords low_, high_, fraction_, low_shift_, high_shift_, low_rest_, high_rest_, even_;
    Bytes whole_;
};

template <class V, bool Signed, bool Ties>
void walk_sum(const Sum& s) {
    constexpr int W = V::width;
    const SumArithmetic<V, Signed, Ties> arithmetic(s.integer);
    int64_t j = 0;
    for (; j + W <= s.n; j += W) V::store(s.y + j, arithmetic.add(V::load(s.a + j), V::load(s.b + j)));
    if (const int64_t rest = s.n - j)
        V::store_partial(s.y + j, arithmetic.add(V::load_partial(s.a + j, rest), V::load_partial(s.b + j, rest)),
                         rest);
}

template <class V>
void run_sum(const Sum& s) {
    if (s.is_signed)
        s.integer.ties ? walk_sum<V, true, true>(s) : walk_sum<V, true, false>(s);
    else
        s.integer.ties ? walk_sum<V, false, true>(s) : walk_sum<V, false, false>(s);
}

}  // namespace
}  // namespace bytenorm
