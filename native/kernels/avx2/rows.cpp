// Channels last, avx2.
#include "kernels/loops/rows.hpp"
#include "kernels/arithmetic/fp32.hpp"
#include "kernels/arithmetic/integer32.hpp"
#include "kernels/list.hpp"
#include "kernels/loops/flags.hpp"
#include "kernels/loops/joined.hpp"
#include "simd/avx2.hpp"

namespace bytenorm {

void Rows_fp32_avx2(const Rows& r) {
    with_flags(r.conversion,
               [&](auto f) { walk_rows<Fp32Arithmetic<f.input_signed, f.output_signed, f.relu>>(r); });
}

void Rows_integer_avx2(const Rows& r) {
    with_flags(r.conversion,
               [&](auto f) { walk_rows<IntegerArithmetic<Avx2, f.input_signed, f.output_signed, f.relu>>(r); });
}

void Joined_fp32_avx2(const Joined& j) {
    with_flags(j.conversion,
               [&](auto f) { walk_joined<Fp32Arithmetic<f.input_signed, f.output_signed, f.relu>>(j); });
}

void Joined_integer_avx2(const Joined& j) {
    with_flags(j.conversion,
               [&](auto f) { walk_joined<IntegerArithmetic<Avx2, f.input_signed, f.output_signed, f.relu>>(j); });
}

}  // namespace bytenorm
