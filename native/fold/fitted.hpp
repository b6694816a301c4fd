// Slopes and intercepts of channels, and what the arithmetics of kernels need in their place: found, proved, and
// written in blocks.
#pragma once

#include <vector>

#include "core/memory.hpp"
#include "kernels/structs.hpp"

namespace bytenorm {

class Fitted {
  public:
    Fitted(int64_t channels, const Conversion& conversion);

    // To be filled before anything else.
    float* slope() { return slope_.get(); }
    float* intercept() { return intercept_.get(); }
    float* zero_point() { return zero_point_.get(); }
    FloatParams real() const { return {slope_.get(), intercept_.get(), zero_point_.get()}; }

    // Finds on its first call what an arithmetic needs, and what is behind it where that is not proved. No two
    // calls at once; beside passes they may run, for what they write no pass reads that was planned before.
    void prepare(Arithmetic arithmetic);

    // What an arithmetic needs of this channel and those after it.
    ChannelParams from(int64_t channel, Arithmetic arithmetic) const;

    bool proves(Arithmetic arithmetic, int64_t channel) const {
        return proves_all(arithmetic) || proved_[static_cast<int>(arithmetic)][static_cast<size_t>(channel)];
    }
    bool proves_all(Arithmetic arithmetic) const {  // those that have no proofs need none
        const int a = static_cast<int>(arithmetic);
        return !proved_[a] || all_[a];
    }

  private:
    struct Finder;

    // Room for a number a channel.
    template <class T>
    T* room() {
        memory_.push_back(aligned_array<uint8_t>(channels_ * static_cast<int64_t>(sizeof(T))));
        return reinterpret_cast<T*>(memory_.back().get());
    }

    int64_t channels_;
    Conversion conversion_;
    AlignedArray<float> slope_, intercept_, zero_point_;
    std::vector<AlignedArray<uint8_t>> memory_;
    ChannelParams params_{};  // what is prepared
    AlignedArray<bool> proved_[arithmetics];
    bool all_[arithmetics] = {};
};

// The blocks of lanes of a row kernel of this width. Lane i belongs to channel i / length % channels of `params`.
int64_t block_bytes(Arithmetic arithmetic, int width);
AlignedArray<uint8_t> pack_blocks(Arithmetic arithmetic, int width, int64_t lanes, int64_t channels,
                                  const ChannelParams& params, int64_t length = 1);

}  // namespace bytenorm
