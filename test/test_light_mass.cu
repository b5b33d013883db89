/*
N-grams as words of a lightrnn head (--cocont_mass exact): the head's loss is the cross-entropy of the whole target distribution
with that over all tokens, built here token by token in double; its gradients are that function's slopes. A case by hand, rows and
columns that coincide, the corrected estimator, training.
*/
#include "buffer.h"

#include "llmc/model/setup.cuh"
#include "tiny_light.h"
#include "tiny_objective.h"

enum { ENTRIES = 3, WORDS = 29, WIDTH = 8 };

typedef struct {
    const char* name;
    LightDecoder decoder;
    int rank;
} Form;
static const Form forms[] = {{"per row", DECODER_PER_ROW, 0}, {"shared", DECODER_SHARED, 0}, {"rank 2", DECODER_LOWRANK, 2}};
enum { FORMS = sizeof(forms) / sizeof(forms[0]), TENSORS = 7 };

// ---------------------------------------------------------------------------------------------------------------------
// The definition: every token's probability, and what each position should predict

typedef struct {
    LightShape s;
    Form f;
    const int* tokens;
    const float* weights;
    double alpha, gamma;  // gamma 0: plain
    int first;            // positions of a sequence that are smoothed, 0: all
    const TopTable* table;
} Case;

// Of the head, as the model lays them out: rows, their bias, columns, theirs, U, A, B; count 0: the decoder has none. And h.
typedef struct {
    int id[TENSORS];
    size_t count[TENSORS];
    double *w[TENSORS], *h;
} Head;

