/*
Tokens of a lightrnn head without its whole distribution: P(token) = P(row) P(column | row), so most rows need no column softmax.

    argmax     rows by falling P(row); a token of a row is at most as likely as the row, so the search ends at the first row
               that is less likely than the best token so far. Ties: the lower id, as the sampler has it
    draw       one number u in 0..1 over the cells in the order of the table: the row whose share of 0..1 holds it, then the
               column whose share of the row holds what is left. Exactly the distribution of all V tokens, from two softmaxes

    u          |      row 0      | row 1 |        row 2         |..
                                 |c0|c1|..|c5                          the columns share their row's part

Temperatures other than 0 and 1, top_k and top_p do not factor like this (the two softmaxes' temperature is not the token's):
they take the whole distribution, and so does a GPU, which computes it in the time of one row.
*/
#pragma once

#include "../io/sampler.h"
#include "head_lightrnn.cuh"

// True when the sampler's settings are one of the two cases.
UNUSED static bool light_draws(const Sampler* s) {
    bool argmax = s->temperature <= 0 || s->top_k == 1;
    return !GPU_EXECUTION && (argmax || (s->temperature == 1 && s->top_k == 0 && s->top_p >= 1));
}

#if GPU_EXECUTION
UNUSED static int light_draw(Model*, int, Sampler*) { return -1; }
#else
typedef struct {
    Model* m;
    const floatX* h;
    floatX* z;               // logits of the rows, or of one row's columns
    double *p_row, *p;       // (R), and (K) of a row
    SampleCandidate* order;  // (R)
    int visited;             // rows whose columns were scored
} LightDraw;

static LightDraw light_draw_open(Model* m, int n) {
    const Codebook* book = &m->config.book;
    int R = book->rows, Rp = (int)round_up((size_t)R, 8), Kp = (int)round_up((size_t)book->columns, 8);
    LightDraw d = {};
    d.m = m, d.h = m->yf + (size_t)n * m->config.C;
    d.z = (floatX*)xmalloc((size_t)(Rp > Kp ? Rp : Kp) * sizeof(floatX));
    d.p_row = (double*)xmalloc((size_t)R * sizeof(double)), d.p = (double*)xmalloc((size_t)Kp * sizeof(double));
    d.order = (SampleCandidate*)xmalloc((size_t)R * sizeof(SampleCandidate));
    matmul_forward(&m->gemm, d.z, d.h, weight(m, m->light.row_w), weight(m, m->light.row_b), 1, m->config.C, Rp, 1.0f, false,
                   m->stream);
    light_softmax(d.p_row, d.z, R);
    return d;
}

static void light_draw_close(LightDraw* d) { free(d->z), free(d->p_row), free(d->p), free(d->order); }

// d->p: the columns of a row
static void light_draw_columns(LightDraw* d, int row) {
    Model* m = d->m;
    int C = m->config.C, Kp = (int)round_up((size_t)m->config.book.columns, 8);
    size_t cells = (size_t)row * Kp;
    matmul_forward(&m->gemm, d->z, d->h, weight(m, m->light.col_w) + cells * C, weight(m, m->light.col_b) + cells, 1, C, Kp, 1.0f,
                   false, m->stream);
    light_softmax(d->p, d->z, m->config.book.length[row]);
    d->visited++;
}

// Likeliest token after row n of yf, or -1 when its logits are not finite. visited: rows that were looked into, or NULL.
UNUSED static int light_argmax(Model* m, int n, int* visited) {
    const Codebook* book = &m->config.book;
    LightDraw d = light_draw_open(m, n);
    int best = -1;
    float most = -1;
    bool finite = true;
    for (int r = 0; r < book->rows; r++) {
        finite = finite && isfinite(d.p_row[r]);
        d.order[r].z = d.p_row[r], d.order[r].id = r;
    }
    if (finite) qsort(d.order, (size_t)book->rows, sizeof(*d.order), sample_compare);
    for (int i = 0; finite && i < book->rows && (float)d.order[i].z >= most; i++) {
        int row = d.order[i].id;
        const int32_t* tokens = book->token + (size_t)row * book->columns;
        light_draw_columns(&d, row);
        for (int k = 0; k < book->length[row]; k++) {
            float p = (float)(d.p_row[row] * d.p[k]);  // as head_probs gives it
            finite = finite && isfinite(p);
            if (p > most || (p == most && tokens[k] < best)) most = p, best = tokens[k];
        }
    }
    if (visited) *visited = d.visited;
    light_draw_close(&d);
    return finite ? best : -1;
}

// The entry of p (n) whose part of 0..sum holds u; *rest: how far into it, as a share of it. Entries of 0 are never drawn.
static int light_part(const double* p, int n, double u, double* rest) {
    double sum = 0, before = 0;
    int last = -1;
    for (int i = 0; i < n; i++) {
        if (!(p[i] > 0)) continue;
        last = i, before = sum, sum += p[i];
        if (u < sum) break;
    }
    *rest = last < 0 ? 0 : fmin(fmax((u - before) / p[last], 0.0), 1.0);
    return last;
}

// One token drawn with its probability after row n of yf; -1: logits that are not finite. Takes one number from the generator.
UNUSED static int light_ancestral(Model* m, int n, Rng* rng) {
    const Codebook* book = &m->config.book;
    LightDraw d = light_draw_open(m, n);
    double u = (double)(rng_next(rng) >> 11) * 0x1p-53, rest, ignored;
    int row = light_part(d.p_row, book->rows, u, &rest), column = -1;
    if (row >= 0) {
        light_draw_columns(&d, row);
        column = light_part(d.p, book->length[row], rest, &ignored);
    }
    light_draw_close(&d);
    return column < 0 ? -1 : book->token[(size_t)row * book->columns + column];
}

// For settings of light_draws. Token, or -1 as above.
UNUSED static int light_draw(Model* m, int n, Sampler* s) {
    if (s->temperature <= 0 || s->top_k == 1) return light_argmax(m, n, NULL);
    return light_ancestral(m, n, &s->rng);
}
#endif
