// Random passes of the native code without Python: norms of one array, shared by threads, of a concatenation, of a
// sum of two or of many and of averages, sums and histograms, each against a loop over its elements. For the
// sanitizers, under which Python is slow: random_passes SET CASES SEED [FIRST]. tests/random_passes.sh builds and
// runs it.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../native/core/first_failure.hpp"
#include "../native/kernels/dispatch.hpp"
#include "../native/kernels/scalar/average.hpp"
#include "../native/kernels/scalar/element.hpp"
#include "../native/passes/add.hpp"
#include "../native/passes/average_pool.hpp"
#include "../native/passes/concat.hpp"
#include "../native/passes/exact_sums.hpp"
#include "../native/passes/segment.hpp"
#include "../native/passes/single.hpp"
#include "../native/statistics/statistics.hpp"

using namespace bytenorm;

namespace {

class Random {  // splitmix64
  public:
    Random(uint64_t seed, uint64_t number)
        : state_(seed * 0x9e3779b97f4a7c15u ^ (number + 1) * 0xd1342543de82ef95u) {}

    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }
    int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
    bool chance(int percent) { return below(100) < percent; }
    double unit() { return static_cast<double>(next() >> 11) / 9007199254740992.0; }
    template <size_t N>
    int64_t pick(const int64_t (&options)[N]) {
        return options[below(N)];
    }

  private:
    uint64_t state_;
};

struct Shape {
    int ndim, axis;
    int64_t n[8];

    int64_t size() const {
        int64_t all = 1;
        for (int d = 0; d < ndim; ++d) all *= n[d];
        return all;
    }
    int64_t channels() const { return n[axis]; }
};

constexpr int64_t lengths[] = {2,  3,  5,  7,  8,  15, 16,  17,  31,  32,  33,  47,  49,
                               63, 64, 65, 81, 95, 97, 100, 127, 128, 129, 191, 200, 257};

Shape random_shape(Random& r, int64_t most) {
    Shape s{};
    s.ndim = static_cast<int>(r.pick({2, 2, 3, 3, 4, 4, 5, 8}));
    for (int d = 0; d < s.ndim; ++d) s.n[d] = r.pick({1, 1, 2, 2, 3, 4, 5});
    for (int i = 0; i < 2; ++i)
        if (i == 0 || r.chance(30)) s.n[r.below(s.ndim)] = r.pick(lengths);
    while (s.size() > most) {
        int longest = 0;
        for (int d = 0; d < s.ndim; ++d)
            if (s.n[d] > s.n[longest]) longest = d;
        s.n[longest] = r.pick({1, 2, 7});
    }
    if (r.chance(2)) s.n[r.below(s.ndim)] = 0;
    s.axis = static_cast<int>(r.chance(50) ? 1 : r.below(s.ndim));
    return s;
}

// How an array lies in memory: the order of its axes, slowest first, and whether it has gaps or other steps.
struct Order {
    int axes[8];
    bool steps, cut;
};

Order random_order(Random& r, const Shape& s) {
    Order o{};
    for (int d = 0; d < s.ndim; ++d) o.axes[d] = d;
    const int64_t kind = r.below(10);
    if (kind >= 2 && kind <= 5) {  // channels last
        for (int d = s.axis; d + 1 < s.ndim; ++d) o.axes[d] = o.axes[d + 1];
        o.axes[s.ndim - 1] = s.axis;
    } else if (kind >= 6) {
        for (int d = s.ndim - 1; d > 0; --d) std::swap(o.axes[d], o.axes[r.below(d + 1)]);
    }
    o.steps = kind == 8, o.cut = kind == 9 || kind == 5 || kind == 1;
    return o;
}

// An array of its own memory, as large as it has to be and not a byte more.
struct Array {
    std::unique_ptr<uint8_t[]> bytes;
    std::vector<uint8_t> before;
    int64_t size = 0, first = 0;
    int64_t strides[8] = {};

    uint8_t* data() const { return bytes.get() + first; }
    void keep() { before.assign(bytes.get(), bytes.get() + size); }
};

