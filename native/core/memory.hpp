// Memory on a cache line.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

namespace bytenorm {

template <class T>
struct FreeAligned {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t{64}); }
};
template <class T>
using AlignedArray = std::unique_ptr<T[], FreeAligned<T>>;

template <class T>
AlignedArray<T> aligned_array(int64_t n) {  // zeroed; throws std::bad_alloc
    const size_t bytes = (static_cast<size_t>(n) * sizeof(T) + 64) / 64 * 64;
    void* p = ::operator new(bytes, std::align_val_t{64});  // std::aligned_alloc is not everywhere
    std::memset(p, 0, bytes);
    return AlignedArray<T>(static_cast<T*>(p));
}

}  // namespace bytenorm
