#include "fitted.hpp"

#include <algorithm>
#include <cstring>

#include "integer32_fit.hpp"
#include "kernels/dispatch.hpp"
#include "words16_fit.hpp"

namespace bytenorm {
namespace {

static_assert(sizeof(ParamBlock<32>) == 3 * 32 * sizeof(int32_t));
static_assert(sizeof(WordBlock<32>) == 7 * 32);

// Which lanes there are.
struct Lanes {
    int width;
    int64_t lanes, channels, length;
};

// Calls body(block, lane in it, channel) for all lanes, a block being `size` numbers of type T. In a last block
// that leaves half empty they are there twice, for two pixels.
template <class T, class F>
void for_each_lane(uint8_t* blocks, int size, const Lanes& of, F&& body) {
    auto* block = reinterpret_cast<T*>(blocks);
    int64_t c = 0, inside = 0;
    for (int64_t start = 0; start < of.lanes; start += of.width, block += size) {
        const int64_t first = c;
        const int n = static_cast<int>(std::min<int64_t>(of.width, of.lanes - start));
        for (int lane = 0; lane < n; ++lane) {
            body(block, lane, c);
            if (++inside < of.length) continue;
            inside = 0;
            if (++c == of.channels) c = 0;
        }
        if (2 * n > of.width || of.length > 1) continue;
        for (int lane = 0; lane < n; ++lane) body(block, n + lane, (first + lane) % of.channels);
    }
}

void pack_real(uint8_t* blocks, const Lanes& of, const FloatParams& p) {
    for_each_lane<int32_t>(blocks, 3 * of.width, of, [&](int32_t* block, int lane, int64_t c) {
        int32_t* slot = block + real_slot(of.width, lane);
        std::memcpy(slot, p.slope + c, 4);
        std::memcpy(slot + of.width, p.intercept + c, 4);
        std::memcpy(slot + 2 * of.width, p.zero_point + c, 4);
    });
}

void pack_integer(uint8_t* blocks, const Lanes& of, const IntegerParams& p) {
    for_each_lane<int32_t>(blocks, 3 * of.width, of, [&](int32_t* block, int lane, int64_t c) {
        int32_t* slot = block + integer_slot(of.width, lane);
        slot[0] = integer_factor(lane, p.multiplier[c]);
        slot[of.width] = p.addend[c];
        slot[2 * of.width] = integer_count(lane, p.shift[c]);
    });
}

void pack_words(uint8_t* blocks, const Lanes& of, const WordParams& p) {
    for_each_lane<uint8_t>(blocks, 7 * of.width, of, [&](uint8_t* block, int lane, int64_t c) {
        int16_t* slot = reinterpret_cast<int16_t*>(block) + word_slot(of.width, lane);
        slot[0] = p.multiplier[c];
        slot[of.width] = p.addend[c];
        slot[2 * of.width] = word_count(of.width, p.shift[c]);
        block[6 * of.width + lane] = p.fine[c];
    });
}

}  // namespace

Fitted::Fitted(int64_t channels, const Conversion& conversion)
    : channels_(channels),
      conversion_(conversion),
      slope_(aligned_array<float>(channels)),
      intercept_(aligned_array<float>(channels)),
      zero_point_(aligned_array<float>(channels)) {}

ChannelParams Fitted::from(int64_t channel, Arithmetic arithmetic) const {
    ChannelParams p{};
    if (arithmetic == Arithmetic::fp32)
        p.real = {slope_.get() + channel, intercept_.get() + channel, zero_point_.get() + channel};
    if (arithmetic == Arithmetic::table) p.table = params_.table + 256 * channel;
    if (arithmetic == Arithmetic::integer32) {
        const IntegerParams& all = params_.integer;
        p.integer = {all.multiplier + channel, all.addend + channel, all.shift + channel};
    }
    if (arithmetic == Arithmetic::words16) {
        const WordParams& all = params_.words;
        p.words = {all.multiplier + channel, all.addend + channel, all.shift + channel, all.fine + channel};
    }
    return p;
}

// Finds the parameters of one arithmetic each.
struct Fitted::Finder {
    Fitted& f;

    // What `count` channels make of all 256 bytes, 0 or the sign bit before the others.
    void map(int64_t channel, int64_t count, uint8_t first, uint8_t* maps) const {
        uint8_t bytes[256];
        for (int i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i ^ first);
        Planes p{};
        p.x = bytes, p.y = maps;
        p.count = count, p.length = 256;
        p.x_stride = 0, p.y_stride = 256, p.channel_step = 1, p.images = 1;
        p.params = f.from(channel, Arithmetic::fp32), p.conversion = f.conversion_;
        kernel<Planes>(Arithmetic::fp32)(p);
    }