Array random_array(Random& r, const Shape& s, const Order& o) {
    Array a;
    int64_t reach = 1;
    for (int i = s.ndim - 1; i >= 0; --i) {
        const int d = o.axes[i];
        int64_t step = 1, gap = 0;
        if (o.steps) step = r.pick({1, 1, 2, 3, -1, -2}), gap = r.pick({0, 1, 4});
        if (o.cut && i >= s.ndim - 2) gap = r.pick({0, 1, 5, 64});
        a.strides[d] = step * reach;
        if (step < 0 && s.n[d] > 0) a.first += (s.n[d] - 1) * -a.strides[d];
        reach *= std::max<int64_t>(s.n[d], 1) * std::abs(step) + gap;
    }
    int64_t last = 0;
    for (int d = 0; d < s.ndim; ++d) last += std::max<int64_t>(s.n[d] - 1, 0) * std::abs(a.strides[d]);
    const int64_t front = r.pick({0, 0, 0, 1, 17, 32, 63});
    a.first += front;
    a.size = front + (s.size() ? last + 1 : 0);
    a.bytes.reset(new uint8_t[static_cast<size_t>(std::max<int64_t>(a.size, 1))]);
    for (int64_t i = 0; i < a.size; ++i) a.bytes[i] = static_cast<uint8_t>(r.next());
    a.keep();
    return a;
}

// Calls body(index, channel) for every element, index being that of all axes.
template <class F>
void for_each(const Shape& s, F&& body) {
    int64_t at[8] = {};
    for (int64_t i = 0, size = s.size(); i < size; ++i) {
        body(at, at[s.axis]);
        for (int d = s.ndim - 1; d >= 0 && ++at[d] == s.n[d]; --d) at[d] = 0;
    }
}
int64_t offset(const Shape& s, const int64_t* at, const int64_t* strides) {
    int64_t sum = 0;
    for (int d = 0; d < s.ndim; ++d) sum += at[d] * strides[d];
    return sum;
}

void require(bool good, const char* what) {
    if (!good) throw std::runtime_error(what);
}

// Whether an array holds wanted(index, channel) and, between its elements, what it held before.
template <class F>
void require_holds(const Array& a, const int64_t* strides, int64_t first, const Shape& s, const char* what,
                   F&& wanted) {
    std::vector<uint8_t> want = a.before;
    for_each(s, [&](const int64_t* at, int64_t c) {
        want[static_cast<size_t>(first + offset(s, at, strides))] = wanted(at, c);
    });
    require(a.size == 0 || std::memcmp(want.data(), a.bytes.get(), static_cast<size_t>(a.size)) == 0, what);
}

struct Parameters {
    std::vector<float> weight, bias, mean, var;
    std::vector<double> scales;
    std::vector<int64_t> zero_points;
    Conversion conversion;
    bool per_channel;

    Parameters(Random& r, int64_t channels) {
        const bool ties = r.chance(20);
        conversion = {r.chance(50), r.chance(50), r.chance(30), 0};
        conversion.output_zero_point = static_cast<int32_t>(r.below(256)) - (conversion.output_signed ? 128 : 0);
        per_channel = r.chance(30);
        for (int64_t c = 0; c < channels; ++c) {
            weight.push_back(ties ? 0.5f * static_cast<float>(r.below(9) - 4)
                                  : static_cast<float>(r.unit() * 4 - 2));
            bias.push_back(ties ? static_cast<float>(r.below(9) - 4) : static_cast<float>(r.unit() * 4 - 2));
            mean.push_back(ties ? 0.0f : static_cast<float>(r.unit() * 2 - 1));
            var.push_back(ties ? 1.0f : static_cast<float>(r.unit() * 3 + 0.01));
            scales.push_back(c && !per_channel ? scales[0] : 0.001 + 0.1 * r.unit());
            zero_points.push_back(c && !per_channel ? zero_points[0]
                                                    : r.below(256) - (conversion.input_signed ? 128 : 0));
        }
        scale = ties ? 0.5 : 0.01 + r.unit() * 0.1;
    }
    double scale;

    NormParameters norm() const {
        return {
            static_cast<int64_t>(mean.size()), weight.data(), bias.data(), mean.data(), var.data(), 0.0f, scale};
    }
    InputQuantization input() const { return {0.0, 0, scales.data(), zero_points.data()}; }
};

uint8_t wanted_of(const Folded& f, uint8_t code, int64_t c) {
    return element(code, f.real().slope[c], f.real().intercept[c], f.real().zero_point[c], f.conversion());
}

