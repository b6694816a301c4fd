#include <cmath>
#include <memory>
#include <string>

#include "attributes.hpp"
#include "norm_node.hpp"
#include "operators.hpp"
#include "passes/add.hpp"
#include "session_threads.hpp"
#include "shape_inference.hpp"

namespace bytenorm::ort {
namespace {

enum : size_t {
    a,
    a_scale,
    a_zero_point,
    b,
    b_scale,
    b_zero_point,
    scale,
    B,
    input_mean,
    input_var,
    s_scale,
    s_zero_point,
    y_scale,
    y_zero_point
};
enum : size_t { output_y, output_s };

struct AddAttributes : NormAttributes {
    bool with_sum, exact_sum;

    AddAttributes(const OrtApi* api, const OrtKernelInfo* info)
        : NormAttributes(api, info),
          with_sum(flag_attribute(api, info, "with_sum")),
          exact_sum(flag_attribute(api, info, "exact_sum")) {
        if (with_sum != has_output(api, info, output_s))
            throw Refusal(with_sum ? "attribute with_sum is 1, but the node has no output s"
                                   : "the node has an output s, but attribute with_sum is 0");
    }
};

// A norm's parameters as a run uses them: of the sum's codes, or of the exact sum.
struct AddFold {
    std::unique_ptr<Folded> folded;
    std::unique_ptr<ExactFold> exact;
    std::unique_ptr<SumFold> sum;  // where codes of the sum are wanted

    int64_t channels() const { return folded ? folded->channels() : exact->channels(); }
};

// Refuses summands of two shapes; the axis of the channels.
int check_summands(const Shape& first, const Shape& second, const NormAttributes& attributes) {
    const int axis = channel_axis("a", first, attributes);
    bool same = first.ndim == second.ndim;
    for (int d = 0; same && d < first.ndim; ++d)
        same = first.dims[d] < 0 || second.dims[d] < 0 || first.dims[d] == second.dims[d];
    if (!same) throw Refusal("b must have the shape of a, " + first.text() + ", got " + second.text());
    return axis;
}

// All inputs but a and b.
struct Parameters {
    NormInputs norm;
    Quantization a, b, s;

    explicit Parameters(const Inputs& inputs)
        : norm(inputs, scale, y_scale),
          a{inputs(a_scale, "a_scale"), inputs(a_zero_point, "a_zero_point")},
          b{inputs(b_scale, "b_scale"), inputs(b_zero_point, "b_zero_point")},
          s{inputs(s_scale, "s_scale"), inputs(s_zero_point, "s_zero_point")} {}

    bool complete() const { return norm.complete() && a.complete() && b.complete() && s.complete(); }

    void check(const NormAttributes& attributes, const Shape& shape) const {
        Channels channels;
        channels.from("a", shape, attributes);
        norm.check(attributes, channels);
        for (const Quantization* q : {&a, &b, &s}) q->check();
    }

    AddFold fold(const AddAttributes& attributes, bool input_signed, bool output_signed) const {
        const TensorQuantization of_a = quantization(a, input_signed), of_b = quantization(b, input_signed),
                                 of_sum = quantization(s, input_signed);
        AddFold made;
        if (attributes.exact_sum) {
            // Each summand as if it were the norm's only input: says which one overflows.
            norm.fold(attributes, input_of(of_a), input_signed, output_signed, "a_scale");
            norm.fold(attributes, input_of(of_b), input_signed, output_signed, "b_scale");
            made.exact = std::make_unique<ExactFold>(norm.parameters(attributes), of_a, of_b,
                                                     norm.conversion(attributes, input_signed, output_signed));
        } else {
            made.folded = norm.fold(attributes, input_of(of_sum), input_signed, output_signed, "s_scale");
        }
        if (attributes.with_sum || !attributes.exact_sum)
            made.sum = std::make_unique<SumFold>(SumQuantization{factor(a, of_a, of_sum), factor(b, of_b, of_sum),
                                                                 of_a.zero_point, of_b.zero_point,
                                                                 of_sum.zero_point, input_signed});
        return made;
    }

