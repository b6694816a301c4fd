#include "concat.hpp"

#include <algorithm>

#include "../dispatch.hpp"
#include "joined_rows.hpp"

namespace bytenorm {
namespace {

// Channels last: what of an output tile is copied before it is normalized must still be in the first cache.
constexpr int64_t tile_bytes = 16384;
constexpr size_t most_joined = 128;  // pieces: their places are kept on the stack
constexpr int64_t fewest_pixels = 8, most_pixels = 64;

bool all_of_kind(const std::vector<ConcatPiece>& pieces, Layout::Kind kind) {
    return std::all_of(pieces.begin(), pieces.end(),
                       [&](const ConcatPiece& piece) { return piece.layout.kind == kind; });
}

// Whether all pieces have the same loops around their channels, so that item i of each is the same pixel.
bool same_pixels(const std::vector<ConcatPiece>& pieces) {
    const Layout& first = pieces[0].layout;
    return std::all_of(pieces.begin(), pieces.end(), [&](const ConcatPiece& piece) {
        const Layout& layout = piece.layout;
        // Axes that are walked backwards move the start of y.
        return layout.y - piece.first_channel == first.y - pieces[0].first_channel &&
               layout.outers == first.outers &&
               std::equal(layout.outer, layout.outer + layout.outers, first.outer,
                          [](const Loop& a, const Loop& b) { return a.n == b.n && a.y_stride == b.y_stride; });
    });
}

class ConcatPass {
  public:
    ConcatPass(const Plan& plan, const Folded& folded, const std::vector<ConcatPiece>& pieces, int64_t size,
               const Threads& threads)
        : plan_(plan), folded_(folded), pieces_(pieces), size_(size), threads_(threads) {}

    void run() {
        if (size_ == 0) return;
        if (plan_.kernel == Plan::rows_fp32 || plan_.kernel == Plan::rows_integer) return run_rows();
        run_pieces();
    }

  private:
    // Channels last.
    void run_rows() {
        std::vector<int64_t> ends;
        for (const ConcatPiece& piece : pieces_) ends.push_back(piece.first_channel + piece.channels);
        const JoinedRows rows(folded_, folded_.rows(plan_.kernel == Plan::rows_integer), ends, size_);
        const int64_t channels = folded_.channels();
        const int64_t y_stride = pieces_[0].layout.outer[pieces_[0].layout.outers - 1].y_stride;
        const int64_t tile = std::min(std::max(tile_bytes / channels, fewest_pixels), most_pixels);
        auto body = [&](int64_t begin, int64_t end) {
            JoinedPart parts[most_joined];
            int64_t done = begin;
            for_each_run(pieces_[0].layout, begin, end, [&](const uint8_t*, uint8_t* y, int64_t, int64_t count) {
                for (size_t i = 0; i < pieces_.size(); ++i) {
                    const Layout& layout = pieces_[i].layout;
                    for_each_run(layout, done, done + 1, [&](const uint8_t* x, uint8_t*, int64_t, int64_t) {
                        parts[i] = {pieces_[i].first_channel, pieces_[i].channels, x,
                                    layout.outer[layout.outers - 1].x_stride};
                    });
                }
                done += count;
                for (int64_t start = 0; start < count; start += tile) {
                    const int64_t pixels = std::min(tile, count - start);
                    rows(parts, y, y_stride, pixels);
                    for (size_t i = 0; i < pieces_.size(); ++i) parts[i].x += pixels * parts[i].x_stride;
                    y += pixels * y_stride;
                }
            });
        };
        threads_.run(size_ / channels, size_, body);
    }

    // Anything else: each piece by itself. Work is dealt out as the same part of every piece.
    void run_pieces() {
        int64_t units = 1;
        for (const ConcatPiece& piece : pieces_) {
            const int64_t items = piece.layout.outer_size();
            if (plan_.kernel != Plan::strided_table && items < 4 * threads_.most() &&
                piece.layout.inner.n >= 65536)
                return run_long_planes();
            units = std::max(units, items);
        }
        auto body = [&](int64_t begin, int64_t end) {
            for (const ConcatPiece& piece : pieces_) {
                const int64_t items = piece.layout.outer_size();
                walk(piece, items * begin / units, items * end / units);
            }
        };
        threads_.run(units, plan_.kernel == Plan::strided_table ? 10 * size_ : size_, body);
    }

    void walk(const ConcatPiece& piece, int64_t begin, int64_t end) const {
        const Layout& layout = piece.layout;
        const Loop &inner = layout.inner, &loop = layout.outer[layout.outers - 1];
        for_each_run(layout, begin, end, [&](const uint8_t* x, uint8_t* y, int64_t channel, int64_t count) {
            channel += piece.first_channel;
            if (plan_.kernel == Plan::strided_table)
                return kernels().strided_table({x, y, count, loop.x_stride, loop.y_stride, loop.channel_step,
                                                inner.n, inner.x_stride, inner.y_stride, inner.channel_step,
                                                folded_.table() + 256 * channel});
            Planes p{};
            p.x = x, p.y = y, p.count = count, p.length = inner.n;
            p.x_stride = loop.x_stride, p.y_stride = loop.y_stride, p.channel_step = loop.channel_step;
            p.images = 1;
            p.conversion = folded_.conversion();
            p.stream = size_ >= stream_from;
            planes_segment(plan_, folded_, p, channel);
        });
    }

    // A few planes that are worth cutting: piece after piece, each with all threads.
    void run_long_planes() {
        for (const ConcatPiece& piece : pieces_)
            apply_planes(plan_, folded_, piece.layout, piece.first_channel, threads_);
    }

    const Plan& plan_;
    const Folded& folded_;
    const std::vector<ConcatPiece>& pieces_;
    const int64_t size_;
    const Threads& threads_;
};

}  // namespace

bool alike_if_not_joined(const std::vector<ConcatPiece>& pieces) {
    return all_of_kind(pieces, Layout::rows) && !same_pixels(pieces);
}

Plan choose_concat(const std::vector<ConcatPiece>& pieces, int64_t channels, int64_t size, Use use) {
    Layout all = pieces[0].layout;
    all.size = size;
    all.kind = Layout::strided;
    if (all_of_kind(pieces, Layout::planes)) all.kind = Layout::planes;
    if (all_of_kind(pieces, Layout::rows) && pieces.size() <= most_joined && same_pixels(pieces))
        all.kind = Layout::rows;
    return choose(all, channels, use);
}

void apply_concat(const Plan& plan, const Folded& folded, const std::vector<ConcatPiece>& pieces, int64_t size,
                  const Threads& threads) {
    ConcatPass(plan, folded, pieces, size, threads).run();
}

}  // namespace bytenorm
