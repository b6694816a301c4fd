#include "exact_fold.hpp"

#include <algorithm>
#include <cmath>

namespace bytenorm {
namespace {

constexpr int64_t padding = 32;  // kernels load parameters for whole vectors

}  // namespace

ExactFold::ExactFold(const NormParameters& norm, const TensorQuantization& a, const TensorQuantization& b,
                     const Conversion& conversion)
    : channels_(norm.channels),
      slope_a_(aligned_array<float>(norm.channels + padding)),
      slope_b_(aligned_array<float>(norm.channels + padding)),
      intercept_(aligned_array<float>(norm.channels + padding)),
      offset_(aligned_array<float>(norm.channels + padding)),
      limit_(aligned_array<float>(norm.channels + padding)),
      zero_point_a_(static_cast<int32_t>(a.zero_point)),
      zero_point_b_(static_cast<int32_t>(b.zero_point)),
      conversion_(conversion) {
    const Folded of_a(norm, {a.scale, a.zero_point, nullptr, nullptr}, conversion);
    const Folded of_b(norm, {b.scale, b.zero_point, nullptr, nullptr}, conversion);
    finite_ = of_a.finite() && of_b.finite();
    std::copy_n(of_a.real().slope, channels_, slope_a_.get());
    std::copy_n(of_b.real().slope, channels_, slope_b_.get());
    std::copy_n(of_a.real().intercept, channels_, intercept_.get());
    for (int64_t c = 0; c < channels_; ++c) {
        const double p = slope_a_[c], q = slope_b_[c];
        const double offset =
            intercept_[c] - p * static_cast<double>(a.zero_point) - q * static_cast<double>(b.zero_point);
        // float32 computes slope_a * a + (slope_b * b + offset) in two fmas. Three roundings, that of the offset
        // among them, are of numbers no larger than `most`: half a last bit each, 2^-24 of it. The quarter more is
        // for what doubles lose.
        const double most = 255.0 * (std::abs(p) + std::abs(q)) + std::abs(offset);
        const double error = most * 3.25 / 16777216.0;
        offset_[c] = static_cast<float>(offset);
        limit_[c] = error < 0.25 ? static_cast<float>(0.5 - error - 1.0 / 16777216.0) : -1.0f;
    }
}

void ExactFold::fill(ExactSum& run, int64_t channel) const {
    run.slope_a = slope_a_.get() + channel, run.slope_b = slope_b_.get() + channel;
    run.intercept = intercept_.get() + channel;
    run.offset = offset_.get() + channel, run.limit = limit_.get() + channel;
    run.zero_point_a = zero_point_a_, run.zero_point_b = zero_point_b_;
    run.conversion = conversion_;
}

}  // namespace bytenorm
