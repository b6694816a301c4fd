// operator new that fails, for what calls it from one library: test_out_of_memory.py loads this before everything.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

constexpr size_t default_alignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

uintptr_t begin, end;         // of the library
std::atomic<long> left{0};    // calls before the first that fails
std::atomic<long> calls{-1};  // since `fail`; negative: none fails
std::atomic<bool> on{false};  // whether those after it fail, too

bool fails(void* caller) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(caller);
    if (calls < 0 || at < begin || at >= end) return false;
    const long call = calls++;
    return on ? call >= left : call == left;
}

void* taken(size_t size, size_t alignment, void* caller) noexcept {
    void* made = nullptr;
    if (fails(caller) || posix_memalign(&made, alignment, size ? size : 1) != 0) return nullptr;
    return made;
}

void* or_throw(void* made) {
    if (!made) throw std::bad_alloc();
    return made;
}

}  // namespace

extern "C" void watch(uintptr_t from, uintptr_t to) {
    begin = from, end = to;
}
extern "C" void fail(long after, bool all) {
    left = after, on = all, calls = 0;
}
extern "C" long fail_no_more() {  // how often the library asked for memory
    return calls.exchange(-1);
}

#define CALLER __builtin_return_address(0)

void* operator new(size_t size) {
    return or_throw(taken(size, default_alignment, CALLER));
}
void* operator new[](size_t size) {
    return or_throw(taken(size, default_alignment, CALLER));
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
    return taken(size, default_alignment, CALLER);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
    return taken(size, default_alignment, CALLER);
}
void* operator new(size_t size, std::align_val_t alignment) {
    return or_throw(taken(size, static_cast<size_t>(alignment), CALLER));
}
void operator delete(void* p) noexcept {
    std::free(p);
}
void operator delete[](void* p) noexcept {
    std::free(p);
}
void operator delete(void* p, size_t) noexcept {
    std::free(p);
}
void operator delete[](void* p, size_t) noexcept {
    std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
    std::free(p);
}
