// The norm of a concatenation, averaged over 2x2 pixels: two rows of it are averaged while they are in the first
// cache, and never written anywhere else.
#pragma once

#include <vector>

#include "core/threads.hpp"
#include "plan.hpp"

namespace bytenorm {

// Arrays of images without gaps, of one number of images, height and width.
struct AveragedPiece {
    const uint8_t* x;
    int64_t channels;
};
struct AveragedArrays {
    std::vector<AveragedPiece> pieces;  // none without channels
    uint8_t* y;                         // of half the height and width, rounded down
    int64_t images, height, width;
    bool channels_last;

    int64_t channels() const;
};

Plan choose_average_pool(const AveragedArrays& arrays, Use use);

// An average is that of the codes as numbers, rounded half to even.
void apply_average_pool(const Plan& plan, const Folded& folded, const AveragedArrays& arrays,
                        const Threads& threads = own_threads());

}  // namespace bytenorm
