#include "joined_rows.hpp"

#include <algorithm>

namespace bytenorm {
namespace {

// Copies `n` bytes of each of `pixels` rows. In and out may be the same bytes, but must not overlap otherwise.
void copy_rows(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride, int64_t pixels, int64_t n) {
    if (x == y && x_stride == y_stride) return;
    for (int64_t p = 0; p < pixels; ++p, x += x_stride, y += y_stride) {
        __builtin_prefetch(x + pixels * x_stride);
        if (n >= 16) {  // copies of a constant size are two instructions; the last one may overlap the one before
            int64_t i = 0;
            for (; i + 16 <= n; i += 16) __builtin_memcpy(y + i, x + i, 16);
            if (i < n) __builtin_memcpy(y + n - 16, x + n - 16, 16);
        } else {
            for (int64_t i = 0; i < n; ++i) y[i] = x[i];
        }
    }
}

}  // namespace

JoinedRows::JoinedRows(const Folded& folded, const PackedRows& packed, const std::vector<int64_t>& ends,
                       int64_t size)
    : walk_{folded, packed, size, false} {
    for (const RowRun& run : packed.runs) {
        const Isa isa = packed.kernels->get<Joined>(run.arithmetic).isa;
        const int64_t width = traits(isa).width, most = traits(isa).most_parts;
        size_t part = 0;
        const int64_t run_end = run.first_lane + run.lanes;
        for (int64_t lane = run.first_lane; lane < run_end; lane += width) {
            const int64_t end = std::min(lane + width, run_end);
            while (ends[part] <= lane) ++part;
            size_t last = part;
            while (ends[last] < end) ++last;
            const bool joined = static_cast<int64_t>(last - part) < most;
            if (!spans_.empty() && spans_.back().joined == joined && spans_.back().arithmetic == run.arithmetic) {
                spans_.back().lanes += end - lane;
                spans_.back().parts = last - spans_.back().first_part + 1;
            } else {
                spans_.push_back({joined, run.arithmetic, lane, end - lane, part, last - part + 1});
            }
        }
    }
}

void JoinedRows::operator()(JoinedPart* parts, uint8_t* y, int64_t y_stride, int64_t pixels) const {
    for (const Span& span : spans_) {
        if (span.joined)
            join(span, parts, y, y_stride, pixels);
        else
            copy_and_walk(span, parts, y, y_stride, pixels);
    }
}

void JoinedRows::join(const Span& span, JoinedPart* parts, uint8_t* y, int64_t y_stride, int64_t pixels) const {
    const PackedRows& packed = walk_.packed;
    JoinedPart* first = parts + span.first_part;
    Joined j{};
    j.parts = first, j.y = y + span.first_lane;
    j.pixels = pixels, j.lanes = span.lanes, j.y_stride = y_stride;
    j.conversion = walk_.folded.conversion();
    for (size_t i = 0; i < span.parts; ++i) first[i].first_lane -= span.first_lane;
    const Kernel<Joined>& kernel = packed.kernels->get<Joined>(span.arithmetic);
    j.blocks = packed.at(kernel, span.arithmetic, span.first_lane);
    kernel(j);
    for (size_t i = 0; i < span.parts; ++i) first[i].first_lane += span.first_lane;
}

void JoinedRows::copy_and_walk(const Span& span, const JoinedPart* parts, uint8_t* y, int64_t y_stride,
                               int64_t pixels) const {
    const int64_t span_end = span.first_lane + span.lanes;
    for (size_t i = span.first_part; i < span.first_part + span.parts; ++i) {
        const JoinedPart& part = parts[i];
        const int64_t from = std::max(span.first_lane, part.first_lane);
        const int64_t to = std::min(span_end, part.first_lane + part.lanes);
        copy_rows(part.x + (from - part.first_lane), part.x_stride, y + from, y_stride, pixels, to - from);
    }
    walk_(y + span.first_lane, y + span.first_lane, pixels, span.first_lane, span.lanes, y_stride, y_stride);
}

}  // namespace bytenorm
