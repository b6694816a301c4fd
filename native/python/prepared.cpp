#include "prepared.hpp"

#include <algorithm>
#include <cmath>

#include "run.hpp"

namespace bytenorm {
namespace {

AlignedArray<float> copied(const float* values, int64_t n) {
    if (!values) return nullptr;
    auto made = aligned_array<float>(n);
    std::copy_n(values, n, made.get());
    return made;
}

bool operator==(const SumQuantization& p, const SumQuantization& q) {
    return p.factor_a == q.factor_a && p.factor_b == q.factor_b && p.zero_point_a == q.zero_point_a &&
           p.zero_point_b == q.zero_point_b && p.zero_point == q.zero_point && p.is_signed == q.is_signed;
}

}  // namespace

PreparedNorm::PreparedNorm(const NormParameters& norm, bool relu, int32_t output_zero_point)
    : channels_(norm.channels),
      weight_(copied(norm.weight, norm.channels)),
      bias_(copied(norm.bias, norm.channels)),
      mean_(copied(norm.mean, norm.channels)),
      var_(copied(norm.var, norm.channels)),
      eps_(norm.eps),
      output_scale_(norm.output_scale),
      relu_(relu),
      output_zero_point_(output_zero_point) {}

bool PreparedNorm::run(const Layout& layout, const InputQuantization& input, bool input_signed,
                       bool output_signed) {
    std::shared_ptr<const Folded> folded;
    Plan plan;
    {
        // Held by whoever holds the GIL too, and released first: no deadlock, and free at a fork.
        std::lock_guard<std::mutex> guard(mutex_);
        Entry& entry = fold(input, {}, input_signed, output_signed);
        if (!entry.finite) return false;
        plan = choose(layout, channels_, entry.use());
        prepare(plan, *entry.folded);
        folded = entry.folded;
    }
    bytenorm::run(plan, *folded, layout);
    return true;
}

bool PreparedNorm::run_concat(const ConcatLayout& layout, const Pieces& inputs, bool input_signed,
                              bool output_signed) {
    std::shared_ptr<const Folded> folded;
    Plan plan;
    {
        std::lock_guard<std::mutex> guard(mutex_);
        Entry& entry = fold({}, inputs, input_signed, output_signed);
        if (!entry.finite) return false;
        if (layout.size() == 0) return true;
        plan = choose_concat(layout, entry.use());
        prepare(plan, *entry.folded);
        folded = entry.folded;
    }
    without_gil_if_large(layout.size(), [&] { apply_concat(plan, *folded, layout); });
    return true;
}

bool PreparedNorm::run_add(const AddArrays& arrays, const SumCall& call) {
    const int64_t size = size_of(arrays);
    const bool has_codes = arrays.sum || !call.exact;
    const SumQuantization summands{static_cast<float>(call.a.scale / call.sum.scale),
                                   static_cast<float>(call.b.scale / call.sum.scale),
                                   call.a.zero_point,
                                   call.b.zero_point,
                                   call.sum.zero_point,
                                   call.is_signed};
    if (has_codes && !(std::isfinite(summands.factor_a) && std::isfinite(summands.factor_b))) return false;
    std::shared_ptr<const SumFold> summed;
    if (call.exact) {
        std::shared_ptr<const ExactFold> folded;
        {
            std::lock_guard<std::mutex> guard(mutex_);
            folded = fold_exact(call);
            if (!folded->finite()) return false;
            if (has_codes) summed = fold_sum(summands);
        }
        without_gil_if_large(size, [&] { apply_add_exact(*folded, summed.get(), arrays); });
        return true;
    }
    const Layout layout = layout_of(arrays);
    std::shared_ptr<const Folded> folded;
    Plan plan;
    {
        std::lock_guard<std::mutex> guard(mutex_);
        Entry& entry =
            fold({call.sum.scale, call.sum.zero_point, nullptr, nullptr}, {}, call.is_signed, call.output_signed);
        if (!entry.finite) return false;
        plan = choose(layout, channels_, entry.use());
        prepare(plan, *entry.folded);
        folded = entry.folded;
        summed = fold_sum(summands);
    }
    without_gil_if_large(size, [&] { apply_add(plan, *folded, *summed, arrays, layout); });
    return true;
}

int64_t PreparedNorm::folds() {
    std::lock_guard<std::mutex> guard(mutex_);
    return static_cast<int64_t>(entries_.size());
}

bool PreparedNorm::Entry::matches(const InputQuantization& q, const Pieces& of, bool is_input_signed,
                                  bool is_output_signed) const {
    if (input_signed != is_input_signed || output_signed != is_output_signed || pieces != of) return false;
    if (!of.empty()) return true;
    if (!q.scales) return scales.empty() && scale == q.scale && zero_point == q.zero_point;
    return !scales.empty() && std::equal(scales.begin(), scales.end(), q.scales) &&
           std::equal(zero_points.begin(), zero_points.end(), q.zero_points);
}

// The entry of this input quantization. With `pieces`, each channel has the quantization of its piece, and `input`
// is not looked at.
PreparedNorm::Entry& PreparedNorm::fold(const InputQuantization& input, const Pieces& pieces, bool input_signed,
                                        bool output_signed) {
    const auto is_it = [&](const Entry& e) { return e.matches(input, pieces, input_signed, output_signed); };
    return entries_.get(is_it, [&] {
        Entry e{input.scale, input.zero_point, input_signed, output_signed, false, {}, {}, pieces, nullptr, false};
        InputQuantization q = input;
        std::vector<double> scales;
        std::vector<int64_t> zero_points;
        if (!pieces.empty()) {
            for (const PieceQuantization& piece : pieces) {
                scales.insert(scales.end(), static_cast<size_t>(piece.channels), piece.scale);
                zero_points.insert(zero_points.end(), static_cast<size_t>(piece.channels), piece.zero_point);
            }
            q = {0.0, 0, scales.data(), zero_points.data()};
        } else if (q.scales) {
            e.scales.assign(q.scales, q.scales + channels_);
            e.zero_points.assign(q.zero_points, q.zero_points + channels_);
        }
        e.folded = std::make_shared<Folded>(parameters(), q, conversion(input_signed, output_signed));
        e.finite = e.folded->finite();
        return e;
    });
}

// The same for the way from two codes to that of their sum.
std::shared_ptr<const SumFold> PreparedNorm::fold_sum(const SumQuantization& summands) {
    const auto is_it = [&](const Sum& sum) { return sum.quantization == summands; };
    return sums_.get(is_it, [&] { return Sum{summands, std::make_shared<const SumFold>(summands)}; }).fold;
}

// The same for the norm of an exact sum.
std::shared_ptr<const ExactFold> PreparedNorm::fold_exact(const SumCall& call) {
    const auto is_it = [&](const Exact& exact) {
        const SumCall& known = exact.call;
        return known.a == call.a && known.b == call.b && known.is_signed == call.is_signed &&
               known.output_signed == call.output_signed;
    };
    const auto make = [&] {
        return Exact{call, std::make_shared<const ExactFold>(parameters(), call.a, call.b,
                                                             conversion(call.is_signed, call.output_signed))};
    };
    return exacts_.get(is_it, make).fold;
}

}  // namespace bytenorm
