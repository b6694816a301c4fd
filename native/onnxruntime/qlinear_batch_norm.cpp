#include "qlinear_batch_norm.hpp"

#include <memory>
#include <mutex>

#include "../batch_norm/apply.hpp"
#include "norm_inputs.hpp"
#include "session_threads.hpp"
#include "shape_inference.hpp"
#include "status.hpp"

namespace bytenorm::ort {
namespace {

Layout layout_of(const uint8_t* x, uint8_t* y, const Shape& shape, int axis) {
    int64_t strides[max_dims];
    int64_t stride = 1;
    for (int d = shape.ndim - 1; d >= 0; --d) {
        strides[d] = stride;
        stride *= shape.dims[d];
    }
    return analyse(x, strides, y, strides, shape.dims, shape.ndim, axis);
}

class NormKernel final : public Kernel {
  public:
    NormKernel(const OrtApi* api, const OrtKernelInfo* info, bool input_signed, bool output_signed)
        : Kernel(api), attributes_(api, info), input_signed_(input_signed), output_signed_(output_signed) {
        NormInputs inputs = none();
        for (size_t i = X + 1; i < norm_inputs; ++i)
            inputs.tensors[i] = constant_input(api, info, i, norm_input_names[i]);
        inputs.check(attributes_, input_shape(api, info, X, norm_input_names[X]));
        if (inputs.complete()) folded_ = inputs.fold(attributes_);
    }

    void compute(OrtKernelContext* context) override {
        const Tensor x = input(api, context, X, norm_input_names[X]);
        if (!folded_) return compute_once(context, x);
        const int axis = channel_axis(x.shape, attributes_);
        const int64_t channels = folded_->channels();
        if (x.shape.dims[axis] != channels)
            throw Refusal("X must have " + std::to_string(channels) + " channels on axis " + std::to_string(axis) +
                          ", as many as scale has values, got shape " + x.shape.text());
        const Layout layout = layout_of(x.bytes(), output(api, context, 0, x.shape), x.shape, axis);
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
        NormInputs inputs = none();
        for (size_t i = X + 1; i < norm_inputs; ++i)
            inputs.tensors[i] = input(api, context, i, norm_input_names[i]);
        const int axis = channel_axis(x.shape, attributes_);
        inputs.check(attributes_, x.shape);
        const std::unique_ptr<Folded> folded = inputs.fold(attributes_);
        const Layout layout = layout_of(x.bytes(), output(api, context, 0, x.shape), x.shape, axis);
        const Plan plan = choose(layout, folded->channels(), Use::once);
        prepare(plan, *folded);
        apply(plan, *folded, layout, SessionThreads(api, context));
    }

    NormInputs none() const {
        NormInputs inputs;
        inputs.input_signed = input_signed_, inputs.output_signed = output_signed_;
        return inputs;
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
        infer_output(api, context, X, y_zero_point, 0);
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
