#include "norm_inputs.hpp"

#include <cmath>
#include <cstdio>
#include <string>
#include <utility>

#include "attributes.hpp"
#include "fold/valid.hpp"
#include "status.hpp"

namespace bytenorm::ort {
namespace {

std::string text(float value) {
    if (std::isnan(value)) return "nan";
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.9g", static_cast<double>(value));
    return digits;
}

// x_scale, or x_scale[3] where it is an array.
std::string element(const Tensor& tensor, int64_t at) {
    return tensor.shape.ndim == 0 ? tensor.name : std::string(tensor.name) + "[" + std::to_string(at) + "]";
}

void check_parameter(const Tensor& t) {
    for (int64_t c = 0; c < t.size(); ++c)
        if (!std::isfinite(t.floats()[c]))
            throw Refusal(element(t, c) + " must be finite, got " + text(t.floats()[c]));
}

void check_variance(const Tensor& t, float epsilon) {
    for (int64_t c = 0; c < t.size(); ++c) {
        const float value = t.floats()[c];
        if (valid_var(value, epsilon)) continue;
        if (value < 0.0f) throw Refusal(element(t, c) + " must not be negative, got " + text(value));
        throw Refusal(element(t, c) + " + epsilon must be positive, got " + text(value) + " and epsilon " +
                      text(epsilon));
    }
}

}  // namespace

NormAttributes::NormAttributes(const OrtApi* api, const OrtKernelInfo* info)
    : epsilon(float_attribute(api, info, "epsilon", 1e-5f)),
      channels_last(flag_attribute(api, info, "channels_last")),
      relu(flag_attribute(api, info, "relu")) {
    if (!valid_eps(epsilon))
        throw Refusal("attribute epsilon must not be negative and must be finite, got " + text(epsilon));
}

int channel_axis(const std::string& name, const Shape& x, const NormAttributes& attributes) {
    if (x.ndim < 2) throw Refusal(name + " must have at least 2 dimensions, got shape " + x.text());
    return attributes.channels_last ? x.ndim - 1 : 1;
}

void Channels::from(int64_t count, std::string source) {
    count_ = count;
    source_ = std::move(source);
}

void Channels::from(const std::string& name, const Shape& x, const NormAttributes& attributes) {
    if (x.ndim == 0) return;
    const int axis = channel_axis(name, x, attributes);
    const int64_t count = x.dims[axis];
    if (count < 0) return;
    from(count, name + " of shape " + x.text() + " has " + std::to_string(count) + " channels on axis " +
                    std::to_string(axis));
}

void Channels::agree(const Tensor& parameter) {
    const std::string name = parameter.name;
    const int64_t count = parameter.size();
    if (count_ < 0) return from(count, name + " has " + std::to_string(count));
    if (count != count_)
        throw Refusal(name + " has " + std::to_string(count) + " values, but " + source_ +
                      ": one a channel is wanted");
}

void check_scales(const Tensor& scales) {
    for (int64_t c = 0; c < scales.size(); ++c) {
        const float value = scales.floats()[c];
        if (valid_scale(static_cast<double>(value))) continue;
        throw Refusal(element(scales, c) + " must be positive and finite, and so must its reciprocal, got " +
                      text(value));
    }
}

void Quantization::check() const {
    for (const Tensor* t : {&scale, &zero_point})
        if (t->known && (t->shape.ndim > 1 || t->size() != 1))
            throw Refusal(std::string(t->name) + " must be one value, got shape " + t->shape.text());
    if (scale.known) check_scales(scale);
}

void Quantization::check(Channels& channels) const {
    for (const Tensor* t : {&scale, &zero_point}) {
        if (!t->known) continue;
        if (t->shape.ndim > 1)
            throw Refusal(std::string(t->name) + " must be one value, or one a channel, got shape " +
                          t->shape.text());
        if (t->size() != 1) channels.agree(*t);
    }
    if (scale.known) check_scales(scale);
}

int64_t code_of(const Tensor& codes, int64_t at, bool is_signed) {
    const uint8_t byte = codes.bytes()[at];
    return is_signed ? int64_t{static_cast<int8_t>(byte)} : int64_t{byte};
}

NormInputs::NormInputs(const Inputs& inputs, size_t parameters, size_t y_scale)
    : scale(inputs(parameters, "scale")),
      B(inputs(parameters + 1, "B")),
      input_mean(inputs(parameters + 2, "input_mean")),
      input_var(inputs(parameters + 3, "input_var")),
      y{inputs(y_scale, "y_scale"), inputs(y_scale + 1, "y_zero_point")} {}

bool NormInputs::complete() const {
    return scale.known && B.known && input_mean.known && input_var.known && y.complete();
}

void NormInputs::check(const NormAttributes& attributes, Channels& channels) const {
    for (const Tensor* t : {&scale, &B, &input_mean, &input_var}) {
        if (!t->known) continue;
        if (t->shape.ndim != 1)
            throw Refusal(std::string(t->name) + " must be one-dimensional, one value a channel, got shape " +
                          t->shape.text());
        channels.agree(*t);
        check_parameter(*t);
    }
    if (input_var.known) check_variance(input_var, attributes.epsilon);
    y.check();
}

NormParameters NormInputs::parameters(const NormAttributes& attributes) const {
    return {scale.size(),
            scale.floats(),
            B.floats(),
            input_mean.floats(),
            input_var.floats(),
            attributes.epsilon,
            static_cast<double>(*y.scale.floats())};
}

Conversion NormInputs::conversion(const NormAttributes& attributes, bool input_signed, bool output_signed) const {
    return {input_signed, output_signed, attributes.relu,
            static_cast<int32_t>(code_of(y.zero_point, 0, output_signed))};
}

std::unique_ptr<Folded> NormInputs::fold(const NormAttributes& attributes, const InputQuantization& x,
                                         bool input_signed, bool output_signed, const char* x_scale) const {
    auto folded =
        std::make_unique<Folded>(parameters(attributes), x, conversion(attributes, input_signed, output_signed));
    if (folded->finite()) return folded;

    const FloatParams real = folded->real();
    int64_t c = 0;
    while (std::isfinite(real.slope[c]) && std::isfinite(real.intercept[c])) ++c;
    if (!std::isfinite(real.slope[c]))
        throw Refusal("the slope of channel " + std::to_string(c) + ", scale / sqrt(input_var + epsilon) * " +
                      x_scale + " / y_scale, overflows float32");
    throw Refusal("the intercept of channel " + std::to_string(c) +
                  ", (B - input_mean * scale / sqrt(input_var + epsilon)) / y_scale, overflows float32");
}

}  // namespace bytenorm::ort
