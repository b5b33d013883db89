/*
The LightRNN head: a token is a cell (row, column) of a table, and P(token | h) = P(row | h) P(column | h, row). A position scores
the table's rows and the columns of its target's row, 2 C (rows + columns) operations instead of 2 C V. (After Li, Qin, Yang, Hu
and Liu 2016; here each row has column weights of its own.)

    rows      u = h Wr^T + br            (N,R)       a chunk of positions at a time, through the classifier: targets r(y_k)
    columns   w = h Wc[r]^T + bc[r]      (items,K)   an item is a position and one distinct row among its targets

    Wr (Rp,C)  br (Rp)  Wc (R,Kp,C)  bc (R,Kp)       Rp, Kp: R rows and K columns rounded up to 8

Items are sorted by row, stably, so that a row's items are one product with that row's weights: the weights of a position's row
are never gathered per position (N C K elements), and Wc is read and its gradient written once a micro-step.

    items   | row 0: n=3,4,9 | row 1: n=0 | row 2: - | row 3: n=1,2,7,8 .. |
            |<-- a wave: at most 2 N items; h, dh (items,C) in d4, w (items,Kp) in the logits buffer -->| next wave ..

    per group   gather h; w = h Wc[r]^T + bc[r]; classifier over the row's own cells -> dw in place; dh = dw Wc[r];
                dWc[r] += dw^T h; dbc[r] += dw            after the wave: dn[n] += dh of its items

Softmaxes run over existing rows, and in a row over its cells that hold a token: the probabilities of all V tokens sum to 1. The
tokens further ahead share the row logits (one softmax, several targets); those in one row share an item. An n-gram table smooths
the row's target alone. Rows that are not hit get no gradient: the optimizer clears dWc after use, and decays all of Wc.

Groups are very uneven (tokens in order put every letter and stop into row 0). Large ones are multiplied by all threads together,
the others side by side, each by one thread with packing buffers of its own; the bits are the same either way. This head runs on
the CPU only.

Left out: other decoders (one set of column weights for all rows), and GPUs.
*/
#pragma once

#include "model.cuh"

UNUSED static void light_params(Model* m) {
    const Config* c = &m->config;
    LightRnn* l = &m->light;
    ParamTable* t = &m->table;
    int R = c->book.rows, K = c->book.columns, Rp = (int)round_up((size_t)R, 8), Kp = (int)round_up((size_t)K, 8);
    m->lm_head = -1;
    l->row_w = params_add_matrix(t, "head.row.w", Rp, c->C, INIT_NORMAL, 0.02f, true);
    l->row_b = params_add_vector(t, "head.row.b", Rp, INIT_ZERO, 0.0f, c->decay_vectors);
    l->col_w = params_add_matrix(t, "head.column.w", R * Kp, c->C, INIT_NORMAL, 0.02f, true);
    l->col_b = params_add_vector(t, "head.column.b", R * Kp, INIT_ZERO, 0.0f, c->decay_vectors);
    t->rows[l->row_w].live_rows = t->rows[l->row_b].live_rows = R;
    for (int id = l->col_w; id <= l->col_b; id++) {
        t->rows[id].live_rows = K, t->rows[id].period = Kp;
        t->rows[id].scatter = true;
    }
}

// Most targets of a position that the buffers are for.
static int light_targets(const Config* c) { return c->aux.ahead.kind == AHEAD_SHARED && c->aux.ahead.K > 1 ? c->aux.ahead.K : 1; }

UNUSED static void light_plan_activations(Model* m) {
    const Config* c = &m->config;
    LightRnn* l = &m->light;
    Arena* a = &m->activations;
    size_t K = (size_t)light_targets(c), NK = (size_t)c->B * c->T * K, I = sizeof(int), F = sizeof(float);
    size_t Rp = round_up((size_t)c->book.rows, 8);
    arena_add(a, "row ids", &l->row_ids, NK * I);
    arena_add(a, "item of a target", &l->slot, NK * I);
    arena_add(a, "item position", &l->item_position, NK * I);
    arena_add(a, "item ids", &l->item_ids, NK * K * I);
    arena_add(a, "first item", &l->first, ((size_t)c->book.rows + 1) * I);
    arena_add(a, "item losses", &l->item_losses, K * NK * F);
    arena_add(a, "row bias sums", &l->bias_scratch, m->training ? (size_t)device_teams(COLUMN_TEAMS) * Rp * F : 0);
}

