/*
Column logits of a two-coordinate vocabulary when all rows share the product with h: a row adds to it what it knows of itself.

    item (n,k)   target k of position n, where it is the first of that position's targets in its row; else the item is idle
    logits       z[item] = y[n] + shift[row] (+ sum over j of a[item][j] B[row][j])        y (N,Kp): one dense product
    gradients    dy[n] = sum of dz over the items of n;   dshift[row] = sum of dz over the items of the row

    keys (N K)   the item's row, or R: idle         cells (N K,K)     of an item: column of each target in its row, -1: not in it
    slot (N,K)   the item of a target, -1: absent   weights (N K,K)   of the targets, where they differ by position

Positions keep their order: items are not packed and no size depends on the data, so nothing is counted on the host. An idle item
has logits and gradients of 0. Cells behind the end of a row have logits of -infinity, so that a softmax over all columns gives
them no probability and an exact gradient of 0.

Sums over a row go through `order`, the items sorted by key (group_by.cuh): whoever stands at the first item of a run adds all of
it up in that order. Deterministic, without atomics. The thin products of a low rank are read where they lie: A and B of a row are
some kilobytes, which the items of that row find in a cache; a grouped matrix product would move the items instead.
*/
#pragma once

#include "group_by.cuh"
#include "soft_list.cuh"

enum { CELL_RANK = 8 };  // directions of a low rank that one pass over a row handles

// The thin factor of each row and its coefficients: w (R rank,width), factor (items,rank).
typedef struct {
    const floatX* w;
    const float* factor;
    int rank, unused;  // rank 0: there is none; no padding, as in table_embedding.cuh
} CellRank;

// What the items are, of N positions with K targets each.
typedef struct {
    int *row_ids, *keys, *cells, *slot;  // (N,K) row of each target, -1: absent; the others as above
    float* weights;                      // NULL: all positions have the same
} CellItems;

KERNEL cell_items_kernel(CellItems s, Targets t, const int* RESTRICT row_of, const int* RESTRICT column_of, int N, int R) {
    int K = t.count;
    FOR_ROWS(n, N) {
        FOR_LANES(k, K) {
            int id = target_id(t, n, k), row = id < 0 ? -1 : row_of[id], item = n * K + k, first = k;
            for (int j = k - 1; j >= 0; j--) {
                int other = target_id(t, n, j);
                first = other >= 0 && row_of[other] == row ? j : first;
            }
            bool live = id >= 0 && first == k;
            s.row_ids[item] = row;
            s.keys[item] = live ? row : R;
            s.slot[item] = id < 0 ? -1 : n * K + first;
            for (int j = 0; j < K; j++) {
                int other = target_id(t, n, j);
                s.cells[item * K + j] = live && other >= 0 && row_of[other] == row ? column_of[other] : -1;
                if (s.weights) s.weights[item * K + j] = target_weight(t, n, j);
            }
        }
    }
}

UNUSED static void cell_items(CellItems s, Targets t, const int* row_of, const int* column_of, int N, int R, stream_t stream) {
    (void)stream;
    LAUNCH(cell_items_kernel, N, WARP, stream)(s, t, row_of, column_of, N, R);
}

// Directions first .. first + CELL_RANK - 1 of an item in `row`; beyond the rank the factor is 0.
typedef struct {
    const floatX* w[CELL_RANK];
    float factor[CELL_RANK];
} CellDirections;

DEVICE CellDirections cell_directions(CellRank low, int item, int row, int first, int width) {
    CellDirections d;
    UNROLL for (int u = 0; u < CELL_RANK; u++) {
        int j = first + u < low.rank ? first + u : low.rank - 1;
        float f = low.factor[(size_t)item * low.rank + j];
        d.w[u] = low.w + ((size_t)row * low.rank + j) * width;
        d.factor[u] = first + u < low.rank ? f : 0.0f;
    }
    return d;
}

