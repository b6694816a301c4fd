// A small pool of threads, and the rule for how many a call gets.
#pragma once

#include <cstdint>

namespace bytenorm {

int num_threads();
void set_num_threads(int n);  // n >= 1
int default_num_threads();    // the CPUs of the affinity mask, at most 8

// Runs body(begin, end) over [0, units), split evenly over as many threads as `bytes` of work deserve.
// A call that finds the pool busy, or whose threads cannot be started, runs alone.
void parallel_for(int64_t units, int64_t bytes, void (*body)(void* context, int64_t begin, int64_t end),
                  void* context);

template <class F>
void parallel_for(int64_t units, int64_t bytes, F& body) {
    parallel_for(
        units, bytes, [](void* f, int64_t begin, int64_t end) { (*static_cast<F*>(f))(begin, end); }, &body);
}

}  // namespace bytenorm
