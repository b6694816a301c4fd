#include "concat.hpp"

#include <algorithm>

#include "joined_rows.hpp"
#include "single.hpp"

namespace bytenorm {
namespace {

// Channels last: pixels of the output that are written vector by vector. Between two vectors only the lines of
// these pixels have to stay in the first cache, so a tile may be larger than it.
constexpr int64_t tile_bytes = 49152;
constexpr size_t most_joined = 128;  // pieces: their places are kept on the stack
constexpr int64_t fewest_pixels = 8, most_pixels = 64;
constexpr int64_t fewest_channels = 8;  // in fewer, a vector that holds one pixel is slower than the table

// Whether an array has no gaps and its axes are in order: all of them for planes, but for channels that come last
// for rows.
bool has_no_gaps(Layout::Kind kind, const int64_t* strides, const int64_t* shape, int ndim, int axis,
                 int64_t channels) {
    int64_t step = kind == Layout::rows ? channels : 1;
    const auto fits = [&](int d, int64_t n) {
        const bool as_wanted = n == 1 || strides[d] == step;
        step *= n;
        return as_wanted;
    };
    if (kind == Layout::rows && channels > 1 && strides[axis] != 1) return false;
    for (int d = ndim - 1; d >= 0; --d) {
        if (d == axis) {
            if (kind == Layout::planes && !fits(d, channels)) return false;
        } else if (!fits(d, shape[d])) {
            return false;
        }
    }
    return true;
}

bool all_of_kind(const std::vector<ConcatLayout::Piece>& pieces, Layout::Kind kind) {
    return std::all_of(pieces.begin(), pieces.end(),
                       [&](const ConcatLayout::Piece& piece) { return piece.layout.kind == kind; });
}

// Whether all pieces have the same loops around their channels, so that item i of each is the same pixel.
bool same_pixels(const std::vector<ConcatLayout::Piece>& pieces) {
    const Layout& first = pieces[0].layout;
    return std::all_of(pieces.begin(), pieces.end(), [&](const ConcatLayout::Piece& piece) {
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
    ConcatPass(const Plan& plan, const Folded& folded, const ConcatLayout& layout, const Threads& threads)
        : plan_(plan), folded_(folded), layout_(layout), threads_(threads) {}

    void run() {
        if (layout_.size() == 0) return;
        if (plan_.loops == Layout::rows) return run_rows();
        run_pieces();
    }

  private:
    // Channels last.
    void run_rows() {
        std::vector<int64_t> ends;
        ends.reserve(layout_.parts().size() + layout_.pieces().size());
        for (const JoinedPart& part : layout_.parts()) ends.push_back(part.first_lane + part.lanes);
        for (const ConcatLayout::Piece& piece : layout_.pieces())
            ends.push_back(piece.first_channel + piece.channels);
        const JoinedRows rows(folded_, folded_.rows(plan_.arithmetic), ends, layout_.size());
        const int64_t channels = layout_.channels();
        auto body = [&](int64_t begin, int64_t end) {
            JoinedPart parts[most_joined];
            if (layout_.dense()) {
                std::copy(layout_.parts().begin(), layout_.parts().end(), parts);
                for (size_t i = 0; i < ends.size(); ++i) parts[i].x += begin * parts[i].x_stride;
                return walk_rows(rows, parts, ends.size(), layout_.y() + begin * channels, channels, end - begin);
            }
            const Layout& first = layout_.pieces()[0].layout;
            const int64_t y_stride = first.outer[first.outers - 1].y_stride;
            int64_t done = begin;
            for_each_run(first, begin, end, [&](const uint8_t*, uint8_t* y, int64_t, int64_t count) {
                for (size_t i = 0; i < ends.size(); ++i) {
                    const ConcatLayout::Piece& piece = layout_.pieces()[i];
                    const int64_t x_stride = piece.layout.outer[piece.layout.outers - 1].x_stride;
                    for_each_run(piece.layout, done, done + 1, [&](const uint8_t* x, uint8_t*, int64_t, int64_t) {
                        parts[i] = {piece.first_channel, piece.channels, x, x_stride};
                    });
                }
                done += count;
                walk_rows(rows, parts, ends.size(), y, y_stride, count);
            });
        };
        threads_.run(layout_.pixels(), layout_.size(), body);
    }

    void walk_rows(const JoinedRows& rows, JoinedPart* parts, size_t count, uint8_t* y, int64_t y_stride,
                   int64_t pixels) const {
        const int64_t tile = std::min(std::max(tile_bytes / layout_.channels(), fewest_pixels), most_pixels);
        for (int64_t start = 0; start < pixels; start += tile) {
            const int64_t n = std::min(tile, pixels - start);
            rows(parts, y, y_stride, n);
            for (size_t i = 0; i < count; ++i) parts[i].x += n * parts[i].x_stride;
            y += n * y_stride;
        }
    }

    // Anything else: each piece by itself. Work is dealt out as the same part of every piece.
    void run_pieces() {
        int64_t units = 1;
        for (const JoinedPart& part : layout_.parts()) units = std::max(units, items_of(part));
        for (const ConcatLayout::Piece& piece : layout_.pieces()) {
            const int64_t items = piece.layout.outer_size();
            if (plan_.loops != Layout::strided && pieces_of(items, piece.layout.inner.n, threads_.most()) > 1)
                return run_long_planes();
            units = std::max(units, items);
        }
        auto body = [&](int64_t begin, int64_t end) {
            // Small pieces are walked in the time of a few divisions.
            const auto first = [&](int64_t items, int64_t n) {
                return n == 0 ? 0 : n == units ? items : part_of(items, n, units);
            };
            for (const JoinedPart& part : layout_.parts()) {
                const int64_t items = items_of(part);
                walk_dense(part, first(items, begin), first(items, end));
            }
            for (const ConcatLayout::Piece& piece : layout_.pieces()) {
                const int64_t items = piece.layout.outer_size();
                walk(piece, first(items, begin), first(items, end));
            }
        };
        threads_.run(units, plan_.loops == Layout::strided ? 10 * layout_.size() : layout_.size(), body);
    }

    // Of a piece without gaps: its planes, or its pixels.
    int64_t items_of(const JoinedPart& part) const {
        return layout_.kind() == Layout::rows ? layout_.pixels() : layout_.images() * part.lanes;
    }

    void walk_dense(const JoinedPart& part, int64_t begin, int64_t end) const {
        const int64_t length = layout_.length(), channels = layout_.channels();
        if (layout_.kind() == Layout::rows)
            return segment(part.x + begin * part.lanes, layout_.y() + begin * channels + part.first_lane,
                           part.first_lane, end - begin, Loop{end - begin, part.lanes, channels, 0},
                           Loop{part.lanes, 1, 1, 1});
        while (begin < end) {
            const int64_t image = begin < part.lanes ? 0 : begin / part.lanes,
                          channel = begin - image * part.lanes;
            const int64_t count = std::min(part.lanes - channel, end - begin);
            uint8_t* y = layout_.y() + (image * channels + part.first_lane + channel) * length;
            segment(part.x + begin * length, y, part.first_lane + channel, count, Loop{count, length, length, 1},
                    Loop{length, 1, 1, 0});
            begin += count;
        }
    }

    void walk(const ConcatLayout::Piece& piece, int64_t begin, int64_t end) const {
        const Layout& layout = piece.layout;
        for_each_run(layout, begin, end, [&](const uint8_t* x, uint8_t* y, int64_t channel, int64_t count) {
            segment(x, y, piece.first_channel + channel, count, layout.outer[layout.outers - 1], layout.inner);
        });
    }

    void segment(const uint8_t* x, uint8_t* y, int64_t channel, int64_t count, const Loop& loop,
                 const Loop& inner) const {
        if (plan_.loops == Layout::strided) return strided_segment(folded_, x, y, count, loop, inner, channel);
        Planes p{};
        p.x = x, p.y = y, p.count = count, p.length = inner.n;
        p.x_stride = loop.x_stride, p.y_stride = loop.y_stride, p.channel_step = loop.channel_step;
        p.images = 1;
        p.conversion = folded_.conversion();
        p.stream = layout_.size() >= stream_from();
        planes_segment(plan_, folded_, p, channel);
    }

    // A few planes that are worth cutting: piece after piece, each with all threads.
    void run_long_planes() {
        for (const ConcatLayout::Piece& piece : layout_.pieces())
            apply_planes(plan_, folded_, piece.layout, piece.first_channel, threads_);
    }

    const Plan& plan_;
    const Folded& folded_;
    const ConcatLayout& layout_;
    const Threads& threads_;
};

}  // namespace

ConcatLayout::Piece::Piece(const ConcatPiece& piece, const ConcatArrays& arrays, int64_t first, bool join)
    : layout(analyse(piece.x, piece.x_strides, arrays.y + first * arrays.y_strides[arrays.axis], arrays.y_strides,
                     piece.shape, arrays.ndim, arrays.axis, join)),
      first_channel(first),
      channels(piece.shape[arrays.axis]) {}

ConcatLayout::ConcatLayout(const ConcatArrays& arrays) : y_(arrays.y), kind_(Layout::strided) {
    for (const ConcatPiece& piece : arrays.pieces) channels_ += piece.shape[arrays.axis];
    for (int d = 0; d < arrays.ndim; ++d)
        if ((d == arrays.axis ? channels_ : arrays.pieces[0].shape[d]) == 0) size_ = 0;
    if (size_ == 0) return;  // products of the other lengths may be anything then
    for (int d = 0; d < arrays.ndim; ++d) size_ *= d == arrays.axis ? channels_ : arrays.pieces[0].shape[d];
    pixels_ = size_ / channels_;
    length_ = 1;
    for (int d = arrays.axis + 1; d < arrays.ndim; ++d) length_ *= arrays.pieces[0].shape[d];
    images_ = pixels_ / length_;
    if (channels_ >= fewest_channels && arrays.pieces.size() <= most_joined && find_dense(arrays, Layout::rows))
        return;
    if (arrays.axis <= 1 && length_ > 1 && length_ < long_run && find_dense(arrays, Layout::planes)) return;

    analyse_pieces(arrays, true);
    // Axes that are joined in some pieces may not be in others: without joining any they are alike, and fast.
    if (all_of_kind(pieces_, Layout::rows) && !same_pixels(pieces_)) analyse_pieces(arrays, false);
    if (all_of_kind(pieces_, Layout::planes)) kind_ = Layout::planes;
    if (all_of_kind(pieces_, Layout::rows) && pieces_.size() <= most_joined && same_pixels(pieces_))
        kind_ = Layout::rows;
}

bool ConcatLayout::find_dense(const ConcatArrays& arrays, Layout::Kind kind) {
    const int64_t* shape = arrays.pieces[0].shape;
    if (!has_no_gaps(kind, arrays.y_strides, shape, arrays.ndim, arrays.axis, channels_)) return false;
    parts_.reserve(arrays.pieces.size());
    int64_t first = 0;
    for (const ConcatPiece& piece : arrays.pieces) {
        const int64_t count = piece.shape[arrays.axis];
        if (!has_no_gaps(kind, piece.x_strides, shape, arrays.ndim, arrays.axis, count)) {
            parts_.clear();
            return false;
        }
        if (count > 0) parts_.push_back({first, count, piece.x, count});
        first += count;
    }
    kind_ = kind;
    return true;
}

void ConcatLayout::analyse_pieces(const ConcatArrays& arrays, bool join) {
    pieces_.clear();
    pieces_.reserve(arrays.pieces.size());
    int64_t first = 0;
    for (const ConcatPiece& piece : arrays.pieces) {
        if (piece.shape[arrays.axis] > 0) pieces_.emplace_back(piece, arrays, first, join);
        first += piece.shape[arrays.axis];
    }
}

Plan choose_concat(const ConcatLayout& layout, Use use) {
    Layout all{};
    all.size = layout.size();
    all.kind = layout.kind();
    all.inner.n = layout.length();
    return choose(all, layout.channels(), use);
}

void apply_concat(const Plan& plan, const Folded& folded, const ConcatLayout& layout, const Threads& threads) {
    ConcatPass(plan, folded, layout, threads).run();
}

}  // namespace bytenorm
