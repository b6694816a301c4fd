// The norm of a concatenation along the channels, without the concatenation: every piece is read where it lies.
#pragma once

#include <vector>

#include "apply.hpp"

namespace bytenorm {

// Neighbouring channels of the output that come from one array. The layout's `y` is where they go.
struct ConcatPiece {
    // `y` is where the piece's first channel goes; `shape` is the piece's.
    ConcatPiece(const uint8_t* x, const int64_t* x_strides, uint8_t* y, const int64_t* y_strides,
                const int64_t* shape, int ndim, int axis, int64_t first, bool join)
        : layout(analyse(x, x_strides, y, y_strides, shape, ndim, axis, join)),
          first_channel(first),
          channels(shape[axis]) {}

    Layout layout;
    int64_t first_channel, channels;
};

// Whether channels lie side by side in all pieces, but axes joined in some do not in others: then `join` false
// makes them alike, and fast.
bool alike_if_not_joined(const std::vector<ConcatPiece>& pieces);

// What a pass over these pieces needs from the fold of all their channels. `size` is the output's.
Plan choose_concat(const std::vector<ConcatPiece>& pieces, int64_t channels, int64_t size, Use use);

// A piece may lie where its channels go. It must not touch any other byte of the output.
void apply_concat(const Plan& plan, const Folded& folded, const std::vector<ConcatPiece>& pieces, int64_t size,
                  const Threads& threads = own_threads());

}  // namespace bytenorm
