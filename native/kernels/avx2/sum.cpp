// The sum of two codes, avx2.
#include "kernels/arithmetic/sum.hpp"
#include "kernels/list.hpp"
#include "simd/avx2.hpp"

namespace bytenorm {

void Sum_integer_avx2(const Sum& s) {
    run_sum<Avx2>(s);
}

}  // namespace bytenorm
