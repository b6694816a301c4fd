// The norm of a sum that is not rounded, plain C++: doubles, any strides.
#include "element.hpp"
#include "kernels/list.hpp"

namespace bytenorm {

void ExactSum_fp64_scalar(const ExactSum& s) {
    for (int64_t run = 0; run < s.count; ++run) {
        const uint8_t *a = s.a + run * s.a_stride, *b = s.b + run * s.b_stride;
        uint8_t* y = s.y + run * s.y_stride;
        int64_t c = run * s.channel_stride;
        for (int64_t i = 0; i < s.length; ++i, a += s.a_step, b += s.b_step, y += s.y_step, c += s.channel_step) {
            const int code_a = s.conversion.input_signed ? static_cast<int8_t>(*a) : *a;
            const int code_b = s.conversion.input_signed ? static_cast<int8_t>(*b) : *b;
            const double of_a = static_cast<double>(s.slope_a[c]) * (code_a - s.zero_point_a);
            const double of_b = static_cast<double>(s.slope_b[c]) * (code_b - s.zero_point_b);
            *y = exact_element(of_a + (of_b + static_cast<double>(s.intercept[c])), s.conversion);
        }
    }
}

}  // namespace bytenorm
