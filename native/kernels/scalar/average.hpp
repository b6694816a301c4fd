// The average of four bytes in plain C++.
#pragma once

#include <cstdint>

namespace bytenorm {
namespace {

// Half to even. Adding one makes quarters of 3 round up, and halves where the quotient is odd: its last bit is the
// other one. 16 bits, because compilers make wider vectors of them than of ints. Signed bytes are flipped to count
// from -128 on as unsigned ones; four times 128 leaves halves and evens alone.
inline uint8_t average(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint8_t flip) {
    const auto sum = static_cast<uint16_t>((a ^ flip) + (b ^ flip) + (c ^ flip) + (d ^ flip));
    const auto odd = static_cast<uint16_t>(sum >> 2 & 1);
    return static_cast<uint8_t>(static_cast<uint16_t>(sum + 1 + odd) >> 2 ^ flip);
}

}  // namespace
}  // namespace bytenorm
