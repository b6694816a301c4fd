// The norm of a sum of two 8-bit tensors: of the sum's codes, or of the sum as it is before it is rounded to
// these.
#pragma once

#include "apply.hpp"
#include "exact_fold.hpp"
#include "sum_fit.hpp"

namespace bytenorm {

// Arrays of one shape; `sum` takes the codes of a + b, `y` the norm. `y` may be `a` or `b`, `sum` lies apart.
// Without `sum` (null, and its strides too) the codes are not kept.
struct AddArrays {
    const uint8_t *a, *b;
    uint8_t *sum, *y;
    const int64_t *a_strides, *b_strides, *sum_strides, *y_strides, *shape;
    int ndim, axis;
};

// From the codes of the sum to their norm: what `choose` looks at, and `apply_add` walks.
Layout layout_of(const AddArrays& arrays);

// `layout` is that of `arrays`, `plan` was chosen for it and `folded` prepared for that.
void apply_add(const Plan& plan, const Folded& folded, const SumFold& sum, const AddArrays& arrays,
               const Layout& layout, const Threads& threads = own_threads());

// The norm of the sum before it is rounded. `sum` may be null where the arrays have no sum.
void apply_add_exact(const ExactFold& folded, const SumFold* sum, const AddArrays& arrays,
                     const Threads& threads = own_threads());

}  // namespace bytenorm
