/*
The head seam: what turns hidden rows into a distribution over the vocabulary. A head is NAME_params, NAME_loss (forward and
backward in one call over row chunks) and NAME_probs; a new one is a file, an enum value in config.h and one case in each switch.
*/
#pragma once

#include "head_dense.cuh"
#include "head_filter.cuh"
#include "head_lightrnn.cuh"
#include "light_tables.cuh"

// Of a lightrnn head: its rows share column weights.
static bool head_has_tables(const Model* m) { return m->config.decoder != DECODER_PER_ROW; }

UNUSED static void head_params(Model* m) {
    switch (m->config.head) {
        case HEAD_DENSE: dense_params(m); break;
        case HEAD_LIGHTRNN: head_has_tables(m) ? light_tables_params(m) : light_params(m); break;
    }
}

// The lightrnn head as work of a plan: which rows the targets are in only the data know. As if no two of a position shared one.
static void light_count(const Model* m, int N, int K) {
    int C = m->config.C, R = m->config.book.rows, Rp = (int)round_up((size_t)R, 8);
    int Kp = (int)round_up((size_t)m->config.book.columns, 8);
    bool x = sizeof(floatX) == sizeof(float);
    GemmCall c = {GEMM_FORWARD, N, C, Rp, x, false, NULL, NULL, NULL, NULL, 1.0f, 0, false, false, NULL};
    for (int part = 0; part < 2; part++) {  // rows, columns
        for (int kind = GEMM_FORWARD; kind <= GEMM_DWEIGHT; kind++) {
            c.kind = (GemmKind)kind, c.result_is_float = x || kind == GEMM_DWEIGHT, c.accumulate = part && kind == GEMM_DWEIGHT;
            gemm_count(&c);
        }
        moves(WORK_CLASSIFIER, 2.0 * c.rows * c.out * sizeof(floatX));
        c.rows = N * K, c.out = Kp;
    }
    moves(WORK_PRODUCT, 2.0 * (R - 1) * Kp * C * (double)(sizeof(floatX) + sizeof(float)));  // of the other rows: read, read, +=
}

UNUSED static void head_loss(Model* m, const Micro* micro, Targets targets, float scale, bool gradient) {
    bool filtered = gradient && m->targets.filter != 0.0f;
    if (planning.walks && m->config.head == HEAD_LIGHTRNN && !head_has_tables(m)) {
        light_count(m, micro->B * micro->T, m->config.aux.exact ? targets_total(targets) : targets.count);
        return;
    }
    switch (m->config.head) {
        case HEAD_DENSE:
            if (filtered) dense_filtered_loss(m, micro, targets, scale);
            else dense_loss(m, micro, targets, scale, gradient);
            break;
        case HEAD_LIGHTRNN:
            if (head_has_tables(m)) light_tables_loss(m, micro, targets, scale, gradient);
            else light_loss(m, micro, targets, scale, gradient);
            break;
    }
}

UNUSED static void head_probs(Model* m, int n, float* probs) {
    switch (m->config.head) {
        case HEAD_DENSE: dense_probs(m, n, probs); break;
        case HEAD_LIGHTRNN: head_has_tables(m) ? light_tables_probs(m, n, probs) : light_probs(m, n, probs); break;
    }
}

// Plans of the products for N positions, and for a sample.
UNUSED static void head_plan_shape(Model* m, int N) {
    switch (m->config.head) {
        case HEAD_DENSE: dense_plan_shape(m, N); break;
        case HEAD_LIGHTRNN: head_has_tables(m) ? light_tables_plan_shape(m, N) : light_plan_shape(m, N); break;
    }
}

// What a head needs beside the logits: slices of the activations, and things that are not memory.
UNUSED static void head_plan_activations(Model* m) {
    if (m->config.head != HEAD_LIGHTRNN) return;
    head_has_tables(m) ? light_tables_plan_activations(m) : light_plan_activations(m);
}
UNUSED static void head_allocate(Model* m) {
    if (m->config.head != HEAD_LIGHTRNN) return;
    head_has_tables(m) ? light_tables_allocate(m) : light_allocate(m);
}
UNUSED static void head_free(Model* m) {
    if (m->config.head == HEAD_LIGHTRNN && !head_has_tables(m)) light_free(m);
}
