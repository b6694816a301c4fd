// The norm of a sum: a tile of the sum is normalized while it is in the first cache.
#pragma once

#include "apply.hpp"
#include "sum_fit.hpp"

namespace bytenorm {

// Arrays of one shape; `sum` takes the codes of a + b, `y` their norm. `y` may be `a` or `b`.
struct AddArrays {
    const uint8_t *a, *b;
    uint8_t *sum, *y;
    const int64_t *a_strides, *b_strides, *sum_strides, *y_strides, *shape;
    int ndim, axis;
};

void apply_add(const Plan& plan, const Folded& folded, const SumFold& sum, const AddArrays& arrays,
               const Layout& layout, const Threads& threads = own_threads());

}  // namespace bytenorm
