// The sum of two codes, avx2.
#include "../kernel_list.hpp"
#include "../vector_avx2.hpp"
#include "arithmetic_sum.hpp"

namespace bytenorm {

void Sum_integer_avx2(const Sum& s) {
    run_sum<Avx2>(s);
}

}  // namespace bytenorm
