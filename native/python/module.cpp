// The module bytenorm._core.
#define BYTENORM_IMPORTS_NUMPY
#include <algorithm>

#include "core/threads.hpp"
#include "kernels/dispatch.hpp"
#include "passes/segment.hpp"
#include "tensor.hpp"
#include "torch_tensor.hpp"

namespace bytenorm {
namespace {

nb::list isas() {
    nb::list names;
    for (Isa isa : available_isas()) names.append(isa_name(isa));
    return names;
}

int import_numpy() {
    import_array1(-1);
    return 0;
}

}  // namespace
}  // namespace bytenorm

NB_MODULE(_core, module) {
    using namespace bytenorm;
    if (import_numpy() != 0) nb::raise_python_error();
    nb::set_leak_warnings(false);  // a daemon thread may hold tensors when the process ends
    module.def("select_isa", &select_kernels, nb::arg("name"));
    module.def("isa", [] { return isa_name(kernels().isa()); });
    module.def("isas", &isas);
    module.def("get_num_threads", &num_threads);
    module.def("set_num_threads", &set_num_threads, nb::arg("n"));
    module.def("default_num_threads", &default_num_threads);
    module.def("set_stream_from", &set_stream_from, nb::arg("bytes"));
    module.def(
        "set_bytes_a_thread", [](int64_t bytes) { return set_bytes_a_thread(std::max<int64_t>(bytes, 1)); },
        nb::arg("bytes"));
    module.def("work_alone", &work_alone, nb::arg("alone"));
    module.attr("compiler") = BYTENORM_COMPILER;
    module.attr("version") = BYTENORM_VERSION;
    bind_tensor(module);
    bind_batch_norm(module);
    bind_torch_tensor(module);
    bind_torch_batch_norm(module);
    bind_quantize(module);
    bind_statistics(module);
    bind_kernels(module);
    bind_fits(module);
}
