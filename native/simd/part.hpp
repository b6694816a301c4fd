// Parts of 16 bytes, touching no other byte. Halves that overlap, never a buffer on the stack: a wide load from
// bytes just stored one by one waits for the stores.
#pragma once

#include <cstdint>
#include <cstring>

namespace bytenorm {
namespace {

// The first n bytes, 0 < n < 8.
inline uint64_t load_part(const uint8_t* p, int64_t n) {
    if (n < 4) return static_cast<uint64_t>(p[0] | p[n / 2] << 8 * (n / 2) | p[n - 1] << 8 * (n - 1));
    uint32_t first, last;
    memcpy(&first, p, 4);
    memcpy(&last, p + n - 4, 4);
    return first | static_cast<uint64_t>(last) >> 8 * (8 - n) << 32;
}

// The first n of 16 bytes, 0 <= n < 16.
inline void store_part(uint8_t* p, uint64_t low, uint64_t high, int64_t n) {
    if (n >= 8) {
        memcpy(p, &low, 8);
        if (n == 8) return;
        const uint64_t last = low >> 8 * (n - 8) | high << 8 * (16 - n);
        memcpy(p + n - 8, &last, 8);
    } else if (n >= 4) {
        const uint32_t first = static_cast<uint32_t>(low), last = static_cast<uint32_t>(low >> 8 * (n - 4));
        memcpy(p, &first, 4);
        memcpy(p + n - 4, &last, 4);
    } else {
        for (int64_t i = 0; i < n; ++i) p[i] = static_cast<uint8_t>(low >> 8 * i);
    }
}

}  // namespace
}  // namespace bytenorm
