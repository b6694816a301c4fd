#include "qlinear_batch_norm.hpp"

#include <memory>
#include <mutex>
#include <string>

#include "norm_inputs.hpp"
#include "passes/single.hpp"
#include "session_threads.hpp"
#include "shape_inference.hpp"
#include "status.hpp"

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

class NormKernel final : public Kernel {
  public:
    NormKernel(const OrtApi* api, const OrtKernelInfo* info, bool input_signed, bool output_signed)
        : Kernel(api), attributes_(api, info), input_signed_(input_signed), output_signed_(output_signed) {
        const Parameters constant(Inputs(api, info));
        constant.check(attributes_, input_shape(api, info, X, "X"));
        if (constant.complete()) folded_ = constant.fold(attributes_, input_signed_, output_signed_);
    }

    void compute(OrtKernelContext* context) override {
        const Tensor x = input(api, context, X, "X");
        if (!folded_) return compute_once(context, x);
        const int axis = channel_axis("X", x.shape, attributes_);
        const int64_t channels = folded_->channels();
        if (x.shape.dims[axis] != channels)
            throw Refusal("X must have " + std::to_string(channels) + " channels on axis " + std::to_string(axis) +
                          ", as many as scale has values, got shape " + x.shape.text());
        uint8_t* y = output(api, context, 0, "Y", x.shape);
        if (x.shape.empty()) return;
        const Layout layout = layout_of(x.bytes(), y, x.shape, axis);
        const Plan plan = choose(layout, channels, Use::often);
        {
            std::lock_guard<std::mutex> guard(mutex_);
            prepare(plan, *folded_);
        }
        apply(plan, *folded_, layout, SessionThreads(api, context));
    }

  private:
    // Some of the parameters come with the call.
    void compute_once(OrtKernelContext* context, const Tensor& x) const {
        const Parameters given(Inputs(api, context));
        const int axis = channel_axis("X", x.shape, attributes_);
        given.check(attributes_, x.shape);
        const std::unique_ptr<Folded> folded = given.fold(attributes_, input_signed_, output_signed_);
        uint8_t* y = output(api, context, 0, "Y", x.shape);
        if (x.shape.empty()) return;
        const Layout layout = layout_of(x.bytes(), y, x.shape, axis);
        const Plan plan = choose(layout, folded->channels(), Use::once);
        prepare(plan, *folded);
        apply(plan, *folded, layout, SessionThreads(api, context));
    }

    const NormAttributes attributes_;
    const bool input_signed_, output_signed_;
    std::mutex mutex_;
    std::unique_ptr<Folded> folded_;  // of constant parameters, made with the session
};

class QLinearBatchNormalization final : public CustomOp {
  public:
    QLinearBatchNormalization(const OrtApi* api, ElementType input, ElementType output)
        : CustomOp(api, "QLinearBatchNormalization",
                   {input, float32, input, float32, float32, float32, float32, float32, output}, {output}) {}

    std::unique_ptr<Kernel> kernel(const OrtKernelInfo* info) const override {
        return std::make_unique<NormKernel>(api, info, inputs[X] == int8, outputs[0] == int8);
    }
    void infer_shapes(OrtShapeInferContext* context) const override {
        infer_output(api, context, 0, known_input(api, context, X), y_zero_point);
    }
};

}  // namespace

std::vector<const CustomOp*> qlinear_batch_norms(const OrtApi* api) {
    std::vector<const CustomOp*> ops;
    for (ElementType input : {uint8, int8})
        for (ElementType output : {uint8, int8}) ops.push_back(new QLinearBatchNormalization(api, input, output));
    return ops;
}

}  // namespace bytenorm::ort
