// Errors: exceptions inside, an OrtStatus for ONNX Runtime. None crosses the C interface.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "abi.hpp"

namespace bytenorm::ort {

// Something is wrong with the model or its input; the message is for its user.
class Refusal : public std::exception {
  public:
    explicit Refusal(std::string message) : message_(std::move(message)) {}
    const char* what() const noexcept override { return message_.c_str(); }

  private:
    std::string message_;
};

// What ONNX Runtime answered, to be handed back to it.
struct Answer {
    OrtStatus* status;
};

// Calls a function that returns a status: check<GetDimensions>(api, info, shape, ndim).
template <class F, class... Arguments>
void check(const OrtApi* api, Arguments... arguments) {
    if (OrtStatus* status = F::call(api, arguments...)) throw Answer{status};
}

// Whether such a function succeeds, where failing is an answer like any other.
template <class F, class... Arguments>
bool succeeds(const OrtApi* api, Arguments... arguments) {
    OrtStatus* status = F::call(api, arguments...);
    if (status) ReleaseStatus::call(api, status);
    return !status;
}

template <class F>
OrtStatus* guarded(const OrtApi* api, F&& work) noexcept {
    try {
        work();
        return nullptr;
    } catch (const Answer& answer) {
        return answer.status;
    } catch (const Refusal& refusal) {
        return CreateStatus::call(api, invalid_argument, refusal.what());
    } catch (const std::bad_alloc&) {
        return CreateStatus::call(api, runtime_exception, "bytenorm: out of memory");
    } catch (const std::exception& error) {
        return CreateStatus::call(api, runtime_exception, error.what());
    } catch (...) {
        return CreateStatus::call(api, runtime_exception, "bytenorm: unknown error");
    }
}

}  // namespace bytenorm::ort
