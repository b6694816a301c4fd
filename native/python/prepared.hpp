// A norm prepared for many calls: its parameters, and the folds of the input quantizations it met last.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/recent.hpp"
#include "passes/add.hpp"
#include "passes/concat.hpp"

namespace bytenorm {

// Neighbouring channels with one scale and zero point.
struct PieceQuantization {
    int64_t channels;
    double scale;
    int64_t zero_point;

    bool operator==(const PieceQuantization& other) const {
        return channels == other.channels && scale == other.scale && zero_point == other.zero_point;
    }
};

// Two summands, their sum (looked at unless the norm is that of the exact sum and the arrays have none), and what
// the norm is of.
struct SumCall {
    TensorQuantization a, b, sum;
    bool is_signed, output_signed, exact;  // is_signed: all three
};

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

    // The same for a concatenation, whose channels must be as many.
    bool run_concat(const ConcatLayout& layout, const std::vector<PieceQuantization>& inputs, bool input_signed,
                    bool output_signed);

    // The same for a sum.
    bool run_add(const AddArrays& arrays, const SumCall& call);

    int64_t folds();

  private:
    static constexpr size_t remembered = 4;

    using Pieces = std::vector<PieceQuantization>;

    struct Entry {
        double scale;
        int64_t zero_point;
        bool input_signed, output_signed, finite;
        std::vector<double> scales;
        std::vector<int64_t> zero_points;
        Pieces pieces;
        std::shared_ptr<Folded> folded;
        bool used;

        Use use() { return std::exchange(used, true) ? Use::often : Use::once; }  // of one more call
        bool matches(const InputQuantization& q, const Pieces& of, bool is_input_signed,
                     bool is_output_signed) const;
    };

    struct Sum {
        SumQuantization quantization;
        std::shared_ptr<const SumFold> fold;
    };

    struct Exact {
        SumCall call;  // but for its sum
        std::shared_ptr<const ExactFold> fold;
    };

    Conversion conversion(bool input_signed, bool output_signed) const {
        return {input_signed, output_signed, relu_, output_zero_point_};
    }
    Entry& fold(const InputQuantization& input, const Pieces& pieces, bool input_signed, bool output_signed);
    std::shared_ptr<const SumFold> fold_sum(const SumQuantization& summands);
    std::shared_ptr<const ExactFold> fold_exact(const SumCall& call);

    const int64_t channels_;
    const AlignedArray<float> weight_, bias_, mean_, var_;
    const float eps_;
    const double output_scale_;
    const bool relu_;
    const int32_t output_zero_point_;
    std::mutex mutex_;
    Recent<Entry> entries_{remembered};
    Recent<Sum> sums_{remembered};
    Recent<Exact> exacts_{remembered};
};

}  // namespace bytenorm
