// Parameters of neighbouring lanes, packed as a row kernel reads them: blocks of its width.
#pragma once

#include <vector>

#include "core/memory.hpp"
#include "kernels/dispatch.hpp"

namespace bytenorm {

// Lane i belongs to channel i % channels of `params`.
AlignedArray<uint8_t> pack_blocks(Arithmetic arithmetic, int width, int64_t lanes, int64_t channels,
                                  const ChannelParams& params);

// The lanes from `first` on that one arithmetic computes.
struct RowRun {
    int64_t first_lane, lanes;
    Arithmetic arithmetic;
};

// Rows of one folded norm.
struct PackedRows {
    const KernelTable* kernels;  // for these they are packed: another set has other widths
    int64_t lanes;
    std::vector<RowRun> runs;
    AlignedArray<uint8_t> blocks[arithmetics];  // of all lanes, for arithmetics that a run has

    // `lane` is a multiple of the kernel's width.
    template <class Run>
    const void* at(const Kernel<Run>& kernel, Arithmetic arithmetic, int64_t lane) const {
        return blocks[static_cast<int>(arithmetic)].get() +
               lane / kernel.width() * block_bytes(arithmetic, kernel.width());
    }

    static int64_t block_bytes(Arithmetic arithmetic, int width);
};

}  // namespace bytenorm
