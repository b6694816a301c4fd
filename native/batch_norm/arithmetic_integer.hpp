// A channel in 32-bit integers, 13 operations for a vector of bytes: y = (addend + multiplier * u) >> shift.
// integer_fit.hpp finds the three numbers and proves that they give the fp32 result for all 256 inputs.
#pragma once

#include "../kernels.hpp"

namespace bytenorm {
namespace {

template <class V, bool InputSigned, bool OutputSigned, bool Relu>
class IntegerArithmetic {
    using Bytes = typename V::Bytes;
    using Dwords = typename V::Dwords;

  public:
    using Vector = V;
    struct Params {
        Dwords factor[4], addend[4], count[4];
    };

    explicit IntegerArithmetic(const Conversion& c) : lowest_(V::broadcast8(c.output_zero_point)) {}

    static Params load(const ParamBlock<V::width>& block) {
        Params p;
        for (int q = 0; q < 4; ++q) {
            p.factor[q] = V::load_params(block.first + q * V::width / 4);
            p.addend[q] = V::load_params(block.second + q * V::width / 4);
            p.count[q] = V::load_params(block.third + q * V::width / 4);
        }
        return p;
    }
    static Params broadcast(const Planes& planes, int64_t channel) {
        const int32_t multiplier = planes.integer.multiplier[channel], shift = planes.integer.shift[channel];
        Params p;
        for (int q = 0; q < 4; ++q) {
            p.factor[q] = V::broadcast(integer_factor(q % 2, multiplier));
            p.addend[q] = V::broadcast(planes.integer.addend[channel]);
            p.count[q] = V::broadcast(integer_count(q % 2, shift));
        }
        return p;
    }

    Bytes operator()(Bytes x, const Params& p) const {
        if (InputSigned) x = V::bit_xor(x, V::broadcast8(0x80));
        const Bytes low = V::words_low(x), high = V::words_high(x);
        const Bytes a = pair(low, p, 0), b = pair(high, p, 2);
        const Bytes result = V::template pack_words<OutputSigned>(a, b);
        return Relu ? V::template max<OutputSigned>(result, lowest_) : result;
    }

  private:
    // Two bytes of each dword, from words to words: the even one is shifted down to the lower half, the odd
    // one up to the upper half.
    static Bytes pair(Bytes words, const Params& p, int q) {
        const Dwords even = V::multiply_add(p.addend[q], words, p.factor[q]);
        const Dwords odd = V::multiply_add(p.addend[q + 1], words, p.factor[q + 1]);
        return V::merge_words(V::shift_right(even, p.count[q]), V::shift_left(odd, p.count[q + 1]));
    }

    Bytes lowest_;
};

}  // namespace
}  // namespace bytenorm
