/*
The small matrix product inside attention_cpu.h:  c (rows,n) = or += a (rows,k) b (k,n), everything fp32 and in the caches.

    b   (k,n)     rows are read as vectors
    a   (rows,k)  one element at a time, broadcast; so it may be stored transposed for free: dk = ds^T q
    c   in tiles  ATTN_ROWS x (ATTN_VECS * ATTN_WIDTH) sums stay in registers over all k terms; with AVX-512, 8 broadcasts and
                  2 loads feed 16 multiply-adds

The vector width is the compiler's: AVX-512, AVX2 or plain 128 bit by what the build may use, through GCC vector types.
Apart from gemm_cpu_tiles.h because nothing is packed here (operands are made in their final place, and used at once) and because
the sums of a tile may start or stop at the diagonal.
Tried and dropped: AVX-512 tiles of 4 x 64 (17 % slower: fewer independent broadcasts per load), 8 x 48 (equal at head size 64).
*/
#pragma once

#include "../base/device.cuh"

#if defined(__AVX512F__)
enum { ATTN_WIDTH = 16, ATTN_ROWS = 8, ATTN_VECS = 2 };
#elif defined(__AVX__)
enum { ATTN_WIDTH = 8, ATTN_ROWS = 4, ATTN_VECS = 3 };
#else
enum { ATTN_WIDTH = 4, ATTN_ROWS = 4, ATTN_VECS = 3 };
#endif
enum { ATTN_BLOCK = 64 };  // a multiple of ATTN_ROWS and ATTN_WIDTH
typedef float AttnVec __attribute__((vector_size(ATTN_WIDTH * 4), may_alias));

// On the diagonal block, what a row tile starting at row r may skip:
typedef enum {
    ATTN_FULL,         // nothing
    ATTN_COLUMNS_END,  // scores: columns after the tile's last row
    ATTN_SUM_END,      // p v, ds k: terms after the tile's last row
    ATTN_SUM_BEGIN,    // p^T dout, ds^T q: terms before the tile's first row
} AttnSkip;

// c (ATTN_ROWS, V * ATTN_WIDTH) of row length ldc: = or += sum over `terms` of a * b. Element (row r, term t) of a lies at
// a[r * lda + t], or for TRANSPOSED at a[t * 64 + r]; row t of b starts at b + t * ldb.
template <int V, bool ADD, bool TRANSPOSED>
static void attn_tile(float* c, int ldc, const float* a, int lda, const float* b, int ldb, int terms) {
    AttnVec sum[ATTN_ROWS][V];
#pragma GCC unroll 8
    for (int r = 0; r < ATTN_ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) sum[r][v] = ADD ? *(AttnVec*)(c + r * ldc + v * ATTN_WIDTH) : (AttnVec){};
    for (int t = 0; t < terms; t++) {
        AttnVec row[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) row[v] = *(const AttnVec*)(b + (size_t)t * ldb + v * ATTN_WIDTH);
#pragma GCC unroll 8
        for (int r = 0; r < ATTN_ROWS; r++) {
            float x = TRANSPOSED ? a[t * ATTN_BLOCK + r] : a[r * lda + t];
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) sum[r][v] += x * row[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ATTN_ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) *(AttnVec*)(c + r * ldc + v * ATTN_WIDTH) = sum[r][v];
}

// c (rows,columns) = or += a (rows,terms) b (terms,columns). rows: multiple of ATTN_ROWS; columns: of ATTN_WIDTH.
template <bool ADD, bool TRANSPOSED>
static void attn_product(float* c, int ldc, const float* a, int lda, const float* b, int ldb, int rows, int columns, int terms,
                         AttnSkip skip) {
    enum { STEP = ATTN_VECS * ATTN_WIDTH };
    for (int r = 0; r < rows; r += ATTN_ROWS) {
        int last = r + ATTN_ROWS;
        int n = skip == ATTN_COLUMNS_END ? (int)round_up((size_t)last, ATTN_WIDTH) : columns;
        int begin = skip == ATTN_SUM_BEGIN ? r : 0, end = skip == ATTN_SUM_END && last < terms ? last : terms;
        const float* ar = TRANSPOSED ? a + begin * ATTN_BLOCK + r : a + r * lda + begin;
        const float* bt = b + (size_t)begin * ldb;
        float* cr = c + (size_t)r * ldc;
        int j = 0;
        for (; j + STEP <= n; j += STEP) attn_tile<ATTN_VECS, ADD, TRANSPOSED>(cr + j, ldc, ar, lda, bt + j, ldb, end - begin);
        for (; j < n; j += ATTN_WIDTH) attn_tile<1, ADD, TRANSPOSED>(cr + j, ldc, ar, lda, bt + j, ldb, end - begin);
    }
}
