#include "fold.hpp"

#include <algorithm>
#include <cmath>

#include "integer32_fit.hpp"
#include "kernels/dispatch.hpp"

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

void Folded::prepare_table() {
    if (table_) return;
    auto table = aligned_array<uint8_t>(256 * channels_);
    uint8_t bytes[256];  // the map of a channel is the norm of all 256 bytes
    for (int i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i);
    Planes p{};
    p.x = bytes, p.y = table.get();
    p.count = channels_, p.length = 256;
    p.x_stride = 0, p.y_stride = 256, p.channel_step = 1, p.images = 1;
    p.real = real(), p.conversion = conversion_;
    kernels().planes_fp32(p);
    table_ = std::move(table);
}

void Folded::prepare_integer() {
    if (proved_) return;
    auto multiplier = aligned_array<int32_t>(channels_), addend = aligned_array<int32_t>(channels_),
         shift = aligned_array<int32_t>(channels_);
    auto proved = aligned_array<bool>(channels_);
    uint8_t bytes[256], wanted[256];
    for (int i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i ^ (conversion_.input_signed ? 128 : 0));
    for (int64_t c = 0; c < channels_; ++c) {
        Planes p{};
        p.x = bytes, p.y = wanted;
        p.count = 1, p.length = 256, p.images = 1;
        p.real = {slope_.get() + c, intercept_.get() + c, zero_point_.get() + c};
        p.conversion = conversion_;
        kernels().planes_fp32(p);
        const IntegerFit fit = fit_integer(slope_[c], intercept_[c], zero_point_[c], conversion_, wanted);
        multiplier[c] = fit.multiplier, addend[c] = fit.addend, shift[c] = fit.shift;
        proved[c] = fit.proved;
    }
    multiplier_ = std::move(multiplier), addend_ = std::move(addend), shift_ = std::move(shift);
    proved_ = std::move(proved);
}

void Folded::prepare_rows(bool integer) {
    if (integer) prepare_integer();
    if (!rows_[integer]) rows_[integer] = std::make_unique<PackedRows>(pack(channels_, integer));
}

PackedRows Folded::pack(int64_t lanes, bool integer) const {
    PackedRows packed{};
    packed.kernels = &kernels();
    const int width = packed.kernels->rows_integer_width;
    if (integer) {
        if (width == 64)
            packed.wide = pack_integer<64>(lanes, channels_, this->integer());
        else
            packed.narrow = pack_integer<32>(lanes, channels_, this->integer());
        // A block walks in integers only if each of its channels is proved.
        for (int64_t start = 0; start < lanes; start += width) {
            const int64_t end = std::min(start + width, lanes);
            bool all = true;
            for (int64_t lane = start; lane < end; ++lane) all = all && proved(lane % channels_);
            if (!packed.runs.empty() && packed.runs.back().integer == all)
                packed.runs.back().lanes += end - start;
            else
                packed.runs.push_back({start, end - start, all});
        }
    } else {
        packed.runs.push_back({0, lanes, false});
    }
    for (const RowRun& run : packed.runs) {
        if (run.integer || packed.real) continue;
        packed.real = pack_real<32>(lanes, channels_, real());
    }
    return packed;
}

}  // namespace bytenorm
