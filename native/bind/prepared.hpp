// A norm prepared for many calls: its parameters, and the folds of the input quantizations it met last.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "../batch_norm/apply.hpp"

namespace bytenorm {

class PreparedNorm {
  public:
    // Copies the parameters, which must be valid.
    PreparedNorm(const NormParameters& norm, bool relu, int32_t output_zero_point);

    int64_t channels() const { return channels_; }
    int32_t output_zero_point() const { return output_zero_point_; }
    NormParameters parameters() const {
        return {channels_, weight_.get(), bias_.get(), mean_.get(), var_.get(), eps_, output_scale_};
    }

    // One pass over `layout`, whose channels must be as many; false if a slope or an intercept is not finite.
    // To be called with Python's lock, which large work releases.
    bool run(const Layout& layout, const InputQuantization& input, bool input_signed, bool output_signed);

    int64_t folds();

  private:
    static constexpr size_t remembered = 4;

    struct Entry {
        double scale;
        int64_t zero_point;
        bool input_signed, output_signed, finite;
        std::vector<double> scales;
        std::vector<int64_t> zero_points;
        std::shared_ptr<Folded> folded;
        int64_t uses;

        bool matches(const InputQuantization& q, bool is_input_signed, bool is_output_signed) const;
    };

    Entry& fold(const InputQuantization& input, bool input_signed, bool output_signed);

    const int64_t channels_;
    const AlignedArray<float> weight_, bias_, mean_, var_;
    const float eps_;
    const double output_scale_;
    const bool relu_;
    const int32_t output_zero_point_;
    std::mutex mutex_;
    std::vector<Entry> entries_;
};

}  // namespace bytenorm
