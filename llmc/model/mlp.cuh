/*
The two-matrix MLP: y2 (N,C) --fc--> z (N,4C) --GELU--> a (N,4C) --proj--> x +=

z and a are both kept (a is what the weight gradient of proj needs); --recompute gelu keeps z only and makes a again in the
backward pass, with the same bits.
*/
#pragma once

#include "model.cuh"

UNUSED static void mlp_params(Model* m, int l) {
    const Config* c = &m->config;
    LayerParams* p = &m->layer[l];
    p->fc_w = config_matrix(&m->table, c, layer_name(l, "mlp.fc.w"), 4 * c->C, c->C, false);
    p->fc_b = config_vector(&m->table, c, c->bias, layer_name(l, "mlp.fc.b"), 4 * c->C, INIT_ZERO);
    p->proj_w = config_matrix(&m->table, c, layer_name(l, "mlp.proj.w"), c->C, 4 * c->C, true);
    p->proj_b = config_vector(&m->table, c, c->bias, layer_name(l, "mlp.proj.b"), c->C, INIT_ZERO);
}

// x (N,C) += mlp(y2) of layer l
UNUSED static void mlp_forward(Model* m, int l, int N) {
    const Config* c = &m->config;
    const LayerParams* p = &m->layer[l];
    LayerActs k = layer_acts(m, l);
    int C = c->C;
    matmul_forward_gelu(&m->gemm, k.z, k.a, k.y2, weight(m, p->fc_w), weight(m, p->fc_b), N, C, 4 * C, c->gelu, m->stream);
    matmul_forward(&m->gemm, m->x, k.a, weight(m, p->proj_w), master(m, p->proj_b), N, 4 * C, C, 1.0f, true, m->stream);
}

// From dres (N,C): parameter gradients, and dn = gradient of y2. Scratch d4 holds dz.
UNUSED static void mlp_backward(Model* m, int l, const Micro* micro) {
    const Config* c = &m->config;
    const LayerParams* p = &m->layer[l];
    LayerActs k = layer_acts(m, l);
    int N = micro->B * micro->T, C = c->C;
    bool add = micro->accumulate;
    if (c->bias) column_sum(grad(m, p->proj_b), m->dres, m->column_scratch, N, C, add, m->stream);
    if (c->recompute == RECOMPUTE_NONE) {
        matmul_dinput_gelu(&m->gemm, m->d4, m->dres, weight(m, p->proj_w), k.z, N, 4 * C, C, c->gelu, m->stream);
    } else {
        matmul_dinput(&m->gemm, m->d4, m->dres, weight(m, p->proj_w), N, 4 * C, C, 1.0f, m->stream);
        gelu_backward(m->d4, k.z, k.a, (size_t)N * 4 * C, c->gelu, m->stream);  // one pass: dz from da, and a from z
    }
    matmul_dweight(&m->gemm, grad(m, p->proj_w), m->dres, k.a, N, 4 * C, C, 1.0f, add, m->stream);
    if (c->bias) column_sum(grad(m, p->fc_b), m->d4, m->column_scratch, N, 4 * C, add, m->stream);
    matmul_dweight(&m->gemm, grad(m, p->fc_w), m->d4, k.y2, N, C, 4 * C, 1.0f, add, m->stream);
    matmul_dinput(&m->gemm, m->dn, m->d4, weight(m, p->fc_w), N, C, 4 * C, 1.0f, m->stream);
}
