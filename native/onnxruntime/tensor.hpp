// Tensors of ONNX Runtime: where their elements lie and what shape they have.
#pragma once

#include <string>

#include "../layout.hpp"
#include "abi.hpp"

namespace bytenorm::ort {

struct Shape {
    int ndim;
    int64_t dims[max_dims];  // -1: not known yet

    int64_t size() const {
        int64_t n = 1;
        for (int d = 0; d < ndim; ++d) n *= dims[d];
        return n;
    }
    std::string text() const;  // [2, 3, ?]
};

struct Tensor {
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

uint8_t* output(const OrtApi* api, OrtKernelContext* context, size_t index, const Shape& shape);

}  // namespace bytenorm::ort
