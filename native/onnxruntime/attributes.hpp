// A node's attributes: the default where there is none, a Refusal for one of another type.
#pragma once

#include "abi.hpp"

namespace bytenorm::ort {

float float_attribute(const OrtApi* api, const OrtKernelInfo* info, const char* name, float missing);
int64_t choice_attribute(const OrtApi* api, const OrtKernelInfo* info, const char* name, int64_t other);  // or 0
bool flag_attribute(const OrtApi* api, const OrtKernelInfo* info, const char* name);  // 0 (also if missing) or 1

}  // namespace bytenorm::ort
