#include "session_threads.hpp"

#include <algorithm>

#include "core/first_failure.hpp"
#include "status.hpp"

namespace bytenorm::ort {
namespace {

// An operator is not told how many threads its session has. So work is cut as if there were many, into pieces
// that take a few microseconds each: whoever is free takes the next, and one thread takes them all.
constexpr int64_t bytes_a_piece = 64 * 1024;
constexpr int64_t most_pieces = 16;

struct Pieces {
    void (*body)(void*, int64_t, int64_t);
    void* context;
    int64_t units, count;
    FirstFailure failure;

    static void run(void* data, size_t i) {
        Pieces& p = *static_cast<Pieces*>(data);
        const int64_t at = static_cast<int64_t>(i);
        p.failure.guard([&] { p.body(p.context, p.units * at / p.count, p.units * (at + 1) / p.count); });
    }
};

}  // namespace

int SessionThreads::most() const {
    return static_cast<int>(most_pieces);
}

void SessionThreads::run(int64_t units, int64_t bytes, void (*body)(void*, int64_t, int64_t),
                         void* context) const {
    if (units <= 0) return;
    Pieces pieces{body, context, units, std::min({units, bytes / bytes_a_piece, most_pieces}), {}};
    if (pieces.count < 2) return body(context, 0, units);
    check<KernelContext_ParallelFor>(api_, context_, &Pieces::run, static_cast<size_t>(pieces.count), size_t{0},
                                     static_cast<void*>(&pieces));
    pieces.failure.rethrow();
}

}  // namespace bytenorm::ort
