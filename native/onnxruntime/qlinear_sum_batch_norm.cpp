#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "attributes.hpp"
#include "norm_node.hpp"
#include "operators.hpp"
#include "passes/exact_sums.hpp"
#include "session_threads.hpp"
#include "shape_inference.hpp"

namespace bytenorm::ort {
namespace {

enum : size_t { scale, B, input_mean, input_var, y_scale, y_zero_point, x_scales, x_zero_points, first_summand };

struct SumAttributes : NormAttributes {
    Limits limits;

    SumAttributes(const OrtApi* api, const OrtKernelInfo* info)
        : NormAttributes(api, info),
          limits{float_attribute(api, info, "floor", -std::numeric_limits<float>::infinity()),
                 float_attribute(api, info, "ceiling", std::numeric_limits<float>::infinity())} {
        if (!(limits.floor <= limits.ceiling))
            throw Refusal("attribute floor must be a number and no larger than attribute ceiling, got " +
                          std::to_string(limits.floor) + " and " + std::to_string(limits.ceiling));
    }
};

// Made once for a node.
std::vector<std::string> summand_names(size_t count) {
    std::vector<std::string> names;
    for (size_t i = 0; i < count; ++i) names.push_back("x_" + std::to_string(i));
    return names;
}

size_t summand_count(const OrtApi* api, const OrtKernelInfo* info) {
    const size_t count = input_count(api, info);
    if (count <= first_summand) throw Refusal("one summand at least is wanted, x_0, got none");
    return count - first_summand;
}

// All inputs but the summands.
struct Parameters {
    NormInputs norm;
    Tensor scales, zero_points;

    explicit Parameters(const Inputs& inputs)
        : norm(inputs, scale, y_scale),
          scales(inputs(x_scales, "x_scales")),
          zero_points(inputs(x_zero_points, "x_zero_points")) {}

    bool complete() const { return norm.complete() && scales.known && zero_points.known; }

    void check(const SumAttributes& attributes, const std::string& name, const Shape& shape,
               size_t summands) const {
        for (const Tensor* t : {&scales, &zero_points})
            if (t->known && (t->shape.ndim != 1 || t->size() != static_cast<int64_t>(summands)))
                throw Refusal(std::string(t->name) + " must have one value for each of the " +
                              std::to_string(summands) + " summands, got shape " + t->shape.text());
        Channels channels;
        channels.from(name, shape, attributes);
        norm.check(attributes, channels);
        if (scales.known) check_scales(scales);
    }

    std::unique_ptr<ExactSumsFold> fold(const SumAttributes& attributes, bool input_signed,
                                        bool output_signed) const {
        std::vector<TensorQuantization> summands;
        for (int64_t i = 0; i < scales.size(); ++i) {
            const TensorQuantization q{static_cast<double>(scales.floats()[i]),
                                       code_of(zero_points, i, input_signed)};
            // As if it were the norm's only input: says what overflows.
            norm.fold(attributes, {q.scale, q.zero_point, nullptr, nullptr}, input_signed, output_signed,
                      "x_scales");
            summands.push_back(q);
        }
        return std::make_unique<ExactSumsFold>(norm.parameters(attributes), summands, attributes.limits,
                                               norm.conversion(attributes, input_signed, output_signed));
    }
};

class SumNode final : public NormNode<SumAttributes> {
  public:
    SumNode(const OrtApi* api, const OrtKernelInfo* info, bool input_signed, bool output_signed)
        : NormNode(api, info, input_signed, output_signed),
          summands_(summand_count(api, info)),
          names_(summand_names(summands_)) {
        size_t known = 0;
        Shape said{};
        for (size_t i = 0; i < summands_; ++i) {
            const Shape shape = input_shape(api, info, first_summand + i, names_[i].c_str());
            if (shape.ndim == 0) continue;
            if (said.ndim == 0) known = i, said = shape;
            check_shape(known, said, i, shape);
        }
        const Parameters constant(Inputs(api, info));
        constant.check(attributes_, names_[known], said, summands_);
        if (constant.complete()) constant_ = constant.fold(attributes_, input_signed_, output_signed_);
    }

    void compute(OrtKernelContext* context) override {
        SumsArrays arrays{};
        Shape shape{};
        int axis = 0;
        for (size_t i = 0; i < summands_; ++i) {
            const Tensor tensor = input(api, context, first_summand + i, names_[i].c_str());
            if (i == 0) {
                shape = tensor.shape;
                axis = channel_axis(names_[0], shape, attributes_);
            }
            check_shape(0, shape, i, tensor.shape);
            arrays.x.push_back(tensor.bytes());
        }
        std::unique_ptr<ExactSumsFold> given;
        if (!constant_) {
            const Parameters parameters(Inputs(api, context));
            parameters.check(attributes_, names_[0], shape, summands_);
            given = parameters.fold(attributes_, input_signed_, output_signed_);
        }
        const ExactSumsFold& fold = given ? *given : *constant_;
        check_channels("x_0", shape, axis, fold.channels());
        arrays.y = output(api, context, 0, "y", shape);
        if (shape.empty()) return;
        arrays.outer = arrays.inner = 1;
        for (int d = 0; d < axis; ++d) arrays.outer *= shape.dims[d];
        for (int d = axis + 1; d < shape.ndim; ++d) arrays.inner *= shape.dims[d];
        apply_exact_sums(fold, arrays, SessionThreads(api, context));
    }

  private:
    void check_shape(size_t first, const Shape& wanted, size_t other, const Shape& shape) const {
        bool same = wanted.ndim == shape.ndim;
        for (int d = 0; same && d < wanted.ndim; ++d)
            same = wanted.dims[d] < 0 || shape.dims[d] < 0 || wanted.dims[d] == shape.dims[d];
        if (!same)
            throw Refusal(names_[other] + " must have the shape of " + names_[first] + ", " + wanted.text() +
                          ", got " + shape.text());
    }

    const size_t summands_;
    const std::vector<std::string> names_;
    std::unique_ptr<ExactSumsFold> constant_;  // of constant parameters, made with the session
};

class QLinearSumBatchNormalization final : public CustomOp {
  public:
    QLinearSumBatchNormalization(const OrtApi* api, ElementType input, ElementType output)
        : CustomOp(api, "QLinearSumBatchNormalization",
                   {float32, float32, float32, float32, float32, output, float32, input, input}, {output},
                   {variadic, required}) {}

    std::unique_ptr<Kernel> kernel(const OrtKernelInfo* info) const override {
        return std::make_unique<SumNode>(api, info, inputs[first_summand] == int8, outputs[0] == int8);
    }

    void infer_shapes(OrtShapeInferContext* context) const override {
        const size_t count = input_count(api, context);
        KnownShape known{};
        for (size_t i = first_summand; i < count && known.shape.ndim == 0; ++i)
            known = known_input(api, context, i);
        infer_output(api, context, 0, known, y_zero_point);
    }
};

}  // namespace

std::vector<const CustomOp*> qlinear_sum_batch_norms(const OrtApi* api) {
    return of_all_types<QLinearSumBatchNormalization>(api);
}

}  // namespace bytenorm::ort
