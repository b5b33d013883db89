/*
The lightrnn head, and training with it: a known case, the head against its definition in double for even and uneven groups, the
whole distribution, finite differences, and rows that nothing hits. What is on the device is read through copies only.
*/
#include "buffer.h"
#include "child.h"

#include "llmc/model/setup.cuh"
#include "llmc/model/vocabulary.h"
#include "tiny_light.h"
#include "light_double.h"
#include "tiny_objective.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                                                \
    CHOICE(tie_embedding, "full", "full|none|light", "")                                                                          \
    CHOICE(head, "dense", HEAD_CHOICES, "")                                                                                       \
    CHOICE(embedding, "dense", HEAD_CHOICES, "")                                                                                  \
    INT(table_size, 0, 0, 65536, "")                                                                                              \
    STRING(codebook, "", "")                                                                                                      \
    CHOICE(lightrnn_decoder, "per_row", LIGHTRNN_DECODERS, "")                                                                    \
    INT(lightrnn_rank, 0, 0, 256, "")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

static void put_x(floatX* device, const float* values, size_t n) {
    floatX* host = (floatX*)xmalloc(n * sizeof(floatX));
    for (size_t i = 0; i < n; i++) from_float(&host[i], values[i]);
    copy_to_device(device, host, n * sizeof(floatX));
    free(host);
}

// Seven tokens in a table of three by three, width 2: worked out by hand. Position y; y2: a second target of weight `second`.
typedef struct {
    float du[3], dw[3], dh[2], loss[2], ngram;
    float probs[7];
} Known;

static Known known_case(int y, int y2, float second, float alpha) {
    enum { SAME = 8 };  // as many positions, all alike: a GPU's products need rows in eights
    Model m;
    LightShape s = {1, SAME, 8, 7, 2, false, ordered_book(7, 3)};
    open_light(&m, s);
    float wr[64] = {0}, br[8] = {0, 0.1f, -0.1f}, wc[3 * 64] = {0}, bc[24] = {0}, h[SAME * 8] = {0};
    const float rows[6] = {0.5f, -0.1f, 0, 0.3f, 0.2f, 0.2f};
    for (int r = 0; r < 3; r++) {
        for (int i = 0; i < 2; i++) wr[r * 8 + i] = rows[r * 2 + i];
        for (int c = 0; c < 3; c++) {
            for (int i = 0; i < 2; i++) wc[(r * 8 + c) * 8 + i] = 0.1f * (float)(r + 1) * (float)(i + 1 - c);
        }
    }
    put(&m, m.light.row_w, wr), put(&m, m.light.row_b, br), put(&m, m.light.col_w, wc), put(&m, m.light.col_b, bc);
    int tokens[SAME + 2], ids[SAME * 2], count = second != 0 ? 2 : 1;
    for (int n = 0; n < SAME; n++) h[n * 8] = 1, h[n * 8 + 1] = -2, ids[n * count + count - 1] = y2, ids[n * count] = y;
    put_x(m.yf, h, SAME * 8);
    float weights[2] = {1, second};
    put_weights(&m, weights, count);
    for (int n = 0; n < SAME + 2; n++) tokens[n] = 2;
    Micro micro = {buffer_i(tokens, SAME + 2), NULL, 1, SAME, false};
    Smoothing smoothing[SOFT_TABLES] = {};
    if (alpha > 0) {  // after token 2: tokens 1, 3 and 4 (one row), 6
        TopTable t = top_table_alloc(TABLE_BIGRAM, 7, 3);
        int32_t after[3] = {1, 4, 6};
        float p[3] = {0.25f, 0.5f, 0.25f};
        memcpy(t.ids + 6, after, sizeof(after)), memcpy(t.probs + 6, p, sizeof(p));
        smoothing[0].table = t;
        smoothing_upload(smoothing, &m);
        m.targets.table[0] = alpha;
        copy_to_device(&m.state->in.next.table[0], &alpha, sizeof(alpha));
    }
    Targets targets = training_targets(&m, &micro);
    targets.ids = buffer_i(ids, SAME * (size_t)count), targets.row_stride = count;
    head_loss(&m, &micro, targets, 1.0f / SAME, true);
    Known k;
    const float *dbr = host_f(grad(&m, m.light.row_b), 3), *dbc = host_f(grad(&m, m.light.col_b), 24);
    const float *dn = host_x(m.dn, SAME * 8), *losses = host_f(m.losses, STEP_LOSSES * SAME);
    for (int i = 0; i < 3; i++) k.du[i] = dbr[i], k.dw[i] = dbc[y / 3 * 8 + i];
    for (int i = 0; i < 2; i++) k.dh[i] = SAME * dn[5 * 8 + i], k.loss[i] = losses[i * SAME + 3];
    k.ngram = losses[LOSS_NGRAM * SAME + 7];
    head_probs(&m, 6, k.probs);
    model_free(&m);
    return k;
}

