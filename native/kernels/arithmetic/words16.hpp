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
    static constexpr bool abreast = V::width == 32;  // several pixels: loops/rows.hpp
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

    // Of a vector over planes of `length` bytes that touch: it begins `inside` the plane of `channel`, the first
    // of `channels`, and is in eight planes at most.
    static constexpr bool spreads = V::width == 64;  // below, it is slower: docs/kernels-layouts.md
    static Params spread(const ChannelParams& of, int64_t channel, int64_t channels, int64_t inside,
                         int64_t length) {
        Bytes which = V::broadcast8(0);  // channel of each byte, counted from the first
        for (int64_t next = length - inside; next < V::width; next += length)
            which = V::subtract(which, V::bit_not(V::first_bytes(next)));
        const Bytes twice = V::add_words(which, which), behind = V::bit_or(twice, V::broadcast8(1));
        const Bytes index[2] = {V::interleave_low(twice, behind), V::interleave_high(twice, behind)};
        const WordParams& p = of.words;
        if (channels >= 16)
            return spread(p.multiplier + channel, p.addend + channel, p.shift + channel, p.fine + channel, which,
                          index);
        int16_t multiplier[8] = {}, addend[8] = {};
        uint8_t shift[16] = {}, fine[16] = {};
        for (int64_t c = 0; c < channels && c < 8; ++c) {
            multiplier[c] = p.multiplier[channel + c], addend[c] = p.addend[channel + c];
            shift[c] = p.shift[channel + c], fine[c] = p.fine[channel + c];
        }
        return spread(multiplier, addend, shift, fine, which, index);
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
    // From tables of 16 bytes.
    BYTENORM_INLINE static Params spread(const int16_t* multiplier, const int16_t* addend, const uint8_t* shift,
                                         const uint8_t* fine, Bytes which, const Bytes (&index)[2]) {
        const Bytes multipliers = V::repeat16(multiplier), addends = V::repeat16(addend);
        const Bytes shifts = V::look_up(V::repeat16(shift), which);
        return {{V::look_up(multipliers, index[0]), V::look_up(multipliers, index[1])},
                {V::look_up(addends, index[0]), V::look_up(addends, index[1])},
                {V::word_counts_low(shifts), V::word_counts_high(shifts)},
                V::look_up(V::repeat16(fine), which)};
    }

    BYTENORM_INLINE static Words half(Words words, const Params& p, int h) {
        const Words product = V::multiply_round(words, p.multiplier[h]);
        return V::shift_words(V::add_words(product, p.addend[h]), p.count[h]);
    }

    Bytes lowest_;
};

}  // namespace
}  // namespace bytenorm
