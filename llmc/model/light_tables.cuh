/*
The lightrnn head whose rows share their column weights: the decoders `shared` (light_shared.cuh) and `lowrank`
(light_lowrank.cuh). P(token | h) = P(row | h) P(column | h, row), as in head_lightrnn.cuh; but the product with h is the same for
all rows, and what a row adds to it is a table's row (and, of a low rank, a few directions).

    for a chunk of positions, in the logits buffer:
        u (rows,Rp) = h Er^T (+ br)      classifier over the rows r(y_k) -> du in place;  dh = du Er;  dEr += du^T h;  dbr += du
        y (rows,Kp) = h Ec^T             z (rows K,Kp) = y[n] + shift[r] (+ low rank): one item per position and distinct row
                                         classifier over the row's cells -> dz in place;  dy[n] = sum of its dz
                                         dh += dy Ec;  dEc += dy^T h;  dshift[r] += dz

    one target: z is y, in place.   K targets: | y rows | z rows K |

Everything is one dense product or a kernel over rows of a fixed size: the same code on the CPU, a GPU and in the emulation, and
no size that the host would have to read back. Launches of a chunk in training: 13, with several targets one more, with n-grams
that are words two, with a low rank seven; the shared decoder has eight more a micro-step. Softmaxes run over existing rows and
over the cells of a row that hold a token, so the probabilities of all V tokens sum to 1.

A table in the targets smooths the row alone; or, with --cocont_mass exact, its entries are targets like the tokens ahead, with
weights of their own at each position (ops/soft_list.cuh): K grows by the entries of a table's row, idle items included.
*/
#pragma once

#include "head_lightrnn.cuh"
#include "light_lowrank.cuh"
#include "light_shared.cuh"

UNUSED static void light_tables_params(Model* m) {
    m->lm_head = -1;
    if (m->config.decoder == DECODER_SHARED) shared_params(m);
    else lowrank_params(m);
}

UNUSED static void light_tables_plan_activations(Model* m) {
    const Config* c = &m->config;
    LightTables* l = &m->tables_head;
    Arena* a = &m->activations;
    size_t K = (size_t)light_entries(c), items = (size_t)m->chunk_rows * K, R = (size_t)c->book.rows, I = sizeof(int);
    arena_add(a, "row ids", &l->items.row_ids, items * I);
    arena_add(a, "item of a target", &l->items.slot, items * I);
    arena_add(a, "item rows", &l->items.keys, items * I);
    arena_add(a, "item cells", &l->items.cells, items * K * I);
    light_plan_list(m, (size_t)m->chunk_rows, items * K);
    arena_add(a, "item order", &l->order, m->training ? (items + R + 2) * I : 0);
    arena_add(a, "row lengths", &l->length, R * I);
    arena_add(a, "item losses", &l->item_losses, K * items * sizeof(float));
    bool biased = m->training && c->decoder == DECODER_LOWRANK;
    arena_add(a, "row bias sums", &m->light.bias_scratch,
              biased ? (size_t)device_teams(COLUMN_TEAMS) * round_up(R, 8) * sizeof(float) : 0);
    if (c->decoder == DECODER_SHARED) shared_plan_activations(m);
    else lowrank_plan_activations(m, items);
}

UNUSED static void light_tables_allocate(Model* m) {
    const Codebook* b = &m->config.book;
    copy_to_device(m->tables_head.length, b->length, (size_t)b->rows * sizeof(int));
}

static void light_tables_plan_product(Model* m, int rows, int out, bool bias) {
    bool fp32 = sizeof(floatX) == sizeof(float);
    int C = m->config.C;
    gemm_plan(&m->gemm, GEMM_FORWARD, rows, C, out, fp32, bias, false);
    if (!m->training) return;
    for (int add = 0; add < 2; add++) {
        gemm_plan(&m->gemm, GEMM_DINPUT, rows, C, out, fp32, false, add);
        gemm_plan(&m->gemm, GEMM_DWEIGHT, rows, C, out, true, false, add);
    }
}

// Plans of the products for micro-batches of N positions.
UNUSED static void light_tables_plan_shape(Model* m, int N) {
    const Config* c = &m->config;
    bool low = c->decoder == DECODER_LOWRANK;
    int Rp = (int)round_up((size_t)c->book.rows, 8), Kp = (int)round_up((size_t)c->book.columns, 8);
    int chunks[2] = {N < m->chunk_rows ? 0 : m->chunk_rows, N % m->chunk_rows};
    for (int i = 0; i < 2; i++) {
        if (!chunks[i]) continue;
        light_tables_plan_product(m, chunks[i], Rp, low);
        light_tables_plan_product(m, chunks[i], Kp, false);
    }
    if (low) return;
    light_tables_plan_product(m, Rp, c->C, false);
    light_tables_plan_product(m, Rp, Kp, false);
}

