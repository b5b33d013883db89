// The lightrnn decoders whose rows share their column weights: losses and gradients against their definition in double, which
// enumerates the whole vocabulary; the distribution; finite differences; weight 0 = absent; any number of threads.
#include "buffer.h"

#include "llmc/model/setup.cuh"
#include "tiny_light.h"
#include "tiny_objective.h"

typedef struct {
    const char* name;
    LightDecoder decoder;
    int rank;
    bool tied, light_embedding;
} Form;

static const Form forms[] = {{"shared, tied", DECODER_SHARED, 0, true, true},
                             {"shared", DECODER_SHARED, 0, false, false},
                             {"rank 3", DECODER_LOWRANK, 3, false, true},
                             {"rank 10", DECODER_LOWRANK, 10, false, false}};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };
static void open_form(Model* m, LightShape s, Form f) {
    s.light_embedding = f.light_embedding;
    open_light_decoder(m, s, f.decoder, f.rank, f.tied);
}

// ---------------------------------------------------------------------------------------------------------------------
// The definition

// A gradient: its elements as the model lays them out, and the sum of the absolute values that each is made of.
typedef struct {
    double *v, *size;
} Sums;

// Host weights, as the model lays them out; NULL: the decoder has none.
typedef struct {
    float *wr, *br, *wc, *mix, *b, *in, *out;  // (Rp,C) (Rp) (Kp,C) (C,C) (R,Kp) (R rank,C) (R rank,Kp)
} Weights;

typedef struct {
    Sums dh, wr, br, wc, mix, b, in, out;
    double *loss, *ngram;  // (K,N), (N)
    double largest;        // logit
} Wanted;

enum { ENTRIES = 3 };  // of a row of the n-gram table

typedef struct {
    LightShape s;
    Form f;
    const int* tokens;
    const float *h, *weights;
    double scale, alpha;
    const int32_t* ids;  // (V,ENTRIES)
    const float* probs;
} Case;

static double* zeros_d(size_t n) { return (double*)memset(host_values(2 * n), 0, n * sizeof(double)); }
static Sums sums_of(size_t n) {
    double* v = zeros_d(2 * n);
    return (Sums){v, v + n};
}
static void add(Sums s, size_t i, double g, double size, double x) { s.v[i] += g * x, s.size[i] += size * fabs(x); }

static double softmax_d(double* z, int n) {
    double sum = 0, largest = 0;
    for (int i = 0; i < n; i++) largest = fmax(largest, fabs(z[i])), sum += z[i] = exp(z[i]);
    for (int i = 0; i < n; i++) z[i] /= sum;
    return largest;
}

// The hidden row that the columns of `row` see, U Er[row] + h; for a low rank h itself.
static void seen_by_columns(const Case* c, const Weights* w, double* seen, const float* h, int row) {
    int C = c->s.C;
    for (int i = 0; i < C; i++) {
        seen[i] = h[i];
        for (int j = 0; w->mix && j < C; j++) seen[i] += (double)w->mix[i * C + j] * w->wr[row * C + j];
    }
}

static double low_factor(const Case* c, const Weights* w, const float* h, int direction) {
    double a = 0;
    for (int i = 0; i < c->s.C; i++) a += (double)w->in[direction * c->s.C + i] * h[i];
    return a;
}

// q: probabilities of a row's cells
static double column_probabilities(const Case* c, const Weights* w, double* q, const float* h, int row) {
    int C = c->s.C, Kp = (int)round_up((size_t)c->s.book.columns, 8), rank = c->f.rank;
    double seen[64];
    seen_by_columns(c, w, seen, h, row);
    for (int k = 0; k < c->s.book.length[row]; k++) {
        q[k] = w->b ? w->b[row * Kp + k] : 0;
        for (int i = 0; i < C; i++) q[k] += w->wc[k * C + i] * seen[i];
        for (int j = row * rank; j < (row + 1) * rank; j++) q[k] += low_factor(c, w, h, j) * w->out[j * Kp + k];
    }
    return softmax_d(q, c->s.book.length[row]);
}

