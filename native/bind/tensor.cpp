#include "tensor.hpp"

namespace bytenorm {
namespace {

PyObject* tensor_type = nullptr;  // bytenorm.QuantizedTensor, once Python has told

// Everything is checked in Python; this only refuses what would make the native code unsafe.
void construct(Tensor* self, nb::object data, nb::object scale, nb::object zero_point, nb::object axis) {
    PyArrayObject* array = as_array(data);
    if (!array || !is_byte(array)) throw nb::type_error("data must be an ndarray of uint8 or int8");
    InputQuantization q{};
    int channel_axis = -1;
    int64_t channels = 0;
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
        q.scales = static_cast<const double*>(PyArray_DATA(scales));
        q.zero_points = static_cast<const int64_t*>(PyArray_DATA(zero_points));
    }
    new (self) Tensor{std::move(data), std::move(scale), std::move(zero_point), std::move(axis), q,
                      channel_axis,    channels};
}

}  // namespace

nb::object make_tensor(nb::object data, nb::object scale, nb::object zero_point) {
    InputQuantization q{};
    q.scale = PyFloat_AS_DOUBLE(scale.ptr());
    q.zero_point = PyLong_AsLongLong(zero_point.ptr());
    nb::object made = nb::inst_alloc(tensor_type);
    new (nb::inst_ptr<Tensor>(made))
        Tensor{std::move(data), std::move(scale), std::move(zero_point), nb::none(), q, -1, 0};
    nb::inst_mark_ready(made);
    return made;
}

const Tensor* tensor_in(nb::handle object) {
    if (!tensor_type) return nullptr;
    const bool is_one = reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())) == tensor_type ||
                        PyObject_IsInstance(object.ptr(), tensor_type) == 1;
    return is_one && nb::inst_ready(object) ? nb::inst_ptr<Tensor>(object) : nullptr;
}

void bind_tensor(nb::module_& module) {
    nb::class_<Tensor>(module, "Tensor")
        .def("__init__", &construct, nb::arg("data"), nb::arg("scale"), nb::arg("zero_point"),
             nb::arg("axis").none())
        .def_prop_ro(
            "data", [](const Tensor& t) { return t.data; }, "The codes: numpy.ndarray of uint8 or int8.")
        .def_prop_ro(
            "scale", [](const Tensor& t) { return t.scale; },
            "The quantization step: float, or per channel numpy.ndarray of float64.")
        .def_prop_ro(
            "zero_point", [](const Tensor& t) { return t.zero_point; },
            "The code of 0: int, or per channel numpy.ndarray of int64.")
        .def_prop_ro("_fits", &Tensor::fits)
        .def_prop_ro(
            "axis", [](const Tensor& t) { return t.axis; },
            "The axis along which scale and zero point vary, counted from the front; None per tensor.");
    module.def("register_tensor_type", [](nb::type_object type) {
        tensor_type = type.ptr();
        Py_INCREF(tensor_type);  // lives as long as the process
    });
}

}  // namespace bytenorm
