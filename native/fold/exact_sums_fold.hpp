// The fold of a norm whose input is the sum of any number of tensors, each in its own quantization, cut off
// between two limits.
#pragma once

#include <vector>

#include "exact_fold.hpp"

namespace bytenorm {

// Numbers that an activation cuts a sum off at; infinite where it does not.
struct Limits {
    float floor, ceiling;
};

// A slope for each summand, as if it were the norm's only input, one intercept, and what the limits become.
class ExactSumsFold {
  public:
    // `conversion.input_signed` holds for all summands.
    ExactSumsFold(const NormParameters& norm, const std::vector<TensorQuantization>& summands,
                  const Limits& limits, const Conversion& conversion);

    int64_t channels() const { return channels_; }

    // Gives a kernel the parameters of all channels, and how many summands there are.
    void fill(ExactSums& run) const;

  private:
    void limit(const NormParameters& norm, float number, bool is_floor, const Conversion& conversion);

    int64_t channels_;
    std::vector<AlignedArray<float>> slopes_;
    std::vector<const float*> slope_of_;  // each of these
    std::vector<int32_t> zero_points_;
    AlignedArray<float> intercept_;
    AlignedArray<double> lowest_, highest_;
    Conversion conversion_;
};

}  // namespace bytenorm
