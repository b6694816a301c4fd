// A channel in 16-bit words, 10 operations for a vector of bytes, 9 where the input is signed. words16_fit.hpp
// says how, finds the four numbers, and proves that they give the fp32 result for all 256 inputs.
#pragma once

#include "kernels/structs.hpp"

namespace bytenorm {
namespace {

template <class V, bool InputSigned, bool OutputSigned, bool Relu>
class Words16 {
    using Bytes = typename V::Bytes;
    using Words = typename V::Bytes;

  public:
    using Vector = V;
    using Block = WordBlock<V::width>;
    struct Params {
        Words multiplier[2], addend[2], count[2];  // of the bytes in the lower and the upper half of 128 bits
        Bytes fine;
    };

    explicit Words16(const Conversion& c) : lowest_(V::broadcast8(c.output_zero_point)) {}

    static Params load(const Block& block) {
        Params p;
        for (int h = 0; h < 2; ++h) {
            p.multiplier[h] = V::load_words(block.multiplier + h * V::width / 2);
            p.addend[h] = V::load_words(block.addend + h * V::width / 2);
            p.count[h] = V::load_words(block.count + h * V::width / 2);
        }
        p.fine = V::load(block.fine);
        return p;
    }
    static Params broadcast(const ChannelParams& of, int64_t channel) {
        const Words multiplier = V::broadcast16(of.words.multiplier[channel]);
        const Words addend = V::broadcast16(of.words.addend[channel]);
        const Words count = V::broadcast16(word_count(V::width, of.words.shift[channel]));
        return {{multiplier, multiplier}, {addend, addend}, {count, count}, V::broadcast8(of.words.fine[channel])};
    }

    template <int N>
    BYTENORM_INLINE void apply(Bytes (&x)[N], const Params& p) const {
        for (int i = 0; i < N; ++i) {
            if (!InputSigned) x[i] = V::bit_xor(x[i], V::broadcast8(0x80));
            const Words low = half(V::interleave_low(p.fine, x[i]), p, 0);
            const Words high = half(V::interleave_high(p.fine, x[i]), p, 1);
            x[i] = V::template pack_words<OutputSigned>(low, high);
            if (Relu) x[i] = V::template max<OutputSigned>(x[i], lowest_);
        }
    }

  private:
    BYTENORM_INLINE static Words half(Words words, const Params& p, int h) {
        const Words product = V::multiply_round(words, p.multiplier[h]);
        return V::shift_words(V::add_words(product, p.addend[h]), p.count[h]);
    }

    Bytes lowest_;
};

}  // namespace
}  // namespace bytenorm
