// The threads of the session that runs an operator, for a pass over an array.
#pragma once

#include "abi.hpp"
#include "core/threads.hpp"

namespace bytenorm::ort {

class SessionThreads final : public Threads {
  public:
    SessionThreads(const OrtApi* api, const OrtKernelContext* context) : api_(api), context_(context) {}

    int most() const override;
    void run(int64_t units, int64_t bytes, void (*body)(void* context, int64_t begin, int64_t end),
             void* context) const override;

  private:
    const OrtApi* api_;
    const OrtKernelContext* context_;
};

}  // namespace bytenorm::ort
