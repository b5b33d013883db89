/*
Packing: a factor of a matrix product is copied into panels before it is multiplied, fp32 whatever it is stored as.

    Side: the left or the right factor, seen as `size` lines of length k (rows of the left one, columns of the right one)

        k_contiguous    data[line * ld + k]     a line lies in one piece: x and w in x . w^T       -> transposed in 8 x 8 blocks
        otherwise       data[k * ld + line]     neighbouring lines lie side by side                -> copied in strips

    panel   `width` lines (MR or NR of the tile), the k block's values one after the other: [k][width], missing lines are 0.
            Panels lie panel_floats() apart: a multiple of a cache line, and never a multiple of 4 KiB, because neighbouring
            panels are written together and would fall into the same sets of the first-level cache.

The 8-wide loads also serve the avx512 tile: packing waits for memory, not for arithmetic. A 6-wide panel is written in steps of
6 with 8-wide stores: each store's surplus is overwritten by the next k, the last one's falls into the gap between panels.
*/
#pragma once

#include "gemm_cpu_tiles.h"

typedef struct {
    const floatX* data;
    int size, ld;  // lines; elements between lines (k_contiguous) or between values of k
    bool k_contiguous;
    TileKind tile;
    int width;  // lines of a panel: MR or NR of the tile
} Side;

static inline int side_panels(const Side* s) { return (s->size + s->width - 1) / s->width; }
static inline size_t panel_floats(int width, int kc) { return round_up((size_t)width * kc, 16) + 16; }

// Any panel, one value at a time: ragged edges and the plain tile. Values [k0, k0 + kc) of lines [line, line + W).
template <int W>
static void pack_scalar(const Side* s, int line, int k0, int kc, float* panel) {
    int lines = s->size - line < W ? s->size - line : W;
    size_t step_line = s->k_contiguous ? s->ld : 1, step_k = s->k_contiguous ? 1 : s->ld;
    const floatX* from = s->data + line * step_line + k0 * step_k;
    for (int k = 0; k < kc; k++) {
        for (int i = 0; i < W; i++) panel[k * W + i] = i < lines ? to_float(from[i * step_line + k * step_k]) : 0.0f;
    }
}

#if defined(__x86_64__)
#define PACK_INLINE TARGET_AVX2 __attribute__((always_inline, unused)) static inline

// Eight neighbours as fp32
PACK_INLINE __m256 load8(const float* p) { return _mm256_loadu_ps(p); }
PACK_INLINE __m256 load8(const bf16* p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
PACK_INLINE __m256 load8(const fp16* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }

// r[line][k] -> r[k][line]
PACK_INLINE void transpose8(__m256* r) {
    __m256 t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {  // pairs of lines
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {  // fours of lines
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {  // halves of k
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) r[i] = t[i];
}

// A full panel of lines that lie in one piece each
template <int W>
TARGET_AVX2 static void pack_lines(const Side* s, int line, int k0, int kc, float* panel) {
    const floatX* from = s->data + (size_t)line * s->ld + k0;
    int whole = kc & ~7;
    for (int k = 0; k < whole; k += 8) {
        for (int first = 0; first < W; first += 8) {
            __m256 r[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) r[i] = load8(from + (size_t)(first + i < W ? first + i : W - 1) * s->ld + k);
            transpose8(r);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) _mm256_storeu_ps(panel + (k + i) * W + first, r[i]);
        }
    }
    if (whole < kc) pack_scalar<W>(s, line, k0 + whole, kc - whole, panel + whole * W);
}

// `count` full panels of lines that lie side by side: every row of the source is read in one piece
template <int W>
TARGET_AVX2 static void pack_strips(const Side* s, int line, int count, int k0, int kc, float* panel, size_t apart) {
    const floatX* from = s->data + (size_t)k0 * s->ld + line;
    for (int k = 0; k < kc; k++, from += s->ld) {
        for (int p = 0; p < count; p++) {
            for (int i = 0; i < W; i += 8) _mm256_storeu_ps(panel + p * apart + k * W + i, load8(from + p * W + i));
        }
    }
}

// Panels [p0, p1): the fast forms where all lines exist (a 6-wide strip reads 8 lines), value by value at the edge
template <int W>
TARGET_AVX2 static void pack_avx2(const Side* s, int p0, int p1, int k0, int kc, float* to, size_t apart) {
    enum { TOGETHER = W < 32 ? 64 / W : 1, READ = (W + 7) / 8 * 8 };
    int fast = s->size / W;
    while (!s->k_contiguous && fast > 0 && (fast - 1) * W + READ > s->size) fast--;
    for (int p = p0; p < p1;) {
        int count = 1;
        if (p >= fast) {
            pack_scalar<W>(s, p * W, k0, kc, to);
        } else if (s->k_contiguous) {
            pack_lines<W>(s, p * W, k0, kc, to);
        } else {
            int end = p1 < fast ? p1 : fast;
            count = end - p < TOGETHER ? end - p : TOGETHER;
            pack_strips<W>(s, p * W, count, k0, kc, to, apart);
        }
        p += count;
        to += count * apart;
    }
}
#endif

// Packs panels [p0, p1) of a side for values [k0, k0 + kc) of k: panel p0 to `to` (64-byte aligned), the next `apart` floats on.
UNUSED static void pack_panels(const Side* s, int p0, int p1, int k0, int kc, float* to, size_t apart) {
#if defined(__x86_64__)
    bool left = s->width == TILE_SHAPES[s->tile].mr;
    if (s->tile == TILE_AVX512) {
        left ? pack_avx2<8>(s, p0, p1, k0, kc, to, apart) : pack_avx2<48>(s, p0, p1, k0, kc, to, apart);
        return;
    }
    if (s->tile == TILE_AVX2) {
        left ? pack_avx2<6>(s, p0, p1, k0, kc, to, apart) : pack_avx2<16>(s, p0, p1, k0, kc, to, apart);
        return;
    }
#endif
    for (int p = p0; p < p1; p++, to += apart) {
        s->width == 4 ? pack_scalar<4>(s, p * 4, k0, kc, to) : pack_scalar<8>(s, p * 8, k0, kc, to);
    }
}
