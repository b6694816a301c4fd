#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace bytenorm {
namespace {

// Below this a second thread costs more than it saves: waking one takes microseconds, copying 32 KiB about
// one.
constexpr int64_t bytes_a_thread = 32 * 1024;
constexpr int spins_before_sleep = 2000;  // some 50 us: longer than the gap between two layers of a network

void pause_cpu() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

struct Job {
    void (*body)(void*, int64_t, int64_t);
    void* context;
    int64_t units;
    int parts;

    void run(int part) const {
        // units * part may pass 2^63 for no array that fits memory: units and parts are far below 2^40 and
        // 2^10.
        body(context, units * part / parts, units * (part + 1) / parts);
    }
};

// A worker has a mailbox of its own, so that a small job wakes only whom it needs.
class Worker {
  public:
    explicit Worker(int part) : part_(part) {
        std::thread([this] { loop(); }).detach();
    }

    void post(const Job* job) {
        job_.store(job);
        if (sleeping_.load()) {
            std::lock_guard<std::mutex> guard(mutex_);
            wake_.notify_one();
        }
    }
    void wait_until_done() const {
        for (int spins = 0; job_.load(std::memory_order_acquire); ++spins) {
            if (spins < spins_before_sleep)
                pause_cpu();
            else
                std::this_thread::yield();
        }
    }

  private:
    void loop() {
        for (;;) {
            const Job* job = nullptr;
            for (int spins = 0; spins < spins_before_sleep && !job; ++spins) {
                job = job_.load(std::memory_order_acquire);
                if (!job) pause_cpu();
            }
            if (!job) {
                std::unique_lock<std::mutex> lock(mutex_);
                sleeping_.store(true);
                wake_.wait(lock, [&] { return (job = job_.load()) != nullptr; });
                sleeping_.store(false);
            }
            job->run(part_);
            job_.store(nullptr, std::memory_order_release);
        }
    }

    const int part_;
    std::atomic<const Job*> job_{nullptr};
    std::atomic<bool> sleeping_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
};

struct Pool {
    std::atomic<bool> busy{false};
    std::vector<std::unique_ptr<Worker>> workers;
};

std::atomic<int> wanted_threads{1};

// Never destroyed: detached threads may still wait in it while static destructors run. After a fork the
// child's copy has no threads behind it, so the child forgets it and starts its own when it needs one.
std::atomic<Pool*> current_pool{nullptr};

Pool& pool() {
    Pool* p = current_pool.load();
    if (!p) {
        static std::once_flag registered;
#if defined(__linux__)
        std::call_once(registered,
                       [] { pthread_atfork(nullptr, nullptr, [] { current_pool.store(nullptr); }); });
#endif
        Pool* fresh = new Pool;
        if (current_pool.compare_exchange_strong(p, fresh))
            p = fresh;
        else
            delete fresh;
    }
    return *p;
}

}  // namespace

int num_threads() {
    return wanted_threads.load(std::memory_order_relaxed);
}

void set_num_threads(int n) {
    wanted_threads.store(n, std::memory_order_relaxed);
}

int default_num_threads() {
    int cpus = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) cpus = CPU_COUNT(&mask);
#endif
    return std::min(std::max(cpus, 1), 8);
}

void parallel_for(int64_t units, int64_t bytes, void (*body)(void*, int64_t, int64_t), void* context) {
    if (units <= 0) return;
    const int64_t deserved = std::min(units, bytes / bytes_a_thread);
    int parts = static_cast<int>(std::min<int64_t>(num_threads(), deserved));
    if (parts < 2) return body(context, 0, units);

    Pool& p = pool();
    if (p.busy.exchange(true, std::memory_order_acquire)) return body(context, 0, units);
    while (static_cast<int>(p.workers.size()) < parts - 1) {
        try {
            p.workers.push_back(std::make_unique<Worker>(static_cast<int>(p.workers.size()) + 1));
        } catch (const std::system_error&) {  // the system has no more threads: use those there are
            parts = static_cast<int>(p.workers.size()) + 1;
        }
    }
    const Job job{body, context, units, parts};
    for (int i = 0; i < parts - 1; ++i) p.workers[static_cast<size_t>(i)]->post(&job);
    job.run(0);
    for (int i = 0; i < parts - 1; ++i) p.workers[static_cast<size_t>(i)]->wait_until_done();
    p.busy.store(false, std::memory_order_release);
}

}  // namespace bytenorm
