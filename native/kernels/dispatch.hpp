// Which kernels this process runs: chosen once, when the module is imported or the operators are registered.
#pragma once

#include "arithmetic.hpp"
#include "core/isa.hpp"
#include "statistics/statistics.hpp"
#include "structs.hpp"

namespace bytenorm {

// A kernel of one layout; none is false.
template <class Run>
struct Kernel {
    void (*function)(const Run&) = nullptr;
    Isa isa = Isa::scalar;  // the one it is compiled for

    explicit operator bool() const { return function; }
    void operator()(const Run& run) const { function(run); }
    int width() const { return traits(isa).width; }
};

template <class Run>
struct KernelsOf {
    Kernel<Run> kernels[arithmetics];
};

// The best kernels for one instruction set. Each has these: Strided in tables, Planes in fp32, Sum in tables,
// ExactSum and ExactSums in fp64, Average, Quantize, Dequantize, PlaneSums, RowSums.
class KernelTable : KernelsOf<Planes>,
                    KernelsOf<Rows>,
                    KernelsOf<Joined>,
                    KernelsOf<Strided>,
                    KernelsOf<Sum>,
                    KernelsOf<ExactSum>,
                    KernelsOf<ExactSums>,
                    KernelsOf<Average>,
                    KernelsOf<Quantize>,
                    KernelsOf<Dequantize>,
                    KernelsOf<PlaneSums>,
                    KernelsOf<RowSums> {
  public:
    explicit KernelTable(Isa isa);

    Isa isa() const { return isa_; }

    template <class Run>
    const Kernel<Run>& get(Arithmetic arithmetic) const {
        return KernelsOf<Run>::kernels[static_cast<int>(arithmetic)];
    }

  private:
    Isa isa_;
};

const KernelTable& kernels();  // stays what it is when another is selected

template <class Run>
const Kernel<Run>& kernel(Arithmetic arithmetic) {
    return kernels().get<Run>(arithmetic);
}

// Selects the table of an instruction set by name; throws std::invalid_argument unless it is available.
void select_kernels(const char* name);

// Unless a table is selected, selects what the environment variable BYTENORM_ISA names, or else the best;
// throws std::invalid_argument, with words for the user, if what it names is not available.
void ensure_kernels();

}  // namespace bytenorm
