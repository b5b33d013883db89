/*
The shared decoder: one vector for each row and one for each column score both, and a matrix tells the columns which row it is.

    rows      u      = h Er^T                   (N,R)
    columns   w^(r)  = Ec (h + U Er[r])         (K)           Er (Rp,C)  Ec (Kp,C)  U (C,C), 0 at the start: columns know no row

What a row adds does not depend on the position: w^(r) = Ec h + shift[r], one dense product for all positions and a table.

    mixed = Er U^T (Rp,C)      shift = mixed Ec^T (Rp,Kp)           once a step, from its weights

Backward, with dw of an item (n,r) and its sums dy[n] over a position's items, dshift[r] over a row's:

    dEc  = dy^T h + dshift^T mixed         dmixed = dshift Ec       dU = dmixed^T Er
    dEr  = du^T h + dmixed U               dh     = du Er + dy Ec

    parameters    (R + K) C + C^2, or C^2 alone: with a lightrnn embedding its two tables are Er and Ec
    FLOPs         a position 2 C (R + K) forward, as the per-row decoder; a step 2 R C (C + K) forward, a micro-step twice that
                  backward: R = K = 225, C = 768: 0.69 M a position (dense 77 M) and 0.34 G a step, that of 500 positions
    bytes         a position moves 5 R + 8 K elements of floatX, where a dense head moves 5 V (bf16: 6 KB, 503 KB); no weights per
                  item, but its row of a table of R K that stays in a cache

--tie_embedding none keeps input and output tables apart, as Li, Qin, Yang, Hu and Liu (2016) do, who feed the row's vector
through one more recurrent step instead of U. Their hidden state per row would cost a product per item. No biases.
*/
#pragma once

#include "../ops/cells.cuh"
#include "model.cuh"

UNUSED static void shared_params(Model* m) {
    const Config* c = &m->config;
    LightRnn* l = &m->light;
    ParamTable* t = &m->table;
    int Rp = (int)round_up((size_t)c->book.rows, 8), Kp = (int)round_up((size_t)c->book.columns, 8);
    l->row_w = l->rows, l->col_w = l->columns;
    l->row_b = l->col_b = -1;
    if (!c->tied) {
        l->row_w = params_add_matrix(t, "head.row.w", Rp, c->C, INIT_NORMAL, 0.02f, true);
        l->col_w = params_add_matrix(t, "head.column.w", Kp, c->C, INIT_NORMAL, 0.02f, true);
        t->rows[l->row_w].live_rows = c->book.rows, t->rows[l->col_w].live_rows = c->book.columns;
    }
    m->tables_head.mix = params_add_matrix(t, "head.mix.w", c->C, c->C, INIT_ZERO, 0.0f, true);
}

UNUSED static void shared_plan_activations(Model* m) {
    const Config* c = &m->config;
    LightTables* l = &m->tables_head;
    Arena* a = &m->activations;
    size_t Rp = round_up((size_t)c->book.rows, 8), Kp = round_up((size_t)c->book.columns, 8), C = (size_t)c->C,
           X = sizeof(floatX), back = m->training ? 1 : 0;
    arena_add(a, "row shift", &l->shift, Rp * Kp * X);
    arena_add(a, "mixed rows", &l->mixed, Rp * C * X);
    arena_add(a, "shift gradient", &l->dshift, back * Rp * Kp * sizeof(float));
    arena_add(a, "shift rounded", &l->dshift_x, back * Rp * Kp * X);
    arena_add(a, "mixed gradient", &l->dmixed, back * Rp * C * X);
    arena_add(a, "row gradient", &l->drows, back * Rp * C * X);
}

// shift (Rp,Kp) and mixed (Rp,C) of the weights
UNUSED static void shared_forward(Model* m) {
    const LightRnn* l = &m->light;
    const LightTables* t = &m->tables_head;
    int C = m->config.C, Rp = (int)round_up((size_t)m->config.book.rows, 8),
        Kp = (int)round_up((size_t)m->config.book.columns, 8);
    const floatX* none = NULL;
    matmul_forward(&m->gemm, t->mixed, weight(m, l->row_w), weight(m, t->mix), none, Rp, C, C, 1.0f, false, m->stream);
    matmul_forward(&m->gemm, t->shift, t->mixed, weight(m, l->col_w), none, Rp, C, Kp, 1.0f, false, m->stream);
}

// What dshift (Rp,Kp), the sum over all items, means for U, Er and Ec, whose gradients hold the positions' part. Leaves dshift 0.
// accumulate: U's gradient is added to.
UNUSED static void shared_backward(Model* m, bool accumulate) {
    const LightRnn* l = &m->light;
    const LightTables* t = &m->tables_head;
    int C = m->config.C, Rp = (int)round_up((size_t)m->config.book.rows, 8),
        Kp = (int)round_up((size_t)m->config.book.columns, 8);
    floatX* dshift = t->dshift_x;
    cell_take(dshift, t->dshift, (size_t)Rp * Kp, m->stream);
    matmul_dinput(&m->gemm, t->dmixed, dshift, weight(m, l->col_w), Rp, C, Kp, 1.0f, m->stream);
    matmul_dweight(&m->gemm, grad(m, l->col_w), dshift, t->mixed, Rp, C, Kp, 1.0f, true, m->stream);
    matmul_dweight(&m->gemm, grad(m, t->mix), t->dmixed, weight(m, l->row_w), Rp, C, C, 1.0f, accumulate, m->stream);
    matmul_dinput(&m->gemm, t->drows, t->dmixed, weight(m, t->mix), Rp, C, C, 1.0f, m->stream);
    cell_add(grad(m, l->row_w), t->drows, (size_t)Rp * C, m->stream);
}
