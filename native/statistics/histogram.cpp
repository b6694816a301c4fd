// The histograms of an array's channels. An increment waits for the one before it if that went to the same bin, so
// neighbouring codes count in tables of their own, which are added up at the end. Plain C++: no vector instruction
// counts faster.
#include <cstring>
#include <numeric>

#include "walk.hpp"

namespace bytenorm {
namespace {

constexpr int64_t code_cost = 8;  // counting one takes as long as copying so many bytes

inline uint64_t eight(const uint8_t* x) {
    uint64_t v;
    std::memcpy(&v, x, 8);
    return v;
}

// Channels first: eight tables for one channel.
class PlaneTables {
  public:
    static constexpr int64_t most = int64_t{1} << 31;  // codes that 32 bits count for certain

    void clear() { std::memset(count_, 0, sizeof count_); }
    void add(const uint8_t* x, int64_t n) {
        int64_t j = 0;
        for (; j + 8 <= n; j += 8) {
            const uint64_t v = eight(x + j);
            for (int k = 0; k < 8; ++k) ++count_[k][v >> (8 * k) & 255];
        }
        for (; j < n; ++j) ++count_[j & 7][x[j]];
    }
    void add(const uint8_t* x, int64_t n, int64_t step) {
        for (int64_t j = 0; j < n; ++j) ++count_[j & 7][x[j * step]];
    }
    void empty_into(int64_t* counts, int flip) const {
        for (int b = 0; b < 256; ++b) {
            int64_t total = 0;
            for (int k = 0; k < 8; ++k) total += count_[k][b];
            counts[b ^ flip] += total;
        }
    }

  private:
    alignas(64) uint32_t count_[8][256];
};

void add_planes(const Walk& walk, int flip, int64_t* counts) {
    constexpr int64_t few = 1024;  // below, clearing and adding up the tables costs more than waiting
    for_each_piece(
        walk, code_cost, [&](int64_t first, int64_t behind, int64_t from, int64_t to, std::mutex* mutex) {
            PlaneTables tables;
            for (int64_t c = first; c < behind; ++c) {
                int64_t* mine = counts + 256 * c;
                if (to - from < few) {
                    const auto lock = locked(mutex);
                    walk.for_each_run(c, from, to, [&](const uint8_t* x, int64_t runs, int64_t stride, int64_t n) {
                        for (int64_t i = 0; i < runs; ++i)
                            for (int64_t j = 0; j < n; ++j) ++mine[x[i * stride + j * walk.step] ^ flip];
                    });
                    continue;
                }
                for (int64_t start = from; start < to; start += PlaneTables::most) {
                    tables.clear();
                    const int64_t end = std::min(start + PlaneTables::most, to);
                    walk.for_each_run(c, start, end,
                                      [&](const uint8_t* x, int64_t runs, int64_t stride, int64_t n) {
                                          for (int64_t i = 0; i < runs; ++i)
                                              walk.step == 1 ? tables.add(x + i * stride, n)
                                                             : tables.add(x + i * stride, n, walk.step);
                                      });
                    const auto lock = locked(mutex);
                    tables.empty_into(mine, flip);
                }
            }
        });
}

// Channels last: a table of 16-bit counts for each of 32 neighbouring lanes, 16 KiB, which the first cache holds.
constexpr int64_t block = 32;

class RowTables {
  public:
    static constexpr int64_t most = 65535;  // rows that 16 bits count for certain

    explicit RowTables(int64_t lanes) : lanes_(lanes) { clear(); }

    int64_t room() const { return most - rows_; }
    void add(const uint8_t* x, int64_t rows, int64_t lanes, int64_t stride) {
        if (lanes == block)
            add_lanes(x, rows, stride, std::integral_constant<int64_t, block>());
        else
            add_lanes(x, rows, stride, lanes);
        rows_ += rows;
    }
    // Lane j belongs to channel j % channels.
    void empty_into(int64_t* counts, int64_t channels, int flip) {
        for (int64_t j = 0; j < lanes_; ++j) {
            int64_t* to = counts + 256 * (j % channels);
            for (int b = 0; b < 128; ++b) to[b ^ flip] += count_[j][b];
            for (int b = 128; b < 256; ++b) to[b ^ flip] += count_[j][b];
        }
        clear();
    }

