#include "tensor.hpp"

#include "owned.hpp"
#include "status.hpp"

namespace bytenorm::ort {
std::string Shape::text() const {
    std::string text = "[";
    for (int d = 0; d < ndim; ++d)
        text += (d > 0 ? ", " : "") + (dims[d] < 0 ? std::string("?") : std::to_string(dims[d]));
    return text + "]";
}

Shape shape_of(const OrtApi* api, const OrtTensorTypeAndShapeInfo* info, const char* name) {
    size_t ndim = 0;
    check<GetDimensionsCount>(api, info, &ndim);
    if (ndim > max_dims)
        throw Refusal(std::string(name) + " must have at most " + std::to_string(max_dims) + " dimensions, got " +
                      std::to_string(ndim));
    Shape shape;
    shape.ndim = static_cast<int>(ndim);
    check<GetDimensions>(api, info, shape.dims, ndim);
    return shape;
}

Tensor tensor_of(const OrtApi* api, const OrtValue* value, const char* name) {
    Tensor tensor;
    tensor.name = name;
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check<GetTensorTypeAndShape>(api, value, &info);
    const OwnedShapeInfo owned(api, info);
    tensor.shape = shape_of(api, info, name);
    void* data = nullptr;
    check<GetTensorMutableData>(api, const_cast<OrtValue*>(value), &data);
    tensor.data = data;
    tensor.known = true;
    return tensor;
}

Tensor constant_input(const OrtApi* api, const OrtKernelInfo* info, size_t index, const char* name) {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    check<KernelInfoGetConstantInput_tensor>(api, info, index, &is_constant, &value);
    return is_constant && value ? tensor_of(api, value, name) : Tensor();
}

Tensor input(const OrtApi* api, const OrtKernelContext* context, size_t index, const char* name) {
    const OrtValue* value = nullptr;
    check<KernelContext_GetInput>(api, context, index, &value);
    if (!value) throw Refusal(std::string(name) + " is missing");
    return tensor_of(api, value, name);
}

Shape input_shape(const OrtApi* api, const OrtKernelInfo* info, size_t index, const char* name) {
    OrtTypeInfo* type = nullptr;
    check<KernelInfo_GetInputTypeInfo>(api, info, index, &type);
    const OwnedTypeInfo owned(api, type);
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    check<CastTypeInfoToTensorInfo>(api, type, &tensor);
    Shape shape;
    shape.ndim = 0;
    return tensor ? shape_of(api, tensor, name) : shape;
}

size_t input_count(const OrtApi* api, const OrtKernelInfo* info) {
    size_t count = 0;
    check<KernelInfo_GetInputCount>(api, info, &count);
    return count;
}

bool has_output(const OrtApi* api, const OrtKernelInfo* info, size_t index) {
    size_t count = 0, size = 0;
    check<KernelInfo_GetOutputCount>(api, info, &count);
    return index < count &&
           succeeds<KernelInfo_GetOutputName>(api, info, index, static_cast<char*>(nullptr), &size) && size > 1;
}

uint8_t* output(const OrtApi* api, OrtKernelContext* context, size_t index, const char* name, const Shape& shape) {
    OrtValue* value = nullptr;
    check<KernelContext_GetOutput>(api, context, index, shape.dims, static_cast<size_t>(shape.ndim), &value);
    if (!value) throw Refusal("output " + std::string(name) + " is missing");
    void* data = nullptr;
    check<GetTensorMutableData>(api, value, &data);
    return static_cast<uint8_t*>(data);
}

}  // namespace bytenorm::ort
