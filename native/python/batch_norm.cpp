// quantized_batch_norm and BatchNorm: the checks of the usual call, the fold, the pass. Whatever is unusual
// makes these functions return None; Python's _checks then finds words for it or makes it usual.
#include <algorithm>

#include "fold/valid.hpp"
#include "kernels/dispatch.hpp"
#include "output.hpp"
#include "prepared.hpp"
#include "run.hpp"

namespace bytenorm {
namespace {

// The input's channel axis, or -1 if this is no input for a norm of so many channels.
int channel_axis(const Tensor& input, int64_t axis, int64_t channels) {
    PyArrayObject* array = input.array();
    const int ndim = PyArray_NDIM(array);
    if (axis < 0) axis += ndim;
    if (ndim < 2 || axis < 0 || axis >= ndim || PyArray_DIM(array, static_cast<int>(axis)) != channels) return -1;
    if (input.channel_axis >= 0 && (input.channel_axis != axis || input.channels != channels)) return -1;
    return static_cast<int>(axis);
}

Layout layout_of(PyArrayObject* x, nb::handle y, int axis) {
    PyArrayObject* out = reinterpret_cast<PyArrayObject*>(y.ptr());
    return analyse(bytes_of(x), strides_of(x), mutable_bytes_of(out), strides_of(out), shape_of(x),
                   PyArray_NDIM(x), axis);
}

// A float32 parameter vector as it can be used without a copy.
struct Vector {
    const float* data = nullptr;
    bool usual = false;

    Vector(nb::handle object, int64_t channels, bool optional) {
        if (optional && object.is_none()) {
            usual = true;
        } else if (PyArrayObject* a = as_array(object)) {
            usual = is_plain_vector(a, NPY_FLOAT32, channels);
            data = static_cast<const float*>(PyArray_DATA(a));
        }
    }
};

nb::object batch_norm_once(nb::handle input, nb::handle weight, nb::handle bias, nb::handle mean, nb::handle var,
                           nb::handle eps, nb::handle output_scale, nb::handle output_zero_point, int64_t axis,
                           nb::handle output_signed, bool relu, nb::handle out, bool checked) {
    const Tensor* tensor = tensor_in(input);
    if (!tensor || !PyFloat_CheckExact(eps.ptr()) || !PyFloat_CheckExact(output_scale.ptr()) ||
        !PyLong_CheckExact(output_zero_point.ptr()))
        return nb::none();
    PyArrayObject* x = tensor->array();
    const int ndim = PyArray_NDIM(x);
    if (ndim < 2 || axis < -ndim || axis >= ndim) return nb::none();
    const int64_t channels = PyArray_DIM(x, static_cast<int>(axis < 0 ? axis + ndim : axis));
    const int at = channel_axis(*tensor, axis, channels);
    if (at < 0) return nb::none();
    const Vector w(weight, channels, true), b(bias, channels, true), m(mean, channels, false),
        v(var, channels, false);
    if (!w.usual || !b.usual || !m.usual || !v.usual) return nb::none();

    const bool output_is_signed = output_signed.is_none() ? is_signed(x) : output_signed.ptr() == Py_True;
    int overflow = 0;
    const int64_t zero_point = PyLong_AsLongLongAndOverflow(output_zero_point.ptr(), &overflow);
    const NormParameters norm{channels,
                              w.data,
                              b.data,
                              m.data,
                              v.data,
                              static_cast<float>(PyFloat_AsDouble(eps.ptr())),
                              PyFloat_AsDouble(output_scale.ptr())};
    if (overflow || PyFloat_AsDouble(eps.ptr()) < 0.0 || !valid_zero_point(zero_point, output_is_signed) ||
        !valid_scale(norm.output_scale) || !valid_parameters(norm))
        return nb::none();

    const OutputQuantization quantization{nb::borrow(output_scale), nb::borrow(output_zero_point),
                                          norm.output_scale, static_cast<int32_t>(zero_point)};
    Folded folded(norm, tensor->quantization,
                  {is_signed(x), output_is_signed, relu, quantization.zero_point_value});
    if (!folded.finite()) return nb::none();
    const Output output = make_output(x, out, output_is_signed, quantization, checked);
    if (!output.array.is_valid()) return nb::none();
    const Layout layout = layout_of(x, output.array, at);
    const Plan plan = choose(layout, channels, Use::once);
    prepare(plan, folded);
    run(plan, folded, layout);
    return output.tensor(quantization);
}

// A prepared norm for quantized tensors.
class Operator {
  public:
    Operator(nb::handle weight, nb::handle bias, nb::handle mean, nb::handle var, double eps,
             nb::object output_scale, nb::object output_zero_point, nb::handle output_signed, bool relu,
             int64_t axis)
        : quantization_{output_scale, output_zero_point, nb::cast<double>(output_scale),
                        nb::cast<int32_t>(output_zero_point)},
          norm_(checked(weight, bias, mean, var, static_cast<float>(eps), quantization_.scale_value), relu,
                quantization_.zero_point_value),
          axis_(axis),
          output_signed_(output_signed.is_none() ? -1 : output_signed.ptr() == Py_True) {}

