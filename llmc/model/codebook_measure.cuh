/*
What every token costs in every row and every column of the codebook, measured in one pass over training text with a trained
model: the costs that data/build_codebook --method matching makes a better codebook from (llmc/io/codebook_costs.h).

    --codebook_costs FILE --codebook_costs_tokens N     with --resume 1: measures, writes FILE, and ends

    per batch   forward -> h (N,C) to the host; positions sorted by the token that follows
                token v: for each of its positions   u = Wr h + br (R)   w = Wc[r(v)] h + bc (K)
                                                     l_r[v] += lse(u) - u      l_c[v] += lse(w) - w

A token's sums belong to one thread, in double: the file is the same for any number of threads. 2 C (R + K) operations a
position in plain loops on the host, whatever the model runs on: less than a tenth of a forward pass. The weights are the fp32
masters. Left out: other text than the training text. A codebook chosen on validation text would know it.
*/
#pragma once

#include "../io/codebook_costs.h"
#include "../io/feed.cuh"
#include "trunk.cuh"

typedef struct {
    const Codebook* book;
    int N, C, Kp;                          // largest batch
    float *row_w, *row_b, *col_w, *col_b;  // the head's masters on the host
    floatX* h;                             // (N,C)
    int *tokens, *first, *order;           // (N + 1), (V + 1), (N): positions by the token that follows, token v's from first[v]
    double *l_r, *l_c;                     // (V,R), (V,K)
    uint64_t positions;
} CodebookMeasure;

static float* measure_masters(const Model* m, int id) {
    const Param* p = &m->table.rows[id];
    float* w = (float*)xmalloc(p->size * sizeof(float));
    copy_to_host(w, m->masters + p->offset, p->size * sizeof(float));
    return w;
}

// Of a model with a lightrnn head whose rows have column weights of their own.
UNUSED static CodebookMeasure measure_open(const Model* m) {
    const Config* c = &m->config;
    CodebookMeasure s;
    memset(&s, 0, sizeof(s));
    s.book = &c->book;
    s.N = c->B * c->T, s.C = c->C, s.Kp = (int)round_up((size_t)c->book.columns, 8);
    s.row_w = measure_masters(m, m->light.row_w), s.row_b = measure_masters(m, m->light.row_b);
    s.col_w = measure_masters(m, m->light.col_w), s.col_b = measure_masters(m, m->light.col_b);
    s.h = (floatX*)xmalloc((size_t)s.N * s.C * sizeof(floatX));
    s.tokens = (int*)xmalloc((size_t)(s.N + 1) * sizeof(int));
    s.first = (int*)xmalloc((size_t)(c->V + 1) * sizeof(int));
    s.order = (int*)xmalloc((size_t)s.N * sizeof(int));
    s.l_r = (double*)xcalloc((size_t)c->V * c->book.rows * sizeof(double));
    s.l_c = (double*)xcalloc((size_t)c->V * c->book.columns * sizeof(double));
    return s;
}

UNUSED static void measure_free(CodebookMeasure* s) {
    free(s->row_w), free(s->row_b), free(s->col_w), free(s->col_b);
    free(s->h), free(s->tokens), free(s->first), free(s->order), free(s->l_r), free(s->l_c);
    memset(s, 0, sizeof(*s));
}

// cost[i] += -log softmax(w h + b)[i], i < n. w (n,C), h (C)
static void measure_add_costs(double* cost, const float* w, const float* b, const floatX* h, int n, int C) {
    float z[CODEBOOK_COSTS_SIDE], max = -INFINITY;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        float dot = 0;
        for (int c = 0; c < C; c++) dot += w[(size_t)i * C + c] * to_float(h[c]);
        z[i] = dot + b[i];
        max = fmaxf(max, z[i]);
    }
    for (int i = 0; i < n; i++) sum += exp((double)z[i] - max);
    double lse = max + log(sum);
    for (int i = 0; i < n; i++) cost[i] += fmax(0.0, lse - z[i]);
}

// The batch that model_forward has just been given: tokens (B*T + 1) on the device.
UNUSED static void measure_add(CodebookMeasure* s, const Model* m, const int* tokens, int B, int T) {
    const Codebook* book = s->book;
    int N = B * T, V = book->V, R = book->rows, K = book->columns, C = s->C;
    device_sync();
    copy_to_host(s->h, m->yf, (size_t)N * C * sizeof(floatX));
    copy_to_host(s->tokens, tokens, (size_t)(N + 1) * sizeof(int));
    memset(s->first, 0, (size_t)(V + 1) * sizeof(int));
    for (int n = 0; n < N; n++) s->first[s->tokens[n + 1]]++;
    for (int v = 1; v <= V; v++) s->first[v] += s->first[v - 1];
    for (int n = N - 1; n >= 0; n--) s->order[--s->first[s->tokens[n + 1]]] = n;
    s->positions += (uint64_t)N;
#ifdef _OPENMP  // the emulation is compiled without
#pragma omp parallel for schedule(dynamic, 16)
#endif
    for (int v = 0; v < V; v++) {
        size_t cells = (size_t)book->row[v] * (size_t)s->Kp;
        for (int i = s->first[v]; i < s->first[v + 1]; i++) {
            const floatX* h = s->h + (size_t)s->order[i] * C;
            measure_add_costs(s->l_r + (size_t)v * R, s->row_w, s->row_b, h, R, C);
            measure_add_costs(s->l_c + (size_t)v * K, s->col_w + cells * C, s->col_b + cells, h, book->length[book->row[v]], C);
        }
    }
}