  private:
    template <class Lanes>
    void add_lanes(const uint8_t* x, int64_t rows, int64_t stride, Lanes lanes) {
        for (int64_t i = 0; i < rows; ++i, x += stride) {
            __builtin_prefetch(x + (i + 16 < rows ? 16 * stride : 0));
            int64_t j = 0;
            for (; j + 8 <= lanes; j += 8) {
                const uint64_t v = eight(x + j);
                for (int k = 0; k < 8; ++k) ++count_[j + k][v >> (8 * k) & 255];
            }
            for (; j < lanes; ++j) ++count_[j][x[j]];
        }
    }
    void clear() {
        std::memset(count_, 0, static_cast<size_t>(lanes_) * sizeof count_[0]);
        rows_ = 0;
    }

    const int64_t lanes_;
    int64_t rows_;
    alignas(64) uint16_t count_[block][256];
};

void add_rows(const Layout& layout, int flip, int64_t* counts) {
    constexpr int64_t few = 256;  // pixels; as above
    const int64_t channels = layout.inner.n, pixels = layout.outer_size();
    const Loop& loop = layout.outer[layout.outers - 1];
    const int64_t beside = loop.x_stride == channels ? std::max(block / channels, int64_t{1}) : 1;
    const int64_t blocks = (channels + block - 1) / block;
    const int64_t wanted = num_threads() == 1 ? 1 : 8 * num_threads();
    const int64_t pieces = std::max(std::min(wanted / blocks, pixels / 4096), int64_t{1});
    std::mutex mutex;
    auto body = [&](int64_t begin, int64_t end) {
        for (int64_t unit = begin; unit < end; ++unit) {
            const int64_t first = unit % blocks * block, piece = unit / blocks;
            const int64_t lanes = std::min(channels - first, block), share = pixels / pieces;
            const int64_t from = piece * share, to = piece == pieces - 1 ? pixels : from + share;
            int64_t* mine = counts + 256 * first;
            if (to - from < few) {  // one piece: nobody else counts these channels
                for_each_run(layout, from, to, [&](const uint8_t* x, uint8_t*, int64_t, int64_t rows) {
                    for (int64_t i = 0; i < rows; ++i)
                        for (int64_t j = 0; j < lanes; ++j)
                            ++mine[256 * j + (x[i * loop.x_stride + first + j] ^ flip)];
                });
                continue;
            }
            RowTables tables(beside * lanes);
            const auto empty = [&] {
                const auto lock = locked(pieces > 1 ? &mutex : nullptr);
                tables.empty_into(mine, lanes, flip);
            };
            const auto walk = [&](const uint8_t* x, int64_t rows, int64_t n, int64_t stride) {
                for (int64_t done = 0; done < rows;) {
                    const int64_t some = std::min(rows - done, tables.room());
                    tables.add(x + done * stride, some, n, stride);
                    done += some;
                    if (tables.room() == 0) empty();
                }
            };
            for_each_run(layout, from, to, [&](const uint8_t* x, uint8_t*, int64_t, int64_t rows) {
                if (beside == 1) return walk(x + first, rows, lanes, loop.x_stride);
                const int64_t groups = rows / beside, rest = rows % beside;
                walk(x, groups, beside * lanes, beside * lanes);
                if (rest > 0) walk(x + groups * beside * lanes, 1, rest * lanes, 0);
            });
            empty();
        }
    };
    parallel_for(blocks * pieces, code_cost * layout.size, body);
}

}  // namespace

void add_histogram(const Layout& layout, int64_t channels, bool is_signed, int64_t* counts) {
    if (layout.size == 0) return;
    const int flip = is_signed ? 0x80 : 0;
    if (layout.kind == Layout::rows)
        add_rows(layout, flip, counts);
    else
        add_planes(Walk(layout, channels), flip, counts);
}

}  // namespace bytenorm
