// Storing a vector: through the cache, or past it.
#pragma once

#include <cstdint>

namespace bytenorm {
namespace {

template <bool Stream, class V>
void put(uint8_t* y, typename V::Bytes v) {
    if (Stream)
        V::stream(y, v);
    else
        V::store(y, v);
}

}  // namespace
}  // namespace bytenorm
