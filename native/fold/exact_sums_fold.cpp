#include "exact_sums_fold.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bytenorm {

ExactSumsFold::ExactSumsFold(const NormParameters& norm, const std::vector<TensorQuantization>& summands,
                             const Limits& limits, const Conversion& conversion)
    : channels_(norm.channels),
      intercept_(aligned_array<float>(norm.channels)),
      lowest_(aligned_array<double>(norm.channels)),
      highest_(aligned_array<double>(norm.channels)),
      conversion_(conversion) {
    for (const TensorQuantization& q : summands) {
        const Folded folded(norm, {q.scale, q.zero_point, nullptr, nullptr}, conversion);
        slopes_.push_back(aligned_array<float>(channels_));
        std::copy_n(folded.real().slope, channels_, slopes_.back().get());
        std::copy_n(folded.real().intercept, channels_, intercept_.get());
        slope_of_.push_back(slopes_.back().get());
        zero_points_.push_back(static_cast<int32_t>(q.zero_point));
    }
    std::fill_n(lowest_.get(), channels_, -std::numeric_limits<double>::infinity());
    std::fill_n(highest_.get(), channels_, std::numeric_limits<double>::infinity());
    if (std::isfinite(limits.floor)) limit(norm, limits.floor, true, conversion);
    if (std::isfinite(limits.ceiling)) limit(norm, limits.ceiling, false, conversion);
}

// A limit of the sum is the norm of that number. A channel of negative weight turns it round.
void ExactSumsFold::limit(const NormParameters& norm, float number, bool is_floor, const Conversion& conversion) {
    const Folded folded(norm, {static_cast<double>(number), 0, nullptr, nullptr}, conversion);
    for (int64_t c = 0; c < channels_; ++c) {
        const double bound = static_cast<double>(folded.real().slope[c]) + static_cast<double>(intercept_[c]);
        const bool negative = norm.weight && norm.weight[c] < 0.0f;
        (is_floor != negative ? lowest_ : highest_)[static_cast<size_t>(c)] = bound;
    }
}

void ExactSumsFold::fill(ExactSums& run) const {
    run.summands = static_cast<int64_t>(slope_of_.size());
    run.slopes = slope_of_.data(), run.zero_points = zero_points_.data();
    run.intercept = intercept_.get();
    run.lowest = lowest_.get(), run.highest = highest_.get();
    run.conversion = conversion_;
}

}  // namespace bytenorm
