// Channels last, avx512.
#include "kernels/loops/rows.hpp"
#include "kernels/arithmetic/integer32.hpp"
#include "kernels/list.hpp"
#include "kernels/loops/flags.hpp"
#include "kernels/loops/joined.hpp"
#include "simd/avx512.hpp"

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