static double dot(const double* a, const double* b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void log_softmax(double* z, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp(z[i]);
    for (int i = 0; i < n; i++) z[i] -= log(sum);
}

// log_p (V) of all tokens behind the hidden row h
static void distribution(const Case* c, const Head* w, const double* h, double* log_p) {
    const Codebook* b = &c->s.book;
    int C = c->s.C, Kp = (int)round_up((size_t)b->columns, 8), rank = c->f.rank;
    double rows[WORDS], z[WORDS], seen[WIDTH];
    for (int r = 0; r < b->rows; r++) rows[r] = dot(w->w[0] + r * C, h, C) + (w->count[1] ? w->w[1][r] : 0);
    log_softmax(rows, b->rows);
    for (int r = 0; r < b->rows; r++) {
        bool own = c->f.decoder == DECODER_PER_ROW;
        for (int i = 0; i < C; i++) seen[i] = h[i] + (w->count[4] ? dot(w->w[4] + i * C, w->w[0] + r * C, C) : 0);
        for (int k = 0; k < b->length[r]; k++) {
            z[k] = dot(w->w[2] + (own ? r * Kp + k : k) * C, seen, C) + (w->count[3] ? w->w[3][r * Kp + k] : 0);
            for (int j = r * rank; j < (r + 1) * rank; j++) z[k] += dot(w->w[5] + j * C, h, C) * w->w[6][j * Kp + k];
        }
        log_softmax(z, b->length[r]);
        for (int k = 0; k < b->length[r]; k++) log_p[b->token[r * b->columns + k]] = rows[r] + z[k];
    }
}

// What the table makes of the main target: weights of the target and of the entries
typedef struct {
    double main, entry, share, main_share;
} Mixed;

static Mixed mixed(const Case* c, int n) {
    int row = c->tokens[n], y = c->tokens[n + 1];
    const int32_t* ids = c->table->ids + row * ENTRIES;
    if (ids[0] < 0 || c->alpha == 0 || (c->first && n % c->s.T >= c->first)) return (Mixed){1, 0, 0, 1};
    double P = c->table->p_top[row], f = 1, m = 0;
    bool hit = false;
    for (int j = 0; j < ENTRIES; j++) hit = hit || ids[j] == y;
    if (c->gamma > 0) f = (hit ? c->gamma - 1 : P) / (c->gamma - P), m = !hit;
    return (Mixed){1 - c->alpha + c->alpha * m, c->alpha * f, f, m};
}

// The loss; losses (K,N) and ngram (N) unless NULL
static double by_definition(const Case* c, const Head* w, double scale, double* losses, double* ngram) {
    int N = c->s.B * c->s.T, V = c->s.V;
    double total = 0, log_p[WORDS];
    for (int n = 0; n < N; n++) {
        double target[WORDS] = {0}, of_table = 0;
        Mixed x = mixed(c, n);
        distribution(c, w, w->h + n * c->s.C, log_p);
        for (int k = 0; k < c->s.K; k++) {
            int y = c->tokens[n + 1 + k];
            if (y < 0) continue;
            target[y] += c->weights[k] * (k ? 1 : x.main);
            if (losses) losses[k * N + n] = -log_p[y];
        }
        for (int j = 0; x.share > 0 && j < ENTRIES; j++) {
            size_t at = (size_t)c->tokens[n] * ENTRIES + (size_t)j;
            if (c->table->ids[at] < 0) continue;
            target[c->table->ids[at]] += c->weights[0] * x.entry * c->table->probs[at];
            of_table -= x.share * c->table->probs[at] * log_p[c->table->ids[at]];
        }
        if (ngram) ngram[n] = of_table - (c->tokens[n + 1] < 0 ? 0 : x.main_share * log_p[c->tokens[n + 1]]);
        for (int v = 0; v < V; v++) total -= scale * target[v] * log_p[v];
    }
    return total;
}

// ---------------------------------------------------------------------------------------------------------------------
// The model against it

// Weights that are not small, known in double.
static Head fill_head(Model* m, const Case* c, floatX** h) {
    const LightRnn* l = &m->light;
    const LightTables* t = &m->tables_head;
    bool shared = c->f.decoder == DECODER_SHARED, low = c->f.decoder == DECODER_LOWRANK;
    Head w = {{l->row_w, l->row_b, l->col_w, l->col_b, shared ? t->mix : -1, low ? t->low_in : -1, low ? t->low_out : -1},
              {},
              {},
              NULL};
    static const char* const names[TENSORS] = {"wr", "br", "wc", "bc", "mix", "in", "out"};
    for (int i = 0; i < TENSORS; i++) {
        if (w.id[i] < 0) continue;
        w.count[i] = m->table.rows[w.id[i]].size;
        float* values = normal_values(names[i], w.count[i], 0.4f);
        w.w[i] = (double*)host_values(2 * w.count[i]);
        for (size_t j = 0; j < w.count[i]; j++) w.w[i][j] = values[j];
        put(m, w.id[i], values);
    }
    size_t size = (size_t)c->s.B * c->s.T * c->s.C;
    float* values = normal_values("h", size, 1);
    w.h = (double*)host_values(2 * size);
    for (size_t j = 0; j < size; j++) w.h[j] = values[j];
    *h = buffer_x(values, size);
    copy_on_device(m->yf, *h, size * sizeof(floatX), m->stream);
    return w;
}

static TopTable copy_of(const TopTable* t) {
    TopTable copy = top_table_alloc(TABLE_BIGRAM, t->V, t->K);
    size_t entries = (size_t)t->V * (size_t)t->K;
    memcpy(copy.ids, t->ids, entries * sizeof(int32_t)), memcpy(copy.probs, t->probs, entries * sizeof(float));
    memcpy(copy.p_top, t->p_top, (size_t)t->V * sizeof(float));
    return copy;
}

static void upload(Model* m, const Case* c) {
    Smoothing smoothing[SOFT_TABLES] = {};
    smoothing[0].table = copy_of(c->table);
    smoothing[0].corrected = c->gamma > 0, smoothing[0].gamma = c->gamma, smoothing[0].first = c->first;
    smoothing_upload(smoothing, m);
    StepWeights weights = {};
    for (int k = 0; k < c->s.K; k++) weights.token[k] = c->weights[k];
    weights.table[0] = (float)c->alpha;
    targets_start(m, weights);
}

// Slope of the definition along one of its numbers.
static double slope(const Case* c, Head* w, double* x, double scale) {
    double kept = *x, h = 1e-4, up = (*x = kept + h, by_definition(c, w, scale, NULL, NULL)),
           down = (*x = kept - h, by_definition(c, w, scale, NULL, NULL));
    *x = kept;
    return (up - down) / (2 * h);
}

// Two micro-steps. chunk: positions whose rows of logits exist at once, 0: all.
static void check(Case c, int chunk, const char* what) {
    Model m;
    int N = c.s.B * c.s.T, K = c.s.K;
    double scale = 1.0 / N, W = c.alpha;
    for (int k = 0; k < K; k++) W += c.weights[k];
    open_light_config(&m, light_config(c.s, c.f.decoder, c.f.rank, false, true));
    if (chunk) m.chunk_rows = chunk;
    floatX* h;
    Head w = fill_head(&m, &c, &h);
    upload(&m, &c);
    double *losses = (double*)host_values(2 * (size_t)(K * N)), *ngram = (double*)host_values(2 * (size_t)N);
    memset(losses, 0, (size_t)(K * N) * sizeof(double));
    by_definition(&c, &w, scale, losses, ngram);
    // storage rounds a logit (an error of its gradient) and the gradient; the sum of all of them is at most W per position
    double allowed = W * (1e-6 + 2 * STORE_ERROR), allowed_loss = 1e-5 + 16 * STORE_ERROR;
    for (int times = 1; times <= PASSES; times++) {
        Micro micro = {buffer_i(c.tokens, (size_t)N + 1 + (size_t)K), NULL, c.s.B, c.s.T, times > 1};
        head_loss(&m, &micro, training_targets(&m, &micro), (float)scale, true);
        const float *found = host_f(m.losses, (size_t)STEP_LOSSES * N), *dn = host_x(m.dn, (size_t)N * c.s.C);
        for (int i = 0; i < K * N; i++)
            assert_off(found[i], times * losses[i], times * allowed_loss, "%s: %s: loss %d", c.f.name, what, i);
        for (int n = 0; n < N; n++)
            assert_off(found[LOSS_NGRAM * N + n], times * ngram[n], times * allowed_loss, "%s: %s: n-grams of %d", c.f.name, what,
                       n);
        for (int i = 0; i < N * c.s.C; i++)
            assert_off(dn[i], slope(&c, &w, &w.h[i], scale), 4 * allowed * scale, "%s: %s: dh %d", c.f.name, what, i);
        for (int t = 0; t < TENSORS; t++) {
            if (!w.count[t]) continue;
            const float* g = host_f(grad(&m, w.id[t]), w.count[t]);
            for (size_t i = 0; i < w.count[t]; i++)
                assert_off(g[i], times * slope(&c, &w, &w.w[t][i], scale), times * allowed, "%s: %s: %s %zu", c.f.name, what,
                           m.table.rows[w.id[t]].name, i);
        }
    }
    model_free(&m);
}

static const float some_weights[8] = {1, 0.5f, 0.25f, 0.125f, 0.5f, 0.75f, 0.0625f, 0.375f};

// Followers: often the next token in make_tokens' order, words of one row, and a word twice; every fifth token has none.
static TopTable followers(const Codebook* book) {
    TopTable t = top_table_alloc(TABLE_BIGRAM, WORDS, ENTRIES);
    static const float shares[ENTRIES] = {0.5f, 0.375f, 0.125f};
    for (int v = 0; v < WORDS; v++) {
        int row = book->row[v], entries = v % 5 == 0 ? 0 : v % 7 == 0 ? 2 : ENTRIES;
        for (int j = 0; j < ENTRIES; j++) t.ids[v * ENTRIES + j] = -1;
        for (int j = 0; j < entries; j++) {
            int next = j == 1 ? book->token[row * book->columns] : (v * 3 + j * 11 + 1) % WORDS;
            t.ids[v * ENTRIES + j] = next;
            t.probs[v * ENTRIES + j] = entries == 2 ? 0.5f : shares[j];
        }
        t.p_top[v] = entries ? 0.25f + 0.5f * (float)v / WORDS : 0;
    }
    return t;
}

static void make_tokens(int* tokens, int count) {
    Rng rng = rng_start(8, "mass");
    for (int i = 0; i < count; i++) tokens[i] = i && i % 2 ? (tokens[i - 1] * 3 + 1) % WORDS : (int)rng_below(&rng, WORDS);
}

enum { MANY = 48 };
static void definition(void** state) {
    (void)state;
    int tokens[MANY];
    make_tokens(tokens, MANY);
    for (int i = 0; i < FORMS; i++) {
        Codebook dealt = dealt_book(WORDS, 5);
        TopTable table = followers(&dealt);
        LightShape s = {2, 8, WIDTH, WORDS, 3, false, dealt};
        Case c = {s, forms[i], tokens, some_weights, 0.3, 0, 0, &table};
        tokens[16] = tokens[18] = -1;  // absent: targets of the last positions
        tokens[10] = 5;                // a position whose input was never followed by anything
        if (!BRIEF) check(c, 8, "three tokens, two chunks");
        make_tokens(tokens, MANY);
        c.s.K = 8;
        check(c, 0, "eight tokens, many waves");
        top_table_free(&table);
        assert_int_equal(release_buffers(NULL), 0);
    }
}

static void coinciding(void** state) {
    (void)state;
    int tokens[MANY];
    for (int i = 0; i < FORMS; i++) {
        make_tokens(tokens, MANY);
        Codebook dealt = dealt_book(WORDS, 5);
        TopTable table = followers(&dealt);
        LightShape s = {2, 8, WIDTH, WORDS, 1, false, dealt};
        Case c = {s, forms[i], tokens, some_weights, 0.3, 0, 0, &table};
        check(c, 0, "next token");
        c.alpha = 1;
        check(c, 0, "n-grams alone");
        c.alpha = 0.3, c.first = 3;
        check(c, 0, "the first three positions");
        c.first = 0, c.gamma = 1.5;
        check(c, 0, "the corrected estimator");
        c.gamma = 0;
        for (int v = 0; v < WORDS; v++) {
            for (int j = 0; j < ENTRIES; j++) table.ids[v * ENTRIES + j] = dealt.token[3 * dealt.columns + (v + j) % 2];
        }
        for (int n = 0; n < MANY; n++) tokens[n] = dealt.token[3 * dealt.columns + n % dealt.length[3]];
        check(c, 0, "all in the target's row");
        for (int v = 0; v < WORDS; v++) {
            for (int j = 0; j < ENTRIES; j++) table.ids[v * ENTRIES + j] = tokens[j];
        }
        for (int n = 0; n < MANY; n++) tokens[n] = tokens[n % 2];
        check(c, 0, "the target is a follower");
        make_tokens(tokens, MANY);
        top_table_free(&table);
        c.s.book = ordered_book(WORDS, WORDS);
        table = followers(&c.s.book);
        check(c, 0, "a single row");
        c.s.book = ordered_book(WORDS, 1), c.f.rank = c.f.rank ? 1 : 0;
        check(c, 0, "a single column");
        top_table_free(&table);
        assert_int_equal(release_buffers(NULL), 0);
    }
}

// Seven tokens in a table of three by three, width 2, by hand: after token 2 come 1, 4 and 6 (1/4, 1/2, 1/4; a tenth of the
// target), the next token is 5; second: weight of a second target, token 0.
static void check_known(float second, const double* du, const double* dw, const double* dh, double total) {
    enum { SAME = 8, Kp = 8 };
    Model m;
    LightShape s = {1, SAME, 8, 7, second != 0 ? 2 : 1, false, ordered_book(7, 3)};
    open_light_config(&m, light_config(s, DECODER_PER_ROW, 0, false, true));
    float wr[64] = {0.5f, -0.1f}, br[8] = {0, 0.1f, -0.1f}, wc[3 * 64] = {0}, bc[24] = {0}, h[SAME * 8] = {0};
    wr[9] = 0.3f, wr[16] = 0.2f, wr[17] = 0.2f;
    for (int i = 0; i < 18; i++)
        wc[(i / 6 * Kp + i / 2 % 3) * 8 + i % 2] = 0.1f * (float)(i / 6 + 1) * (float)(i % 2 + 1 - i / 2 % 3);
    put(&m, m.light.row_w, wr), put(&m, m.light.row_b, br), put(&m, m.light.col_w, wc), put(&m, m.light.col_b, bc);
    int tokens[SAME + 2], ids[2 * SAME];
    for (int n = 0; n < SAME + 2; n++) tokens[n] = 2;
    for (int n = 0; n < SAME; n++) h[n * 8] = 1, h[n * 8 + 1] = -2, ids[n * s.K + s.K - 1] = 0, ids[n * s.K] = 5;
    copy_on_device(m.yf, buffer_x(h, SAME * 8), SAME * 8 * sizeof(floatX), m.stream);
    TopTable t = top_table_alloc(TABLE_BIGRAM, 7, 3);
    const int32_t after[3] = {1, 4, 6};
    const float p[3] = {0.25f, 0.5f, 0.25f}, weights[2] = {1, second};
    memcpy(t.ids + 6, after, sizeof(after)), memcpy(t.probs + 6, p, sizeof(p));
    Case c = {s, forms[0], tokens, weights, 0.1, 0, 0, &t};
    upload(&m, &c);
    Micro micro = {buffer_i(tokens, SAME + 2), NULL, 1, SAME, false};
    Targets targets = training_targets(&m, &micro);
    targets.ids = buffer_i(ids, (size_t)SAME * s.K), targets.row_stride = s.K;
    head_loss(&m, &micro, targets, 1.0f / SAME, true);
    const float *dbr = host_f(grad(&m, m.light.row_b), 3), *dbc = host_f(grad(&m, m.light.col_b), 3 * Kp),
                *dn = host_x(m.dn, SAME * 8), *losses = host_f(m.losses, STEP_LOSSES * SAME);
    for (int i = 0; i < 3; i++) assert_off(dbr[i], du[i], 2e-6 + 2 * STORE_ERROR, "du %d", i);
    for (int i = 0; i < 6; i++) assert_off(dbc[i / 3 * Kp + i % 3], dw[i], 2e-6 + 2 * STORE_ERROR, "dw %d", i);
    assert_off(dbc[2 * Kp], 0, 1e-7, "a row of one word has no columns to learn");
    for (int i = 0; i < 2; i++) assert_off(SAME * dn[3 * 8 + i], dh[i], 2e-6 + 3 * STORE_ERROR, "dh %d", i);
    assert_off(losses[4], 2.624170, 3e-6 + 4 * STORE_ERROR, "next token");
    assert_off(losses[LOSS_NGRAM * SAME + 5], 2.193705, 3e-6 + 4 * STORE_ERROR, "n-grams");
    double sum = 0.9 * losses[4] + 0.1 * losses[LOSS_NGRAM * SAME + 4] + (second != 0 ? second * losses[SAME + 4] : 0);
    assert_off(sum, total, 4e-6 + 6 * STORE_ERROR, "total");
    top_table_free(&t);
    model_free(&m);
}

static void known_values(void** state) {
    (void)state;
    const double du[3] = {0.574135, -0.769544, 0.195409}, dh[2] = {0.480817, -0.094527};
    const double dw[6] = {0.007515, -0.016694, 0.009179, 0.255842, 0.262486, -0.518328};
    check_known(0, du, dw, dh, 2.581124);
    const double du2[3] = {0.433832, -0.706385, 0.272553}, dh2[2] = {0.388765, -0.083450};
    const double dw2[6] = {-0.237271, 0.099584, 0.137687, 0.255842, 0.262486, -0.518328};
    check_known(0.35f, du2, dw2, dh2, 3.181098);
}

// ---------------------------------------------------------------------------------------------------------------------
// In training

static TopTable trained_table(void) {
    TopTable t = top_table_alloc(TABLE_BIGRAM, V, ENTRIES);
    for (int i = 0; i < V * ENTRIES; i++) t.ids[i] = i / ENTRIES % 5 ? (i * 31 + 7) % V : -1, t.probs[i] = i % 3 ? 0.25f : 0.5f;
    return t;
}

static void open_trained(Model* m, Form f, bool exact, double alpha) {
    LightShape s = {B, T, 64, V, 2, true, ordered_book(V, 20)};
    open_light_config(m, light_config(s, f.decoder, f.rank, f.decoder == DECODER_SHARED, exact));
    const char* zero[] = {"head.mix.w", "head.low.out"};
    for (int i = 0; i < 2; i++) {
        int id = params_find(&m->table, zero[i]);
        if (id >= 0) put(m, id, normal_values(zero[i], m->table.rows[id].size, 0.05f));
    }
    TopTable t = trained_table();
    Case c = {s, f, NULL, some_weights, alpha, 0, 0, &t};
    upload(m, &c);
    top_table_free(&t);
}

// A share of 0 is a run without n-grams, to the bit; and with a share validation is what it was.
static void share_zero_is_absent(void** state) {
    (void)state;
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    for (int i = 0; i < FORMS; i++) {
        Trace t[2];
        float* plain = NULL;
        for (int exact = 0; exact < 2; exact++) {
            Model m;
            StepWeights weights[STEPS + 1] = {};
            for (int step = 0; step <= STEPS; step++) weights[step].token[0] = 1, weights[step].token[1] = 0.5f;
            open_trained(&m, forms[i], exact, 0);
            t[exact] = trace_steps(&m, weights, 0);
            weights[0].table[0] = 0.3f;
            targets_start(&m, weights[0]);
            Micro micro = {buffer_i(tokens, TOKENS), NULL, B, T, false};
            model_forward(&m, micro.tokens, B, T);
            head_loss(&m, &micro, measured_targets(&m, &micro, 2), 0, false);
            float* losses = host_f(m.losses, 2 * N);
            if (plain) assert_memory_equal(plain, losses, 2 * N * sizeof(float));
            plain = losses;
            model_free(&m);
        }
        assert_int_equal(t[0].bytes, t[1].bytes);
        assert_memory_equal(t[0].values, t[1].values, t[0].bytes);
        free(t[0].values), free(t[1].values);
    }
}

static double total_loss(Model* m, const Micro* micro) {
    model_forward(m, micro->tokens, B, T);
    head_loss(m, micro, training_targets(m, micro), 0.0f, false);
    const float* losses = host_f(m->losses, STEP_LOSSES * N);
    double sum = 0;
    for (int n = 0; n < N; n++) sum += 0.7 * losses[n] + 0.3 * losses[LOSS_NGRAM * N + n] + 0.5 * losses[N + n];
    return sum / N;
}

static void finite_differences(void** state) {
    (void)state;
    if (GPU_EXECUTION || !slopes_mean_something()) skip();
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    for (int i = 0; i < FORMS; i++) {
        Model m;
        open_trained(&m, forms[i], true, 0.3);
        put(&m, m.light.rows, normal_values("rows", m.table.rows[m.light.rows].size, 0.1f));
        Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
        check_slopes(&m, &micro, total_loss);
        model_free(&m);
    }
}

static void threads_agree(void** state) {
    (void)state;
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    for (int i = 0; i < FORMS; i++) {
        float *first = NULL, *columns = NULL, *losses = NULL;
        for (int threads = 1; threads <= 3; threads += 2) {
            Model m;
            device_threads(threads);
            open_trained(&m, forms[i], true, 0.3);
            Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
            model_micro_step(&m, &micro, 1);
            const Param* p = &m.table.rows[m.light.col_w];
            float *dn = host_x(m.dn, N * 64), *dwc = host_f(m.grads + p->offset, p->size),
                  *found = host_f(m.losses, STEP_LOSSES * N);
            if (!first) first = dn, columns = dwc, losses = found;
            assert_memory_equal(first, dn, N * 64 * sizeof(float));
            assert_memory_equal(columns, dwc, p->size * sizeof(float));
            assert_memory_equal(losses, found, 2 * N * sizeof(float));
            assert_memory_equal(losses + LOSS_NGRAM * N, found + LOSS_NGRAM * N, N * sizeof(float));
            model_free(&m);
        }
    }
    device_threads(1);
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(definition), TEST(known_values),
#ifndef EMU_CHECK  // no other kernels, and that build takes tens of times as long
        TEST(coinciding), TEST(share_zero_is_absent), TEST(finite_differences), TEST(threads_agree),
#endif
    };
    return cmocka_run_group_tests_name("n-grams as words " PRECISION_NAME, tests, NULL, NULL);
}
