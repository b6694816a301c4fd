// Channels last, avx512.
#include "../kernel_list.hpp"
#include "../vector_avx512.hpp"
#include "arithmetic_integer.hpp"
#include "flags.hpp"
#include "layout_rows.hpp"

namespace bytenorm {

void Rows_integer_avx512(const Rows& r) {
    with_flags(r.conversion,
               [&](auto f) { walk_rows<IntegerArithmetic<Avx512, f.input_signed, f.output_signed, f.relu>>(r); });
}

}  // namespace bytenorm
