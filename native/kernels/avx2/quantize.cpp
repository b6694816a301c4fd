// Quantize and dequantize, avx2.
#include "quantize/quantize.hpp"
#include "kernels/loops/quantize.inc"

namespace bytenorm {

bool quantize_run_avx2(const QuantizeRun& r) {
    return quantize_any(r);
}
void dequantize_run_avx2(const DequantizeRun& r) {
    dequantize_any(r);
}

}  // namespace bytenorm
