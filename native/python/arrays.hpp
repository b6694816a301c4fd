// NumPy arrays as the rest of the bindings see them. The only header that knows NumPy's C API.
#pragma once

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL bytenorm_numpy
#ifndef BYTENORM_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <nanobind/nanobind.h>
#include <numpy/arrayobject.h>

#include <cstdint>

namespace nb = nanobind;

namespace bytenorm {

inline PyArrayObject* as_array(PyObject* object) {  // null unless it is an ndarray; subclasses are refused
    return PyArray_CheckExact(object) ? reinterpret_cast<PyArrayObject*>(object) : nullptr;
}
inline PyArrayObject* as_array(nb::handle object) {
    return as_array(object.ptr());
}

inline bool is_byte(PyArrayObject* a) {
    return PyArray_TYPE(a) == NPY_UINT8 || PyArray_TYPE(a) == NPY_INT8;
}
inline bool is_signed(PyArrayObject* a) {
    return PyArray_TYPE(a) == NPY_INT8;
}

// Contiguous, aligned, native-endian, one-dimensional: what the native code reads without a copy.
inline bool is_plain_vector(PyArrayObject* a, int type, int64_t length) {
    return PyArray_NDIM(a) == 1 && PyArray_TYPE(a) == type && PyArray_DIM(a, 0) == length &&
           PyArray_IS_C_CONTIGUOUS(a) && PyArray_ISALIGNED(a) && PyArray_ISNOTSWAPPED(a);
}

// The floats of such a vector; a TypeError for anything else.
template <class T>
const T* plain_vector(nb::handle object, int64_t length) {
    PyArrayObject* a = as_array(object);
    if (!a || !is_plain_vector(a, sizeof(T) == 4 ? NPY_FLOAT32 : NPY_FLOAT64, length))
        throw nb::type_error("a contiguous vector of floats is needed");
    return static_cast<const T*>(PyArray_DATA(a));
}

inline const uint8_t* bytes_of(PyArrayObject* a) {
    return static_cast<const uint8_t*>(PyArray_DATA(a));
}
inline uint8_t* mutable_bytes_of(PyArrayObject* a) {
    return static_cast<uint8_t*>(PyArray_DATA(a));
}

inline const int64_t* shape_of(PyArrayObject* a) {
    static_assert(sizeof(npy_intp) == sizeof(int64_t), "64-bit only");
    return reinterpret_cast<const int64_t*>(PyArray_DIMS(a));
}
inline const int64_t* strides_of(PyArrayObject* a) {
    return reinterpret_cast<const int64_t*>(PyArray_STRIDES(a));
}

// A new array of the prototype's shape, dense, its axes in the same order in memory.
inline nb::object empty_like(PyArrayObject* prototype, int type) {
    PyObject* made = PyArray_NewLikeArray(prototype, NPY_KEEPORDER, PyArray_DescrFromType(type), 0);
    if (!made) nb::raise_python_error();
    return nb::steal(made);
}

// The first byte of an array and the one after its last.
struct Extent {
    const uint8_t *begin, *end;
};
inline Extent extent_of(PyArrayObject* a) {
    const uint8_t *begin = bytes_of(a), *end = begin + PyArray_ITEMSIZE(a);
    for (int d = 0; d < PyArray_NDIM(a); ++d)
        if (PyArray_DIM(a, d) == 0) return {begin, begin};  // strides may be anything then
    for (int d = 0; d < PyArray_NDIM(a); ++d) {
        const int64_t reach = (PyArray_DIM(a, d) - 1) * PyArray_STRIDE(a, d);
        (reach < 0 ? begin : end) += reach;
    }
    return {begin, end};
}

}  // namespace bytenorm
