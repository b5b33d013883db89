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

GPU: three grouped products over the tiles of all rows at once (ops/gemm_grouped.cuh), which look h up by position. How many items
there are stays on the device: launches are as large as they could ever need to be, N K items in waves of 2 N, and what is not
there leaves at once. A wave is 7 launches, the sort and the tiles before them 6, the rows 3 a chunk and 3 products.

Softmaxes run over existing rows, and in a row over its cells that hold a token: the probabilities of all V tokens sum to 1. The
tokens further ahead share the row logits (one softmax, several targets); those in one row share an item.

n-grams    --cocont_mass rows     the table is one over rows, and smooths the row's target alone
           --cocont_mass exact    its entries are words, and so targets like the tokens ahead, whose weights differ by position
                                  (ops/soft_list.cuh): a row has the mass of its entries, a column within it its own; an item for
                                  every distinct row. The head's loss is the cross-entropy of the whole distribution.
                                  A launch more a micro-step and one a chunk of rows; as many waves as there could be.

Rows that are not hit get no gradient: the optimizer clears dWc after use, and decays all of Wc.

Groups are very uneven (tokens in order put every letter and stop into row 0). On the CPU large ones are multiplied by all threads
together, the others side by side, each by one thread with packing buffers of its own; the bits are the same either way.
*/
#pragma once

#include "lightrnn_memory.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// Rows

// What the positions of a micro-step, or of a chunk, are trained on.
typedef struct {
    Targets targets;
    ListLosses losses;  // of the first position. Without `share` the classifier knows where they go
} LightList;

// The list of N positions, as it is or written out; their losses begin at `losses`.
static LightList light_list(const Model* m, Targets t, int N, float* losses) {
    const LightRnn* l = &m->light;
    LightList list = {t, {losses, NULL, m->config.B * m->config.T, t.count, t.count, 0}};
    if (!t.tables || !m->config.aux.exact) return list;
    int entries = targets_total(t), most = light_entries(&m->config);
    if (entries > most) fail("lightrnn head: %d targets and n-grams a position, but it was made for %d", entries, most);
    list.targets = soft_list(&l->list, t, N, m->stream);
    list.losses.share = l->list.share, list.losses.entries = entries, list.losses.table_slot = t.table[0].loss_slot;
    return list;
}

static LightList light_list_from(LightList list, int row) {
    list.targets = targets_from(list.targets, row);
    list.losses.to += row;
    if (list.losses.share) list.losses.share += (size_t)row * list.losses.entries;
    return list;
}

// The classifier over rows logits (rows,Rp), for a chunk's list whose ids are rows of the table. scratch: room for its losses.
static void light_classify_rows(Model* m, LightList list, float* scratch, int rows, float scale, bool gradient, bool accumulate) {
    int R = m->config.book.rows, Rp = (int)round_up((size_t)R, 8);
    bool own = list.losses.share != NULL;
    float* losses = own ? scratch : list.losses.to;
    classifier(m->logits, losses, own ? rows : list.losses.stride, list.targets, scale, &m->state->scaler.scale, rows, R, Rp,
               gradient, accumulate && !own, m->stream);
    if (own) list_losses(list.losses, losses, rows, NULL, 0, rows, rows, accumulate, m->stream);
}