  private:
    static TensorQuantization quantization(const Quantization& q, bool is_signed) {
        return {static_cast<double>(*q.scale.floats()), code_of(q.zero_point, 0, is_signed)};
    }
    static InputQuantization input_of(const TensorQuantization& q) {
        return {q.scale, q.zero_point, nullptr, nullptr};
    }
    static float factor(const Quantization& q, const TensorQuantization& of, const TensorQuantization& sum) {
        const float ratio = static_cast<float>(of.scale / sum.scale);
        if (!std::isfinite(ratio)) throw Refusal(std::string(q.scale.name) + " / s_scale overflows float32");
        return ratio;
    }
};

class AddNode final : public NormNode<AddAttributes> {
  public:
    AddNode(const OrtApi* api, const OrtKernelInfo* info, bool input_signed, bool output_signed)
        : NormNode(api, info, input_signed, output_signed) {
        const Shape first = input_shape(api, info, a, "a"), second = input_shape(api, info, b, "b");
        if (first.ndim > 0 && second.ndim > 0) check_summands(first, second, attributes_);
        const Parameters constant(Inputs(api, info));
        constant.check(attributes_, first.ndim > 0 ? first : second);
        if (constant.complete())
            constant_ = std::make_unique<AddFold>(constant.fold(attributes_, input_signed_, output_signed_));
    }

    void compute(OrtKernelContext* context) override {
        const Tensor first = input(api, context, a, "a"), second = input(api, context, b, "b");
        const int axis = check_summands(first.shape, second.shape, attributes_);
        if (!constant_) {
            const Parameters given(Inputs(api, context));
            given.check(attributes_, first.shape);
            return run(context, given.fold(attributes_, input_signed_, output_signed_), Use::once, first, second,
                       axis);
        }
        check_channels("a", first.shape, axis, constant_->channels());
        run(context, *constant_, Use::often, first, second, axis);
    }

  private:
    void run(OrtKernelContext* context, const AddFold& fold, Use use, const Tensor& first, const Tensor& second,
             int axis) {
        const Shape& shape = first.shape;
        uint8_t* y = output(api, context, output_y, "y", shape);
        uint8_t* s = attributes_.with_sum ? output(api, context, output_s, "s", shape) : nullptr;
        if (shape.empty()) return;
        const Strides strides(shape);
        const AddArrays arrays{first.bytes(),
                               second.bytes(),
                               s,
                               y,
                               strides.steps,
                               strides.steps,
                               s ? strides.steps : nullptr,
                               strides.steps,
                               shape.dims,
                               shape.ndim,
                               axis};
        const SessionThreads threads(api, context);
        if (fold.exact) return apply_add_exact(*fold.exact, fold.sum.get(), arrays, threads);
        const Layout layout = layout_of(arrays);
        const Plan plan = prepared(choose(layout, fold.channels(), use), *fold.folded);
        apply_add(plan, *fold.folded, *fold.sum, arrays, layout, threads);
    }

    std::unique_ptr<AddFold> constant_;  // of constant parameters, made with the session
};

class QLinearAddBatchNormalization final : public CustomOp {
  public:
    QLinearAddBatchNormalization(const OrtApi* api, ElementType input, ElementType output, bool says_sums)
        : CustomOp(api, "QLinearAddBatchNormalization",
                   {input, float32, input, input, float32, input, float32, float32, float32, float32, float32,
                    input, float32, output},
                   {output, input}, {required, optional}),
          says_sums_(says_sums) {}

    std::unique_ptr<Kernel> kernel(const OrtKernelInfo* info) const override {
        return std::make_unique<AddNode>(api, info, inputs[a] == int8, outputs[output_y] == int8);
    }

    void infer_shapes(OrtShapeInferContext* context) const override {
        KnownShape known = known_input(api, context, a);
        if (known.shape.ndim == 0) known = known_input(api, context, b);
        infer_output(api, context, output_y, known, y_zero_point);
        if (says_sums_ && integer_attribute_of(api, context, "with_sum") == 1)
            infer_output(api, context, output_s, known, s_zero_point);
    }

  private:
    const bool says_sums_;
};

}  // namespace

std::vector<const CustomOp*> qlinear_add_batch_norms(const OrtApi* api, bool says_sums) {
    return of_all_types<QLinearAddBatchNormalization>(api, says_sums);
}

}  // namespace bytenorm::ort
