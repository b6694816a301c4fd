// Channels first, plain C++: float32 element by element. Builds the tables of the scalar set.
#include "element.hpp"
#include "kernels/list.hpp"

namespace bytenorm {

void Planes_fp32_scalar(const Planes& p) {
    for (int64_t i = 0; i < p.count; ++i) {
        const int64_t c = i * p.channel_step;
        for (int64_t k = 0; k < p.images; ++k) {
            const uint8_t* x = p.x + i * p.x_stride + k * p.x_image;
            uint8_t* y = p.y + i * p.y_stride + k * p.y_image;
            for (int64_t j = 0; j < p.length; ++j)
                y[j] = element(x[j], p.params.real.slope[c], p.params.real.intercept[c],
                               p.params.real.zero_point[c], p.conversion);
        }
    }
}

}  // namespace bytenorm
