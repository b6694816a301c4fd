#include "add.hpp"

#include <algorithm>

#include "segment.hpp"
#include "single.hpp"

namespace bytenorm {
namespace {

constexpr int64_t tile_bytes = 8192;  // of the sum, beside as much of a, b and y in the first cache

void call(Sum& run, const SumFold& sum, bool is_signed) {
    run.table = sum.table(), run.integer = sum.integer(), run.is_signed = is_signed;
    const bool touch = run.n == 1 || (run.a_step == 1 && run.b_step == 1 && run.y_step == 1);
    const Kernel<Sum>& integer = kernel<Sum>(Arithmetic::integer32);
    (touch && sum.proved() && integer ? integer : kernel<Sum>(Arithmetic::table))(run);
}

// Codes that are not kept take the place of their norm, which is then computed there.
AddArrays with_sum(AddArrays arrays) {
    if (arrays.sum) return arrays;
    arrays.sum = arrays.y;
    std::copy_n(arrays.y_strides, arrays.ndim, arrays.sum_strides);
    return arrays;
}

// Whether all arrays have the same strides: what holds for one address holds for the others.
bool alike(const AddArrays& arrays) {
    for (int d = 0; d < arrays.ndim; ++d) {
        const int64_t step = arrays.y_strides[d];
        if (arrays.shape[d] > 1 && (arrays.a_strides[d] != step || arrays.b_strides[d] != step ||
                                    (arrays.sum && arrays.sum_strides[d] != step)))
            return false;
    }
    return true;
}

// Calls body(x, y, channel, count, n) for tiles of `bytes` of items [begin, end) of a layout: `count` runs of `n`
// elements each, whole ones or a part of one.
template <class F>
void for_each_tile(const Layout& layout, int64_t bytes, int64_t begin, int64_t end, F&& body) {
    const Loop &inner = layout.inner, &loop = layout.outer[layout.outers - 1];
    const int64_t part = std::min(inner.n, bytes), most = std::max<int64_t>(1, bytes / inner.n);
    for_each_run(layout, begin, end, [&](const uint8_t* x, uint8_t* y, int64_t channel, int64_t count) {
        for (int64_t first = 0; first < count; first += most)
            for (int64_t at = 0; at < inner.n; at += part)
                body(x + first * loop.x_stride + at * inner.x_stride,
                     y + first * loop.y_stride + at * inner.y_stride,
                     channel + first * loop.channel_step + at * inner.channel_step, std::min(most, count - first),
                     std::min(part, inner.n - at));
    });
}

// Strides of any kind: lines along the axis on which `strides`, those of an output, are smallest.
class Lines {
  public:
    Lines(const AddArrays& arrays, const int64_t* strides) : arrays_(arrays), inner(arrays.ndim - 1) {
        for (int d = 0; d < arrays.ndim; ++d)
            if (arrays.shape[d] > 1 && (arrays.shape[inner] == 1 || strides[d] < strides[inner])) inner = d;
    }

    // Calls body(offset) with a function from strides to the offset of a line's first element.
    template <class F>
    void walk(int64_t begin, int64_t end, F&& body) const {
        for (int64_t item = begin; item < end; ++item) {
            body([&](const int64_t* strides) {
                int64_t rest = item, offset = 0;
                for (int d = arrays_.ndim - 1; d >= 0; --d) {
                    if (d == inner) continue;
                    offset += rest % arrays_.shape[d] * strides[d];
                    rest /= arrays_.shape[d];
                }
                return offset;
            });
        }
    }

  private:
    const AddArrays& arrays_;

  public:
    int inner;
};

class AddPass {
  public:
    AddPass(const Plan& plan, const Folded& folded, const SumFold& sum, const AddArrays& arrays,
            const Layout& layout, const Threads& threads)
        : plan_(plan), folded_(folded), sum_(sum), arrays_(with_sum(arrays)), layout_(layout), threads_(threads) {}