// Row cross-entropies of every target into m->losses; with gradient: dn, and the gradients of Wr and br.
static void light_rows(Model* m, const Micro* micro, LightList list, float scale, bool gradient) {
    const Config* c = &m->config;
    const LightRnn* l = &m->light;
    int N = micro->B * micro->T, C = c->C, Rp = (int)round_up((size_t)c->book.rows, 8);
    const floatX *w = weight(m, l->row_w), *b = weight(m, l->row_b);
    list.targets.ids = l->row_ids, list.targets.row_stride = list.targets.count, list.targets.target_stride = 1;
    for (int row = 0; row < N; row += m->chunk_rows) {
        int rows = N - row < m->chunk_rows ? N - row : m->chunk_rows;
        bool add = micro->accumulate || row > 0;
        const floatX* h = m->yf + (size_t)row * C;
        matmul_forward(&m->gemm, m->logits, h, w, b, rows, C, Rp, 1.0f, false, m->stream);
        light_classify_rows(m, light_list_from(list, row), l->item_losses, rows, scale, gradient, micro->accumulate);
        if (!gradient) continue;
        matmul_dinput(&m->gemm, m->dn + (size_t)row * C, m->logits, w, rows, C, Rp, 1.0f, m->stream);
        matmul_dweight(&m->gemm, grad(m, l->row_w), m->logits, h, rows, C, Rp, 1.0f, add, m->stream);
        column_sum(grad(m, l->row_b), m->logits, l->bias_scratch, rows, Rp, add, m->stream);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Columns

static Items light_item_lists(const Model* m, int K) {
    const LightRnn* l = &m->light;
    return (Items){K,       m->config.book.rows, l->row_of, l->column_of, l->row_ids,
                   l->slot, l->item_position,    l->first,  l->item_keys, l->item_order};
}

// Items begin .. end - 1 of all, and what to do with them
typedef struct {
    Model* m;
    Targets cells;  // of item `begin`
    int begin, end, room;
    floatX *h, *dh;  // (room,C); a GPU looks h up instead
    float scale;
    bool gradient;
} LightWave;

#if GPU_EXECUTION
// Where the groups of all waves are cut into tiles.
static void light_tiles(const Model* m, int items) {
    const Config* c = &m->config;
    int wave = light_wave_items(c);
    group_tiles(m->light.tiles, m->light.first, c->book.rows, GROUPED_M, wave, (items + wave - 1) / wave, m->stream);
}

// All groups of a wave: losses, dh, and the gradients of Wc and bc.
static void light_wave(const LightWave* w) {
    const Model* m = w->m;
    const Config* c = &m->config;
    const LightRnn* l = &m->light;
    int C = c->C, Kp = (int)round_up((size_t)c->book.columns, 8), wave = light_wave_items(c);
    int tiles = group_tiles_most(c->book.rows, GROUPED_M, wave);
    Grouped g = {l->tiles + (size_t)(w->begin / wave) * tiles, l->first, l->item_position, tiles, c->book.rows, w->begin, w->end};
    const floatX* weights = weight(m, l->col_w);
    grouped_forward(m->logits, m->yf, weights, weight(m, l->col_b), l->lengths, g, C, Kp, m->stream);
    classifier(m->logits, l->item_losses, w->room, w->cells, w->scale, &m->state->scaler.scale, w->end - w->begin, Kp, Kp,
               w->gradient, false, m->stream);
    if (!w->gradient) return;
    grouped_dinput(w->dh, m->logits, weights, g, C, Kp, m->stream);
    grouped_dweight(grad(m, l->col_w), grad(m, l->col_b), m->logits, m->yf, g, C, Kp, m->stream);
}
#else
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
    classifier(z, l->item_losses + at, w->room, targets_from(w->cells, (int)at), w->scale, &m->state->scaler.scale, count,
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
static void light_tiles(const Model*, int) {}
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

#endif

// The columns of all items, wave by wave.
static void light_columns(Model* m, LightList list, int N, int items, float scale, bool gradient) {
    const Config* c = &m->config;
    LightRnn* l = &m->light;
    int K = list.targets.count, most = light_wave_items(c);
    Items s = light_item_lists(m, K);
    float* weights = list.losses.share ? l->item_weights : NULL;
    Targets cells = targets_list(l->item_ids, weights ? weights : list.targets.weights, K, K, 1, weights ? K : 0);
    if (GPU_EXECUTION) cells.live = l->first + c->book.rows;
    floatX* idle = m->training ? m->d4 : m->acts.z;  // (N,4C) that nothing uses between forward and backward
    LightWave w = {m, cells, 0, 0, most, idle, idle + (size_t)most * c->C, scale, gradient};
    for (; w.begin < items; w.begin = w.end) {
        w.end = items - w.begin < most ? items : w.begin + most;
        w.cells.first_row = w.begin;
        items_cells(l->item_ids, weights, &s, &list.targets, w.begin, w.end, m->stream);
        light_wave(&w);
        list_losses(list.losses, l->item_losses, most, l->slot, w.begin, w.end, N, true, m->stream);
        if (gradient) items_spread(m->dn, w.dh, &s, w.begin, w.end, N, c->C, m->stream);
    }
}

// Cross-entropies (row + column) of every target into m->losses; with gradient: dn = gradient of yf, and those of the head's
// parameters. scale: 1 / (N * micro-steps). A table in `targets` is one over rows (smoothing.cuh), or, exact, over tokens.
UNUSED static void light_loss(Model* m, const Micro* micro, Targets targets, float scale, bool gradient) {
    int N = micro->B * micro->T, most = light_targets(&m->config);
    if (targets.count > most) fail("lightrnn head: %d targets a position, but it was made for %d", targets.count, most);
    LightList list = light_list(m, targets, N, m->losses);
    Items s = light_item_lists(m, list.targets.count);
    int items = items_sort(&s, &list.targets, N, m->stream);  // on a GPU as many as it can be
    light_tiles(m, items);
    light_rows(m, micro, list, scale, gradient);
    light_columns(m, list, N, items, scale, gradient);
}

// exp(z - max) / sum over n logits, in double.
static void light_softmax(double* p, const floatX* z, int n) {
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) max = fmax(max, (double)to_float(z[i]));
    for (int i = 0; i < n; i++) sum += p[i] = exp((double)to_float(z[i]) - max);
    for (int i = 0; i < n; i++) p[i] /= sum;
}

// logits (out) on the host after row n of yf, of the matrix and bias of these parameters.
static void light_sample_logits(Model* m, floatX* logits, int n, int matrix, int bias, int out) {
    int first = n / HEAD_SAMPLE_ROWS * HEAD_SAMPLE_ROWS, C = m->config.C;
    matmul_forward(&m->gemm, m->logits, m->yf + (size_t)first * C, weight(m, matrix), weight(m, bias), HEAD_SAMPLE_ROWS, C, out,
                   1.0f, false, m->stream);
    copy_to_host(logits, m->logits + (size_t)(n - first) * out, (size_t)out * sizeof(floatX));
}

// probs (V): the normalised next-token distribution after row n of yf, over every cell of the table.
UNUSED static void light_probs(Model* m, int n, float* probs) {
    const Config* c = &m->config;
    const LightRnn* l = &m->light;
    const Codebook* book = &c->book;
    int R = book->rows, Rp = (int)round_up((size_t)R, 8), Kp = (int)round_up((size_t)book->columns, 8);
    floatX *u = (floatX*)xmalloc((size_t)Rp * sizeof(floatX)), *z = (floatX*)xmalloc((size_t)R * Kp * sizeof(floatX));
    double *p_row = (double*)xmalloc((size_t)R * sizeof(double)), *p = (double*)xmalloc((size_t)Kp * sizeof(double));
    light_sample_logits(m, u, n, l->row_w, l->row_b, Rp);
    light_sample_logits(m, z, n, l->col_w, l->col_b, R * Kp);
    light_softmax(p_row, u, R);
    for (int r = 0; r < R; r++) {
        light_softmax(p, z + (size_t)r * Kp, book->length[r]);
        for (int k = 0; k < book->length[r]; k++) probs[book->token[(size_t)r * book->columns + k]] = (float)(p_row[r] * p[k]);
    }
    free(u), free(z), free(p_row), free(p);
}
