// A channel in float32, the contract to the letter: q = rint(fma(slope, x - zero_point, intercept)) + output
// zero point, saturated. 256-bit only, also on AVX-512 machines: dense 512-bit float lowers the clock of
// some.
#pragma once

#include "kernels/structs.hpp"

namespace bytenorm {
namespace {

template <class V, bool InputSigned, bool OutputSigned, bool Relu>
class Fp32 {
    using Bytes = typename V::Bytes;
    using Dwords = typename V::Dwords;
    using Floats = typename V::Floats;

  public:
    using Vector = V;
    using Block = ParamBlock<V::width>;
    static constexpr bool abreast = false;
    struct Params {
        Floats slope[4], intercept[4], bias[4];
    };

    explicit Fp32(const Conversion& c)
        : to_words_(c.output_zero_point), lowest_(V::broadcast8(c.output_zero_point)) {}

    static Params load(const Block& block) {
        Params p;
        for (int q = 0; q < 4; ++q) {
            p.slope[q] = V::load_floats(block.first + q * V::width / 4);
            p.intercept[q] = V::load_floats(block.second + q * V::width / 4);
            p.bias[q] = bias(V::load_floats(block.third + q * V::width / 4));
        }
        return p;
    }
    static Params broadcast(const ChannelParams& of, int64_t channel) {
        const Floats slope = V::broadcast_float(of.real.slope[channel]);
        const Floats intercept = V::broadcast_float(of.real.intercept[channel]);
        const Floats bias_all = bias(V::broadcast_float(of.real.zero_point[channel]));
        return {{slope, slope, slope, slope},
                {intercept, intercept, intercept, intercept},
                {bias_all, bias_all, bias_all, bias_all}};
    }

    static constexpr bool spreads = false;  // a vector over planes of several channels

    template <int N>
    BYTENORM_INLINE void apply(Bytes (&x)[N], const Params& p) const {
        for (int i = 0; i < N; ++i) x[i] = one(x[i], p);
    }

  private:
    BYTENORM_INLINE Bytes one(Bytes x, const Params& p) const {
        if (InputSigned) x = V::bit_xor(x, V::broadcast8(0x80));
        Dwords y[4];
        for (int q = 0; q < 4; ++q) {
            // Taking (2^23 + zero point) away is exact.
            const Floats centred = V::subtract(V::floats(x, q), p.bias[q]);
            y[q] = to_words_.round(V::multiply_add(p.slope[q], centred, p.intercept[q]));
        }
        const Bytes low = to_words_.pack(y[0], y[1]), high = to_words_.pack(y[2], y[3]);
        const Bytes result = V::template pack_words<OutputSigned>(low, high);
        return Relu ? V::template max<OutputSigned>(result, lowest_) : result;
    }

    static constexpr float two_23 = 8388608.0f;
    static Floats bias(Floats zero_point) {
        return V::add(zero_point, V::broadcast_float(two_23 + (InputSigned ? 128.0f : 0.0f)));
    }

    typename V::ToWords to_words_;
    Bytes lowest_;
};

}  // namespace
}  // namespace bytenorm
