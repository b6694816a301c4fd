// Compiled for AVX2, which every set with integer kernels has: its loops over 256 inputs are most of the cost
// of preparing an operator. So no C++ standard templates here: their code would leak into the scalar build.
#include "integer_fit.hpp"

#include <math.h>

namespace bytenorm {
namespace {

// The factor goes through two int16 halves: 2 * 32767 at most, less the room to try neighbours.
constexpr double largest_factor = 65000.0;
constexpr int neighbours = 2;
constexpr int64_t int32_max = 2147483647;

struct Interval {
    int32_t low, high;  // inclusive
};

// The addends that give `wanted` with this factor, for every input at once. A value strictly inside the
// output range pins (addend + factor * u) >> shift from both sides, a clamped one from one side only.
Interval addends(int32_t factor, const int32_t at_least[256], const int32_t below[256]) {
    int32_t low = -1073741824, high = 1073741823;
    for (int32_t u = 0; u < 256; ++u) {
        const int32_t least = at_least[u] - factor * u, most = below[u] - factor * u;
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
    const double reach = fmax(fmax(fabs(first), fabs(last)), 256.0) + 1.0;

    // As many fraction bits as the factor and a sum below 2^30 allow.
    const double steepness = fabs(static_cast<double>(slope));
    int shift = 22;
    while (shift >= 0 && (ldexp(steepness, shift) > largest_factor || ldexp(reach, shift) > 1073741824.0))
        --shift;
    if (shift < 0) return refused;

    const int lowest_code = conversion.output_signed ? -128 : 0, highest_code = lowest_code + 255;
    const int lowest = conversion.relu ? conversion.output_zero_point : lowest_code;
    int32_t at_least[256], below[256];
    const int32_t free = 1073741823;  // 2^30 - 1
    for (int u = 0; u < 256; ++u) {
        const int32_t q = conversion.output_signed ? static_cast<int8_t>(wanted[u]) : wanted[u];
        at_least[u] = q > lowest ? q * (1 << shift) : -free;
        below[u] = q < highest_code ? (q + 1) * (1 << shift) - 1 : free;
    }

    const int32_t centre = static_cast<int32_t>(lrint(ldexp(static_cast<double>(slope), shift)));
    int32_t best_factor = 0, best_width = -1, best_addend = 0;
    for (int step = -neighbours; step <= neighbours; ++step) {
        const Interval interval = addends(centre + step, at_least, below);
        if (interval.high - interval.low > best_width && interval.high >= interval.low) {
            best_width = interval.high - interval.low;
            best_factor = centre + step;
            best_addend = interval.low + (interval.high - interval.low) / 2;
        }
    }
    if (best_width < 0) return refused;  // exact ties, rounded to even, follow no line

    // The proof: run the kernel's arithmetic on all 256 inputs.
    for (int64_t u = 0; u < 256; ++u) {
        const int64_t sum = best_addend + static_cast<int64_t>(best_factor) * u;
        if (sum > int32_max || sum < -int32_max) return refused;
        int64_t q = sum >> shift;
        q = q < lowest ? lowest : q > highest_code ? highest_code : q;
        if (static_cast<uint8_t>(q) != wanted[u]) return refused;
    }
    const int32_t half = best_factor / 2, other = best_factor - half;
    const uint32_t packed = (static_cast<uint32_t>(other) << 16) | (static_cast<uint32_t>(half) & 0xffffu);
    return {static_cast<int32_t>(packed), best_addend, shift, true};
}

}  // namespace bytenorm
