#include "custom_op.hpp"

#include <string>
#include <utility>

#include "status.hpp"

namespace bytenorm::ort {
namespace {

const CustomOp& self(const OrtCustomOp* op) {
    return *static_cast<const CustomOp*>(op);
}

// The name that a node has in its model, for messages; ONNX Runtime adds it only while a session runs.
std::string node(const CustomOp& op, const OrtKernelInfo* info) {
    size_t size = 0;
    std::string text = op.name;
    if (!succeeds<KernelInfo_GetNodeName>(op.api, info, static_cast<char*>(nullptr), &size) || size <= 1)
        return text;
    std::string name(size, '\0');
    if (!succeeds<KernelInfo_GetNodeName>(op.api, info, name.data(), &size)) return text;
    name.resize(size - 1);
    return text + " node '" + name + "'";
}

OrtStatus* create(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
    return guarded(api, [&] {
        try {
            *kernel = self(op).kernel(info).release();
        } catch (const Refusal& refusal) {
            throw Refusal(node(self(op), info) + ": " + refusal.what());
        }
    });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
    Kernel& k = *static_cast<Kernel*>(kernel);
    return guarded(k.api, [&] { k.compute(context); });
}

OrtStatus* infer(const OrtCustomOp* op, OrtShapeInferContext* context) {
    // ONNX Runtime drops the answer, so what is wrong here is left to the kernel to refuse.
    OrtStatus* status = guarded(self(op).api, [&] { self(op).infer_shapes(context); });
    if (status) ReleaseStatus::call(self(op).api, status);
    return nullptr;
}

}  // namespace

CustomOp::CustomOp(const OrtApi* api, const char* name, std::vector<ElementType> inputs,
                   std::vector<ElementType> outputs, LastOnes last)
    : OrtCustomOp{}, api(api), name(name), inputs(std::move(inputs)), outputs(std::move(outputs)), last(last) {
    version = api_version;
    GetName = [](const OrtCustomOp* op) { return self(op).name; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU's
    GetInputType = [](const OrtCustomOp* op, size_t i) { return self(op).inputs[i]; };
    GetInputTypeCount = [](const OrtCustomOp* op) { return self(op).inputs.size(); };
    GetOutputType = [](const OrtCustomOp* op, size_t i) { return self(op).outputs[i]; };
    GetOutputTypeCount = [](const OrtCustomOp* op) { return self(op).outputs.size(); };
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    GetInputCharacteristic = [](const OrtCustomOp* op, size_t i) {
        return i + 1 < self(op).inputs.size() ? required : self(op).last.input;
    };
    GetOutputCharacteristic = [](const OrtCustomOp* op, size_t i) {
        return i + 1 < self(op).outputs.size() ? required : self(op).last.output;
    };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return default_memory; };
    GetVariadicInputMinArity = GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicInputHomogeneity = GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = create;
    KernelComputeV2 = compute;
    InferOutputShapeFn = infer;
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
}

}  // namespace bytenorm::ort
