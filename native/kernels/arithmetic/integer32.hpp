// A channel in 32-bit integers, 13 operations for a vector of bytes: y = (addend + multiplier * u) >> shift.
// integer32_fit.hpp finds the three numbers and proves that they give the fp32 result for all 256 inputs.
#pragma once

#include "kernels/structs.hpp"

namespace bytenorm {
namespace {

template <class V, bool InputSigned, bool OutputSigned, bool Relu>
class Integer32 {
    using Bytes = typename V::Bytes;
    using Dwords = typename V::Dwords;

  public:
    using Vector = V;
    using Block = ParamBlock<V::width>;
    static constexpr bool abreast = V::width == 32;  // several pixels: loops/rows.hpp
    struct Params {
        Dwords factor[4], addend[4], count[4];
    };

    explicit Integer32(const Conversion& c) : lowest_(V::broadcast8(c.output_zero_point)) {}

    static Params load(const Block& block) {
        Params p;
        for (int q = 0; q < 4; ++q) {
            p.factor[q] = V::load_params(block.first + q * V::width / 4);
            p.addend[q] = V::load_params(block.second + q * V::width / 4);
            p.count[q] = V::load_params(block.third + q * V::width / 4);
        }
        return p;
    }
    static Params broadcast(const ChannelParams& of, int64_t channel) {
        const int32_t multiplier = of.integer.multiplier[channel], shift = of.integer.shift[channel];
        Params p;
        for (int q = 0; q < 4; ++q) {
            p.factor[q] = V::broadcast(integer_factor(q % 2, multiplier));
            p.addend[q] = V::broadcast(of.integer.addend[channel]);
            p.count[q] = V::broadcast(integer_count(q % 2, shift));
        }
        return p;
    }

    // N vectors with the same parameters: with few registers each parameter is loaded once for all of them.
    static constexpr bool spreads = false;  // a vector over planes of several channels

    template <int N>
    BYTENORM_INLINE void apply(Bytes (&x)[N], const Params& p) const {
        Bytes low[N], high[N];
        for (int i = 0; i < N; ++i) {
            if (InputSigned) x[i] = V::bit_xor(x[i], V::broadcast8(0x80));
            low[i] = V::words_low(x[i]);
            high[i] = V::words_high(x[i]);
        }
        pair(low, p, 0);
        pair(high, p, 2);
        for (int i = 0; i < N; ++i) {
            x[i] = V::template pack_words<OutputSigned>(low[i], high[i]);
            if (Relu) x[i] = V::template max<OutputSigned>(x[i], lowest_);
        }
    }

  private:
    // Two bytes of each dword, from words to words: the even one is shifted down to the lower half, the odd
    // one up to the upper half.
    template <int N>
    BYTENORM_INLINE static void pair(Bytes (&words)[N], const Params& p, int q) {
        Dwords even[N], odd[N];
        for (int i = 0; i < N; ++i) {
            even[i] = V::shift_right(V::multiply_add(p.addend[q], words[i], p.factor[q]), p.count[q]);
        }
        for (int i = 0; i < N; ++i) {
            odd[i] = V::shift_left(V::multiply_add(p.addend[q + 1], words[i], p.factor[q + 1]), p.count[q + 1]);
            words[i] = V::merge_words(even[i], odd[i]);
        }
    }

    Bytes lowest_;
};

}  // namespace
}  // namespace bytenorm
