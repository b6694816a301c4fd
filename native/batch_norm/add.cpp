#include "add.hpp"

#include <algorithm>

#include "../dispatch.hpp"
#include "segment.hpp"

namespace bytenorm {
namespace {

constexpr int64_t tile_bytes = 8192;  // of the sum, beside as much of a, b and y in the first cache

class AddPass {
  public:
    AddPass(const Plan& plan, const Folded& folded, const SumFold& sum, const AddArrays& arrays,
            const Layout& layout, const Threads& threads)
        : plan_(plan), folded_(folded), sum_(sum), arrays_(arrays), layout_(layout), threads_(threads) {}

    void run() {
        if (layout_.size == 0) return;
        if (alike()) {
            switch (plan_.kernel) {
                case Plan::planes_table:
                case Plan::planes_fp32:
                case Plan::planes_integer:
                    if (layout_.inner.n < 65536 || layout_.outer_size() >= 4 * threads_.most())
                        return run_planes();
                    break;
                case Plan::rows_fp32:
                case Plan::rows_integer:
                    if (fills_vectors()) return run_rows();
                    break;
                case Plan::strided_table:
                    break;
            }
        }
        add_all();
        apply(plan_, folded_, layout_, threads_);
    }

  private:
    // Whether all four arrays have the same strides: what holds for one address holds for the other three.
    bool alike() const {
        for (int d = 0; d < arrays_.ndim; ++d) {
            const int64_t step = arrays_.sum_strides[d];
            if (arrays_.shape[d] > 1 &&
                (arrays_.a_strides[d] != step || arrays_.b_strides[d] != step || arrays_.y_strides[d] != step))
                return false;
        }
        return true;
    }

    // `apply` puts pixels of few or odd channels side by side.
    bool fills_vectors() const {
        const bool integer = plan_.kernel == Plan::rows_integer;
        const int64_t width = integer ? kernels().rows_integer_width : rows_fp32_width, lanes = layout_.inner.n;
        return 20 * lanes >= 17 * ((lanes + width - 1) / width * width);
    }

    // `n` codes from the one at `s` in the sum on.
    void add(const uint8_t* s, int64_t n) const {
        const int64_t at = s - arrays_.sum;
        Sum run{};
        run.a = arrays_.a + at, run.b = arrays_.b + at, run.y = arrays_.sum + at;
        run.n = n;
        run.a_step = run.b_step = run.y_step = 1;
        call(run);
    }

    void call(Sum& run) const {
        run.table = sum_.table(), run.integer = sum_.integer();
        run.is_signed = folded_.conversion().input_signed;
        const bool touch = run.n == 1 || (run.a_step == 1 && run.b_step == 1 && run.y_step == 1);
        if (touch && sum_.proved() && kernels().sum_integer)
            kernels().sum_integer(run);
        else
            kernels().sum_table(run);
    }

    void run_rows() {
        const RowWalk walk{folded_, folded_.rows(plan_.kernel == Plan::rows_integer), tile_bytes, false};
        const int64_t lanes = layout_.inner.n, stride = layout_.outer[layout_.outers - 1].x_stride;
        const int64_t tile = std::max<int64_t>(1, tile_bytes / lanes);
        auto body = [&](int64_t begin, int64_t end) {
            for_each_run(layout_, begin, end, [&](const uint8_t* s, uint8_t* y, int64_t, int64_t count) {
                for (int64_t start = 0; start < count; start += tile) {
                    const int64_t pixels = std::min(tile, count - start);
                    const uint8_t* from = s + start * stride;
                    if (stride == lanes)
                        add(from, pixels * lanes);
                    else
                        for (int64_t p = 0; p < pixels; ++p) add(from + p * stride, lanes);
                    walk(from, y + start * stride, pixels, 0, lanes, stride, stride);
                }
            });
        };
        threads_.run(layout_.outer_size(), 2 * layout_.size, body);
    }

    void run_planes() {
        const Loop& loop = layout_.outer[layout_.outers - 1];
        const int64_t length = layout_.inner.n, stride = loop.x_stride;
        const int64_t planes = std::max<int64_t>(1, tile_bytes / length);  // in a tile, or a part of one plane
        const int64_t part = std::min(length, tile_bytes);
        auto body = [&](int64_t begin, int64_t end) {
            for_each_run(layout_, begin, end, [&](const uint8_t* s, uint8_t* y, int64_t channel, int64_t count) {
                Planes p{};
                p.x_stride = p.y_stride = stride, p.channel_step = loop.channel_step;
                p.images = 1;
                p.conversion = folded_.conversion();
                for (int64_t first = 0; first < count; first += planes) {
                    p.count = std::min(planes, count - first);
                    for (int64_t at = 0; at < length; at += part) {
                        p.length = std::min(part, length - at);
                        p.x = s + first * stride + at, p.y = y + first * stride + at;
                        if (stride == length && part == length)
                            add(p.x, p.count * length);
                        else
                            for (int64_t i = 0; i < p.count; ++i) add(p.x + i * stride, p.length);
                        planes_segment(plan_, folded_, p, channel + first * loop.channel_step);
                    }
                }
            });
        };
        threads_.run(layout_.outer_size(), 2 * layout_.size, body);
    }

    // The whole sum before the norm, for strides of any kind.
    void add_all() {
        const int ndim = arrays_.ndim;
        int inner = ndim - 1;  // the axis of the smallest steps
        for (int d = 0; d < ndim; ++d)
            if (arrays_.shape[d] > 1 &&
                (arrays_.shape[inner] == 1 || arrays_.sum_strides[d] < arrays_.sum_strides[inner]))
                inner = d;
        const int64_t n = arrays_.shape[inner];
        auto body = [&](int64_t begin, int64_t end) {
            Sum run{};
            run.n = n;
            run.a_step = arrays_.a_strides[inner], run.b_step = arrays_.b_strides[inner];
            run.y_step = arrays_.sum_strides[inner];
            for (int64_t item = begin; item < end; ++item) {
                run.a = arrays_.a, run.b = arrays_.b, run.y = arrays_.sum;
                int64_t rest = item;
                for (int d = ndim - 1; d >= 0; --d) {
                    if (d == inner) continue;
                    const int64_t i = rest % arrays_.shape[d];
                    rest /= arrays_.shape[d];
                    run.a += i * arrays_.a_strides[d], run.b += i * arrays_.b_strides[d];
                    run.y += i * arrays_.sum_strides[d];
                }
                call(run);
            }
        };
        threads_.run(layout_.size / n, 10 * layout_.size, body);
    }

    const Plan& plan_;
    const Folded& folded_;
    const SumFold& sum_;
    const AddArrays& arrays_;
    const Layout& layout_;  // from the sum to y
    const Threads& threads_;
};

}  // namespace

void apply_add(const Plan& plan, const Folded& folded, const SumFold& sum, const AddArrays& arrays,
               const Layout& layout, const Threads& threads) {
    AddPass(plan, folded, sum, arrays, layout, threads).run();
}

}  // namespace bytenorm
