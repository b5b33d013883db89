/*
The token filter in front of the dense head: the whole micro-batch decides which of its positions are worth a gradient.

    pass 1   logits of all N positions, losses only                      N rows, 1 product
    choice   on the device (ops/filter.cuh); the next token's loss decides alone
    pass 2   topk,   yf --gather--> (rows,C): logits, gradient, dX, dW   ceil(keep N) rows, 3 products
             excess  dn <--spread-- dX, 0 for the others
             minmax  the same over all N rows, most of them of weight 0: it saves nothing

    scratch  d4, which is idle between forward and backward, holds the gathered rows (rows,C) and their gradient (rows,C)

1 + 3 keep products instead of 3: with keep 0.6 the head costs 2.8 thirds of what it did. Everything below the head sees the exact
gradient of the filtered loss. What the log says of losses is measured in pass 1, over all positions.

Tried and dropped: keeping the logits of pass 1 (N Vp elements; chunks of rows are there to avoid just that); for topk a mask
instead of gathered rows (4 products instead of 3).
*/
#pragma once

#include "head_dense.cuh"

// How many positions of N topk keeps, and with how many rows of what weight 0 that is a multiple of 8.
UNUSED static int filter_keep(const FilterConfig* f, int N) {
    int keep = (int)ceil(f->keep * N - 1e-6);
    return keep < 1 ? 1 : keep > N ? N : keep;
}
UNUSED static bool filter_gathers(const FilterConfig* f) { return f->rule != FILTER_MINMAX; }
UNUSED static int filter_rows(const FilterConfig* f, int N) {
    int rows = (int)round_up((size_t)filter_keep(f, N), 8);
    return !filter_gathers(f) || rows > N ? N : rows;
}
static int filter_chunk_rows(const Model* m, int rows) {
    int chunk = head_chunk_rows(rows);
    return chunk < m->chunk_rows ? chunk : m->chunk_rows;
}

UNUSED static void filter_plan_activations(Model* m) {
    const Config* c = &m->config;
    const FilterConfig* f = &c->aux.filter;
    if (!f->on || !m->training) return;
    size_t N = (size_t)c->B * c->T, rows = (size_t)filter_rows(f, (int)N), I = sizeof(int);
    FilterBuffers* b = &m->filter;
    Arena* a = &m->activations;
    arena_add(a, "filter position", &b->position, filter_gathers(f) ? rows * I : 0);
    arena_add(a, "filter slot", &b->slot, filter_gathers(f) ? N * I : 0);
    arena_add(a, "filter factor", &b->factor, rows * sizeof(float));
    arena_add(a, "filter counts", &b->counts, (size_t)c->B * sizeof(float));
    arena_add(a, "filter ids", &b->list.ids, rows * FILTER_TARGETS * I);
    arena_add(a, "filter weights", &b->list.weights, rows * FILTER_TARGETS * sizeof(float));
    arena_add(a, "filter table rows", &b->list.table_rows, SOFT_TABLES * rows * I);
    arena_add(a, "filter losses", &b->losses, STEP_LOSSES * N * sizeof(float));
}

// For the training shape only: validation and samples know no filter.
UNUSED static void filter_plan_shape(Model* m, int B, int T) {
    const Config* c = &m->config;
    if (!c->aux.filter.on || !m->training || B != c->B || T != c->T) return;
    int rows = filter_rows(&c->aux.filter, B * T), chunk = filter_chunk_rows(m, rows), last = rows % chunk;
    for (int rows_of = chunk; rows_of; rows_of = rows_of == chunk ? last : 0) {
        gemm_plan(&m->gemm, GEMM_FORWARD, rows_of, c->C, c->Vp, sizeof(floatX) == sizeof(float), false, false);
        gemm_plan(&m->gemm, GEMM_DINPUT, rows_of, c->C, c->Vp, sizeof(floatX) == sizeof(float), false, false);
        gemm_plan(&m->gemm, GEMM_DWEIGHT, rows_of, c->C, c->Vp, true, false, false);
        gemm_plan(&m->gemm, GEMM_DWEIGHT, rows_of, c->C, c->Vp, true, false, true);
    }
}

