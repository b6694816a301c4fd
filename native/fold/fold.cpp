#include "fold.hpp"

#include <algorithm>
#include <cmath>

#include "integer32_fit.hpp"
#include "words16_fit.hpp"

namespace bytenorm {

// One float32 rounding an operation, scales in double; this file is compiled without contraction to fma.
// Witness for the order of (mean * inv) * weight: mean 0.1, inv 0.1, weight 0.9 differs in the last bit from
// mean * (inv * weight). Folding entirely in double misses torch in 22 of 24 million elements.
Folded::Folded(const NormParameters& norm, const InputQuantization& input, const Conversion& conversion)
    : channels_(norm.channels), conversion_(conversion) {
    allocate();
    for (int64_t c = 0; c < channels_; ++c) {
        const float inv = 1.0f / std::sqrt(norm.var[c] + norm.eps);
        const float weight = norm.weight ? norm.weight[c] : 1.0f;
        const float bias = norm.bias ? norm.bias[c] : 0.0f;
        const float gain = inv * weight;
        const float mean_term = (norm.mean[c] * inv) * weight;
        const float constant = bias - mean_term;
        slope_[c] = static_cast<float>(static_cast<double>(gain) * (input.scale_of(c) / norm.output_scale));
        intercept_[c] = static_cast<float>(static_cast<double>(constant) / norm.output_scale);
        zero_point_[c] = static_cast<float>(input.zero_point_of(c));
    }
}

// rint(f32((q - zero_point) * m)): a product rounded once is fma(m, q - zero_point, 0).
Folded::Folded(int64_t channels, const InputQuantization& input, double output_scale, const Conversion& conversion)
    : channels_(channels), conversion_(conversion) {
    allocate();
    for (int64_t c = 0; c < channels_; ++c) {
        slope_[c] = static_cast<float>(input.scale_of(c) / output_scale);
        zero_point_[c] = static_cast<float>(input.zero_point_of(c));
    }
}

void Folded::allocate() {
    slope_ = aligned_array<float>(channels_);
    intercept_ = aligned_array<float>(channels_);
    zero_point_ = aligned_array<float>(channels_);
}

bool Folded::finite() const {
    float check = 0.0f;  // stays 0 unless something is infinite or NaN: 0 * inf is NaN
    for (int64_t c = 0; c < channels_; ++c) check += slope_[c] * 0.0f + intercept_[c] * 0.0f;
    return check == 0.0f;
}

void Folded::prepare(Arithmetic arithmetic) {
    if (arithmetic == Arithmetic::table) prepare_table();
    if (arithmetic == Arithmetic::words16) prepare_words16();
}

void Folded::prepare_rows(Arithmetic arithmetic, int64_t lanes) {
    prepare(arithmetic);
    auto& rows = rows_[static_cast<int>(arithmetic)];
    if (!rows) rows = std::make_unique<PackedRows>(pack(channels_, arithmetic));
    auto& side_by_side = side_by_side_[static_cast<int>(arithmetic)];
    if (!side_by_side && lanes > 0) side_by_side = std::make_unique<PackedRows>(pack(lanes, arithmetic));
}

ChannelParams Folded::from(int64_t channel, Arithmetic arithmetic) const {
    ChannelParams p{};
    if (arithmetic == Arithmetic::fp32)
        p.real = {slope_.get() + channel, intercept_.get() + channel, zero_point_.get() + channel};
    if (arithmetic == Arithmetic::table) p.table = table(channel);
    if (arithmetic == Arithmetic::integer32)
        p.integer = {multiplier_.get() + channel, addend_.get() + channel, shift_.get() + channel};
    if (arithmetic == Arithmetic::words16)
        p.words = {word_multiplier_.get() + channel, word_addend_.get() + channel, word_shift_.get() + channel,
                   word_fine_.get() + channel};
    return p;
}

void Folded::prepare_table() {
    if (table_) return;
    auto table = aligned_array<uint8_t>(256 * channels_);
    uint8_t bytes[256];  // the map of a channel is the norm of all 256 bytes
    for (int i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i);
    Planes p{};
    p.x = bytes, p.y = table.get();
    p.count = channels_, p.length = 256;
    p.x_stride = 0, p.y_stride = 256, p.channel_step = 1, p.images = 1;
    p.params.real = real(), p.conversion = conversion_;
    kernel<Planes>(Arithmetic::fp32)(p);
    table_ = std::move(table);
}

// The codes of all inputs of a channel, from the smallest input on.
void Folded::codes(int64_t channel, uint8_t wanted[256]) const {
    uint8_t bytes[256];
    for (int i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i ^ (conversion_.input_signed ? 128 : 0));
    Planes p{};
    p.x = bytes, p.y = wanted;
    p.count = 1, p.length = 256, p.images = 1;
    p.params = from(channel, Arithmetic::fp32), p.conversion = conversion_;
    kernel<Planes>(Arithmetic::fp32)(p);
}

void Folded::prepare_words16() {
    if (words16_proved_) return;
    auto multiplier = aligned_array<int16_t>(channels_), addend = aligned_array<int16_t>(channels_);
    auto shift = aligned_array<uint8_t>(channels_), fine = aligned_array<uint8_t>(channels_);
    auto proved = aligned_array<bool>(channels_);
    bool all = true;
    uint8_t wanted[256];
    for (int64_t c = 0; c < channels_; ++c) {
        codes(c, wanted);
        const Words16Fit fit = fit_words16(slope_[c], intercept_[c], zero_point_[c], conversion_, wanted);
        multiplier[c] = fit.multiplier, addend[c] = fit.addend, shift[c] = fit.shift, fine[c] = fit.fine;
        proved[c] = fit.proved, all = all && fit.proved;
    }
    if (!all) prepare_integer32(proved.get());
    word_multiplier_ = std::move(multiplier), word_addend_ = std::move(addend);
    word_shift_ = std::move(shift), word_fine_ = std::move(fine);
    words16_proved_ = std::move(proved), all_words16_ = all;
}

// What is behind words for the channels that they are not proved for, and for those that may share a block with
// one: 64 lanes at most. They begin anywhere where pixels of few channels lie side by side.
void Folded::prepare_integer32(const bool* in_words) {
    auto multiplier = aligned_array<int32_t>(channels_), addend = aligned_array<int32_t>(channels_),
         shift = aligned_array<int32_t>(channels_);
    auto proved = aligned_array<bool>(channels_);
    const int64_t block = channels_ % 64 == 0 ? 64 : channels_;
    uint8_t wanted[256];
    for (int64_t start = 0; start < channels_; start += block) {
        if (std::all_of(in_words + start, in_words + start + block, [](bool found) { return found; })) continue;
        for (int64_t c = start; c < start + block; ++c) {
            codes(c, wanted);
            const IntegerFit fit = fit_integer(slope_[c], intercept_[c], zero_point_[c], conversion_, wanted);
            multiplier[c] = fit.multiplier, addend[c] = fit.addend, shift[c] = fit.shift;
            proved[c] = fit.proved;
        }
    }
    multiplier_ = std::move(multiplier), addend_ = std::move(addend), shift_ = std::move(shift);
    integer32_proved_ = std::move(proved);
}

// A block is computed by the first arithmetic that all of its channels are proved for.
PackedRows Folded::pack(int64_t lanes, Arithmetic wanted) const {
    PackedRows packed{};
    packed.kernels = &kernels();
    packed.lanes = lanes;
    const int width = packed.kernels->get<Rows>(wanted).width();
    const auto all_proved = [&](Arithmetic arithmetic, int64_t start, int64_t end) {
        if (proves_all(arithmetic)) return true;
        for (int64_t lane = start; lane < end; ++lane)
            if (!proves(arithmetic, lane % channels_)) return false;
        return true;
    };
    for (int64_t start = 0; start < lanes; start += width) {
        const int64_t end = std::min(start + width, lanes);
        Arithmetic arithmetic = wanted;
        while (!all_proved(arithmetic, start, end)) arithmetic = behind(arithmetic);
        if (!packed.runs.empty() && packed.runs.back().arithmetic == arithmetic)
            packed.runs.back().lanes += end - start;
        else
            packed.runs.push_back({start, end - start, arithmetic});
    }
    for (const RowRun& run : packed.runs) {
        auto& blocks = packed.blocks[static_cast<int>(run.arithmetic)];
        const int of = packed.kernels->get<Rows>(run.arithmetic).width();
        if (!blocks) blocks = pack_blocks(run.arithmetic, of, lanes, channels_, from(0, run.arithmetic));
    }
    return packed;
}

}  // namespace bytenorm
