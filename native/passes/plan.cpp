#include "plan.hpp"

#include <algorithm>

namespace bytenorm {
namespace {

// Bytes a channel from which preparing pays when the parameters are used once. Measured; docs/kernels-measured.md.
constexpr int64_t once_table = 512;         // a table costs some 35 ns a channel
constexpr int64_t once_table_scalar = 256;  // in scalar code exactly the map of 256 bytes
constexpr int64_t once_words = 8192;        // fitting words costs 0.2 us a channel

// Planes this short are computed where they could be looked up: their tables have to be loaded, too.
constexpr int64_t few_for_table = 512;

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
    if (layout.kind == Layout::rows && k.get<Rows>(Arithmetic::words16))
        return {Layout::rows, if_worth(once_words, Arithmetic::words16)};
    return {Layout::strided, Arithmetic::table};
}

void prepare(const Plan& plan, Folded& folded) {
    if (plan.loops == Layout::rows)
        folded.prepare_rows(plan.arithmetic);
    else
        folded.prepare(plan.arithmetic);
}

}  // namespace bytenorm
