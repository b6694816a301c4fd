#include "exact_fold.hpp"

#include <algorithm>

#include "exact_fit.hpp"

namespace bytenorm {

ExactFold::ExactFold(const NormParameters& norm, const TensorQuantization& a, const TensorQuantization& b,
                     const Conversion& conversion)
    : channels_(norm.channels),
      slope_a_(aligned_array<float>(norm.channels)),
      slope_b_(aligned_array<float>(norm.channels)),
      intercept_(aligned_array<float>(norm.channels)),
      zero_point_a_(static_cast<int32_t>(a.zero_point)),
      zero_point_b_(static_cast<int32_t>(b.zero_point)),
      conversion_(conversion),
      kernels_(kernels()),
      arithmetic_(kernels_.get<ExactSum>(Arithmetic::integer32) ? Arithmetic::integer32 : Arithmetic::fp64) {
    const Folded of_a(norm, {a.scale, a.zero_point, nullptr, nullptr}, conversion);
    const Folded of_b(norm, {b.scale, b.zero_point, nullptr, nullptr}, conversion);
    finite_ = of_a.finite() && of_b.finite();
    std::copy_n(of_a.real().slope, channels_, slope_a_.get());
    std::copy_n(of_b.real().slope, channels_, slope_b_.get());
    std::copy_n(of_a.real().intercept, channels_, intercept_.get());
    if (arithmetic_ == Arithmetic::integer32)
        blocks_ = fit_exact_blocks(
            kernel().width(), channels_,
            {slope_a_.get(), slope_b_.get(), intercept_.get(), zero_point_a_, zero_point_b_}, conversion_);
}

void ExactFold::fill(ExactSum& run, int64_t channel) const {
    run.slope_a = slope_a_.get() + channel, run.slope_b = slope_b_.get() + channel;
    run.intercept = intercept_.get() + channel;
    run.zero_point_a = zero_point_a_, run.zero_point_b = zero_point_b_;
    run.blocks = blocks_.get(), run.channel = channel;
    run.conversion = conversion_;
}

}  // namespace bytenorm
