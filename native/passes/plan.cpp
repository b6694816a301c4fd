#include "plan.hpp"

#include <algorithm>
#include <numeric>

#include "segment.hpp"

namespace bytenorm {
namespace {

// Bytes a channel from which preparing pays when the parameters are used once. Measured; docs/kernels-measured.md.
constexpr int64_t once_table = 512;         // a table costs some 35 ns a channel
constexpr int64_t once_table_scalar = 256;  // in scalar code exactly the map of 256 bytes
constexpr int64_t once_words = 8192;        // fitting words costs 0.2 us a channel

// Planes this short are computed where they could be looked up: their tables have to be loaded, too.
constexpr int64_t few_for_table = 512;

// Pixels side by side: so many lanes that a tile of them and their parameters share the first cache.
constexpr int64_t longest_even = 2048;      // whole vectors
constexpr int64_t longest_streamed = 4096;  // the same, stored past the cache
constexpr int64_t longest_lanes = 768;      // others

// The vectors that a row of so many lanes takes. Where there are no masks a part of one takes as long as two.
int64_t vectors_of(int64_t lanes, int64_t width) {
    return lanes / width + (lanes % width == 0 ? 0 : width < 64 ? 2 : 1);
}

// Few or odd channels leave much of their last vector empty. Where pixels touch, groups of them make rows that
// fill vectors: whole ones if channels and vectors come out even soon, or else as many as there is room for. 0:
// not here.
int64_t lanes_side_by_side(const Layout& layout, int64_t width) {
    if (layout.outers == 0) return 0;
    const Loop& loop = layout.outer[layout.outers - 1];
    const int64_t channels = layout.inner.n;
    if (channels % width == 0 || loop.x_stride != channels || loop.y_stride != channels) return 0;
    const int64_t even = std::lcm(channels, width);
    const bool streamed = layout.size >= stream_from();
    if (streamed && (even > longest_streamed || fills_vectors(channels, width))) return 0;
    const int64_t group = streamed || even <= longest_even ? even : longest_lanes / channels * channels;
    // Less than 3 % is not worth the parameters.
    const bool worth = 100 * vectors_of(group, width) * channels < 97 * vectors_of(channels, width) * group;
    return worth && loop.n * channels >= 8 * group ? group : 0;
}

// Short planes that touch leave much of their vectors empty, too. Where registers are few for parameters of
// several channels, and images are many enough to share what is read in their place, an image is walked as a row.
constexpr int64_t few_for_row = 64;
constexpr int64_t fewest_images = 4;
constexpr int64_t longest_image = 131072;  // seven times as many bytes of parameters

int64_t lanes_of_images(const Layout& layout, int64_t channels, int64_t width) {
    const bool short_planes = layout.inner.n < few_for_row && layout.inner.n % width != 0;
    if (width != 32 || layout.size == 0 || layout.outers < 2 || !short_planes) return 0;
    const int64_t lanes = channels * layout.inner.n, images = layout.size / lanes;
    const bool near = lanes <= longest_image && layout.size < tiles_below && layout.size < stream_from();
    return near && images >= fewest_images && touch_in_images(layout, channels) ? lanes : 0;
}

}  // namespace

bool touch_in_images(const Layout& layout, int64_t channels) {
    const Loop& loop = layout.outer[layout.outers - 1];
    const int64_t length = layout.inner.n;
    return layout.outers >= 2 && loop.n == channels && loop.channel_step == 1 && loop.x_stride == length &&
           loop.y_stride == length;
}

Plan choose(const Layout& layout, int64_t channels, Use use) {
    const KernelTable& k = kernels();
    const int64_t bytes = layout.size / std::max<int64_t>(channels, 1);  // a channel
    const auto if_worth = [&](int64_t from, Arithmetic prepared) {
        return use == Use::often || bytes >= from ? prepared : Arithmetic::fp32;
    };
    if (layout.kind == Layout::planes) {
        if (k.get<Planes>(Arithmetic::table) && (use == Use::once || layout.inner.n > few_for_table))
            return {Layout::planes, if_worth(once_table, Arithmetic::table), 0, &k};
        if (k.get<Planes>(Arithmetic::words16)) {
            const Arithmetic arithmetic = if_worth(once_words, Arithmetic::words16);
            const int width = k.get<Planes>(arithmetic).width();
            return {Layout::planes, arithmetic, use == Use::often ? lanes_of_images(layout, channels, width) : 0,
                    &k};
        }
        const Arithmetic arithmetic = if_worth(once_table_scalar, Arithmetic::table);
        return {arithmetic == Arithmetic::table ? Layout::strided : Layout::planes, arithmetic, 0, &k};
    }
    if (layout.kind == Layout::rows && k.get<Rows>(Arithmetic::words16)) {
        const Arithmetic arithmetic = if_worth(once_words, Arithmetic::words16);
        return {Layout::rows, arithmetic, lanes_side_by_side(layout, k.get<Rows>(arithmetic).width()), &k};
    }
    return {Layout::strided, Arithmetic::table, 0, &k};
}

void prepare(const Plan& plan, Folded& folded) {
    if (plan.loops == Layout::rows)
        folded.prepare_rows(*plan.kernels, plan.arithmetic, plan.lanes);
    else if (plan.lanes > 0)
        folded.prepare_images(*plan.kernels, plan.arithmetic, plan.lanes);
    else
        folded.prepare(plan.arithmetic);
}

}  // namespace bytenorm
