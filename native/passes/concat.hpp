// The norm of a concatenation along the channels, without the concatenation: every piece is read where it lies.
#pragma once

#include <vector>

#include "core/threads.hpp"
#include "kernels/structs.hpp"
#include "plan.hpp"

namespace bytenorm {

// One array of a concatenation.
struct ConcatPiece {
    const uint8_t* x;
    const int64_t *x_strides, *shape;
};

// All of them, in the order of their channels, and where they go. Their shapes differ on `axis` alone. A piece may
// lie where its channels go; it must not touch any other byte of the output.
struct ConcatArrays {
    std::vector<ConcatPiece> pieces;
    uint8_t* y;
    const int64_t* y_strides;
    int ndim, axis;
};

// How a concatenation is walked: loops for each piece. Where no array has gaps, which is nearly always, finding
// loops would take longer than walking a small piece: then a few numbers say all there is to say, and `pieces` is
// empty.
class ConcatLayout {
  public:
    struct Piece {
        Piece(const ConcatPiece& piece, const ConcatArrays& arrays, int64_t first, bool join);

        Layout layout;  // its `y` is where the piece's first channel goes
        int64_t first_channel, channels;
    };

    explicit ConcatLayout(const ConcatArrays& arrays);

    int64_t size() const { return size_; }
    int64_t channels() const { return channels_; }
    int64_t pixels() const { return pixels_; }
    uint8_t* y() const { return y_; }

    // For `choose`: rows only where all pieces can be walked pixel by pixel together.
    Layout::Kind kind() const { return kind_; }

    // Without gaps: the first pixel of each piece, or its first plane, whose x_stride is not used. `images` hold
    // planes of `length` bytes.
    bool dense() const { return !parts_.empty(); }
    const std::vector<JoinedPart>& parts() const { return parts_; }
    int64_t length() const { return length_; }
    int64_t images() const { return images_; }

    const std::vector<Piece>& pieces() const { return pieces_; }

  private:
    bool find_dense(const ConcatArrays& arrays, Layout::Kind kind);
    void analyse_pieces(const ConcatArrays& arrays, bool join);

    std::vector<JoinedPart> parts_;
    std::vector<Piece> pieces_;
    uint8_t* y_;
    int64_t size_ = 1, channels_ = 0, pixels_ = 0, length_ = 0, images_ = 0;
    Layout::Kind kind_;
};

// What a pass over these pieces needs from the fold of all their channels.
Plan choose_concat(const ConcatLayout& layout, Use use);

void apply_concat(const Plan& plan, const Folded& folded, const ConcatLayout& layout,
                  const Threads& threads = own_threads());

}  // namespace bytenorm