// Row cross-entropies of a chunk; with gradient: dn, and the gradients of the rows.
static void light_tables_rows(Model* m, const Micro* micro, LightList list, int row, int rows, float scale, bool gradient) {
    const Config* c = &m->config;
    const LightRnn* l = &m->light;
    int C = c->C, Rp = (int)round_up((size_t)c->book.rows, 8);
    bool add = micro->accumulate || row > 0;
    const floatX *h = m->yf + (size_t)row * C, *w = weight(m, l->row_w);
    list.targets.ids = m->tables_head.items.row_ids, list.targets.row_stride = list.targets.count, list.targets.target_stride = 1;
    matmul_forward(&m->gemm, m->logits, h, w, weight(m, l->row_b), rows, C, Rp, 1.0f, false, m->stream);
    light_classify_rows(m, list, m->tables_head.item_losses, rows, scale, gradient, micro->accumulate);
    if (!gradient) return;
    matmul_dinput(&m->gemm, m->dn + (size_t)row * C, m->logits, w, rows, C, Rp, 1.0f, m->stream);
    matmul_dweight(&m->gemm, grad(m, l->row_w), m->logits, h, rows, C, Rp, 1.0f, add, m->stream);
    if (l->row_b >= 0) column_sum(grad(m, l->row_b), m->logits, l->bias_scratch, rows, Rp, add, m->stream);
}

// Column cross-entropies of a chunk on top; with gradient: dn and the columns' gradients.
static void light_tables_columns(Model* m, const Micro* micro, LightList list, int row, int rows, float scale, bool gradient) {
    const Config* c = &m->config;
    const LightRnn* l = &m->light;
    LightTables* s = &m->tables_head;
    bool shared = c->decoder == DECODER_SHARED, add = micro->accumulate || row > 0;
    int K = list.targets.count, items = rows * K, C = c->C, R = c->book.rows, Kp = (int)round_up((size_t)c->book.columns, 8);
    const floatX *h = m->yf + (size_t)row * C, *w = weight(m, l->col_w), *shift = shared ? s->shift : weight(m, l->col_b);
    floatX *y = m->logits, *z = K == 1 ? y : y + (size_t)rows * Kp, *dn = m->dn + (size_t)row * C;
    CellRank low = {NULL, NULL, 0, 0};
    matmul_forward(&m->gemm, y, h, w, (const floatX*)NULL, rows, C, Kp, 1.0f, false, m->stream);
    if (!shared) low = lowrank_forward(m, h, items, K);
    cell_logits(z, y, shift, s->items.keys, s->length, low, items, K, R, Kp, m->stream);
    const float* weights = list.losses.share ? l->item_weights : list.targets.weights;
    Targets cells = targets_list(s->items.cells, weights, K, K, 1, list.losses.share ? K : 0);
    classifier(z, s->item_losses, items, cells, scale, &m->state->scaler.scale, items, c->book.columns, Kp, gradient, false,
               m->stream);
    list_losses(list.losses, s->item_losses, items, s->items.slot, 0, items, rows, true, m->stream);
    if (!gradient) return;
    group_order(s->order, s->order + items, s->items.keys, items, R + 1, m->stream);
    cell_sums(shared ? s->dshift : grad(m, l->col_b), z, NULL, s->items.keys, s->order, items, 1, 1, R, Kp, m->stream);
    if (!shared) lowrank_backward(m, dn, h, z, items, K);
    if (K > 1) cell_gather(y, z, rows, K, Kp, m->stream);
    matmul_dinput_add(&m->gemm, dn, y, w, rows, C, Kp, 1.0f, m->stream);
    matmul_dweight(&m->gemm, grad(m, l->col_w), y, h, rows, C, Kp, 1.0f, add, m->stream);
}

