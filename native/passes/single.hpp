// One pass of a folded norm over an array: picks the kernel, splits the work, runs it.
#pragma once

#include "core/layout.hpp"
#include "core/threads.hpp"
#include "fold/fold.hpp"

namespace bytenorm {

// How often these parameters will be used decides what is worth preparing.
enum class Use { once, often };

// What a pass over this layout needs from `folded`.
struct Plan {
    enum Kernel { planes_table, planes_fp32, planes_integer, rows_fp32, rows_integer, strided_table } kernel;
};

Plan choose(const Layout& layout, int64_t channels, Use use);
void prepare(const Plan& plan, Folded& folded);  // not beside another call on the same `folded`
void apply(const Plan& plan, const Folded& folded, const Layout& layout, const Threads& threads = own_threads());

}  // namespace bytenorm
