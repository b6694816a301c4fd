#include "packed.hpp"

#include <cstring>

namespace bytenorm {
namespace {

static_assert(sizeof(ParamBlock<32>) == 3 * 32 * sizeof(int32_t));
static_assert(sizeof(WordBlock<32>) == 7 * 32);

// Calls body(block, lane in it, channel) for all lanes, a block being `size` numbers of type T.
template <class T, class F>
void for_each_lane(uint8_t* blocks, int size, int width, int64_t lanes, int64_t channels, F&& body) {
    auto* block = reinterpret_cast<T*>(blocks);
    int64_t c = 0;
    for (int64_t start = 0; start < lanes; start += width, block += size) {
        for (int lane = 0; lane < width && start + lane < lanes; ++lane) {
            body(block, lane, c);
            if (++c == channels) c = 0;
        }
    }
}

void pack_real(uint8_t* blocks, int width, int64_t lanes, int64_t channels, const FloatParams& p) {
    for_each_lane<int32_t>(blocks, 3 * width, width, lanes, channels, [&](int32_t* block, int lane, int64_t c) {
        int32_t* slot = block + real_slot(width, lane);
        std::memcpy(slot, p.slope + c, 4);
        std::memcpy(slot + width, p.intercept + c, 4);
        std::memcpy(slot + 2 * width, p.zero_point + c, 4);
    });
}

void pack_integer(uint8_t* blocks, int width, int64_t lanes, int64_t channels, const IntegerParams& p) {
    for_each_lane<int32_t>(blocks, 3 * width, width, lanes, channels, [&](int32_t* block, int lane, int64_t c) {
        int32_t* slot = block + integer_slot(width, lane);
        slot[0] = integer_factor(lane, p.multiplier[c]);
        slot[width] = p.addend[c];
        slot[2 * width] = integer_count(lane, p.shift[c]);
    });
}

void pack_words(uint8_t* blocks, int width, int64_t lanes, int64_t channels, const WordParams& p) {
    for_each_lane<uint8_t>(blocks, 7 * width, width, lanes, channels, [&](uint8_t* block, int lane, int64_t c) {
        int16_t* slot = reinterpret_cast<int16_t*>(block) + word_slot(width, lane);
        slot[0] = p.multiplier[c];
        slot[width] = p.addend[c];
        slot[2 * width] = word_count(width, p.shift[c]);
        block[6 * width + lane] = p.fine[c];
    });
}

}  // namespace

int64_t PackedRows::block_bytes(Arithmetic arithmetic, int width) {
    return (arithmetic == Arithmetic::words16 ? 7 : 12) * width;
}

AlignedArray<uint8_t> pack_blocks(Arithmetic arithmetic, int width, int64_t lanes, int64_t channels,
                                  const ChannelParams& params) {
    auto blocks = aligned_array<uint8_t>((lanes + width - 1) / width * PackedRows::block_bytes(arithmetic, width));
    if (arithmetic == Arithmetic::words16)
        pack_words(blocks.get(), width, lanes, channels, params.words);
    else if (arithmetic == Arithmetic::integer32)
        pack_integer(blocks.get(), width, lanes, channels, params.integer);
    else
        pack_real(blocks.get(), width, lanes, channels, params.real);
    return blocks;
}

}  // namespace bytenorm
