// Channels first, avx2.
#include "../kernel_list.hpp"
#include "../vector_avx2.hpp"
#include "arithmetic_fp32.hpp"
#include "arithmetic_integer.hpp"
#include "flags.hpp"
#include "layout_planes.hpp"

namespace bytenorm {

void Planes_fp32_avx2(const Planes& p) {
    with_flags(p.conversion,
               [&](auto f) { walk_planes<Fp32Arithmetic<f.input_signed, f.output_signed, f.relu>>(p); });
}

void Planes_integer_avx2(const Planes& p) {
    with_flags(p.conversion,
               [&](auto f) { walk_planes<IntegerArithmetic<Avx2, f.input_signed, f.output_signed, f.relu>>(p); });
}

}  // namespace bytenorm
