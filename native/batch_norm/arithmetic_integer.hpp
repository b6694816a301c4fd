// A channel in 32-bit integers, 15 operations for a vector of bytes: y = (addend + multiplier * u) >> shift.
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
        Dwords multiplier[4], addend[4], shift[4];
    };

    explicit IntegerArithmetic(const Conversion& c) : lowest_(V::broadcast8(c.output_zero_point)) {}

    static Params load(const ParamBlock<V::width>& block) {
        Params p;
        for (int q = 0; q < 4; ++q) {
            p.multiplier[q] = V::load_params(block.first + q * V::width / 4);
            p.addend[q] = V::load_params(block.second + q * V::width / 4);
            p.shift[q] = V::load_params(block.third + q * V::width / 4);
        }
        return p;
    }
    static Params broadcast(const Planes& planes, int64_t channel) {
        const Dwords multiplier = V::broadcast(planes.integer.multiplier[channel]);
        const Dwords addend = V::broadcast(planes.integer.addend[channel]);
        const Dwords shift = V::broadcast(planes.integer.shift[channel]);
        return {{multiplier, multiplier, multiplier, multiplier},
                {addend, addend, addend, addend},
                {shift, shift, shift, shift}};
    }

    Bytes operator()(Bytes x, const Params& p) const {
        if (InputSigned) x = V::bit_xor(x, flip_);
        Dwords y[4];
        for (int q = 0; q < 4; ++q)
            y[q] = V::shift_right(V::multiply_add(p.addend[q], spread_(x, q), p.multiplier[q]), p.shift[q]);
        Bytes result = V::template pack<OutputSigned>(y[0], y[1], y[2], y[3]);
        if (Relu) result = V::template max<OutputSigned>(result, lowest_);
        return result;
    }

  private:
    typename V::Spread spread_{0, 1, 0};  // [byte, 0, byte, 0]: two int16 for the two halves of multiplier
    Bytes flip_ = V::broadcast8(0x80);
    Bytes lowest_;
};

}  // namespace
}  // namespace bytenorm