void norm(Random& r) {
    const Shape s = random_shape(r, 700);
    const Order o = random_order(r, s);
    Array x = random_array(r, s, o);
    const bool in_place = r.chance(40);
    Array own = in_place ? Array() : random_array(r, s, r.chance(60) ? o : random_order(r, s));
    Array& y = in_place ? x : own;
    const Parameters p(r, s.channels());
    Folded folded(p.norm(), p.input(), p.conversion);
    const std::vector<uint8_t> codes = x.before;
    for (int call = 0; call < 2; ++call) {
        const Layout layout = analyse(x.data(), x.strides, y.data(), y.strides, s.n, s.ndim, s.axis);
        const Plan plan = choose(layout, s.channels(), call ? Use::often : Use::once);
        prepare(plan, folded);
        if (in_place) std::copy(codes.begin(), codes.end(), x.bytes.get());
        apply(plan, folded, layout);
        require_holds(
            y, y.strides, y.first, s, in_place ? "norm in place" : "norm", [&](const int64_t* at, int64_t c) {
                return wanted_of(folded, codes[static_cast<size_t>(x.first + offset(s, at, x.strides))], c);
            });
    }
}

// A norm that several threads call, as PreparedNorm has it: they plan and prepare in turn, and run at once. What
// is prepared for a pass no pass reads that was planned before.
void shared(Random& r) {
    const int64_t channels = r.pick(lengths);
    const Parameters p(r, channels);
    Folded folded(p.norm(), p.input(), p.conversion);
    std::mutex mutex;
    FirstFailure failure;
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller)
        callers.emplace_back([&, seed = r.next()] {
            Random own(seed, 0);
            failure.guard([&] {
                for (int call = 0; call < 4; ++call) {
                    const Shape s{3, 1, {own.pick({1, 2, 9}), channels, own.pick({1, 5, 49, 64, 600})}};
                    const Order o = random_order(own, s);
                    const Array x = random_array(own, s, o), y = random_array(own, s, o);
                    const Layout layout = analyse(x.data(), x.strides, y.data(), y.strides, s.n, s.ndim, s.axis);
                    Plan plan;
                    {
                        std::lock_guard<std::mutex> guard(mutex);
                        plan = choose(layout, channels, own.chance(50) ? Use::often : Use::once);
                        prepare(plan, folded);
                    }
                    apply(plan, folded, layout);
                    require_holds(y, y.strides, y.first, s, "shared norm", [&](const int64_t* at, int64_t c) {
                        return wanted_of(folded, x.before[static_cast<size_t>(x.first + offset(s, at, x.strides))],
                                         c);
                    });
                }
            });
        });
    for (std::thread& caller : callers) caller.join();
    failure.rethrow();
}

void concat(Random& r) {
    Shape all = random_shape(r, 150);
    const Order o = random_order(r, all);
    const size_t count = static_cast<size_t>(r.pick({1, 2, 2, 3, 5, 9}));
    std::vector<Shape> shapes(count, all);
    all.n[all.axis] = 0;
    for (Shape& s : shapes)
        all.n[all.axis] += s.n[s.axis] = r.pick({0, 1, 2, 3, 8, 16, 17, 31, 32, 33, 64, 65, 100});
    Array y = random_array(r, all, r.chance(70) ? o : random_order(r, all));
    const size_t own =
        r.chance(30) ? static_cast<size_t>(r.below(static_cast<int64_t>(count))) : count;  // in place
    std::vector<Array> arrays;
    ConcatArrays given{{}, y.data(), y.strides, all.ndim, all.axis};
    std::vector<int64_t> firsts;
    int64_t first = 0;
    for (size_t i = 0; i < count; ++i) {
        arrays.push_back(random_array(r, shapes[i], r.chance(70) ? o : random_order(r, shapes[i])));
        firsts.push_back(first);
        first += shapes[i].channels();
    }
    for (size_t i = 0; i < count; ++i) {
        const uint8_t* x = i == own ? y.data() + firsts[i] * y.strides[all.axis] : arrays[i].data();
        given.pieces.push_back({x, i == own ? y.strides : arrays[i].strides, shapes[i].n});
    }
    const Parameters p(r, all.channels());
    Folded folded(p.norm(), p.input(), p.conversion);
    const ConcatLayout layout(given);
    const Plan plan = choose_concat(layout, r.chance(50) ? Use::often : Use::once);
    prepare(plan, folded);
    apply_concat(plan, folded, layout, own_threads());
    require_holds(y, y.strides, y.first, all, "concat", [&](const int64_t* at, int64_t c) {
        size_t i = 0;
        while (c >= firsts[i] + shapes[i].channels()) ++i;
        int64_t in_piece[8] = {};
        std::copy_n(at, all.ndim, in_piece);
        in_piece[all.axis] -= firsts[i];
        const uint8_t code = i == own ? y.before[static_cast<size_t>(y.first + offset(all, at, y.strides))]
                                      : arrays[i].data()[offset(shapes[i], in_piece, arrays[i].strides)];
        return wanted_of(folded, code, c);
    });
}

