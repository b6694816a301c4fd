#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "first_failure.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace bytenorm {
namespace {

// Below this a second thread costs more than it saves: waking one takes microseconds, copying 32 KiB about
// one.
std::atomic<int64_t> bytes_a_thread{32 * 1024};
constexpr int spins_before_sleep = 2000;  // some 50 us: longer than the gap between two layers of a network

void pause_cpu() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");  // some 20 cycles; `yield` does nothing on most cores
#else
    std::this_thread::yield();
#endif
}

constexpr int most_parts = 64;
constexpr int64_t chunks_a_part = 4;

// Every thread works through a part of its own, so that the next call finds the same bytes in the same caches,
// chunk by chunk, and then helps with what is left of the others: a thread that wakes late holds up nobody.
class Job {
  public:
    Job(void (*body)(void*, int64_t, int64_t), void* context, int64_t units, int parts)
        : body_(body), context_(context), units_(units), parts_(parts) {
        for (int i = 0; i < parts; ++i) next_[i].store(0, std::memory_order_relaxed);
    }

    void work(int first) const {
        for (int i = 0; i < parts_; ++i) {
            const int part = first + i < parts_ ? first + i : first + i - parts_;
            for (;;) {
                const int64_t chunk = next_[part].fetch_add(1, std::memory_order_relaxed);
                if (chunk >= chunks_a_part) break;
                const int64_t begin = at(part * chunks_a_part + chunk), end = at(part * chunks_a_part + chunk + 1);
                if (begin < end) failure_.guard([&] { body_(context_, begin, end); });
            }
        }
    }

    void rethrow() const { failure_.rethrow(); }

  private:
    int64_t at(int64_t chunk) const { return part_of(units_, chunk, parts_ * chunks_a_part); }

    void (*body_)(void*, int64_t, int64_t);
    void* context_;
    int64_t units_;
    int parts_;
    mutable std::atomic<int64_t> next_[most_parts];
    mutable FirstFailure failure_;
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

    // Takes the job back if the worker has not begun, else waits until it has finished.
    void finish(const Job* job) {
        const Job* expected = job;
        if (job_.compare_exchange_strong(expected, nullptr)) return;
        for (int spins = 0; job_.load(std::memory_order_acquire); ++spins) {
            if (spins < spins_before_sleep)
                pause_cpu();
            else
                std::this_thread::yield();
        }
    }

  private:
    static const Job* begun() { return reinterpret_cast<const Job*>(alignof(Job)); }  // never a real job's address

    // In one order with `sleeping_`, as `post` is: else neither might see what the other stored, and a worker
    // would sleep beside its job.
    bool posted(const Job*& job) const {
        job = job_.load();
        return job && job != begun();
    }
    void loop() {
        for (;;) {
            const Job* job = nullptr;
            for (int spins = 0; spins < spins_before_sleep && !posted(job); ++spins) pause_cpu();
            if (!posted(job)) {
                std::unique_lock<std::mutex> lock(mutex_);
                sleeping_.store(true);
                wake_.wait(lock, [&] { return posted(job); });
                sleeping_.store(false);
            }
            if (!job_.compare_exchange_strong(job, begun())) continue;  // taken back
            job->work(part_);
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
    std::unique_ptr<Worker> workers[most_parts - 1];
    int started = 0;

    // Starts workers up to so many; returns how many of them there are.
    int start(int wanted) {
        try {
            for (; started < wanted; ++started) workers[started] = std::make_unique<Worker>(started + 1);
        } catch (const std::exception&) {  // the system has no more threads, or no memory for one
        }
        return std::min(started, wanted);
    }
};

std::atomic<int> wanted_threads{1};
thread_local bool alone = false;

// Never destroyed: detached threads may still wait in it while static destructors run. After a fork the
// child's copy has no threads behind it, so the child forgets it and starts its own when it needs one.
std::atomic<Pool*> current_pool{nullptr};

Pool* pool() {  // null if there is no memory for one
    Pool* p = current_pool.load();
    if (p) return p;
#if defined(__unix__) || defined(__APPLE__)
    static const bool forgets = pthread_atfork(nullptr, nullptr, [] { current_pool.store(nullptr); }) == 0;
    if (!forgets) return nullptr;
#endif
    Pool* fresh = new (std::nothrow) Pool;
    if (fresh && !current_pool.compare_exchange_strong(p, fresh)) {
        delete fresh;
        return p;
    }
    return fresh;
}

}  // namespace

int num_threads() {
    return alone ? 1 : wanted_threads.load(std::memory_order_relaxed);
}

bool work_alone(bool wanted) {
    return std::exchange(alone, wanted);
}

void set_num_threads(int n) {
    wanted_threads.store(n, std::memory_order_relaxed);
}

int64_t set_bytes_a_thread(int64_t bytes) {
    return bytes_a_thread.exchange(bytes);
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
    const int64_t deserved = std::min(units, bytes / bytes_a_thread.load(std::memory_order_relaxed));
    const int parts = static_cast<int>(std::min<int64_t>(std::min(num_threads(), most_parts), deserved));
    if (parts < 2) return body(context, 0, units);

    Pool* p = pool();
    if (!p || p->busy.exchange(true, std::memory_order_acquire)) return body(context, 0, units);
    const int helpers = p->start(parts - 1);
    const Job job(body, context, units, helpers + 1);
    for (int i = 0; i < helpers; ++i) p->workers[i]->post(&job);
    job.work(0);
    for (int i = 0; i < helpers; ++i) p->workers[i]->finish(&job);
    p->busy.store(false, std::memory_order_release);
    job.rethrow();
}

namespace {

class OwnThreads final : public Threads {
  public:
    int most() const override { return num_threads(); }
    void run(int64_t units, int64_t bytes, void (*body)(void*, int64_t, int64_t), void* context) const override {
        parallel_for(units, bytes, body, context);
    }
};

}  // namespace

const Threads& own_threads() {
    static const OwnThreads threads;
    return threads;
}

}  // namespace bytenorm
