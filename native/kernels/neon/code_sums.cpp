// Sums, NEON.
#include "kernels/loops/code_sums.hpp"
#include "kernels/list.hpp"
#include "simd/neon.hpp"

namespace bytenorm {
namespace {

using V = uint8x16_t;

template <bool Signed>
BYTENORM_INLINE V code(V v) {  // u
    return Signed ? Neon::bit_xor(v, Neon::broadcast8(0x80)) : v;
}

V filled(V u, V inside) {  // 255 outside
    return vornq_u8(u, inside);
}

template <bool Signed>
struct PlaneAccumulator {
    using Vector = Neon;
    // A step adds four codes and two squares each to a dword, and both of those are added up in the end:
    // 16384 * 4 * 65025 < 2^32. Two, because an addition waits for the one before.
    static constexpr int64_t most_steps = 16384;

    uint32x4_t sum = vdupq_n_u32(0), square = vdupq_n_u32(0), other_square = vdupq_n_u32(0);
    V low = Neon::broadcast8(255), high = Neon::broadcast8(0);

    BYTENORM_INLINE void add(V v) {
        const V u = code<Signed>(v);
        count(u);
        low = vminq_u8(low, u);
    }
    BYTENORM_INLINE void add_two(V v, V w) {
        add(v);
        add(w);
    }
    BYTENORM_INLINE void add_some(V v, V inside) {
        const V u = Neon::bit_and(code<Signed>(v), inside);  // zeros add nothing
        count(u);
        low = vminq_u8(low, filled(u, inside));
    }
    void empty_into(Sums& total) {
        total.sum += static_cast<int64_t>(vaddlvq_u32(sum));
        total.square += static_cast<int64_t>(vaddlvq_u32(vaddq_u32(square, other_square)));
        const uint8_t l = vminvq_u8(low), h = vmaxvq_u8(high);
        if (l < total.low) total.low = l;
        if (h > total.high) total.high = h;
        *this = PlaneAccumulator();
    }

  private:
    BYTENORM_INLINE void count(V u) {
        sum = vpadalq_u16(sum, vpaddlq_u8(u));
        square = vpadalq_u16(square, vmull_u8(vget_low_u8(u), vget_low_u8(u)));
        other_square = vpadalq_u16(other_square, vmull_high_u8(u, u));
        high = vmaxq_u8(high, u);
    }
};

template <bool Signed>
struct RowAccumulator {
    using Vector = Neon;
    static constexpr int rows = 2;

    uint32x4_t sum[4], square[4];
    V low, high;

    RowAccumulator(const LaneSums& s, int64_t lane)
        : low(Neon::load(s.low + lane)), high(Neon::load(s.high + lane)) {
        for (int k = 0; k < 4; ++k)
            sum[k] = vld1q_u32(s.sum + lane + 4 * k), square[k] = vld1q_u32(s.square + lane + 4 * k);
    }
    BYTENORM_INLINE void add(const V* v) {
        const V u = code<Signed>(v[0]), w = code<Signed>(v[1]);
        count(u, w);
        low = vminq_u8(low, vminq_u8(u, w));
        high = vmaxq_u8(high, vmaxq_u8(u, w));
    }
    BYTENORM_INLINE void add_some(const V* v, int present, V inside) {
        V u[2] = {Neon::broadcast8(0), Neon::broadcast8(0)};  // zeros add nothing
        for (int k = 0; k < present; ++k) {
            u[k] = Neon::bit_and(code<Signed>(v[k]), inside);
            low = vminq_u8(low, filled(u[k], inside));
            high = vmaxq_u8(high, u[k]);
        }
        count(u[0], u[1]);
    }
    void empty_into(const LaneSums& s, int64_t lane) const {
        for (int k = 0; k < 4; ++k)
            vst1q_u32(s.sum + lane + 4 * k, sum[k]), vst1q_u32(s.square + lane + 4 * k, square[k]);
        Neon::store(s.low + lane, low), Neon::store(s.high + lane, high);
    }

  private:
    BYTENORM_INLINE void count(V u, V w) {
        add_words(sum, 0, vaddl_u8(vget_low_u8(u), vget_low_u8(w)));
        add_words(sum, 2, vaddl_high_u8(u, w));
        add_squares(u), add_squares(w);  // one by one: 16 bits hold no two
    }
    BYTENORM_INLINE void add_squares(V u) {
        add_words(square, 0, vmull_u8(vget_low_u8(u), vget_low_u8(u)));
        add_words(square, 2, vmull_high_u8(u, u));
    }
    BYTENORM_INLINE static void add_words(uint32x4_t* to, int k, uint16x8_t words) {
        to[k] = vaddw_u16(to[k], vget_low_u16(words));
        to[k + 1] = vaddw_high_u16(to[k + 1], words);
    }
};

}  // namespace

void PlaneSums_integer32_neon(const PlaneSums& p) {
    p.is_signed ? walk_planes<PlaneAccumulator<true>>(p) : walk_planes<PlaneAccumulator<false>>(p);
}
void RowSums_integer32_neon(const RowSums& r) {
    r.is_signed ? walk_rows<RowAccumulator<true>>(r) : walk_rows<RowAccumulator<false>>(r);
}

}  // namespace bytenorm
