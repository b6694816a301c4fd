#include "isa.hpp"

#if defined(BYTENORM_X86)
#include "x86.hpp"
#endif

namespace bytenorm {
namespace {

bool supported(Isa isa) {
#if defined(BYTENORM_X86)
    static const Cpu cpu;
#if defined(BYTENORM_EMULATE)
    if (includes(isa, Isa::avx512)) isa = Isa::avx2;  // in which a build for tests computes these
#endif
    switch (isa) {
        case Isa::avx2:
            return cpu.avx2();
        case Isa::avx512:
            return cpu.avx512();
        case Isa::avx512vbmi:
            return cpu.avx512vbmi();
        default:
            break;
    }
#elif defined(BYTENORM_ARM64)
    if (isa == Isa::neon) return true;  // every processor of this architecture has it
#endif
    return isa == Isa::scalar;
}

}  // namespace

bool includes(Isa isa, Isa other) {
    return isa == other || (isa != Isa::scalar && includes(traits(isa).base, other));
}

std::vector<Isa> available_isas() {
    std::vector<Isa> found;
    for (int i = 0; i < static_cast<int>(sizeof isa_traits / sizeof isa_traits[0]); ++i)
        if (supported(static_cast<Isa>(i))) found.push_back(static_cast<Isa>(i));
    return found;
}

}  // namespace bytenorm