#if GPU_EXECUTION
static void light_no_gpu(void) { fail("the lightrnn head runs on the CPU only; use --device cpu, or --head dense"); }
UNUSED static void light_loss(Model*, const Micro*, Targets, float, bool) { light_no_gpu(); }
UNUSED static void light_probs(Model*, int, float*) { light_no_gpu(); }
UNUSED static void light_allocate(Model*) { light_no_gpu(); }
UNUSED static void light_free(Model*) {}
#else
// Products of one thread each, for the small groups.
UNUSED static void light_allocate(Model* m) {
    LightRnn* l = &m->light;
    int threads = device_team_count();
    l->gemm_count = threads;
    l->gemms = (Gemm*)xcalloc((size_t)threads * sizeof(Gemm));
    omp_set_num_threads(1);
    for (int t = 0; t < threads; t++) gemm_init(&l->gemms[t], 0);
    omp_set_num_threads(threads);
    omp_set_max_active_levels(1);  // kernels started by one of several threads run in it alone
}

UNUSED static void light_free(Model* m) {
    for (int t = 0; t < m->light.gemm_count; t++) gemm_free(&m->light.gemms[t]);
    free(m->light.gemms);
}

// ---------------------------------------------------------------------------------------------------------------------
// Rows

// Row cross-entropies of every target into m->losses; with gradient: dn, and the gradients of Wr and br.
static void light_rows(Model* m, const Micro* micro, Targets targets, float scale, bool gradient) {
    const Config* c = &m->config;
    const LightRnn* l = &m->light;
    int N = micro->B * micro->T, stride = c->B * c->T, C = c->C, R = c->book.rows, Rp = (int)round_up((size_t)R, 8);
    const floatX *w = weight(m, l->row_w), *b = weight(m, l->row_b);
    targets.ids = l->row_ids, targets.row_stride = targets.count, targets.target_stride = 1;
    for (int row = 0; row < N; row += m->chunk_rows) {
        int rows = N - row < m->chunk_rows ? N - row : m->chunk_rows;
        bool add = micro->accumulate || row > 0;
        const floatX* h = m->yf + (size_t)row * C;
        matmul_forward(&m->gemm, m->logits, h, w, b, rows, C, Rp, 1.0f, false, m->stream);
        classifier(m->logits, m->losses + row, stride, targets_from(targets, row), scale, &m->state->scaler.scale, rows, R, Rp,
                   gradient, micro->accumulate, m->stream);
        if (!gradient) continue;
        matmul_dinput(&m->gemm, m->dn + (size_t)row * C, m->logits, w, rows, C, Rp, 1.0f, m->stream);
        matmul_dweight(&m->gemm, grad(m, l->row_w), m->logits, h, rows, C, Rp, 1.0f, add, m->stream);
        column_sum(grad(m, l->row_b), m->logits, l->bias_scratch, rows, Rp, add, m->stream);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Columns

// First of the K rows at `ids` that is ids[k].
static int light_first_same(const int* ids, int k) {
    int j = 0;
    while (ids[j] != ids[k]) j++;
    return j;
}

// Row of each target, and the items sorted by it. Returns the number of items.
static int light_items(Model* m, const Targets* t, int N) {
    LightRnn* l = &m->light;
    int K = t->count, R = m->config.book.rows, *first = l->first;
    memset(first, 0, ((size_t)R + 1) * sizeof(int));
    for (int n = 0; n < N; n++) {
        int* rows = l->row_ids + (size_t)n * K;
        for (int k = 0; k < K; k++) {
            int id = target_id(*t, n, k);
            rows[k] = id < 0 ? -1 : l->row_of[id];
            if (id >= 0 && light_first_same(rows, k) == k) first[rows[k] + 1]++;
        }
    }
    for (int r = 0; r < R; r++) first[r + 1] += first[r];
    for (int n = 0; n < N; n++) {
        const int* rows = l->row_ids + (size_t)n * K;
        int* slot = l->slot + (size_t)n * K;
        for (int k = 0; k < K; k++) {
            int j = light_first_same(rows, k);
            slot[k] = rows[k] < 0 ? -1 : j < k ? slot[j] : first[rows[k]]++;
            if (rows[k] < 0) continue;
            int* cells = l->item_ids + (size_t)slot[k] * K;
            for (int i = 0; j == k && i < K; i++) cells[i] = -1;
            l->item_position[slot[k]] = n;
            cells[k] = l->column_of[target_id(*t, n, k)];
        }
    }
    for (int r = R; r > 0; r--) first[r] = first[r - 1];
    first[0] = 0;
    return first[R];
}

// Items begin .. end - 1 of all, and what to do with them
typedef struct {
    Model* m;
    Targets cells;  // of item 0
    int begin, end, items;
    floatX *h, *dh;  // (2 N,C)
    float scale;
    bool gradient;
} LightWave;

typedef struct {
    int begin, end;  // items
} LightGroup;

static LightGroup light_group_of(const LightWave* w, int row) {
    const int* first = w->m->light.first + row;
    LightGroup g = {first[0] > w->begin ? first[0] : w->begin, first[1] < w->end ? first[1] : w->end};
    return g;
}

// One row's items: losses, dh, and the gradients of Wc[row] and bc[row].
static void light_group(const LightWave* w, Gemm* gemm, LightGroup g, int row) {
    const Model* m = w->m;
    const Config* c = &m->config;
    const LightRnn* l = &m->light;
    int count = g.end - g.begin, C = c->C, Kp = (int)round_up((size_t)c->book.columns, 8);
    size_t at = (size_t)(g.begin - w->begin), cells = (size_t)row * Kp;
    floatX *h = w->h + at * C, *z = m->logits + at * Kp;
    const floatX *weights = weight(m, l->col_w) + cells * C, *bias = weight(m, l->col_b) + cells;
    for (int i = 0; i < count; i++) {
        memcpy(h + (size_t)i * C, m->yf + (size_t)l->item_position[g.begin + i] * C, (size_t)C * sizeof(floatX));
    }
    matmul_forward(gemm, z, h, weights, bias, count, C, Kp, 1.0f, false, m->stream);
    classifier(z, l->item_losses + g.begin, w->items, targets_from(w->cells, g.begin), w->scale, &m->state->scaler.scale, count,
               c->book.length[row], Kp, w->gradient, false, m->stream);
    if (!w->gradient) return;
    matmul_dinput(gemm, w->dh + at * C, z, weights, count, C, Kp, 1.0f, m->stream);
    matmul_dweight(gemm, grad(m, l->col_w) + cells * C, z, h, count, C, Kp, 1.0f, true, m->stream);
    float* db = grad(m, l->col_b) + cells;
    for (int i = 0; i < count; i++) {
        FOR_LANES(j, Kp) db[j] += to_float(z[(size_t)i * Kp + j]);
    }
}

// All groups of a wave. A group of more than a quarter of a thread's share is multiplied by all threads.
static void light_wave(const LightWave* w) {
    LightRnn* l = &w->m->light;
    int R = w->m->config.book.rows, threads = omp_get_max_threads() < l->gemm_count ? omp_get_max_threads() : l->gemm_count;
    int large = (w->end - w->begin) / (4 * threads);
    for (int row = 0; row < R; row++) {
        LightGroup g = light_group_of(w, row);
        if (g.begin < g.end && (threads == 1 || g.end - g.begin > large)) light_group(w, &w->m->gemm, g, row);
    }
    if (threads == 1) return;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int row = 0; row < R; row++) {
        LightGroup g = light_group_of(w, row);
        if (g.begin < g.end && g.end - g.begin <= large) light_group(w, &l->gemms[omp_get_thread_num()], g, row);
    }
}

// dn[n] += dh of its items in the wave
static void light_spread(const LightWave* w, int N, int K) {
    Model* m = w->m;
    int C = m->config.C;
#pragma omp parallel for
    for (int n = 0; n < N; n++) {
        const int* slot = m->light.slot + (size_t)n * K;
        floatX* dn = m->dn + (size_t)n * C;
        for (int k = 0; k < K; k++) {
            if (slot[k] < w->begin || slot[k] >= w->end || light_first_same(slot, k) < k) continue;
            const floatX* dh = w->dh + (size_t)(slot[k] - w->begin) * C;
            FOR_LANES(i, C) from_float(&dn[i], to_float(dn[i]) + to_float(dh[i]));
        }
    }
}

// Cross-entropies (row + column) of every target into m->losses; with gradient: dn = gradient of yf, and those of the head's
// parameters. scale: 1 / (N * micro-steps). A table in `targets` is one over rows (smoothing.cuh).
UNUSED static void light_loss(Model* m, const Micro* micro, Targets targets, float scale, bool gradient) {
    const Config* c = &m->config;
    LightRnn* l = &m->light;
    int N = micro->B * micro->T, stride = c->B * c->T, K = targets.count, most = 2 * stride;
    if (K > light_targets(c)) fail("lightrnn head: %d targets a position, but it was made for %d", K, light_targets(c));
    int items = light_items(m, &targets, N);
    light_rows(m, micro, targets, scale, gradient);
    floatX* idle = m->training ? m->d4 : m->acts.z;  // (N,4C) that nothing uses between forward and backward
    LightWave w = {
        m,       targets_list(l->item_ids, targets.weights, K, K, 1, 0), 0, 0, items, idle, idle + (size_t)most * c->C, scale,
        gradient};
    for (; w.begin < items; w.begin = w.end) {
        w.end = items - w.begin < most ? items : w.begin + most;
        light_wave(&w);
        if (gradient) light_spread(&w, N, K);
    }
    for (int k = 0; k < K; k++) {
        for (int n = 0; n < N; n++) {
            int slot = l->slot[(size_t)n * K + k];
            if (slot >= 0) m->losses[(size_t)k * stride + n] += l->item_losses[(size_t)k * items + slot];
        }
    }
}

// exp(z - max) / sum over n logits, in double.
static void light_softmax(double* p, const floatX* z, int n) {
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) max = fmax(max, (double)to_float(z[i]));
    for (int i = 0; i < n; i++) sum += p[i] = exp((double)to_float(z[i]) - max);
    for (int i = 0; i < n; i++) p[i] /= sum;
}

