/*
Causal self attention on the CPU: flash attention as small matrix products that stay in the caches. fp32 arithmetic, any storage.

A thread takes one (sequence, key head) at a time and first copies it into fp32 scratch, head by head, zero padded to whole
blocks of BLOCK = 64 tokens and to rows of Dp = D rounded up to the vector width:

    q k dout dq dk dv   (Tp,Dp)          rows: q is already multiplied by 1/sqrt(D)
    kt vt               (blocks,D,64)    transposed by block: a row holds one column of 64 neighbouring tokens
    s ds                (64,64)          scores, then probabilities; their gradient

All products are the small one of attention_cpu_tiles.h; its left operand may be transposed for free, so only k and v need a
transposed copy. On the diagonal block each row tile stops at its own diagonal: the causal half is skipped almost exactly.

backward, for key block j, query block i >= j:   p = exp(q k^T - lse);  dv += p^T dout;  ds = p * (dout v^T - delta)
                                                 dk += ds^T q;  dq += ds k       delta = rowsum(dout * out)
With fewer heads than threads a head is split: every part owns the key blocks j % parts for dk and dv, and then the query blocks
i % parts for dq, and recomputes p. All sums run in the same order either way, so the bits depend on nothing but the data.

Tried and dropped: blocks of 128 (no faster, twice the padding) and of 32 (3-8 % slower, forward most).
*/
#pragma once

#include "../base/math.cuh"
#include "attention_cpu_tiles.h"
#include "attention_shape.h"

typedef struct {
    float *q, *k, *dout, *dq, *dk, *dv;  // (Tp,Dp)
    float *kt, *vt;                      // (blocks,D,64)
    float *s, *ds, *o;                   // (64,64) (64,64) (64,Dp)
    float *lse, *delta;                  // (Tp)
    int T, D, Dp, blocks;
} AttnScratch;

// Tokens of block i, rounded up to whole row tiles: the padding rows are zero and nobody reads their results.
static inline int attn_block_rows(const AttnScratch* w, int i) {
    int left = w->T - i * ATTN_BLOCK;
    return left >= ATTN_BLOCK ? ATTN_BLOCK : (int)round_up((size_t)left, ATTN_ROWS);
}

// ---------------------------------------------------------------------------------------------------------------------
// Copies between the packed tensors and the scratch

// dst (Tp,Dp) = scale * src (T,D) with rows `stride` apart; padding is zero.
static void attn_gather(float* dst, const floatX* src, size_t stride, float scale, const AttnScratch* w) {
    for (int t = 0; t < w->T; t++) {
        const floatX* RESTRICT from = src + (size_t)t * stride;
        float* RESTRICT to = dst + (size_t)t * w->Dp;
        for (int d = 0; d < w->D; d++) to[d] = scale * to_float(from[d]);
        for (int d = w->D; d < w->Dp; d++) to[d] = 0.0f;
    }
    size_t filled = (size_t)w->T * w->Dp, all = (size_t)w->blocks * ATTN_BLOCK * w->Dp;
    memset(dst + filled, 0, (all - filled) * sizeof(float));
}

