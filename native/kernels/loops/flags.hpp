// Turns the run-time flags of a Conversion into the template arguments of an arithmetic.
#pragma once

#include "kernels/structs.hpp"

namespace bytenorm {
namespace {

template <bool I, bool O, bool R>
struct Flags {
    static constexpr bool input_signed = I, output_signed = O, relu = R;
};

template <class F>
void with_flags(const Conversion& c, F run) {
    const int index = (c.input_signed ? 4 : 0) + (c.output_signed ? 2 : 0) + (c.relu ? 1 : 0);
    switch (index) {
        case 0:
            return run(Flags<false, false, false>{});
        case 1:
            return run(Flags<false, false, true>{});
        case 2:
            return run(Flags<false, true, false>{});
        case 3:
            return run(Flags<false, true, true>{});
        case 4:
            return run(Flags<true, false, false>{});
        case 5:
            return run(Flags<true, false, true>{});
        case 6:
            return run(Flags<true, true, false>{});
        default:
            return run(Flags<true, true, true>{});
    }
}

}  // namespace
}  // namespace bytenorm
