// Every kernel of the list by name, for the tests and benchmarks.
#include <nanobind/stl/string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "fold/exact_fit.hpp"
#include "fold/exact_fold.hpp"
#include "fold/fitted.hpp"
#include "fold/sum_fit.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/list.hpp"
#include "tensor.hpp"

namespace bytenorm {
namespace {

// What one test of one kernel needs: a two-dimensional x and y, and a channel's parameters for each row
// (channels first) or each column (channels last). For planes `tile` says how many images the rows are of, all
// channels of the first one first; for rows a negative one how many go abreast.
struct Case {
    PyArrayObject *x, *y;
    int64_t rows, columns, channels;
    FloatParams real;
    Conversion conversion;
    bool proved = true;  // the arithmetic is, for every channel
    bool stream;
    int64_t tile;
    std::unique_ptr<Fitted> fitted;

    // What the arithmetic needs.
    ChannelParams params(Arithmetic arithmetic) {
        fitted = std::make_unique<Fitted>(channels, conversion);
        std::copy_n(real.slope, channels, fitted->slope());
        std::copy_n(real.intercept, channels, fitted->intercept());
        std::copy_n(real.zero_point, channels, fitted->zero_point());
        fitted->prepare(arithmetic);
        for (int64_t c = 0; c < channels; ++c) proved = proved && fitted->proves(arithmetic, c);
        return fitted->from(0, arithmetic);
    }
};

// A kernel of the list by the names of its arithmetic and its instruction set.
template <class Run>
struct Named {
    Kernel<Run> kernel;
    Arithmetic arithmetic{};

