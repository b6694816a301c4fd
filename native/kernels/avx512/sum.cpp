// The sum of two codes, avx512.
#include "kernels/arithmetic/sum.hpp"
#include "kernels/list.hpp"
#include "simd/avx512.hpp"

namespace bytenorm {

void Sum_integer_avx512(const Sum& s) {
    run_sum<Avx512>(s);
}

}  // namespace bytenorm
