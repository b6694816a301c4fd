#include "norm_inputs.hpp"

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "../batch_norm/valid.hpp"
#include "attributes.hpp"
#include "status.hpp"

namespace bytenorm::ort {
namespace {

std::string text(float value) {
    if (std::isnan(value)) return "nan";
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.9g", static_cast<double>(value));
    return digits;
}

std::string name_of(NormInput i) {
    return norm_input_names[i];
}

// x_scale, or x_scale[3] where it is an array.
std::string element(NormInput i, const Tensor& tensor, int64_t at) {
    return tensor.shape.ndim == 0 ? name_of(i) : name_of(i) + "[" + std::to_string(at) + "]";
}

// How many channels there are, as the first that knows says.
class Channels {
  public:
    Channels(const NormAttributes& attributes, const Shape& x) {
        if (x.ndim == 0) return;
        const int axis = channel_axis(x, attributes);
        if (x.dims[axis] < 0) return;
        count_ = x.dims[axis];
        source_ = "X of shape " + x.text() + " has " + std::to_string(count_) + " channels on axis " +
                  std::to_string(axis);
    }

    void agree(NormInput i, int64_t count) {
        if (count_ < 0) {
            count_ = count;
            source_ = name_of(i) + " has " + std::to_string(count);
        } else if (count != count_) {
            throw Refusal(name_of(i) + " has " + std::to_string(count) + " values, but " + source_ +
                          ": one a channel is wanted");
        }
    }

  private:
    int64_t count_ = -1;
    std::string source_;
};

void check_parameter(NormInput i, const Tensor& t, float epsilon) {
    for (int64_t c = 0; c < t.size(); ++c) {
        const float value = t.floats()[c];
        if (!std::isfinite(value)) throw Refusal(element(i, t, c) + " must be finite, got " + text(value));
        if (i != input_var || valid_var(value, epsilon)) continue;
        if (value < 0.0f) throw Refusal(element(i, t, c) + " must not be negative, got " + text(value));
        throw Refusal(element(i, t, c) + " + epsilon must be positive, got " + text(value) + " and epsilon " +
                      text(epsilon));
    }
}

void check_scale(NormInput i, const Tensor& t) {
    for (int64_t c = 0; c < t.size(); ++c) {
        const float value = t.floats()[c];
        if (valid_scale(static_cast<double>(value))) continue;
        throw Refusal(element(i, t, c) + " must be positive and finite, and so must its reciprocal, got " +
                      text(value));
    }
}

int64_t code(const Tensor& t, int64_t at, bool is_signed) {
    return is_signed ? int64_t{static_cast<int8_t>(t.bytes()[at])} : int64_t{t.bytes()[at]};
}

}  // namespace

NormAttributes::NormAttributes(const OrtApi* api, const OrtKernelInfo* info)
    : epsilon(float_attribute(api, info, "epsilon", 1e-5f)),
      channels_last(flag_attribute(api, info, "channels_last")),
      relu(flag_attribute(api, info, "relu")) {
    if (!valid_eps(epsilon))
        throw Refusal("attribute epsilon must not be negative and must be finite, got " + text(epsilon));
}

int channel_axis(const Shape& x, const NormAttributes& attributes) {
    if (x.ndim < 2) throw Refusal("X must have at least 2 dimensions, got shape " + x.text());
    return attributes.channels_last ? x.ndim - 1 : 1;
}

bool NormInputs::complete() const {
    for (size_t i = X + 1; i < norm_inputs; ++i)
        if (!tensors[i].known) return false;
    return true;
}

void NormInputs::check(const NormAttributes& attributes, const Shape& x) const {
    Channels channels(attributes, x);
    for (NormInput i : {scale, B, input_mean, input_var}) {
        const Tensor& t = tensors[i];
        if (!t.known) continue;
        if (t.shape.ndim != 1)
            throw Refusal(name_of(i) + " must be one-dimensional, one value a channel, got shape " +
                          t.shape.text());
        channels.agree(i, t.size());
        check_parameter(i, t, attributes.epsilon);
    }
    for (NormInput i : {x_scale, x_zero_point, y_scale, y_zero_point}) {
        const Tensor& t = tensors[i];
        if (!t.known) continue;
        const bool input = i == x_scale || i == x_zero_point;
        if (t.shape.ndim > 1 || (t.size() != 1 && !input))
            throw Refusal(name_of(i) + " must be one value" + (input ? ", or one a channel" : "") +
                          ", got shape " + t.shape.text());
        if (t.size() != 1) channels.agree(i, t.size());
        if (i == x_scale || i == y_scale) check_scale(i, t);
    }
}

std::unique_ptr<Folded> NormInputs::fold(const NormAttributes& attributes) const {
    const int64_t channels = tensors[scale].size();
    const Tensor &step = tensors[x_scale], &zero = tensors[x_zero_point];
    InputQuantization input{};
    std::vector<double> scales;
    std::vector<int64_t> zero_points;
    if (step.size() == 1) {
        input.scale = static_cast<double>(*step.floats());
    } else {
        scales.assign(step.floats(), step.floats() + channels);
        input.scales = scales.data();
    }
    if (zero.size() == 1) {
        input.zero_point = code(zero, 0, input_signed);
    } else {
        for (int64_t c = 0; c < channels; ++c) zero_points.push_back(code(zero, c, input_signed));
        input.zero_points = zero_points.data();
    }
    const NormParameters norm{channels,
                              tensors[scale].floats(),
                              tensors[B].floats(),
                              tensors[input_mean].floats(),
                              tensors[input_var].floats(),
                              attributes.epsilon,
                              static_cast<double>(*tensors[y_scale].floats())};
    const int64_t output_zero = code(tensors[y_zero_point], 0, output_signed);
    auto folded = std::make_unique<Folded>(
        norm, input, Conversion{input_signed, output_signed, attributes.relu, static_cast<int32_t>(output_zero)});
    if (folded->finite()) return folded;

    const FloatParams real = folded->real();
    int64_t c = 0;
    while (std::isfinite(real.slope[c]) && std::isfinite(real.intercept[c])) ++c;
    if (!std::isfinite(real.slope[c]))
        throw Refusal("the slope of channel " + std::to_string(c) +
                      ", scale / sqrt(input_var + epsilon) * x_scale / y_scale, overflows float32");
    throw Refusal("the intercept of channel " + std::to_string(c) +
                  ", (B - input_mean * scale / sqrt(input_var + epsilon)) / y_scale, overflows float32");
}

}  // namespace bytenorm::ort