#define CHECK_VALUES(found, allowed, ...)                                                            \
    do {                                                                                             \
        const double want[] = {__VA_ARGS__};                                                         \
        for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)                                  \
            assert_off((found)[i], want[i], (allowed) + 2 * STORE_ERROR, #found ", element %zu", i); \
    } while (0)

static void known_values(void** state) {
    (void)state;
    Known k = known_case(5, 0, 0, 0);
    CHECK_VALUES(k.probs, 2e-6, 0.180106, 0.199048, 0.219982, 0.048598, 0.059358, 0.072500, 0.220409);
    CHECK_VALUES(k.loss, 2e-6, 2.624170);
    CHECK_VALUES(k.du, 2e-6, 0.599135, -0.819544, 0.220409);
    CHECK_VALUES(k.dw, 2e-6, 0.269307, 0.328933, -0.598240);
    CHECK_VALUES(k.dh, 2e-6, 0.517159, -0.088185);
    if (BRIEF) return;
    k = known_case(6, 0, 0, 0);
    CHECK_VALUES(k.loss, 2e-6, 1.512269);  // a row of one token: its column is certain
    CHECK_VALUES(k.dw, 1e-7, 0, 0, 0);
    k = known_case(5, 0, 0, 0.1f);
    double smoothed = 0.9 * (k.loss[0] - (2.624170 - 1.712269)) + 0.1 * k.ngram;
    assert_off(smoothed, 1.677269, 3e-6 + 2 * STORE_ERROR, "loss of the rows with n-grams");
    CHECK_VALUES(k.du, 2e-6, 0.574135, -0.769544, 0.195409);
    CHECK_VALUES(k.dw, 2e-6, 0.269307, 0.328933, -0.598240);
    k = known_case(5, 0, 0.35f, 0.1f);
    double total = 0.9 * (k.loss[0] - (2.624170 - 1.712269)) + 0.1 * k.ngram + (2.624170 - 1.712269) + 0.35 * k.loss[1];
    assert_off(total, 3.189144, 4e-6 + 4 * STORE_ERROR, "total of two tokens ahead and n-grams");
    CHECK_VALUES(k.du, 2e-6, 0.433832, -0.706385, 0.272553);
}

enum { CHUNK = GPU_EXECUTION ? 80 : 304 };  // rows; fewer for an emulated card, which takes its time

static const float some_weights[8] = {1, 0.5f, 0.25f, 0.125f, 0.5f, 0.75f, 0.0625f, 0.375f};

