// Where a result goes: a new array, an array that was given, or the memory of a QuantizedTensor.
#pragma once

#include "core/layout.hpp"
#include "tensor.hpp"

namespace bytenorm {

// What the quantization of a result is, and the Python objects that say so.
struct OutputQuantization {
    nb::object scale, zero_point;  // a Python float and int
    double scale_value;
    int32_t zero_point_value;
};

struct Output {
    nb::object array;   // the ndarray to write; null if `out` needs the slow checks first
    nb::object result;  // what the call returns; null: a new tensor over `array`

    nb::object tensor(const OutputQuantization& q) const {
        return result.is_valid() ? result : make_tensor(array, q.scale, q.zero_point);
    }
};

// Whether no two elements can share a byte. False may also mean "not sure".
bool elements_apart(PyArrayObject* a);

// Whether two arrays certainly share no byte.
bool apart(const Extent& one, const Extent& other);
bool apart(PyArrayObject* a, PyArrayObject* b);

// Whether `out`, of the input's shape, is the input's own memory or certainly apart from it.
bool apart_or_same(PyArrayObject* input, PyArrayObject* out);

// `checked`: Python has already made sure that `out` overlaps neither itself nor, but for equality, the
// input.
Output make_output(PyArrayObject* input, nb::handle out, bool is_signed, const OutputQuantization& quantization,
                   bool checked);

// The same for a result of the shape `shape` that takes its axes' order in memory from `like`. Here the caller
// makes sure that `out` lies apart from the inputs.
Output make_output_of_shape(PyArrayObject* like, const int64_t* shape, nb::handle out, bool is_signed,
                            const OutputQuantization& quantization);

}  // namespace bytenorm
