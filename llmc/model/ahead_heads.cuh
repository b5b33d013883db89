/*
Heads of their own for the tokens 2 .. K ahead: each has its own logits from the same hidden rows, so that the next token's
distribution is not pulled towards the others. They are of use in training only: a model without them reads the same checkpoint.

    --mtp_heads linear   z = yf W_k^T                        W_k (Vp,C): as large as the embedding
    --mtp_heads proj     z = y W^T, y = rms(yf + silu(yf A_k^T) B_k^T)
                                                             A_k (r,C), B_k (C,r), r = C/4; W: the next token's own matrix

    next token's head:  dn  = dlogits W                      (head.cuh, before)
    head k, in turn, chunk by chunk of rows:
        logits (rows,Vp)  ->  classifier in place  ->  dW (=|+=) dlogits^T h,  dh (=|+=) dlogits W       h, dh: yf, dn | y, dy
        with consistency: teacher's logits (rows,Vp) again, from rows k - 1 later  ->  ops/consistency.cuh in place of both
    proj, then:  dx = rms'(dy);  dB, da;  du;  dA;  dn += dx + du A

The logits buffer is the one of the next token's head. A proj head lives in memory that is idle between forward and backward:

    x (N,C) fp32: yf + branch     dres (N,C): dy     d4 (N,4C), in validation z: | y C | dx C | u r | silu(u) r |

A head without weight in a step is not there: nothing is launched, its losses are not written, the optimizer leaves it alone.
Tried and dropped: all heads' products in one (K logits buffers, or the classifier between strided columns).
*/
#pragma once

#include "../ops/consistency.cuh"
#include "../ops/elementwise.cuh"
#include "model.cuh"

UNUSED static int ahead_inner(int C) { return (int)round_up((size_t)C / 4, 8); }

// Is anything of head k trained in the next micro-step?
static bool ahead_draws(const Model* m, int k) { return m->targets.consistency != 0.0f && k == m->config.aux.ahead.consist_k; }
static bool ahead_active(const Model* m, int k) { return m->targets.token[k - 1] != 0.0f || ahead_draws(m, k); }

// Slots of the losses that it fills, and groups of parameters that it leaves alone, as bit masks.
UNUSED static uint32_t ahead_slots(const Model* m) {
    uint32_t slots = 0;
    for (int k = 2; k <= m->config.aux.ahead.K && m->config.aux.ahead.kind != AHEAD_SHARED; k++) {
        slots |= (uint32_t)(m->targets.token[k - 1] != 0.0f) << (k - 1) | (uint32_t)ahead_draws(m, k) << LOSS_CONSISTENCY;
    }
    return slots;
}
UNUSED static uint32_t ahead_idle(const Model* m) {
    uint32_t idle = 0;
    for (int k = 2; k <= m->config.aux.ahead.K; k++) idle |= (uint32_t)!ahead_active(m, k) << (k - 1);
    return idle;
}

// factor / pairs of positions in a micro-batch of B rows of T tokens, 0 when rows are too short for one.
UNUSED static float ahead_pair_factor(const Model* m, int B, int T, float factor) {
    int ahead = m->config.aux.ahead.consist_k - 1;
    return ahead > 0 && T > ahead ? factor / ((float)B * (float)(T - ahead)) : 0.0f;
}

UNUSED static void ahead_params(Model* m) {
    const Config* c = &m->config;
    const AheadConfig* a = &c->aux.ahead;
    ParamTable* t = &m->table;
    for (int k = 2; k <= a->K && a->kind != AHEAD_SHARED; k++) {
        char name[64];
        int first = t->count;
        if (a->kind == AHEAD_LINEAR) {
            snprintf(name, sizeof(name), "mtp.%d.w", k);
            m->ahead.w[k] = params_add_matrix(t, name, c->Vp, c->C, INIT_UNIFORM, 1.0f / sqrtf((float)c->C), true);
            t->rows[m->ahead.w[k]].live_rows = c->V;
        } else {
            snprintf(name, sizeof(name), "mtp.%d.a", k);
            m->ahead.a[k] = config_matrix(t, c, name, ahead_inner(c->C), c->C, false);
            snprintf(name, sizeof(name), "mtp.%d.b", k);
            m->ahead.b[k] = params_add_matrix(t, name, c->C, ahead_inner(c->C), INIT_ZERO, 0.0f, true);
        }
        for (int id = first; id < t->count; id++) t->rows[id].group = k - 1;
    }
}

UNUSED static void ahead_plan_activations(Model* m) {
    const Config* c = &m->config;
    const AheadConfig* a = &c->aux.ahead;
    if (a->kind == AHEAD_SHARED) return;
    bool teacher = m->training && a->consist_k > 0;
    arena_add(&m->activations, "teacher logits", &m->ahead.teacher, teacher ? (size_t)m->chunk_rows * c->Vp * sizeof(floatX) : 0);
    arena_add(&m->activations, "ahead rstd", &m->ahead.rstd, a->kind == AHEAD_PROJ ? (size_t)c->B * c->T * sizeof(float) : 0);
}

