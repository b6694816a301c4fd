// An operator and its kernels as classes; ONNX Runtime's struct of function pointers leads to them.
#pragma once

#include <memory>
#include <vector>

#include "abi.hpp"

namespace bytenorm::ort {

// One node of a session.
class Kernel {
  public:
    explicit Kernel(const OrtApi* api) : api(api) {}
    virtual ~Kernel() = default;
    virtual void compute(OrtKernelContext* context) = 0;  // from several threads at once

    const OrtApi* const api;
};

// Whether the last input is one or more of its kind, and whether the last output may be left out.
struct LastOnes {
    Characteristic input = required, output = required;
};

// An operator for one choice of types. Never destroyed: sessions refer to it until they end. It keeps the
// interface that it was registered with, because ONNX Runtime passes none when it infers shapes.
class CustomOp : public OrtCustomOp {
  public:
    CustomOp(const OrtApi* api, const char* name, std::vector<ElementType> inputs,
             std::vector<ElementType> outputs, LastOnes last = {});
    CustomOp(const CustomOp&) = delete;

    virtual std::unique_ptr<Kernel> kernel(const OrtKernelInfo* info) const = 0;
    virtual void infer_shapes(OrtShapeInferContext* context) const = 0;

    const OrtApi* const api;
    const char* const name;
    const std::vector<ElementType> inputs, outputs;
    const LastOnes last;

  protected:
    ~CustomOp() = default;
};

}  // namespace bytenorm::ort
