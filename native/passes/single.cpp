#include "single.hpp"

#include <algorithm>

#include "segment.hpp"

namespace bytenorm {
namespace {

// Planes this short share parameters among images; more images for those below a vector, fewer where images lie so
// far apart that they share sets of the first cache.
constexpr int64_t share_up_to = 512;
int64_t share_of(int64_t length, const Loop& image) {
    const int64_t both = image.x_stride | image.y_stride;
    return (length < 64 ? 8 : 4) * (both % 2048 == 0 ? 1 : 2);
}

class Pass {
  public:
    Pass(const Plan& plan, const Folded& folded, const Layout& layout, const Threads& threads,
         int64_t first_channel)
        : plan_(plan),
          folded_(folded),
          layout_(layout),
          threads_(threads),
          first_channel_(first_channel),
          stream_(layout.size >= stream_from()) {}

    void run() {
        if (layout_.size == 0) return;
        switch (plan_.loops) {
            case Layout::planes:
                return run_planes();
            case Layout::rows:
                return run_rows();
            case Layout::strided:
                return run_strided();
        }
    }

  private:
    void run_planes() {
        // The plan may be of other arrays of this shape, its blocks of planes of another length.
        if (plan_.lanes > 0 && !stream_ && touch_in_images(layout_, folded_.channels())) {
            const PackedRows& packed = folded_.images(plan_.arithmetic);
            if (packed.lanes == folded_.channels() * layout_.inner.n) return run_images(packed);
        }
        // Images side by side share a channel's parameters: a table of 256 bytes costs more to load than a small
        // plane to look up. So the loop around the channels is walked in groups, the rest of it by itself.
        const Loop last = layout_.outer[layout_.outers - 1];
        if (layout_.outers >= 2 && last.channel_step == 1 && layout_.inner.n < share_up_to) {
            Layout groups = layout_;
            Loop& around = groups.outer[groups.outers - 2];
            const Loop image = around;
            const int64_t share = share_of(layout_.inner.n, image);
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
        const int64_t pieces = pieces_of(planes, length, threads_.most());
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
                    planes_segment(plan_, folded_, p, first_channel_ + c);
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
                    planes_segment(plan_, folded_, p, first_channel_ + c);
                });
                begin += behind - first;
            }
        };
        threads_.run(planes * pieces, planes * images * length, body);
    }

    void run_rows() {
        const int64_t channels = layout_.inner.n, pixels = layout_.outer_size();
        const Loop& loop = layout_.outer[layout_.outers - 1];
        // The plan may be of other arrays of this shape.
        const bool touch = loop.x_stride == channels && loop.y_stride == channels;
        const PackedRows& packed =
            plan_.lanes > 0 && touch ? folded_.side_by_side(plan_.arithmetic) : folded_.rows(plan_.arithmetic);
        const int64_t lanes = packed.lanes;
        const RowWalk walk{folded_, packed, layout_.size, stream_};
        auto body = [&](int64_t begin, int64_t end) {
            for_each_run(layout_, begin, end, [&](const uint8_t* x, uint8_t* y, int64_t, int64_t count) {
                if (lanes == channels) return walk(x, y, count, 0, lanes, loop.x_stride, loop.y_stride);
                const int64_t together = lanes / channels, groups = count / together, rest = count % together;
                walk(x, y, groups, 0, lanes, lanes, lanes);
                if (rest) walk(x + groups * lanes, y + groups * lanes, 1, 0, rest * channels, 0, 0);
            });
        };
        threads_.run(pixels, layout_.size, body);
    }

    // Short planes: an image is a row. Threads take the same lanes of all images.
    void run_images(const PackedRows& packed) {
        Layout images = layout_;
        const Loop& loop = images.outer[--images.outers - 1];
        constexpr int64_t step = 64;
        const RowWalk walk{folded_, packed, layout_.size, false, true};
        auto body = [&](int64_t begin, int64_t end) {
            const int64_t first = step * begin, lanes = std::min(step * end, packed.lanes) - first;
            for_each_run(images, 0, images.outer_size(),
                         [&](const uint8_t* x, uint8_t* y, int64_t, int64_t count) {
                             walk(x + first, y + first, count, first, lanes, loop.x_stride, loop.y_stride);
                         });
        };
        threads_.run((packed.lanes + step - 1) / step, layout_.size, body);
    }

    void run_strided() {
        const Loop& inner = layout_.inner;
        const Loop& loop = layout_.outer[layout_.outers - 1];
        auto body = [&](int64_t begin, int64_t end) {
            for_each_run(layout_, begin, end, [&](const uint8_t* x, uint8_t* y, int64_t channel, int64_t count) {
                strided_segment(folded_, x, y, count, loop, inner, first_channel_ + channel);
            });
        };
        // A table lookup an element takes some ten times as long as copying it.
        threads_.run(layout_.outer_size(), 10 * layout_.size, body);
    }

    const Plan& plan_;
    const Folded& folded_;
    const Layout& layout_;
    const Threads& threads_;
    const int64_t first_channel_;
    const bool stream_;
};

}  // namespace

void apply(const Plan& plan, const Folded& folded, const Layout& layout, const Threads& threads) {
    Pass(plan, folded, layout, threads, 0).run();
}

void apply_planes(const Plan& plan, const Folded& folded, const Layout& layout, int64_t first_channel,
                  const Threads& threads) {
    Pass(plan, folded, layout, threads, first_channel).run();
}

}  // namespace bytenorm
