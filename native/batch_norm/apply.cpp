#include "apply.hpp"

#include <algorithm>
#include <numeric>

#include "../dispatch.hpp"

namespace bytenorm {
namespace {

// Bytes a channel from which preparing pays when the parameters are used once. Measured; docs/kernels.md.
constexpr int64_t once_table = 512;         // a table costs some 35 ns a channel
constexpr int64_t once_table_scalar = 256;  // in scalar code exactly the map of 256 bytes
constexpr int64_t once_integer = 16384;     // fitting integers costs 0.6 us a channel

// Outputs beyond any cache are stored past it; below, whoever reads the result next finds it there.
constexpr int64_t stream_from = int64_t{64} << 20;

// Channels last: a tile of pixels keeps its parameters in registers and asks for the next tile's bytes. Beyond
// the caches memory wants few streams in order: few pixels, or one after another with parameters from the cache.
constexpr int64_t tiles_below = int64_t{8} << 20;
constexpr int64_t tile_bytes = 4096;
constexpr int64_t far_tile_bytes = 2048;

// Planes this short share a table among images; more images for those below a vector.
constexpr int64_t share_up_to = 512;
constexpr int64_t share_of(int64_t length) {
    return length < 64 ? 8 : 4;
}

constexpr int64_t longest_lanes = 4096;  // pixels side by side: 48 KiB of parameters, 96 where some are fp32

class Pass {
  public:
    Pass(const Plan& plan, const Folded& folded, const Layout& layout, const Threads& threads)
        : plan_(plan), folded_(folded), layout_(layout), threads_(threads), stream_(layout.size >= stream_from) {}

    void run() {
        if (layout_.size == 0) return;
        switch (plan_.kernel) {
            case Plan::planes_table:
            case Plan::planes_fp32:
            case Plan::planes_integer:
                return run_planes();
            case Plan::rows_fp32:
            case Plan::rows_integer:
                return run_rows();
            case Plan::strided_table:
                return run_strided();
        }
    }

  private:
    void run_planes() {
        // Images side by side share a channel's parameters: a table of 256 bytes costs more to load than a small
        // plane to look up. So the loop around the channels is walked in groups, the rest of it by itself.
        const Loop last = layout_.outer[layout_.outers - 1];
        if (layout_.outers >= 2 && last.channel_step == 1 && layout_.inner.n < share_up_to) {
            const int64_t share = share_of(layout_.inner.n);
            Layout groups = layout_;
            Loop& around = groups.outer[groups.outers - 2];
            const Loop image = around;
            around.n = image.n / share, around.x_stride *= share, around.y_stride *= share;
            if (around.n > 0) walk_planes(groups, share, image);
            if (image.n % share == 0) return;
            Layout rest = layout_;
            rest.x += around.n * around.x_stride, rest.y += around.n * around.y_stride;
            rest.outer[rest.outers - 2].n = 1;
            return walk_planes(rest, image.n % share, image);
        }
        walk_planes(layout_, 1, Loop{1, 0, 0, 0});
    }

    void walk_planes(const Layout& layout, int64_t images, const Loop& image) {
        const int64_t planes = layout.outer_size(), length = layout.inner.n;
        // Few long planes are cut into pieces, so that every thread gets as much.
        int64_t pieces = 1;
        const int most = threads_.most();
        if (planes < 4 * most && length >= 65536 && most > 1) pieces = length / 16384;
        const int64_t piece = (length / pieces + 63) / 64 * 64;
        const Loop& last = layout.outer[layout.outers - 1];
        Planes common{};
        common.x_stride = last.x_stride, common.y_stride = last.y_stride, common.channel_step = last.channel_step;
        common.images = images, common.x_image = image.x_stride, common.y_image = image.y_stride;
        common.conversion = folded_.conversion();
        common.stream = stream_;
        auto body = [&](int64_t begin, int64_t end) {
            Planes p = common;
            if (pieces == 1) {
                p.length = length;
                for_each_run(layout, begin, end, [&](const uint8_t* x, uint8_t* y, int64_t c, int64_t count) {
                    p.x = x, p.y = y, p.count = count;
                    planes_segment(p, c);
                });
                return;
            }
            while (begin < end) {  // neighbouring pieces of one plane go together
                const int64_t plane = begin / pieces, first = begin % pieces;
                const int64_t behind = std::min(pieces, first + end - begin);
                const int64_t start = std::min(first * piece, length);
                p.count = 1;
                p.length = (behind == pieces ? length : std::min(behind * piece, length)) - start;
                for_each_run(layout, plane, plane + 1, [&](const uint8_t* x, uint8_t* y, int64_t c, int64_t) {
                    p.x = x + start, p.y = y + start;
                    planes_segment(p, c);
                });
                begin += behind - first;
            }
        };
        threads_.run(planes * pieces, planes * images * length, body);
    }