void add(Random& r, std::vector<std::unique_ptr<SumFold>>& folds) {
    const Shape s = random_shape(r, 700);
    const Order o = random_order(r, s);
    Array a = random_array(r, s, o), b = random_array(r, s, r.chance(70) ? o : random_order(r, s));
    const bool exact = r.chance(50), with_sum = !exact || r.chance(50);
    Array own_y = random_array(r, s, r.chance(70) ? o : random_order(r, s));
    Array own_sum = random_array(r, s, r.chance(70) ? o : random_order(r, s));
    Array *y = &own_y, *sum = &own_sum;
    if (r.chance(40)) y = r.chance(50) ? &a : &b;
    if (!exact && r.chance(40)) sum = y == &a ? &b : &a;
    const size_t at_fold = static_cast<size_t>(r.below(static_cast<int64_t>(folds.size())));
    const bool is_signed = at_fold % 2;
    const SumFold& codes_of_sum = *folds[at_fold];
    const auto sum_code = [&](const int64_t* at) {
        const uint8_t u = a.before[static_cast<size_t>(a.first + offset(s, at, a.strides))];
        const uint8_t v = b.before[static_cast<size_t>(b.first + offset(s, at, b.strides))];
        return codes_of_sum.table()[256 * u + v];
    };
    Parameters p(r, s.channels());
    p.conversion.input_signed = is_signed;
    const AddArrays arrays(a.data(), b.data(), with_sum ? sum->data() : nullptr, y->data(), a.strides, b.strides,
                           with_sum ? sum->strides : nullptr, y->strides, s.n, s.ndim, s.axis);
    if (exact) {
        const TensorQuantization qa{p.scale * 0.7, is_signed ? -3 : 100}, qb{p.scale * 1.3, is_signed ? 20 : 200};
        const ExactFold folded(p.norm(), qa, qb, p.conversion);
        apply_add_exact(folded, with_sum ? &codes_of_sum : nullptr, arrays);
        ExactSum one{};
        folded.fill(one, 0);
        require_holds(*y, y->strides, y->first, s, "exact add", [&](const int64_t* at, int64_t c) {
            const uint8_t u = a.before[static_cast<size_t>(a.first + offset(s, at, a.strides))];
            const uint8_t v = b.before[static_cast<size_t>(b.first + offset(s, at, b.strides))];
            const int x = is_signed ? static_cast<int8_t>(u) : u, z = is_signed ? static_cast<int8_t>(v) : v;
            const double of_a = static_cast<double>(one.slope_a[c]) * (x - one.zero_point_a);
            const double of_b = static_cast<double>(one.slope_b[c]) * (z - one.zero_point_b);
            return exact_element(of_a + (of_b + static_cast<double>(one.intercept[c])), p.conversion);
        });
    } else {
        Folded folded(p.norm(), p.input(), p.conversion);
        const Layout layout = layout_of(arrays);
        const Plan plan = choose(layout, s.channels(), r.chance(50) ? Use::often : Use::once);
        prepare(plan, folded);
        apply_add(plan, folded, codes_of_sum, arrays, layout);
        require_holds(*y, y->strides, y->first, s, "add",
                      [&](const int64_t* at, int64_t c) { return wanted_of(folded, sum_code(at), c); });
    }
    if (with_sum)
        require_holds(*sum, sum->strides, sum->first, s, "sum",
                      [&](const int64_t* at, int64_t) { return sum_code(at); });
}

