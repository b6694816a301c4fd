// The entry point that ONNX Runtime looks up in a library of operators.
#include <cstdio>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/dispatch.hpp"
#include "operators.hpp"
#include "status.hpp"

namespace bytenorm::ort {
namespace {

constexpr const char* domain_name = "bytenorm";
constexpr const char* registered = "bytenorm.registered";

// Before it, saying something of an output that a node does not have ends the process; 1.17.3 to 1.27.0 were
// tried.
constexpr int first_that_checks_outputs = 28;  // of 1.x

OrtCustomOpDomain* make_domain(const OrtApi* api, bool checks_outputs) {
    OrtCustomOpDomain* domain = nullptr;
    check<CreateCustomOpDomain>(api, domain_name, &domain);
    for (const auto& operators : {qlinear_batch_norms(api), qlinear_concat_batch_norms(api),
                                  qlinear_add_batch_norms(api, checks_outputs), qlinear_sum_batch_norms(api)})
        for (const CustomOp* op : operators)
            check<CustomOpDomain_Add>(api, domain, static_cast<const OrtCustomOp*>(op));
    return domain;
}

// One domain for each ONNX Runtime in the process, never freed: nothing tells when the last session has ended.
OrtCustomOpDomain* domain_of(const OrtApi* api, bool checks_outputs) {
    struct Entry {
        const OrtApi* api;
        OrtCustomOpDomain* domain;
    };
    static std::mutex& mutex = *new std::mutex;
    static std::vector<Entry>& entries = *new std::vector<Entry>;
    std::lock_guard<std::mutex> guard(mutex);
    for (const Entry& entry : entries)
        if (entry.api == api) return entry.domain;
    entries.reserve(entries.size() + 1);
    entries.push_back({api, make_domain(api, checks_outputs)});
    return entries.back().domain;
}

// Whether this is ONNX Runtime 1.`wanted` or newer; what cannot be read is.
bool at_least(const char* version, int wanted) {
    int major = 0, minor = 0;
    return std::sscanf(version, "%d.%d", &major, &minor) != 2 || major > 1 || (major == 1 && minor >= wanted);
}

OrtStatus* register_operators(OrtSessionOptions* options, const OrtApiBase* base) {
    const char* version = base->GetVersionString();
    // GetApi prints to the standard error when it has no such version.
    const OrtApi* api = at_least(version, api_version_minor) ? base->GetApi(api_version) : nullptr;
    if (!api) {
        // Making a status has been the first function since the first version.
        const OrtApi* oldest = base->GetApi(1);
        char message[160];
        std::snprintf(message, sizeof message,
                      "bytenorm: ONNX Runtime 1.17 or newer is needed for its operators, this is %.40s", version);
        return oldest ? CreateStatus::call(oldest, fail, message) : nullptr;
    }
    return guarded(api, [&] {
        ensure_kernels();
        int already = 0;
        check<HasSessionConfigEntry>(api, options, registered, &already);
        if (already)
            throw Refusal(
                "bytenorm: its operators are registered in these SessionOptions already; once is enough");
        check<AddCustomOpDomain>(api, options, domain_of(api, at_least(version, first_that_checks_outputs)));
        check<AddSessionConfigEntry>(api, options, registered, "1");
    });
}

}  // namespace
}  // namespace bytenorm::ort

#if defined(_WIN32)
#define BYTENORM_EXPORT __declspec(dllexport)
#else
#define BYTENORM_EXPORT __attribute__((visibility("default")))
#endif

extern "C" BYTENORM_EXPORT bytenorm::ort::OrtStatus* RegisterCustomOps(bytenorm::ort::OrtSessionOptions* options,
                                                                       const bytenorm::ort::OrtApiBase* base) {
    return bytenorm::ort::register_operators(options, base);
}
