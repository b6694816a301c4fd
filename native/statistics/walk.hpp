// The codes of one channel as a sequence, and how the channels of an array are shared among threads.
#pragma once

#include <algorithm>
#include <mutex>

#include "core/threads.hpp"
#include "statistics.hpp"

namespace bytenorm {

// The loops of a layout without the one around the channels: `length` codes of a channel, `step` bytes apart, and
// loops around them. A position is a number of that sequence.
struct Walk {
    const uint8_t* x;
    int64_t channels, channel_stride;
    int64_t length, step;
    Loop outer[max_dims];
    int outers = 0;
    int64_t positions;  // codes of each channel

    Walk(const Layout& layout, int64_t channel_count) : x(layout.x), channels(channel_count), channel_stride(0) {
        for (int d = 0; d < layout.outers; ++d) keep(layout.outer[d]);
        keep(layout.inner);
        positions = layout.size / channels;
        const Loop inner = outers > 0 ? outer[--outers] : Loop{1, 1, 1, 0};
        length = inner.n, step = inner.x_stride;
    }

    // Calls body(x, runs, stride, n) for `runs` of n codes of a channel, `stride` bytes apart, that together are
    // positions [begin, end): n is `length`, but at the ends, where a part of a run comes alone.
    template <class F>
    void for_each_run(int64_t channel, int64_t begin, int64_t end, F&& body) const {
        while (begin < end) {
            const int64_t start = begin % length;
            int64_t rest = begin / length, runs = 1, stride = 0;
            const uint8_t* at = x + channel * channel_stride + start * step;
            for (int d = outers - 1; d >= 0; --d) {
                const int64_t i = rest % outer[d].n;
                rest /= outer[d].n;
                at += i * outer[d].x_stride;
                if (d == outers - 1 && start == 0 && end - begin >= length) {
                    runs = std::min((end - begin) / length, outer[d].n - i);
                    stride = outer[d].x_stride;
                }
            }
            const int64_t n = runs > 1 ? length : std::min(length - start, end - begin);
            body(at, runs, stride, n);
            begin += runs * n;
        }
    }

  private:
    void keep(const Loop& loop) {
        if (loop.channel_step == 1)
            channel_stride = loop.x_stride;
        else if (loop.n > 1)
            outer[outers++] = loop;
    }
};

// Calls body(first channel, channel behind, first position, position behind, mutex) for pieces that cover all
// channels and positions. The mutex is null unless pieces share a channel, whose results they then add to those
// of others: integers, so that the order does not matter. `cost`: bytes that could be copied meanwhile, a code.
template <class F>
void for_each_piece(const Walk& walk, int64_t cost, F&& body) {
    const int64_t work = cost * walk.positions * walk.channels, wanted = 4 * num_threads();
    if (walk.channels >= wanted || work < 65536 || num_threads() == 1) {
        auto channels = [&](int64_t begin, int64_t end) {
            body(begin, end, int64_t{0}, walk.positions, static_cast<std::mutex*>(nullptr));
        };
        return parallel_for(walk.channels, work, channels);
    }
    const int64_t pieces = std::max(std::min(2 * wanted / walk.channels, walk.positions / 4096), int64_t{1});
    std::mutex mutex;
    auto parts = [&](int64_t begin, int64_t end) {
        for (int64_t unit = begin; unit < end; ++unit) {
            const int64_t channel = unit / pieces, piece = unit % pieces;
            const int64_t share = walk.positions / pieces, first = piece * share;
            body(channel, channel + 1, first, piece == pieces - 1 ? walk.positions : first + share, &mutex);
        }
    };
    parallel_for(walk.channels * pieces, work, parts);
}

inline std::unique_lock<std::mutex> locked(std::mutex* mutex) {  // which may be null
    return mutex ? std::unique_lock<std::mutex>(*mutex) : std::unique_lock<std::mutex>();
}

}  // namespace bytenorm
