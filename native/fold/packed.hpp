// Parameters of the lanes of rows, packed as row kernels read them.
#pragma once

#include <vector>

#include "fitted.hpp"
#include "kernels/dispatch.hpp"

namespace bytenorm {

// The lanes from `first_lane` on that one arithmetic computes.
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
};

// Lane i belongs to channel i / length % channels: more lanes than channels puts several pixels side by side, or
// all planes of an image. A block is computed by the first arithmetic, from `wanted` on, that all of its channels
// are proved for.
PackedRows pack_rows(const KernelTable& kernels, const Fitted& fitted, int64_t lanes, int64_t channels,
                     Arithmetic wanted, int64_t length = 1);

}  // namespace bytenorm
