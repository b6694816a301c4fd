// The average of 2x2 pixels, channels last, avx512.
#include "kernels/loops/average.hpp"
#include "kernels/list.hpp"
#include "simd/avx512.hpp"

namespace bytenorm {

void Average_integer_avx512(const Average& a) {
    run_average<Avx512>(a);
}

}  // namespace bytenorm
