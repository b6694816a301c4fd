// ONNX Runtime's C interface, as far as operators need it, declared by hand: no package ships its headers.
//
// That is safe because the interface is append-only. An OrtApi is a table of function pointers; what shipped in a
// version keeps its slot and its signature for good, and so do the members of OrtCustomOp, which says how many of
// them it has. Version 17 is the oldest with everything below; its slots were checked from ONNX Runtime 1.17.3 to
// 1.32. To use another function, count its slot in the order of the table and add a line.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bytenorm::ort {

constexpr uint32_t api_version = 17;
constexpr int api_version_minor = 17;  // ONNX Runtime 1.17 is the first that has it
constexpr size_t api_slots = 276;      // how many functions version 17 has

// ONNX Runtime's own objects; only pointers to them are known.
struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtOpAttr;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

struct OrtApi {
    void (*slots[api_slots])();
};

struct OrtApiBase {
    const OrtApi* (*GetApi)(uint32_t version);  // null if the version is newer than the library
    const char* (*GetVersionString)();
};

enum ErrorCode : int { fail = 1, invalid_argument = 2, runtime_exception = 6 };
enum ElementType : int { float32 = 1, uint8 = 2, int8 = 3 };
enum AttributeType : int { integer_attribute = 1 };
enum Characteristic : int { required = 0, optional = 1, variadic = 2 };
enum MemoryType : int { default_memory = 0 };

// An operator for one choice of types: what it is and how its kernels are made, run and destroyed.
struct OrtCustomOp {
    uint32_t version;
    void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);  // null: see CreateKernelV2
    const char* (*GetName)(const OrtCustomOp*);
    const char* (*GetExecutionProviderType)(const OrtCustomOp*);
    ElementType (*GetInputType)(const OrtCustomOp*, size_t index);
    size_t (*GetInputTypeCount)(const OrtCustomOp*);
    ElementType (*GetOutputType)(const OrtCustomOp*, size_t index);
    size_t (*GetOutputTypeCount)(const OrtCustomOp*);
    void (*KernelCompute)(void* kernel, OrtKernelContext*);  // null: see KernelComputeV2
    void (*KernelDestroy)(void* kernel);
    Characteristic (*GetInputCharacteristic)(const OrtCustomOp*, size_t index);
    Characteristic (*GetOutputCharacteristic)(const OrtCustomOp*, size_t index);
    MemoryType (*GetInputMemoryType)(const OrtCustomOp*, size_t index);
    int (*GetVariadicInputMinArity)(const OrtCustomOp*);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
    OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
    OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
    OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
    int (*GetStartVersion)(const OrtCustomOp*);
    int (*GetEndVersion)(const OrtCustomOp*);
};

// The function in a slot: Function<slot, signature>::call(api, arguments...).
template <size_t slot, class Signature>
struct Function;
template <size_t slot, class Result, class... Arguments>
struct Function<slot, Result(Arguments...)> {
    static_assert(slot < api_slots);
    static Result call(const OrtApi* api, Arguments... arguments) {
        return reinterpret_cast<Result (*)(Arguments...)>(api->slots[slot])(arguments...);
    }
};

using CreateStatus = Function<0, OrtStatus*(ErrorCode, const char* message)>;
using ReleaseStatus = Function<93, void(OrtStatus*)>;

using CreateCustomOpDomain = Function<26, OrtStatus*(const char* name, OrtCustomOpDomain**)>;
using CustomOpDomain_Add = Function<27, OrtStatus*(OrtCustomOpDomain*, const OrtCustomOp*)>;
using AddCustomOpDomain = Function<28, OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)>;
using AddSessionConfigEntry = Function<130, OrtStatus*(OrtSessionOptions*, const char* key, const char* value)>;
using HasSessionConfigEntry = Function<237, OrtStatus*(const OrtSessionOptions*, const char* key, int*)>;

