// The average of 2x2 pixels, channels last, avx2.
#include "../kernel_list.hpp"
#include "../vector_avx2.hpp"
#include "layout_average.hpp"

namespace bytenorm {

void Average_integer_avx2(const Average& a) {
    run_average<Avx2>(a);
}

}  // namespace bytenorm
