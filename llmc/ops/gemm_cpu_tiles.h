/*
The innermost step of the CPU's matrix product: one tile of the result, MR x NR sums that live in registers.

    tile    MR x NR  registers                          chosen when
    avx512  8 x 48   24 sums, 3 of b, 1 broadcast of a  the processor has AVX-512F
    avx2    6 x 16   12 sums, 2 of b, 1 broadcast of a  ... AVX2, FMA and F16C
    plain   4 x 8     8 sums of 4 floats (gcc vectors)  always: any processor, any compiler flags

The choice is made at run time, so that one binary runs everywhere; AHEAD_GEMM_TILE=avx512|avx2|plain in the environment
overrides it (tests run all three). Operands are packed panels, walked front to back with no index arithmetic:

    a panel  [k][MR]   MR rows of the left factor             b panel  [k][NR]   NR columns of the right factor
    tile     [MR][NR]  fp32, contiguous: it is written once per k block and stays in cache until the last block is done

Per k the avx512 tile issues 24 multiply-adds for 3 loads and 8 broadcasts: 97-99 % of the multiply-add peak.
A further kernel (other arithmetic inside the panels) is one more TileKind here and one more case in gemm_cpu_pack.h.
Tried and dropped: starting the registers from the tile's old sums instead of adding at the end (one long chain of
roundings over all k, and a wait for memory at the start).
*/
#pragma once

#include "../base/device.cuh"

#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET_AVX512 __attribute__((target("avx512f,avx2,fma,f16c")))
#define TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#endif

typedef enum { TILE_PLAIN, TILE_AVX2, TILE_AVX512, TILE_KINDS } TileKind;
enum { TILE_MAX_MR = 8, TILE_MAX_NR = 48 };

typedef struct {
    const char* name;
    int mr, nr;
} TileShape;
static const TileShape TILE_SHAPES[TILE_KINDS] = {{"plain", 4, 8}, {"avx2", 6, 16}, {"avx512", 8, 48}};

UNUSED static bool tile_supported(TileKind kind) {
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (kind == TILE_AVX2) return avx2;
    if (kind == TILE_AVX512) return avx2 && __builtin_cpu_supports("avx512f");
#endif
    return kind == TILE_PLAIN;
}

// The widest tile this processor can run, or the one that AHEAD_GEMM_TILE names.
UNUSED static TileKind tile_choose(void) {
    const char* wanted = getenv("AHEAD_GEMM_TILE");
    for (int kind = TILE_KINDS - 1; kind >= 0; kind--) {
        bool named = wanted && strcmp(wanted, TILE_SHAPES[kind].name) == 0;
        if (named && !tile_supported((TileKind)kind)) fail("AHEAD_GEMM_TILE=%s: this processor lacks it; unset it", wanted);
        if (named || (!wanted && tile_supported((TileKind)kind))) return (TileKind)kind;
    }
    fail("AHEAD_GEMM_TILE is \"%s\": use avx512, avx2 or plain, or unset it", wanted);
}

#if defined(__x86_64__)
// tile (8,48) = or += a (kc,8)^T . b (kc,48)
TARGET_AVX512 __attribute__((noinline, unused)) static void multiply_avx512(int kc, const float* a, const float* b, float* tile,
                                                                            bool add) {
    __m512 c[8][3];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) c[i][0] = c[i][1] = c[i][2] = _mm512_setzero_ps();
    if (add) {  // the old sums arrive while the loop runs
        for (int i = 0; i < 8 * 48; i += 16) _mm_prefetch((const char*)(tile + i), _MM_HINT_T0);
    }
    for (int k = 0; k < kc; k++) {
        __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16), b2 = _mm512_load_ps(b + 32);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            __m512 x = _mm512_set1_ps(a[i]);
            c[i][0] = _mm512_fmadd_ps(x, b0, c[i][0]);
            c[i][1] = _mm512_fmadd_ps(x, b1, c[i][1]);
            c[i][2] = _mm512_fmadd_ps(x, b2, c[i][2]);
        }
        a += 8;
        b += 48;
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++) {
            float* t = tile + i * 48 + j * 16;
            _mm512_store_ps(t, add ? _mm512_add_ps(_mm512_load_ps(t), c[i][j]) : c[i][j]);
        }
    }
}

// tile (6,16) = or += a (kc,6)^T . b (kc,16)
TARGET_AVX2 __attribute__((noinline, unused)) static void multiply_avx2(int kc, const float* a, const float* b, float* tile,
                                                                        bool add) {
    __m256 c[6][2];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) c[i][0] = c[i][1] = _mm256_setzero_ps();
    for (int k = 0; k < kc; k++) {
        __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            __m256 x = _mm256_broadcast_ss(a + i);
            c[i][0] = _mm256_fmadd_ps(x, b0, c[i][0]);
            c[i][1] = _mm256_fmadd_ps(x, b1, c[i][1]);
        }
        a += 6;
        b += 16;
    }
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            float* t = tile + i * 16 + j * 8;
            _mm256_store_ps(t, add ? _mm256_add_ps(_mm256_load_ps(t), c[i][j]) : c[i][j]);
        }
    }
}
#endif

// tile (4,8) = or += a (kc,4)^T . b (kc,8)
typedef float Float4 __attribute__((vector_size(16)));
__attribute__((noinline, unused)) static void multiply_plain(int kc, const float* a, const float* b, float* tile, bool add) {
    Float4 c[4][2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) c[i][0] = c[i][1] = (Float4){0, 0, 0, 0};
    for (int k = 0; k < kc; k++) {
        Float4 b0 = ((const Float4*)b)[0], b1 = ((const Float4*)b)[1];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            c[i][0] += a[i] * b0;
            c[i][1] += a[i] * b1;
        }
        a += 4;
        b += 8;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            Float4* t = (Float4*)tile + i * 2 + j;
            *t = add ? *t + c[i][j] : c[i][j];
        }
    }
}

// tile (MR,NR) = or += a panel . b panel over kc values of k. Pointers: 64-byte aligned.
static inline void tile_multiply(TileKind kind, int kc, const float* a, const float* b, float* tile, bool add) {
    switch (kind) {
#if defined(__x86_64__)
        case TILE_AVX512: multiply_avx512(kc, a, b, tile, add); return;
        case TILE_AVX2: multiply_avx2(kc, a, b, tile, add); return;
#endif
        default: multiply_plain(kc, a, b, tile, add);
    }
}
