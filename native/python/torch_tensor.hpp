// Tensors of torch in the memory of the CPU, read where they lie. Torch is neither included nor linked: a tensor
// is read through the table of functions that DLPack defines for this, which costs 30 ns; where torch has none
// that is known here, or it does not know the dtype, through the tensor's own attributes, which cost that much
// each.
#pragma once

#include <algorithm>

#include "arrays.hpp"
#include "core/layout.hpp"

namespace bytenorm {

// Thrown where a tensor is none that can be read as it is: Python then words an error or makes it usual.
struct Unusual {};

inline void require(bool condition) {
    if (!condition) throw Unusual{};
}

// What a tensor holds, while the GIL is held and nobody resizes it.
struct TorchView {
    enum Dtype { other, uint8, int8, quint8, qint8, float32 } dtype;
    void* data;  // null if there is nothing
    int ndim;
    int64_t shape[max_dims], strides[max_dims];  // strides in elements

    bool is_empty() const { return std::find(shape, shape + ndim, 0) != shape + ndim; }
    bool is_quantized() const { return dtype == quint8 || dtype == qint8; }
    bool is_signed() const { return dtype == int8 || dtype == qint8; }
    bool has_codes() const { return dtype != other && dtype != float32; }
};

// Exactly a torch.Tensor or a Parameter, which is not quantized or, read in the slower way because DLPack knows
// none, may be; or one of these or of other subclasses that are known to have memory of their own.
enum class Which { plain, quantized, any };
TorchView view_of(nb::handle tensor, Which which = Which::plain);
bool is_quantized(nb::handle tensor);  // false for what is no tensor
bool is_negated(nb::handle tensor);    // its memory holds the numbers with the other sign

// Whether the memory of a tensor holds all that its shape reaches.
bool fits_storage(nb::handle tensor, const TorchView& view);

// A new plain tensor of the shape and the axis order of `like`, of `dtype` unless that is None.
nb::object empty_like(nb::handle like, nb::handle dtype);
bool is_plain_dtype(nb::handle dtype);  // torch.uint8 or torch.int8

// The floats of a vector that can be read as it is, null for None: a tensor of torch or an ndarray. One that
// requires a gradient, while gradients are recorded, cannot.
const float* vector_of(nb::handle vector, int64_t channels, bool gradients);
bool requires_gradient(nb::handle tensor);

void bind_torch_tensor(nb::module_& module);
void bind_torch_batch_norm(nb::module_& module);

}  // namespace bytenorm
