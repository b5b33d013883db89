/*
Soft targets from tables: n-grams (both modes, positions, empty rows) and neighbours, in the classifier and in a model's training.
A share of 0 must be the absent objective, to the bit.
*/
#include "buffer.h"
#include "child.h"

#include "llmc/model/setup.cuh"

#include "tiny_objective.h"

enum { ROWS = 8, CLASSES = 8, K = 3 };

// Eight positions over a table of eight rows: entries of every row, shares, what they cover.
static const int table_ids[CLASSES * K] = {1, 2, -1, 0, 1, -1, 0, -1, -1, -1, -1, -1, 7, 6, 5, 3, 2, 1, 4, 5, 6, 0, 7, 3};
static const float table_probs[CLASSES * K] = {0.75f, 0.25f, 0,     0.5f, 0.5f,  0,     1,    0,      0,      0,    0,     0,
                                               0.5f,  0.25f, 0.25f, 0.5f, 0.25f, 0.25f, 0.5f, 0.375f, 0.125f, 0.5f, 0.25f, 0.25f};
static const float table_covered[CLASSES] = {1, 1, 1, 0, 0.8f, 0.5f, 0.25f, 0.75f};

typedef struct {
    float dz[ROWS * CLASSES], losses[STEP_LOSSES * ROWS];
} Smoothed;

// positions' rows and targets; weights (2): of the main target and of the token after it, which every position has.
static Targets tables_view(const int* rows, const int* tokens, const float* weights, int count, const float* alphas, int tables,
                           float gamma, int first) {
    Targets t = targets_list(buffer_i(tokens, ROWS + 2), buffer_f(weights, 2), count, 1, 1, 0);
    const float* device_alphas = buffer_f(alphas, SOFT_TABLES);
    for (t.tables = 0; t.tables < tables; t.tables++) {
        SoftTable s = {buffer_i(table_ids, CLASSES * K),
                       buffer_f(table_probs, CLASSES * K),
                       gamma > 0 ? buffer_f(table_covered, CLASSES) : NULL,
                       buffer_i(rows, ROWS),
                       device_alphas + t.tables,
                       gamma,
                       K,
                       LOSS_NGRAM + t.tables,
                       first,
                       4};
        t.table[t.tables] = s;
    }
    return t;
}

static Smoothed smoothed(const float* logits, Targets t) {
    Smoothed r;
    float one = 1, *losses = buffer_f(NULL, STEP_LOSSES * ROWS);
    floatX* z = buffer_x(logits, ROWS * CLASSES);
    classifier(z, losses, ROWS, t, 1.0f, buffer_f(&one, 1), ROWS, CLASSES, CLASSES, true, false, 0);
    memcpy(r.dz, host_x(z, ROWS * CLASSES), sizeof(r.dz));
    memcpy(r.losses, host_f(losses, STEP_LOSSES * ROWS), sizeof(r.losses));
    return r;
}

// The definition, in double: target s of position n as a dense vector, from one table in either mode.
static void dense_target(double* s, int row, int y, double c, double alpha, double gamma, bool smooth) {
    const int* ids = table_ids + row * K;
    double P = table_covered[row], f = 1, m = 0;
    bool hit = false;
    for (int j = 0; j < K; j++) hit = hit || ids[j] == y;
    if (gamma > 0) {  // u and v of the estimator, on the shares of all counts: P times the row's
        double u = 1 / (gamma - P);
        f = hit ? 1 - (1 - P) * u : u * P, m = hit ? 0 : 1;
    }
    if (ids[0] < 0 || !smooth) f = 0, m = 1;
    s[y] += c * (1 - alpha + alpha * m);
    for (int j = 0; j < K; j++) {
        if (ids[j] >= 0) s[ids[j]] += c * alpha * f * table_probs[row * K + j];
    }
}

