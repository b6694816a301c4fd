// Channels last, avx512.
#include "../kernel_list.hpp"
#include "../vector_avx512.hpp"
#include "arithmetic_integer.hpp"
#include "flags.hpp"
#include "layout_joined.hpp"
#include "layout_rows.hpp"

namespace bytenorm {

void Rows_integer_avx512(const Rows& r) {
    with_flags(r.conversion,
               [&](auto f) { walk_rows<IntegerArithmetic<Avx512, f.input_signed, f.output_signed, f.relu>>(r); });
}

void Joined_integer_avx512(const Joined& j) {
    with_flags(j.conversion, [&](auto f) {
        walk_joined<IntegerArithmetic<Avx512, f.input_signed, f.output_signed, f.relu>>(j);
    });
}

}  // namespace bytenorm
