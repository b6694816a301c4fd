// Sums and histograms of an array's channels. Python hands in what it has checked.
#include <algorithm>
#include <memory>

#include "run.hpp"
#include "statistics/statistics.hpp"
#include "tensor.hpp"

namespace bytenorm {
namespace {

// All that is read without Python's lock is copied here: an array may change its type and its shape meanwhile.
struct Codes {
    int64_t channels;
    bool is_signed;
    Layout layout;

    Codes(nb::handle x, int axis) {
        PyArrayObject* array = as_array(x);
        if (!array || !is_byte(array)) throw nb::type_error("an array of bytes is needed");
        if (axis < 0 || axis >= PyArray_NDIM(array)) throw nb::value_error("axis out of range");
        channels = PyArray_DIM(array, axis), is_signed = bytenorm::is_signed(array);
        layout = analyse(bytes_of(array), strides_of(array), mutable_bytes_of(array), strides_of(array),
                         shape_of(array), PyArray_NDIM(array), axis);
    }
    template <class F>
    void work(F&& body) const {
        if (layout.size < release_gil_from) return body();
        without_gil(body);
    }
};

int64_t* counts_of(nb::handle counts, int64_t size) {
    PyArrayObject* a = as_array(counts);
    if (!a || PyArray_TYPE(a) != NPY_INT64 || PyArray_SIZE(a) != size || !PyArray_ISCARRAY(a))
        throw nb::type_error("a contiguous array of int64 is needed");
    return static_cast<int64_t*>(PyArray_DATA(a));
}

// Adds to C sums and as many sums of squares behind them, and widens C least and C greatest codes.
void add_channel_sums(nb::handle x, int axis, nb::handle sums, nb::handle ends) {
    const Codes codes(x, axis);
    const size_t channels = static_cast<size_t>(codes.channels);
    int64_t *sum = counts_of(sums, 2 * codes.channels), *square = sum + channels;
    int64_t *low = counts_of(ends, 2 * codes.channels), *high = low + channels;
    const std::unique_ptr<Sums[]> totals(new Sums[channels]);
    for (size_t c = 0; c < channels; ++c) totals[c] = {0, 0, 255, 0};
    codes.work([&] { add_sums(codes.layout, codes.channels, codes.is_signed, totals.get()); });
    if (codes.layout.size == 0) return;
    for (size_t c = 0; c < channels; ++c) {
        sum[c] += totals[c].sum, square[c] += totals[c].square;
        low[c] = std::min(low[c], int64_t{totals[c].low}), high[c] = std::max(high[c], int64_t{totals[c].high});
    }
}

void add_channel_histogram(nb::handle x, int axis, nb::handle counts) {
    const Codes codes(x, axis);
    int64_t* to = counts_of(counts, 256 * codes.channels);
    codes.work([&] { add_histogram(codes.layout, codes.channels, codes.is_signed, to); });
}

}  // namespace

void bind_statistics(nb::module_& module) {
    module.def("add_channel_sums", &add_channel_sums, nb::arg("x"), nb::arg("axis"), nb::arg("sums"),
               nb::arg("ends"));
    module.def("add_channel_histogram", &add_channel_histogram, nb::arg("x"), nb::arg("axis"), nb::arg("counts"));
}

}  // namespace bytenorm
