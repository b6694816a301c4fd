// A piece of a pass in a thread of somebody's: an exception that left it there would end the process, or unwind a
// caller whose other pieces still run.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

namespace bytenorm {

// The body of a pass that no exception leaves. The first one is kept, and pieces that begin after it are left out;
// whoever has waited for all pieces rethrows it.
class CaughtBody {
  public:
    CaughtBody(void (*body)(void*, int64_t, int64_t), void* context) : body_(body), context_(context) {}

    // As the body, with a CaughtBody as the context.
    static void run(void* caught, int64_t begin, int64_t end) noexcept {
        CaughtBody& self = *static_cast<CaughtBody*>(caught);
        if (self.failed_.load(std::memory_order_relaxed)) return;
        try {
            self.body_(self.context_, begin, end);
        } catch (...) {
            if (!self.failed_.exchange(true)) self.first_ = std::current_exception();
        }
    }

    void rethrow() const {  // after all pieces
        if (first_) std::rethrow_exception(first_);
    }

  private:
    void (*body_)(void*, int64_t, int64_t);
    void* context_;
    std::atomic<bool> failed_{false};
    std::exception_ptr first_;
};

}  // namespace bytenorm
