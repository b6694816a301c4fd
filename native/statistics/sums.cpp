// The sums of an array's channels: kernels over planes and rows, and whatever has other strides made planes of.
#include <numeric>

#include "kernels/dispatch.hpp"
#include "walk.hpp"

namespace bytenorm {
namespace {

// Channels first: as many codes of a channel go into one call of a kernel, then the next channel's, in memory's
// order as far as planes are long. A call ends with some 20 ns of adding up its vectors.
constexpr int64_t codes_a_call = 16384;
constexpr int64_t most_runs = 64;  // small planes of many images: their lines stay in the first cache

constexpr int64_t buffer_size = 4096;

void add(const Sums& from, Sums& to) {
    to.sum += from.sum, to.square += from.square;
    to.low = std::min(to.low, from.low), to.high = std::max(to.high, from.high);
}

// One piece at a time: codes that do not touch go through a buffer.
void add_gathered(const Walk& walk, int64_t channel, int64_t start, int64_t end, bool is_signed, Sums* total) {
    uint8_t buffer[buffer_size];
    int64_t filled = 0;
    walk.for_each_run(channel, start, end, [&](const uint8_t* x, int64_t runs, int64_t stride, int64_t n) {
        for (int64_t i = 0; i < runs; ++i)
            for (int64_t j = 0; j < n; ++j) buffer[filled++] = x[i * stride + j * walk.step];
    });
    kernel<PlaneSums>(Arithmetic::integer32)({buffer, 1, 0, 1, 0, filled, is_signed, total});
}

void add_planes(const Walk& walk, bool is_signed, Sums* totals) {
    const int64_t runs = std::min(std::max(codes_a_call / walk.length, int64_t{1}), most_runs);
    const int64_t stride = walk.step == 1 ? runs * walk.length : buffer_size;
    for_each_piece(walk, 1, [&](int64_t first, int64_t behind, int64_t from, int64_t to, std::mutex* mutex) {
        Sums alone{0, 0, 255, 0};  // pieces that share a channel have no other
        Sums* mine = mutex ? &alone : totals + first;
        for (int64_t start = from; start < to; start += stride) {
            const int64_t end = std::min(start + stride, to);
            if (walk.step != 1) {
                for (int64_t c = first; c < behind; ++c)
                    add_gathered(walk, c, start, end, is_signed, mine + (c - first));
                continue;
            }
            walk.for_each_run(first, start, end, [&](const uint8_t* x, int64_t count, int64_t apart, int64_t n) {
                kernel<PlaneSums>(Arithmetic::integer32)(
                    {x, behind - first, walk.channel_stride, count, apart, n, is_signed, mine});
            });
        }
        if (!mutex) return;
        const std::lock_guard<std::mutex> guard(*mutex);
        add(alone, totals[first]);
    });
}

// Channels last. Few channels leave much of each vector empty: where pixels touch, groups of them make one row.
constexpr int64_t most_lanes = 4096;  // whose sums a thread keeps: 40 KiB on its stack

struct Lanes {
    alignas(64) uint32_t sum[most_lanes], square[most_lanes];
    alignas(64) uint8_t low[most_lanes], high[most_lanes];
    int64_t used, rows = 0;

    const int width;  // of the kernel that fills them

    Lanes(int64_t lanes, int kernel_width) : used((lanes + 63) / 64 * 64), width(kernel_width) { clear(); }

    LaneSums sums() { return {sum, square, low, high}; }

    // Lane j belongs to totals[j % channels].
    void empty_into(Sums* totals, int64_t lanes, int64_t channels) {
        int64_t c = 0;
        for (int64_t j = 0; j < lanes; ++j) {
            const int64_t at = width == 1 ? j : j / width * width + real_slot(width, static_cast<int>(j % width));
            add({sum[at], square[at], low[j], high[j]}, totals[c]);
            if (++c == channels) c = 0;
        }
        clear();
    }

  private:
    void clear() {
        std::fill_n(sum, used, 0u), std::fill_n(square, used, 0u);
        std::fill_n(low, used, uint8_t{255}), std::fill_n(high, used, uint8_t{0});
        rows = 0;
    }
};

void add_rows(const Layout& layout, bool is_signed, Sums* totals) {
    // The same to the end, also where another set is selected meanwhile.
    const Kernel<RowSums>& sum = kernel<RowSums>(Arithmetic::integer32);
    const int64_t channels = layout.inner.n, width = std::max(sum.width(), 16);
    const Loop& loop = layout.outer[layout.outers - 1];
    const int64_t group = std::lcm(channels, width);
    const bool together = !fills_vectors(channels, width) && loop.x_stride == channels && group <= most_lanes &&
                          loop.n * channels >= 2 * group;
    std::mutex mutex;
    auto body = [&](int64_t begin, int64_t end) {
        for (int64_t first = 0; first < channels; first += most_lanes) {
            const int64_t lanes = together ? group : std::min(channels - first, most_lanes);
            Lanes found(lanes, sum.width());
            const auto empty = [&] {
                const std::lock_guard<std::mutex> guard(mutex);
                found.empty_into(totals + first, lanes, together ? channels : lanes);
            };
            const auto walk = [&](const uint8_t* x, int64_t rows, int64_t n, int64_t stride) {
                for (int64_t done = 0; done < rows;) {
                    const int64_t some = std::min(rows - done, lane_rows - found.rows);
                    sum({x + done * stride, some, n, stride, is_signed, found.sums()});
                    done += some, found.rows += some;
                    if (found.rows == lane_rows) empty();
                }
            };
            for_each_run(layout, begin, end, [&](const uint8_t* x, uint8_t*, int64_t, int64_t pixels) {
                if (!together) return walk(x + first, pixels, lanes, loop.x_stride);
                const int64_t beside = group / channels, rows = pixels / beside, rest = pixels % beside;
                walk(x, rows, group, group);
                if (rest > 0) walk(x + rows * group, 1, rest * channels, 0);
            });
            empty();
        }
    };
    parallel_for(layout.outer_size(), layout.size, body);
}

}  // namespace

void add_sums(const Layout& layout, int64_t channels, bool is_signed, Sums* totals) {
    if (layout.size == 0) return;
    if (layout.kind == Layout::rows)
        add_rows(layout, is_signed, totals);
    else
        add_planes(Walk(layout, channels), is_signed, totals);
}

}  // namespace bytenorm