// The norm of a sum of many, each of its own scale, perhaps cut off between two limits.
void sums(Random& r) {
    const int64_t channels = r.pick(lengths);
    const Shape s{3, 1, {r.pick({0, 1, 2, 3, 5}), channels, r.pick({1, 1, 2, 3, 7, 15, 16, 17, 33, 49, 64, 100})}};
    const Order plain{{0, 1, 2}, false, false};
    Parameters p(r, channels);
    std::vector<Array> arrays;
    std::vector<TensorQuantization> quantizations;
    for (int64_t i = 0, n = r.pick({1, 2, 2, 3, 4, 7}); i < n; ++i) {
        arrays.push_back(random_array(r, s, plain));
        quantizations.push_back(
            {p.scale * (0.5 + r.unit()), r.below(256) - (p.conversion.input_signed ? 128 : 0)});
    }
    const Array y = random_array(r, s, plain);
    const float open = std::numeric_limits<float>::infinity();
    const Limits limits{r.chance(40) ? static_cast<float>(r.unit() * 4 - 3) : -open,
                        r.chance(40) ? static_cast<float>(r.unit() * 4 + 1) : open};
    const ExactSumsFold folded(p.norm(), quantizations, limits, p.conversion);
    SumsArrays given{{}, y.data(), s.n[0], s.n[2]};
    for (const Array& a : arrays) given.x.push_back(a.data());
    apply_exact_sums(folded, given, own_threads());
    ExactSums run{};
    folded.fill(run);
    require_holds(y, y.strides, y.first, s, "sum of many", [&](const int64_t* at, int64_t c) {
        double total = static_cast<double>(run.intercept[c]);
        for (size_t k = arrays.size(); k-- > 0;) {
            const uint8_t u = arrays[k].data()[offset(s, at, arrays[k].strides)];
            const int64_t code = p.conversion.input_signed ? static_cast<int8_t>(u) : u;
            total +=
                static_cast<double>(run.slopes[k][c]) * static_cast<double>(code - quantizations[k].zero_point);
        }
        total = std::min(std::max(total, run.lowest[c]), run.highest[c]);
        return exact_element(total, p.conversion);
    });
}

void average_pool(Random& r) {
    AveragedArrays arrays{};
    arrays.images = r.pick({1, 2, 3}), arrays.height = r.pick({1, 2, 3, 5}), arrays.width = r.pick({2, 3, 7, 16});
    arrays.channels_last = r.chance(60);
    std::vector<std::unique_ptr<uint8_t[]>> inputs;
    std::vector<int64_t> of_channel, first;
    for (int64_t i = 0, n = r.pick({1, 2, 3}); i < n; ++i) {
        const int64_t channels = r.pick({1, 3, 16, 32, 33, 64});
        const int64_t size = arrays.images * arrays.height * arrays.width * channels;
        inputs.emplace_back(new uint8_t[static_cast<size_t>(size)]);
        for (int64_t k = 0; k < size; ++k) inputs.back()[static_cast<size_t>(k)] = static_cast<uint8_t>(r.next());
        for (int64_t c = 0; c < channels; ++c) of_channel.push_back(i);
        first.push_back(arrays.channels());
        arrays.pieces.push_back({inputs.back().get(), channels});
    }
    const int64_t channels = arrays.channels(), height = arrays.height / 2, width = arrays.width / 2;
    const int64_t size = arrays.images * height * width * channels;
    const std::unique_ptr<uint8_t[]> y(new uint8_t[static_cast<size_t>(size + 1)]);
    arrays.y = y.get();
    const Parameters p(r, channels);
    Folded folded(p.norm(), p.input(), p.conversion);
    const Plan plan = choose_average_pool(arrays, r.chance(50) ? Use::often : Use::once);
    prepare(plan, folded);
    apply_average_pool(plan, folded, arrays);
    const auto at = [&](int64_t image, int64_t row, int64_t column, int64_t c) {
        const AveragedPiece& piece = arrays.pieces[static_cast<size_t>(of_channel[static_cast<size_t>(c)])];
        const int64_t own = c - first[static_cast<size_t>(of_channel[static_cast<size_t>(c)])];
        const int64_t pixel = row * arrays.width + column, pixels = arrays.height * arrays.width;
        const int64_t place = arrays.channels_last ? (image * pixels + pixel) * piece.channels + own
                                                   : (image * piece.channels + own) * pixels + pixel;
        return wanted_of(folded, piece.x[place], c);
    };
    for (int64_t i = 0; i < arrays.images; ++i)
        for (int64_t h = 0; h < height; ++h)
            for (int64_t w = 0; w < width; ++w)
                for (int64_t c = 0; c < channels; ++c) {
                    const int64_t place = arrays.channels_last ? ((i * height + h) * width + w) * channels + c
                                                               : ((i * channels + c) * height + h) * width + w;
                    const uint8_t want =
                        average(at(i, 2 * h, 2 * w, c), at(i, 2 * h, 2 * w + 1, c), at(i, 2 * h + 1, 2 * w, c),
                                at(i, 2 * h + 1, 2 * w + 1, c), p.conversion.output_signed ? 0x80 : 0);
                    require(y[static_cast<size_t>(place)] == want, "pooled");
                }
}

