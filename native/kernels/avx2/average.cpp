// The average of 2x2 pixels, channels last, avx2.
#include "kernels/loops/average.hpp"
#include "kernels/list.hpp"
#include "simd/avx2.hpp"

namespace bytenorm {

void Average_integer_avx2(const Average& a) {
    run_average<Avx2>(a);
}

}  // namespace bytenorm
