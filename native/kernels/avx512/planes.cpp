// Channels first, avx512.
#include "kernels/loops/planes.hpp"
#include "kernels/arithmetic/integer32.hpp"
#include "kernels/list.hpp"
#include "kernels/loops/flags.hpp"
#include "simd/avx512.hpp"

namespace bytenorm {

void Planes_integer_avx512(const Planes& p) {
    with_flags(p.conversion, [&](auto f) {
        walk_planes<IntegerArithmetic<Avx512, f.input_signed, f.output_signed, f.relu>>(p);
    });
}

}  // namespace bytenorm
