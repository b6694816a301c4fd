// The sum of two codes, avx512.
#include "../kernel_list.hpp"
#include "../vector_avx512.hpp"
#include "arithmetic_sum.hpp"

namespace bytenorm {

void Sum_integer_avx512(const Sum& s) {
    run_sum<Avx512>(s);
}

}  // namespace bytenorm
