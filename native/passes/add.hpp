// The norm of a sum of two 8-bit tensors: of the sum's codes, or of the sum as it is before it is rounded to
// these.
#pragma once

#include "core/threads.hpp"
#include "fold/exact_fold.hpp"
#include "fold/sum_fit.hpp"
#include "plan.hpp"

namespace bytenorm {

// Arrays of one shape; `sum` takes the codes of a + b, `y` the norm. `y` may be `a` or `b`, and so may `sum`
// unless the norm is that of the exact sum; they lie apart from each other. Without `sum` (null, and its strides
// too) the codes are not kept. Shape and strides are copied: those of an array may change while a pass reads them.
struct AddArrays {
    AddArrays(const uint8_t* a_codes, const uint8_t* b_codes, uint8_t* sum_codes, uint8_t* y_codes,
              const int64_t* a_steps, const int64_t* b_steps, const int64_t* sum_steps, const int64_t* y_steps,
              const int64_t* dims, int dimensions, int channel_axis)
        : a(a_codes), b(b_codes), sum(sum_codes), y(y_codes), ndim(dimensions), axis(channel_axis) {
        for (int d = 0; d < ndim; ++d) {
            a_strides[d] = a_steps[d], b_strides[d] = b_steps[d], y_strides[d] = y_steps[d], shape[d] = dims[d];
            sum_strides[d] = sum ? sum_steps[d] : 0;
        }
    }

    const uint8_t *a, *b;
    uint8_t *sum, *y;
    int64_t a_strides[max_dims], b_strides[max_dims], sum_strides[max_dims], y_strides[max_dims], shape[max_dims];
    int ndim, axis;
};

int64_t size_of(const AddArrays& arrays);  // elements

// From the codes of the sum to their norm: what `choose` looks at, and `apply_add` walks.
Layout layout_of(const AddArrays& arrays);

// `layout` is that of `arrays`, `plan` was chosen for it and `folded` prepared for that.
void apply_add(const Plan& plan, const Folded& folded, const SumFold& sum, const AddArrays& arrays,
               const Layout& layout, const Threads& threads = own_threads());

// The norm of the sum before it is rounded. `sum` may be null where the arrays have no sum.
void apply_add_exact(const ExactFold& folded, const SumFold* sum, const AddArrays& arrays,
                     const Threads& threads = own_threads());

}  // namespace bytenorm
