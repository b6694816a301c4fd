// Quantize and dequantize, scalar.
#include "quantize/quantize.hpp"
#include "kernels/loops/quantize.inc"

namespace bytenorm {

bool quantize_run_scalar(const QuantizeRun& r) {
    return quantize_any(r);
}
void dequantize_run_scalar(const DequantizeRun& r) {
    dequantize_any(r);
}

}  // namespace bytenorm
