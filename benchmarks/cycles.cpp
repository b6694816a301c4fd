// The inner loops of NEON kernels, and of those in plain C++, a function each: benchmarks/cycles.py counts what
// they cost. `bytes` a step is in the name of a function, behind the last underscore.
#include "kernels/arithmetic/exact_sum.hpp"
#include "kernels/arithmetic/fp32.hpp"
#include "kernels/arithmetic/sum.hpp"
#include "kernels/arithmetic/words16.hpp"
#include "kernels/loops/average.hpp"
#include "kernels/loops/quantize_vectors.hpp"
#include "kernels/neon/code_sums.cpp"
#include "kernels/scalar/element.hpp"
#include "simd/neon.hpp"

namespace bytenorm {

using Words = Words16<Neon, false, false, false>;
using Real = Fp32<Neon, false, false, false>;
using Exact = ExactIntegers<Neon, false, false, false>;

template <class Arithmetic>
BYTENORM_INLINE void walk(const Arithmetic& arithmetic, const typename Arithmetic::Params& p, const uint8_t* x,
                          uint8_t* y, int64_t n) {
    for (int64_t i = 0; i < n; i += 32) {
        Neon::Bytes v[2] = {Neon::load(x + i), Neon::load(x + i + 16)};
        arithmetic.apply(v, p);
        Neon::store(y + i, v[0]), Neon::store(y + i + 16, v[1]);
    }
}

extern "C" {
void copy_32(const uint8_t* x, uint8_t* y, int64_t n) {
    for (int64_t i = 0; i < n; i += 32) {
        const Neon::Bytes v[2] = {Neon::load(x + i), Neon::load(x + i + 16)};
        Neon::store(y + i, v[0]), Neon::store(y + i + 16, v[1]);
    }
}
void planes_words16_32(const Planes& p, int64_t c) {
    walk(Words(p.conversion), Words::broadcast(p.params, c), p.x, p.y, p.length);
}
void rows_words16_32(const Rows& r, const Words::Block& block) {
    walk(Words(r.conversion), Words::load(block), r.x, r.y, r.pixels);
}
void planes_fp32_32(const Planes& p, int64_t c) {
    walk(Real(p.conversion), Real::broadcast(p.params, c), p.x, p.y, p.length);
}
void rows_fp32_32(const Rows& r, const Real::Block& block) {
    walk(Real(r.conversion), Real::load(block), r.x, r.y, r.pixels);
}
void sum_integer32_16(const Sum& given) {
    const Sum s = given;
    const SumArithmetic<Neon, false, false> arithmetic(s.integer);
    for (int64_t i = 0; i < s.n; i += 16)
        Neon::store(s.y + i, arithmetic.add(Neon::load(s.a + i), Neon::load(s.b + i)));
}
bool exactsum_integer32_32(const ExactSum& given, const Exact::Block& block) {
    const ExactSum s = given;
    const Exact arithmetic(s.conversion);
    const auto p = Exact::load(block);
    for (int64_t i = 0; i < s.length; i += 32) {
        const Neon::Bytes a[2] = {Neon::load(s.a + i), Neon::load(s.a + i + 16)};
        const Neon::Bytes b[2] = {Neon::load(s.b + i), Neon::load(s.b + i + 16)};
        Exact::Sums sums[2];
        arithmetic.add(a, b, p, sums);
        for (int k = 0; k < 2; ++k) {
            if (Exact::unsure(sums[k], p)) return false;
            Neon::store(s.y + i + 16 * k, arithmetic.codes(sums[k], p));
        }
    }
    return true;
}
void average_bytes_16(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d, uint8_t* y,
                      int64_t n) {
    for (int64_t i = 0; i < n; i += 16)
        Neon::store(y + i,
                    average<Neon>(Neon::load(a + i), Neon::load(b + i), Neon::load(c + i), Neon::load(d + i)));
}
bool quantize_fp32_16(const Quantize& q) {
    return QuantizeVectors<Neon, Rounding::fused, false, false>(q).run();
}
void dequantize_fp32_16(const Dequantize& d) {
    dequantize_vectors<Neon, false>(d);
}

void planesums_integer32_32(const PlaneSums& given, Sums& totals) {
    const PlaneSums p = given;
    PlaneAccumulator<false> sums;
    for (int64_t i = 0; i < p.length; i += 32) sums.add_two(Neon::load(p.x + i), Neon::load(p.x + i + 16));
    sums.empty_into(totals);
}
void rowsums_integer32_32(const RowSums& given) {
    const RowSums r = given;
    RowAccumulator<false> sums(r.total, 0);
    for (int64_t i = 0; i < r.rows; i += 2) {
        const Neon::Bytes v[2] = {Neon::load(r.x + i * r.stride), Neon::load(r.x + (i + 1) * r.stride)};
        sums.add(v);
    }
    sums.empty_into(r.total, 0);
}

// Plain C++.
void table_scalar_4(const uint8_t* __restrict table, const uint8_t* __restrict x, uint8_t* __restrict y,
                    int64_t n) {
    for (int64_t j = 0; j + 4 <= n; j += 4) {
        const uint8_t a = table[x[j]], b = table[x[j + 1]], c = table[x[j + 2]], d = table[x[j + 3]];
        y[j] = a, y[j + 1] = b, y[j + 2] = c, y[j + 3] = d;
    }
}
void fp32_scalar_1(const Planes& p, const float* slope, const float* intercept, const float* zero_point) {
    for (int64_t j = 0; j < p.length; ++j) p.y[j] = element(p.x[j], *slope, *intercept, *zero_point, p.conversion);
}
void exactsum_scalar_1(const ExactSum& s) {
    for (int64_t i = 0; i < s.length; ++i) {
        const double of_a = static_cast<double>(*s.slope_a) * (s.a[i] - s.zero_point_a);
        const double of_b = static_cast<double>(*s.slope_b) * (s.b[i] - s.zero_point_b);
        s.y[i] = exact_element(of_a + (of_b + static_cast<double>(*s.intercept)), s.conversion);
    }
}
}

}  // namespace bytenorm
