#include "attributes.hpp"

#include <string>

#include "status.hpp"

namespace bytenorm::ort {
namespace {

// Asking for a missing attribute and asking with the wrong type fail alike, so the other types are asked for, too.
void refuse_other_types(const OrtApi* api, const OrtKernelInfo* info, const char* name,
                        const std::string& wanted) {
    float real = 0;
    int64_t integer = 0;
    size_t size = 0;
    if (succeeds<KernelInfoGetAttribute_float>(api, info, name, &real) ||
        succeeds<KernelInfoGetAttribute_int64>(api, info, name, &integer) ||
        succeeds<KernelInfoGetAttribute_string>(api, info, name, static_cast<char*>(nullptr), &size) ||
        succeeds<KernelInfoGetAttributeArray_float>(api, info, name, static_cast<float*>(nullptr), &size) ||
        succeeds<KernelInfoGetAttributeArray_int64>(api, info, name, static_cast<int64_t*>(nullptr), &size))
        throw Refusal("attribute " + std::string(name) + " must be " + wanted + ", got another type");
}

}  // namespace

float float_attribute(const OrtApi* api, const OrtKernelInfo* info, const char* name, float missing) {
    float value = 0;
    if (succeeds<KernelInfoGetAttribute_float>(api, info, name, &value)) return value;
    refuse_other_types(api, info, name, "a float");
    return missing;
}

int64_t choice_attribute(const OrtApi* api, const OrtKernelInfo* info, const char* name, int64_t other) {
    const std::string wanted = "0 or " + std::to_string(other);
    int64_t value = 0;
    if (!succeeds<KernelInfoGetAttribute_int64>(api, info, name, &value)) {
        refuse_other_types(api, info, name, "an integer, " + wanted);
        return 0;
    }
    if (value != 0 && value != other)
        throw Refusal("attribute " + std::string(name) + " must be " + wanted + ", got " + std::to_string(value));
    return value;
}

bool flag_attribute(const OrtApi* api, const OrtKernelInfo* info, const char* name) {
    return choice_attribute(api, info, name, 1) == 1;
}

}  // namespace bytenorm::ort
