#include "sum_fit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bytenorm {
namespace {

// rint(p + q) as the exact sum has it, for |p + q| below 2^51. Both products are exact in double; their sum may
// not be. Rounding to double moves no number across a tie, which is a double itself, but may move it onto one.
double round_sum(double p, double q) {
    const double big = 6755399441055744.0;  // 1.5 * 2^52: what is added to it is rounded half to even
    const double sum = p + q;
    const double part = sum - p;
    const double lost = (p - (sum - part)) + (q - part);  // exact: sum + lost is the true sum
    const double rounded = (sum + big) - big;
    const double off = sum - rounded;
    return rounded + (off == 0.5 && lost > 0.0 ? 1.0 : 0.0) - (off == -0.5 && lost < 0.0 ? 1.0 : 0.0);
}

constexpr int low_bits = 15;  // of a multiplier of 30 bits, which two int16 hold
constexpr int64_t largest_multiplier = int64_t{32767} << low_bits;
constexpr int64_t most_whole = 32000;  // a result and its offset must fit int16

}  // namespace

// Whether rounding half up, but exact ties to even, gives the table.
bool SumFold::proves_ties(const SumQuantization& q, int64_t a, int64_t b, int64_t addend, int shift) const {
    const int64_t lowest = q.is_signed ? -128 : 0, rest = (int64_t{1} << shift) - 1;
    const int flip = q.is_signed ? 128 : 0;
    for (int u = 0; u < 256; ++u) {
        for (int v = 0; v < 256; ++v) {
            const int64_t exact = a * u + b * v + addend;
            int64_t code = exact >> shift;
            if ((exact & rest) == 0 && ((code - q.zero_point) & 1)) --code;
            code = std::min(std::max(code, lowest), lowest + 255);
            if (static_cast<uint8_t>(code) != table_[static_cast<size_t>(256 * (u ^ flip) + (v ^ flip))])
                return false;
        }
    }
    return true;
}

SumFold::SumFold(const SumQuantization& q) : table_(aligned_array<uint8_t>(65536)) {
    const double lowest = q.is_signed ? -128.0 : 0.0, zero = static_cast<double>(q.zero_point);
    double of_a[256], of_b[256];
    for (int i = 0; i < 256; ++i) {
        const int code = q.is_signed ? static_cast<int8_t>(i) : i;
        of_a[i] = static_cast<double>(q.factor_a) * static_cast<double>(code - q.zero_point_a);
        of_b[i] = static_cast<double>(q.factor_b) * static_cast<double>(code - q.zero_point_b);
    }
    const double bound = 1e6;  // further out everything saturates, and no tie is moved
    for (int a = 0; a < 256; ++a) {
        for (int b = 0; b < 256; ++b) {
            const double sum = of_a[a] + of_b[b];
            double code = sum > bound ? bound : sum < -bound ? -bound : round_sum(of_a[a], of_b[b]);
            code = std::min(std::max(code + zero, lowest), lowest + 255.0);
            table_[static_cast<size_t>(256 * a + b)] = static_cast<uint8_t>(static_cast<int>(code));
        }
    }
    proved_ = fit(q);
}

// code = (addend + multiplier_a * u + multiplier_b * v) >> shift, u and v counted from the smallest code. Every
// pair pins the addend, as in integer32_fit.cpp; an addend in all 65,536 intervals is the proof.
bool SumFold::fit(const SumQuantization& q) {
    const double steepest = std::max(static_cast<double>(q.factor_a), static_cast<double>(q.factor_b));
    int high_shift = low_bits;  // so that an addend's fraction, 30 bits, fits int32
    while (high_shift >= 0 &&
           std::ldexp(steepest, high_shift + low_bits) > static_cast<double>(largest_multiplier))
        --high_shift;
    if (high_shift < 0) return false;
    const int shift = high_shift + low_bits;
    const int64_t a = std::llrint(std::ldexp(static_cast<double>(q.factor_a), shift));
    const int64_t b = std::llrint(std::ldexp(static_cast<double>(q.factor_b), shift));

    const int lowest = q.is_signed ? -128 : 0, flip = q.is_signed ? 128 : 0;
    const int64_t far = most_whole << shift;
    int64_t low = -far, high = far;
    for (int u = 0; u < 256; ++u) {
        const uint8_t* row = table_.get() + 256 * (u ^ flip);
        for (int v = 0; v < 256; ++v) {
            const uint8_t byte = row[v ^ flip];
            const int64_t code = q.is_signed ? static_cast<int8_t>(byte) : byte;
            const int64_t product = a * u + b * v;
            if (code > lowest) low = std::max(low, code * (int64_t{1} << shift) - product);
            if (code < lowest + 255) high = std::min(high, (code + 1) * (int64_t{1} << shift) - 1 - product);
        }
    }
    // The largest result before its offset must fit int16: it saturates there.
    if ((255 * (a + b)) >> shift > most_whole) return false;
    int64_t addend = low + (high - low) / 2;
    if (low > high) {  // ties to even follow no plane: half up, and the kernel looks for ties
        const int64_t one = int64_t{1} << shift;
        addend = one / 2 + q.zero_point * one - a * (q.zero_point_a - lowest) - b * (q.zero_point_b - lowest);
        integer_.ties = true;
        integer_.odd = static_cast<int32_t>((q.zero_point - (addend >> shift)) & 1);
        if (std::abs(addend) > far || !proves_ties(q, a, b, addend, shift)) return false;
    }
    integer_.high_a = static_cast<int16_t>(a >> low_bits);
    integer_.high_b = static_cast<int16_t>(b >> low_bits);
    integer_.low_a = static_cast<int16_t>(a & ((1 << low_bits) - 1));
    integer_.low_b = static_cast<int16_t>(b & ((1 << low_bits) - 1));
    integer_.fraction = static_cast<int32_t>(addend & ((int64_t{1} << shift) - 1));
    integer_.whole = static_cast<int16_t>(addend >> shift);
    integer_.high_shift = high_shift;
    return true;
}

}  // namespace bytenorm
