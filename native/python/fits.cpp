// What a channel's arithmetic was fitted to, for the tests.
#include "fold/fold.hpp"
#include "fold/words16_fit.hpp"
#include "kernels/scalar/element.hpp"
#include "tensor.hpp"

namespace bytenorm {
namespace {

// A tuple for each channel: multiplier, addend, shift, fine, proved.
nb::list fit_words(nb::handle slope, nb::handle intercept, nb::handle zero_point, bool input_signed,
                   bool output_signed, bool relu, int output_zero_point) {
    PyArrayObject* given = as_array(slope);
    const int64_t channels = given && PyArray_NDIM(given) == 1 ? PyArray_DIM(given, 0) : 0;
    const FloatParams real{plain_vector<float>(slope, channels), plain_vector<float>(intercept, channels),
                           plain_vector<float>(zero_point, channels)};
    const Conversion conversion{input_signed, output_signed, relu, output_zero_point};
    nb::list found;
    for (int64_t c = 0; c < channels; ++c) {
        uint8_t wanted[256];
        for (int u = 0; u < 256; ++u)
            wanted[u] = element(static_cast<uint8_t>(u ^ (input_signed ? 128 : 0)), real.slope[c],
                                real.intercept[c], real.zero_point[c], conversion);
        const Words16Fit fit =
            fit_words16(real.slope[c], real.intercept[c], real.zero_point[c], conversion, wanted);
        found.append(nb::make_tuple(fit.multiplier, fit.addend, fit.shift, fit.fine, fit.proved));
    }
    return found;
}

}  // namespace

void bind_fits(nb::module_& module) {
    module.def("fit_words", &fit_words, nb::arg("slope"), nb::arg("intercept"), nb::arg("zero_point"),
               nb::arg("input_signed"), nb::arg("output_signed"), nb::arg("relu"), nb::arg("output_zero_point"));
}

}  // namespace bytenorm
