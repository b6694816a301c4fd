// Quantize and dequantize in vectors, with the loops of quantize.hpp for what is shorter than one, and for
// double. Never wider than 256 bits, as all float32.
#pragma once

#include "kernels/structs.hpp"
#include "quantize.hpp"

namespace bytenorm {
namespace {

// One factor and zero point for all, or with `Step` each number's own.
template <class V, Rounding Rule, bool Step, bool Signed>
class QuantizeVectors {
    using Bytes = typename V::Bytes;
    using Dwords = typename V::Dwords;
    using Floats = typename V::Floats;
    static constexpr int quarter = V::width / 4;
    static constexpr bool before =
        Rule == Rounding::fused || Rule == Rounding::product;  // the zero point is added

  public:
    explicit QuantizeVectors(const Quantize& q)
        : q_(q), factor_(V::broadcast_float(q.factor[0])), zero_(V::broadcast_float(q.zero_point[0])) {}

    // Returns whether there is a NaN.
    bool run() const {
        auto nan = V::no_floats();
        int64_t i = 0;
        for (; i + V::width <= q_.n; i += V::width) nan = one(i, nan);
        if (i < q_.n) nan = one(q_.n - V::width, nan);  // what it shares with the one before comes out the same
        return V::any(nan);
    }

  private:
    BYTENORM_INLINE Floats one(int64_t i, Floats nan) const {
        Floats x[4];
        Dwords y[4];
        for (int k = 0; k < 4; ++k) x[k] = V::load_reals(q_.x + i + k * quarter);
        for (int k = 0; k < 4; ++k) {
            const int64_t at = i + k * quarter;
            const Floats factor = Step ? V::load_reals(q_.factor + at) : factor_;
            const Floats zero = Step && before ? V::load_reals(q_.zero_point + at) : zero_;
            Floats v;
            if (Rule == Rounding::fused)
                v = V::multiply_add(x[k], factor, zero);
            else if (Rule == Rounding::divided)
                v = V::divide(x[k], factor);
            else
                v = V::multiply(x[k], factor);
            if (Rule == Rounding::product) v = V::add(v, zero);
            y[k] = V::round(v);
        }
        Bytes low = V::pack_dwords(y[0], y[1]), high = V::pack_dwords(y[2], y[3]);
        if (!before) {  // whole numbers: what 16 bits do not hold is saturated, and stays so with the zero point
            low = V::add_words(low, zeros(i)), high = V::add_words(high, zeros(i + V::width / 2));
        }
        V::store(q_.y + i, V::in_order(V::template pack_words<Signed>(low, high)));
        return V::or_floats(nan, V::or_floats(V::unordered(x[0], x[1]), V::unordered(x[2], x[3])));
    }

    BYTENORM_INLINE Bytes zeros(int64_t i) const {
        if (!Step) return V::broadcast16(static_cast<int16_t>(q_.zero_point[0]));
        const float* from = q_.zero_point + i;
        return V::pack_dwords(V::round(V::load_reals(from)), V::round(V::load_reals(from + quarter)));
    }

    const Quantize q_;  // a copy: a store of bytes may change anything that it does not own
    Floats factor_, zero_;
};

template <class V, Rounding Rule>
bool quantize_vectors(const Quantize& q) {
    if (q.step)
        return q.output_signed ? QuantizeVectors<V, Rule, true, true>(q).run()
                               : QuantizeVectors<V, Rule, true, false>(q).run();
    return q.output_signed ? QuantizeVectors<V, Rule, false, true>(q).run()
                           : QuantizeVectors<V, Rule, false, false>(q).run();
}

template <class V>
void run_quantize_vectors(const Quantize& q) {
    if (q.n < V::width) return run_quantize(q);
    bool nan = false;
    switch (q.rounding) {
        case Rounding::fused:
            nan = quantize_vectors<V, Rounding::fused>(q);
            break;
        case Rounding::product:
            nan = quantize_vectors<V, Rounding::product>(q);
            break;
        case Rounding::after:
            nan = quantize_vectors<V, Rounding::after>(q);
            break;
        case Rounding::divided:
            nan = quantize_vectors<V, Rounding::divided>(q);
            break;
        case Rounding::wide:
            return run_quantize(q);
    }
    *q.nan = *q.nan || nan;
}

template <class V, bool Signed>
void dequantize_vectors(const Dequantize& d) {
    const auto scale = V::broadcast_float(static_cast<float>(d.scale[0])),
               zero = V::broadcast_float(d.zero_point[0]);
    const uint8_t* x = d.x;  // copies, for the same reason
    float* y = d.y;
    const int64_t n = d.n;
    const auto one = [&](int64_t i) {
        for (int k = 0; k < 4; ++k) {
            const int64_t at = i + k * (V::width / 4);
            const auto code = V::template load_codes<Signed>(x + at);
            V::store_reals(y + at, V::multiply(V::subtract(code, zero), scale));
        }
    };
    int64_t i = 0;
    for (; i + V::width <= n; i += V::width) one(i);
    if (i < n) one(n - V::width);
}

// In double, for channels, the compiler's vectors are enough.
template <class V>
void run_dequantize_vectors(const Dequantize& d) {
    if (d.per_channel || d.n < V::width) return run_dequantize(d);
    d.input_signed ? dequantize_vectors<V, true>(d) : dequantize_vectors<V, false>(d);
}

}  // namespace
}  // namespace bytenorm
