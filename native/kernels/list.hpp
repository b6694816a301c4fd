// The kernel list: declares every kernel, and is what dispatch, the tests and the benchmarks read.
// To add a kernel: write it in the folder of its operator, add its line here and its file to CMakeLists.txt.
#pragma once

#include "structs.hpp"

// X(layout struct, arithmetic, instruction set, width in bytes)
#if defined(BYTENORM_X86)
#define BYTENORM_KERNELS(X)            \
    X(Strided, table, scalar, 1)       \
    X(Planes, fp32, scalar, 1)         \
    X(Sum, table, scalar, 1)           \
    X(ExactSum, fp64, scalar, 1)       \
    X(Average, integer, scalar, 1)     \
    X(Planes, fp32, avx2, 32)          \
    X(Planes, integer, avx2, 32)       \
    X(Rows, fp32, avx2, 32)            \
    X(Rows, integer, avx2, 32)         \
    X(Joined, fp32, avx2, 32)          \
    X(Joined, integer, avx2, 32)       \
    X(Sum, integer, avx2, 32)          \
    X(ExactSum, fp32, avx2, 32)        \
    X(Average, integer, avx2, 32)      \
    X(Planes, integer, avx512, 64)     \
    X(Rows, integer, avx512, 64)       \
    X(Joined, integer, avx512, 64)     \
    X(Sum, integer, avx512, 64)        \
    X(Average, integer, avx512, 64)    \
    X(Planes, table, avx512vbmi, 64)   \
    X(Rows, integer, avx512vbmi, 64)   \
    X(Joined, integer, avx512vbmi, 64) \
    X(Sum, integer, avx512vbmi, 64)
#else
#define BYTENORM_KERNELS(X)      \
    X(Strided, table, scalar, 1) \
    X(Planes, fp32, scalar, 1)   \
    X(Sum, table, scalar, 1)     \
    X(ExactSum, fp64, scalar, 1) \
    X(Average, integer, scalar, 1)
#endif

namespace bytenorm {

#define BYTENORM_DECLARE(layout, arithmetic, isa, width) void layout##_##arithmetic##_##isa(const layout&);
BYTENORM_KERNELS(BYTENORM_DECLARE)
#undef BYTENORM_DECLARE

}  // namespace bytenorm
