#include "shape_inference.hpp"

#include <atomic>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "owned.hpp"
#include "status.hpp"

namespace bytenorm::ort {
namespace {

// A name that no other dimension has, not even one that another process wrote into a saved model: two dimensions
// of one name count as equal.
std::string fresh_name() {
    static const uint64_t process = [] {
        std::random_device random;
        return uint64_t{random()} << 32 | random();
    }();
    static std::atomic<uint64_t> count{0};
    char name[64];
    std::snprintf(name, sizeof name, "bytenorm_%016llx_%llu", static_cast<unsigned long long>(process),
                  static_cast<unsigned long long>(count.fetch_add(1)));
    return name;
}

}  // namespace

KnownShape known_input(const OrtApi* api, const OrtShapeInferContext* context, size_t index) {
    OrtTensorTypeAndShapeInfo* info = nullptr;  // belongs to the context
    check<ShapeInferContext_GetInputTypeShape>(api, context, index, &info);
    KnownShape known{};
    known.shape = shape_of(api, info, "an input");
    if (known.shape.ndim > 0)
        check<GetSymbolicDimensions>(api, info, known.names, static_cast<size_t>(known.shape.ndim));
    return known;
}

size_t input_count(const OrtApi* api, const OrtShapeInferContext* context) {
    size_t count = 0;
    check<ShapeInferContext_GetInputCount>(api, context, &count);
    return count;
}

int64_t integer_attribute_of(const OrtApi* api, const OrtShapeInferContext* context, const char* name) {
    const OrtOpAttr* attribute = nullptr;
    int64_t value = 0;
    size_t size = 0;
    if (!succeeds<ShapeInferContext_GetAttribute>(api, context, name, &attribute) || !attribute ||
        !succeeds<ReadOpAttr>(api, attribute, integer_attribute, static_cast<void*>(&value), sizeof value, &size))
        return 0;
    return value;
}

void infer_output(const OrtApi* api, OrtShapeInferContext* context, size_t output, const KnownShape& known,
                  size_t type_input) {
    const Shape& shape = known.shape;
    if (shape.ndim == 0) return;
    OrtTensorTypeAndShapeInfo* typed = nullptr;  // belongs to the context
    check<ShapeInferContext_GetInputTypeShape>(api, context, type_input, &typed);
    ElementType type{};
    check<GetTensorElementType>(api, typed, &type);
    const size_t ndim = static_cast<size_t>(shape.ndim);
    std::vector<const char*> names(known.names, known.names + ndim);

    // A dimension that is neither known nor named would become the number -1. It gets a name of its own, which
    // says as little.
    std::vector<std::string> fresh;
    fresh.reserve(ndim);
    for (size_t d = 0; d < ndim; ++d) {
        if (shape.dims[d] >= 0 || (names[d] && *names[d])) continue;
        fresh.push_back(fresh_name());
        names[d] = fresh.back().c_str();
    }

    OrtTensorTypeAndShapeInfo* inferred = nullptr;
    check<CreateTensorTypeAndShapeInfo>(api, &inferred);
    const OwnedShapeInfo owned(api, inferred);
    check<SetTensorElementType>(api, inferred, type);
    check<SetDimensions>(api, inferred, shape.dims, ndim);
    check<SetSymbolicDimensions>(api, inferred, names.data(), ndim);
    check<ShapeInferContext_SetOutputTypeShape>(api, context, output, inferred);
}

}  // namespace bytenorm::ort
