// Which kernels a pass over an array takes, and what has to be prepared for them.
#pragma once

#include "core/layout.hpp"
#include "fold/fold.hpp"

namespace bytenorm {

// How often these parameters will be used decides what is worth preparing.
enum class Use { once, often };

struct Plan {
    Layout::Kind loops;     // strided ones walk any layout
    Arithmetic arithmetic;  // or what is behind it, where it is not proved
    // Of pixels side by side in one row, where one pixel alone leaves vectors empty; of all planes of an image,
    // where it is walked as a row.
    int64_t lanes = 0;
    // Those that it was chosen for: another thread may select others, which need not have this arithmetic.
    const KernelTable* kernels = nullptr;
};

// Whether the planes of each image touch, all channels of them.
bool touch_in_images(const Layout& layout, int64_t channels);

Plan choose(const Layout& layout, int64_t channels, Use use);
void prepare(const Plan& plan, Folded& folded);  // no two at once on the same `folded`

}  // namespace bytenorm
