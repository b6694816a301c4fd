// A pass over an array, as every binding starts it.
#pragma once

#include "../batch_norm/apply.hpp"
#include "gil.hpp"

namespace bytenorm {

constexpr int64_t release_gil_from = 65536;  // bytes; handing the GIL over costs 0.1 us

inline void run(const Plan& plan, const Folded& folded, const Layout& layout) {
    if (layout.size < release_gil_from) return apply(plan, folded, layout);
    without_gil([&] { apply(plan, folded, layout); });
}

}  // namespace bytenorm