void statistics(Random& r) {
    Shape s = random_shape(r, 700);
    if (s.channels() == 0) return;
    const Array x = random_array(r, s, random_order(r, s));
    const Layout layout = analyse(x.data(), x.strides, x.data(), x.strides, s.n, s.ndim, s.axis);
    const bool is_signed = r.chance(50);
    const size_t channels = static_cast<size_t>(s.channels());
    std::vector<Sums> totals(channels, Sums{0, 0, 255, 0});
    std::vector<int64_t> counts(256 * channels), wanted(256 * channels);
    add_sums(layout, s.channels(), is_signed, totals.data());
    add_histogram(layout, s.channels(), is_signed, counts.data());
    for_each(s, [&](const int64_t* at, int64_t c) {
        const uint8_t u = static_cast<uint8_t>(x.data()[offset(s, at, x.strides)] ^ (is_signed ? 0x80 : 0));
        ++wanted[static_cast<size_t>(256 * c + u)];
    });
    require(counts == wanted, "histogram");
    for (size_t c = 0; c < channels; ++c) {
        Sums want{0, 0, 255, 0};
        for (int u = 0; u < 256; ++u) {
            const int64_t n = wanted[256 * c + static_cast<size_t>(u)];
            want.sum += n * u, want.square += n * u * u;
            if (n > 0) want.low = std::min(want.low, static_cast<uint8_t>(u)), want.high = static_cast<uint8_t>(u);
        }
        require(totals[c].sum == want.sum && totals[c].square == want.square && totals[c].low == want.low &&
                    totals[c].high == want.high,
                "sums");
    }
}

// Runs every `step`-th case from `first` on; returns the number of the first that failed, or -1.
int64_t run(uint64_t seed, int64_t first, int64_t end, int64_t step,
            std::vector<std::unique_ptr<SumFold>>& folds) {
    for (int64_t number = first; number < end; number += step) {
        Random r(seed, static_cast<uint64_t>(number));
        try {
            const int64_t kind = r.below(12);
            kind < 4    ? norm(r)
            : kind < 6  ? concat(r)
            : kind < 8  ? add(r, folds)
            : kind < 9  ? average_pool(r)
            : kind < 10 ? statistics(r)
            : kind < 11 ? shared(r)
                        : sums(r);
        } catch (const std::exception& error) {
            std::printf("case %lld of seed %llu: %s\n", static_cast<long long>(number),
                        static_cast<unsigned long long>(seed), error.what());
            return number;
        }
    }
    return -1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 1) {
        for (const Isa isa : available_isas()) std::puts(isa_name(isa));
        return 0;
    }
    if (argc < 4) return std::fputs("usage: random_passes SET CASES SEED [FIRST]\n", stderr), 2;
    select_kernels(argv[1]);
    const int64_t cases = std::atoll(argv[2]), first = argc > 4 ? std::atoll(argv[4]) : 0;
    const uint64_t seed = static_cast<uint64_t>(std::atoll(argv[3]));
    std::vector<std::unique_ptr<SumFold>> folds;  // each takes a millisecond: a few serve all cases
    Random r(seed, 0);
    for (int i = 0; i < 12; ++i) {
        const bool is_signed = i % 2;
        const auto zero = [&] { return r.below(256) - (is_signed ? 128 : 0); };
        const float a = i < 4 ? 0.5f : static_cast<float>(r.unit() * 2),
                    b = i < 2 ? 1.0f : static_cast<float>(r.unit());
        folds.push_back(std::make_unique<SumFold>(SumQuantization{a, b, zero(), zero(), zero(), is_signed}));
    }
    // Two callers: one pool for both, and what one prepares the other must not meet. Small work is shared among
    // threads and stored past the cache in turn.
    const int64_t part = cases / 4;
    bool failed = false;
    for (int round = 0; round < 4; ++round) {
        set_num_threads(round == 3 ? 3 : 1), set_bytes_a_thread(round == 3 ? 64 : 32768);
        set_stream_from(round % 2 ? 1 : int64_t{64} << 20);
        const int64_t from = first + round * part, to = round == 3 ? first + cases : from + part;
        int64_t bad = -1;
        std::thread other([&] { bad = run(seed, from + 1, to, 2, folds); });
        failed = run(seed, from, to, 2, folds) >= 0 || failed;
        other.join();
        failed = bad >= 0 || failed;
    }
    if (!failed) std::printf("%s: %lld passes of seed %s\n", argv[1], static_cast<long long>(cases), argv[3]);
    return failed ? 1 : 0;
}
