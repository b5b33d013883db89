/*
An embedding in two parts: the token in row r and column c of a table of all tokens is the sum of a row's vector and a column's
(LightRNN: Li, Qin, Yang, Hu and Liu 2016).

    x[n] = rows[r(token n)] + columns[c(token n)] + wpe[n % T]      rows (R,C), columns (K,C), R K >= V: 2 sqrt(V) vectors, not V

Backward: positions are sorted by row and, again, by column (group_by.cuh), and each run of equal keys is summed in that order by
embedding.cuh: deterministic without atomics, though a row collects hundreds of positions.
*/
#pragma once

#include "embedding.cuh"
#include "group_by.cuh"

typedef struct {
    const int *row_of, *column_of;  // (V) cell of each token
    const floatX *rows, *columns;   // (R,C), (K,C)
    const floatX* wpe;              // (T,C) or NULL
    int T, unused;                  // no padding: the counting build compares what two launches are given
} TableEmbedding;

KERNEL table_embedding_kernel(float* RESTRICT x, const int* RESTRICT tokens, TableEmbedding e, int N, int C) {
    FOR_ROWS(n, N) {
        const floatX* row = e.rows + (size_t)e.row_of[tokens[n]] * C;
        const floatX* column = e.columns + (size_t)e.column_of[tokens[n]] * C;
        const floatX* position = e.wpe ? e.wpe + (size_t)(n % e.T) * C : NULL;
        FOR_LANES(i, C / PACK) {
            Vec a = load(row, (size_t)i), b = load(column, (size_t)i);
            FOR_PACK(k) a.v[k] += b.v[k];
            if (position) {
                Vec p = load(position, (size_t)i);
                FOR_PACK(k) a.v[k] += p.v[k];
            }
            store(x + (size_t)n * C, (size_t)i, a);
        }
    }
}

// x (N,C) fp32 from tokens (N)
UNUSED static void table_embedding(float* x, const int* tokens, TableEmbedding e, int N, int C, stream_t stream) {
    (void)stream;
    moves(WORK_EMBEDDING, (double)N * C * (double)(sizeof(float) + (e.wpe ? 3 : 2) * sizeof(floatX)));
    LAUNCH(table_embedding_kernel, N, WARP, stream)(x, tokens, e, N, C);
}

KERNEL table_keys_kernel(int* RESTRICT keys, const int* RESTRICT tokens, const int* RESTRICT key_of, int N) {
    FOR_EACH(n, (size_t)N) { keys[n] = key_of[tokens[n]]; }
}

// One of the two tables: dtable (G,C) fp32 += scatter of dres (N,C) by key_of[tokens (N)], which is in 0..G-1.
// scratch: 2 N + G + 1 ints.
UNUSED static void table_embedding_backward(float* dtable, const floatX* dres, const int* tokens, const int* key_of, int* scratch,
                                            int N, int G, int C, stream_t stream) {
    int *keys = scratch, *order = scratch + N, *first = scratch + 2 * (size_t)N;
    LAUNCH(table_keys_kernel, (N + 127) / 128, 128, stream)(keys, tokens, key_of, N);
    group_order(order, first, keys, N, G, stream);
    embedding_backward(dtable, dres, keys, order, N, C, stream);
}
