// A pass over an array, as every binding starts it.
#pragma once

#include "gil.hpp"
#include "passes/single.hpp"

namespace bytenorm {

constexpr int64_t release_gil_from = 65536;  // bytes; handing the GIL over costs 0.1 us

template <class Work>
void without_gil_if_large(int64_t size, const Work& work) {
    if (size < release_gil_from)
        work();
    else
        without_gil(work);
}

inline void run(const Plan& plan, const Folded& folded, const Layout& layout) {
    without_gil_if_large(layout.size, [&] { apply(plan, folded, layout); });
}

}  // namespace bytenorm
