// How far ahead of its loads a loop asks for bytes.
#pragma once

#include <cstdint>

namespace bytenorm {
namespace {

// Far enough ahead for the next cache level, near enough to stay in the first.
constexpr int64_t prefetch_distance = 1024;

}  // namespace
}  // namespace bytenorm
