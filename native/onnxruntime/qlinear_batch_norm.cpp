#include <memory>
#include <string>

#include "norm_node.hpp"
#include "operators.hpp"
#include "passes/single.hpp"
#include "session_threads.hpp"
#include "shape_inference.hpp"

namespace bytenorm::ort {
namespace {

enum : size_t { X, x_scale, x_zero_point, scale, B, input_mean, input_var, y_scale, y_zero_point };

Layout layout_of(const uint8_t* x, uint8_t* y, const Shape& shape, int axis) {
    const Strides strides(shape);
    return analyse(x, strides.steps, y, strides.steps, shape.dims, shape.ndim, axis);
}

// All inputs but X.
struct Parameters {
    NormInputs norm;
    Quantization x;

    explicit Parameters(const Inputs& inputs)
        : norm(inputs, scale, y_scale), x{inputs(x_scale, "x_scale"), inputs(x_zero_point, "x_zero_point")} {}

    bool complete() const { return norm.complete() && x.complete(); }

    void check(const NormAttributes& attributes, const Shape& shape) const {
        Channels channels;
        channels.from("X", shape, attributes);
        norm.check(attributes, channels);
        x.check(channels);
    }

    std::unique_ptr<Folded> fold(const NormAttributes& attributes, bool input_signed, bool output_signed) const {
        const int64_t channels = norm.scale.size();
        InputQuantization input{};
        std::vector<double> scales;
        std::vector<int64_t> zero_points;
        if (x.scale.size() == 1) {
            input.scale = static_cast<double>(*x.scale.floats());
        } else {
            scales.assign(x.scale.floats(), x.scale.floats() + channels);
            input.scales = scales.data();
        }
        if (x.zero_point.size() == 1) {
            input.zero_point = code_of(x.zero_point, 0, input_signed);
        } else {
            for (int64_t c = 0; c < channels; ++c) zero_points.push_back(code_of(x.zero_point, c, input_signed));
            input.zero_points = zero_points.data();
        }
        return norm.fold(attributes, input, input_signed, output_signed, "x_scale");
    }
};

class Node final : public NormNode<NormAttributes> {
  public:
    Node(const OrtApi* api, const OrtKernelInfo* info, bool input_signed, bool output_signed)
        : NormNode(api, info, input_signed, output_signed) {
        const Parameters constant(Inputs(api, info));
        constant.check(attributes_, input_shape(api, info, X, "X"));
        if (constant.complete()) folded_ = constant.fold(attributes_, input_signed_, output_signed_);
    }

    void compute(OrtKernelContext* context) override {
        const Tensor x = input(api, context, X, "X");
        const int axis = channel_axis("X", x.shape, attributes_);
        if (folded_) {
            check_channels("X", x.shape, axis, folded_->channels());
            return run(context, *folded_, Use::often, x, axis);
        }
        const Parameters given(Inputs(api, context));
        given.check(attributes_, x.shape);
        run(context, *given.fold(attributes_, input_signed_, output_signed_), Use::once, x, axis);
    }

  private:
    void run(OrtKernelContext* context, Folded& folded, Use use, const Tensor& x, int axis) {
        uint8_t* y = output(api, context, 0, "Y", x.shape);
        if (x.shape.empty()) return;
        const Layout layout = layout_of(x.bytes(), y, x.shape, axis);
        const Plan plan = prepared(choose(layout, folded.channels(), use), folded);
        apply(plan, folded, layout, SessionThreads(api, context));
    }

    std::unique_ptr<Folded> folded_;  // of constant parameters, made with the session
};

class QLinearBatchNormalization final : public CustomOp {
  public:
    QLinearBatchNormalization(const OrtApi* api, ElementType input, ElementType output)
        : CustomOp(api, "QLinearBatchNormalization",
                   {input, float32, input, float32, float32, float32, float32, float32, output}, {output}) {}

    std::unique_ptr<Kernel> kernel(const OrtKernelInfo* info) const override {
        return std::make_unique<Node>(api, info, inputs[X] == int8, outputs[0] == int8);
    }
    void infer_shapes(OrtShapeInferContext* context) const override {
        infer_output(api, context, 0, known_input(api, context, X), y_zero_point);
    }
};

}  // namespace

std::vector<const CustomOp*> qlinear_batch_norms(const OrtApi* api) {
    return of_all_types<QLinearBatchNormalization>(api);
}

}  // namespace bytenorm::ort
