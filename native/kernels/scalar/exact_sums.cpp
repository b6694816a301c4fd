// The norm of a sum of any number of tensors, plain C++.
#include <algorithm>

#include "element.hpp"
#include "kernels/list.hpp"

namespace bytenorm {

void ExactSums_fp64_scalar(const ExactSums& s) {
    for (int64_t run = 0; run < s.count; ++run) {
        int64_t at = s.from + run * s.length, c = s.channel + run * s.channel_stride;
        for (int64_t i = 0; i < s.length; ++i, ++at, c += s.channel_step) {
            double total = static_cast<double>(s.intercept[c]);
            for (int64_t k = s.summands - 1; k >= 0; --k) {
                const int code = s.conversion.input_signed ? static_cast<int8_t>(s.x[k][at]) : s.x[k][at];
                total += static_cast<double>(s.slopes[k][c]) * (code - s.zero_points[k]);
            }
            total = std::min(std::max(total, s.lowest[c]), s.highest[c]);
            s.y[at] = exact_element(total, s.conversion);
        }
    }
}

}  // namespace bytenorm