static void against_definition(void** state) {
    (void)state;
    const int rows[ROWS] = {0, 1, 2, 3, 4, 5, 6, 7}, tokens[ROWS + 2] = {1, 5, 0, 6, 5, 0, 4, 7, 2, 2};
    const float weights[2] = {0.75f, 0.5f}, alphas[2] = {0.25f, 0.5f};
    for (int i = 0; i < 8; i++) {
        float* logits = normal_values("soft", ROWS * CLASSES, 2.0f);
        float gamma = i & 1 ? 1.5f : 0;
        int count = i & 2 ? 2 : 1, first = i & 4 ? 3 : 0;
        Smoothed r = smoothed(logits, tables_view(rows, tokens, weights, count, alphas, 1, gamma, first));
        for (int n = 0; n < ROWS; n++) {
            double s[CLASSES] = {0}, q[CLASSES] = {0}, W = 0, sum = 0, ce = 0;
            bool smooth = !first || n % 4 < first;
            dense_target(s, rows[n], tokens[n], weights[0], alphas[0], gamma, smooth);
            dense_target(q, rows[n], tokens[n], 1, 1, gamma, smooth);
            if (count == 2) s[tokens[n + 1]] += weights[1];
            const float* z = logits + n * CLASSES;
            for (int v = 0; v < CLASSES; v++) W += s[v], sum += exp(z[v]);
            for (int v = 0; v < CLASSES; v++) {
                ce += q[v] * (log(sum) - z[v]);
                assert_close(r.dz[n * CLASSES + v], W * exp(z[v]) / sum - s[v], 2e-6, "case %d, position %d, class %d", i, n, v);
            }
            assert_off(r.losses[LOSS_NGRAM * ROWS + n], ce, 4e-6, "case %d, position %d: the row's loss", i, n);
            assert_off(r.losses[n], log(sum) - z[tokens[n]], 4e-6, "case %d, position %d: the next token's loss", i, n);
        }
        assert_int_equal(release_buffers(state), 0);
    }
}

// z = (1,2,0,-1), neighbours 0 and 2 of the target 1 with similarities .8 and .4, temperature .2, share .2
static void known_neighbours(void** state) {
    (void)state;
    const float z[8] = {1, 2, 0, -1, NAN, NAN, NAN, NAN}, one = 1, share = 0.2f;
    const double a = 1 / (1 + exp(-2.0)), dz[4] = {0.060723, -0.156086, 0.063304, 0.032059};
    const int ids[8] = {-1, -1, 0, 2, -1, -1, -1, -1}, y = 1;
    const float probs[8] = {0, 0, (float)a, (float)(1 - a), 0, 0, 0, 0};
    Targets t = targets_list(buffer_i(&y, 1), buffer_f(&one, 1), 1, 1, 1, 0);
    SoftTable s = {buffer_i(ids, 8), buffer_f(probs, 8), NULL, buffer_i(&y, 1), buffer_f(&share, 1), 0, 2, LOSS_NEIGHBOURS, 0, 1};
    t.table[t.tables++] = s;
    floatX* logits = buffer_x(z, 8);
    float* losses = buffer_f(NULL, STEP_LOSSES);
    classifier(logits, losses, 1, t, 1.0f, buffer_f(&one, 1), 1, 4, 8, true, false, 0);
    const float *found = host_x(logits, 8), *l = host_f(losses, STEP_LOSSES);
    assert_off(l[0], 0.440190, 2e-6, "plain");
    assert_off(0.8 * l[0] + 0.2 * l[LOSS_NEIGHBOURS], 0.664030, 2e-6, "total");
    for (int v = 0; v < 4; v++) assert_close(found[v], dz[v], 2e-6, "class %d", v);
    for (int v = 4; v < 8; v++) assert_true(found[v] == 0);
}

// Over targets drawn from the n-gram distribution, CoCoNT's estimator is that distribution: 0.8 of it in the row, 0.2 outside.
static void estimator_is_right_on_average(void** state) {
    (void)state;
    const double P[CLASSES] = {0, 0.05, 0.1, 0.05, 0, 0.2, 0.2, 0.4};  // row 4: 7, 6, 5 cover 0.8 with shares 1/2, 1/4, 1/4
    float logits[ROWS * CLASSES] = {0}, weights[2] = {1, 0}, alphas[2] = {1, 0};
    int rows[ROWS], tokens[ROWS + 2] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 0};
    for (int n = 0; n < ROWS; n++) rows[n] = 4;
    Smoothed r = smoothed(logits, tables_view(rows, tokens, weights, 1, alphas, 1, 1.5f, 0));
    double mass[CLASSES] = {0};
    for (int y = 0; y < CLASSES; y++) {
        double W = 0;  // the logits are equal, so dz = W / 8 - s: and s, whose least element is 0, can be read off
        for (int v = 0; v < CLASSES; v++) W = fmax(W, 8 * (double)r.dz[y * CLASSES + v]);
        for (int v = 0; v < CLASSES; v++) mass[v] += P[y] * (W / 8 - r.dz[y * CLASSES + v]);
        double expected = y >= 5 ? 0.714286 : 2.142857;
        assert_close(W, expected, 1e-5, "mass of target %d", y);
    }
    for (int v = 0; v < CLASSES; v++) assert_close(mass[v], P[v], 1e-5, "class %d on average", v);
}

