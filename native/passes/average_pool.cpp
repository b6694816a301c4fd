#include "average_pool.hpp"

#include <algorithm>

#include "joined_rows.hpp"
#include "kernels/scalar/average.hpp"

namespace bytenorm {
namespace {

constexpr int64_t tile_bytes = 32768;  // of the norm, for the first or the second cache

// The arrays lie apart, and everything a loop needs is its own: bytes that are stored could be anything else.
void average_lines(const uint8_t* __restrict top, const uint8_t* __restrict bottom, uint8_t* __restrict y,
                   int64_t n, uint8_t flip) {
    for (int64_t i = 0; i < n; ++i)
        y[i] = average(top[2 * i], top[2 * i + 1], bottom[2 * i], bottom[2 * i + 1], flip);
}

class AveragePoolPass {
  public:
    AveragePoolPass(const Plan& plan, const Folded& folded, const AveragedArrays& arrays, const Threads& threads)
        : plan_(plan),
          folded_(folded),
          a_(arrays),
          threads_(threads),
          channels_(arrays.channels()),
          flip_(folded.conversion().output_signed ? 0x80 : 0) {
        for (const AveragedPiece& piece : a_.pieces)
            ends_.push_back((ends_.empty() ? 0 : ends_.back()) + piece.channels);
    }

    void run() {
        if (a_.images * channels_ * (a_.height / 2) * (a_.width / 2) == 0) return;
        if (a_.channels_last) return run_rows();
        run_planes();
    }

  private:
    int64_t first_of(size_t piece) const { return ends_[piece] - a_.pieces[piece].channels; }

    // `pixels` of the norm, all channels of each, from pixel `at` of all images on.
    void norm_rows(const JoinedRows* joined, std::vector<JoinedPart>& parts, int64_t at, int64_t pixels,
                   uint8_t* y) const {
        for (size_t i = 0; i < parts.size(); ++i) {
            const AveragedPiece& piece = a_.pieces[i];
            const uint8_t* x = piece.x + at * piece.channels;
            if (joined)
                parts[i] = {first_of(i), piece.channels, x, piece.channels};
            else
                strided_segment(folded_, x, y + first_of(i), pixels, Loop{pixels, piece.channels, channels_, 0},
                                Loop{piece.channels, 1, 1, 1}, first_of(i));
        }
        if (joined) (*joined)(parts.data(), y, channels_, pixels);
    }

    void average_rows(const uint8_t* top, const uint8_t* bottom, uint8_t* y, int64_t pixels) const {
        kernel<Average>(Arithmetic::bytes)(
            {top, bottom, y, pixels, channels_, folded_.conversion().output_signed});
    }

    void run_rows() const {
        const int64_t out_height = a_.height / 2, out_width = a_.width / 2;
        std::unique_ptr<JoinedRows> joined;
        if (plan_.loops != Layout::strided)
            joined = std::make_unique<JoinedRows>(folded_, folded_.rows(plan_.arithmetic), ends_, tile_bytes);
        const int64_t most = std::max<int64_t>(1, tile_bytes / (4 * channels_));
        const bool whole = (a_.width + 1) / 2 <= most;  // both rows are one stretch of pixels
        const int64_t tile = whole ? out_width : std::min(most, out_width);
        auto body = [&](int64_t begin, int64_t end) {
            std::vector<JoinedPart> parts(a_.pieces.size());
            const auto scratch = aligned_array<uint8_t>(2 * channels_ * std::max(2 * tile, whole ? a_.width : 0));
            for (int64_t row = begin; row < end; ++row) {
                const int64_t top = (row / out_height * a_.height + row % out_height * 2) * a_.width;
                uint8_t* y = a_.y + row * out_width * channels_;
                if (whole) {
                    norm_rows(joined.get(), parts, top, 2 * a_.width, scratch.get());
                    average_rows(scratch.get(), scratch.get() + a_.width * channels_, y, out_width);
                    continue;
                }
                for (int64_t start = 0; start < out_width; start += tile) {
                    const int64_t pixels = std::min(tile, out_width - start);
                    uint8_t* second = scratch.get() + 2 * tile * channels_;
                    norm_rows(joined.get(), parts, top + 2 * start, 2 * pixels, scratch.get());
                    norm_rows(joined.get(), parts, top + a_.width + 2 * start, 2 * pixels, second);
                    average_rows(scratch.get(), second, y + start * channels_, pixels);
                }
            }
        };
        threads_.run(a_.images * out_height, a_.images * a_.height * a_.width * channels_, body);
    }

    // `length` pixels of `count` channels of one image, a plane apart.
    void norm_planes(const uint8_t* x, uint8_t* y, int64_t channel, int64_t length) const {
        if (plan_.loops == Layout::strided)
            return strided_segment(folded_, x, y, 1, Loop{1, 0, 0, 0}, Loop{length, 1, 1, 0}, channel);
        Planes p{};
        p.x = x, p.y = y, p.count = 1, p.length = length;
        p.images = 1;
        p.conversion = folded_.conversion();
        planes_segment(plan_, folded_, p, channel);
    }

    void average_plane(const uint8_t* x, uint8_t* y, int64_t rows) const {
        for (int64_t r = 0; r < rows; ++r, x += 2 * a_.width, y += a_.width / 2)
            average_lines(x, x + a_.width, y, a_.width / 2, flip_);
    }

    void run_planes() const {
        const int64_t out_height = a_.height / 2, out_width = a_.width / 2;
        const int64_t rows = std::min(out_height, std::max<int64_t>(1, tile_bytes / (2 * a_.width)));
        auto body = [&](int64_t begin, int64_t end) {
            const auto scratch = aligned_array<uint8_t>(2 * rows * a_.width);
            for (int64_t plane = begin; plane < end; ++plane) {
                const int64_t image = plane / channels_, channel = plane % channels_;
                const size_t piece =
                    static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), channel) - ends_.begin());
                const uint8_t* x =
                    a_.pieces[piece].x +
                    (image * a_.pieces[piece].channels + channel - first_of(piece)) * a_.height * a_.width;
                uint8_t* y = a_.y + plane * out_height * out_width;
                for (int64_t row = 0; row < out_height; row += rows) {
                    const int64_t count = std::min(rows, out_height - row);
                    norm_planes(x + 2 * row * a_.width, scratch.get(), channel, 2 * count * a_.width);
                    average_plane(scratch.get(), y + row * out_width, count);
                }
            }
        };
        threads_.run(a_.images * channels_, a_.images * a_.height * a_.width * channels_, body);
    }

    const Plan& plan_;
    const Folded& folded_;
    const AveragedArrays& a_;
    const Threads& threads_;
    const int64_t channels_;
    const uint8_t flip_;
    std::vector<int64_t> ends_;  // the channel behind each piece
};

}  // namespace

int64_t AveragedArrays::channels() const {
    int64_t n = 0;
    for (const AveragedPiece& piece : pieces) n += piece.channels;
    return n;
}

Plan choose_average_pool(const AveragedArrays& arrays, Use use) {
    Layout all{};
    all.kind = arrays.channels_last ? Layout::rows : Layout::planes;
    const int64_t channels = arrays.channels();
    all.inner.n = arrays.height * arrays.width;
    all.size = arrays.images * all.inner.n * channels;
    return choose(all, channels, use);
}

void apply_average_pool(const Plan& plan, const Folded& folded, const AveragedArrays& arrays,
                        const Threads& threads) {
    AveragePoolPass(plan, folded, arrays, threads).run();
}

}  // namespace bytenorm
