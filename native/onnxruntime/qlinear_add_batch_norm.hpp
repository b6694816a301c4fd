// bytenorm::QLinearAddBatchNormalization.
#pragma once

#include <vector>

#include "custom_op.hpp"

namespace bytenorm::ort {

// One for each pair of input and output type; never freed. `says_sums`: whether ONNX Runtime may be told the shape
// of an output that a node does not have.
std::vector<const CustomOp*> qlinear_add_batch_norms(const OrtApi* api, bool says_sums);

}  // namespace bytenorm::ort