using GetTensorMutableData = Function<51, OrtStatus*(OrtValue*, void**)>;
using GetTensorTypeAndShape = Function<65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)>;
using CastTypeInfoToTensorInfo = Function<55, OrtStatus*(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**)>;
using CreateTensorTypeAndShapeInfo = Function<57, OrtStatus*(OrtTensorTypeAndShapeInfo**)>;
using SetTensorElementType = Function<58, OrtStatus*(OrtTensorTypeAndShapeInfo*, ElementType)>;
using SetDimensions = Function<59, OrtStatus*(OrtTensorTypeAndShapeInfo*, const int64_t*, size_t)>;
using GetTensorElementType = Function<60, OrtStatus*(const OrtTensorTypeAndShapeInfo*, ElementType*)>;
using GetDimensionsCount = Function<61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, size_t*)>;
using GetDimensions = Function<62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)>;
using GetSymbolicDimensions = Function<63, OrtStatus*(const OrtTensorTypeAndShapeInfo*, const char**, size_t)>;
using SetSymbolicDimensions = Function<271, OrtStatus*(OrtTensorTypeAndShapeInfo*, const char**, size_t)>;
using ReleaseTypeInfo = Function<98, void(OrtTypeInfo*)>;
using ReleaseTensorTypeAndShapeInfo = Function<99, void(OrtTensorTypeAndShapeInfo*)>;

// While a session is created. The attribute functions answer with an error if there is none of that name and type.
using KernelInfoGetAttribute_float = Function<85, OrtStatus*(const OrtKernelInfo*, const char* name, float*)>;
using KernelInfoGetAttribute_int64 = Function<86, OrtStatus*(const OrtKernelInfo*, const char* name, int64_t*)>;
using KernelInfoGetAttribute_string =
    Function<87, OrtStatus*(const OrtKernelInfo*, const char* name, char*, size_t*)>;
using KernelInfoGetAttributeArray_float =
    Function<162, OrtStatus*(const OrtKernelInfo*, const char* name, float*, size_t*)>;
using KernelInfoGetAttributeArray_int64 =
    Function<163, OrtStatus*(const OrtKernelInfo*, const char* name, int64_t*, size_t*)>;
using KernelInfo_GetInputCount = Function<230, OrtStatus*(const OrtKernelInfo*, size_t*)>;
using KernelInfo_GetOutputCount = Function<231, OrtStatus*(const OrtKernelInfo*, size_t*)>;
using KernelInfo_GetOutputName =
    Function<233, OrtStatus*(const OrtKernelInfo*, size_t index, char*, size_t* size)>;
using KernelInfo_GetInputTypeInfo = Function<234, OrtStatus*(const OrtKernelInfo*, size_t index, OrtTypeInfo**)>;
using KernelInfo_GetNodeName = Function<244, OrtStatus*(const OrtKernelInfo*, char*, size_t*)>;
using KernelInfoGetConstantInput_tensor =
    Function<249, OrtStatus*(const OrtKernelInfo*, size_t index, int* is_constant, const OrtValue**)>;

// While a session runs.
using KernelContext_GetInput = Function<90, OrtStatus*(const OrtKernelContext*, size_t index, const OrtValue**)>;
using KernelContext_GetOutput =
    Function<91, OrtStatus*(OrtKernelContext*, size_t index, const int64_t* shape, size_t ndim, OrtValue**)>;
using KernelContext_ParallelFor = Function<274, OrtStatus*(const OrtKernelContext*, void (*)(void* data, size_t i),
                                                           size_t n, size_t batches, void* data)>;

// While shapes are inferred. The input's info and the attribute belong to the context.
using ShapeInferContext_GetInputCount = Function<267, OrtStatus*(const OrtShapeInferContext*, size_t*)>;
using ShapeInferContext_GetInputTypeShape =
    Function<268, OrtStatus*(const OrtShapeInferContext*, size_t index, OrtTensorTypeAndShapeInfo**)>;
using ShapeInferContext_GetAttribute =
    Function<269, OrtStatus*(const OrtShapeInferContext*, const char* name, const OrtOpAttr**)>;
using ReadOpAttr =
    Function<272, OrtStatus*(const OrtOpAttr*, AttributeType, void* data, size_t bytes, size_t* size)>;
using ShapeInferContext_SetOutputTypeShape =
    Function<270, OrtStatus*(const OrtShapeInferContext*, size_t index, const OrtTensorTypeAndShapeInfo*)>;

}  // namespace bytenorm::ort
