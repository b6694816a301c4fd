#include "prepared.hpp"

#include <algorithm>

#include "run.hpp"

namespace bytenorm {
namespace {

AlignedArray<float> copied(const float* values, int64_t n) {
    if (!values) return nullptr;
    auto made = aligned_array<float>(n);
    std::copy_n(values, n, made.get());
    return made;
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
        Entry& entry = fold(input, input_signed, output_signed);
        if (!entry.finite) return false;
        plan = choose(layout, channels_, entry.uses++ > 0 ? Use::often : Use::once);
        prepare(plan, *entry.folded);
        folded = entry.folded;
    }
    bytenorm::run(plan, *folded, layout);
    return true;
}

int64_t PreparedNorm::folds() {
    std::lock_guard<std::mutex> guard(mutex_);
    return static_cast<int64_t>(entries_.size());
}

bool PreparedNorm::Entry::matches(const InputQuantization& q, bool is_input_signed, bool is_output_signed) const {
    if (input_signed != is_input_signed || output_signed != is_output_signed) return false;
    if (!q.scales) return scales.empty() && scale == q.scale && zero_point == q.zero_point;
    return !scales.empty() && std::equal(scales.begin(), scales.end(), q.scales) &&
           std::equal(zero_points.begin(), zero_points.end(), q.zero_points);
}

// The entry of this input quantization, moved to the front; the least recently used one makes room.
PreparedNorm::Entry& PreparedNorm::fold(const InputQuantization& input, bool input_signed, bool output_signed) {
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
        if (!entry->matches(input, input_signed, output_signed)) continue;
        std::rotate(entries_.begin(), entry, entry + 1);
        return entries_.front();
    }
    Entry e{input.scale, input.zero_point, input_signed, output_signed, false, {}, {}, nullptr, 0};
    if (input.scales) {
        e.scales.assign(input.scales, input.scales + channels_);
        e.zero_points.assign(input.zero_points, input.zero_points + channels_);
    }
    e.folded = std::make_shared<Folded>(parameters(), input,
                                        Conversion{input_signed, output_signed, relu_, output_zero_point_});
    e.finite = e.folded->finite();
    if (entries_.size() == remembered) entries_.pop_back();
    entries_.insert(entries_.begin(), std::move(e));
    return entries_.front();
}

}  // namespace bytenorm