    Named(const std::string& arithmetic_name, const std::string& isa) {
        const auto available = available_isas();
        const auto take = [&](auto function, const char* name, Arithmetic of, Isa set) {
            if constexpr (std::is_same_v<decltype(function), void (*)(const Run&)>)
                if (arithmetic_name == name && isa == isa_name(set) &&
                    std::count(available.begin(), available.end(), set))
                    kernel = {function, set}, arithmetic = of;
        };
#define BYTENORM_TAKE(layout, arithmetic, set, source) \
    take(&layout##_##arithmetic##_##set, #arithmetic, Arithmetic::arithmetic, Isa::set);
        BYTENORM_KERNELS(BYTENORM_TAKE)
#undef BYTENORM_TAKE
        if (!kernel) throw nb::value_error("no kernel of this name");
    }
};

void require_contiguous_rows(const Case& t) {
    if ((PyArray_STRIDE(t.x, 1) != 1 || PyArray_STRIDE(t.y, 1) != 1) && t.columns > 1)
        throw nb::value_error("rows must be contiguous");
}

void run_case(const Named<Planes>& named, Case& t) {
    require_contiguous_rows(t);
    Planes p{};
    p.x = bytes_of(t.x), p.y = mutable_bytes_of(t.y);
    p.images = std::max<int64_t>(t.tile, 1), p.count = t.rows / p.images, p.length = t.columns;
    p.x_stride = PyArray_STRIDE(t.x, 0), p.y_stride = PyArray_STRIDE(t.y, 0), p.channel_step = 1;
    p.x_image = p.count * p.x_stride, p.y_image = p.count * p.y_stride;
    p.params = t.params(named.arithmetic), p.conversion = t.conversion, p.stream = t.stream;
    if (t.proved) named.kernel(p);
}

void run_case(const Named<Rows>& named, Case& t) {
    require_contiguous_rows(t);
    const auto blocks =
        pack_blocks(named.arithmetic, named.kernel.width(), t.columns, t.channels, t.params(named.arithmetic));
    if (t.proved)
        named.kernel({bytes_of(t.x), mutable_bytes_of(t.y), t.rows, t.columns, PyArray_STRIDE(t.x, 0),
                      PyArray_STRIDE(t.y, 0), blocks.get(), std::max<int64_t>(t.tile, 0),
                      static_cast<int>(std::max<int64_t>(-t.tile, 0)), t.conversion, t.stream});
}

// The columns as if they came from arrays of their own: `tile` vectors each, or, where a vector may be put
// together, of a size that ends inside it.
void run_case(const Named<Joined>& named, Case& t) {
    require_contiguous_rows(t);
    const int width = named.kernel.width();
    const int64_t part = traits(named.kernel.isa).most_parts > 1 ? width / 3 + t.tile : width * t.tile;
    const int64_t size = t.tile == 0 ? std::max<int64_t>(t.columns, 1) : part;
    std::vector<JoinedPart> parts;
    for (int64_t lane = 0; lane < t.columns; lane += size)
        parts.push_back({lane, std::min(size, t.columns - lane), bytes_of(t.x) + lane, PyArray_STRIDE(t.x, 0)});
    const auto blocks = pack_blocks(named.arithmetic, width, t.columns, t.channels, t.params(named.arithmetic));
    if (t.proved)
        named.kernel({parts.data(), mutable_bytes_of(t.y), t.rows, t.columns, PyArray_STRIDE(t.y, 0), blocks.get(),
                      t.conversion});
}

void run_case(const Named<Strided>& named, Case& t) {
    const int64_t by_row = t.tile == 0;  // the channel axis: rows, or columns when `tile` is set
    named.kernel({bytes_of(t.x), mutable_bytes_of(t.y), t.rows, PyArray_STRIDE(t.x, 0), PyArray_STRIDE(t.y, 0),
                  by_row, t.columns, PyArray_STRIDE(t.x, 1), PyArray_STRIDE(t.y, 1), 1 - by_row,
                  t.params(named.arithmetic).table});
}

nb::list kernel_names() {
    nb::list names;
    const auto available = available_isas();
    const auto add = [&](const char* layout, const char* arithmetic, Isa isa) {
        if (std::count(available.begin(), available.end(), isa))
            names.append(nb::make_tuple(layout, arithmetic, isa_name(isa)));
    };
#define BYTENORM_NAME(layout, arithmetic, isa, source) add(#layout, #arithmetic, Isa::isa);
    BYTENORM_KERNELS(BYTENORM_NAME)
#undef BYTENORM_NAME
    return names;
}

// Runs one kernel from x into y; returns false, y untouched, if its integers could not be proved.
bool run_kernel(const std::string& layout, const std::string& arithmetic, const std::string& isa, nb::handle x,
                nb::handle y, nb::handle slope, nb::handle intercept, nb::handle zero_point, int output_zero_point,
                bool relu, bool stream, int64_t tile) {
    Case t{};
    t.x = as_array(x), t.y = as_array(y);
    if (!t.x || !t.y || !is_byte(t.x) || !is_byte(t.y) || PyArray_NDIM(t.x) != 2 || PyArray_NDIM(t.y) != 2 ||
        !std::equal(shape_of(t.x), shape_of(t.x) + 2, shape_of(t.y)))
        throw nb::type_error("x and y must be two-dimensional byte arrays of one shape");
    t.rows = PyArray_DIM(t.x, 0), t.columns = PyArray_DIM(t.x, 1);
    const bool by_column = layout == "Rows" || layout == "Joined" || (layout == "Strided" && tile != 0);
    t.channels = by_column ? t.columns : t.rows;
    if (layout == "Planes" && tile > 0) {
        if (t.rows % tile != 0) throw nb::value_error("rows must be those of whole images");
        t.channels = t.rows / tile;
    }
    t.real = {plain_vector<float>(slope, t.channels), plain_vector<float>(intercept, t.channels),
              plain_vector<float>(zero_point, t.channels)};
    t.conversion = {is_signed(t.x), is_signed(t.y), relu, output_zero_point};
    t.stream = stream, t.tile = tile;
    const auto run = [&](auto named) {
        run_case(named, t);
        return t.proved;
    };
    if (layout == "Planes") return run(Named<Planes>(arithmetic, isa));
    if (layout == "Rows") return run(Named<Rows>(arithmetic, isa));
    if (layout == "Joined") return run(Named<Joined>(arithmetic, isa));
    if (layout == "Strided") return run(Named<Strided>(arithmetic, isa));
    throw nb::value_error("no layout of this name that one array is walked in");
}

// Runs one kernel of exact sums. `weight` and `bias` have one value a channel, which is a column or a row; mean is
// 0, var and the output's scale are 1.
void run_exact_sum_kernel(const std::string& arithmetic, const std::string& isa, nb::handle a, nb::handle b,
                          nb::handle y, double scale_a, int64_t zero_point_a, double scale_b, int64_t zero_point_b,
                          nb::handle weight, nb::handle bias, int output_zero_point, bool relu, bool by_column) {
    PyArrayObject *x1 = as_array(a), *x2 = as_array(b), *out = as_array(y);
    for (PyArrayObject* array : {x1, x2, out})
        if (!array || PyArray_NDIM(array) != 2 || !is_byte(array) || PyArray_TYPE(x1) != PyArray_TYPE(x2) ||
            !std::equal(shape_of(array), shape_of(array) + 2, shape_of(out)))
            throw nb::type_error("a, b and y must be two-dimensional arrays of bytes of one shape");
    const int64_t channels = PyArray_DIM(out, by_column ? 1 : 0);
    const std::vector<float> zeros(static_cast<size_t>(channels), 0.0f), ones(static_cast<size_t>(channels), 1.0f);
    const NormParameters norm{channels,
                              plain_vector<float>(weight, channels),
                              plain_vector<float>(bias, channels),
                              zeros.data(),
                              ones.data(),
                              0.0f,
                              1.0};
    const ExactFold fold(norm, {scale_a, zero_point_a}, {scale_b, zero_point_b},
                         {is_signed(x1), is_signed(out), relu, output_zero_point});
    ExactSum run{};
    run.a = bytes_of(x1), run.b = bytes_of(x2), run.y = mutable_bytes_of(out);
    run.count = PyArray_DIM(out, 0), run.length = PyArray_DIM(out, 1);
    run.a_stride = PyArray_STRIDE(x1, 0), run.b_stride = PyArray_STRIDE(x2, 0),
    run.y_stride = PyArray_STRIDE(out, 0);
    run.a_step = PyArray_STRIDE(x1, 1), run.b_step = PyArray_STRIDE(x2, 1), run.y_step = PyArray_STRIDE(out, 1);
    run.channel_stride = !by_column, run.channel_step = by_column;
    fold.fill(run, 0);
    const Named<ExactSum> named(arithmetic, isa);
    const auto blocks = fit_exact_blocks(
        named.kernel.width(), channels,
        {run.slope_a, run.slope_b, run.intercept, run.zero_point_a, run.zero_point_b}, run.conversion);
    run.blocks = blocks.get();  // those of the fold are for the set in use
    named.kernel(run);
}

// Runs one kernel of sums on vectors with even steps; returns false, y untouched, if its integers could not be
// proved.
bool run_sum_kernel(const std::string& arithmetic, const std::string& isa, nb::handle a, nb::handle b,
                    nb::handle y, float factor_a, int64_t zero_point_a, float factor_b, int64_t zero_point_b,
                    int64_t zero_point) {
    PyArrayObject *x1 = as_array(a), *x2 = as_array(b), *out = as_array(y);
    for (PyArrayObject* array : {x1, x2, out})
        if (!array || PyArray_NDIM(array) != 1 || PyArray_TYPE(array) != PyArray_TYPE(out) || !is_byte(array) ||
            PyArray_DIM(array, 0) != PyArray_DIM(out, 0))
            throw nb::type_error("a, b and y must be vectors of bytes of one type and length");
    const SumFold fold({factor_a, factor_b, zero_point_a, zero_point_b, zero_point, is_signed(out)});
    const Sum run{bytes_of(x1),          bytes_of(x2),          mutable_bytes_of(out),  PyArray_DIM(out, 0),
                  PyArray_STRIDE(x1, 0), PyArray_STRIDE(x2, 0), PyArray_STRIDE(out, 0), fold.table(),
                  fold.integer(),        is_signed(out)};
    const Named<Sum> named(arithmetic, isa);
    if (named.arithmetic == Arithmetic::integer32 && !fold.proved()) return false;
    named.kernel(run);
    return true;
}

// Runs one kernel of averages on arrays without gaps: x of two rows, twice as many pixels as y and its channels.
void run_average_kernel(const std::string& arithmetic, const std::string& isa, nb::handle x, nb::handle y) {
    PyArrayObject *in = as_array(x), *out = as_array(y);
    if (!in || !out || !is_byte(in) || PyArray_TYPE(in) != PyArray_TYPE(out) || PyArray_NDIM(in) != 3 ||
        PyArray_NDIM(out) != 2 || !PyArray_IS_C_CONTIGUOUS(in) || !PyArray_IS_C_CONTIGUOUS(out) ||
        PyArray_DIM(in, 0) != 2 || PyArray_DIM(in, 1) != 2 * PyArray_DIM(out, 0) ||
        PyArray_DIM(in, 2) != PyArray_DIM(out, 1))
        throw nb::type_error("x and y must be bytes without gaps, of shapes (2, 2n, c) and (n, c)");
    const int64_t pixels = PyArray_DIM(out, 0), channels = PyArray_DIM(out, 1);
    Named<Average>(arithmetic, isa)
        .kernel({bytes_of(in), bytes_of(in) + 2 * pixels * channels, mutable_bytes_of(out), pixels, channels,
                 is_signed(out)});
}

}  // namespace

void bind_kernels(nb::module_& module) {
    module.def("kernel_names", &kernel_names);
    module.def("run_kernel", &run_kernel, nb::arg("layout"), nb::arg("arithmetic"), nb::arg("isa"), nb::arg("x"),
               nb::arg("y"), nb::arg("slope"), nb::arg("intercept"), nb::arg("zero_point"),
               nb::arg("output_zero_point"), nb::arg("relu"), nb::arg("stream") = false, nb::arg("tile") = 0);
    module.def("run_sum_kernel", &run_sum_kernel, nb::arg("arithmetic"), nb::arg("isa"), nb::arg("a"),
               nb::arg("b"), nb::arg("y"), nb::arg("factor_a"), nb::arg("zero_point_a"), nb::arg("factor_b"),
               nb::arg("zero_point_b"), nb::arg("zero_point"));
    module.def("run_average_kernel", &run_average_kernel, nb::arg("arithmetic"), nb::arg("isa"), nb::arg("x"),
               nb::arg("y"));
    module.def("run_exact_sum_kernel", &run_exact_sum_kernel, nb::arg("arithmetic"), nb::arg("isa"), nb::arg("a"),
               nb::arg("b"), nb::arg("y"), nb::arg("scale_a"), nb::arg("zero_point_a"), nb::arg("scale_b"),
               nb::arg("zero_point_b"), nb::arg("weight"), nb::arg("bias"), nb::arg("output_zero_point"),
               nb::arg("relu"), nb::arg("by_column"));
}

}  // namespace bytenorm
