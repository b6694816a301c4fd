// Channels first, avx512.
#include "../kernel_list.hpp"
#include "../vector_avx512.hpp"
#include "arithmetic_integer.hpp"
#include "flags.hpp"
#include "layout_planes.hpp"

namespace bytenorm {

void Planes_integer_avx512(const Planes& p) {
    with_flags(p.conversion, [&](auto f) {
        walk_planes<IntegerArithmetic<Avx512, f.input_signed, f.output_signed, f.relu>>(p);
    });
}

}  // namespace bytenorm
