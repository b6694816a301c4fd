// What goes wrong in the parts of parallel work. No exception may leave a part: it may run on a thread that would
// end the process, below a host's frames, or while other parts still use what the caller's stack holds. The first
// is kept, the parts that have not begun are left out, and the caller throws it when all have ended.
#pragma once

#include <atomic>
#include <exception>

namespace bytenorm {

class FirstFailure {
  public:
    template <class F>
    void guard(F&& part) noexcept {
        if (failed_.load(std::memory_order_relaxed)) return;
        try {
            part();
        } catch (...) {
            if (!failed_.exchange(true)) failure_ = std::current_exception();
        }
    }

    // Once all parts have ended, and whoever ran them has been waited for.
    void rethrow() const {
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    std::atomic<bool> failed_{false};
    std::exception_ptr failure_;
};

}  // namespace bytenorm