// out (width) += sum over the directions of an item in `row` of factor * w. Rounded once per CELL_RANK of them.
DEVICE void cell_directions_add(floatX* out, CellRank low, int item, int row, int width) {
    for (int first = 0; first < low.rank; first += CELL_RANK) {
        CellDirections d = cell_directions(low, item, row, first, width);
        FOR_LANES(i, width / PACK) {
            Vec a = load((const floatX*)out, (size_t)i);
            UNROLL for (int u = 0; u < CELL_RANK; u++) {
                Vec b = load(d.w[u], (size_t)i);
                FOR_PACK(k) a.v[k] = fmaf(d.factor[u], b.v[k], a.v[k]);
            }
            store(out, (size_t)i, a);
        }
    }
}

// z (N K,Kp), which may be y when K is 1; length (R): cells of each row.
KERNEL cell_logits_kernel(floatX* z, const floatX* y, const floatX* RESTRICT shift, const int* RESTRICT keys,
                          const int* RESTRICT length, CellRank low, int items, int K, int R, int Kp) {
    FOR_ROWS(item, items) {
        int row = keys[item], live = row < R ? length[row] : 0;
        floatX* out = z + (size_t)item * Kp;
        const floatX *in = y + (size_t)(item / K) * Kp, *own = shift + (size_t)(row < R ? row : 0) * Kp;
        FOR_LANES(i, Kp / PACK) {
            Vec a = load(in, (size_t)i), b = load(own, (size_t)i);
            FOR_PACK(k) a.v[k] = i * PACK + k < live ? a.v[k] + b.v[k] : row < R ? -INFINITY : 0.0f;
            store(out, (size_t)i, a);
        }
        if (row < R) cell_directions_add(out, low, item, row, Kp);
    }
}

UNUSED static void cell_logits(floatX* z, const floatX* y, const floatX* shift, const int* keys, const int* length, CellRank low,
                               int items, int K, int R, int Kp, stream_t stream) {
    (void)stream;
    LAUNCH(cell_logits_kernel, items, WARP, stream)(z, y, shift, keys, length, low, items, K, R, Kp);
}

// factor (items,rank) = x[item / per] . w[row][j]: x (items / per,width), w (R rank,width). An idle item's are 0.
KERNEL cell_factors_kernel(float* RESTRICT factor, const floatX* RESTRICT x, const floatX* RESTRICT w, const int* RESTRICT keys,
                           int items, int per, int rank, int R, int width) {
    FOR_ROWS(q, items * rank) {
        int item = q / rank, row = keys[item];
        const floatX* a = x + (size_t)(item / per) * width;
        const floatX* b = w + ((size_t)(row < R ? row : 0) * rank + q % rank) * width;
        float sum = 0.0f;
        FOR_LANES(i, width / PACK) {
            Vec p = load(a, (size_t)i), r = load(b, (size_t)i);
            FOR_PACK(k) sum += p.v[k] * r.v[k];  // a form that the CPU's vectoriser knows as a sum
        }
        sum = team_sum(sum);
        if (FIRST_LANE) factor[q] = row < R ? sum : 0.0f;
    }
}

UNUSED static void cell_factors(float* factor, const floatX* x, const floatX* w, const int* keys, int items, int per, int rank,
                                int R, int width, stream_t stream) {
    (void)stream;
    LAUNCH(cell_factors_kernel, items * rank, WARP, stream)(factor, x, w, keys, items, per, rank, R, width);
}

// dx (N,width) += sum over the K items of a position and their directions of factor * w. Rounded once per item and CELL_RANK.
KERNEL cell_spread_kernel(floatX* dx, CellRank low, const int* RESTRICT keys, int N, int K, int R, int width) {
    FOR_ROWS(n, N) {
        floatX* out = dx + (size_t)n * width;
        for (int item = n * K; item < n * K + K; item++) {
            if (keys[item] < R) cell_directions_add(out, low, item, keys[item], width);
        }
    }
}

UNUSED static void cell_spread(floatX* dx, CellRank low, const int* keys, int N, int K, int R, int width, stream_t stream) {
    (void)stream;
    LAUNCH(cell_spread_kernel, N, WARP, stream)(dx, low, keys, N, K, R, width);
}

