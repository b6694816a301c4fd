#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>

#include "list.hpp"
#if defined(BYTENORM_X86)
#include "cpu.hpp"
#endif

namespace bytenorm {
namespace {

std::atomic<const KernelTable*> selected{nullptr};

bool supported(Isa isa) {
#if defined(BYTENORM_X86)
    static const Cpu cpu;
    switch (isa) {
        case Isa::scalar:
            return true;
        case Isa::avx2:
            return cpu.avx2();
        case Isa::avx512:
            return cpu.avx512();
        case Isa::avx512vbmi:
            return cpu.avx512vbmi();
    }
#endif
    return isa == Isa::scalar;
}

KernelTable table_for(Isa isa) {
    KernelTable t{};
    t.isa = isa;
    t.strided_table = Strided_table_scalar;
    t.planes_fp32 = Planes_fp32_scalar;
    t.sum_table = Sum_table_scalar;
    t.exact_sum_fp64 = ExactSum_fp64_scalar;
    t.average = Average_integer_scalar;
    t.quantize = quantize_run_scalar;
    t.dequantize = dequantize_run_scalar;
    t.plane_sums = plane_sums_scalar;
    t.row_sums = row_sums_scalar;
    t.row_sums_width = 1;
#if defined(BYTENORM_X86)
    if (isa >= Isa::avx2) {
        t.planes_fp32 = Planes_fp32_avx2;
        t.planes_integer = Planes_integer_avx2;
        t.rows_fp32 = Rows_fp32_avx2;
        t.rows_integer = Rows_integer_avx2;
        t.rows_integer_width = 32;
        t.joined_fp32 = Joined_fp32_avx2;
        t.joined_integer = Joined_integer_avx2;
        t.joined_integer_parts = 1;
        t.sum_integer = Sum_integer_avx2;
        t.exact_sum_fp32 = ExactSum_fp32_avx2;
        t.average = Average_integer_avx2;
        t.quantize = quantize_run_avx2;
        t.dequantize = dequantize_run_avx2;
        t.plane_sums = plane_sums_avx2;
        t.row_sums = row_sums_avx2;
        t.row_sums_width = 32;
    }
    if (isa >= Isa::avx512) {
        t.planes_integer = Planes_integer_avx512;
        t.rows_integer = Rows_integer_avx512;
        t.sum_integer = Sum_integer_avx512;
        t.average = Average_integer_avx512;
        t.rows_integer_width = 64;
        t.joined_integer = Joined_integer_avx512;
        t.joined_integer_parts = 4;
    }
    if (isa >= Isa::avx512vbmi) {
        t.sum_integer = Sum_integer_avx512vbmi;
        t.planes_table = Planes_table_avx512vbmi;
        t.rows_integer = Rows_integer_avx512vbmi;
        t.joined_integer = Joined_integer_avx512vbmi;
        t.plane_sums = plane_sums_avx512vbmi;
        t.row_sums = row_sums_avx512vbmi;
        t.row_sums_width = 64;
    }
#endif
    return t;
}

}  // namespace

const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::scalar:
            return "scalar";
        case Isa::avx2:
            return "avx2";
        case Isa::avx512:
            return "avx512";
        case Isa::avx512vbmi:
            return "avx512vbmi";
    }
    return "";
}

std::vector<Isa> available_isas() {
    std::vector<Isa> found;
    for (Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512vbmi})
        if (supported(isa)) found.push_back(isa);
    return found;
}

const KernelTable& kernels() {
    return *selected.load(std::memory_order_acquire);
}

void select_kernels(const char* name) {
    for (Isa isa : available_isas()) {
        if (std::strcmp(name, isa_name(isa)) != 0) continue;
        static const KernelTable tables[] = {table_for(Isa::scalar), table_for(Isa::avx2), table_for(Isa::avx512),
                                             table_for(Isa::avx512vbmi)};
        selected.store(&tables[static_cast<int>(isa)], std::memory_order_release);
        return;
    }
    throw std::invalid_argument("no such instruction set here");
}

void ensure_kernels() {
    static std::mutex mutex;
    std::lock_guard<std::mutex> guard(mutex);
    if (selected.load()) return;
    const std::vector<Isa> available = available_isas();
    const char* wanted = std::getenv("BYTENORM_ISA");
    std::string names;
    for (Isa isa : available) {
        if (wanted && std::strcmp(wanted, isa_name(isa)) == 0) return select_kernels(wanted);
        names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
    }
    if (wanted)
        throw std::invalid_argument("BYTENORM_ISA='" + std::string(wanted) +
                                    "' is not available: this machine has " + names);
    select_kernels(isa_name(available.back()));
}

}  // namespace bytenorm
