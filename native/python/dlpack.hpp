// The part of DLPack 1.x that is used here: how an array library describes a tensor to another one, and the
// table of functions that a tensor type offers as `__dlpack_c_exchange_api__`.
#pragma once

#include <cstdint>

namespace bytenorm::dlpack {

constexpr uint32_t major_version = 1;  // another one has other structs
constexpr int32_t cpu = 1;
enum Code : uint8_t { signed_integer = 0, unsigned_integer = 1, floating = 2 };

struct Tensor {
    void* data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t* shape;
    int64_t* strides;  // in elements; null: contiguous
    uint64_t byte_offset;
};

struct Exchange {
    uint32_t major, minor;
    Exchange* older;
    void* allocate;
    void* managed_from_object;
    void* managed_to_object;
    // Describes an object of the type that the table is from, without owning anything; 0, or -1 and a Python
    // error. May be null.
    int (*tensor_from_object)(void* object, Tensor* tensor);
    void* current_work_stream;
};

constexpr const char* capsule_name = "dlpack_exchange_api";

}  // namespace bytenorm::dlpack
