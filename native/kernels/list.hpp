// The kernels, all of them: this list declares them, has them compiled, fills the tables of `dispatch`, and is
// what tests, benchmarks and show_config() read.
//
// X(layout struct, arithmetic, instruction set, source). The source is `shared` where kernels/vector.cpp, compiled
// once for each set, makes the kernel out of loops and an arithmetic, and `own` where a file in the folder of the
// set writes it. A set has the kernels of the set that it adds to, unless it has better ones.
#pragma once

#include "arithmetic.hpp"
#include "statistics/statistics.hpp"
#include "structs.hpp"

#define BYTENORM_KERNELS_scalar(X)       \
    X(Strided, table, scalar, own)       \
    X(Planes, fp32, scalar, own)         \
    X(Sum, table, scalar, own)           \
    X(ExactSum, fp64, scalar, own)       \
    X(ExactSums, fp64, scalar, own)      \
    X(Average, bytes, scalar, own)       \
    X(Quantize, fp32, scalar, own)       \
    X(Dequantize, fp32, scalar, own)     \
    X(PlaneSums, integer32, scalar, own) \
    X(RowSums, integer32, scalar, own)
#define BYTENORM_KERNELS_avx2(X)         \
    X(Planes, fp32, avx2, shared)        \
    X(Planes, integer32, avx2, shared)   \
    X(Planes, words16, avx2, shared)     \
    X(Rows, fp32, avx2, shared)          \
    X(Rows, integer32, avx2, shared)     \
    X(Rows, words16, avx2, shared)       \
    X(Joined, fp32, avx2, shared)        \
    X(Joined, integer32, avx2, shared)   \
    X(Joined, words16, avx2, shared)     \
    X(Sum, integer32, avx2, shared)      \
    X(ExactSum, integer32, avx2, shared) \
    X(ExactSums, fp64, avx2, own)        \
    X(Average, bytes, avx2, shared)      \
    X(Quantize, fp32, avx2, shared)      \
    X(Dequantize, fp32, avx2, shared)    \
    X(PlaneSums, integer32, avx2, own)   \
    X(RowSums, integer32, avx2, own)
// fp32 stays with 256 bits, see docs/kernels-measured.md.
#define BYTENORM_KERNELS_avx512(X)         \
    X(Planes, integer32, avx512, shared)   \
    X(Planes, words16, avx512, shared)     \
    X(Rows, integer32, avx512, shared)     \
    X(Rows, words16, avx512, shared)       \
    X(Joined, integer32, avx512, shared)   \
    X(Joined, words16, avx512, shared)     \
    X(Sum, integer32, avx512, shared)      \
    X(ExactSum, integer32, avx512, shared) \
    X(Average, bytes, avx512, shared)
// What is shared is compiled with VNNI: one instruction less a product.
#define BYTENORM_KERNELS_avx512vbmi(X)         \
    X(Planes, table, avx512vbmi, own)          \
    X(Rows, integer32, avx512vbmi, shared)     \
    X(Joined, integer32, avx512vbmi, shared)   \
    X(Sum, integer32, avx512vbmi, shared)      \
    X(ExactSum, integer32, avx512vbmi, shared) \
    X(PlaneSums, integer32, avx512vbmi, own)   \
    X(RowSums, integer32, avx512vbmi, own)

// Integers in 32 bits are left out: what 16 bits are too few for, fp32 computes.
#define BYTENORM_KERNELS_neon(X)         \
    X(Planes, fp32, neon, shared)        \
    X(Planes, words16, neon, shared)     \
    X(Rows, fp32, neon, shared)          \
    X(Rows, words16, neon, shared)       \
    X(Joined, fp32, neon, shared)        \
    X(Joined, words16, neon, shared)     \
    X(Sum, integer32, neon, shared)      \
    X(ExactSum, integer32, neon, shared) \
    X(Average, bytes, neon, shared)      \
    X(Quantize, fp32, neon, shared)      \
    X(Dequantize, fp32, neon, shared)    \
    X(PlaneSums, integer32, neon, own)   \
    X(RowSums, integer32, neon, own)

// Those that this build has.
#if defined(BYTENORM_X86)
#define BYTENORM_KERNELS(X) \
    BYTENORM_KERNELS_scalar(X) BYTENORM_KERNELS_avx2(X) BYTENORM_KERNELS_avx512(X) BYTENORM_KERNELS_avx512vbmi(X)
#elif defined(BYTENORM_ARM64)
#define BYTENORM_KERNELS(X) BYTENORM_KERNELS_scalar(X) BYTENORM_KERNELS_neon(X)
#else
#define BYTENORM_KERNELS(X) BYTENORM_KERNELS_scalar(X)
#endif

namespace bytenorm {

#define BYTENORM_DECLARE(layout, arithmetic, isa, source) void layout##_##arithmetic##_##isa(const layout&);
BYTENORM_KERNELS(BYTENORM_DECLARE)
#undef BYTENORM_DECLARE

}  // namespace bytenorm
