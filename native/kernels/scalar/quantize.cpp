// Quantize and dequantize, scalar.
#include "kernels/loops/quantize.hpp"
#include "kernels/list.hpp"

namespace bytenorm {

void Quantize_fp32_scalar(const Quantize& q) {
    run_quantize(q);
}
void Dequantize_fp32_scalar(const Dequantize& d) {
    run_dequantize(d);
}

}  // namespace bytenorm
