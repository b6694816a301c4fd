#include "exact_sums.hpp"

#include <algorithm>

#include "kernels/dispatch.hpp"

namespace bytenorm {
namespace {

// Every unit is a row of all channels.
void run_rows(const ExactSums& whole, int64_t rows, int64_t channels, const Threads& threads) {
    const auto compute = kernel<ExactSums>(Arithmetic::fp64);  // the same for all parts
    auto body = [&](int64_t begin, int64_t end) {
        ExactSums run = whole;
        run.from = begin * channels, run.count = end - begin, run.length = channels;
        run.channel_step = 1;
        compute(run);
    };
    threads.run(rows, 4 * whole.summands * rows * channels, body);
}

// Every unit is a piece of a plane: a whole one, where there are enough.
void run_planes(const ExactSums& whole, int64_t planes, int64_t channels, int64_t inner, const Threads& threads) {
    const int64_t pieces = pieces_of(planes, inner, threads.most());
    const auto compute = kernel<ExactSums>(Arithmetic::fp64);  // the same for all parts
    auto body = [&](int64_t begin, int64_t end) {
        ExactSums run = whole;
        run.channel_stride = 1;
        for (int64_t unit = begin; unit < end;) {
            const int64_t plane = unit / pieces, piece = unit % pieces;
            run.channel = plane % channels;
            // Planes of one image may go together.
            run.count = pieces == 1 ? std::min(channels - run.channel, end - unit) : 1;
            const int64_t start = inner * piece / pieces;
            run.from = plane * inner + start, run.length = inner * (piece + 1) / pieces - start;
            compute(run);
            unit += run.count;
        }
    };
    threads.run(planes * pieces, 4 * whole.summands * planes * inner, body);
}

}  // namespace

void apply_exact_sums(const ExactSumsFold& folded, const SumsArrays& arrays, const Threads& threads) {
    const int64_t channels = folded.channels();
    ExactSums run{};
    folded.fill(run);
    run.x = arrays.x.data(), run.y = arrays.y;
    if (arrays.inner == 1)
        run_rows(run, arrays.outer, channels, threads);
    else
        run_planes(run, arrays.outer * channels, channels, arrays.inner, threads);
}

}  // namespace bytenorm
