// quantize and dequantize over arrays of any axis order. Python hands in dense arrays and checked parameters.
#include <algorithm>
#include <atomic>

#include "core/threads.hpp"
#include "gil.hpp"
#include "kernels/dispatch.hpp"
#include "tensor.hpp"

namespace bytenorm {
namespace {

// Loops over two arrays of the same shape and axis order, of float32 and bytes, in runs of contiguous
// elements. body(byte offset, float offset, channel, n).
template <class F>
void for_contiguous_runs(PyArrayObject* floats, PyArrayObject* bytes, int axis, int64_t* inner_step, F&& body) {
    // The byte array gives the loops; a float element lies at four times its offset.
    const Layout layout = analyse(bytes_of(bytes), strides_of(bytes), mutable_bytes_of(bytes), strides_of(bytes),
                                  shape_of(bytes), PyArray_NDIM(bytes), axis);
    if (layout.size == 0) return;
    for (int d = 0; d < PyArray_NDIM(bytes); ++d)
        if (PyArray_DIM(bytes, d) > 1 && PyArray_STRIDE(floats, d) != 4 * PyArray_STRIDE(bytes, d))
            throw nb::value_error("arrays must be dense and of one axis order");
    if (layout.kind == Layout::strided) throw nb::value_error("arrays must be dense");
    *inner_step = layout.inner.channel_step;
    const int64_t outer = layout.outer_size();
    const int64_t length = layout.inner.n;
    const int64_t pieces = *inner_step == 0 ? pieces_of(outer, 4 * length, num_threads()) : 1;
    const uint8_t* base = bytes_of(bytes);
    const Loop& last = layout.outer[layout.outers - 1];
    auto range = [&](int64_t begin, int64_t end) {
        const int64_t first = begin / pieces, behind = (end + pieces - 1) / pieces;
        int64_t unit = first * pieces;
        for_each_run(layout, first, behind, [&](const uint8_t* x, uint8_t*, int64_t channel, int64_t count) {
            for (int64_t i = 0; i < count; ++i, unit += pieces) {
                const int64_t from = std::max(begin - unit, int64_t{0}), to = std::min(end - unit, pieces);
                const int64_t start = part_of(length, from, pieces), stop = part_of(length, to, pieces);
                body(x - base + i * last.x_stride + start, channel + i * last.channel_step, stop - start);
            }
        });
    };
    without_gil([&] { parallel_for(outer * pieces, 4 * layout.size, range); });
}

struct Pair {
    PyArrayObject *floats, *bytes;
    int64_t channels;

    Pair(nb::handle f, nb::handle b, int axis) : floats(as_array(f)), bytes(as_array(b)) {
        if (!floats || PyArray_TYPE(floats) != NPY_FLOAT32 || !PyArray_ISBEHAVED_RO(floats) || !bytes ||
            !is_byte(bytes))
            throw nb::type_error("an array of float32 and one of bytes are needed");
        if (PyArray_NDIM(floats) != PyArray_NDIM(bytes) || axis >= PyArray_NDIM(bytes) ||
            !PyArray_CompareLists(PyArray_DIMS(floats), PyArray_DIMS(bytes), PyArray_NDIM(bytes)))
            throw nb::value_error("arrays must have one shape");
        channels = axis < 0 ? 1 : PyArray_DIM(bytes, axis);
    }
};

// Fills `y`; returns whether `x` holds a NaN. axis -1: per tensor. `factor` and `zero_point` are read while Python
// runs, so nobody else may hold them.
bool quantize(nb::handle x, nb::handle y, nb::handle factor, nb::handle zero_point, int axis, int rounding) {
    const Pair pair(x, y, axis);
    if (!PyArray_ISWRITEABLE(pair.bytes)) throw nb::value_error("y is read-only");
    if (rounding < 0 || rounding > static_cast<int>(Rounding::wide)) throw nb::value_error("no such rounding");
    const auto rule = static_cast<Rounding>(rounding);
    const bool wide = rule == Rounding::wide;
    const float* factors = wide ? nullptr : plain_vector<float>(factor, pair.channels);
    const double* wide_factors = wide ? plain_vector<double>(factor, pair.channels) : nullptr;
    const float* zero = plain_vector<float>(zero_point, pair.channels);
    const float* from = static_cast<const float*>(PyArray_DATA(pair.floats));
    uint8_t* to = mutable_bytes_of(pair.bytes);
    const bool output_signed = is_signed(pair.bytes);
    std::atomic<bool> nan{false};
    int64_t step = 0;
    for_contiguous_runs(pair.floats, pair.bytes, axis, &step, [&](int64_t at, int64_t c, int64_t n) {
        bool met = false;
        kernel<Quantize>(Arithmetic::fp32)({from + at, to + at, n, wide ? nullptr : factors + c,
                                            wide ? wide_factors + c : nullptr, zero + c, step, output_signed, rule,
                                            &met});
        if (met) nan.store(true, std::memory_order_relaxed);
    });
    return nan.load();
}

void dequantize(nb::handle x, nb::handle y, nb::handle scale, nb::handle zero_point, int axis) {
    const Pair pair(y, x, axis);
    if (!PyArray_ISWRITEABLE(pair.floats)) throw nb::value_error("y is read-only");
    const double* scales = plain_vector<double>(scale, pair.channels);
    const float* zero = plain_vector<float>(zero_point, pair.channels);
    const uint8_t* from = bytes_of(pair.bytes);
    float* to = static_cast<float*>(PyArray_DATA(pair.floats));
    const bool input_signed = is_signed(pair.bytes);
    int64_t step = 0;
    for_contiguous_runs(pair.floats, pair.bytes, axis, &step, [&](int64_t at, int64_t c, int64_t n) {
        kernel<Dequantize>(Arithmetic::fp32)(
            {from + at, to + at, n, scales + c, zero + c, step, input_signed, axis >= 0});
    });
}

}  // namespace

void bind_quantize(nb::module_& module) {
    module.def("quantize", &quantize, nb::arg("x"), nb::arg("y"), nb::arg("factor"), nb::arg("zero_point"),
               nb::arg("axis"), nb::arg("rounding"));
    module.def("dequantize", &dequantize, nb::arg("x"), nb::arg("y"), nb::arg("scale"), nb::arg("zero_point"),
               nb::arg("axis"));
}

}  // namespace bytenorm