// Rows without an entry, and positions that are not smoothed: the bits of the plain list. Two tables: each takes its share.
static void absent_rows_and_two_tables(void** state) {
    (void)state;
    const int rows[ROWS] = {3, 3, 3, 3, 3, 3, 3, 3}, full[ROWS] = {0, 1, 2, 4, 5, 6, 7, 0};
    const int tokens[ROWS + 2] = {1, 5, 0, 6, 5, 0, 4, 7, 2, 2};
    const float weights[2] = {1, 0.25f}, alphas[2] = {0.25f, 0.5f}, sum[2] = {0.75f, 0};
    float* logits = normal_values("soft", ROWS * CLASSES, 2.0f);
    Smoothed plain = smoothed(logits, tables_view(full, tokens, weights, 2, alphas, 0, 0, 0));
    Smoothed empty = smoothed(logits, tables_view(rows, tokens, weights, 2, alphas, 2, 1.5f, 0));
    assert_memory_equal(plain.dz, empty.dz, sizeof(plain.dz));
    assert_memory_equal(plain.losses, empty.losses, 2 * ROWS * sizeof(float));
    assert_memory_equal(plain.losses, &empty.losses[LOSS_NGRAM * ROWS], ROWS * sizeof(float));  // the main target stands in
    Smoothed two = smoothed(logits, tables_view(full, tokens, weights, 2, alphas, 2, 0, 0));
    Smoothed one = smoothed(logits, tables_view(full, tokens, weights, 2, sum, 1, 0, 0));
    for (int i = 0; i < ROWS * CLASSES; i++) assert_close(two.dz[i], one.dz[i], 2e-6, "element %d", i);
}

// ---------------------------------------------------------------------------------------------------------------------
// In a model

// A table over the tiny model's vocabulary: rows of 0 to 4 entries.
static void fill_table(Smoothing* s, double share, bool corrected) {
    memset(s, 0, sizeof(*s));
    s->alpha.weight = share, s->alpha.num_iterations = STEPS, s->alpha.decay_start = s->alpha.decay_end = 1;
    s->corrected = corrected, s->gamma = 1.5;
    s->table = top_table_alloc(TABLE_BIGRAM, V, 4);
    Rng rng = rng_start(5, "table");
    for (int v = 0; v < V; v++) {
        int entries = (int)rng_below(&rng, 5);
        for (int j = 0; j < entries; j++) {
            s->table.ids[v * 4 + j] = (int)((rng_below(&rng, 60) + 64 * (uint64_t)j) % V);
            s->table.probs[v * 4 + j] = 1.0f / (float)entries;
        }
        s->table.p_top[v] = entries ? 0.6f : 0;
    }
}

static Objective with_tables(double alpha, double beta, bool corrected) {
    Objective o;
    memset(&o, 0, sizeof(o));
    o.mtp.K = 1;
    fill_table(&o.smoothing[0], alpha, corrected);
    fill_table(&o.smoothing[1], beta, false);
    return o;
}

static void open_with_tables(Model* m, Objective* o, const char* arch) {
    Config c = {};
    objective_configure(o, &c);
    open_tiny(m, arch, &c.aux);
    objective_upload(o, m);
}

static Trace train_with(Objective o) {
    Model m;
    StepWeights weights[STEPS + 1];
    open_with_tables(&m, &o, "nocap");
    for (int step = 0; step <= STEPS; step++) weights[step] = objective_weights(&o, step);
    Trace t = trace_steps(&m, weights, 0);
    model_free(&m);
    return t;
}

static void weight_zero_is_absent(void** state) {
    (void)state;
    Objective none = with_tables(0, 0, false), both = with_tables(0.2, 0.1, true), late = with_tables(0.5, 0, true);
    Objective early = with_tables(0.5, 0.2, false);
    late.smoothing[0].alpha.rampup = 100000, late.smoothing[0].alpha.decay_start = late.smoothing[0].alpha.decay_end = 0;
    early.smoothing[0].alpha.decay_start = early.smoothing[1].alpha.decay_start = 0;  // falls from the first step to the last
    Trace absent = train_with(none), zero = train_with(late);
    assert_memory_equal(absent.values, zero.values, absent.bytes), free(zero.values);
    Trace other = train_with(both), falling = train_with(early);
    assert_memory_equal(absent.values, other.values, N * sizeof(float));  // the first step's losses are the next token's
    assert_memory_not_equal(absent.values + N, other.values + N, absent.step_bytes - N * sizeof(float));
    assert_memory_not_equal(other.values + N, falling.values + N, absent.step_bytes - N * sizeof(float));
    Trace plain = train_with(with_tables(0.2, 0.1, false));  // the estimator is another target than the row alone
    assert_memory_not_equal(other.values + N, plain.values + N, absent.step_bytes - N * sizeof(float));
    free(other.values), free(absent.values), free(falling.values), free(plain.values);
}

