// The sum of two 8-bit codes in a third quantization: exact, as a table of all pairs, and in integers where
// these are proved to give the table.
#pragma once

#include "fold.hpp"
#include "kernels/structs.hpp"

namespace bytenorm {

// One scale and zero point each; `factor` is the input's scale over the sum's, as float32.
struct SumQuantization {
    float factor_a, factor_b;
    int64_t zero_point_a, zero_point_b, zero_point;
    bool is_signed;  // all three
};

class SumFold {
  public:
    explicit SumFold(const SumQuantization& q);

    const uint8_t* table() const { return table_.get(); }  // [code of a][code of b], as bytes
    const SumInteger& integer() const { return integer_; }
    bool proved() const { return proved_; }

  private:
    bool fit(const SumQuantization& q);
    bool proves_ties(const SumQuantization& q, int64_t a, int64_t b, int64_t addend, int shift) const;

    AlignedArray<uint8_t> table_;
    SumInteger integer_{};
    bool proved_ = false;
};

}  // namespace bytenorm
