// The vectors of the instruction set that a file is compiled for.
#pragma once

#if defined(__AVX512BW__)
#include "avx512.hpp"
#elif defined(__AVX2__)
#include "avx2.hpp"
#endif

namespace bytenorm {
namespace {

#if defined(__AVX512BW__)
using SetVector = Avx512;
#elif defined(__AVX2__)
using SetVector = Avx2;
#endif

}  // namespace
}  // namespace bytenorm
