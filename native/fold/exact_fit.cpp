#include "exact_fit.hpp"

#include <algorithm>
#include <cmath>

namespace bytenorm {
namespace {

constexpr int largest_shift = 24;
constexpr int smallest_shift = 12;  // an eighth of all elements may be left to double then
constexpr double largest_multiplier = 8388607.0;
constexpr double largest_sum = 2147483647.0 - 2048.0;  // of int32, and room for what errors add

// One channel: both slopes, and what 0.5 more than the code is where u and v are 0.
struct Line {
    double a, b, centre;

    Line(const ExactParameters& of, const Conversion& conversion, int64_t c)
        : a(static_cast<double>(of.slope_a[c])), b(static_cast<double>(of.slope_b[c])) {
        const double middle = conversion.input_signed ? 0.0 : 128.0;
        centre = a * (middle - of.zero_point_a) + b * (middle - of.zero_point_b) +
                 static_cast<double>(of.intercept[c]) + conversion.output_zero_point + 0.5;
    }

    // The largest shift that 32 bits allow; less than the smallest where there is none.
    int shift() const {
        const double steepest = std::max(std::abs(a), std::abs(b));
        const double farthest = 128.0 * (std::abs(a) + std::abs(b)) + std::abs(centre);
        int shift = largest_shift;
        while (shift >= smallest_shift &&
               !(std::ldexp(steepest, shift) <= largest_multiplier && std::ldexp(farthest, shift) <= largest_sum))
            --shift;
        return shift;
    }
};

int32_t both(int64_t of_a, int64_t of_b) {  // of_a with u in the lower half of a dword
    return static_cast<int32_t>(static_cast<uint32_t>(of_b) << 16 | (static_cast<uint32_t>(of_a) & 0xffff));
}

template <int W>
void fit_block(ExactBlock<W>& block, int64_t first, int64_t channels, const ExactParameters& of,
               const Conversion& conversion) {
    const int lanes = static_cast<int>(std::min<int64_t>(W, channels - first));
    int shift = largest_shift;
    for (int lane = 0; lane < lanes; ++lane) {
        const int its = Line(of, conversion, first + lane).shift();
        if (its >= smallest_shift) shift = std::min(shift, its);
    }
    int64_t most_added = 0;
    for (int lane = 0; lane < W; ++lane) {
        const int slot = real_slot(W, lane);
        block.high[slot] = block.low[slot] = 0;
        block.addend[slot] = 1 << (shift - 1);  // lanes beyond the last channel are sure
        if (lane >= lanes) continue;
        const Line line(of, conversion, first + lane);
        block.addend[slot] = 0;  // and those without integers never
        if (line.shift() < smallest_shift) continue;
        const double a = std::ldexp(line.a, shift), b = std::ldexp(line.b, shift);
        const int64_t near_a = std::llrint(a), near_b = std::llrint(b);
        // Both multipliers, for codes of 128 at most; half for the addend; and a last quarter for what doubles
        // lose here and in the contract: less than 2^-20 of a unit, for all are below 2^31 units.
        const double error =
            128.0 * (std::abs(a - static_cast<double>(near_a)) + std::abs(b - static_cast<double>(near_b))) + 0.75;
        const int64_t added = static_cast<int64_t>(std::ceil(error));
        most_added = std::max(most_added, added);
        block.high[slot] = both(near_a >> 8, near_b >> 8);
        block.low[slot] = both((near_a & 0xff) << 8, (near_b & 0xff) << 8);
        block.addend[slot] = static_cast<int32_t>(std::llrint(std::ldexp(line.centre, shift)) + added);
    }
    int undecided = 0;
    while ((int64_t{1} << undecided) <= 2 * most_added) ++undecided;
    block.shift = shift;
    block.mask = static_cast<int32_t>((int64_t{1} << shift) - (int64_t{1} << undecided));
}

template <int W>
AlignedArray<uint8_t> fit_blocks(int64_t channels, const ExactParameters& of, const Conversion& conversion) {
    const int64_t count = (channels + W - 1) / W;
    auto memory = aligned_array<uint8_t>(count * static_cast<int64_t>(sizeof(ExactBlock<W>)));
    auto* blocks = reinterpret_cast<ExactBlock<W>*>(memory.get());
    for (int64_t i = 0; i < count; ++i) fit_block(blocks[i], i * W, channels, of, conversion);
    return memory;
}

}  // namespace

AlignedArray<uint8_t> fit_exact_blocks(int width, int64_t channels, const ExactParameters& of,
                                       const Conversion& conversion) {
    return width == 64   ? fit_blocks<64>(channels, of, conversion)
           : width == 32 ? fit_blocks<32>(channels, of, conversion)
                         : fit_blocks<16>(channels, of, conversion);
}

}  // namespace bytenorm
