// The inputs that say how a norm maps codes: checked and folded. Whatever is wrong with them is a Refusal.
#pragma once

#include <memory>
#include <string>

#include "abi.hpp"
#include "fold/fold.hpp"
#include "tensor.hpp"

namespace bytenorm::ort {

struct NormAttributes {
    float epsilon;
    bool channels_last, relu;

    NormAttributes(const OrtApi* api, const OrtKernelInfo* info);
};

// The axis of the channels; refuses fewer than 2 dimensions. `name` is the input's.
int channel_axis(const std::string& name, const Shape& x, const NormAttributes& attributes);

// How many channels there are, as the first that knows says.
class Channels {
  public:
    void from(int64_t count, std::string source);  // "X of shape [2, 3] has 3 channels on axis 1"
    void from(const std::string& name, const Shape& x, const NormAttributes& attributes);  // if x is known
    void agree(const Tensor& parameter);

  private:
    int64_t count_ = -1;
    std::string source_;
};

// The step and the code of 0 of a quantized tensor. Checks look at what is known.
struct Quantization {
    Tensor scale, zero_point;

    bool complete() const { return scale.known && zero_point.known; }
    void check() const;                    // one value each
    void check(Channels& channels) const;  // one value, or one a channel
};
void check_scales(const Tensor& scales);
int64_t code_of(const Tensor& codes, int64_t at, bool is_signed);

// Batch norm's four parameters and the quantization of what it makes.
struct NormInputs {
    Tensor scale, B, input_mean, input_var;
    Quantization y;

    NormInputs(const Inputs& inputs, size_t parameters, size_t y_scale);  // the places of the first ones
    bool complete() const;
    void check(const NormAttributes& attributes, Channels& channels) const;

    // Those of complete ones.
    NormParameters parameters(const NormAttributes& attributes) const;
    Conversion conversion(const NormAttributes& attributes, bool input_signed, bool output_signed) const;

    // Complete and checked ones; refuses a result that is not finite. `x_scale` is the name of the input's step.
    std::unique_ptr<Folded> fold(const NormAttributes& attributes, const InputQuantization& x, bool input_signed,
                                 bool output_signed, const char* x_scale) const;
};

}  // namespace bytenorm::ort