// What dw of one item adds. dw, size (cells of the row)
static void column_gradients(const Case* c, const Weights* w, Wanted* o, int n, int row, const double* dw, const double* size) {
    int C = c->s.C, Kp = (int)round_up((size_t)c->s.book.columns, 8), rank = c->f.rank, cells = c->s.book.length[row];
    const float* h = c->h + n * C;
    double seen[64], back[64] = {0}, back_size[64] = {0};
    seen_by_columns(c, w, seen, h, row);
    for (int k = 0; k < cells; k++) {
        if (w->b) add(o->b, row * Kp + k, dw[k], size[k], 1);
        for (int i = 0; i < C; i++) {
            add(o->wc, k * C + i, dw[k], size[k], seen[i]);
            add(o->dh, n * C + i, dw[k], size[k], w->wc[k * C + i]);
            back[i] += dw[k] * w->wc[k * C + i], back_size[i] += size[k] * fabs(w->wc[k * C + i]);
        }
    }
    for (int i = 0; w->mix && i < C; i++) {
        for (int j = 0; j < C; j++) {
            add(o->mix, i * C + j, back[i], back_size[i], w->wr[row * C + j]);
            add(o->wr, row * C + j, back[i], back_size[i], w->mix[i * C + j]);
        }
    }
    for (int j = row * rank; j < (row + 1) * rank; j++) {
        double a = low_factor(c, w, h, j), da = 0, da_size = 0;
        for (int k = 0; k < cells; k++) {
            da += dw[k] * w->out[j * Kp + k], da_size += size[k] * fabs(w->out[j * Kp + k]);
            add(o->out, j * Kp + k, dw[k], size[k], a);
        }
        for (int i = 0; i < C; i++) {
            add(o->in, j * C + i, da, da_size, h[i]);
            add(o->dh, n * C + i, da, da_size, w->in[j * C + i]);
        }
    }
}

// s: what the rows of position n are trained on for target k; returns false where the n-gram table has nothing to say.
static bool row_target(const Case* c, double* s, int n, int k, int row) {
    int R = c->s.book.rows;
    const int32_t* ids = c->ids + c->tokens[n] * ENTRIES;
    bool smooth = k == 0 && c->alpha > 0 && ids[0] >= 0;
    for (int r = 0; r < R; r++) s[r] = (r == row) * (smooth ? 1 - c->alpha : 1);
    for (int j = 0; smooth && j < ENTRIES; j++) s[c->s.book.row[ids[j]]] += c->alpha * c->probs[c->tokens[n] * ENTRIES + j];
    return smooth;
}