    nb::object norm(nb::handle input, nb::handle out, bool checked) {
        const Tensor* tensor = tensor_in(input);
        if (!tensor) return nb::none();
        PyArrayObject* x = tensor->array();
        const int at = channel_axis(*tensor, axis_, norm_.channels());
        if (at < 0) return nb::none();
        const bool output_is_signed = output_signed_ < 0 ? is_signed(x) : output_signed_ == 1;
        if (!valid_zero_point(quantization_.zero_point_value, output_is_signed)) return nb::none();
        const Output output = make_output(x, out, output_is_signed, quantization_, checked);
        if (!output.array.is_valid()) return nb::none();
        const Layout layout = layout_of(x, output.array, at);
        if (!norm_.run(layout, tensor->quantization, is_signed(x), output_is_signed)) return nb::none();
        return output.tensor(quantization_);
    }

    // The norm of a concatenation along the channel axis.
    nb::object concat(nb::handle given, nb::handle out, bool checked) {
        if (!PyList_Check(given.ptr()) && !PyTuple_Check(given.ptr())) return nb::none();
        const nb::tuple items(nb::borrow<nb::object>(given));  // the caller may change a list meanwhile
        std::vector<const Tensor*> tensors;
        tensors.reserve(items.size());
        for (nb::handle item : items) {
            tensors.push_back(tensor_in(item));
            if (!tensors.back() || tensors.back()->channel_axis >= 0) return nb::none();
        }
        if (tensors.empty()) return nb::none();
        PyArrayObject* first = tensors[0]->array();
        const int ndim = PyArray_NDIM(first);
        const int at = static_cast<int>(axis_ < 0 ? axis_ + ndim : axis_);
        if (ndim < 2 || at < 0 || at >= ndim) return nb::none();

        std::vector<PieceQuantization> quantizations;
        quantizations.reserve(tensors.size());
        int64_t channels = 0;
        for (const Tensor* tensor : tensors) {
            PyArrayObject* x = tensor->array();
            if (PyArray_NDIM(x) != ndim || is_signed(x) != is_signed(first)) return nb::none();
            for (int d = 0; d < ndim; ++d)
                if (d != at && PyArray_DIM(x, d) != PyArray_DIM(first, d)) return nb::none();
            quantizations.push_back(
                {PyArray_DIM(x, at), tensor->quantization.scale, tensor->quantization.zero_point});
            // Of empty pieces there may be more than 64 bits hold.
            if (PyArray_DIM(x, at) > norm_.channels() - channels) return nb::none();
            channels += PyArray_DIM(x, at);
        }
        const bool output_is_signed = output_signed_ < 0 ? is_signed(first) : output_signed_ == 1;
        if (channels != norm_.channels() || !valid_zero_point(quantization_.zero_point_value, output_is_signed))
            return nb::none();
        int64_t shape[max_dims];
        for (int d = 0; d < ndim; ++d) shape[d] = d == at ? channels : PyArray_DIM(first, d);
        const Output output = make_output_of_shape(first, shape, out, output_is_signed, quantization_);
        if (!output.array.is_valid()) return nb::none();
        PyArrayObject* y = as_array(output.array);
        if (!out.is_none() && !checked) {
            const Extent written = extent_of(y);
            for (const Tensor* tensor : tensors)
                if (!apart(extent_of(tensor->array()), written)) return nb::none();
            if (!elements_apart(y)) return nb::none();
        }

        ConcatArrays arrays{{}, mutable_bytes_of(y), strides_of(y), ndim, at};
        arrays.pieces.reserve(tensors.size());
        for (const Tensor* tensor : tensors) {
            PyArrayObject* x = tensor->array();
            arrays.pieces.push_back({bytes_of(x), strides_of(x), shape_of(x)});
        }
        if (!norm_.run_concat(ConcatLayout(arrays), quantizations, is_signed(first), output_is_signed))
            return nb::none();
        return output.tensor(quantization_);
    }

