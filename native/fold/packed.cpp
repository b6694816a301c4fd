#include "packed.hpp"

#include <algorithm>

namespace bytenorm {

PackedRows pack_rows(const KernelTable& kernels, const Fitted& fitted, int64_t lanes, int64_t channels,
                     Arithmetic wanted, int64_t length) {
    PackedRows packed{};
    packed.kernels = &kernels;
    packed.lanes = lanes;
    const int width = packed.kernels->get<Rows>(wanted).width();
    const auto all_proved = [&](Arithmetic arithmetic, int64_t start, int64_t end) {
        if (fitted.proves_all(arithmetic)) return true;
        for (int64_t lane = start; lane < end; ++lane)
            if (!fitted.proves(arithmetic, lane / length % channels)) return false;
        return true;
    };
    for (int64_t start = 0; start < lanes; start += width) {
        const int64_t end = std::min(start + width, lanes);
        Arithmetic arithmetic = wanted;
        while (!all_proved(arithmetic, start, end)) arithmetic = behind(arithmetic);
        if (!packed.runs.empty() && packed.runs.back().arithmetic == arithmetic)
            packed.runs.back().lanes += end - start;
        else
            packed.runs.push_back({start, end - start, arithmetic});
    }
    for (const RowRun& run : packed.runs) {
        auto& blocks = packed.blocks[static_cast<int>(run.arithmetic)];
        const int of = packed.kernels->get<Rows>(run.arithmetic).width();
        if (!blocks)
            blocks = pack_blocks(run.arithmetic, of, lanes, channels, fitted.from(0, run.arithmetic), length);
    }
    return packed;
}

}  // namespace bytenorm
