/*
Causal self attention as a mixer: normed input y1 (N,C) -> qkv -> (RoPE) -> attention -> projection, added to the stream.

    y1 --qkv_w--> qkv (N,3,NH,D) --rope--> --attention--> att (N,C) --attn_proj_w, times attn_scale--> x +=

The residual add is the GEMM's own accumulate, so it costs no pass. Backward runs the same lines upwards; scratch d4 holds dqkv
(3C of its 4C columns), dn first datt and then dy1.
*/
#pragma once

#include "model.cuh"

UNUSED static void attention_mixer_params(Model* m, int l) {
    const Config* c = &m->config;
    LayerParams* p = &m->layer[l];
    p->qkv_w = config_matrix(&m->table, c, layer_name(l, "attn.qkv.w"), 3 * c->C, c->C, false);
    p->qkv_b = config_vector(&m->table, c, c->bias, layer_name(l, "attn.qkv.b"), 3 * c->C, INIT_ZERO);
    p->attn_proj_w = config_matrix(&m->table, c, layer_name(l, "attn.proj.w"), c->C, c->C, true);
    p->attn_proj_b = config_vector(&m->table, c, c->bias, layer_name(l, "attn.proj.b"), c->C, INIT_ZERO);
}

// Attention of the one token at the cache's position. qkv: DECODE_ROWS rows, of which the first counts.
static void attention_mixer_step(Model* m, int l, LayerActs k) {
    const Config* c = &m->config;
    int T = c->T, D = c->C / c->NH, position = m->cache.position;
    size_t angles = (size_t)position * (D / 2);
    floatX* kv = m->cache.kv + (size_t)l * 2 * T * c->C;
    if (!c->learned_positions) rope(k.qkv, m->rope_cos + angles, m->rope_sin + angles, false, 1, 1, c->NH, D, m->stream);
    attention_decode(k.att, k.lse, kv, k.qkv, position, T, c->NH, D, m->stream);
}

// Attention of whole sequences
static void attention_mixer_rows(Model* m, int l, LayerActs k, int B, int T) {
    const Config* c = &m->config;
    int D = c->C / c->NH;
    if (!c->learned_positions) rope(k.qkv, m->rope_cos, m->rope_sin, false, B * T, T, c->NH, D, m->stream);
    Section outer = section_begin(SECTION_ATTENTION);
    attention_forward(&m->attention, k.att, k.lse, k.qkv, B, T, c->NH, D, m->stream);
    section_end(outer);
    if (m->cache.mode != CACHE_FILL) return;
    cache_fill(m->cache.kv + (size_t)l * 2 * c->T * c->C, k.qkv, T, c->T, c->NH, D, m->stream);
}

// x (N,C) += attn_scale * attention(y1) of layer l
UNUSED static void attention_mixer_forward(Model* m, int l, int B, int T) {
    const Config* c = &m->config;
    const LayerParams* p = &m->layer[l];
    LayerActs k = layer_acts(m, l);
    int N = B * T, C = c->C;
    matmul_forward(&m->gemm, k.qkv, k.y1, weight(m, p->qkv_w), weight(m, p->qkv_b), N, C, 3 * C, 1.0f, false, m->stream);
    if (m->cache.mode == CACHE_STEP) attention_mixer_step(m, l, k);
    else attention_mixer_rows(m, l, k, B, T);
    matmul_forward(&m->gemm, m->x, k.att, weight(m, p->attn_proj_w), master(m, p->attn_proj_b), N, C, C, c->attn_scale, true,
                   m->stream);
}

// From dres (N,C): parameter gradients, and dn = gradient of y1.
UNUSED static void attention_mixer_backward(Model* m, int l, const Micro* micro) {
    const Config* c = &m->config;
    const LayerParams* p = &m->layer[l];
    LayerActs k = layer_acts(m, l);
    int B = micro->B, T = micro->T, N = B * T, C = c->C, D = C / c->NH;
    bool add = micro->accumulate;
    if (c->bias) column_sum(grad(m, p->attn_proj_b), m->dres, m->column_scratch, N, C, add, m->stream);
    matmul_dweight(&m->gemm, grad(m, p->attn_proj_w), m->dres, k.att, N, C, C, c->attn_scale, add, m->stream);
    matmul_dinput(&m->gemm, m->dn, m->dres, weight(m, p->attn_proj_w), N, C, C, c->attn_scale, m->stream);
    Section outer = section_begin(SECTION_ATTENTION_BACKWARD);
    attention_backward(&m->attention, m->d4, m->dn, k.att, k.lse, k.qkv, B, T, c->NH, D, m->stream);
    section_end(outer);
    if (!c->learned_positions) rope(m->d4, m->rope_cos, m->rope_sin, true, N, T, c->NH, D, m->stream);
    if (c->bias) column_sum(grad(m, p->qkv_b), m->d4, m->column_scratch, N, 3 * C, add, m->stream);
    matmul_dweight(&m->gemm, grad(m, p->qkv_w), m->d4, k.y1, N, C, 3 * C, 1.0f, add, m->stream);
    matmul_dinput(&m->gemm, m->dn, m->d4, weight(m, p->qkv_w), N, C, 3 * C, 1.0f, m->stream);
}
