/*
Targets in a table of rows and columns: an item is a position and one of the distinct rows that its targets are in.

    position n, K = 3    targets in cells (4,1) (0,7) (4,2)       items    (n, row 4, columns 1 - 2)   (n, row 0, columns - 7 -)

    row_ids, slot   (N,K)       row of each target; the item that scores it, -1: none
    position        (items)     of an item
    first           (rows+1)    items are sorted by row, stably: the first one of each row; first[rows]: how many
    ids, weights    (items,K)   of some items: columns of the position's targets, -1: those in another row; their weights

There are at most N K items. How many there are stays on the device: the CPU's functions know, on a GPU the host goes on with
N K, and whoever works on items leaves out those from first[rows] on.

    bytes a position   items_sort 4 K (7 + K), items_cells 4 (3 + weights 2) an item and target, items_spread 2 C (K + 2)
*/
#pragma once

#include "group_by.cuh"
#include "rows.cuh"
#include "soft_list.cuh"

typedef struct {
    int K, rows;                    // targets a position, rows of the table
    const int *row_of, *column_of;  // (V) cell of each token
    int *row_ids, *slot, *position, *first;
    int *keys, *order;  // (N K) scratch of the GPU
} Items;

// First of the K values at `ids` that is ids[k].
DEVICE int first_same(const int* ids, int k) {
    int j = 0;
    while (ids[j] != ids[k]) j++;
    return j;
}

#if GPU_EXECUTION
// Rows of the targets, and as keys of the sort those that make an item.
KERNEL items_rows_kernel(Items s, Targets t, int N) {
    FOR_EACH(n, (size_t)N) {
        int* rows = s.row_ids + n * s.K;
        for (int k = 0; k < s.K; k++) {
            int id = target_id(t, (int)n, k);
            rows[k] = id < 0 ? -1 : s.row_of[id];
            s.keys[n * s.K + k] = first_same(rows, k) == k ? rows[k] : -1;
            s.slot[n * s.K + k] = -1;
        }
    }
}

// Items from the order of the entries (n,k).
KERNEL items_fill_kernel(Items s, int entries) {
    FOR_EACH(i, (size_t)entries) {
        if ((int)i >= s.first[s.rows]) continue;
        int entry = s.order[i], n = entry / s.K, row = s.row_ids[entry];
        s.position[i] = n;
        for (int k = 0; k < s.K; k++) {
            if (s.row_ids[n * s.K + k] == row) s.slot[n * s.K + k] = (int)i;
        }
    }
}

// dn (N,C) += dh (end - begin,C) of each position's items begin .. end - 1
KERNEL items_spread_kernel(floatX* RESTRICT dn, const floatX* RESTRICT dh, Items s, int begin, int end, int N, int C) {
    FOR_ROWS(n, N) {
        const int* slot = s.slot + (size_t)n * s.K;
        bool any = false;
        for (int k = 0; k < s.K; k++) any = any || (slot[k] >= begin && slot[k] < end);
        if (!any) continue;
        FOR_LANES(i, C / PACK) {
            Vec sum = load(dn + (size_t)n * C, (size_t)i);
            for (int k = 0; k < s.K; k++) {
                if (slot[k] < begin || slot[k] >= end || first_same(slot, k) < k) continue;
                Vec x = load(dh + (size_t)(slot[k] - begin) * C, (size_t)i);
                FOR_PACK(j) sum.v[j] += x.v[j];
            }
            store(dn + (size_t)n * C, (size_t)i, sum);
        }
    }
}
#endif

// Fills in the items of the targets (N,K). Returns how many there are, or on a GPU how many there can be.
UNUSED static int items_sort(const Items* s, const Targets* t, int N, stream_t stream) {
    (void)stream;
    int K = s->K, R = s->rows;
#if GPU_EXECUTION
    LAUNCH(items_rows_kernel, (N + 127) / 128, 128, stream)(*s, *t, N);
    group_order(s->order, s->first, s->keys, N * K, R, stream);
    LAUNCH(items_fill_kernel, (N * K + 127) / 128, 128, stream)(*s, N * K);
    return N * K;
#else
    int* first = s->first;
    memset(first, 0, ((size_t)R + 1) * sizeof(int));
    for (int n = 0; n < N; n++) {
        int* rows = s->row_ids + (size_t)n * K;
        for (int k = 0; k < K; k++) {
            int id = target_id(*t, n, k);
            rows[k] = id < 0 ? -1 : s->row_of[id];
            if (id >= 0 && first_same(rows, k) == k) first[rows[k] + 1]++;
        }
    }
    for (int r = 0; r < R; r++) first[r + 1] += first[r];
    for (int n = 0; n < N; n++) {
        const int* rows = s->row_ids + (size_t)n * K;
        int* slot = s->slot + (size_t)n * K;
        for (int k = 0; k < K; k++) {
            int j = first_same(rows, k);
            slot[k] = rows[k] < 0 ? -1 : j < k ? slot[j] : first[rows[k]]++;
            if (rows[k] >= 0) s->position[slot[k]] = n;
        }
    }
    for (int r = R; r > 0; r--) first[r] = first[r - 1];
    first[0] = 0;
    return first[R];
#endif
}

KERNEL items_cells_kernel(int* RESTRICT ids, float* RESTRICT weights, Items s, Targets t, int begin, int end) {
    FOR_EACH(i, (size_t)(end - begin) * s.K) {
        int item = begin + (int)(i / (size_t)s.K), k = (int)(i % (size_t)s.K);
        if (item >= s.first[s.rows]) continue;
        int n = s.position[item];
        bool here = s.slot[(size_t)n * s.K + k] == item;
        ids[i] = here ? s.column_of[target_id(t, n, k)] : -1;
        if (weights) weights[i] = here ? target_weight(t, n, k) : 0.0f;
    }
}

// ids, and unless NULL weights (end - begin,K) of the targets of items begin .. end - 1, each in its own column of the row.
UNUSED static void items_cells(int* ids, float* weights, const Items* s, const Targets* t, int begin, int end, stream_t stream) {
    (void)stream;
    LAUNCH(items_cells_kernel, ((end - begin) * s->K + 127) / 128, 128, stream)(ids, weights, *s, *t, begin, end);
}

// dn (N,C) += dh (end - begin,C) of each position's items begin .. end - 1. CPU: 16-bit storage rounds after each of them.
UNUSED static void items_spread(floatX* dn, const floatX* dh, const Items* s, int begin, int end, int N, int C, stream_t stream) {
    (void)stream;
#if GPU_EXECUTION
    LAUNCH(items_spread_kernel, N, row_lanes(C), stream)(dn, dh, *s, begin, end, N, C);
#else
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const int* slot = s->slot + (size_t)n * s->K;
        floatX* to = dn + (size_t)n * C;
        for (int k = 0; k < s->K; k++) {
            if (slot[k] < begin || slot[k] >= end || first_same(slot, k) < k) continue;
            const floatX* from = dh + (size_t)(slot[k] - begin) * C;
            FOR_LANES(i, C) from_float(&to[i], to_float(to[i]) + to_float(from[i]));
        }
    }
#endif
}
