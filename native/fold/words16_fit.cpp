// Compiled for AVX2, like integer32_fit.cpp and with the same care: plain loops over 256 values, which become
// vectors, and no C++ standard templates.
#include "words16_fit.hpp"

#include <math.h>

namespace bytenorm {
namespace {

constexpr int farthest = 9;  // from the nearest multiplier; ones that are far from it do for lines with few codes
constexpr int near = 2;      // where these leave no constant, no other will
constexpr double largest_multiplier = 32767.0 - farthest;
constexpr int smallest_shift = 2;  // AVX2 shifts by a product with 2^(16 - shift), an int16
constexpr int largest_shift = 9;   // of words of 16 bits it leaves codes from -64 to 63
// The constants, in units of 2^(-shift - 7), for which there is an addend of 16 bits whatever the fine byte.
constexpr int32_t largest_constant = (1 << 22) - (1 << 15);
constexpr int32_t anywhere = 1 << 14;  // a line that is this far off is off with the smallest shift, too

// A code strictly inside the output's range pins the line from both sides, a clamped one from one side only.
struct Channel {
    int32_t code[256];                  // wanted, for x from -128 on
    int32_t at_least[256], below[256];  // where the line has to pass
    int32_t lowest, highest;            // codes
};

// The constants that give the wanted codes with this multiplier, for every input at once; both ends are among
// them.
struct Interval {
    int32_t low, high;
};

Interval constants(const Channel& channel, int32_t multiplier, int shift) {
    const int32_t one = 1 << (shift + 7);
    int32_t low = -largest_constant, high = largest_constant;
    for (int32_t i = 0; i < 256; ++i) {
        const int32_t product = (i - 128) * multiplier;
        const int32_t least = channel.at_least[i] * one - product, most = channel.below[i] * one - 1 - product;
        low = low > least ? low : least;
        high = high < most ? high : most;
    }
    return {low, high};
}

// The fine byte with which a constant comes nearest to `target`, in units of 2^(-shift - 15): the addend moves it
// by multiples of 2^15.
int32_t nearest_fine(int64_t target, int32_t multiplier) {
    const uint32_t wanted = static_cast<uint32_t>(target) - (1u << 14), step = static_cast<uint32_t>(multiplier);
    uint32_t best = UINT32_MAX;
    for (uint32_t fine = 0; fine < 256; ++fine) {
        const uint32_t up = (wanted - fine * step) & 0x7fff, down = 0x8000 - up;
        const uint32_t ranked = (up < down ? up : down) << 8 | fine;
        best = best < ranked ? best : ranked;
    }
    return static_cast<int32_t>(best & 0xff);
}

// The proof: what the kernels do, instruction by instruction, with all 256 inputs.
bool gives(const Channel& channel, const Words16Fit& fit) {
    const int32_t multiplier = fit.multiplier, addend = fit.addend, fine = fit.fine, shift = fit.shift;
    int32_t wrong = 0;
    for (int32_t i = 0; i < 256; ++i) {
        const int32_t word = 256 * (i - 128) + fine;
        int32_t sum = ((word * multiplier + (1 << 14)) >> 15) + addend;
        sum = sum < -32768 ? -32768 : sum > 32767 ? 32767 : sum;
        int32_t code = sum >> shift;
        code = code < channel.lowest ? channel.lowest : code > channel.highest ? channel.highest : code;
        wrong |= code ^ channel.code[i];
    }
    return wrong == 0;
}

}  // namespace

Words16Fit fit_words16(float slope, float intercept, float zero_point, const Conversion& conversion,
                       const uint8_t wanted[256]) {
    Channel channel;
    const int32_t turn = conversion.output_signed ? 128 : 0;
    const int32_t lowest = conversion.relu ? conversion.output_zero_point : -turn, highest = 255 - turn;
    channel.lowest = lowest, channel.highest = highest;
    for (int i = 0; i < 256; ++i) channel.code[i] = (wanted[i] ^ turn) - turn;
    int32_t least = highest, most = lowest;
    for (int i = 0; i < 256; ++i) {
        const int32_t code = channel.code[i];
        channel.at_least[i] = code > lowest ? code : -anywhere;
        channel.below[i] = code < highest ? code + 1 : anywhere;
        least = least < code ? least : code;
        most = most > code ? most : code;
    }
    if (least == most) {  // whatever the slope: its line may be beyond all words
        const Words16Fit flat{0, static_cast<int16_t>(most * (1 << smallest_shift)), smallest_shift, 0, true};
        if (gives(channel, flat)) return flat;
    }

    // As large a shift as multiplier, codes and addend leave room for. Of its constants a fine byte may give none,
    // most often where the multiplier is close to a simple fraction of 2^15. Witness: slope 4.003504, intercept
    // -15.6176405, zero point 127, relu; shift 5, and 16401 in place of 16398.
    const double steepness = fabs(static_cast<double>(slope));
    const double centre_input = (conversion.input_signed ? 0.0 : 128.0) - static_cast<double>(zero_point);
    const double centre_output =
        static_cast<double>(slope) * centre_input + static_cast<double>(intercept) + conversion.output_zero_point;
    int shift = largest_shift;
    while (shift >= smallest_shift && !(steepness * (1 << (shift + 7)) <= largest_multiplier &&
                                        fabs(centre_output) * (1 << (shift + 7)) <= largest_constant &&
                                        most * (1 << shift) <= 32767 && least * (1 << shift) >= -32768))
        --shift;
    for (bool any = true; any && shift >= smallest_shift; --shift) {
        const int32_t centre = static_cast<int32_t>(lrint(static_cast<double>(slope) * (1 << (shift + 7))));
        any = false;
        for (int k = 0; k <= 2 * farthest && (any || k <= 2 * near); ++k) {
            const int32_t multiplier = centre + (k % 2 ? (k + 1) / 2 : -k / 2);  // 0, 1, -1, 2 ...
            const Interval interval = constants(channel, multiplier, shift);
            if (interval.low > interval.high) continue;
            any = true;
            const int64_t middle = 128 * (static_cast<int64_t>(interval.low) + interval.high + 1);
            const int32_t fine = nearest_fine(middle, multiplier);
            const int64_t addend = (middle - static_cast<int64_t>(fine) * multiplier) >> 15;  // 2^14 rounds it
            const Words16Fit fit{static_cast<int16_t>(multiplier), static_cast<int16_t>(addend),
                                 static_cast<uint8_t>(shift), static_cast<uint8_t>(fine), true};
            if (gives(channel, fit)) return fit;
        }
    }
    return {0, 0, 0, 0, false};
}

}  // namespace bytenorm
