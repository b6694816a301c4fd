// Any strides, plain C++: a table lookup an element. The kernel of norms in the scalar set, whose other one builds
// its tables, and the one for strides that no vector kernel walks.
#include <utility>

#include "kernels/list.hpp"

namespace bytenorm {
namespace {

void look_up(const uint8_t* table, const uint8_t* x, uint8_t* y, int64_t n) {  // contiguous, one channel
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const uint8_t a = table[x[j]], b = table[x[j + 1]], c = table[x[j + 2]], d = table[x[j + 3]];
        y[j] = a, y[j + 1] = b, y[j + 2] = c, y[j + 3] = d;
    }
    for (; j < n; ++j) y[j] = table[x[j]];
}

}  // namespace

void Strided_table_scalar(const Strided& given) {
    Strided s = given;
    if (s.length < 16 && s.count > s.length) {  // the longer loop inside: three channels are no inner loop
        std::swap(s.count, s.length);
        std::swap(s.x_stride, s.x_step);
        std::swap(s.y_stride, s.y_step);
        std::swap(s.channel_stride, s.channel_step);
    }
    for (int64_t i = 0; i < s.count; ++i) {
        const uint8_t* table = s.table + 256 * i * s.channel_stride;
        const uint8_t* x = s.x + i * s.x_stride;
        uint8_t* y = s.y + i * s.y_stride;
        if (s.x_step == 1 && s.y_step == 1 && s.channel_step == 0)
            look_up(table, x, y, s.length);
        else if (s.channel_step == 0)
            for (int64_t j = 0; j < s.length; ++j) y[j * s.y_step] = table[x[j * s.x_step]];
        else
            for (int64_t j = 0; j < s.length; ++j) y[j * s.y_step] = table[256 * j + x[j * s.x_step]];
    }
}

}  // namespace bytenorm
