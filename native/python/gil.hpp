// Long work without Python's lock.
#pragma once

#include <nanobind/nanobind.h>

#include <exception>

#if defined(__GLIBC__)
#include <unistd.h>
#endif

namespace bytenorm {

// Takes the lock back. While the interpreter shuts down, Python before 3.14 ends daemon threads here by
// unwinding their stack, which no C++ frame above survives (std::terminate ends the process with an error).
// Such a thread waits for the end of the process instead, as it does from 3.14 on.
inline void take_gil(PyThreadState* state) {
#if defined(__GLIBC__)
    try {
        PyEval_RestoreThread(state);
    } catch (...) {  // it throws nothing else, and what it throws has a name in libstdc++ alone
        for (;;) pause();
    }
#else
    PyEval_RestoreThread(state);
#endif
}

template <class F>
void without_gil(F&& work) {
    PyThreadState* state = PyEval_SaveThread();
    std::exception_ptr error;
    try {
        work();
    } catch (...) {
        error = std::current_exception();
    }
    take_gil(state);
    if (error) std::rethrow_exception(error);
}

}  // namespace bytenorm