// dw (R rank,width) fp32 += sum over a row's items of factor[item][j] * x[item / per]; factor NULL: rank 1, factors of 1.
// A team owns one direction of one run.
KERNEL cell_sums_kernel(float* dw, const floatX* RESTRICT x, const float* RESTRICT factor, const int* RESTRICT keys,
                        const int* RESTRICT order, int items, int per, int rank, int R, int width) {
    FOR_ROWS(q, items * rank) {
        int slot = q / rank, j = q % rank, row = keys[order[slot]];
        if (row == R || (slot > 0 && keys[order[slot - 1]] == row)) continue;
        float* out = dw + ((size_t)row * rank + j) * width;
        int end = slot + 1;
        while (end < items && keys[order[end]] == row) end++;
#if GPU_EXECUTION
        FOR_LANES(i, width / PACK) {
            Vec sum = load((const float*)out, (size_t)i);
            for (int s = slot; s < end; s++) {
                int item = order[s];
                float f = factor ? factor[(size_t)item * rank + j] : 1.0f;
                Vec d = load(x + (size_t)(item / per) * width, (size_t)i);
                FOR_PACK(k) sum.v[k] = fmaf(f, d.v[k], sum.v[k]);
            }
            store(out, (size_t)i, sum);
        }
#else
        for (int s = slot; s < end; s++) {
            int item = order[s];
            float f = factor ? factor[(size_t)item * rank + j] : 1.0f;
            const floatX* d = x + (size_t)(item / per) * width;
            FOR_LANES(i, width) out[i] = fmaf(f, to_float(d[i]), out[i]);
        }
#endif
    }
}

UNUSED static void cell_sums(float* dw, const floatX* x, const float* factor, const int* keys, const int* order, int items,
                             int per, int rank, int R, int width, stream_t stream) {
    (void)stream;
    LAUNCH(cell_sums_kernel, items * rank, WARP, stream)(dw, x, factor, keys, order, items, per, rank, R, width);
}

// y (N,Kp) = sum of z (N K,Kp) over the items of a position, rounded once
KERNEL cell_gather_kernel(floatX* RESTRICT y, const floatX* RESTRICT z, int N, int K, int Kp) {
    FOR_ROWS(n, N) {
        FOR_LANES(i, Kp / PACK) {
            Vec sum = {};
            for (int k = 0; k < K; k++) {
                Vec d = load(z + ((size_t)n * K + k) * Kp, (size_t)i);
                FOR_PACK(p) sum.v[p] += d.v[p];
            }
            store(y + (size_t)n * Kp, (size_t)i, sum);
        }
    }
}

UNUSED static void cell_gather(floatX* y, const floatX* z, int N, int K, int Kp, stream_t stream) {
    (void)stream;
    LAUNCH(cell_gather_kernel, N, WARP, stream)(y, z, N, K, Kp);
}

// y (n) = sum (n) rounded, and sum = 0: the next micro-step adds to it again
KERNEL cell_take_kernel(floatX* RESTRICT y, float* RESTRICT sum, size_t n) {
    FOR_EACH(i, n / PACK) {
        Vec zero = {};
        store(y, i, load((const float*)sum, i));
        store(sum, i, zero);
    }
}

// sum (n) fp32 += x (n): a product's part of a gradient that is more than one product
KERNEL cell_add_kernel(float* RESTRICT sum, const floatX* RESTRICT x, size_t n) {
    FOR_EACH(i, n / PACK) {
        Vec a = load((const float*)sum, i), b = load(x, i);
        FOR_PACK(k) a.v[k] += b.v[k];
        store(sum, i, a);
    }
}

UNUSED static void cell_take(floatX* y, float* sum, size_t n, stream_t stream) {
    (void)stream;
    LAUNCH(cell_take_kernel, (int)((n / PACK + 127) / 128), 128, stream)(y, sum, n);
}

UNUSED static void cell_add(float* sum, const floatX* x, size_t n, stream_t stream) {
    (void)stream;
    LAUNCH(cell_add_kernel, (int)((n / PACK + 127) / 128), 128, stream)(sum, x, n);
}
