// The pool of native/threads.cpp from several threads at once, for the thread sanitizer: tests/sanitize.sh builds
// and runs it. Ends with 1 if a unit of work was done twice or not at all.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "../native/threads.hpp"

int main() {
    bytenorm::set_num_threads(6);
    std::atomic<long> wrong{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller) {
        callers.emplace_back([caller, &wrong] {
            std::vector<int> done(100003);
            for (int call = 0; call < 600; ++call) {
                for (int& count : done) count = 0;
                const int64_t units = 1 + (call * 7919 + caller * 31) % static_cast<int64_t>(done.size());
                auto body = [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) ++done[static_cast<size_t>(i)];
                };
                bytenorm::parallel_for(units, int64_t{1} << 20, body);
                for (int64_t i = 0; i < units; ++i) wrong += done[static_cast<size_t>(i)] != 1;
                // Long enough for the workers to fall asleep now and then.
                if (call % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    std::printf("thread pool: %ld units done twice or not at all\n", wrong.load());
    return wrong == 0 ? 0 : 1;
}
