/*
The low-rank decoder: column weights that all rows share, and of each row's own only a few directions.

    columns   w^(r) = S h + B[r]^T (A[r] h) + b[r]     S (Kp,C)  A (R rank,C)  B (R rank,Kp), 0 at the start  b (R,Kp)

S h is one dense product for all positions. The rest belongs to an item (n,r), with a = A[r] h (rank) and its gradient dw:

    da = B[r] dw        dB[r] += a dw^T        dA[r] += da h^T        dh += A[r]^T da        db[r] += dw

    parameters    C (R + K) + R + R K + rank R (C + K): R = 197, K = 256, C = 768, rank 8: 2.01 M (per row 39 M, dense 38.6 M)
    FLOPs         an item 2 C (R + K) + 2 rank (C + K) forward: the thin part is 2 % of the rest at rank 8
    bytes         an item reads A[r] and B[r], rank (C + K) of floatX, twice each: 16 KiB at rank 8 in bf16, out of a cache, where
                  A and B are 3 MB; their gradients are added to once per row and chunk

The thin products are kernels over items (ops/cells.cuh), not matrix products: nothing is packed by row, and the sizes of what is
launched do not depend on the data. Dropped on paper: A h for all rows as one dense product, 2 C R rank FLOPs, 3.5 times the
whole decoder at rank 8.
*/
#pragma once

#include "../ops/cells.cuh"
#include "model.cuh"

UNUSED static void lowrank_params(Model* m) {
    const Config* c = &m->config;
    LightRnn* l = &m->light;
    LightTables* low = &m->tables_head;
    ParamTable* t = &m->table;
    int R = c->book.rows, K = c->book.columns, Rp = (int)round_up((size_t)R, 8), Kp = (int)round_up((size_t)K, 8);
    l->row_w = params_add_matrix(t, "head.row.w", Rp, c->C, INIT_NORMAL, 0.02f, true);
    l->row_b = params_add_vector(t, "head.row.b", Rp, INIT_ZERO, 0.0f, c->decay_vectors);
    l->col_w = params_add_matrix(t, "head.column.w", Kp, c->C, INIT_NORMAL, 0.02f, true);
    l->col_b = params_add_vector(t, "head.column.b", R * Kp, INIT_ZERO, 0.0f, c->decay_vectors);
    low->low_in = params_add_matrix(t, "head.low.in", R * c->light_rank, c->C, INIT_NORMAL, 0.02f, true);
    low->low_out = params_add_matrix(t, "head.low.out", R * c->light_rank, Kp, INIT_ZERO, 0.0f, true);
    t->rows[l->row_w].live_rows = t->rows[l->row_b].live_rows = R;
    t->rows[l->col_w].live_rows = K;
    t->rows[l->col_b].live_rows = K, t->rows[l->col_b].period = Kp;
    t->rows[l->col_b].scatter = t->rows[low->low_in].scatter = t->rows[low->low_out].scatter = true;
}

UNUSED static void lowrank_plan_activations(Model* m, size_t items) {
    LightTables* l = &m->tables_head;
    size_t bytes = items * (size_t)m->config.light_rank * sizeof(float);
    arena_add(&m->activations, "low rank factors", &l->factor, bytes);
    arena_add(&m->activations, "factor gradients", &l->dfactor, m->training ? bytes : 0);
}

// The thin factors of the items: a = A[r] h. h (items / K,C)
UNUSED static CellRank lowrank_forward(Model* m, const floatX* h, int items, int K) {
    const Config* c = &m->config;
    const LightTables* l = &m->tables_head;
    CellRank out = {weight(m, l->low_out), l->factor, c->light_rank, 0};
    cell_factors(l->factor, h, weight(m, l->low_in), l->items.keys, items, K, c->light_rank, c->book.rows, c->C, m->stream);
    return out;
}

// Gradients of A and B, and dn (items / K,C) += their part, from dw (items,Kp).
UNUSED static void lowrank_backward(Model* m, floatX* dn, const floatX* h, const floatX* dw, int items, int K) {
    const Config* c = &m->config;
    const LightTables* l = &m->tables_head;
    int R = c->book.rows, C = c->C, Kp = (int)round_up((size_t)c->book.columns, 8), rank = c->light_rank;
    CellRank in = {weight(m, l->low_in), l->dfactor, rank, 0};
    cell_factors(l->dfactor, dw, weight(m, l->low_out), l->items.keys, items, 1, rank, R, Kp, m->stream);
    cell_sums(grad(m, l->low_out), dw, l->factor, l->items.keys, l->order, items, 1, rank, R, Kp, m->stream);
    cell_sums(grad(m, l->low_in), h, l->dfactor, l->items.keys, l->order, items, K, rank, R, C, m->stream);
    cell_spread(dn, in, l->items.keys, items / K, K, R, C, m->stream);
}