static void position(const Case* c, const Weights* w, Wanted* o, int n) {
    const Codebook* book = &c->s.book;
    int C = c->s.C, R = book->rows, N = c->s.B * c->s.T;
    double p[64], target[64], dw[64], size[64], P[64], total = 0;
    static double q[64][64];
    for (int r = 0; r < R; r++) {
        p[r] = w->br ? w->br[r] : 0;
        for (int i = 0; i < C; i++) p[r] += (double)w->wr[r * C + i] * c->h[n * C + i];
    }
    o->largest = fmax(o->largest, softmax_d(p, R));
    for (int r = 0; r < R; r++) o->largest = fmax(o->largest, column_probabilities(c, w, q[r], c->h + n * C, r));
    for (int v = 0; v < c->s.V; v++) total += P[v] = p[book->row[v]] * q[book->row[v]][book->col[v]];
    assert_off(total, 1, 1e-12, "the definition's sum");
    for (int k = 0; k < c->s.K; k++) {
        int id = c->tokens[n + 1 + k];
        if (id < 0) continue;
        int row = book->row[id];
        double g = c->scale * c->weights[k];
        o->loss[k * N + n] = -log(P[id]);
        bool smooth = row_target(c, target, n, k, row);
        for (int j = 0; k == 0 && smooth && j < ENTRIES; j++) {
            int at = c->tokens[n] * ENTRIES + j;
            o->ngram[n] -= c->probs[at] * log(p[book->row[c->ids[at]]]);
        }
        if (k == 0 && !smooth) o->ngram[n] = -log(p[row]);
        for (int r = 0; r < R; r++) {
            double du = g * (p[r] - target[r]), du_size = g * (p[r] + target[r]);
            if (w->br) add(o->br, r, du, du_size, 1);
            for (int i = 0; i < C; i++) {
                add(o->wr, r * C + i, du, du_size, c->h[n * C + i]);
                add(o->dh, n * C + i, du, du_size, w->wr[r * C + i]);
            }
        }
        for (int i = 0; i < book->length[row]; i++) {
            dw[i] = g * (q[row][i] - (i == book->col[id])), size[i] = g * (q[row][i] + (i == book->col[id]));
        }
        column_gradients(c, w, o, n, row, dw, size);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The model against it

static size_t columns_of(const Case* c) { return round_up((size_t)c->s.book.columns, 8); }

static float* put_normal(Model* m, int id, const char* name, float scale) {
    if (id < 0) return NULL;
    float* values = normal_values(name, m->table.rows[id].size, scale);
    put(m, id, values);
    return values;
}

// Weights of the head; `set` picks others.
static Weights put_weights_of_head(Model* m, const Case* c, int set) {
    bool shared = c->f.decoder == DECODER_SHARED;
    const LightRnn* l = &m->light;
    const LightTables* t = &m->tables_head;
    Weights w = {};
    w.wr = put_normal(m, l->row_w, set ? "wr2" : "wr", 0.3f);
    w.wc = put_normal(m, l->col_w, set ? "wc2" : "wc", 0.3f);
    w.mix = shared ? put_normal(m, t->mix, set ? "mix2" : "mix", 0.3f) : NULL;
    if (shared) return w;
    w.br = put_normal(m, l->row_b, "br", 0.5f);
    w.b = put_normal(m, l->col_b, "bc", 0.5f);
    w.in = put_normal(m, t->low_in, set ? "in2" : "in", 0.3f);
    w.out = put_normal(m, t->low_out, set ? "out2" : "out", 0.3f);
    return w;
}

static Wanted by_definition(const Case* c, const Weights* w) {
    size_t N = (size_t)c->s.B * c->s.T, C = (size_t)c->s.C, R = (size_t)c->s.book.rows, thin = R * (size_t)c->f.rank;
    size_t Rp = round_up(R, 8), Kp = columns_of(c);
    Wanted o = {};
    o.dh = sums_of(N * C), o.wr = sums_of(Rp * C), o.br = sums_of(Rp), o.wc = sums_of(Kp * C), o.mix = sums_of(C * C);
    o.b = sums_of(R * Kp), o.in = sums_of(thin * C + 1), o.out = sums_of(thin * Kp + 1);
    o.loss = zeros_d((size_t)c->s.K * N), o.ngram = zeros_d(N);
    for (size_t n = 0; n < N; n++) position(c, w, &o, (int)n);
    return o;
}

// What storage rounds: logits twice (their error is one of the probabilities, relative), a gradient up to 12 times on its way.
static double rounding(const Wanted* o) { return (12 + 4 * o->largest) * STORE_ERROR + 1e-6; }

// The gradient of tensor id, `times` of what is wanted; exactly 0 where nothing adds to it.
static void check_gradient(Model* m, int id, Sums want, const Wanted* o, int times, const char* what) {
    const Param* p = &m->table.rows[id];
    const float* found = host_f(grad(m, id), p->size);
    for (size_t i = 0; i < p->size; i++)
        assert_off(found[i], times * want.v[i], times * rounding(o) * want.size[i], "%s: %s, element %zu", what, p->name, i);
}

static void check_pass(Model* m, const Case* c, const Weights* w, bool accumulate, const char* what) {
    int N = c->s.B * c->s.T, times = accumulate ? 2 : 1;
    Wanted o = by_definition(c, w);
    Micro micro = {buffer_i(c->tokens, (size_t)N + 1 + c->s.K), NULL, c->s.B, c->s.T, accumulate};
    head_loss(m, &micro, training_targets(m, &micro), (float)c->scale, true);
    const float *losses = host_f(m->losses, (size_t)STEP_LOSSES * N), *dn = host_x(m->dn, (size_t)N * c->s.C);
    double allowed = times * (1e-5 + 8 * o.largest * STORE_ERROR);
    for (int i = 0; i < N * c->s.K; i++) assert_off(losses[i], times * o.loss[i], allowed, "%s: loss %d", what, i);
    for (int n = 0; c->alpha > 0 && n < N; n++)
        assert_off(losses[LOSS_NGRAM * N + n], times * o.ngram[n], allowed, "%s: n-gram loss %d", what, n);
    for (int i = 0; i < N * c->s.C; i++) assert_off(dn[i], o.dh.v[i], rounding(&o) * o.dh.size[i], "%s: dh %d", what, i);
    check_gradient(m, m->light.row_w, o.wr, &o, times, what);
    check_gradient(m, m->light.col_w, o.wc, &o, times, what);
    if (w->mix) {
        check_gradient(m, m->tables_head.mix, o.mix, &o, times, what);
        return;
    }
    check_gradient(m, m->light.row_b, o.br, &o, times, what);
    check_gradient(m, m->light.col_b, o.b, &o, times, what);
    check_gradient(m, m->tables_head.low_in, o.in, &o, times, what);
    check_gradient(m, m->tables_head.low_out, o.out, &o, times, what);
}

static const float some_weights[8] = {1, 0.5f, 0.25f, 0.125f, 0.5f, 0.75f, 0.0625f, 0.375f};

// n-grams: three followers of every token, and every fifth token without any
static void upload_ngrams(Model* m, Case* c) {
    static const float shares[ENTRIES] = {0.5f, 0.25f, 0.25f};
    int V = c->s.V;
    TopTable t = top_table_alloc(TABLE_BIGRAM, V, ENTRIES);
    for (int v = 0; v < V; v++) {
        for (int j = 0; v % 5 && j < ENTRIES; j++)
            t.ids[v * ENTRIES + j] = (v * 3 + j * 11) % V, t.probs[v * ENTRIES + j] = shares[j];
    }
    c->ids = (int32_t*)memcpy(host_values((size_t)V * ENTRIES), t.ids, (size_t)V * ENTRIES * sizeof(int32_t));
    c->probs = (float*)memcpy(host_values((size_t)V * ENTRIES), t.probs, (size_t)V * ENTRIES * sizeof(float));
    if (c->alpha == 0) return;
    Smoothing smoothing[SOFT_TABLES] = {};
    smoothing[0].table = t;
    smoothing_upload(smoothing, m);
    float alpha = (float)c->alpha;
    m->targets.table[0] = alpha;
    copy_to_device(&m->state->in.next.table[0], &alpha, sizeof(alpha));
}

// Two micro-steps, and the first one of a step with other weights.
static void check(LightShape s, Form f, const int* tokens, double alpha, const char* what) {
    Model m;
    char name[160];
    if (f.rank > s.book.columns) f.rank = s.book.columns;
    snprintf(name, sizeof(name), "%s: %s", f.name, what);
    open_form(&m, s, f);
    Case c = {s, f, tokens, normal_values("h", (size_t)s.B * s.T * s.C, 1), some_weights, 1.0 / 16, alpha, NULL, NULL};
    floatX* h = buffer_x(c.h, (size_t)s.B * s.T * s.C);
    copy_on_device(m.yf, h, (size_t)s.B * s.T * s.C * sizeof(floatX), m.stream);
    put_weights(&m, some_weights, s.K);
    upload_ngrams(&m, &c);
#if GPU_EXECUTION
    int planned = m.gemm.plans_made;
#endif
    for (int pass = 0; pass < 3; pass++) {
        Weights w = put_weights_of_head(&m, &c, pass == 2);
        if (pass == 2) {  // what is only ever added to, the optimizer has cleared
            for (int id = 0; id < m.table.count; id++) {
                const Param* p = &m.table.rows[id];
                float* zeros = (float*)memset(host_values(p->size), 0, p->size * sizeof(float));
                if (p->scatter) copy_to_device(m.grads + p->offset, zeros, p->size * sizeof(float));
            }
        }
        check_pass(&m, &c, &w, pass == 1, name);
    }
#if GPU_EXECUTION
    assert_int_equal(m.gemm.plans_made, planned);
#endif
    model_free(&m);
}

enum { WIDTH = 16, VOCABULARY = 45, LONG = GPU_EXECUTION ? 64 : 600, MANY = LONG + 16 };

static void definition(void** state) {
    (void)state;
    int tokens[MANY];
    Rng rng = rng_start(4, "definition");
    for (int i = 0; i < MANY; i++) tokens[i] = (int)rng_below(&rng, VOCABULARY);
    for (int i = 0; i < FORMS; i++) {
        LightShape s = {2, 12, WIDTH, VOCABULARY, 1, false, dealt_book(VOCABULARY, 8)};
        if (!BRIEF) check(s, forms[i], tokens, 0, "next token");
        s.K = 3;
        if (!BRIEF) check(s, forms[i], tokens, 0, "three tokens");
        check(s, forms[i], tokens, 0.3, "three tokens, n-grams");
        s.K = 8;
        if (!BRIEF) check(s, forms[i], tokens, 0.3, "eight tokens, n-grams");
        assert_int_equal(release_buffers(NULL), 0);
    }
}

static void uneven_groups(void** state) {
    (void)state;
    int tokens[MANY];
    for (int i = 0; i < FORMS; i++) {
        LightShape s = {2, 12, WIDTH, VOCABULARY, 8, false, dealt_book(VOCABULARY, 8)};
        for (int j = 0; j < MANY; j++) tokens[j] = s.book.token[3 * s.book.columns + j % s.book.length[3]];
        check(s, forms[i], tokens, 0, "eight tokens in one row");
        s.K = 1;
        check(s, forms[i], tokens, 0, "all in one row");
        for (int j = 0; j < MANY; j++) tokens[j] = s.book.token[j % 8 * s.book.columns];
        s.B = 1, s.T = 8;
        check(s, forms[i], tokens, 0, "one in each row");
        for (int j = 0; j < MANY; j++) tokens[j] = s.book.token[(j % 2 ? 7 : 2) * s.book.columns];
        check(s, forms[i], tokens, 0, "empty rows");
        LightShape o = s;
        o.K = 2, o.T = LONG, o.book = ordered_book(VOCABULARY, 7);  // on the CPU more than a chunk of rows
        skewed_tokens(tokens, MANY, VOCABULARY, "long");
        tokens[9] = -1;
        check(o, forms[i], tokens, 0, "a long batch, one token absent");
        tokens[9] = 1;
        o.K = 1, o.T = 24, o.book = ordered_book(VOCABULARY, VOCABULARY);
        check(o, forms[i], tokens, 0.3, "a single row");
        o.book = ordered_book(VOCABULARY, 1);
        check(o, forms[i], tokens, 0, "a single column");
        assert_int_equal(release_buffers(NULL), 0);
    }
}

// The whole vocabulary, in rows of 225 of which the last is short.
static void probabilities_sum_to_one(void** state) {
    (void)state;
    enum { WORDS = 50257 };
    LightShape s = {1, 8, WIDTH, WORDS, 1, true, ordered_book(WORDS, 225)};
    float* probs = host_values(WORDS);
    for (int i = 0; i < FORMS; i++) {
        Model m;
        open_form(&m, s, forms[i]);
        Case c = {s, forms[i], NULL, normal_values("h", 8 * WIDTH, 1), NULL, 1, 0, NULL, NULL};
        put_weights_of_head(&m, &c, 0);
        copy_on_device(m.yf, buffer_x(c.h, 8 * WIDTH), 8 * WIDTH * sizeof(floatX), m.stream);
        memset(probs, 0xff, WORDS * sizeof(float));
        head_probs(&m, 1, probs);
        double sum = 0;
        for (int v = 0; v < WORDS; v++) assert_true(probs[v] > 0), sum += probs[v];
        assert_off(sum, 1, 1e-5, "%s: sum of the probabilities", forms[i].name);
        for (int v = 0; v < WORDS; v += 4999) {  // the loss is that of the same distribution
            int tokens[9] = {0, 1, v};
            Micro micro = {buffer_i(tokens, 9), NULL, 1, 8, false};
            head_loss(&m, &micro, next_token(&m, &micro), 0, false);
            assert_off(host_f(m.losses, 8)[1], -log((double)probs[v]), 2e-5 + 32 * STORE_ERROR, "%s: loss of token %d",
                       forms[i].name, v);
        }
        model_free(&m);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// In training

// Three tokens ahead; what a decoder begins with as 0 is not 0 here.
static void open_trained(Model* m, Form f, int K) {
    LightShape s = {B, T, 64, V, K, true, ordered_book(V, 20)};
    open_form(m, s, f);
    if (f.decoder == DECODER_SHARED) put_normal(m, m->tables_head.mix, "mix", 0.05f);
    else put_normal(m, m->tables_head.low_out, "out", 0.05f);
}

static double total_loss(Model* m, const Micro* micro) {
    model_forward(m, micro->tokens, B, T);
    head_loss(m, micro, training_targets(m, micro), 0.0f, false);
    double sum = 0;
    for (int k = 0; k < 3; k++) {
        for (int n = 0; n < N; n++) sum += m->targets.token[k] * (double)m->losses[k * N + n] / N;
    }
    return sum;
}

static void finite_differences(void** state) {
    (void)state;
    if (GPU_EXECUTION || !slopes_mean_something()) skip();
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    for (int i = 0; i < FORMS; i++) {
        Model m;
        open_trained(&m, forms[i], 3);
        put_weights(&m, some_weights, 3);
        put_normal(&m, m.light.rows, "rows", 0.1f);  // the norm behind tiny vectors is too curved for a slope
        Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
        check_slopes(&m, &micro, total_loss);
        int checked = 0;
        for (int id = m.table.count - 1; id >= 0; id--) {
            const Param* p = &m.table.rows[id];
            double size = 0;
            if (strncmp(p->name, "head.", 5) && strncmp(p->name, "wte", 3)) continue;
            for (size_t j = 0; j < p->size; j++) size += (double)m.grads[p->offset + j] * m.grads[p->offset + j];
            if (size < 1e-6) fail_msg("%s: %s: gradient too small to have been checked", forms[i].name, p->name);
            checked++;
        }
        assert_int_equal(checked,
                         forms[i].tied ? 3 : (forms[i].decoder == DECODER_SHARED ? 3 : 6) + (forms[i].light_embedding ? 2 : 1));
        model_free(&m);
    }
}

// Further tokens of weight 0: the same training as without them, to the bit.
static void weight_zero_is_absent(void** state) {
    (void)state;
    for (int i = 0; i < FORMS; i += 2) {
        Trace t[2];
        for (int with = 0; with < 2; with++) {
            Model m;
            StepWeights weights[STEPS + 1] = {};
            for (int step = 0; step <= STEPS; step++) weights[step].token[0] = 1;
            open_trained(&m, forms[i], with ? 3 : 1);
            t[with] = trace_steps(&m, weights, 0);
            model_free(&m);
        }
        assert_int_equal(t[0].bytes, t[1].bytes);
        assert_memory_equal(t[0].values, t[1].values, t[0].bytes);
        free(t[0].values), free(t[1].values);
    }
}

// The same gradients, bit for bit, whatever the number of threads; but a bias is summed per thread, here as in every layer.
static void threads_agree(void** state) {
    (void)state;
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    skewed_tokens(tokens, TOKENS, V, "threads");
    for (int v = 0, at = 0; v < V; v++) {
        for (int n = 0; n < N; n++) {
            if (tokens[n] == v) order[at++] = n;
        }
    }
    for (int i = 0; i < FORMS; i += 2) {
        float *first = NULL, *losses = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            Model m;
            device_threads(threads);
            open_trained(&m, forms[i], 3);
            put_weights(&m, some_weights, 3);
            Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
            model_micro_step(&m, &micro, 1);
            float *grads = host_f(m.grads, m.table.size), *found = host_f(m.losses, 3 * N);
            if (!first) first = grads, losses = found;
            assert_memory_equal(losses, found, 3 * N * sizeof(float));
            int bias = m.light.row_b;
            for (int id = 0; id < m.table.count; id++) {
                const Param* p = &m.table.rows[id];
                for (size_t j = p->offset; j < p->offset + p->size; j++) {
                    if (id == bias) assert_off(grads[j], first[j], 1e-6 + STORE_ERROR * fabs(first[j]), "%s", p->name);
                    else if (memcmp(&grads[j], &first[j], sizeof(float)))
                        fail_msg("%s: %d threads: other bits", p->name, threads);
                }
            }
            model_free(&m);
        }
        device_threads(1);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(definition),
#ifndef EMU_CHECK  // no other kernels, and that build takes tens of times as long
        TEST(uneven_groups), TEST(probabilities_sum_to_one), TEST(finite_differences), TEST(weight_zero_is_absent),
        TEST(threads_agree),
#endif
    };
    return cmocka_run_group_tests_name("light decoders " PRECISION_NAME, tests, NULL, NULL);
}
