#include "plan.hpp"

#include <algorithm>

namespace bytenorm {
namespace {

// Bytes a channel from which preparing pays when the parameters are used once. Measured; docs/kernels-measured.md.
constexpr int64_t once_table = 512;         // a table costs some 35 ns a channel
constexpr int64_t once_table_scalar = 256;  // in scalar code exactly the map of 256 bytes
constexpr int64_t once_integer = 16384;     // fitting integers costs 0.6 us a channel

}  // namespace

Plan choose(const Layout& layout, int64_t channels, Use use) {
    const KernelTable& k = kernels();
    const int64_t bytes = layout.size / std::max<int64_t>(channels, 1);  // a channel
    const auto if_worth = [&](int64_t from, Arithmetic prepared) {
        return use == Use::often || bytes >= from ? prepared : Arithmetic::fp32;
    };
    if (layout.kind == Layout::planes) {
        if (k.get<Planes>(Arithmetic::table)) return {Layout::planes, if_worth(once_table, Arithmetic::table)};
        if (k.get<Planes>(Arithmetic::integer32))
            return {Layout::planes, if_worth(once_integer, Arithmetic::integer32)};
        const Arithmetic arithmetic = if_worth(once_table_scalar, Arithmetic::table);
        return {arithmetic == Arithmetic::table ? Layout::strided : Layout::planes, arithmetic};
    }
    if (layout.kind == Layout::rows && k.get<Rows>(Arithmetic::integer32))
        return {Layout::rows, if_worth(once_integer, Arithmetic::integer32)};
    return {Layout::strided, Arithmetic::table};
}

void prepare(const Plan& plan, Folded& folded) {
    if (plan.loops == Layout::rows)
        folded.prepare_rows(plan.arithmetic);
    else
        folded.prepare(plan.arithmetic);
}

}  // namespace bytenorm
