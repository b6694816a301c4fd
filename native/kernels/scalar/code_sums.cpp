// Sums, plain C++.
#include "kernels/list.hpp"

namespace bytenorm {

void PlaneSums_integer32_scalar(const PlaneSums& p) {
    const int flip = p.is_signed ? 0x80 : 0;
    for (int64_t c = 0; c < p.channels; ++c) {
        Sums& total = p.totals[c];
        int low = total.low, high = total.high;
        for (int64_t i = 0; i < p.runs; ++i) {
            const uint8_t* x = p.x + c * p.channel_stride + i * p.stride;
            for (int64_t start = 0; start < p.length; start += lane_rows) {  // 65536 squares fit 32 bits
                const int64_t end = p.length - start < lane_rows ? p.length : start + lane_rows;
                uint32_t sum = 0, square = 0;
                for (int64_t j = start; j < end; ++j) {
                    const int u = x[j] ^ flip;
                    sum += static_cast<uint32_t>(u), square += static_cast<uint32_t>(u * u);
                    low = u < low ? u : low, high = u > high ? u : high;
                }
                total.sum += sum, total.square += square;
            }
        }
        total.low = static_cast<uint8_t>(low), total.high = static_cast<uint8_t>(high);
    }
}
void RowSums_integer32_scalar(const RowSums& r) {
    // Local and restricted: a store of bytes may otherwise change anything, which stops the vectorizer.
    uint32_t* __restrict sum = r.total.sum, * __restrict square = r.total.square;
    uint8_t* __restrict low = r.total.low, * __restrict high = r.total.high;
    const int flip = r.is_signed ? 0x80 : 0;
    const int64_t lanes = r.lanes;
    for (int64_t i = 0; i < r.rows; ++i) {
        const uint8_t* __restrict x = r.x + i * r.stride;
        for (int64_t j = 0; j < lanes; ++j) {
            const uint8_t u = static_cast<uint8_t>(x[j] ^ flip);
            sum[j] += u, square[j] += static_cast<uint32_t>(u * u);
            low[j] = u < low[j] ? u : low[j], high[j] = u > high[j] ? u : high[j];
        }
    }
}

}  // namespace bytenorm
