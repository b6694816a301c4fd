// Batch norm on tensors of torch. As in batch_norm.cpp, whatever is unusual makes these functions return None;
// Python's bytenorm.torch.operators.tensor_checks then finds words for it or makes it usual.
#include <algorithm>
#include <cstring>
#include <memory>

#include "fold/valid.hpp"
#include "prepared.hpp"
#include "run.hpp"
#include "tensor.hpp"
#include "torch_tensor.hpp"

namespace bytenorm {
namespace {

int64_t integer(nb::handle object) {
    require(PyLong_CheckExact(object.ptr()));
    int overflow = 0;
    const int64_t value = PyLong_AsLongLongAndOverflow(object.ptr(), &overflow);
    require(overflow == 0);
    return value;
}

double real(nb::handle object) {
    require(PyFloat_CheckExact(object.ptr()));
    return PyFloat_AsDouble(object.ptr());
}

// A number each, or an array of float64 and one of int64, a number a channel.
InputQuantization input_quantization(nb::handle scale, nb::handle zero_point, const TorchView& x) {
    InputQuantization q{};
    const int64_t channels = x.shape[1];
    if (PyArrayObject* scales = as_array(scale)) {
        PyArrayObject* zero_points = as_array(zero_point);
        require(zero_points && is_plain_vector(scales, NPY_FLOAT64, channels) &&
                is_plain_vector(zero_points, NPY_INT64, channels));
        q.scales = static_cast<const double*>(PyArray_DATA(scales));
        q.zero_points = static_cast<const int64_t*>(PyArray_DATA(zero_points));
    } else {
        q.scale = real(scale), q.zero_point = integer(zero_point);
    }
    for (int64_t c = 0; c < (q.scales ? channels : 1); ++c)
        require(valid_scale(q.scale_of(c)) && valid_zero_point(q.zero_point_of(c), x.is_signed()));
    return q;
}

// The input of a call and where its result goes.
struct Call {
    TorchView x, y;
    nb::object result;

    // `out` is None for a new plain tensor of `output_dtype`, or a tensor of the input's shape that was made for
    // this call.
    Call(nb::handle input, nb::handle out, nb::handle output_dtype, bool checked) {
        const Which which = checked ? Which::any : out.is_none() ? Which::plain : Which::quantized;
        x = view_of(input, which);
        require(x.has_codes() && x.ndim >= 2 && (x.is_quantized() || !is_negated(input)) &&
                fits_storage(input, x));
        if (out.is_none()) {
            require(!x.is_quantized() && (output_dtype.is_none() || is_plain_dtype(output_dtype)));
            result = empty_like(input, output_dtype);
        } else {
            result = nb::borrow(out);
        }
        y = view_of(result, which);
        require(y.has_codes() && y.ndim == x.ndim && std::equal(x.shape, x.shape + x.ndim, y.shape));
    }

    int64_t channels() const { return x.shape[1]; }
    Layout layout() const {
        return analyse(static_cast<const uint8_t*>(x.data), x.strides, static_cast<uint8_t*>(y.data), y.strides,
                       x.shape, x.ndim, 1);
    }
};

nb::object batch_norm_torch(nb::handle x, nb::handle x_scale, nb::handle x_zero_point, nb::handle weight,
                            nb::handle bias, nb::handle mean, nb::handle var, nb::handle eps, nb::handle y_scale,
                            nb::handle y_zero_point, nb::handle output_dtype, nb::handle relu, nb::handle out,
                            bool gradients, bool checked) try {
    require(PyBool_Check(relu.ptr()) && !mean.is_none() && !var.is_none());
    require(checked || !out.is_none() || !is_quantized(x));
    const Call call(x, out, output_dtype, checked);
    const int64_t channels = call.channels(), zero_point = integer(y_zero_point);
    const NormParameters norm{channels,
                              vector_of(weight, channels, gradients),
                              vector_of(bias, channels, gradients),
                              vector_of(mean, channels, gradients),
                              vector_of(var, channels, gradients),
                              static_cast<float>(real(eps)),
                              real(y_scale)};
    require(real(eps) >= 0.0 && valid_scale(norm.output_scale) &&
            valid_zero_point(zero_point, call.y.is_signed()) && valid_parameters(norm));
    Folded folded(
        norm, input_quantization(x_scale, x_zero_point, call.x),
        {call.x.is_signed(), call.y.is_signed(), relu.ptr() == Py_True, static_cast<int32_t>(zero_point)});
    require(folded.finite());
    const Layout layout = call.layout();
    const Plan plan = choose(layout, channels, Use::once);
    prepare(plan, folded);
    run(plan, folded, layout);
    return call.result;
} catch (const Unusual&) {
    return nb::none();
}

// A norm prepared from the buffers of a module, which anybody may replace, resize or write to meanwhile: it keeps
// copies, and each call makes sure that the buffers still hold the same numbers.
class TorchOperator {
  public:
    TorchOperator(nb::handle buffers, nb::handle eps, nb::handle scale, nb::handle zero_point, bool relu,
                  nb::object input_scale, nb::object input_zero_point, nb::object output_dtype,
                  int fewest_dimensions, int most_dimensions)
        : input_scale_(std::move(input_scale)),
          input_zero_point_(std::move(input_zero_point)),
          output_dtype_(std::move(output_dtype)),
          fewest_dimensions_(fewest_dimensions),
          most_dimensions_(most_dimensions) {
        try {
            prepare(buffers, real(eps), real(scale), integer(zero_point), relu);
        } catch (const Unusual&) {  // `norm_` stays empty
        }
    }