static void check_against_definition(LightShape s, const int* tokens, const char* what) {
    Model m;
    open_light(&m, s);
    int N = s.B * s.T, C = s.C, R = s.book.rows, cells = s.book.columns, Kp = (int)round_up((size_t)cells, 8);
    int Rp = (int)round_up((size_t)R, 8);
    float spread = 0.3f * sqrtf(16.0f / (float)C);  // of the weights: logits of one size for every width
    const float *wr = normal_values("wr", (size_t)Rp * C, spread), *br = normal_values("br", (size_t)Rp, 0.5f),
                *wc = normal_values("wc", (size_t)R * Kp * C, spread), *bc = normal_values("bc", (size_t)R * Kp, 0.5f),
                *h = normal_values("h", (size_t)N * C, 1);
    put(&m, m.light.row_w, wr), put(&m, m.light.row_b, br), put(&m, m.light.col_w, wc), put(&m, m.light.col_b, bc);
    put_x(m.yf, h, (size_t)N * C);
    put_weights(&m, some_weights, s.K);
    m.chunk_rows = m.chunk_rows < CHUNK ? m.chunk_rows : CHUNK;  // on a GPU, too, more than one in a long batch
    double scale = 1.0 / 16, last = 4e-6 + 4 * STORE_ERROR * scale * 3;
    LightSums want = sums_by_definition(s, wr, br, wc, bc, h, tokens, some_weights, scale);
    for (int pass = 0; pass < PASSES; pass++) {  // gradients of a second micro-step come on top
        Micro micro = {buffer_i(tokens, (size_t)N + 1 + s.K), NULL, s.B, s.T, pass > 0};
        head_loss(&m, &micro, training_targets(&m, &micro), (float)scale, true);
        int times = pass + 1;
        const float *dwr = host_f(grad(&m, m.light.row_w), (size_t)Rp * C), *dbr = host_f(grad(&m, m.light.row_b), (size_t)Rp),
                    *dwc = host_f(grad(&m, m.light.col_w), (size_t)R * Kp * C),
                    *dbc = host_f(grad(&m, m.light.col_b), (size_t)R * Kp), *dn = host_x(m.dn, (size_t)N * C),
                    *losses = host_f(m.losses, (size_t)N * s.K);
        double many = (last + STORE_ERROR * scale * 8) * N * times;
        for (int i = 0; i < N * s.K; i++)
            assert_off(losses[i], times * want.loss[i], 1e-5 + 16 * times * STORE_ERROR, "%s: loss %d", what, i);
        for (int i = 0; i < N * C; i++)
            assert_off(dn[i], want.dh[i], (s.K + 1) * last + (s.K + 1) * STORE_ERROR * fabs(want.dh[i]), "%s: dh %d", what, i);
        for (int i = 0; i < R * C; i++) assert_off(dwr[i], times * want.dwr[i], many, "%s: dWr %d", what, i);
        for (int i = 0; i < R; i++) assert_off(dbr[i], times * want.dbr[i], many, "%s: dbr %d", what, i);
        for (int i = 0; i < R * Kp; i++) {
            int row = i / Kp, c = i % Kp;
            bool live = c < s.book.length[row];
            assert_off(dbc[i], live ? times * want.dbc[row * cells + c] : 0, live ? many : 0, "%s: dbc %d", what, i);
            for (int j = 0; j < C; j++) {
                assert_off(dwc[i * C + j], live ? times * want.dwc[(row * cells + c) * C + j] : 0, live ? many : 0,
                           "%s: dWc %d,%d", what, i, j);
            }
        }
        for (int i = R; i < Rp; i++) assert_true(dbr[i] == 0 && dwr[i * C] == 0);
    }
    model_free(&m);
}

static void definition(void** state) {
    (void)state;
    enum { WIDTH = 16, VOCABULARY = 45, LONG = 2 * CHUNK - 8, MANY = LONG + 16 };
    int tokens[MANY];
    Rng rng = rng_start(4, "definition");
    LightShape s = {2, 12, WIDTH, VOCABULARY, 1, false, dealt_book(VOCABULARY, 8)};
    for (int i = 0; i < MANY; i++) tokens[i] = (int)rng_below(&rng, VOCABULARY);
    s.K = 8;
    check_against_definition(s, tokens, "eight tokens, several waves");
    LightShape wide = {1, 72, 264, 400, 2, false, ordered_book(400, 200)};  // tiles of every product that are not the last ones
    for (int i = 0; i < MANY; i++) tokens[i] = (int)rng_below(&rng, 400);
    check_against_definition(wide, tokens, "several tiles");
    if (BRIEF) return;
    for (int i = 0; i < MANY; i++) tokens[i] = (int)rng_below(&rng, VOCABULARY);
    s.K = 1;
    check_against_definition(s, tokens, "next token");
    s.K = 3, tokens[7] = -1;
    check_against_definition(s, tokens, "three tokens, one absent");
    s.K = 8;
    for (int i = 0; i < MANY; i++) tokens[i] = s.book.token[3 * s.book.columns + i % s.book.length[3]];
    check_against_definition(s, tokens, "eight tokens in one row");
    s.K = 1;
    check_against_definition(s, tokens, "all in one row");
    for (int i = 0; i < MANY; i++) tokens[i] = s.book.token[i % 8 * s.book.columns];
    s.B = 1, s.T = 8;
    check_against_definition(s, tokens, "one in each row");
    for (int i = 0; i < MANY; i++) tokens[i] = s.book.token[(i % 2 ? 7 : 2) * s.book.columns];
    check_against_definition(s, tokens, "empty rows");
    s.K = 2, s.B = 1, s.T = LONG;  // more than a chunk of rows
    s.book = ordered_book(VOCABULARY, 7);
    skewed_tokens(tokens, MANY, VOCABULARY, "long");
    check_against_definition(s, tokens, "a long batch");
    s.K = 1, s.T = 24, s.book = ordered_book(VOCABULARY, VOCABULARY);
    check_against_definition(s, tokens, "a single row");
    s.book = ordered_book(VOCABULARY, 1);
    check_against_definition(s, tokens, "a single column");
}

