// The per-channel part of batch norm, done once: four parameters and two quantizations become a slope and an
// intercept, and from these, when a kernel wants them, tables, proved integers, and blocks of lanes.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "kernels/structs.hpp"

namespace bytenorm {

template <class T>
struct FreeAligned {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t{64}); }
};
template <class T>
using AlignedArray = std::unique_ptr<T[], FreeAligned<T>>;

template <class T>
AlignedArray<T> aligned_array(int64_t n) {  // zeroed, on a cache line; throws std::bad_alloc
    const size_t bytes = (static_cast<size_t>(n) * sizeof(T) + 64) / 64 * 64;
    void* p = ::operator new(bytes, std::align_val_t{64});  // std::aligned_alloc is not everywhere
    __builtin_memset(p, 0, bytes);
    return AlignedArray<T>(static_cast<T*>(p));
}

// How the input's bytes stand for numbers; `scales` and `zero_points` are null unless per channel.
struct InputQuantization {
    double scale;
    int64_t zero_point;
    const double* scales;
    const int64_t* zero_points;

    double scale_of(int64_t c) const { return scales ? scales[c] : scale; }
    int64_t zero_point_of(int64_t c) const { return zero_points ? zero_points[c] : zero_point; }
};

// Batch norm's own parameters; a null weight means ones, a null bias zeros.
struct NormParameters {
    int64_t channels;
    const float *weight, *bias, *mean, *var;
    float eps;
    double output_scale;
};

// Lane i belongs to channel i % channels.
template <int W>
AlignedArray<ParamBlock<W>> pack_real(int64_t lanes, int64_t channels, const FloatParams& p) {
    auto blocks = aligned_array<ParamBlock<W>>((lanes + W - 1) / W);
    for (int64_t lane = 0, c = 0; lane < lanes; ++lane, c = c + 1 == channels ? 0 : c + 1) {
        ParamBlock<W>& block = blocks[static_cast<size_t>(lane / W)];
        const int slot = real_slot<W>(static_cast<int>(lane % W));
        __builtin_memcpy(&block.first[slot], p.slope + c, 4);
        __builtin_memcpy(&block.second[slot], p.intercept + c, 4);
        __builtin_memcpy(&block.third[slot], p.zero_point + c, 4);
    }
    return blocks;
}
template <int W>
AlignedArray<ParamBlock<W>> pack_integer(int64_t lanes, int64_t channels, const IntegerParams& p) {
    auto blocks = aligned_array<ParamBlock<W>>((lanes + W - 1) / W);
    for (int64_t lane = 0, c = 0; lane < lanes; ++lane, c = c + 1 == channels ? 0 : c + 1) {
        ParamBlock<W>& block = blocks[static_cast<size_t>(lane / W)];
        const int in_block = static_cast<int>(lane % W), slot = integer_slot<W>(in_block);
        block.first[slot] = integer_factor(in_block, p.multiplier[c]);
        block.second[slot] = p.addend[c];
        block.third[slot] = integer_count(in_block, p.shift[c]);
    }
    return blocks;
}

// The channels from `first_lane` on, `lanes` of them, that one arithmetic walks.
struct RowRun {
    int64_t first_lane, lanes;
    bool integer;
};

struct KernelTable;

// Parameters of neighbouring lanes, packed as a row kernel reads them.
struct PackedRows {
    const KernelTable* kernels;           // for these they are packed: another set has other widths
    AlignedArray<ParamBlock<64>> wide;    // integer, kernels of 64 bytes
    AlignedArray<ParamBlock<32>> narrow;  // integer, kernels of 32 bytes
    AlignedArray<ParamBlock<32>> real;    // fp32, where a run needs it
    std::vector<RowRun> runs;
};

class Folded {
  public:
    Folded(const NormParameters& norm, const InputQuantization& input, const Conversion& conversion);

    // Requantization: intercept 0, slope input scale / output scale.
    Folded(int64_t channels, const InputQuantization& input, double output_scale, const Conversion& conversion);

    int64_t channels() const { return channels_; }
    const Conversion& conversion() const { return conversion_; }
    bool finite() const;  // every slope and intercept is
    FloatParams real() const { return {slope_.get(), intercept_.get(), zero_point_.get()}; }

    // Each builds what it names on its first call, which must not run beside another call; const access is
    // free for all threads afterwards.
    void prepare_table();
    void prepare_integer();
    void prepare_rows(bool integer);

    bool has_table() const { return table_ != nullptr; }
    bool has_integer() const { return proved_ != nullptr; }
    bool has_rows(bool integer) const { return rows_[integer] != nullptr; }
    const uint8_t* table() const { return table_.get(); }
    IntegerParams integer() const { return {multiplier_.get(), addend_.get(), shift_.get()}; }
    bool proved(int64_t channel) const { return proved_[static_cast<size_t>(channel)]; }
    const PackedRows& rows(bool integer) const { return *rows_[integer]; }

    // Lane i belongs to channel i % channels: more lanes than channels puts several pixels side by side.
    PackedRows pack(int64_t lanes, bool integer) const;

  private:
    void allocate();

    int64_t channels_;
    Conversion conversion_;
    AlignedArray<float> slope_, intercept_, zero_point_;
    AlignedArray<uint8_t> table_;
    AlignedArray<int32_t> multiplier_, addend_, shift_;
    AlignedArray<bool> proved_;
    std::unique_ptr<PackedRows> rows_[2];
};

}  // namespace bytenorm