    // The norm of a sum and, unless `with_sum` is false, the sum, which needs a quantization then. Without one the
    // norm is that of the exact sum.
    nb::object add(nb::handle a, nb::handle b, nb::handle sum_scale, nb::handle sum_zero_point, bool exact,
                   bool with_sum, nb::handle out, nb::handle sum_out, bool checked) {
        const Tensor *first = tensor_in(a), *second = tensor_in(b);
        if (!first || !second || first->channel_axis >= 0 || second->channel_axis >= 0) return nb::none();
        PyArrayObject *x1 = first->array(), *x2 = second->array();
        const int ndim = PyArray_NDIM(x1);
        const int at = channel_axis(*first, axis_, norm_.channels());
        if (at < 0 || is_signed(x1) != is_signed(x2) || PyArray_NDIM(x2) != ndim ||
            !std::equal(shape_of(x1), shape_of(x1) + ndim, shape_of(x2)))
            return nb::none();
        const bool sum_is_signed = is_signed(x1);
        const bool output_is_signed = output_signed_ < 0 ? sum_is_signed : output_signed_ == 1;
        if (!valid_zero_point(quantization_.zero_point_value, output_is_signed)) return nb::none();
        SumCall call{{first->quantization.scale, first->quantization.zero_point},
                     {second->quantization.scale, second->quantization.zero_point},
                     {},
                     sum_is_signed,
                     output_is_signed,
                     exact};
        if (with_sum || !exact) {
            if (!PyFloat_CheckExact(sum_scale.ptr()) || !PyLong_CheckExact(sum_zero_point.ptr()))
                return nb::none();
            int overflow = 0;
            call.sum.zero_point = PyLong_AsLongLongAndOverflow(sum_zero_point.ptr(), &overflow);
            call.sum.scale = PyFloat_AsDouble(sum_scale.ptr());
            if (overflow || !valid_scale(call.sum.scale) || !valid_zero_point(call.sum.zero_point, sum_is_signed))
                return nb::none();
        }
        const Output output = make_output(x1, out, output_is_signed, quantization_, checked);
        if (!output.array.is_valid()) return nb::none();
        PyArrayObject* y = as_array(output.array);
        if (!out.is_none() && !checked && !apart_or_same(x2, y)) return nb::none();

        if (!with_sum && !sum_out.is_none()) return nb::none();
        Output sum;
        PyArrayObject* s = nullptr;
        const OutputQuantization sum_quantization{nb::borrow(sum_scale), nb::borrow(sum_zero_point),
                                                  call.sum.scale, static_cast<int32_t>(call.sum.zero_point)};
        if (with_sum) {
            sum = make_output(x1, sum_out, sum_is_signed, sum_quantization, checked);
            if (!sum.array.is_valid()) return nb::none();
            s = as_array(sum.array);
            if (!sum_out.is_none() && !checked) {
                // The norm of an exact sum reads both tensors once more.
                const bool kept = exact ? apart(x1, s) && apart(x2, s) : apart_or_same(x2, s);
                if (!kept || !apart(y, s)) return nb::none();
            }
        }
        const AddArrays arrays{bytes_of(x1),
                               bytes_of(x2),
                               s ? mutable_bytes_of(s) : nullptr,
                               mutable_bytes_of(y),
                               strides_of(x1),
                               strides_of(x2),
                               s ? strides_of(s) : nullptr,
                               strides_of(y),
                               shape_of(x1),
                               ndim,
                               at};
        if (!norm_.run_add(arrays, call)) return nb::none();
        if (!with_sum) return output.tensor(quantization_);
        return nb::make_tuple(output.tensor(quantization_), sum.tensor(sum_quantization));
    }

    int64_t folds() { return norm_.folds(); }

  private:
    static NormParameters checked(nb::handle weight, nb::handle bias, nb::handle mean, nb::handle var, float eps,
                                  double output_scale) {
        const int64_t channels = as_array(mean) ? PyArray_SIZE(as_array(mean)) : 0;
        const Vector w(weight, channels, true), b(bias, channels, true), m(mean, channels, false),
            v(var, channels, false);
        if (!w.usual || !b.usual || !m.usual || !v.usual)
            throw nb::type_error("parameters must be float32 vectors");
        const NormParameters norm{channels, w.data, b.data, m.data, v.data, eps, output_scale};
        if (!valid_parameters(norm) || !valid_scale(output_scale))
            throw nb::value_error("parameters must be checked before");
        return norm;
    }