    void run() {
        if (layout_.size == 0) return;
        if (alike(arrays_)) {
            const Loop& inner = layout_.inner;
            if (plan_.loops == Layout::planes && pieces_of(layout_.outer_size(), inner.n, threads_.most()) == 1)
                return run_planes();
            if (plan_.loops == Layout::rows && fills_vectors(inner.n, row_width())) return run_rows();
        }
        add_all();
        apply(plan_, folded_, layout_, threads_);
    }

  private:
    // Where a row does not fill vectors of this width, `apply` puts pixels side by side.
    int row_width() const { return folded_.rows(plan_.arithmetic).kernels->get<Rows>(plan_.arithmetic).width(); }

    // `n` codes from the one at `s` in the sum on.
    void add(const uint8_t* s, int64_t n) const {
        const int64_t at = s - arrays_.sum;
        Sum run{};
        run.a = arrays_.a + at, run.b = arrays_.b + at, run.y = arrays_.sum + at;
        run.n = n;
        run.a_step = run.b_step = run.y_step = 1;
        call(run, sum_, folded_.conversion().input_signed);
    }

    void run_rows() {
        const RowWalk walk{folded_, folded_.rows(plan_.arithmetic), tile_bytes, false};
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
        auto body = [&](int64_t begin, int64_t end) {
            Planes p{};
            p.x_stride = p.y_stride = loop.x_stride, p.channel_step = loop.channel_step;
            p.images = 1;
            p.conversion = folded_.conversion();
            const auto tile = [&](const uint8_t* s, uint8_t* y, int64_t channel, int64_t count, int64_t n) {
                p.x = s, p.y = y, p.count = count, p.length = n;
                if (loop.x_stride == n)
                    add(s, count * n);
                else
                    for (int64_t i = 0; i < count; ++i) add(s + i * loop.x_stride, n);
                planes_segment(plan_, folded_, p, channel);
            };
            for_each_tile(layout_, tile_bytes, begin, end, tile);
        };
        threads_.run(layout_.outer_size(), 2 * layout_.size, body);
    }

    // The whole sum before the norm, for strides of any kind.
    void add_all() {
        const Lines lines(arrays_, arrays_.sum_strides);
        auto body = [&](int64_t begin, int64_t end) {
            Sum run{};
            run.n = arrays_.shape[lines.inner];
            run.a_step = arrays_.a_strides[lines.inner], run.b_step = arrays_.b_strides[lines.inner];
            run.y_step = arrays_.sum_strides[lines.inner];
            lines.walk(begin, end, [&](const auto& offset) {
                run.a = arrays_.a + offset(arrays_.a_strides), run.b = arrays_.b + offset(arrays_.b_strides);
                run.y = arrays_.sum + offset(arrays_.sum_strides);
                call(run, sum_, folded_.conversion().input_signed);
            });
        };
        threads_.run(layout_.size / arrays_.shape[lines.inner], 10 * layout_.size, body);
    }

    const Plan& plan_;
    const Folded& folded_;
    const SumFold& sum_;
    const AddArrays arrays_;
    const Layout& layout_;  // from the sum to y
    const Threads& threads_;
};

class ExactPass {
  public:
    ExactPass(const ExactFold& folded, const SumFold* sum, const AddArrays& arrays, const Threads& threads)
        : folded_(folded), sum_(sum), arrays_(arrays), threads_(threads), size_(size_of(arrays)) {}

    void run() {
        if (size_ == 0) return;
        if (alike(arrays_))
            run_alike();
        else
            run_lines();
    }

  private:
    // A run of elements at even distances. The sum comes first: y may be where a or b is.
    void walk(ExactSum& run, uint8_t* sum, int64_t sum_stride, int64_t sum_step, int64_t channel) const {
        folded_.fill(run, channel);
        const bool touch = run.length == 1 || (run.a_step == 1 && run.b_step == 1 && run.y_step == 1);
        if (sum) {
            Sum s{};
            s.a = run.a, s.b = run.b, s.y = sum;
            s.a_step = run.a_step, s.b_step = run.b_step, s.y_step = sum_step;
            s.n = run.length;
            int64_t runs = run.count;
            if (touch && run.a_stride == run.length && run.b_stride == run.length && sum_stride == run.length)
                s.n *= runs, runs = 1;
            for (int64_t i = 0; i < runs; ++i, s.a += run.a_stride, s.b += run.b_stride, s.y += sum_stride)
                call(s, *sum_, run.conversion.input_signed);
        }
        (touch ? folded_.kernel() : kernel<ExactSum>(Arithmetic::fp64))(run);
    }

