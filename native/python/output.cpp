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

bool usable(const int64_t* shape, int ndim, PyArrayObject* out, bool is_signed_out) {
    return PyArray_TYPE(out) == (is_signed_out ? NPY_INT8 : NPY_UINT8) && PyArray_ISWRITEABLE(out) &&
           PyArray_NDIM(out) == ndim && std::equal(shape, shape + ndim, shape_of(out));
}

// Of an array without elements a stride may be anything, -2^63 too.
uint64_t magnitude(int64_t stride) {
    return stride < 0 ? 0 - static_cast<uint64_t>(stride) : static_cast<uint64_t>(stride);
}

// The only refusal of a public argument that is worded here, in the grammar of Python's errors.
[[noreturn]] void refuse(const char* argument, const char* says) {
    nb::object error = nb::module_::import_("bytenorm._errors").attr("bad_value")(argument, says);
    PyErr_SetObject(PyExc_ValueError, error.ptr());
    nb::raise_python_error();
}

// A new array of that shape, dense, its axes ordered in memory as those of `like`.
nb::object empty_of_shape(PyArrayObject* like, const int64_t* shape, int type) {
    const int ndim = PyArray_NDIM(like);
    int order[max_dims];
    for (int d = 0; d < ndim; ++d) order[d] = d;
    if (PyArray_IS_F_CONTIGUOUS(like) && !PyArray_IS_C_CONTIGUOUS(like))
        std::reverse(order, order + ndim);
    else if (!PyArray_IS_C_CONTIGUOUS(like))
        std::stable_sort(order, order + ndim, [&](int a, int b) {
            return magnitude(PyArray_STRIDE(like, a)) > magnitude(PyArray_STRIDE(like, b));
        });
    npy_intp dims[max_dims], strides[max_dims], step = 1;
    for (int i = ndim - 1; i >= 0; --i) {
        const int d = order[i];
        dims[d] = shape[d], strides[d] = step;
        if (__builtin_mul_overflow(step, std::max<npy_intp>(shape[d], 1), &step))
            refuse("pieces", "are too large for one array together");
    }
    PyObject* made = PyArray_New(&PyArray_Type, ndim, dims, type, strides, nullptr, 0, 0, nullptr);
    if (!made) nb::raise_python_error();
    return nb::steal(made);
}

// The memory of `out`, an ndarray or a tensor of that quantization, if it has that type and shape.
Output given_output(const int64_t* shape, int ndim, nb::handle out, bool is_signed_out,
                    const OutputQuantization& quantization) {
    PyArrayObject* array = as_array(out);
    const Tensor* tensor = array ? nullptr : tensor_in(out);
    if (tensor) {
        array = tensor->array();
        if (tensor->channel_axis >= 0 || tensor->quantization.scale != quantization.scale_value ||
            tensor->quantization.zero_point != quantization.zero_point_value)
            return {};
    }
    if (!array || !usable(shape, ndim, array, is_signed_out)) return {};
    Output made;
    made.array = nb::borrow(reinterpret_cast<PyObject*>(array));
    if (tensor) made.result = nb::borrow(out);
    return made;
}

}  // namespace

bool elements_apart(PyArrayObject* a) {
    if (PyArray_IS_C_CONTIGUOUS(a) || PyArray_IS_F_CONTIGUOUS(a) || PyArray_SIZE(a) == 0) return true;
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

bool apart(const Extent& one, const Extent& other) {
    return one.end <= other.begin || other.end <= one.begin;
}

bool apart(PyArrayObject* a, PyArrayObject* b) {
    return apart(extent_of(a), extent_of(b));
}

bool apart_or_same(PyArrayObject* input, PyArrayObject* out) {
    return apart(input, out) || same_memory(input, out);
}

Output make_output(PyArrayObject* input, nb::handle out, bool is_signed_out,
                   const OutputQuantization& quantization, bool checked) {
    if (out.is_none()) return {empty_like(input, is_signed_out ? NPY_INT8 : NPY_UINT8), {}};
    Output made = given_output(shape_of(input), PyArray_NDIM(input), out, is_signed_out, quantization);
    if (checked || !made.array.is_valid()) return made;
    PyArrayObject* array = as_array(made.array);
    return elements_apart(array) && apart_or_same(input, array) ? made : Output{};
}

Output make_output_of_shape(PyArrayObject* like, const int64_t* shape, nb::handle out, bool is_signed_out,
                            const OutputQuantization& quantization) {
    if (out.is_none()) return {empty_of_shape(like, shape, is_signed_out ? NPY_INT8 : NPY_UINT8), {}};
    return given_output(shape, PyArray_NDIM(like), out, is_signed_out, quantization);
}

}  // namespace bytenorm
