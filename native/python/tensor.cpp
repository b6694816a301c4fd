#include "tensor.hpp"

#include <algorithm>

namespace bytenorm {
namespace {

PyObject* tensor_type = nullptr;  // bytenorm.QuantizedTensor, once Python has told

// What else has to be kept so that the memory of an array stays: the array that a view was made of, or the array
// itself once more. NumPy lets anybody resize an array that owns its memory and is referred to once.
nb::object owner_of(PyArrayObject* array) {
    PyObject* base = PyArray_BASE(array);
    return nb::borrow(base ? base : reinterpret_cast<PyObject*>(array));
}

template <class T>
AlignedArray<T> copy_of(PyArrayObject* vector, int64_t n) {
    auto made = aligned_array<T>(n);
    std::copy_n(static_cast<const T*>(PyArray_DATA(vector)), n, made.get());
    return made;
}

// A scale or zero point as Python gets it. Of an array a new one: whoever assigns to its shape changes no other.
nb::object shown(const Tensor& t, const nb::object& value) {
    PyArrayObject* array = as_array(value);
    if (!array) return value;
    npy_intp n = t.channels;
    nb::object made = nb::steal(PyArray_New(&PyArray_Type, 1, &n, PyArray_TYPE(array), nullptr,
                                            PyArray_DATA(array), 0, NPY_ARRAY_CARRAY_RO, nullptr));
    if (!made.is_valid()) nb::raise_python_error();
    PyObject* base = PyArray_BASE(array) ? PyArray_BASE(array) : value.ptr();
    Py_INCREF(base);  // which the next call takes, also where it fails
    if (PyArray_SetBaseObject(as_array(made), base) != 0) nb::raise_python_error();
    return made;
}

// Everything is checked in Python; this only refuses what would make the native code unsafe.
void construct(Tensor* self, nb::object data, nb::object scale, nb::object zero_point, nb::object axis) {
    PyArrayObject* array = as_array(data);
    if (!array || !is_byte(array)) throw nb::type_error("data must be an ndarray of uint8 or int8");
    InputQuantization q{};
    int channel_axis = -1;
    int64_t channels = 0;
    AlignedArray<double> own_scales;
    AlignedArray<int64_t> own_zero_points;
    if (axis.is_none()) {
        q.scale = nb::cast<double>(scale);
        q.zero_point = nb::cast<int64_t>(zero_point);
    } else {
        channel_axis = nb::cast<int>(axis);
        PyArrayObject *scales = as_array(scale), *zero_points = as_array(zero_point);
        if (channel_axis < 0 || channel_axis >= PyArray_NDIM(array)) throw nb::value_error("axis out of range");
        channels = PyArray_DIM(array, channel_axis);
        if (!scales || !is_plain_vector(scales, NPY_FLOAT64, channels) || !zero_points ||
            !is_plain_vector(zero_points, NPY_INT64, channels))
            throw nb::type_error("scale and zero_point must be contiguous float64 and int64 arrays");
        own_scales = copy_of<double>(scales, channels);
        own_zero_points = copy_of<int64_t>(zero_points, channels);
        q.scales = own_scales.get(), q.zero_points = own_zero_points.get();
    }
    new (self) Tensor{data, owner_of(array), std::move(scale), std::move(zero_point), std::move(axis),
                      q,    channel_axis,    channels,         std::move(own_scales), std::move(own_zero_points)};
}

}  // namespace

nb::object make_tensor(nb::object data, nb::object scale, nb::object zero_point) {
    InputQuantization q{};
    q.scale = PyFloat_AsDouble(scale.ptr());
    q.zero_point = PyLong_AsLongLong(zero_point.ptr());
    nb::object made = nb::inst_alloc(tensor_type), owner = owner_of(as_array(data));
    new (nb::inst_ptr<Tensor>(made)) Tensor{
        std::move(data), std::move(owner), std::move(scale), std::move(zero_point), nb::none(), q, -1, 0, {}, {}};
    nb::inst_mark_ready(made);
    return made;
}

const Tensor* tensor_in(nb::handle object) {
    if (!tensor_type) return nullptr;
    const bool is_one = PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(tensor_type));
    return is_one && nb::inst_ready(object) ? nb::inst_ptr<Tensor>(object) : nullptr;
}

void bind_tensor(nb::module_& module) {
    nb::class_<Tensor>(module, "Tensor")
        .def("__init__", &construct, nb::arg("data"), nb::arg("scale"), nb::arg("zero_point"),
             nb::arg("axis").none())
        .def_prop_ro(
            "data", [](const Tensor& t) { return t.data; }, "The codes: numpy.ndarray of uint8 or int8.")
        .def_prop_ro(
            "scale", [](const Tensor& t) { return shown(t, t.scale); },
            "The quantization step: float, or per channel numpy.ndarray of float64.")
        .def_prop_ro(
            "zero_point", [](const Tensor& t) { return shown(t, t.zero_point); },
            "The code of 0: int, or per channel numpy.ndarray of int64.")
        .def_prop_ro("_fits", &Tensor::fits)
        .def_prop_ro(
            "axis", [](const Tensor& t) { return t.axis; },
            "The axis along which scale and zero point vary, counted from the front; None per tensor.");
    module.def(
        "is_tensor", [](nb::handle object) { return tensor_in(object) != nullptr; }, nb::arg("object").none());
    module.def("register_tensor_type", [](nb::type_object type) {
        tensor_type = type.ptr();
        Py_INCREF(tensor_type);  // lives as long as the process
    });
}

}  // namespace bytenorm
