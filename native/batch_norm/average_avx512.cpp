// The average of 2x2 pixels, channels last, avx512.
#include "../kernel_list.hpp"
#include "../vector_avx512.hpp"
#include "layout_average.hpp"

namespace bytenorm {

void Average_integer_avx512(const Average& a) {
    run_average<Avx512>(a);
}

}  // namespace bytenorm