// probs (V): the normalised next-token distribution after row n of yf, over every cell of the table.
UNUSED static void light_probs(Model* m, int n, float* probs) {
    const Config* c = &m->config;
    const LightRnn* l = &m->light;
    const Codebook* book = &c->book;
    int R = book->rows, Rp = (int)round_up((size_t)R, 8), Kp = (int)round_up((size_t)book->columns, 8);
    const floatX* h = m->yf + (size_t)n * c->C;
    floatX *u = (floatX*)xmalloc((size_t)Rp * sizeof(floatX)), *z = (floatX*)xmalloc((size_t)R * Kp * sizeof(floatX));
    double *p_row = (double*)xmalloc((size_t)R * sizeof(double)), *p = (double*)xmalloc((size_t)Kp * sizeof(double));
    matmul_forward(&m->gemm, u, h, weight(m, l->row_w), weight(m, l->row_b), 1, c->C, Rp, 1.0f, false, m->stream);
    matmul_forward(&m->gemm, z, h, weight(m, l->col_w), weight(m, l->col_b), 1, c->C, R * Kp, 1.0f, false, m->stream);
    light_softmax(p_row, u, R);
    for (int r = 0; r < R; r++) {
        light_softmax(p, z + (size_t)r * Kp, book->length[r]);
        for (int k = 0; k < book->length[r]; k++) probs[book->token[(size_t)r * book->columns + k]] = (float)(p_row[r] * p[k]);
    }
    free(u), free(z), free(p_row), free(p);
}
#endif
