// The inputs that say how a norm maps codes: checked and folded. Whatever is wrong with them is a Refusal.
#pragma once

#include <memory>

#include "../batch_norm/fold.hpp"
#include "abi.hpp"
#include "tensor.hpp"

namespace bytenorm::ort {

// Named and ordered as the operator QLinearBatchNormalization has them.
enum NormInput : size_t { X, x_scale, x_zero_point, scale, B, input_mean, input_var, y_scale, y_zero_point };
constexpr size_t norm_inputs = 9;
constexpr const char* norm_input_names[norm_inputs] = {
    "X", "x_scale", "x_zero_point", "scale", "B", "input_mean", "input_var", "y_scale", "y_zero_point"};

struct NormAttributes {
    float epsilon;
    bool channels_last, relu;

    NormAttributes(const OrtApi* api, const OrtKernelInfo* info);
};

// The axis of the channels; refuses fewer than 2 dimensions.
int channel_axis(const Shape& x, const NormAttributes& attributes);

// All but X, as far as they are known.
struct NormInputs {
    Tensor tensors[norm_inputs];
    bool input_signed, output_signed;

    bool complete() const;
    void check(const NormAttributes& attributes, const Shape& x) const;  // x.ndim 0: X's shape is not known yet

    // Complete and checked ones; refuses a result that is not finite.
    std::unique_ptr<Folded> fold(const NormAttributes& attributes) const;
};

}  // namespace bytenorm::ort
