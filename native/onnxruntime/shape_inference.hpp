// What ONNX Runtime is told of an output's shape before anything runs. Layouts are chosen from it: without the
// rank and the names of dimensions, transposes around an operator stay.
#pragma once

#include "abi.hpp"

namespace bytenorm::ort {

// The output has the shape of one input and the type of another. (ONNX Runtime 1.20 believes the type, too, 1.17
// does not; both ask the first operator of a name for all of that name, so an operator's own types are no answer.)
void infer_output(const OrtApi* api, OrtShapeInferContext* context, size_t shape_input, size_t type_input,
                  size_t output);

}  // namespace bytenorm::ort
