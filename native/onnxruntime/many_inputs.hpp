// What operators of any number of inputs have: codes x_0, x_1, ... behind all others, each with a scale and a zero
// point of its own in x_scales and x_zero_points.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "custom_op.hpp"
#include "norm_inputs.hpp"
#include "status.hpp"

namespace bytenorm::ort {

// The places of the inputs.
struct Many {
    enum : size_t { scale, B, input_mean, input_var, y_scale, y_zero_point, x_scales, x_zero_points, first };
};

// How many of them a node has, `what` is one of them, and their names. Made once for a node: a run that made them
// again would spend a tenth of its time on it.
std::vector<std::string> many_names(const OrtApi* api, const OrtKernelInfo* info, const std::string& what);

// All inputs but these.
struct ManyParameters {
    NormInputs norm;
    Tensor scales, zero_points;

    explicit ManyParameters(const Inputs& inputs);

    bool complete() const { return norm.complete() && scales.known && zero_points.known; }

    // `what` is the plural.
    void check(const NormAttributes& attributes, Channels& channels, size_t count, const char* what) const;
};

// An operator of them; `Node` is made for one in a session.
template <class Node>
class ManyOp : public CustomOp {
  public:
    ManyOp(const OrtApi* api, const char* name, ElementType input, ElementType output)
        : CustomOp(api, name, {float32, float32, float32, float32, float32, output, float32, input, input},
                   {output}, {variadic, required}) {}

    std::unique_ptr<Kernel> kernel(const OrtKernelInfo* info) const override {
        return std::make_unique<Node>(api, info, inputs[Many::first] == int8, outputs[0] == int8);
    }

  protected:
    ~ManyOp() = default;
};

}  // namespace bytenorm::ort
