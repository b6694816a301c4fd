// What the nodes of all norms have, and one operator for each pair of an input's and an output's type.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "custom_op.hpp"
#include "norm_inputs.hpp"
#include "passes/plan.hpp"
#include "status.hpp"

namespace bytenorm::ort {

template <class Attributes>
class NormNode : public Kernel {
  protected:
    NormNode(const OrtApi* api, const OrtKernelInfo* info, bool input_signed, bool output_signed)
        : Kernel(api), attributes_(api, info), input_signed_(input_signed), output_signed_(output_signed) {}

    // Several runs of a node share what was folded when the session was created.
    Plan prepared(const Plan& plan, Folded& folded) {
        std::lock_guard<std::mutex> guard(mutex_);
        prepare(plan, folded);
        return plan;
    }

    // Refuses an input that has not the channels of constant parameters.
    void check_channels(const char* name, const Shape& shape, int axis, int64_t channels) const {
        if (shape.dims[axis] != channels)
            throw Refusal(std::string(name) + " must have " + std::to_string(channels) + " channels on axis " +
                          std::to_string(axis) + ", as many as scale has values, got shape " + shape.text());
    }

    const Attributes attributes_;
    const bool input_signed_, output_signed_;
    std::mutex mutex_;
};

template <class Op, class... More>
std::vector<const CustomOp*> of_all_types(const OrtApi* api, More... more) {
    std::vector<const CustomOp*> ops;
    for (ElementType input : {uint8, int8})
        for (ElementType output : {uint8, int8}) ops.push_back(new Op(api, input, output, more...));
    return ops;
}

}  // namespace bytenorm::ort
