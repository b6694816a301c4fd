// The average of 2x2 pixels, channels last, in plain C++.
#include "average.hpp"
#include "kernels/list.hpp"

namespace bytenorm {
namespace {

// The arrays lie apart, and everything a loop needs is its own: bytes that are stored could be anything else.
void pixel(const uint8_t* __restrict top, const uint8_t* __restrict bottom, uint8_t* __restrict y,
           int64_t channels, uint8_t flip) {
    for (int64_t c = 0; c < channels; ++c)
        y[c] = average(top[c], top[c + channels], bottom[c], bottom[c + channels], flip);
}

}  // namespace

void Average_bytes_scalar(const Average& a) {
    for (int64_t p = 0; p < a.pixels; ++p)
        pixel(a.top + 2 * p * a.channels, a.bottom + 2 * p * a.channels, a.y + p * a.channels, a.channels,
              a.is_signed ? 0x80 : 0);
}

}  // namespace bytenorm
