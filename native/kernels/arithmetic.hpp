// How a kernel computes. All ways give the same bits.
//
// Where a new arithmetic `name` of a channel goes:
//   here                       its enumerator, and what stands behind it
//   kernels/structs.hpp        its parameters of a channel, in ChannelParams, and its block of lanes
//   kernels/arithmetic/        name.hpp, a class template: Vector, Block, Params, load (from a Block), broadcast
//   (from
//                              ChannelParams) and apply; kernels/vector.cpp says which class it is
//   kernels/list.hpp           a line for each layout and instruction set
//   fold/                      name_fit.*: finds the parameters and proves them; fold.* keeps them, packed.*
//   writes
//                              blocks
//   passes/plan.cpp            when it is worth preparing
// Everything else asks for a kernel by layout and arithmetic, and for the arithmetic of a channel or a block.
#pragma once

#include <cstdint>

namespace bytenorm {

enum class Arithmetic {
    table,      // 256 results a channel, looked up
    fp32,       // the contract to the letter
    fp64,       // of exact sums
    integer32,  // a multiplication, an addition and a shift in 32 bits, proved
    words16,    // the same in 16 bits, proved
    bytes,      // of averages
};
constexpr int arithmetics = 6;

// What computes a channel for which `arithmetic` is not proved.
constexpr Arithmetic behind(Arithmetic arithmetic) {
    return arithmetic == Arithmetic::words16 ? Arithmetic::integer32 : Arithmetic::fp32;
}

}  // namespace bytenorm
