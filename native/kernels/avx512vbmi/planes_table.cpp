// Channels first, AVX-512 VBMI: a channel's 256-byte table fits four registers, two permutations look it up.
// Exact by construction; relu and clamping cost nothing.
#include "kernels/list.hpp"
#include "simd/avx512.hpp"

namespace bytenorm {
namespace {

struct Table {
    __m512i part[4];

    explicit Table(const uint8_t* t) {
        for (int i = 0; i < 4; ++i) part[i] = _mm512_loadu_si512(t + 64 * i);
    }
    __m512i operator()(__m512i x) const {
        const __m512i low = _mm512_permutex2var_epi8(part[0], x, part[1]);  // by the lower 7 bits
        const __m512i high = _mm512_permutex2var_epi8(part[2], x, part[3]);
        return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(x), high);  // the top bit chooses
    }
};

// The planes of one channel in N images, step by step in all of them: N loads, then N stores. Images often lie a
// multiple of 4 KiB apart, and a load right behind a store to the same place of another page waits for it.
// Nothing is masked from 64 bytes on, for a load near a masked store waits too: the last vector overlaps the one
// before. It is loaded first, since in place its bytes are overwritten before it is stored.
template <int N>
void walk_images(const Table& table, const uint8_t* x, uint8_t* y, const Planes& p) {
    __m512i v[N];
    if (p.length < 64) {
        for (int k = 0; k < N; ++k) v[k] = Avx512::load_partial(x + k * p.x_image, p.length);
        for (int k = 0; k < N; ++k) Avx512::store_partial(y + k * p.y_image, table(v[k]), p.length);
        return;
    }
    __m512i last[N];
    for (int k = 0; k < N; ++k) last[k] = Avx512::load(x + k * p.x_image + p.length - 64);
    int64_t j = 0;
    if (N == 1) {  // the same with neighbouring vectors
        __m512i w[4];
        for (; j + 256 <= p.length; j += 256) {
            for (int i = 0; i < 4; ++i) w[i] = Avx512::load(x + j + 64 * i);
            for (int i = 0; i < 4; ++i) Avx512::store(y + j + 64 * i, table(w[i]));
        }
    }
    for (; j + 64 <= p.length; j += 64) {
        for (int k = 0; k < N; ++k) v[k] = Avx512::load(x + k * p.x_image + j);
        for (int k = 0; k < N; ++k) Avx512::store(y + k * p.y_image + j, table(v[k]));
    }
    if (j < p.length)
        for (int k = 0; k < N; ++k) Avx512::store(y + k * p.y_image + p.length - 64, table(last[k]));
}

// One plane past the cache, which takes whole aligned vectors. Head and tail are masked and touch no line that
// was just stored that way: it would have to be read back from memory.
void stream_plane(const Table& table, const uint8_t* x, uint8_t* y, int64_t n) {
    int64_t j = -reinterpret_cast<intptr_t>(y) & 63;
    if (j > n) j = n;
    if (j > 0) Avx512::store_partial(y, table(Avx512::load_partial(x, j)), j);
    for (; j + 64 <= n; j += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(x) + j + 1024, _MM_HINT_T0);
        Avx512::stream(y + j, table(Avx512::load(x + j)));
    }
    if (j < n) Avx512::store_partial(y + j, table(Avx512::load_partial(x + j, n - j)), n - j);
}

// Four small planes of neighbouring channels: loads before stores, as above.
void walk_four_channels(const uint8_t* tables, int64_t step, const uint8_t* x, uint8_t* y, const Planes& p) {
    __m512i v[4];
    for (int k = 0; k < 4; ++k) v[k] = Avx512::load_partial(x + k * p.x_stride, p.length);
    for (int k = 0; k < 4; ++k) v[k] = Table(tables + k * step)(v[k]);
    for (int k = 0; k < 4; ++k) Avx512::store_partial(y + k * p.y_stride, v[k], p.length);
}

}  // namespace

void Planes_table_avx512vbmi(const Planes& p) {
    if (p.length == 0) return;
    const int64_t step = 256 * p.channel_step;
    int64_t i = 0;
    if (p.length < 64 && p.images == 1)
        for (; i + 4 <= p.count; i += 4)
            walk_four_channels(p.params.table + i * step, step, p.x + i * p.x_stride, p.y + i * p.y_stride, p);
    for (; i < p.count; ++i) {
        const Table table(p.params.table + i * step);
        const uint8_t* x = p.x + i * p.x_stride;
        uint8_t* y = p.y + i * p.y_stride;
        int64_t k = 0;
        if (p.stream)
            for (; k < p.images; ++k) stream_plane(table, x + k * p.x_image, y + k * p.y_image, p.length);
        for (; k + 4 <= p.images; k += 4) walk_images<4>(table, x + k * p.x_image, y + k * p.y_image, p);
        for (; k < p.images; ++k) walk_images<1>(table, x + k * p.x_image, y + k * p.y_image, p);
    }
    if (p.stream) _mm_sfence();
}

}  // namespace bytenorm
