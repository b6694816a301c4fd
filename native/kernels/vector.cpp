// The kernels that the list calls `shared`: loops around an arithmetic. This file is compiled once for each
// instruction set, BYTENORM_SET being its name, and makes those of that set.
#include "arithmetic/exact_sum.hpp"
#include "arithmetic/fp32.hpp"
#include "arithmetic/integer32.hpp"
#include "arithmetic/sum.hpp"
#include "arithmetic/words16.hpp"
#include "core/isa.hpp"
#include "list.hpp"
#include "loops/average.hpp"
#include "loops/exact_sum.hpp"
#include "loops/flags.hpp"
#include "loops/joined.hpp"
#include "loops/planes.hpp"
#include "loops/quantize_vectors.hpp"
#include "loops/rows.hpp"
#include "simd/set.hpp"

namespace bytenorm {
namespace {

using V = SetVector;
static_assert(V::width == traits(Isa::BYTENORM_SET).width);
static_assert(V::most_parts == traits(Isa::BYTENORM_SET).most_parts);

// The class of each arithmetic of a channel.
template <Arithmetic>
struct Class;
template <>
struct Class<Arithmetic::fp32> {
    template <class F>
    using With = Fp32<V, F::input_signed, F::output_signed, F::relu>;
};
template <>
struct Class<Arithmetic::integer32> {
    template <class F>
    using With = Integer32<V, F::input_signed, F::output_signed, F::relu>;
};
template <>
struct Class<Arithmetic::words16> {
    template <class F>
    using With = Words16<V, F::input_signed, F::output_signed, F::relu>;
};

// The loops of each layout.
template <Arithmetic A>
void run(const Planes& p) {
    with_flags(p.conversion, [&](auto f) { walk_planes<typename Class<A>::template With<decltype(f)>>(p); });
}
template <Arithmetic A>
void run(const Rows& r) {
    with_flags(r.conversion, [&](auto f) { walk_rows<typename Class<A>::template With<decltype(f)>>(r); });
}
template <Arithmetic A>
void run(const Joined& j) {
    with_flags(j.conversion, [&](auto f) { walk_joined<typename Class<A>::template With<decltype(f)>>(j); });
}
template <Arithmetic>
void run(const Sum& s) {
    run_sum<V>(s);
}
template <Arithmetic>
void run(const ExactSum& s) {
    with_flags(s.conversion, [&](auto f) {
        walk_exact_sum<ExactIntegers<V, decltype(f)::input_signed, decltype(f)::output_signed, decltype(f)::relu>>(
            s);
    });
}
template <Arithmetic>
void run(const Average& a) {
    run_average<V>(a);
}
template <Arithmetic>
void run(const Quantize& q) {
    run_quantize_vectors<V>(q);
}
template <Arithmetic>
void run(const Dequantize& d) {
    run_dequantize_vectors<V>(d);
}

}  // namespace

#define BYTENORM_JOIN(a, b) a##b
#define BYTENORM_KERNELS_OF(set) BYTENORM_JOIN(BYTENORM_KERNELS_, set)
#define BYTENORM_DEFINE_own(layout, arithmetic, set)
#define BYTENORM_DEFINE_shared(layout, arithmetic, set)       \
    void layout##_##arithmetic##_##set(const layout& given) { \
        run<Arithmetic::arithmetic>(given);                   \
    }
#define BYTENORM_DEFINE(layout, arithmetic, set, source) BYTENORM_DEFINE_##source(layout, arithmetic, set)
BYTENORM_KERNELS_OF(BYTENORM_SET)(BYTENORM_DEFINE)

}  // namespace bytenorm
