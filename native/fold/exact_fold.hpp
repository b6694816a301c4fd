// The fold of a norm whose input is the sum of two tensors, each in its own quantization.
#pragma once

#include "fold.hpp"
#include "kernels/dispatch.hpp"

namespace bytenorm {

// One scale and zero point.
struct TensorQuantization {
    double scale;
    int64_t zero_point;

    bool operator==(const TensorQuantization& other) const {
        return scale == other.scale && zero_point == other.zero_point;
    }
};

// A slope for each summand, as if it were the norm's only input, and one intercept.
class ExactFold {
  public:
    // `conversion.input_signed` holds for both.
    ExactFold(const NormParameters& norm, const TensorQuantization& a, const TensorQuantization& b,
              const Conversion& conversion);

    int64_t channels() const { return channels_; }
    bool finite() const { return finite_; }  // every slope and intercept is

    // In integers where there is a kernel for these.
    const Kernel<ExactSum>& kernel() const { return kernels_.get<ExactSum>(arithmetic_); }

    // Gives the kernels the parameters from `channel` on.
    void fill(ExactSum& run, int64_t channel) const;

  private:
    int64_t channels_;
    bool finite_;
    AlignedArray<float> slope_a_, slope_b_, intercept_;
    int32_t zero_point_a_, zero_point_b_;
    Conversion conversion_;
    const KernelTable& kernels_;  // for these `blocks_` are made: another set has other widths
    Arithmetic arithmetic_;
    AlignedArray<uint8_t> blocks_;  // ExactBlocks, unless the arithmetic is fp64
};

}  // namespace bytenorm