// The sums so far, the caller's: codebook_costs_free it.
UNUSED static CodebookCosts measure_costs(const CodebookMeasure* s) {
    const Codebook* book = s->book;
    CodebookCosts costs = codebook_costs_alloc(book);
    int R = book->rows, K = book->columns;
    costs.positions = s->positions;
    for (int v = 0; v < book->V; v++) {
        int length = book->length[book->row[v]];
        double mean = 0;
        for (int j = 0; j < length; j++) mean += s->l_c[(size_t)v * K + j] / length;
        for (int i = 0; i < R; i++) costs.l_r[(size_t)v * R + i] = (float)s->l_r[(size_t)v * R + i];
        for (int j = 0; j < K; j++) costs.l_c[(size_t)v * K + j] = (float)(j < length ? s->l_c[(size_t)v * K + j] : mean);
    }
    return costs;
}

// Measures the first `tokens` of the training shards, rounded up to whole batches, and writes `path`. Text that is too short, a
// table with a side of more than CODEBOOK_COSTS_SIDE, and a file that is no costs' end the program.
UNUSED static void codebook_measure(Model* m, const char* path, const char* pattern, int64_t tokens) {
    const Config* c = &m->config;
    Feed feed;
    NewFile file;
    CodebookCosts costs = codebook_costs_alloc(&c->book);  // refuses what is too long
    codebook_costs_free(&costs);
    codebook_costs_keep_others(path);
    feed_open(&feed, pattern, NULL, c->B, c->T, 1, c->V, false);
    loader_check(&feed.loader);
    int64_t batch = (int64_t)c->B * c->T, batches = (tokens + batch - 1) / batch;
    if (batches > (int64_t)loader_epoch_batches(&feed.loader)) {
        fail("%s: serves %lld tokens at most, but --codebook_costs_tokens is %lld; lower it, or bring more text", pattern,
             (long long)loader_epoch_batches(&feed.loader) * (long long)batch, (long long)tokens);
    }
    new_file_open(&file, path);  // now: a directory that is missing is told before the work
    CodebookMeasure s = measure_open(m);
    for (int64_t i = 0; i < batches; i++) {
        feed_next(&feed, m->stream);
        model_forward(m, feed.tokens, c->B, c->T);
        measure_add(&s, m, feed.tokens, c->B, c->T);
    }
    costs = measure_costs(&s);
    codebook_costs_write(&file, &costs);
    double rows = 0, columns = 0;
    for (int v = 0; v < c->V; v++) {
        rows += s.l_r[(size_t)v * c->book.rows + c->book.row[v]], columns += s.l_c[(size_t)v * c->book.columns + c->book.col[v]];
    }
    double n = (double)s.positions;
    printf("%s: costs of %lld tokens of training text: %.6f nats a token (rows %.6f, columns %.6f)\n", path,
           (long long)s.positions, (rows + columns) / n, rows / n, columns / n);
    codebook_costs_free(&costs);
    measure_free(&s);
    feed_close(&feed);
}

// From the flags: whether the program measures instead of training. A contradiction ends it with exit code 2.
UNUSED static bool codebook_measure_wanted(const FlagTable* flags, const Config* c) {
    bool wanted = **(char* const*)flag_field(flags, "codebook_costs") != 0;
    if (!wanted && flag_was_set(flags, "codebook_costs_tokens")) {
        usage_error("--codebook_costs_tokens has no effect without --codebook_costs; add --codebook_costs FILE");
    }
    if (wanted && c->head != HEAD_LIGHTRNN) {
        usage_error("--codebook_costs measures a lightrnn head, but --head is dense; continue a run with --head lightrnn");
    }
    if (wanted && c->decoder != DECODER_PER_ROW) {
        usage_error("--codebook_costs measures rows with weights of their own; it needs --lightrnn_decoder per_row");
    }
    if (wanted && strcmp(*(char* const*)flag_field(flags, "resume"), "1")) {
        usage_error("--codebook_costs measures a trained model; add --resume 1 and the --output_dir of its run");
    }
    return wanted;
}
