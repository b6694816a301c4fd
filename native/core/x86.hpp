// What the processor and the operating system let a program use. Compilers' own answer, __builtin_cpu_supports,
// is not there on every system.
#pragma once

#include <cpuid.h>

#include <cstdint>

namespace bytenorm {

class Cpu {
  public:
    Cpu() {
        uint32_t a = 0, b = 0, c = 0, d = 0;
        if (!__get_cpuid(1, &a, &b, &c, &d)) return;
        fma_ = bit(c, 12);
        const bool tells = bit(c, 27);  // OSXSAVE: which registers the system saves
        if (!tells) return;
        uint32_t saved = 0, high = 0;
        __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
        ymm_ = (saved & 0x6) == 0x6;    // SSE and AVX
        zmm_ = (saved & 0xe6) == 0xe6;  // and masks, upper halves, and registers 16 to 31
        __get_cpuid_count(7, 0, &a, &seven_b_, &seven_c_, &d);
    }

    bool avx2() const { return ymm_ && fma_ && bit(seven_b_, 5); }
    bool avx512() const {  // F, DQ, BW and VL
        return avx2() && zmm_ && bit(seven_b_, 16) && bit(seven_b_, 17) && bit(seven_b_, 30) && bit(seven_b_, 31);
    }
    bool avx512vbmi() const { return avx512() && bit(seven_c_, 1) && bit(seven_c_, 11); }  // and VNNI

  private:
    static bool bit(uint32_t word, int n) { return (word >> n) & 1; }

    bool fma_ = false, ymm_ = false, zmm_ = false;
    uint32_t seven_b_ = 0, seven_c_ = 0;
};

}  // namespace bytenorm
