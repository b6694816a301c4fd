#include "segment.hpp"

#include <algorithm>
#include <atomic>

#include "kernels/dispatch.hpp"

namespace bytenorm {
namespace {

// Channels last: a tile of pixels keeps its parameters in registers and asks for the next tile's bytes. Beyond
// the caches memory wants few streams in order: few pixels, or one after another with parameters from the cache.
constexpr int64_t tiles_below = int64_t{8} << 20;
constexpr int64_t tile_bytes = 4096;
constexpr int64_t far_tile_bytes = 2048;

std::atomic<int64_t> streamed_from{int64_t{64} << 20};

}  // namespace

int64_t stream_from() {
    return streamed_from.load(std::memory_order_relaxed);
}

int64_t set_stream_from(int64_t bytes) {
    return streamed_from.exchange(bytes);
}

void planes_segment(const Plan& plan, const Folded& folded, Planes& p, int64_t channel) {
    const FloatParams real = folded.real();
    p.real = {real.slope + channel, real.intercept + channel, real.zero_point + channel};
    if (plan.kernel == Plan::planes_table) {
        p.table = folded.table() + 256 * channel;
        return kernels().planes_table(p);
    }
    if (plan.kernel == Plan::planes_fp32) return kernels().planes_fp32(p);

    const IntegerParams integer = folded.integer();
    p.integer = {integer.multiplier + channel, integer.addend + channel, integer.shift + channel};
    for (int64_t start = 0; start < p.count;) {  // runs of channels that are proved, or not
        const bool proved = folded.proved(channel + start * p.channel_step);
        int64_t end = p.channel_step ? start + 1 : p.count;
        while (end < p.count && folded.proved(channel + end) == proved) ++end;
        Planes run = p;
        run.count = end - start;
        run.x += start * p.x_stride, run.y += start * p.y_stride;
        const int64_t c = start * p.channel_step;
        run.real = {p.real.slope + c, p.real.intercept + c, p.real.zero_point + c};
        run.integer = {p.integer.multiplier + c, p.integer.addend + c, p.integer.shift + c};
        if (proved)
            kernels().planes_integer(run);
        else
            kernels().planes_fp32(run);
        start = end;
    }
}

void RowWalk::operator()(const uint8_t* x, uint8_t* y, int64_t pixels, int64_t first_lane, int64_t lanes,
                         int64_t x_stride, int64_t y_stride) const {
    Rows r{};
    r.conversion = folded.conversion();
    r.x_stride = x_stride, r.y_stride = y_stride;
    const bool whole = packed.runs.size() == 1;
    r.stream =
        whole && stream && lanes % 64 == 0 && y_stride % 64 == 0 && reinterpret_cast<uintptr_t>(y) % 64 == 0;
    r.tile = size < tiles_below ? std::max<int64_t>(8, tile_bytes / lanes) : far_tile_bytes / lanes;
    if (r.tile < 4) r.tile = 0;
    // Runs of both arithmetics alternate over so many pixels that they stay in the cache together.
    const int64_t chunk = whole ? pixels : std::max<int64_t>(8, 16384 / lanes);
    for (int64_t start = 0; start < pixels; start += chunk) {
        r.pixels = std::min(chunk, pixels - start);
        for (const RowRun& run : packed.runs) {
            const int64_t begin = std::max(run.first_lane, first_lane);
            const int64_t end = std::min(run.first_lane + run.lanes, first_lane + lanes);
            if (begin >= end) continue;
            r.lanes = end - begin;
            r.x = x + start * x_stride + (begin - first_lane);
            r.y = y + start * y_stride + (begin - first_lane);
            if (!run.integer) {
                r.blocks = packed.real.get() + begin / rows_fp32_width;
                packed.kernels->rows_fp32(r);
            } else {
                const int64_t block = begin / packed.kernels->rows_integer_width;
                r.blocks = packed.wide ? static_cast<const void*>(packed.wide.get() + block)
                                       : packed.narrow.get() + block;
                packed.kernels->rows_integer(r);
            }
        }
    }
}

}  // namespace bytenorm