// The whole vocabulary, in rows of 225 of which the last is short.
static void probabilities_sum_to_one(void** state) {
    (void)state;
    enum { VOCABULARY = 50257 };
    Model m;
    LightShape s = {1, 8, 8, VOCABULARY, 1, true, ordered_book(VOCABULARY, 225)};
    open_light(&m, s);
    assert_int_equal(s.book.rows, 224);
    put(&m, m.light.row_w, normal_values("wr", 224 * 8, 1));
    put(&m, m.light.col_w, normal_values("wc", (size_t)224 * 232 * 8, 1));
    put_x(m.yf, normal_values("h", 64, 1), 64);
    float* probs = host_values(VOCABULARY);
    memset(probs, 0xff, VOCABULARY * sizeof(float));
    head_probs(&m, 1, probs);
    double sum = 0;
    for (int v = 0; v < VOCABULARY; v++) assert_true(probs[v] > 0), sum += probs[v];
    assert_off(sum, 1, 1e-5, "sum of the probabilities");
    for (int v = 0; v < VOCABULARY; v += 4999) {  // the loss is that of the same distribution
        int tokens[9] = {0, 1, v};
        Micro micro = {buffer_i(tokens, 9), NULL, 1, 8, false};
        head_loss(&m, &micro, next_token(&m, &micro), 0, false);
        assert_off(host_f(m.losses, 8)[1], -log((double)probs[v]), 2e-5, "loss of token %d", v);
    }
    model_free(&m);
}

// ---------------------------------------------------------------------------------------------------------------------
// In training

static void open_trained(Model* m) {
    LightShape s = {B, T, 64, V, 3, true, ordered_book(V, 20)};
    open_light(m, s);
    const float weights[3] = {1, 0.5f, 0.25f};
    put_weights(m, weights, 3);
}

static double total_loss(Model* m, const Micro* micro) {
    model_forward(m, micro->tokens, B, T);
    head_loss(m, micro, training_targets(m, micro), 0.0f, false);
    double sum = 0;
    const float* losses = host_f(m->losses, 3 * N);
    for (int k = 0; k < 3; k++) {
        for (int n = 0; n < N; n++) sum += m->targets.token[k] * (double)losses[k * N + n] / N;
    }
    return sum;
}

static void finite_differences(void** state) {
    (void)state;
    if (!slopes_mean_something()) skip();
    int tokens[TOKENS], order[N * STEPS];
    Model m;
    make_batches(tokens, order);
    open_trained(&m);
    Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
    check_slopes(&m, &micro, total_loss);
    const char* const names[] = {"wte.row", "wte.column", "head.row.w", "head.row.b", "head.column.w", "head.column.b"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const Param* p = &m.table.rows[params_find(&m.table, names[i])];
        double size = 0;
        const float* g = host_f(m.grads + p->offset, p->size);
        for (size_t j = 0; j < p->size; j++) size += (double)g[j] * g[j];
        if (size < 1e-6) fail_msg("%s: gradient too small to have been checked", names[i]);
    }
    model_free(&m);
}

// The same gradients, bit for bit, whatever the number of threads; but a bias is summed per thread, here as in every layer.
static void threads_agree(void** state) {
    (void)state;
    int tokens[TOKENS], order[N * STEPS];
    const float *first = NULL, *losses = NULL;
    make_batches(tokens, order);
    skewed_tokens(tokens, TOKENS, V, "threads");
    for (int threads = 1; threads <= 3; threads++) {
        Model m;
        device_threads(threads);
        open_trained(&m);
        Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
        model_micro_step(&m, &micro, 1);
        const Param* bias = &m.table.rows[m.light.row_b];
        const float *grads = host_f(m.grads, m.table.size), *now = host_f(m.losses, 3 * N);
        if (!first) first = grads, losses = now;
        size_t rest = bias->offset + bias->size;
        assert_memory_equal(losses, now, 3 * N * sizeof(float));
        assert_memory_equal(first, grads, bias->offset * sizeof(float));
        for (size_t i = bias->offset; i < rest; i++) assert_off(grads[i], first[i], GPU_EXECUTION ? 0 : 1e-6, "row bias");
        assert_memory_equal(first + rest, grads + rest, (m.table.size - rest) * sizeof(float));
        model_free(&m);
    }
}

