// The norm of a sum of any number of tensors, as it is before it is rounded, over arrays without gaps.
#pragma once

#include <vector>

#include "core/threads.hpp"
#include "fold/exact_sums_fold.hpp"

namespace bytenorm {

// Arrays of one shape, `outer` x channels x `inner`. `y` lies apart from all summands.
struct SumsArrays {
    std::vector<const uint8_t*> x;
    uint8_t* y;
    int64_t outer, inner;
};

void apply_exact_sums(const ExactSumsFold& folded, const SumsArrays& arrays, const Threads& threads);

}  // namespace bytenorm
