// The fold of a norm whose input is the sum of two tensors, each in its own quantization.
#pragma once

#include "fold.hpp"

namespace bytenorm {

// One scale and zero point.
struct TensorQuantization {
    double scale;
    int64_t zero_point;

    bool operator==(const TensorQuantization& other) const {
        return scale == other.scale && zero_point == other.zero_point;
    }
};

// A slope for each summand, as if it were the norm's only input, and one intercept. `input_signed` holds for both.
class ExactFold {
  public:
    ExactFold(const NormParameters& norm, const TensorQuantization& a, const TensorQuantization& b,
              const Conversion& conversion)
        : a_(norm, {a.scale, a.zero_point, nullptr, nullptr}, conversion),
          b_(norm, {b.scale, b.zero_point, nullptr, nullptr}, conversion),
          zero_point_a_(static_cast<int32_t>(a.zero_point)),
          zero_point_b_(static_cast<int32_t>(b.zero_point)) {}

    int64_t channels() const { return a_.channels(); }
    bool finite() const { return a_.finite() && b_.finite(); }

    // The parameters of a kernel from `channel` on.
    void fill(ExactSum& run, int64_t channel) const {
        run.slope_a = a_.real().slope + channel, run.slope_b = b_.real().slope + channel;
        run.intercept = a_.real().intercept + channel;
        run.zero_point_a = zero_point_a_, run.zero_point_b = zero_point_b_;
        run.conversion = a_.conversion();
    }

  private:
    Folded a_, b_;
    int32_t zero_point_a_, zero_point_b_;
};

}  // namespace bytenorm