// Rows that no target is in: no gradient, no moments, and weight decay as everywhere. In the step after, too.
static void rows_not_hit(void** state) {
    (void)state;
    Model m;
    open_trained(&m);
    int tokens[TOKENS], order[N];
    for (int i = 0; i < TOKENS; i++) tokens[i] = i % 20;  // row 0
    for (int i = 0, at = 0; i < 20; i++) {
        for (int n = 0; n < N; n++) {
            if (tokens[n] == i) order[at++] = n;
        }
    }
    const Param* p = &m.table.rows[m.light.col_w];
    size_t group = (size_t)24 * 64;
    float* before = host_f(m.masters + p->offset, p->size);
    StepInputs in = {};
    in.lr = 0.01f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.weight_decay = 0.5f;
    in.scale_loss = PRECISION == PRECISION_FP16;
    objective_loss_factors(&m, 1, in.loss_factor);
    for (int step = 0; step < 2; step++) {
        Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
        model_micro_step(&m, &micro, 1);
        double size = 0;
        const float* grads = host_f(m.grads + p->offset, p->size);
        for (size_t i = 0; i < p->size; i++) {
            if (i < group) size += fabs((double)grads[i]);
            else assert_true(grads[i] == 0);
        }
        assert_true(size > 0.01);
        model_update(&m, in, m.targets);
        cells_check(&m, "the model");
        const float *w = host_f(m.masters + p->offset, p->size), *m1 = host_f(m.m + p->offset, p->size),
                    *m2 = host_f(m.v + p->offset, p->size);
        for (size_t i = group; i < p->size; i++) {
            before[i] *= 1.0f - 0.01f * 0.5f;
            assert_off(w[i], before[i], 1e-8, "weight %zu of a row that is not hit", i);
            assert_true(m1[i] == 0 && m2[i] == 0);
        }
        const int cleared[] = {m.light.col_w, m.light.col_b, m.light.rows, m.light.columns};  // what is only ever added to
        for (int id = 0; id < 4; id++) {
            const Param* q = &m.table.rows[cleared[id]];
            const float* cleared_grads = host_f(m.grads + q->offset, q->size);
            for (size_t i = 0; i < q->size; i++) assert_true(cleared_grads[i] == 0);
        }
    }
    model_free(&m);
}

// ---------------------------------------------------------------------------------------------------------------------
// Flags

static int child_width = 8, child_V = 7;

static void parse_in_child(const void* line) {
    Options options;
    FlagTable flags = options_table(&options);
    char* copy = text_copy((const char*)line);
    Config c = {};
    c.V = child_V, c.C = child_width, c.tied = true;
    flags_lines(&flags, copy, "test", 0);
    vocabulary_from_flags(&flags, &c);
    printf("head %d embedding %d tied %d table %d %d\n", c.head, c.embedding, c.tied, c.book.rows, c.book.columns);
    vocabulary_print(&c);
}

// The banner's numbers, by hand: 197 rows of 256, width 768.
static void banner_counts(void** state) {
    (void)state;
    const struct {
        const char* line;
        const char* says;
    } cases[] = {
        {"--head lightrnn --table_size 256",
         "head 38.93M parameters, 0.696 MFLOP a token forward where a dense one has 38.60M and 77.2"},
        {"--head lightrnn --table_size 256 --lightrnn_decoder lowrank --lightrnn_rank 8",
         "head 2.01M parameters, 0.712 MFLOP a token forward where"},
        {"--head lightrnn --table_size 256 --lightrnn_decoder shared",
         "head 0.94M parameters, 0.696 MFLOP a token forward and 310 a step where"},
        {"--tie_embedding light --table_size 256 --lightrnn_decoder shared",
         "embedding 0.35M parameters, head 0.59M more parameters, 0.696 MFLOP"},
    };
    child_width = 768, child_V = 50257;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(run_child(parse_in_child, cases[i].line), 0);
        assert_says(cases[i].says);
    }
    child_width = 8, child_V = 7;
}

