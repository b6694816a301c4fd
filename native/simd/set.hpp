// The vectors of the instruction set that a file is compiled for.
#pragma once

#if defined(__AVX512BW__)
#include "avx512.hpp"
#elif defined(__AVX2__)
#include "avx2.hpp"
#elif defined(__ARM_NEON)
#include "neon.hpp"
#endif

namespace bytenorm {
namespace {

#if defined(__AVX512BW__)
using SetVector = Avx512;
#elif defined(__AVX2__)
using SetVector = Avx2;
#elif defined(__ARM_NEON)
using SetVector = Neon;
#endif

}  // namespace
}  // namespace bytenorm
