// The pool of native/core/threads.cpp from several threads at once, for the thread sanitizer: tests/sanitize.sh
// builds and runs it. Ends with 1 if a unit of work was done twice or not at all, or an exception was lost.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "../native/core/threads.hpp"

namespace {

using bytenorm::part_of;

constexpr int64_t enough = int64_t{1} << 20;  // bytes of work, for all threads

long units_not_done_once(int caller) {
    long wrong = 0;
    std::vector<int> done(100003);
    for (int call = 0; call < 600; ++call) {
        for (int& count : done) count = 0;
        const int64_t units = 1 + (call * 7919 + caller * 31) % static_cast<int64_t>(done.size());
        auto body = [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) ++done[static_cast<size_t>(i)];
        };
        bytenorm::parallel_for(units, enough, body);
        for (int64_t i = 0; i < units; ++i) wrong += done[static_cast<size_t>(i)] != 1;
        // Long enough for the workers to fall asleep now and then.
        if (call % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
    return wrong;
}

// Some or all pieces throw, in workers and in the caller: one exception comes out, when nobody is in the body.
long exceptions_lost() {
    long lost = 0;
    for (int call = 0; call < 600; ++call) {
        std::atomic<int> inside{0};
        auto body = [&](int64_t begin, int64_t) {
            ++inside;
            const bool fails = call % 3 == 0 || begin % 3 == 0;
            if (begin % 2) std::this_thread::yield();
            --inside;
            if (fails && call % 2) throw std::bad_alloc();
            if (fails) throw std::runtime_error("a piece failed");
        };
        try {
            bytenorm::parallel_for(1000, enough, body);
            ++lost;
        } catch (const std::bad_alloc&) {
            lost += call % 2 == 0 || inside != 0;
        } catch (const std::runtime_error&) {
            lost += call % 2 == 1 || inside != 0;
        }
    }
    return lost;
}

bool parts_are_exact() {
    const int64_t most = INT64_MAX;
    return part_of(10, 2, 4) == 5 && part_of(7, 1, 2) == 3 && part_of(most, 0, 3) == 0 &&
           part_of(most, 3, 3) == most && part_of(most, 2, 3) == most / 3 * 2 &&
           // 4000000001 * 3999999999 = 15999999999999999999, which is more than 2^63
           part_of(4000000001, 3999999999, 4000000003) == 3999999997;
}

}  // namespace

int main() {
    bytenorm::set_num_threads(6);
    std::atomic<long> wrong{0}, lost{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller)
        callers.emplace_back([caller, &wrong] { wrong += units_not_done_once(caller); });
    callers.emplace_back([&lost] { lost += exceptions_lost(); });
    for (std::thread& caller : callers) caller.join();
    std::printf("thread pool: %ld units done twice or not at all, %ld exceptions lost\n", wrong.load(),
                lost.load());
    if (!parts_are_exact()) std::printf("part_of is not exact\n");
    return wrong == 0 && lost == 0 && parts_are_exact() ? 0 : 1;
}
