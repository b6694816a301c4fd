#include "segment.hpp"

#include <algorithm>
#include <atomic>

namespace bytenorm {
namespace {

// Channels last: a tile of pixels keeps its parameters in registers and asks for the next tile's bytes. Beyond
// the caches memory wants few streams in order: few pixels, or one after another with parameters from the cache.
constexpr int64_t tile_bytes = 4096;
constexpr int64_t far_tile_bytes = 2048;

// Where kernels may walk a few pixels abreast instead of a tile (AVX2): short ones from beyond the second cache,
// which the CPU follows, and long ones in it, of which few share a set of the first. Measured;
// docs/kernels-layouts.md.
constexpr int64_t second_cache = int64_t{1} << 20;
bool worth_abreast(int64_t lanes, int64_t size) {
    return lanes <= 256 ? size >= second_cache : lanes >= 1024 && size < second_cache;
}

std::atomic<int64_t> streamed_from{int64_t{64} << 20};

}  // namespace

int64_t stream_from() {
    return streamed_from.load(std::memory_order_relaxed);
}

int64_t set_stream_from(int64_t bytes) {
    return streamed_from.exchange(bytes);
}

void planes_segment(const Plan& plan, const Folded& folded, const Planes& p, int64_t channel) {
    for (int64_t start = 0; start < p.count;) {  // runs of channels that one arithmetic computes
        const int64_t c = channel + start * p.channel_step;
        Planes run = p;
        run.count = p.channel_step ? folded.alike(c, p.count - start, plan.arithmetic) : p.count;
        run.x += start * p.x_stride, run.y += start * p.y_stride;
        const Arithmetic arithmetic = folded.arithmetic_of(c, plan.arithmetic);
        run.params = folded.from(c, arithmetic);
        plan.kernels->get<Planes>(arithmetic)(run);
        start += run.count;
    }
}

void strided_segment(const Folded& folded, const uint8_t* x, uint8_t* y, int64_t count, const Loop& loop,
                     const Loop& inner, int64_t channel) {
    kernel<Strided>(Arithmetic::table)({x, y, count, loop.x_stride, loop.y_stride, loop.channel_step, inner.n,
                                        inner.x_stride, inner.y_stride, inner.channel_step,
                                        folded.table(channel)});
}

void RowWalk::operator()(const uint8_t* x, uint8_t* y, int64_t pixels, int64_t first_lane, int64_t lanes,
                         int64_t x_stride, int64_t y_stride) const {
    Rows r{};
    r.conversion = folded.conversion();
    r.x_stride = x_stride, r.y_stride = y_stride;
    const bool whole = packed.runs.size() == 1;
    r.stream =
        whole && stream && lanes % 64 == 0 && y_stride % 64 == 0 && reinterpret_cast<uintptr_t>(y) % 64 == 0;
    // Pixels of 2048 lanes share two sets of the first cache: eight of them evict each other. With 1024 lanes four
    // are too few for bytes from far. Measured; docs/kernels-layouts.md.
    r.tile =
        size < tiles_below ? std::max<int64_t>(lanes > 1024 ? 4 : 8, tile_bytes / lanes) : far_tile_bytes / lanes;
    if (r.tile < 4) r.tile = 0;
    if (images)
        r.abreast = (x_stride | y_stride) % 2048 == 0 ? 4 : 8;  // those share sets of the first cache
    else
        r.abreast = worth_abreast(lanes, size) ? 4 : 0;
    // Runs of several arithmetics alternate over so many pixels that they stay in the cache together.
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
            const Kernel<Rows>& kernel = packed.kernels->get<Rows>(run.arithmetic);
            r.blocks = packed.at(kernel, run.arithmetic, begin);
            kernel(r);
        }
    }
}

}  // namespace bytenorm
