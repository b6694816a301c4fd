// What ONNX Runtime is told of an output's shape before anything runs. Layouts are chosen from it: without the
// rank and the names of dimensions, transposes around an operator stay.
#pragma once

#include "abi.hpp"
#include "tensor.hpp"

namespace bytenorm::ort {

// What is known of a shape: a size, or a name (it belongs to the context), or neither for each dimension.
struct KnownShape {
    Shape shape;  // ndim 0: of an unknown rank, or a scalar: both look like this
    const char* names[max_dims];

    void set(int dimension, int64_t size) { shape.dims[dimension] = size, names[dimension] = ""; }
};

KnownShape known_input(const OrtApi* api, const OrtShapeInferContext* context, size_t index);
size_t input_count(const OrtApi* api, const OrtShapeInferContext* context);

// An attribute that is missing, or no integer, is 0.
int64_t integer_attribute_of(const OrtApi* api, const OrtShapeInferContext* context, const char* name);

// The output has this shape and the type of an input; nothing is said where the rank is unknown. (ONNX Runtime
// 1.20 believes the type, too, 1.17 does not; both ask the first operator of a name for all of that name, so an
// operator's own types are no answer.)
void infer_output(const OrtApi* api, OrtShapeInferContext* context, size_t output, const KnownShape& known,
                  size_t type_input);

}  // namespace bytenorm::ort
