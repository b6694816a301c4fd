// The instruction sets that there are kernels for, and which of them this machine has.
#pragma once

#include <vector>

namespace bytenorm {

enum class Isa { scalar, avx2, avx512, avx512vbmi, neon };

struct IsaTraits {
    const char* name;
    Isa base;        // the set that it adds to: what has this one has that one
    int width;       // bytes of a vector
    int most_parts;  // arrays from which one vector may be put together
};

// In the order of the enumerators. Every base comes first.
constexpr IsaTraits isa_traits[] = {
    {"scalar", Isa::scalar, 1, 1},      {"avx2", Isa::scalar, 32, 1}, {"avx512", Isa::avx2, 64, 4},
    {"avx512vbmi", Isa::avx512, 64, 4}, {"neon", Isa::scalar, 16, 1},
};
constexpr const IsaTraits& traits(Isa isa) {
    return isa_traits[static_cast<int>(isa)];
}

inline const char* isa_name(Isa isa) {
    return traits(isa).name;
}
bool includes(Isa isa, Isa other);  // whether what has `isa` has `other`

std::vector<Isa> available_isas();  // what this CPU and this build can run, slowest first

}  // namespace bytenorm
