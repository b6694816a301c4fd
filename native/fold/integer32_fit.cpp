// Compiled for AVX2, which every set with integer kernels has: its loops over 256 inputs are most of the cost
// of preparing an operator. So no C++ standard templates here: their code would leak into the scalar build.
#include "integer32_fit.hpp"

#include <math.h>

namespace bytenorm {
namespace {

constexpr int neighbours = 2;                                // of the nearest multiplier, on either side
constexpr double largest_multiplier = 32767.0 - neighbours;  // an int16
constexpr int largest_shift = 16;                            // odd bytes shift up by the rest of 16
constexpr int largest_result = 32000;                        // before saturation it must fit an int16

struct Interval {
    int32_t low, high;  // inclusive
};

// The addends that give `wanted` with this multiplier, for every input at once. A value strictly inside the
// output range pins (addend + multiplier * u) >> shift from both sides, a clamped one from one side only.
Interval addends(int32_t multiplier, const int32_t at_least[256], const int32_t below[256]) {
    int32_t low = INT32_MIN, high = INT32_MAX;
    for (int32_t u = 0; u < 256; ++u) {
        const int32_t least = at_least[u] - multiplier * u, most = below[u] - multiplier * u;
        low = low > least ? low : least;
        high = high < most ? high : most;
    }
    return {low, high};
}

}  // namespace

IntegerFit fit_integer(float slope, float intercept, float zero_point, const Conversion& conversion,
                       const uint8_t wanted[256]) {
    const IntegerFit refused{0, 0, 0, false};
    const int smallest_input = conversion.input_signed ? -128 : 0;
    const double first = static_cast<double>(slope) * (smallest_input - static_cast<double>(zero_point)) +
                         static_cast<double>(intercept) + conversion.output_zero_point;
    const double last = first + 255.0 * static_cast<double>(slope);
    if (!(fabs(first) < largest_result && fabs(last) < largest_result)) return refused;
    const double steepness = fabs(static_cast<double>(slope));
    int shift = largest_shift;  // as many fraction bits as the multiplier allows
    while (shift >= 0 && ldexp(steepness, shift) > largest_multiplier) --shift;
    if (shift < 0) return refused;

    const int lowest_code = conversion.output_signed ? -128 : 0, highest_code = lowest_code + 255;
    const int lowest = conversion.relu ? conversion.output_zero_point : lowest_code;
    int32_t at_least[256], below[256];
    const int32_t far = largest_result * (1 << shift);  // pins nothing but what the packing can hold
    for (int u = 0; u < 256; ++u) {
        const int32_t q = conversion.output_signed ? static_cast<int8_t>(wanted[u]) : wanted[u];
        at_least[u] = q > lowest ? q * (1 << shift) : -far;
        below[u] = q < highest_code ? (q + 1) * (1 << shift) - 1 : far;
    }

    const int32_t centre = static_cast<int32_t>(lrint(ldexp(static_cast<double>(slope), shift)));
    int32_t best_multiplier = 0, best_addend = 0;
    int64_t best_width = -1;
    for (int step = -neighbours; step <= neighbours; ++step) {
        const Interval interval = addends(centre + step, at_least, below);
        const int64_t width = static_cast<int64_t>(interval.high) - interval.low;
        if (width > best_width) {
            best_width = width;
            best_multiplier = centre + step;
            best_addend = static_cast<int32_t>(interval.low + width / 2);
        }
    }
    if (best_width < 0) return refused;  // exact ties, rounded to even, follow no line

    // The proof: run the kernel's arithmetic on all 256 inputs.
    for (int32_t u = 0; u < 256; ++u) {
        int32_t q = (best_addend + best_multiplier * u) >> shift;
        if (q < -32768 || q > 32767) return refused;
        q = q < lowest ? lowest : q > highest_code ? highest_code : q;
        if (static_cast<uint8_t>(q) != wanted[u]) return refused;
    }
    return {best_multiplier, best_addend, shift, true};
}

}  // namespace bytenorm