// Bit mask of the loss slots that a list of targets writes.
static int targets_loss_slots(const Targets* t) {
    int slots = (1 << t->count) - 1;
    for (int i = 0; i < t->tables; i++) slots |= 1 << t->table[i].loss_slot;
    return slots;
}

// Pass 1: this micro-step's losses, alone in b->losses and added to the step's.
static void filter_measure(Model* m, const Micro* micro, Targets targets) {
    const Config* c = &m->config;
    int N = micro->B * micro->T, stride = c->B * c->T, C = c->C, Vp = c->Vp;
    float* losses = m->filter.losses;
    for (int row = 0; row < N; row += m->chunk_rows) {
        int rows = N - row < m->chunk_rows ? N - row : m->chunk_rows;
        matmul_forward(&m->gemm, m->logits, m->yf + (size_t)row * C, weight(m, m->lm_head), (const floatX*)NULL, rows, C, Vp,
                       1.0f, false, m->stream);
        classifier(m->logits, losses + row, stride, targets_from(targets, row), 0.0f, &m->state->scaler.scale, rows, c->V, Vp,
                   false, false, m->stream);
    }
    add_losses(m->losses, losses, targets_loss_slots(&targets), stride, N, micro->accumulate, m->stream);
}

// dense_loss of a training step with the filter at work; the same results, but dn and dW are those of the filtered loss.
UNUSED static void dense_filtered_loss(Model* m, const Micro* micro, Targets targets, float scale) {
    const Config* c = &m->config;
    const FilterConfig* f = &c->aux.filter;
    FilterBuffers* b = &m->filter;
    int N = micro->B * micro->T, rows = filter_rows(f, N), C = c->C, Vp = c->Vp;
    bool gathers = filter_gathers(f);
    const floatX *w = weight(m, m->lm_head), *h = m->yf;
    floatX* dh = m->dn;
    filter_measure(m, micro, targets);
    if (f->rule == FILTER_EXCESS) filter_excess(b->losses, micro->reference, N, m->stream);  // the step's losses have been added
    if (gathers) {
        int keep = filter_keep(f, N);
        filter_topk(b->position, b->slot, b->factor, b->losses, N, keep, rows, f->mean_of_kept ? (float)N / (float)keep : 1.0f,
                    m->stream);
        gather_rows(m->d4, m->yf, b->position, rows, C, m->stream);
        h = m->d4, dh = m->d4 + (size_t)rows * C;
    } else {
        filter_minmax(b->factor, b->counts, b->losses, micro->B, micro->T, f->threshold, f->mean_of_kept, m->stream);
    }
    Targets kept = filter_targets(&b->list, targets, gathers ? b->position : NULL, b->factor, rows, m->stream);
    int chunk = filter_chunk_rows(m, rows);
    for (int row = 0; row < rows; row += chunk) {
        int some = rows - row < chunk ? rows - row : chunk;
        const floatX* x = h + (size_t)row * C;
        matmul_forward(&m->gemm, m->logits, x, w, (const floatX*)NULL, some, C, Vp, 1.0f, false, m->stream);
        classifier(m->logits, b->losses, c->B * c->T, targets_from(kept, row), scale, &m->state->scaler.scale, some, c->V, Vp,
                   true, false, m->stream);
        matmul_dinput(&m->gemm, dh + (size_t)row * C, m->logits, w, some, C, Vp, 1.0f, m->stream);
        matmul_dweight(&m->gemm, grad(m, m->lm_head), m->logits, x, some, C, Vp, 1.0f, micro->accumulate || row > 0, m->stream);
    }
    if (gathers) spread_rows(m->dn, dh, b->slot, N, C, m->stream);
}