    void planes_segment(Planes& p, int64_t channel) const {
        const FloatParams real = folded_.real();
        p.real = {real.slope + channel, real.intercept + channel, real.zero_point + channel};
        if (plan_.kernel == Plan::planes_table) {
            p.table = folded_.table() + 256 * channel;
            return kernels().planes_table(p);
        }
        if (plan_.kernel == Plan::planes_fp32) return kernels().planes_fp32(p);

        const IntegerParams integer = folded_.integer();
        p.integer = {integer.multiplier + channel, integer.addend + channel, integer.shift + channel};
        for (int64_t start = 0; start < p.count;) {  // runs of channels that are proved, or not
            const bool proved = folded_.proved(channel + start * p.channel_step);
            int64_t end = p.channel_step ? start + 1 : p.count;
            while (end < p.count && folded_.proved(channel + end) == proved) ++end;
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

    void run_rows() {
        const bool integer = plan_.kernel == Plan::rows_integer;
        const int64_t channels = layout_.inner.n, pixels = layout_.outer_size();
        const int width = integer ? kernels().rows_integer_width : rows_fp32_width;
        lanes_ = channels;
        packed_ = &folded_.rows(integer);

        // Few or odd channels leave much of each vector empty. Where pixels touch, whole groups of them make
        // rows that fill it, as long as the group's parameters are worth writing out.
        const Loop& loop = layout_.outer[layout_.outers - 1];
        const int64_t padded = (channels + width - 1) / width * width;
        const int64_t group = std::lcm(channels, static_cast<int64_t>(width));
        PackedRows side_by_side;
        if (20 * channels < 17 * padded && loop.x_stride == channels && loop.y_stride == channels &&
            group <= longest_lanes && loop.n * channels >= 8 * group) {
            side_by_side = folded_.pack(group, integer);
            packed_ = &side_by_side;
            lanes_ = group;
        }
        auto body = [&](int64_t begin, int64_t end) {
            for_each_run(layout_, begin, end, [&](const uint8_t* x, uint8_t* y, int64_t, int64_t count) {
                if (lanes_ == channels) return rows_segment(x, y, count, lanes_, loop.x_stride, loop.y_stride);
                const int64_t together = lanes_ / channels, groups = count / together, rest = count % together;
                rows_segment(x, y, groups, lanes_, lanes_, lanes_);
                if (rest) rows_segment(x + groups * lanes_, y + groups * lanes_, 1, rest * channels, 0, 0);
            });
        };
        threads_.run(pixels, layout_.size, body);
    }

    void rows_segment(const uint8_t* x, uint8_t* y, int64_t pixels, int64_t lanes, int64_t x_stride,
                      int64_t y_stride) const {
        Rows r{};
        r.conversion = folded_.conversion();
        r.x_stride = x_stride, r.y_stride = y_stride;
        const bool whole = packed_->runs.size() == 1;
        r.stream =
            whole && stream_ && lanes % 64 == 0 && y_stride % 64 == 0 && reinterpret_cast<uintptr_t>(y) % 64 == 0;
        r.tile = layout_.size < tiles_below ? std::max<int64_t>(8, tile_bytes / lanes) : far_tile_bytes / lanes;
        if (r.tile < 4) r.tile = 0;
        // Runs of both arithmetics alternate over so many pixels that they stay in the cache together.
        const int64_t chunk = whole ? pixels : std::max<int64_t>(8, 16384 / lanes);
        for (int64_t start = 0; start < pixels; start += chunk) {
            r.pixels = std::min(chunk, pixels - start);
            for (const RowRun& run : packed_->runs) {
                if (run.first_lane >= lanes) break;
                r.lanes = std::min(run.lanes, lanes - run.first_lane);
                r.x = x + start * x_stride + run.first_lane;
                r.y = y + start * y_stride + run.first_lane;
                if (!run.integer) {
                    r.blocks = packed_->real.get() + run.first_lane / rows_fp32_width;
                    kernels().rows_fp32(r);
                } else {
                    const int64_t block = run.first_lane / kernels().rows_integer_width;
                    r.blocks = packed_->wide ? static_cast<const void*>(packed_->wide.get() + block)
                                             : packed_->narrow.get() + block;
                    kernels().rows_integer(r);
                }
            }
        }
    }

    void run_strided() {
        const Loop& inner = layout_.inner;
        const Loop& loop = layout_.outer[layout_.outers - 1];
        auto body = [&](int64_t begin, int64_t end) {
            for_each_run(layout_, begin, end, [&](const uint8_t* x, uint8_t* y, int64_t channel, int64_t count) {
                kernels().strided_table({x, y, count, loop.x_stride, loop.y_stride, loop.channel_step, inner.n,
                                         inner.x_stride, inner.y_stride, inner.channel_step,
                                         folded_.table() + 256 * channel});
            });
        };
        // A table lookup an element takes some ten times as long as copying it.
        threads_.run(layout_.outer_size(), 10 * layout_.size, body);
    }

    const Plan& plan_;
    const Folded& folded_;
    const Layout& layout_;
    const Threads& threads_;
    const bool stream_;
    int64_t lanes_ = 0;
    const PackedRows* packed_ = nullptr;
};

}  // namespace

Plan choose(const Layout& layout, int64_t channels, Use use) {
    const KernelTable& k = kernels();
    const bool often = use == Use::often;
    const int64_t bytes = layout.size / std::max<int64_t>(channels, 1);  // a channel
    if (layout.kind == Layout::planes) {
        if (k.planes_table) return {often || bytes >= once_table ? Plan::planes_table : Plan::planes_fp32};
        if (k.planes_integer) return {often || bytes >= once_integer ? Plan::planes_integer : Plan::planes_fp32};
        return {often || bytes >= once_table_scalar ? Plan::strided_table : Plan::planes_fp32};
    }
    if (layout.kind == Layout::rows && k.rows_integer)
        return {often || bytes >= once_integer ? Plan::rows_integer : Plan::rows_fp32};
    return {Plan::strided_table};
}

void prepare(const Plan& plan, Folded& folded) {
    switch (plan.kernel) {
        case Plan::planes_fp32:
            return;
        case Plan::planes_table:
        case Plan::strided_table:
            return folded.prepare_table();
        case Plan::planes_integer:
            return folded.prepare_integer();
        case Plan::rows_fp32:
            return folded.prepare_rows(false);
        case Plan::rows_integer:
            return folded.prepare_rows(true);
    }
}

void apply(const Plan& plan, const Folded& folded, const Layout& layout, const Threads& threads) {
    Pass(plan, folded, layout, threads).run();
}

}  // namespace bytenorm