    // The codes of all inputs of a channel, from the smallest input on.
    void codes(int64_t channel, uint8_t wanted[256]) const {
        map(channel, 1, f.conversion_.input_signed ? 128 : 0, wanted);
    }

    void table() {
        if (f.params_.table) return;
        auto table = aligned_array<uint8_t>(256 * f.channels_);
        map(0, f.channels_, 0, table.get());
        f.memory_.push_back(std::move(table));
        f.params_.table = f.memory_.back().get();
    }

    void words16() {
        auto& kept = f.proved_[static_cast<int>(Arithmetic::words16)];
        if (kept) return;
        auto proved = aligned_array<bool>(f.channels_);
        bool all = true;
        int16_t *multiplier = f.room<int16_t>(), *addend = f.room<int16_t>();
        uint8_t *shift = f.room<uint8_t>(), *fine = f.room<uint8_t>();
        uint8_t wanted[256];
        for (int64_t c = 0; c < f.channels_; ++c) {
            codes(c, wanted);
            const Words16Fit fit =
                fit_words16(f.slope_[c], f.intercept_[c], f.zero_point_[c], f.conversion_, wanted);
            multiplier[c] = fit.multiplier, addend[c] = fit.addend, shift[c] = fit.shift, fine[c] = fit.fine;
            proved[c] = fit.proved, all = all && fit.proved;
        }
        if (!all) integer32(proved.get());
        f.params_.words = {multiplier, addend, shift, fine};
        f.all_[static_cast<int>(Arithmetic::words16)] = all;
        kept = std::move(proved);
    }

    // What is behind words for the channels that they are not proved for, and for those that may share a block
    // with one: 64 lanes at most. They begin anywhere where pixels of few channels lie side by side. A set without
    // such kernels proves none.
    void integer32(const bool* in_words) {
        auto& kept = f.proved_[static_cast<int>(Arithmetic::integer32)];
        if (kept) return;
        auto proved = aligned_array<bool>(f.channels_);
        if (!kernel<Rows>(Arithmetic::integer32)) {
            kept = std::move(proved);
            return;
        }
        int32_t *multiplier = f.room<int32_t>(), *addend = f.room<int32_t>(), *shift = f.room<int32_t>();
        const int64_t block = f.channels_ % 64 == 0 ? 64 : f.channels_;
        uint8_t wanted[256];
        for (int64_t start = 0; start < f.channels_; start += block) {
            if (std::all_of(in_words + start, in_words + start + block, [](bool found) { return found; }))
                continue;
            for (int64_t c = start; c < start + block; ++c) {
                codes(c, wanted);
                const IntegerFit fit =
                    fit_integer(f.slope_[c], f.intercept_[c], f.zero_point_[c], f.conversion_, wanted);
                multiplier[c] = fit.multiplier, addend[c] = fit.addend, shift[c] = fit.shift;
                proved[c] = fit.proved;
            }
        }
        f.params_.integer = {multiplier, addend, shift};
        kept = std::move(proved);
    }
};

void Fitted::prepare(Arithmetic arithmetic) {
    Finder find{*this};
    if (arithmetic == Arithmetic::table) find.table();
    if (arithmetic == Arithmetic::words16) find.words16();
    if (arithmetic == Arithmetic::integer32) find.integer32(aligned_array<bool>(channels_).get());
}

int64_t block_bytes(Arithmetic arithmetic, int width) {
    return (arithmetic == Arithmetic::words16 ? 7 : 12) * width;
}

AlignedArray<uint8_t> pack_blocks(Arithmetic arithmetic, int width, int64_t lanes, int64_t channels,
                                  const ChannelParams& params, int64_t length) {
    auto blocks = aligned_array<uint8_t>((lanes + width - 1) / width * block_bytes(arithmetic, width));
    const Lanes of{width, lanes, channels, length};
    if (arithmetic == Arithmetic::words16)
        pack_words(blocks.get(), of, params.words);
    else if (arithmetic == Arithmetic::integer32)
        pack_integer(blocks.get(), of, params.integer);
    else
        pack_real(blocks.get(), of, params.real);
    return blocks;
}

}  // namespace bytenorm
