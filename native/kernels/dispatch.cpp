#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>

#include "list.hpp"

namespace bytenorm {
namespace {

std::atomic<const KernelTable*> selected{nullptr};

// One for each available set, made when the first is selected, and kept: passes that run hold on to theirs.
const std::vector<KernelTable>& tables() {
    static const std::vector<KernelTable>& made = *new std::vector<KernelTable>([] {
        std::vector<KernelTable> all;
        for (Isa isa : available_isas()) all.emplace_back(isa);
        return all;
    }());
    return made;
}

}  // namespace

// The list is in the order of the sets, so that a better kernel takes the place of the one before.
KernelTable::KernelTable(Isa isa) : isa_(isa) {
#define BYTENORM_ENTER(layout, arithmetic, set, source)                                                         \
    if (includes(isa, Isa::set))                                                                                \
        KernelsOf<layout>::kernels[static_cast<int>(Arithmetic::arithmetic)] = {&layout##_##arithmetic##_##set, \
                                                                                Isa::set};
    BYTENORM_KERNELS(BYTENORM_ENTER)
#undef BYTENORM_ENTER
}

const KernelTable& kernels() {
    return *selected.load(std::memory_order_acquire);
}

void select_kernels(const char* name) {
    for (const KernelTable& table : tables()) {
        if (std::strcmp(name, isa_name(table.isa())) != 0) continue;
        selected.store(&table, std::memory_order_release);
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
