// The norm of an exact sum in integers of 32 bits, two codes in, one out, and where it cannot tell. exact_fit.hpp
// finds the numbers.
#pragma once

#include "kernels/structs.hpp"

namespace bytenorm {
namespace {

template <class V, bool InputSigned, bool OutputSigned, bool Relu>
class ExactIntegers {
    using Bytes = typename V::Bytes;
    using Dwords = typename V::Dwords;

  public:
    using Vector = V;
    using Block = ExactBlock<V::width>;
    struct Params {
        Dwords high[4], low[4], addend[4], shift, mask;
    };
    // Results before they are shifted: of bytes 4q to 4q + 3 of each 128 bits.
    using Sums = Dwords[4];

    explicit ExactIntegers(const Conversion& c) : lowest_(V::broadcast8(c.output_zero_point)) {}

    static Params load(const Block& block) {
        Params p;
        for (int q = 0; q < 4; ++q) {
            p.high[q] = V::load_params(block.high + q * V::width / 4);
            p.low[q] = V::load_params(block.low + q * V::width / 4);
            p.addend[q] = V::load_params(block.addend + q * V::width / 4);
        }
        p.shift = V::broadcast(block.shift), p.mask = V::broadcast(block.mask);
        return p;
    }
    static Params broadcast(const Block* blocks, int64_t channel) {
        const Block& block = blocks[channel / V::width];
        const int slot = real_slot(V::width, static_cast<int>(channel % V::width));
        Params p;
        for (int q = 0; q < 4; ++q) {
            p.high[q] = V::broadcast(block.high[slot]);
            p.low[q] = V::broadcast(block.low[slot]);
            p.addend[q] = V::broadcast(block.addend[slot]);
        }
        p.shift = V::broadcast(block.shift), p.mask = V::broadcast(block.mask);
        return p;
    }

    // N vectors with the same parameters: with few registers each parameter is loaded once for all of them.
    template <int N>
    BYTENORM_INLINE void add(const Bytes (&a)[N], const Bytes (&b)[N], const Params& p, Sums (&sums)[N]) const {
        Bytes u[N], v[N];
        for (int i = 0; i < N; ++i) {
            u[i] = InputSigned ? a[i] : V::bit_xor(a[i], V::broadcast8(0x80));
            v[i] = InputSigned ? b[i] : V::bit_xor(b[i], V::broadcast8(0x80));
        }
        for (int q = 0; q < 4; ++q)
            for (int i = 0; i < N; ++i)
                sums[i][q] = V::multiply_add_wide(p.addend[q], V::wide_pairs(u[i], v[i], q), p.high[q], p.low[q]);
    }
    BYTENORM_INLINE static bool unsure(const Sums& sums, const Params& p) { return V::any_without(sums, p.mask); }
    // A byte of zeros where it is too near a tie.
    BYTENORM_INLINE static Bytes sure(const Sums& sums, const Params& p) {
        const auto bits = [&](int q) { return V::bit_and(sums[q], p.mask); };  // saturated, what is not 0 stays so
        return V::template pack_words<true>(V::pack_dwords(bits(0), bits(1)), V::pack_dwords(bits(2), bits(3)));
    }
    BYTENORM_INLINE Bytes codes(const Sums& sums, const Params& p) const {
        const auto shifted = [&](int q) { return V::shift_right(sums[q], p.shift); };
        const Bytes low = V::pack_dwords(shifted(0), shifted(1)), high = V::pack_dwords(shifted(2), shifted(3));
        const Bytes codes = V::template pack_words<OutputSigned>(low, high);
        return Relu ? V::template max<OutputSigned>(codes, lowest_) : codes;
    }

  private:
    Bytes lowest_;
};

}  // namespace
}  // namespace bytenorm