static double total_loss(Model* m, const Micro* micro) {
    const StepWeights* w = &m->targets;
    double sum = 0;
    model_forward(m, micro->tokens, B, T);
    head_loss(m, micro, training_targets(m, micro), 1.0f, true);
    const float* losses = host_f(m->losses, STEP_LOSSES * N);
    for (int n = 0; n < N; n++) {
        sum += (1.0 - w->table[0] - w->table[1]) * losses[n] + w->token[1] * losses[N + n];
        for (int i = 0; i < SOFT_TABLES; i++) sum += w->table[i] * losses[(LOSS_NGRAM + i) * N + n];
    }
    return sum / N;
}

static void finite_differences(void** state) {
    (void)state;
    if (!slopes_mean_something()) skip();
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    for (int corrected = 0; corrected < 2; corrected++) {
        Model m;
        Objective o = with_tables(0.3, 0.2, corrected);
        open_with_tables(&m, &o, corrected ? "nocap" : "gpt2");
        StepWeights w = objective_weights(&o, 0);
        w.token[1] = 0.4f;  // and the token after the next
        targets_start(&m, w);
        Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
        check_slopes(&m, &micro, total_loss);
        model_free(&m);
        assert_int_equal(release_buffers(state), 0);
    }
}

// What an update does with losses that were filled, and with parameters that rest.
static void slots_and_weights(void** state) {
    (void)state;
    Model m;
    Objective o = with_tables(0.2, 0, false);
    open_with_tables(&m, &o, "nocap");
    targets_start(&m, objective_weights(&o, 0));
    assert_int_equal(targets_slots(&m), 1 | 1 << LOSS_NGRAM);
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
    model_micro_step(&m, &micro, 1);
    StepInputs in = {};
    in.scale_loss = PRECISION == PRECISION_FP16;
    objective_loss_factors(&m, 1, in.loss_factor);
    model_update(&m, in, objective_weights(&o, 1));
    StepState s;
    copy_to_host(&s, m.state, sizeof(s));
    const float* losses = host_f(m.losses, STEP_LOSSES * N);
    for (int k = 0; k < STEP_LOSSES; k++) {
        double sum = 0;
        for (int n = 0; n < N; n++) sum += losses[k * N + n];
        assert_off(s.losses[k], k == 0 || k == LOSS_NGRAM ? sum / N : 0, 1e-5, "slot %d", k);
    }
    assert_true(s.in.next.table[0] == 0.2f && s.in.next.token[0] == 1 && s.in.next.table[1] == 0);
    model_free(&m);
}

// The head in chunks of rows: every position keeps its own table row and its place in the sequence.
static void chunks_are_the_whole(void** state) {
    (void)state;
    int tokens[TOKENS], order[N * STEPS];
    const float* losses[2];
    make_batches(tokens, order);
    Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
    for (int i = 0; i < 2; i++) {
        Model m;
        Objective o = with_tables(0.2, 0.1, false);
        o.smoothing[0].first = 5;
        open_with_tables(&m, &o, "nocap");
        if (i) m.chunk_rows = 8;
        targets_start(&m, objective_weights(&o, 0));
        model_micro_step(&m, &micro, 1);
        losses[i] = host_f(m.losses, STEP_LOSSES * N);
        model_free(&m);
    }
    for (int n = 0; n < N; n++) {
        assert_off(losses[1][n], losses[0][n], 1e-4, "next token at %d", n);
        for (int k = LOSS_NGRAM * N; k < (LOSS_NGRAM + SOFT_TABLES) * N; k += N)
            assert_off(losses[1][k + n], losses[0][k + n], 1e-4, "slot %d at %d", k / N, n);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(against_definition),         TEST(known_neighbours),   TEST(estimator_is_right_on_average),
        TEST(absent_rows_and_two_tables),
#ifndef EMU_CHECK  // whole models: their kernels are above
        TEST(weight_zero_is_absent),      TEST(finite_differences), TEST(slots_and_weights),
        TEST(chunks_are_the_whole),
#endif
    };
    return cmocka_run_group_tests_name("soft targets " PRECISION_NAME, tests, NULL, NULL);
}