    void run_alike() {
        const Layout layout = analyse(arrays_.a, arrays_.a_strides, arrays_.y, arrays_.y_strides, arrays_.shape,
                                      arrays_.ndim, arrays_.axis);
        const Loop &inner = layout.inner, &loop = layout.outer[layout.outers - 1];
        auto body = [&](int64_t begin, int64_t end) {
            ExactSum run{};
            run.a_stride = run.b_stride = run.y_stride = loop.x_stride, run.channel_stride = loop.channel_step;
            run.a_step = run.b_step = run.y_step = inner.x_stride, run.channel_step = inner.channel_step;
            const auto tile = [&](const uint8_t* a, uint8_t* y, int64_t channel, int64_t count, int64_t n) {
                const int64_t offset = a - arrays_.a;
                run.count = count, run.length = n;
                run.a = a, run.b = arrays_.b + offset, run.y = y;
                walk(run, arrays_.sum ? arrays_.sum + offset : nullptr, loop.x_stride, inner.x_stride, channel);
            };
            // Alone the norm reads nothing twice, and more pixels share the parameters of a row.
            for_each_tile(layout, arrays_.sum ? tile_bytes : 4 * tile_bytes, begin, end, tile);
        };
        threads_.run(layout.outer_size(), 4 * size_, body);
    }

    void run_lines() {
        const Lines lines(arrays_, arrays_.y_strides);
        int64_t channels[max_dims] = {};
        channels[arrays_.axis] = 1;
        auto body = [&](int64_t begin, int64_t end) {
            ExactSum run{};
            run.count = 1, run.length = arrays_.shape[lines.inner];
            run.a_step = arrays_.a_strides[lines.inner], run.b_step = arrays_.b_strides[lines.inner];
            run.y_step = arrays_.y_strides[lines.inner], run.channel_step = channels[lines.inner];
            lines.walk(begin, end, [&](const auto& offset) {
                run.a = arrays_.a + offset(arrays_.a_strides), run.b = arrays_.b + offset(arrays_.b_strides);
                run.y = arrays_.y + offset(arrays_.y_strides);
                uint8_t* sum = arrays_.sum ? arrays_.sum + offset(arrays_.sum_strides) : nullptr;
                walk(run, sum, 0, sum ? arrays_.sum_strides[lines.inner] : 0, offset(channels));
            });
        };
        threads_.run(size_ / arrays_.shape[lines.inner], 10 * size_, body);
    }

    const ExactFold& folded_;
    const SumFold* sum_;
    const AddArrays& arrays_;
    const Threads& threads_;
    const int64_t size_;
};

}  // namespace

int64_t size_of(const AddArrays& arrays) {
    int64_t size = 1;
    for (int d = 0; d < arrays.ndim; ++d)
        if (arrays.shape[d] == 0) return 0;  // products of the other lengths may be anything then
    for (int d = 0; d < arrays.ndim; ++d) size *= arrays.shape[d];
    return size;
}

Layout layout_of(const AddArrays& arrays) {
    const AddArrays all = with_sum(arrays);
    return analyse(all.sum, all.sum_strides, all.y, all.y_strides, all.shape, all.ndim, all.axis);
}

void apply_add_exact(const ExactFold& folded, const SumFold* sum, const AddArrays& arrays,
                     const Threads& threads) {
    ExactPass(folded, sum, arrays, threads).run();
}

void apply_add(const Plan& plan, const Folded& folded, const SumFold& sum, const AddArrays& arrays,
               const Layout& layout, const Threads& threads) {
    AddPass(plan, folded, sum, arrays, layout, threads).run();
}

}  // namespace bytenorm