    static void intern_names() {
        const char* const texts[vectors] = {"weight", "bias", "running_mean", "running_var"};
        for (int i = 0; i < vectors; ++i) names[i] = PyUnicode_InternFromString(texts[i]);
    }

    nb::object plain(nb::handle buffers, nb::handle input) {
        if (is_quantized(input)) return nb::none();
        return run(buffers, input, input_scale_, input_zero_point_, nb::none());
    }
    nb::object quantized(nb::handle buffers, nb::handle input, nb::handle scale, nb::handle zero_point,
                         nb::handle out) {
        return run(buffers, input, scale, zero_point, out);
    }

  private:
    static constexpr int vectors = 4;
    static inline PyObject* names[vectors];

    // Held by who asks: another thread may replace it.
    static nb::object buffer(nb::handle buffers, int i) {
        require(PyDict_CheckExact(buffers.ptr()));
        PyObject* found = PyObject_GetItem(buffers.ptr(), names[i]);
        if (!found) PyErr_Clear();
        require(found);
        return nb::steal(found);
    }

    nb::object run(nb::handle buffers, nb::handle input, nb::handle scale, nb::handle zero_point,
                   nb::handle out) try {
        require(norm_ && same(buffers));
        const Call call(input, out, output_dtype_, false);
        require(call.x.ndim >= fewest_dimensions_ && call.x.ndim <= most_dimensions_ &&
                call.channels() == norm_->channels() &&
                valid_zero_point(norm_->output_zero_point(), call.y.is_signed()));
        const InputQuantization q = input_quantization(scale, zero_point, call.x);
        require(norm_->run(call.layout(), q, call.x.is_signed(), call.y.is_signed()));
        return call.result;
    } catch (const Unusual&) {
        return nb::none();
    }

    void prepare(nb::handle buffers, double eps, double scale, int64_t zero_point, bool relu) {
        const TorchView mean = view_of(buffer(buffers, 2));
        require(mean.ndim == 1);
        nb::object held[vectors];
        const float* found[vectors];
        for (int i = 0; i < vectors; ++i) {
            held[i] = buffer(buffers, i);
            found[i] = vector_of(held[i], mean.shape[0], true);
        }
        const NormParameters norm{mean.shape[0],           found[0], found[1], found[2], found[3],
                                  static_cast<float>(eps), scale};
        require(norm.var && eps >= 0.0 && valid_parameters(norm) && valid_scale(scale) && zero_point >= -128 &&
                zero_point <= 255);
        norm_ = std::make_unique<PreparedNorm>(norm, relu, static_cast<int32_t>(zero_point));
    }

    // Whether the buffers hold the numbers that this was prepared with, to the bit.
    bool same(nb::handle buffers) const {
        const NormParameters norm = norm_->parameters();
        const float* const mine[vectors] = {norm.weight, norm.bias, norm.mean, norm.var};
        for (int i = 0; i < vectors; ++i) {
            const nb::object held = buffer(buffers, i);
            const float* found = vector_of(held, norm.channels, true);
            if (!found || !mine[i] ? found != mine[i] : std::memcmp(found, mine[i], norm.channels * sizeof(float)))
                return false;
        }
        return true;
    }

    const nb::object input_scale_, input_zero_point_, output_dtype_;
    const int fewest_dimensions_, most_dimensions_;
    std::unique_ptr<PreparedNorm> norm_;
};

}  // namespace

void bind_torch_batch_norm(nb::module_& module) {
    TorchOperator::intern_names();
    module.def("batch_norm_torch", &batch_norm_torch, nb::arg("x").none(), nb::arg("x_scale").none(),
               nb::arg("x_zero_point").none(), nb::arg("weight").none(), nb::arg("bias").none(),
               nb::arg("mean").none(), nb::arg("var").none(), nb::arg("eps").none(), nb::arg("y_scale").none(),
               nb::arg("y_zero_point").none(), nb::arg("output_dtype").none(), nb::arg("relu").none(),
               nb::arg("out").none(), nb::arg("gradients"), nb::arg("checked"));
    nb::class_<TorchOperator>(module, "TorchOperator")
        .def(nb::init<nb::handle, nb::handle, nb::handle, nb::handle, bool, nb::object, nb::object, nb::object,
                      int, int>(),
             nb::arg("buffers"), nb::arg("eps").none(), nb::arg("scale").none(), nb::arg("zero_point").none(),
             nb::arg("relu"), nb::arg("input_scale").none(), nb::arg("input_zero_point").none(),
             nb::arg("output_dtype").none(), nb::arg("fewest_dimensions"), nb::arg("most_dimensions"))
        .def("plain", &TorchOperator::plain, nb::arg("buffers"), nb::arg("input").none())
        .def("quantized", &TorchOperator::quantized, nb::arg("buffers"), nb::arg("input"), nb::arg("scale"),
             nb::arg("zero_point"), nb::arg("out"));
}

}  // namespace bytenorm
