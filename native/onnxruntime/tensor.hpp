// Tensors of ONNX Runtime: where their elements lie and what shape they have.
#pragma once

#include <algorithm>
#include <string>

#include "abi.hpp"
#include "core/layout.hpp"

namespace bytenorm::ort {

struct Shape {
    int ndim;
    int64_t dims[max_dims];  // -1: not known yet

    Shape() = default;
    Shape(const Shape& other) { *this = other; }
    Shape& operator=(const Shape& other) {  // of 64 places as a rule four are used
        ndim = other.ndim;
        std::copy(other.dims, other.dims + ndim, dims);
        return *this;
    }
    // Of a tensor: all dimensions are known. What has elements fits the memory; where there are none the other
    // dimensions may be anything, and their product is not formed.
    bool empty() const { return std::find(dims, dims + ndim, 0) != dims + ndim; }
    int64_t size() const {
        int64_t n = empty() ? 0 : 1;
        for (int d = 0; n > 0 && d < ndim; ++d) n *= dims[d];
        return n;
    }
    std::string text() const;  // [2, 3, ?]
};

// Those of an array that has no gaps, all that ONNX Runtime has, and is not empty.
struct Strides {
    int64_t steps[max_dims];

    explicit Strides(const Shape& shape) {
        int64_t step = 1;
        for (int d = shape.ndim - 1; d >= 0; --d) {
            steps[d] = step;
            step *= shape.dims[d];
        }
    }
};

struct Tensor {
    const char* name = "";  // the input's in the operator's definition
    const void* data = nullptr;
    bool known = false;  // false: it comes with each run
    Shape shape;

    Tensor() { shape.ndim = 0; }
    const float* floats() const { return static_cast<const float*>(data); }
    const uint8_t* bytes() const { return static_cast<const uint8_t*>(data); }
    int64_t size() const { return shape.size(); }
};

// All throw a Refusal for more than max_dims dimensions; `name` is the input's in the operator's definition.
Shape shape_of(const OrtApi* api, const OrtTensorTypeAndShapeInfo* info, const char* name);
Tensor tensor_of(const OrtApi* api, const OrtValue* value, const char* name);
Tensor constant_input(const OrtApi* api, const OrtKernelInfo* info, size_t index, const char* name);
Tensor input(const OrtApi* api, const OrtKernelContext* context, size_t index, const char* name);

// What is known of an input's shape when the session is created; ndim 0 if nothing is.
Shape input_shape(const OrtApi* api, const OrtKernelInfo* info, size_t index, const char* name);

// Where a node's inputs are read from: when a session is created the constants are there, in a run all are.
class Inputs {
  public:
    Inputs(const OrtApi* api, const OrtKernelInfo* info) : api_(api), info_(info), context_(nullptr) {}
    Inputs(const OrtApi* api, const OrtKernelContext* context) : api_(api), info_(nullptr), context_(context) {}

    Tensor operator()(size_t index, const char* name) const {
        return context_ ? input(api_, context_, index, name) : constant_input(api_, info_, index, name);
    }

  private:
    const OrtApi* api_;
    const OrtKernelInfo* info_;
    const OrtKernelContext* context_;
};

size_t input_count(const OrtApi* api, const OrtKernelInfo* info);
// Whether a node has an output: one that it lists without a name is none.
bool has_output(const OrtApi* api, const OrtKernelInfo* info, size_t index);

// Throws a Refusal if the node has no such output; `name` is the output's in the operator's definition.
uint8_t* output(const OrtApi* api, OrtKernelContext* context, size_t index, const char* name, const Shape& shape);

}  // namespace bytenorm::ort
