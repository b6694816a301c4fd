// Tiles of a concatenation that nobody made, channels last: kernels put vectors of channels together from the
// arrays that hold them.
#pragma once

#include <vector>

#include "segment.hpp"

namespace bytenorm {

class JoinedRows {
  public:
    // Part i has the lanes from `ends[i - 1]` to `ends[i]`. `size` is that of the whole pass.
    JoinedRows(const Folded& folded, const PackedRows& packed, const std::vector<int64_t>& ends, int64_t size);

    // `parts` say where the first pixel of each array is.
    void operator()(JoinedPart* parts, uint8_t* y, int64_t y_stride, int64_t pixels) const;

  private:
    // What a kernel cannot join is first copied to where it goes, and normalized there.
    struct Span {
        bool joined;
        Arithmetic arithmetic;
        int64_t first_lane, lanes;
        size_t first_part, parts;  // those that hold these lanes
    };

    void join(const Span& span, JoinedPart* parts, uint8_t* y, int64_t y_stride, int64_t pixels) const;
    void copy_and_walk(const Span& span, const JoinedPart* parts, uint8_t* y, int64_t y_stride,
                       int64_t pixels) const;

    const RowWalk walk_;
    std::vector<Span> spans_;
};

}  // namespace bytenorm
