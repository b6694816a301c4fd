// Who runs the pieces of a call: a small pool of threads and its rule for how many a call gets, or a host's
// threads.
#pragma once

#include <cstdint>

namespace bytenorm {

int num_threads();                          // of this thread's calls
void set_num_threads(int n);                // n >= 1
int64_t set_bytes_a_thread(int64_t bytes);  // for tests, whose arrays are small; returns what was before
int default_num_threads();                  // the CPUs of the affinity mask, at most 8
bool work_alone(bool alone);  // whether this thread's calls, and no other's, stay in it; returns what was before

// floor(units * part / parts), where the share of one of `parts` begins. The product may be beyond 2^63: 25 pieces
// of 2^32 pixels are.
inline int64_t part_of(int64_t units, int64_t part, int64_t parts) {
    int64_t product;
    if (!__builtin_mul_overflow(units, part, &product)) return product / parts;
    return static_cast<int64_t>(static_cast<__int128>(units) * part / parts);
}

// Few long runs of bytes are cut into pieces, so that every thread gets as much: into how many each.
constexpr int64_t long_run = 65536;
inline int64_t pieces_of(int64_t runs, int64_t bytes, int most_threads) {
    return most_threads > 1 && runs < 4 * most_threads && bytes >= long_run ? bytes / 16384 : 1;
}

// Runs body(begin, end) over [0, units), split evenly over as many threads as `bytes` of work deserve.
// A call that finds the pool busy, or whose threads cannot be started, runs alone. The first exception of a body
// comes out when all threads have left it.
void parallel_for(int64_t units, int64_t bytes, void (*body)(void* context, int64_t begin, int64_t end),
                  void* context);

template <class F>
void parallel_for(int64_t units, int64_t bytes, F& body) {
    parallel_for(
        units, bytes, [](void* f, int64_t begin, int64_t end) { (*static_cast<F*>(f))(begin, end); }, &body);
}

// Somebody's threads. A program that runs an operator has its own, and two pools would fight for the cores.
class Threads {
  public:
    virtual int most() const = 0;  // how many may work at once, as far as is known
    virtual void run(int64_t units, int64_t bytes, void (*body)(void* context, int64_t begin, int64_t end),
                     void* context) const = 0;  // as parallel_for

    template <class F>
    void run(int64_t units, int64_t bytes, F& body) const {
        run(units, bytes, [](void* f, int64_t begin, int64_t end) { (*static_cast<F*>(f))(begin, end); }, &body);
    }

  protected:
    ~Threads() = default;
};

const Threads& own_threads();  // the pool above

}  // namespace bytenorm
