// Which kernels this process runs: chosen once, when the module is imported or the operators are registered.
#pragma once

#include <vector>

#include "quantize/quantize.hpp"
#include "statistics/statistics.hpp"
#include "structs.hpp"

namespace bytenorm {

enum class Isa { scalar, avx2, avx512, avx512vbmi };

const char* isa_name(Isa isa);
std::vector<Isa> available_isas();  // what this CPU and this build can run, slowest first

// The best kernel of each kind for one instruction set; null where the set has none.
struct KernelTable {
    Isa isa;
    void (*planes_table)(const Planes&);
    void (*planes_fp32)(const Planes&);  // never null
    void (*planes_integer)(const Planes&);
    void (*rows_fp32)(const Rows&);  // null: use strided_table
    void (*rows_integer)(const Rows&);
    int rows_integer_width;
    void (*joined_fp32)(const Joined&);  // null where rows_fp32 is
    void (*joined_integer)(const Joined&);
    int joined_integer_parts;                 // arrays from which a vector may be put together; fp32: from one
    void (*sum_table)(const Sum&);            // never null
    void (*sum_integer)(const Sum&);          // null: use sum_table
    void (*exact_sum_fp64)(const ExactSum&);  // never null
    void (*exact_sum_fp32)(const ExactSum&);  // null: use exact_sum_fp64
    void (*strided_table)(const Strided&);    // never null
    void (*average)(const Average&);          // never null
    bool (*quantize)(const QuantizeRun&);
    void (*dequantize)(const DequantizeRun&);
    void (*plane_sums)(const PlaneSums&);
    void (*row_sums)(const RowSums&);
    int row_sums_width;
};

constexpr int rows_fp32_width = 32;  // there is one fp32 row kernel, see docs/kernels.md

const KernelTable& kernels();  // stays what it is when another is selected

// Selects the table of an instruction set by name; throws std::invalid_argument unless it is available.
void select_kernels(const char* name);

// Unless a table is selected, selects what the environment variable BYTENORM_ISA names, or else the best;
// throws std::invalid_argument, with words for the user, if what it names is not available.
void ensure_kernels();

}  // namespace bytenorm
