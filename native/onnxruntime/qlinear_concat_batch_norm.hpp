// bytenorm::QLinearConcatBatchNormalization.
#pragma once

#include <vector>

#include "custom_op.hpp"

namespace bytenorm::ort {

// One for each pair of input and output type; never freed.
std::vector<const CustomOp*> qlinear_concat_batch_norms(const OrtApi* api);

}  // namespace bytenorm::ort