// Cross-entropies (row + column) of every target into m->losses; with gradient: dn = gradient of yf, and those of the head's
// parameters. scale: 1 / (N * micro-steps). A table in `targets` is one over rows (smoothing.cuh), or, exact, over tokens.
UNUSED static void light_tables_loss(Model* m, const Micro* micro, Targets targets, float scale, bool gradient) {
    const Config* c = &m->config;
    LightTables* s = &m->tables_head;
    int N = micro->B * micro->T, most = light_targets(c);
    if (targets.count > most) fail("lightrnn head: %d targets a position, but it was made for %d", targets.count, most);
    bool shared = c->decoder == DECODER_SHARED;
    if (shared && !(gradient && micro->accumulate)) shared_forward(m);  // later micro-steps have the weights of the first
    for (int row = 0; row < N; row += m->chunk_rows) {
        int rows = N - row < m->chunk_rows ? N - row : m->chunk_rows;
        LightList list = light_list(m, targets_from(targets, row), rows, m->losses + row);
        CellItems cells = s->items;
        cells.weights = list.losses.share ? m->light.item_weights : NULL;
        cell_items(cells, list.targets, m->light.row_of, m->light.column_of, rows, c->book.rows, m->stream);
        light_tables_rows(m, micro, list, row, rows, scale, gradient);
        light_tables_columns(m, micro, list, row, rows, scale, gradient);
    }
    if (shared && gradient) shared_backward(m, micro->accumulate);
}

// ---------------------------------------------------------------------------------------------------------------------
// The whole distribution, on the host and in double

// n elements of the device as host floats; the caller frees them. NULL stays NULL.
static float* light_tables_host(const floatX* device, size_t n) {
    if (!device) return NULL;
    floatX* raw = (floatX*)xmalloc(n * sizeof(floatX));
    float* host = (float*)xmalloc(n * sizeof(float));
    copy_to_host(raw, device, n * sizeof(floatX));
    for (size_t i = 0; i < n; i++) host[i] = to_float(raw[i]);
    free(raw);
    return host;
}

static double light_tables_dot(const float* a, const float* b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static void light_tables_softmax(double* z, int n) {
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) max = fmax(max, z[i]);
    for (int i = 0; i < n; i++) sum += z[i] = exp(z[i] - max);
    for (int i = 0; i < n; i++) z[i] /= sum;
}

// probs (V) on the host: the normalised next-token distribution after row n of yf, over every cell of the table.
UNUSED static void light_tables_probs(Model* m, int n, float* probs) {
    const Config* c = &m->config;
    const Codebook* book = &c->book;
    LightTables* s = &m->tables_head;
    bool shared = c->decoder == DECODER_SHARED;
    int R = book->rows, K = book->columns, C = c->C, Kp = (int)round_up((size_t)K, 8), rank = shared ? 0 : c->light_rank;
    if (shared) shared_forward(m);
    device_sync();
    size_t columns = (size_t)C * (size_t)K, thin = (size_t)R * rank;
    const floatX* shift = shared ? s->shift : weight(m, m->light.col_b);
    float *h = light_tables_host(m->yf + (size_t)n * C, (size_t)C),
          *wr = light_tables_host(weight(m, m->light.row_w), (size_t)R * C);
    float *br = light_tables_host(weight(m, m->light.row_b), (size_t)R),
          *wc = light_tables_host(weight(m, m->light.col_w), columns);
    float* added = light_tables_host(shift, (size_t)R * Kp);
    float* in = rank ? light_tables_host(weight(m, s->low_in), thin * C) : NULL;
    float* out = rank ? light_tables_host(weight(m, s->low_out), thin * Kp) : NULL;
    double *p = (double*)xmalloc((size_t)R * sizeof(double)), *y = (double*)xmalloc((size_t)K * sizeof(double));
    double* z = (double*)xmalloc((size_t)K * sizeof(double));
    for (int r = 0; r < R; r++) p[r] = light_tables_dot(wr + (size_t)r * C, h, C) + (br ? br[r] : 0);
    for (int k = 0; k < K; k++) y[k] = light_tables_dot(wc + (size_t)k * C, h, C);
    light_tables_softmax(p, R);
    for (int r = 0; r < R; r++) {
        for (int k = 0; k < K; k++) z[k] = y[k] + added[(size_t)r * Kp + k];
        for (int j = r * rank; j < (r + 1) * rank; j++) {
            double a = light_tables_dot(in + (size_t)j * C, h, C);
            for (int k = 0; k < K; k++) z[k] += a * out[(size_t)j * Kp + k];
        }
        light_tables_softmax(z, book->length[r]);
        for (int k = 0; k < book->length[r]; k++) probs[book->token[(size_t)r * K + k]] = (float)(p[r] * z[k]);
    }
    free(h), free(wr), free(br), free(wc), free(added), free(in), free(out), free(p), free(y), free(z);
}
