#include "output.hpp"

#include <algorithm>

namespace bytenorm {
namespace {

bool same_memory(PyArrayObject* a, PyArrayObject* b) {  // of equal shape
    if (PyArray_DATA(a) != PyArray_DATA(b)) return false;
    for (int d = 0; d < PyArray_NDIM(a); ++d)
        if (PyArray_DIM(a, d) > 1 && PyArray_STRIDE(a, d) != PyArray_STRIDE(b, d)) return false;
    return true;
}

// Whether no two elements can share a byte. False may also mean "not sure".
bool elements_apart(PyArrayObject* a) {
    if (PyArray_IS_C_CONTIGUOUS(a) || PyArray_IS_F_CONTIGUOUS(a)) return true;
    struct Axis {
        int64_t stride, n;
    } axes[max_dims];
    int count = 0;
    for (int d = 0; d < PyArray_NDIM(a); ++d)
        if (PyArray_DIM(a, d) > 1) axes[count++] = {std::abs(PyArray_STRIDE(a, d)), PyArray_DIM(a, d)};
    std::sort(axes, axes + count, [](const Axis& l, const Axis& r) { return l.stride < r.stride; });
    int64_t reach = 0;  // of all axes with smaller strides together
    for (int i = 0; i < count; ++i) {
        if (axes[i].stride <= reach) return false;
        reach += axes[i].stride * (axes[i].n - 1);
    }
    return true;
}

bool usable(PyArrayObject* input, PyArrayObject* out, bool is_signed_out, bool checked) {
    if (PyArray_TYPE(out) != (is_signed_out ? NPY_INT8 : NPY_UINT8) || !PyArray_ISWRITEABLE(out)) return false;
    if (PyArray_NDIM(out) != PyArray_NDIM(input) ||
        !std::equal(shape_of(input), shape_of(input) + PyArray_NDIM(input), shape_of(out)))
        return false;
    if (checked) return true;
    if (!elements_apart(out)) return false;
    const Extent a = extent_of(input), b = extent_of(out);
    return a.end <= b.begin || b.end <= a.begin || same_memory(input, out);
}

}  // namespace

Output make_output(PyArrayObject* input, nb::handle out, bool is_signed_out,
                   const OutputQuantization& quantization, bool checked) {
    if (out.is_none()) return {empty_like(input, is_signed_out ? NPY_INT8 : NPY_UINT8), {}};
    PyArrayObject* array = as_array(out);
    const Tensor* tensor = array ? nullptr : tensor_in(out);
    if (tensor) {
        array = tensor->array();
        if (tensor->channel_axis >= 0 || tensor->quantization.scale != quantization.scale_value ||
            tensor->quantization.zero_point != quantization.zero_point_value)
            return {};
    }
    if (!array || !usable(input, array, is_signed_out, checked)) return {};
    Output made;
    made.array = nb::borrow(reinterpret_cast<PyObject*>(array));
    if (tensor) made.result = nb::borrow(out);
    return made;
}

}  // namespace bytenorm
