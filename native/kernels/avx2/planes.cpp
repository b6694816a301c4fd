// Channels first, avx2.
#include "kernels/loops/planes.hpp"
#include "kernels/arithmetic/fp32.hpp"
#include "kernels/arithmetic/integer32.hpp"
#include "kernels/list.hpp"
#include "kernels/loops/flags.hpp"
#include "simd/avx2.hpp"

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
