// One pass of a folded norm over an array: splits the work and runs it.
#pragma once

#include "core/threads.hpp"
#include "plan.hpp"

namespace bytenorm {

// `plan` was chosen for this layout, and `folded` prepared for it.
void apply(const Plan& plan, const Folded& folded, const Layout& layout, const Threads& threads = own_threads());

// The same for a layout of planes that has some of the channels: `first_channel` and those after it.
void apply_planes(const Plan& plan, const Folded& folded, const Layout& layout, int64_t first_channel,
                  const Threads& threads);

}  // namespace bytenorm