// dst (blocks,D,64) = transposed src (T,D) with rows `stride` apart; padding is zero.
static void attn_gather_transposed(float* dst, const floatX* src, size_t stride, const AttnScratch* w) {
    int D = w->D;
    memset(dst + (size_t)(w->blocks - 1) * D * ATTN_BLOCK, 0, (size_t)D * ATTN_BLOCK * sizeof(float));
    for (int t = 0; t < w->T; t++) {
        const floatX* RESTRICT from = src + (size_t)t * stride;
        float* RESTRICT to = dst + (size_t)(t / ATTN_BLOCK) * D * ATTN_BLOCK + t % ATTN_BLOCK;
        for (int d = 0; d < D; d++) to[d * ATTN_BLOCK] = to_float(from[d]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward

// One row of scores becomes probabilities relative to the running maximum; earlier sums are rescaled to it.
template <bool DIAGONAL>
static void attn_softmax_row(float* RESTRICT s, float* RESTRICT o, float* m, float* l, int row, int Dp) {
    int columns = DIAGONAL ? (int)round_up((size_t)row + 1, ATTN_WIDTH) : ATTN_BLOCK;
    if (DIAGONAL)
        for (int c = row + 1; c < columns; c++) s[c] = -INFINITY;
    AttnVec top = *(AttnVec*)s;
    for (int c = ATTN_WIDTH; c < columns; c += ATTN_WIDTH) {
        AttnVec x = *(AttnVec*)(s + c);
        top = x > top ? x : top;
    }
    float largest = *m;
    for (int v = 0; v < ATTN_WIDTH; v++) largest = top[v] > largest ? top[v] : largest;
    float sum = 0.0f;
    for (int c = 0; c < columns; c++) {
        float p = fast_exp(s[c] - largest);
        s[c] = p;
        sum += p;
    }
    float shrink = fast_exp(*m - largest);
    *l = *l * shrink + sum;
    *m = largest;
    if (shrink != 1.0f)
        for (int d = 0; d < Dp; d++) o[d] *= shrink;
}

// Query block i against the key blocks 0..i: out rows and lse of one head.
static void attn_forward_block(AttnScratch* w, int i, floatX* out, size_t out_row, float* lse) {
    int Dp = w->Dp, rows = attn_block_rows(w, i), tokens = rows;
    if (i * ATTN_BLOCK + tokens > w->T) tokens = w->T - i * ATTN_BLOCK;
    float m[ATTN_BLOCK], l[ATTN_BLOCK];
    for (int r = 0; r < ATTN_BLOCK; r++) m[r] = -INFINITY, l[r] = 0.0f;
    memset(w->o, 0, (size_t)ATTN_BLOCK * Dp * sizeof(float));
    const float* q = w->q + (size_t)i * ATTN_BLOCK * Dp;
    for (int j = 0; j <= i; j++) {
        const float *kt = w->kt + (size_t)j * w->D * ATTN_BLOCK, *v = w->k + (size_t)j * ATTN_BLOCK * Dp;
        bool diagonal = j == i;
        attn_product<false, false>(w->s, ATTN_BLOCK, q, Dp, kt, ATTN_BLOCK, rows, ATTN_BLOCK, w->D,
                                   diagonal ? ATTN_COLUMNS_END : ATTN_FULL);
        for (int r = 0; r < rows; r++) {
            float *s = w->s + r * ATTN_BLOCK, *o = w->o + (size_t)r * Dp;
            if (diagonal) attn_softmax_row<true>(s, o, m + r, l + r, r, Dp);
            else attn_softmax_row<false>(s, o, m + r, l + r, r, Dp);
        }
        attn_product<true, false>(w->o, Dp, w->s, ATTN_BLOCK, v, Dp, rows, Dp, ATTN_BLOCK, diagonal ? ATTN_SUM_END : ATTN_FULL);
    }
    for (int r = 0; r < tokens; r++) {
        size_t t = (size_t)i * ATTN_BLOCK + r;
        float inverse = 1.0f / l[r];
        const float* RESTRICT from = w->o + (size_t)r * Dp;
        floatX* RESTRICT to = out + t * out_row;
        for (int d = 0; d < w->D; d++) from_float(&to[d], from[d] * inverse);
        lse[t] = m[r] + logf(l[r]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward

// s = exp(s - lse) and 0 behind the diagonal; rows are queries.
static void attn_probabilities(AttnScratch* w, const float* lse, int rows, bool diagonal) {
    for (int r = 0; r < rows; r++) {
        float *s = w->s + r * ATTN_BLOCK, shift = lse[r];
        int columns = diagonal ? (int)round_up((size_t)r + 1, ATTN_WIDTH) : ATTN_BLOCK;
        for (int c = 0; c < columns; c++) s[c] = fast_exp(s[c] - shift);
        if (diagonal)
            for (int c = r + 1; c < columns; c++) s[c] = 0.0f;
    }
}

// ds = p * (dp - delta)
static void attn_score_gradient(AttnScratch* w, const float* delta, int rows, bool diagonal) {
    for (int r = 0; r < rows; r++) {
        const float* RESTRICT p = w->s + r * ATTN_BLOCK;
        float *RESTRICT ds = w->ds + r * ATTN_BLOCK, shift = delta[r];
        int columns = diagonal ? (int)round_up((size_t)r + 1, ATTN_WIDTH) : ATTN_BLOCK;
        for (int c = 0; c < columns; c++) ds[c] = p[c] * (ds[c] - shift);
    }
}

// Query block i, key block j: adds to dk and dv of j, to dq of i, or to all three.
static void attn_backward_pair(AttnScratch* w, int i, int j, bool want_kv, bool want_q) {
    int Dp = w->Dp, D = w->D, rows = attn_block_rows(w, i), keys = attn_block_rows(w, j);
    bool diagonal = i == j;
    size_t at_i = (size_t)i * ATTN_BLOCK * Dp, at_j = (size_t)j * ATTN_BLOCK * Dp, at_jt = (size_t)j * ATTN_BLOCK * D;
    AttnSkip columns = diagonal ? ATTN_COLUMNS_END : ATTN_FULL, begin = diagonal ? ATTN_SUM_BEGIN : ATTN_FULL;
    attn_product<false, false>(w->s, ATTN_BLOCK, w->q + at_i, Dp, w->kt + at_jt, ATTN_BLOCK, rows, ATTN_BLOCK, D, columns);
    attn_probabilities(w, w->lse + i * ATTN_BLOCK, rows, diagonal);
    if (want_kv) attn_product<true, true>(w->dv + at_j, Dp, w->s, 0, w->dout + at_i, Dp, keys, Dp, rows, begin);
    attn_product<false, false>(w->ds, ATTN_BLOCK, w->dout + at_i, Dp, w->vt + at_jt, ATTN_BLOCK, rows, ATTN_BLOCK, D, columns);
    attn_score_gradient(w, w->delta + i * ATTN_BLOCK, rows, diagonal);
    if (want_kv) attn_product<true, true>(w->dk + at_j, Dp, w->ds, 0, w->q + at_i, Dp, keys, Dp, rows, begin);
    if (want_q)
        attn_product<true, false>(w->dq + at_i, Dp, w->ds, ATTN_BLOCK, w->k + at_j, Dp, rows, Dp, ATTN_BLOCK,
                                  diagonal ? ATTN_SUM_END : ATTN_FULL);
}

// ---------------------------------------------------------------------------------------------------------------------
// Scratch and the entry points

// Lays the scratch of one thread out in memory (NULL: only counts). Returns bytes, a multiple of 64.
static size_t attn_scratch(AttnScratch* w, float* memory, AttentionShape s) {
    w->T = s.T;
    w->D = s.D;
    w->Dp = (int)round_up((size_t)s.D, ATTN_WIDTH);
    w->blocks = (s.T + ATTN_BLOCK - 1) / ATTN_BLOCK;
    size_t Tp = (size_t)w->blocks * ATTN_BLOCK, rows = Tp * w->Dp, columns = Tp * s.D, square = ATTN_BLOCK * ATTN_BLOCK;
    size_t sizes[] = {rows, rows, rows, rows, rows, rows, columns, columns, square, square, (size_t)ATTN_BLOCK * w->Dp, Tp, Tp};
    float** fields[] = {&w->q, &w->k, &w->dout, &w->dq, &w->dk, &w->dv, &w->kt, &w->vt, &w->s, &w->ds, &w->o, &w->lse, &w->delta};
    size_t used = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        if (memory) *fields[i] = memory + used;
        used += round_up(sizes[i], 16);
    }
    return used * sizeof(float);
}

// Parts that a head is split into, so that every thread has work.
static inline int attn_parts(AttentionShape s, int threads) {
    int blocks = (s.T + ATTN_BLOCK - 1) / ATTN_BLOCK, heads = s.B * s.NKV;
    int parts = (threads + heads - 1) / heads;
    return parts < blocks ? parts : blocks;
}

// Bytes of scratch for `threads` threads; the caller allocates them once, 64-byte aligned.
static inline size_t attention_cpu_bytes(AttentionShape s, int threads) {
    AttnScratch w;
    return (size_t)threads * attn_scratch(&w, NULL, s);
}

// out (B,T,NH,D), lse (B,NH,T) = attention of qkv (B,T,(NH+2*NKV),D). scratch: attention_cpu_bytes for this many threads.
static void attention_cpu_forward(void* scratch, int threads, floatX* out, float* lse, const floatX* qkv, AttentionShape s) {
    int parts = attn_parts(s, threads), items = s.B * s.NKV * parts, group = s.NH / s.NKV;
    size_t in_row = attention_qkv_row(s), out_row = attention_out_row(s);
    float scale = attention_scale(s);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int item = 0; item < items; item++) {
        AttnScratch w = {};
        size_t floats = attn_scratch(&w, NULL, s) / sizeof(float);
        attn_scratch(&w, (float*)scratch + floats * (size_t)omp_get_thread_num(), s);
        int part = item % parts, g = item / parts % s.NKV, b = item / parts / s.NKV;
        const floatX* in = qkv + (size_t)b * s.T * in_row;
        attn_gather_transposed(w.kt, in + attention_k_at(s, g), in_row, &w);
        attn_gather(w.k, in + attention_v_at(s, g), in_row, 1.0f, &w);  // the k slot holds v rows: forward needs no k rows
        for (int h = g * group; h < (g + 1) * group; h++) {
            attn_gather(w.q, in + attention_q_at(s, h), in_row, scale, &w);
            floatX* out_head = out + (size_t)b * s.T * out_row + (size_t)h * s.D;
            for (int i = part; i < w.blocks; i += parts)
                attn_forward_block(&w, i, out_head, out_row, lse + ((size_t)b * s.NH + h) * s.T);
        }
    }
}

// Copies what one query head needs: q, dout, lse, delta; dq is cleared.
static void attn_backward_head(AttnScratch* w, const floatX* q, size_t in_row, const floatX* dout, const floatX* out,
                               size_t out_row, const float* lse, float scale) {
    size_t Tp = (size_t)w->blocks * ATTN_BLOCK;
    attn_gather(w->q, q, in_row, scale, w);
    attn_gather(w->dout, dout, out_row, 1.0f, w);
    for (size_t t = 0; t < Tp; t++) {
        float sum = 0.0f;
        const floatX* RESTRICT o = out + t * out_row;
        const float* RESTRICT g = w->dout + t * w->Dp;
        if (t < (size_t)w->T)
            for (int d = 0; d < w->D; d++) sum += to_float(o[d]) * g[d];
        w->delta[t] = sum;
        w->lse[t] = t < (size_t)w->T ? lse[t] : 0.0f;
    }
    memset(w->dq, 0, Tp * w->Dp * sizeof(float));
}

// The pairs of one part: one sweep over all three gradients when the head is not split, else dk and dv first, then dq.
static void attn_backward_pairs(AttnScratch* w, int part, int parts) {
    for (int j = part; j < w->blocks; j += parts)
        for (int i = j; i < w->blocks; i++) attn_backward_pair(w, i, j, true, parts == 1);
    if (parts == 1) return;
    for (int i = part; i < w->blocks; i += parts)
        for (int j = 0; j <= i; j++) attn_backward_pair(w, i, j, false, true);
}

// dst (T,D) with rows `stride` apart = scale * src (Tp,Dp), for the tokens of the blocks that `part` owns.
static void attn_scatter(floatX* dst, size_t stride, const float* src, float scale, const AttnScratch* w, int part, int parts) {
    for (int t = 0; t < w->T; t++) {
        if (t / ATTN_BLOCK % parts != part) continue;
        floatX* RESTRICT to = dst + (size_t)t * stride;
        const float* RESTRICT from = src + (size_t)t * w->Dp;
        for (int d = 0; d < w->D; d++) from_float(&to[d], scale * from[d]);
    }
}

// dqkv (like qkv) = gradient, from dout and out (B,T,NH,D), lse (B,NH,T), qkv. scratch as in forward.
static void attention_cpu_backward(void* scratch, int threads, floatX* dqkv, const floatX* dout, const floatX* out,
                                   const float* lse, const floatX* qkv, AttentionShape s) {
    int parts = attn_parts(s, threads), items = s.B * s.NKV * parts, group = s.NH / s.NKV;
    size_t in_row = attention_qkv_row(s), out_row = attention_out_row(s);
    float scale = attention_scale(s);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int item = 0; item < items; item++) {
        AttnScratch w = {};
        size_t floats = attn_scratch(&w, NULL, s) / sizeof(float);
        attn_scratch(&w, (float*)scratch + floats * (size_t)omp_get_thread_num(), s);
        int part = item % parts, g = item / parts % s.NKV, b = item / parts / s.NKV;
        size_t in_at = (size_t)b * s.T * in_row;
        const floatX *k = qkv + in_at + attention_k_at(s, g), *v = qkv + in_at + attention_v_at(s, g);
        attn_gather(w.k, k, in_row, 1.0f, &w);
        attn_gather_transposed(w.kt, k, in_row, &w);
        attn_gather_transposed(w.vt, v, in_row, &w);
        size_t rows = (size_t)w.blocks * ATTN_BLOCK * w.Dp;
        memset(w.dk, 0, rows * sizeof(float));
        memset(w.dv, 0, rows * sizeof(float));
        for (int h = g * group; h < (g + 1) * group; h++) {
            size_t out_at = (size_t)b * s.T * out_row + (size_t)h * s.D, q_at = in_at + attention_q_at(s, h);
            attn_backward_head(&w, qkv + q_at, in_row, dout + out_at, out + out_at, out_row, lse + ((size_t)b * s.NH + h) * s.T,
                               scale);
            attn_backward_pairs(&w, part, parts);
            attn_scatter(dqkv + q_at, in_row, w.dq, scale, &w, part, parts);
        }
        attn_scatter(dqkv + in_at + attention_k_at(s, g), in_row, w.dk, 1.0f, &w, part, parts);
        attn_scatter(dqkv + in_at + attention_v_at(s, g), in_row, w.dv, 1.0f, &w, part, parts);
    }
}