static void flags_mean_something(void** state) {
    (void)state;
    char file[400], other[440];
    Codebook book = codebook_sequential(7, 4);
    codebook_save(test_path("cells.bin"), &book);
    codebook_free(&book);
    snprintf(file, sizeof(file), "--head lightrnn --codebook %s", test_path("cells.bin"));
    snprintf(other, sizeof(other), "%s --table_size 3", file);
    const struct {
        const char* line;
        int code;
        const char* says;
    } cases[] = {
        {file, 0, "table 2 4"},
        {other, EXIT_USAGE, "cells.bin has 4 columns; leave --table_size out"},
        {"", 0, "head 0 embedding 0 tied 1 table 0 0"},
        {"--head lightrnn", 0, "head 1 embedding 0 tied 0 table 3 3"},
        {"--embedding lightrnn --tie_embedding none", 0, "head 0 embedding 1 tied 0 table 3 3"},
        {"--tie_embedding light --table_size 4", 0, "head 1 embedding 1 tied 0 table 2 4"},
        {"--tie_embedding light --table_size 7", 0, "table 1 7"},
        {"--tie_embedding light", 0, "table      3 rows of up to 3 columns: embedding 0.00M parameters, head 0.00M parameters"},
        {"--table_size 4", EXIT_USAGE, "--table_size has no effect without --head lightrnn or --embedding lightrnn"},
        {"--codebook x", EXIT_USAGE, "--codebook has no effect without --head lightrnn or --embedding lightrnn"},
        {"--head lightrnn --table_size 8", EXIT_USAGE, "--table_size 8 is more columns than there are tokens"},
        {"--head lightrnn --tie_embedding full", EXIT_USAGE, "--tie_embedding full shares one dense matrix"},
        {"--head dense --tie_embedding light", EXIT_USAGE, "but --head is dense"},
        {"--tie_embedding light --embedding dense", EXIT_USAGE, "but --embedding is dense"},
        {"--head lightrnn --codebook nowhere/c.bin", EXIT_FAIL, "nowhere/c.bin"},
        {"--lightrnn_decoder shared", EXIT_USAGE, "--lightrnn_decoder has no effect without --head lightrnn; add it"},
        {"--embedding lightrnn --lightrnn_decoder per_row", EXIT_USAGE, "--lightrnn_decoder has no effect"},
        {"--lightrnn_rank 2", EXIT_USAGE, "--lightrnn_rank has no effect without --lightrnn_decoder lowrank; add it"},
        {"--head lightrnn --lightrnn_decoder shared --lightrnn_rank 2", EXIT_USAGE, "--lightrnn_rank has no effect"},
        {"--head lightrnn --lightrnn_decoder lowrank", EXIT_USAGE,
         "--lightrnn_decoder lowrank needs --lightrnn_rank of 1 or more"},
        {"--head lightrnn --lightrnn_decoder lowrank --lightrnn_rank 0", EXIT_USAGE, "needs --lightrnn_rank of 1 or more"},
        {"--head lightrnn --lightrnn_decoder lowrank --lightrnn_rank 4", EXIT_USAGE, "is more than the 3 columns of the table"},
        {"--head lightrnn --lightrnn_decoder shared", 0, "head 1 embedding 0 tied 0 table 3 3"},
        {"--tie_embedding light --lightrnn_decoder shared", 0, "head 1 embedding 1 tied 1 table 3 3"},
        {"--head lightrnn --embedding lightrnn --lightrnn_decoder shared", 0, "tied 1 table 3 3"},
        {"--head lightrnn --embedding lightrnn --tie_embedding none --lightrnn_decoder shared", 0, "tied 0 table 3 3"},
        {"--tie_embedding light --lightrnn_decoder lowrank --lightrnn_rank 3", 0, "head 1 embedding 1 tied 0 table 3 3"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int code = run_child(parse_in_child, cases[i].line);
        if (code != cases[i].code)
            fail_msg("%s: exit code %d, expected %d; it said %s", cases[i].line, code, cases[i].code, child_output);
        assert_says(cases[i].says);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(known_values),  TEST(definition),   TEST(probabilities_sum_to_one), TEST(finite_differences),
        TEST(threads_agree), TEST(rows_not_hit), TEST(flags_mean_something),     TEST(banner_counts),
    };
    return cmocka_run_group_tests_name("lightrnn " PRECISION_NAME, tests, NULL, test_dir_remove);
}
