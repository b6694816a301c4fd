#include "plan.hpp"

#include <algorithm>
#include <numeric>

namespace bytenorm {
namespace {

// Bytes a channel from which preparing pays when the parameters are used once. Measured; docs/kernels-measured.md.
constexpr int64_t once_table = 512;         // a table costs some 35 ns a channel
constexpr int64_t once_table_scalar = 256;  // in scalar code exactly the map of 256 bytes
constexpr int64_t once_words = 8192;        // fitting words costs 0.2 us a channel

// Planes this short are computed where they could be looked up: their tables have to be loaded, too.
constexpr int64_t few_for_table = 512;

constexpr int64_t longest_lanes = 4096;  // pixels side by side: 28 KiB of parameters in words, 48 others

// Few or odd channels leave much of each vector empty. Where pixels touch, whole groups of them make rows that
// fill it, as long as the group's parameters are worth writing out. 0: not here.
int64_t lanes_side_by_side(const Layout& layout, int64_t width) {
    if (layout.outers == 0) return 0;
    const Loop& loop = layout.outer[layout.outers - 1];
    const int64_t channels = layout.inner.n, group = std::lcm(channels, width);
    const bool worth = !fills_vectors(channels, width) && loop.x_stride == channels && loop.y_stride == channels &&
                       group <= longest_lanes && loop.n * channels >= 8 * group;
    return worth ? group : 0;
}

}  // namespace

Plan choose(const Layout& layout, int64_t channels, Use use) {
    const KernelTable& k = kernels();
    const int64_t bytes = layout.size / std::max<int64_t>(channels, 1);  // a channel
    const auto if_worth = [&](int64_t from, Arithmetic prepared) {
        return use == Use::often || bytes >= from ? prepared : Arithmetic::fp32;
    };
    if (layout.kind == Layout::planes) {
        if (k.get<Planes>(Arithmetic::table) && (use == Use::once || layout.inner.n > few_for_table))
            return {Layout::planes, if_worth(once_table, Arithmetic::table)};
        if (k.get<Planes>(Arithmetic::words16)) return {Layout::planes, if_worth(once_words, Arithmetic::words16)};
        const Arithmetic arithmetic = if_worth(once_table_scalar, Arithmetic::table);
        return {arithmetic == Arithmetic::table ? Layout::strided : Layout::planes, arithmetic};
    }
    if (layout.kind == Layout::rows && k.get<Rows>(Arithmetic::words16)) {
        const Arithmetic arithmetic = if_worth(once_words, Arithmetic::words16);
        return {Layout::rows, arithmetic, lanes_side_by_side(layout, k.get<Rows>(arithmetic).width())};
    }
    return {Layout::strided, Arithmetic::table};
}

void prepare(const Plan& plan, Folded& folded) {
    if (plan.loops == Layout::rows)
        folded.prepare_rows(plan.arithmetic, plan.lanes);
    else
        folded.prepare(plan.arithmetic);
}

}  // namespace bytenorm