    const OutputQuantization quantization_;
    PreparedNorm norm_;
    const int64_t axis_;
    const int output_signed_;  // -1: as the input
};

// requantize: `out` is a new array like the input.
nb::object requantize(nb::handle input, nb::object scale, nb::object zero_point, bool output_is_signed) {
    const Tensor* tensor = tensor_in(input);
    if (!tensor) throw nb::type_error("input must be a QuantizedTensor");
    PyArrayObject* x = tensor->array();
    const bool per_channel = tensor->channel_axis >= 0;
    const int64_t channels = per_channel ? tensor->channels : 1;
    if (per_channel && !tensor->fits()) return nb::none();
    const OutputQuantization quantization{scale, zero_point, nb::cast<double>(scale),
                                          nb::cast<int32_t>(zero_point)};
    Folded folded(channels, tensor->quantization, quantization.scale_value,
                  {is_signed(x), output_is_signed, false, quantization.zero_point_value});
    if (!folded.finite()) return nb::none();
    const Output output = make_output(x, nb::none(), output_is_signed, quantization, true);
    const Layout layout = layout_of(x, output.array, per_channel ? tensor->channel_axis : -1);
    const Plan plan = choose(layout, channels, Use::once);
    prepare(plan, folded);
    run(plan, folded, layout);
    return output.tensor(quantization);
}

// The slopes and intercepts of a norm, for messages and tests. Parameters are plain float32 vectors.
nb::tuple fold(nb::handle weight, nb::handle bias, nb::handle mean, nb::handle var, double eps,
               double output_scale, nb::handle input) {
    PyArrayObject* first = as_array(mean);
    const Tensor* tensor = tensor_in(input);
    if (!first || PyArray_NDIM(first) != 1 || !tensor)
        throw nb::type_error("a float32 vector and a tensor are needed");
    const int64_t channels = PyArray_DIM(first, 0);
    const Vector w(weight, channels, true), b(bias, channels, true), m(mean, channels, false),
        v(var, channels, false);
    if (!w.usual || !b.usual || !m.usual || !v.usual) throw nb::type_error("parameters must be float32 vectors");
    if (tensor->channel_axis >= 0 && tensor->channels != channels) throw nb::value_error("channels differ");
    const Folded folded({channels, w.data, b.data, m.data, v.data, static_cast<float>(eps), output_scale},
                        tensor->quantization, {false, false, false, 0});
    nb::object slope = empty_like(first, NPY_FLOAT32), intercept = empty_like(first, NPY_FLOAT32);
    std::copy_n(folded.real().slope, channels, static_cast<float*>(PyArray_DATA(as_array(slope))));
    std::copy_n(folded.real().intercept, channels, static_cast<float*>(PyArray_DATA(as_array(intercept))));
    return nb::make_tuple(slope, intercept);
}

}  // namespace

void bind_batch_norm(nb::module_& module) {
    module.def("batch_norm_once", &batch_norm_once, nb::arg("input").none(), nb::arg("weight").none(),
               nb::arg("bias").none(), nb::arg("mean").none(), nb::arg("var").none(), nb::arg("eps").none(),
               nb::arg("output_scale").none(), nb::arg("output_zero_point").none(), nb::arg("axis"),
               nb::arg("output_signed").none(), nb::arg("relu"), nb::arg("out").none(), nb::arg("checked"));
    module.def("requantize", &requantize, nb::arg("input").none(), nb::arg("scale"), nb::arg("zero_point"),
               nb::arg("output_signed"));
    module.def("fold", &fold, nb::arg("weight").none(), nb::arg("bias").none(), nb::arg("mean").none(),
               nb::arg("var").none(), nb::arg("eps").none(), nb::arg("output_scale").none(),
               nb::arg("input").none());
    nb::class_<Operator>(module, "Operator")
        .def(nb::init<nb::handle, nb::handle, nb::handle, nb::handle, double, nb::object, nb::object, nb::handle,
                      bool, int64_t>(),
             nb::arg("weight").none(), nb::arg("bias").none(), nb::arg("mean").none(), nb::arg("var").none(),
             nb::arg("eps").none(), nb::arg("output_scale").none(), nb::arg("output_zero_point").none(),
             nb::arg("output_signed").none(), nb::arg("relu"), nb::arg("axis"))
        // No __call__, which Python looks up anew in each call and hands a new tuple.
        .def("norm", &Operator::norm, nb::arg("input").none(), nb::arg("out").none(), nb::arg("checked"))
        .def("concat", &Operator::concat, nb::arg("pieces").none(), nb::arg("out").none(), nb::arg("checked"))
        .def("add", &Operator::add, nb::arg("a").none(), nb::arg("b").none(), nb::arg("sum_scale").none(),
             nb::arg("sum_zero_point").none(), nb::arg("exact"), nb::arg("with_sum"), nb::arg("out").none(),
             nb::arg("sum_out").none(), nb::arg("checked"))
        .def_prop_ro("folds", &Operator::folds);
}

}  // namespace bytenorm
