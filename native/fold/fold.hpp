// The per-channel part of batch norm, done once: four parameters and two quantizations become a slope and an
// intercept, and from these, when a kernel wants them, tables, proved integers, and blocks of lanes.
#pragma once

#include <memory>

#include "packed.hpp"

namespace bytenorm {

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

class Folded {
  public:
    Folded(const NormParameters& norm, const InputQuantization& input, const Conversion& conversion);

    // Requantization: intercept 0, slope input scale / output scale.
    Folded(int64_t channels, const InputQuantization& input, double output_scale, const Conversion& conversion);

    int64_t channels() const { return channels_; }
    const Conversion& conversion() const { return conversion_; }
    bool finite() const;  // every slope and intercept is
    FloatParams real() const { return fitted_.real(); }

    // Builds on its first call what an arithmetic needs. No two calls at once; beside passes they may run, for
    // what they write no pass reads that was planned before.
    void prepare(Arithmetic arithmetic) { fitted_.prepare(arithmetic); }
    // And blocks of rows, for these kernels; of so many lanes, too, unless 0.
    void prepare_rows(const KernelTable& kernels, Arithmetic arithmetic, int64_t lanes);
    // And blocks of all planes of an image, `lanes` bytes in all.
    void prepare_images(const KernelTable& kernels, Arithmetic arithmetic, int64_t lanes);

    // What an arithmetic needs of this channel and those after it.
    ChannelParams from(int64_t channel, Arithmetic arithmetic) const { return fitted_.from(channel, arithmetic); }
    const uint8_t* table(int64_t channel) const { return from(channel, Arithmetic::table).table; }
    const PackedRows& rows(Arithmetic arithmetic) const { return *rows_[static_cast<int>(arithmetic)]; }
    const PackedRows& side_by_side(Arithmetic arithmetic) const {
        return *side_by_side_[static_cast<int>(arithmetic)];
    }
    // Those of the first length of planes that was prepared.
    const PackedRows& images(Arithmetic arithmetic) const { return *images_[static_cast<int>(arithmetic)]; }

    // What computes a channel where `wanted` was prepared: that, or what is behind it if it is not proved.
    Arithmetic arithmetic_of(int64_t channel, Arithmetic wanted) const {
        while (!fitted_.proves(wanted, channel)) wanted = behind(wanted);
        return wanted;
    }
    // How many channels from this one on, `most` at most, it computes as well.
    int64_t alike(int64_t channel, int64_t most, Arithmetic wanted) const {
        if (fitted_.proves_all(wanted)) return most;
        const Arithmetic arithmetic = arithmetic_of(channel, wanted);
        int64_t n = 1;
        while (n < most && arithmetic_of(channel + n, wanted) == arithmetic) ++n;
        return n;
    }

  private:
    int64_t channels_;
    Conversion conversion_;
    Fitted fitted_;
    std::unique_ptr<PackedRows> rows_[arithmetics], side_by_side_[arithmetics], images_[arithmetics];
};

}  // namespace bytenorm
