// 16 bytes in a NEON register, which every ARMv8 has: the operations of Avx2 but those of 32-bit integers.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "part.hpp"

namespace bytenorm {
namespace {

struct Neon {
    static constexpr int width = 16;
    using Bytes = uint8x16_t;  // 16 bytes, or 8 int16
    using Dwords = int32x4_t;

    static Bytes load(const uint8_t* p) { return vld1q_u8(p); }
    static void store(uint8_t* p, Bytes v) { vst1q_u8(p, v); }
    static void store(uint8_t* p, Dwords v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
    // Only pairs of registers have a store that passes the cache, and for it, too, that is a hint.
    static void stream(uint8_t* p, Bytes v) { store(p, v); }
    static void fence() {}
    __attribute__((always_inline)) static void prefetch(const uint8_t* p) { __builtin_prefetch(p); }

    // The first n bytes, 0 < n < 16, touching no other.
    static Bytes load_partial(const uint8_t* p, int64_t n) {
        if (n < 8) return vcombine_u8(vcreate_u8(load_part(p, n)), vcreate_u8(0));
        uint64_t high;
        memcpy(&high, p + n - 8, 8);
        return vcombine_u8(vld1_u8(p), vcreate_u8(n == 8 ? 0 : high >> 8 * (16 - n)));
    }
    static void store_partial(uint8_t* p, Bytes v, int64_t n) {
        const uint64x2_t both = vreinterpretq_u64_u8(v);
        store_part(p, vgetq_lane_u64(both, 0), vgetq_lane_u64(both, 1), n);
    }

    static constexpr int most_parts = 1;
    using Lanes = int64_t;  // how many
    static Lanes lanes(int64_t, int64_t to) { return to; }
    static Bytes load_lanes(const uint8_t* p, Lanes n) { return n == width ? load(p) : load_partial(p, n); }
    static Bytes add_lanes(Bytes v, const uint8_t*, Lanes) { return v; }

    static Dwords load_params(const int32_t* p) { return vld1q_s32(p); }
    static Dwords broadcast(int32_t v) { return vdupq_n_s32(v); }
    static Bytes broadcast8(int v) { return vdupq_n_u8(static_cast<uint8_t>(v)); }
    static Bytes first_bytes(int64_t n) {  // all ones, zeros behind them
        const uint8x16_t place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        return vcgtq_u8(broadcast8(static_cast<int>(n)), place);
    }
    static Bytes bit_xor(Bytes a, Bytes b) { return veorq_u8(a, b); }
    static Bytes bit_not(Bytes v) { return vmvnq_u8(v); }
    static Bytes bit_and(Bytes a, Bytes b) { return vandq_u8(a, b); }
    static Bytes bit_or(Bytes a, Bytes b) { return vorrq_u8(a, b); }
    static Dwords bit_xor(Dwords a, Dwords b) { return veorq_s32(a, b); }
    static Dwords bit_and(Dwords a, Dwords b) { return vandq_s32(a, b); }
    static Dwords bit_or(Dwords a, Dwords b) { return vorrq_s32(a, b); }
    static Bytes average_up(Bytes a, Bytes b) { return vrhaddq_u8(a, b); }
    static Bytes subtract(Bytes a, Bytes b) { return vsubq_u8(a, b); }

    // The codes 4q to 4q+3 of two vectors, widened where the products are made; `factor` has a word for either.
    struct Pairs {
        int16x4_t a, b;
    };
    static Pairs pairs(Bytes a, Bytes b, int q) {
        const int16x8_t of_a = widened(a, q / 2), of_b = widened(b, q / 2);
        return q % 2 ? Pairs{vget_high_s16(of_a), vget_high_s16(of_b)}
                     : Pairs{vget_low_s16(of_a), vget_low_s16(of_b)};
    }
    static Dwords multiply_add(Dwords a, Pairs x, Dwords factor) {
        const int16x4_t two = vget_low_s16(vreinterpretq_s16_s32(factor));
        return vmlal_lane_s16(vmlal_lane_s16(a, x.a, two, 0), x.b, two, 1);
    }
    // Multipliers of 24 bits are put together again, ahead of a loop: products of 32 bits take them whole.
    struct WidePairs {
        int32x4_t a, b;
    };
    static WidePairs wide_pairs(Bytes a, Bytes b, int q) { return {quarter(a, q), quarter(b, q)}; }
    static Dwords multiply_add_wide(Dwords a, WidePairs x, Dwords high, Dwords low) {
        const int32x4_t of_a = multiplier(vshlq_n_s32(high, 16), vshlq_n_s32(low, 16)),
                        of_b = multiplier(high, low);
        return vmlaq_s32(vmlaq_s32(a, x.a, of_a), x.b, of_b);
    }
    static bool any_without(const Dwords (&v)[4], Dwords mask) {
        const uint32x4_t low = vandq_u32(vtstq_s32(v[0], mask), vtstq_s32(v[1], mask));
        const uint32x4_t high = vandq_u32(vtstq_s32(v[2], mask), vtstq_s32(v[3], mask));
        return vminvq_u32(vandq_u32(low, high)) == 0;
    }
    static Dwords shift_right(Dwords v, Dwords count) { return vshlq_s32(v, vnegq_s32(count)); }

    template <bool Signed>
    static Bytes pack_words(Bytes a, Bytes b) {
        const int16x8_t low = words(a), high = words(b);
        if (Signed) return vreinterpretq_u8_s8(vqmovn_high_s16(vqmovn_s16(low), high));
        return vqmovun_high_s16(vqmovun_s16(low), high);
    }
    static Bytes interleave_low(Bytes a, Bytes b) { return vzip1q_u8(a, b); }
    static Bytes interleave_high(Bytes a, Bytes b) { return vzip2q_u8(a, b); }
    static Bytes pack_dwords(Dwords a, Dwords b) { return bytes(vqmovn_high_s32(vqmovn_s32(a), b)); }
    static Bytes add_words(Bytes a, Bytes b) { return bytes(vqaddq_s16(words(a), words(b))); }
    static Bytes load_words(const int16_t* p) { return bytes(vld1q_s16(p)); }
    static Bytes broadcast16(int16_t v) { return bytes(vdupq_n_s16(v)); }
    // (2 * a * b + 2^15) >> 16 is (a * b + 2^14) >> 15; only of two -32768 is it another, and no multiplier is
    // that.
    static Bytes multiply_round(Bytes a, Bytes b) { return bytes(vqrdmulhq_s16(words(a), words(b))); }
    // Each word by its own count, which is negative here: to the left.
    static Bytes shift_words(Bytes v, Bytes count) { return bytes(vshlq_s16(words(v), words(count))); }
    static Dwords less_one_where_zero(Dwords v, Dwords what) {
        return vaddq_s32(v, vreinterpretq_s32_u32(vceqzq_s32(what)));
    }

    using Floats = float32x4_t;
    static Floats load_floats(const int32_t* p) { return vreinterpretq_f32_s32(vld1q_s32(p)); }
    static Floats broadcast_float(float v) { return vdupq_n_f32(v); }
    static Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
    static Floats subtract(Floats a, Floats b) { return vsubq_f32(a, b); }
    static Floats multiply_add(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }  // a * b + c
    static Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
    static Floats divide(Floats a, Floats b) { return vdivq_f32(a, b); }
    static Floats or_floats(Floats a, Floats b) { return floats_of(vorrq_u32(bits(a), bits(b))); }
    static Dwords round(Floats v) { return vcvtnq_s32_f32(v); }  // saturates by itself
    // Rounded; two of those in words, with a zero point; saturated; no NaN. Conversions run on one of N1's two
    // pipes, two of V1's four, for two cycles. Adding 1.5 * 2^23 rounds half to even, too, and leaves the whole
    // number in the low bits of a float from 2^23 to 2^24. Smaller floats have smaller bits, larger ones larger:
    // what is beyond 2^22 stays beyond any word. From bits of negative floats the difference may need 33:
    // 0xbf800000 of -1.5 * 2^23 - 1.
    class ToWords {
      public:
        explicit ToWords(int zero_point)
            : to_whole_(broadcast_float(12582912.0f)), to_code_(broadcast(zero_point - 0x4b400000)) {}
        Dwords round(Floats v) const { return vqaddq_s32(vreinterpretq_s32_f32(add(v, to_whole_)), to_code_); }
        static Bytes pack(Dwords a, Dwords b) { return pack_dwords(a, b); }

      private:
        Floats to_whole_;
        Dwords to_code_;
    };
    static Floats load_reals(const float* p) { return vld1q_f32(p); }
    static void store_reals(float* p, Floats v) { vst1q_f32(p, v); }
    template <bool Signed>
    static Floats load_codes(const uint8_t* p) {
        uint32_t four;
        memcpy(&four, p, 4);
        const uint8x8_t v = vcreate_u8(four);
        if (Signed) return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(v)))));
        return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(v))));
    }
    static Floats unordered(Floats a, Floats b) {
        return floats_of(vmvnq_u32(vandq_u32(vceqq_f32(a, a), vceqq_f32(b, b))));
    }
    static Floats no_floats() { return vdupq_n_f32(0); }
    static bool any(Floats v) { return vmaxvq_u32(bits(v)) != 0; }
    static Bytes in_order(Bytes v) { return v; }
    // Interleaved with zeros, then with the upper half of 2^23. A lookup of both at once (tbl) wants them in
    // neighbouring registers and takes more instructions to get them there.
    static Floats floats(Bytes v, int q) {
        const uint8x16_t zero = vdupq_n_u8(0);
        const uint16x8_t half = vreinterpretq_u16_u8(q < 2 ? vzip1q_u8(v, zero) : vzip2q_u8(v, zero));
        const uint16x8_t upper = vdupq_n_u16(0x4b00);
        return vreinterpretq_f32_u16(q % 2 ? vzip2q_u16(half, upper) : vzip1q_u16(half, upper));
    }

    template <bool Signed>
    static Bytes max(Bytes a, Bytes b) {
        if (Signed) return vreinterpretq_u8_s8(vmaxq_s8(vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b)));
        return vmaxq_u8(a, b);
    }

  private:
    static int16x8_t words(Bytes v) { return vreinterpretq_s16_u8(v); }
    static Bytes bytes(int16x8_t v) { return vreinterpretq_u8_s16(v); }
    static uint32x4_t bits(Floats v) { return vreinterpretq_u32_f32(v); }
    static Floats floats_of(uint32x4_t v) { return vreinterpretq_f32_u32(v); }
    static int32x4_t quarter(Bytes v, int q) {  // signed bytes
        const int8x16_t s = vreinterpretq_s8_u8(v);
        const int16x8_t half = q < 2 ? vmovl_s8(vget_low_s8(s)) : vmovl_high_s8(s);
        return q % 2 ? vmovl_high_s16(half) : vmovl_s16(vget_low_s16(half));
    }
    // 256 times the upper word of one, and the highest byte of the other.
    static int32x4_t multiplier(Dwords high, Dwords low) {
        const uint32x4_t rest = vshrq_n_u32(vreinterpretq_u32_s32(low), 24);
        return vaddq_s32(vshlq_n_s32(vshrq_n_s32(high, 16), 8), vreinterpretq_s32_u32(rest));
    }
    static int16x8_t widened(Bytes v, int half) {
        return vreinterpretq_s16_u16(half ? vmovl_high_u8(v) : vmovl_u8(vget_low_u8(v)));
    }
};

}  // namespace
}  // namespace bytenorm
