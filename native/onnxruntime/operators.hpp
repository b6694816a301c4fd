// The operators, each for all choices of types; never freed.
#pragma once

#include <vector>

#include "custom_op.hpp"

namespace bytenorm::ort {

std::vector<const CustomOp*> qlinear_batch_norms(const OrtApi* api);
std::vector<const CustomOp*> qlinear_concat_batch_norms(const OrtApi* api);
std::vector<const CustomOp*> qlinear_sum_batch_norms(const OrtApi* api);

// `says_sums`: whether ONNX Runtime may be told the shape of an output that a node does not have.
std::vector<const CustomOp*> qlinear_add_batch_norms(const OrtApi* api, bool says_sums);

}  // namespace bytenorm::ort
