#include "many_inputs.hpp"

namespace bytenorm::ort {

std::vector<std::string> many_names(const OrtApi* api, const OrtKernelInfo* info, const std::string& what) {
    const size_t count = input_count(api, info);
    if (count <= Many::first) throw Refusal("one " + what + " at least is wanted, x_0, got none");
    std::vector<std::string> names;
    for (size_t i = 0; i < count - Many::first; ++i) names.push_back("x_" + std::to_string(i));
    return names;
}

ManyParameters::ManyParameters(const Inputs& inputs)
    : norm(inputs, Many::scale, Many::y_scale),
      scales(inputs(Many::x_scales, "x_scales")),
      zero_points(inputs(Many::x_zero_points, "x_zero_points")) {}

void ManyParameters::check(const NormAttributes& attributes, Channels& channels, size_t count,
                           const char* what) const {
    for (const Tensor* t : {&scales, &zero_points})
        if (t->known && (t->shape.ndim != 1 || t->size() != static_cast<int64_t>(count)))
            throw Refusal(std::string(t->name) + " must have one value for each of the " + std::to_string(count) +
                          " " + what + ", got shape " + t->shape.text());
    norm.check(attributes, channels);
    if (scales.known) check_scales(scales);
}

}  // namespace bytenorm::ort
