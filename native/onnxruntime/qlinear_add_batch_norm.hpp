// bytenorm::QLinearAddBatchNormalization.
#pragma once

#include <vector>

#include "custom_op.hpp"

namespace bytenorm::ort {

// One for each pair of input and output type; never freed.
std::vector<const CustomOp*> qlinear_add_batch_norms(const OrtApi* api);

}  // namespace bytenorm::ort