// The products that the next token's head does not have. (B,T): every shape that the model will run.
UNUSED static void ahead_plan_shape(Model* m, int B, int T) {
    const Config* c = &m->config;
    const AheadConfig* a = &c->aux.ahead;
    Gemm* g = &m->gemm;
    bool fp32 = sizeof(floatX) == sizeof(float);
    int N = B * T, C = c->C, r = ahead_inner(C), chunks[2] = {N < m->chunk_rows ? 0 : m->chunk_rows, N % m->chunk_rows};
    if (a->kind == AHEAD_SHARED) return;
    for (int i = 0; i < 2; i++) {
        if (chunks[i] && m->training) gemm_plan(g, GEMM_DINPUT, chunks[i], C, c->Vp, fp32, false, true);
    }
    if (a->kind != AHEAD_PROJ) return;
    gemm_plan(g, GEMM_FORWARD, N, C, r, fp32, false, false);
    gemm_plan(g, GEMM_FORWARD, N, r, C, true, false, true);
    if (!m->training) return;
    gemm_plan(g, GEMM_DINPUT, N, r, C, fp32, false, false);
    gemm_plan(g, GEMM_DINPUT, N, C, r, fp32, false, true);
    for (int add = 0; add < 2; add++) {
        gemm_plan(g, GEMM_DWEIGHT, N, r, C, true, false, add);
        gemm_plan(g, GEMM_DWEIGHT, N, C, r, true, false, add);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Logits, losses and their gradients, whatever the kind

typedef struct {
    int k;            // tokens ahead
    const floatX* h;  // (N,C) rows that the head multiplies with
    int w;            // this matrix, by id
    floatX* dh;       // (N,C) their gradient, NULL: losses only
    bool add_dh, add_dw;
} AheadRows;

// Draws head k of the chunk's rows to the next token's head: m->logits and the teacher's logits become gradients.
static void ahead_consistency(Model* m, const Micro* micro, const AheadRows* r, int row, int rows, float scale) {
    const Config* c = &m->config;
    const AheadConfig* a = &c->aux.ahead;
    int N = micro->B * micro->T, ahead = r->k - 1;
    int first = row + ahead < N - rows ? row + ahead : N - rows, stride = c->B * c->T;
    const StepWeights* next = &m->state->in.next;  // on the device
    const floatX *w = weight(m, m->lm_head), *h = m->yf + (size_t)first * c->C;
    Consistency pair = {row,
                        row + ahead - first,
                        ahead,
                        micro->T,
                        a->consist_temp,
                        NULL,
                        &next->token[r->k - 1],
                        &next->consistency,
                        scale,
                        ahead_pair_factor(m, micro->B, micro->T, scale * (float)N)};
    if (m->targets.token[r->k - 1] != 0.0f) pair.ids = micro->tokens + r->k + row;
    matmul_forward(&m->gemm, m->ahead.teacher, h, w, (const floatX*)NULL, rows, c->C, c->Vp, 1.0f, false, m->stream);
    consistency(m->logits, m->ahead.teacher, m->losses + (size_t)(r->k - 1) * stride + row,
                m->losses + (size_t)LOSS_CONSISTENCY * stride + row, pair, &m->state->scaler.scale, rows, c->V, c->Vp,
                a->consist_teacher_grad, micro->accumulate, m->stream);
    if (!a->consist_teacher_grad) return;
    matmul_dinput_add(&m->gemm, m->dn + (size_t)first * c->C, m->ahead.teacher, w, rows, c->C, c->Vp, 1.0f, m->stream);
    matmul_dweight(&m->gemm, grad(m, m->lm_head), m->ahead.teacher, h, rows, c->C, c->Vp, 1.0f, true, m->stream);
}

static void ahead_rows(Model* m, const Micro* micro, const AheadRows* r, float scale) {
    const Config* c = &m->config;
    int N = micro->B * micro->T, stride = c->B * c->T, C = c->C, Vp = c->Vp;
    const floatX* w = weight(m, r->w);
    for (int row = 0; row < N; row += m->chunk_rows) {
        int rows = N - row < m->chunk_rows ? N - row : m->chunk_rows;
        const floatX* h = r->h + (size_t)row * C;
        matmul_forward(&m->gemm, m->logits, h, w, (const floatX*)NULL, rows, C, Vp, 1.0f, false, m->stream);
        if (r->dh && ahead_draws(m, r->k)) ahead_consistency(m, micro, r, row, rows, scale);
        else {
            Targets t = targets_list(micro->tokens + r->k + row, &m->state->in.next.token[r->k - 1], 1, 1, 1, 0);
            classifier(m->logits, m->losses + (size_t)(r->k - 1) * stride + row, stride, t, scale, &m->state->scaler.scale, rows,
                       c->V, Vp, r->dh != NULL, micro->accumulate, m->stream);
        }
        if (!r->dh) continue;
        floatX* dh = r->dh + (size_t)row * C;
        if (r->add_dh) matmul_dinput_add(&m->gemm, dh, m->logits, w, rows, C, Vp, 1.0f, m->stream);
        else matmul_dinput(&m->gemm, dh, m->logits, w, rows, C, Vp, 1.0f, m->stream);
        matmul_dweight(&m->gemm, grad(m, r->w), m->logits, h, rows, C, Vp, 1.0f, r->add_dw || row > 0, m->stream);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// proj

typedef struct {
    floatX *y, *dx, *u, *a;  // (N,C), (N,C), (N,r), (N,r)
} ProjRows;

static ProjRows proj_rows(const Model* m, int N) {
    size_t C = (size_t)m->config.C;
    floatX* idle = m->training ? m->d4 : m->acts.z;
    ProjRows p = {idle, idle + (size_t)N * C, idle + 2 * (size_t)N * C, NULL};
    p.a = p.u + (size_t)N * ahead_inner((int)C);
    return p;
}

static ProjRows proj_forward(Model* m, int k, int N) {
    int C = m->config.C, inner = ahead_inner(C);
    ProjRows p = proj_rows(m, N);
    Lookup none = {NULL, NULL, NULL, 1, 0};
    matmul_forward(&m->gemm, p.u, m->yf, weight(m, m->ahead.a[k]), (const floatX*)NULL, N, C, inner, 1.0f, false, m->stream);
    silu_forward(p.a, p.u, (size_t)N * inner, m->stream);
    widen(m->x, m->yf, (size_t)N * C, m->stream);
    matmul_forward(&m->gemm, m->x, p.a, weight(m, m->ahead.b[k]), (const float*)NULL, N, inner, C, 1.0f, true, m->stream);
    norm_forward(p.y, NULL, m->ahead.rstd, m->x, NULL, NULL, none, N, C, m->stream);
    return p;
}

// From dy in dres: the gradients of A and B, and dn +=.
static void proj_backward(Model* m, int k, ProjRows p, const Micro* micro) {
    int N = micro->B * micro->T, C = m->config.C, inner = ahead_inner(C);
    bool add = micro->accumulate;
    norm_backward(p.dx, NULL, NULL, NULL, m->dres, p.y, m->ahead.rstd, NULL, N, C, false, false, m->stream);
    matmul_dweight(&m->gemm, grad(m, m->ahead.b[k]), p.dx, p.a, N, inner, C, 1.0f, add, m->stream);
    matmul_dinput(&m->gemm, p.a, p.dx, weight(m, m->ahead.b[k]), N, inner, C, 1.0f, m->stream);
    silu_backward(p.a, p.u, (size_t)N * inner, m->stream);
    matmul_dweight(&m->gemm, grad(m, m->ahead.a[k]), p.a, m->yf, N, C, inner, 1.0f, add, m->stream);
    matmul_dinput_add(&m->gemm, p.dx, p.a, weight(m, m->ahead.a[k]), N, C, inner, 1.0f, m->stream);
    add_to(m->dn, p.dx, (size_t)N * C, m->stream);
}

// ---------------------------------------------------------------------------------------------------------------------
// All heads

// Losses of the heads that have weight and gradients of their parameters; adds to dn and, for proj, to the next token's matrix.
// After head_loss. scale: 1 / (N * micro-steps).
UNUSED static void ahead_loss(Model* m, const Micro* micro, float scale) {
    const AheadConfig* a = &m->config.aux.ahead;
    for (int k = 2; k <= a->K && a->kind != AHEAD_SHARED; k++) {
        if (!ahead_active(m, k)) continue;
        if (a->kind == AHEAD_LINEAR) {
            AheadRows rows = {k, m->yf, m->ahead.w[k], m->dn, true, micro->accumulate};
            ahead_rows(m, micro, &rows, scale);
        } else {
            ProjRows p = proj_forward(m, k, micro->B * micro->T);
            AheadRows rows = {k, p.y, m->lm_head, m->dres, false, true};
            ahead_rows(m, micro, &rows, scale);
            proj_backward(m, k, p, micro);
        }
    }
}

// Validation: the plain cross-entropies of the tokens 2 .. K ahead by their own heads, whatever they weigh: slots 1 .. K - 1.
UNUSED static void ahead_measure(Model* m, const Micro* micro) {
    const AheadConfig* a = &m->config.aux.ahead;
    for (int k = 2; k <= a->K && a->kind != AHEAD_SHARED; k++) {
        bool linear = a->kind == AHEAD_LINEAR;
        AheadRows rows = {k, m->yf, linear ? m->ahead.w[k] : m->lm_head, NULL, false, false};
        if (!linear) rows.h = proj_forward(m, k, micro->B * micro->T).y;
        ahead_rows(m, micro, &rows, 0.0f);
    }
}
