// The state of a QuantizedTensor: bytes and what they stand for. Python's class adds the methods.
#pragma once

#include "arrays.hpp"
#include "fold/fold.hpp"

namespace bytenorm {

struct Tensor {
    nb::object data;        // numpy.ndarray of uint8 or int8
    nb::object owner;       // whose memory that is, so that it is not freed: NumPy resizes what only one refers to
    nb::object scale;       // float, or float64 array
    nb::object zero_point;  // int, or int64 array
    nb::object axis;        // None, or int
    InputQuantization quantization;
    int channel_axis = -1;        // -1: per tensor
    int64_t channels = 0;         // how many scales there are
    AlignedArray<double> scales;  // what `quantization` points to, per channel: Python's arrays may change
    AlignedArray<int64_t> zero_points;

    PyArrayObject* array() const { return reinterpret_cast<PyArrayObject*>(data.ptr()); }

    // Whether there is still a scale for each channel: NumPy lets anybody assign to the shape of an array.
    bool fits() const {
        return channel_axis < 0 ||
               (channel_axis < PyArray_NDIM(array()) && PyArray_DIM(array(), channel_axis) == channels);
    }
};

// A bytenorm.QuantizedTensor over `data`, quantized per tensor. `data` is an ndarray of bytes.
nb::object make_tensor(nb::object data, nb::object scale, nb::object zero_point);

// The Tensor inside a bytenorm.QuantizedTensor, or null for any other object. Asks the object for nothing, which
// might run code of its own.
const Tensor* tensor_in(nb::handle object);

void bind_tensor(nb::module_& module);
void bind_batch_norm(nb::module_& module);
void bind_quantize(nb::module_& module);
void bind_statistics(nb::module_& module);
void bind_kernels(nb::module_& module);
void bind_fits(nb::module_& module);

}  // namespace bytenorm
