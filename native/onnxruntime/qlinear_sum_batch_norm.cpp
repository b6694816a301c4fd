#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "attributes.hpp"
#include "many_inputs.hpp"
#include "norm_node.hpp"
#include "operators.hpp"
#include "passes/exact_sums.hpp"
#include "session_threads.hpp"
#include "shape_inference.hpp"

namespace bytenorm::ort {
namespace {

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

// All inputs but the summands.
struct Parameters : ManyParameters {
    using ManyParameters::ManyParameters;

    void check(const SumAttributes& attributes, const std::string& name, const Shape& shape,
               size_t summands) const {
        Channels channels;
        channels.from(name, shape, attributes);
        ManyParameters::check(attributes, channels, summands, "summands");
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
          names_(many_names(api, info, "summand")),
          summands_(names_.size()) {
        size_t known = 0;
        Shape said{};
        for (size_t i = 0; i < summands_; ++i) {
            const Shape shape = input_shape(api, info, Many::first + i, names_[i].c_str());
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
            const Tensor tensor = input(api, context, Many::first + i, names_[i].c_str());
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

    const std::vector<std::string> names_;
    const size_t summands_;
    std::unique_ptr<ExactSumsFold> constant_;  // of constant parameters, made with the session
};

class QLinearSumBatchNormalization final : public ManyOp<SumNode> {
  public:
    QLinearSumBatchNormalization(const OrtApi* api, ElementType input, ElementType output)
        : ManyOp(api, "QLinearSumBatchNormalization", input, output) {}

    void infer_shapes(OrtShapeInferContext* context) const override {
        const size_t count = input_count(api, context);
        KnownShape known{};
        for (size_t i = Many::first; i < count && known.shape.ndim == 0; ++i) known = known_input(api, context, i);
        infer_output(api, context, 0, known, Many::y_zero_point);
    }
};

}  // namespace

std::vector<const CustomOp*> qlinear_sum_batch_norms(const OrtApi* api) {
    return of_all_types<QLinearSumBatchNormalization>(api);
}

}  // namespace bytenorm::ort
