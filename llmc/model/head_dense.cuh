/*
The dense head: logits = h W^T over the padded vocabulary, chunk by chunk of rows, so that the (N,Vp) logits never exist.

    for each chunk:  logits (rows,Vp) = h W^T;  classifier in place -> dlogits;  dh = dlogits W;  dW (=|+=) dlogits^T h

Forward and backward are one call because the classifier starts the backward pass. W is wte (tied) or lm_head. The first chunk
of the first micro-step stores dW, so no pass zeroes it; all Vp rows are written, the padding rows with zeros.
*/
#pragma once

#include "model.cuh"

UNUSED static void dense_params(Model* m) {
    const Config* c = &m->config;
    m->lm_head = m->wte;
    if (c->tied) return;
    m->lm_head = config_matrix(&m->table, c, "lm_head", c->Vp, c->C, false);
    m->table.rows[m->lm_head].live_rows = c->V;
}

UNUSED static void dense_plan_shape(Model* m, int N) {
    int C = m->config.C, Vp = m->config.Vp;
    plan_chunks(m, N, C, Vp, false);
    gemm_plan(&m->gemm, GEMM_FORWARD, HEAD_SAMPLE_ROWS, C, Vp, sizeof(floatX) == sizeof(float), false, false);
}

// Cross-entropies of every target into m->losses; with gradient: dn = gradient of yf, and the head's weight gradient.
// scale: 1 / (N * micro-steps).
UNUSED static void dense_loss(Model* m, const Micro* micro, Targets targets, float scale, bool gradient) {
    const Config* c = &m->config;
    int N = micro->B * micro->T, loss_stride = c->B * c->T, C = c->C, Vp = c->Vp;
    const floatX* w = weight(m, m->lm_head);
    for (int row = 0; row < N; row += m->chunk_rows) {
        int rows = N - row < m->chunk_rows ? N - row : m->chunk_rows;
        const floatX* h = m->yf + (size_t)row * C;
        matmul_forward(&m->gemm, m->logits, h, w, (const floatX*)NULL, rows, C, Vp, 1.0f, false, m->stream);
        classifier(m->logits, m->losses + row, loss_stride, targets_from(targets, row), scale, &m->state->scaler.scale, rows,
                   c->V, Vp, gradient, micro->accumulate, m->stream);
        if (!gradient) continue;
        matmul_dinput(&m->gemm, m->dn + (size_t)row * C, m->logits, w, rows, C, Vp, 1.0f, m->stream);
        matmul_dweight(&m->gemm, grad(m, m->lm_head), m->logits, h, rows, C, Vp, 1.0f, micro->accumulate || row > 0, m->stream);
    }
}

// probs (V) on the host: the normalised next-token distribution after row n of yf. A GPU multiplies 8 rows: its products
// need that.
UNUSED static void dense_probs(Model* m, int n, float* probs) {
    const Config* c = &m->config;
    int rows = HEAD_SAMPLE_ROWS, first = n / rows * rows;
    floatX* row = (floatX*)xmalloc((size_t)c->Vp * sizeof(floatX));
    matmul_forward(&m->gemm, m->logits, m->yf + (size_t)first * c->C, weight(m, m->lm_head), (const floatX*)NULL, rows, c->C,
                   c->Vp, 1.0f, false, m->stream);
    copy_to_host(row, m->logits + (size_t)(n - first) * c->Vp, (size_t)c->Vp * sizeof(floatX));
    float max = -INFINITY;
    double sum = 0.0;
    for (int v = 0; v < c->V; v++) max = fmaxf(max, to_float(row[v]));
    for (int v = 0; v < c->V; v++) sum += exp((double)to_float(row[v]) - max);
    for (int v = 0; v < c->V; v++) probs[v] = (float)(exp((double)to_float(row[v]) - max) / sum);
    free(row);
}
