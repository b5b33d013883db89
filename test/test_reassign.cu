/*
Between two rounds of training a factorised vocabulary: what tokens cost in rows and columns against the definition, and a
checkpoint whose tokens moved (data/reassign_codebook): inside their rows the model and its next step stay what they were; to
other rows tokens take their weights, and start with moments of 0.
*/
#include "buffer.h"
#include "child.h"

#include "llmc/model/setup.cuh"

#include "llmc/model/codebook_measure.cuh"

#define main reassign_main
#include "data/reassign_codebook.c"
#undef main

enum { B = 2, T = 16, N = B * T, V = 63, COLUMNS = 10, C = 32, STEPS = 3 };

static void open_model(Model* m, bool light_embedding, Codebook book) {
    Config c = {};
    c.L = 1, c.NH = 2, c.C = C, c.V = V, c.B = B, c.T = T;
    c.head = HEAD_LIGHTRNN, c.embedding = light_embedding ? EMBEDDING_LIGHTRNN : EMBEDDING_DENSE, c.book = book;
    config_arch(&c, "nocap");
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_plan_shape(m, B, T);
    model_init_weights(m, 7);
    float one = 1;  // no loss scale, in any precision
    copy_to_device(&m->state->scaler.scale, &one, sizeof(one));
}

// Micro-step `at` of a fixed stream of tokens; most of them are few.
static Micro batch(int at) {
    static int tokens[N + 1], order[N];
    Rng rng = rng_start((uint64_t)at, "reassign");
    int next = 0;
    for (int n = 0; n <= N; n++) tokens[n] = (int)rng_below(&rng, rng_below(&rng, 2) ? 6 : V - 1);  // the last one never occurs
    for (int v = 0; v < V; v++) {
        for (int n = 0; n < N; n++) {
            if (tokens[n] == v) order[next++] = n;
        }
    }
    Micro micro = {buffer_i(tokens, N + 1), buffer_i(order, N), B, T, false};
    return micro;
}

static double loss_of(const Model* m) {
    const float* losses = host_f(m->losses, N);
    double sum = 0;
    for (int n = 0; n < N; n++) sum += (double)losses[n] / N;
    return sum;
}

// A training step; returns its loss.
static double step(Model* m, int at) {
    Micro micro = batch(at);
    model_micro_step(m, &micro, 1);
    StepInputs in = {};
    in.lr = 3e-3f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.weight_decay = 0.1f;
    for (int k = 0; k < STEP_LOSSES; k++) in.loss_factor[k] = 1.0f / N;
    model_update(m, in, m->targets);
    return loss_of(m);
}

static void save(const Model* m, const char* path, int arrays) {
    CheckpointWriter w;
    RunState run = run_state_start();
    run.step = STEPS;
    float* all[CHECKPOINT_ARRAYS] = {m->masters, m->m, m->v};
    bool good = checkpoint_writer_open(&w, path, &m->table, arrays, "--vocab_size 63\n--codebook old\n--seed 7\n", &run);
    for (int a = 0; a < arrays; a++) {
        const float* host = host_f(all[a], m->table.size);
        for (int id = 0; id < m->table.count; id++) {
            good = good && checkpoint_writer_put(&w, id, a, host + m->table.rows[id].offset, m->table.rows[id].size);
        }
    }
    if (!good || !checkpoint_writer_close(&w)) fail_msg("%s", w.error);
}

// Masters, moments and the step count of a model that has taken STEPS steps.
static void load(Model* m, const char* path) {
    CheckpointReader r;
    float* all[CHECKPOINT_ARRAYS] = {m->masters, m->m, m->v};
    if (!checkpoint_reader_open(&r, path) || !checkpoint_reader_match(&r, &m->table, MATCH_EXACT)) fail_msg("%s", r.error);
    assert_int_equal(r.state.step, STEPS);
    char flags[900];
    snprintf(flags, sizeof(flags), "--vocab_size 63\n--seed 7\n--codebook %s\n", test_path("new"));
    assert_string_equal(r.flags, flags);
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++) {
        float* host = (float*)memset(host_values(m->table.size), 0, m->table.size * sizeof(float));
        for (int id = 0; id < m->table.count; id++) {
            const Param* p = &m->table.rows[id];
            if (!checkpoint_reader_get(&r, id, a, host + p->offset, p->size)) fail_msg("%s", r.error);
        }
        copy_to_device(all[a], host, m->table.size * sizeof(float));
    }
    checkpoint_reader_close(&r);
    StepState s = {};
    s.steps = STEPS, s.scaler.scale = 1;
    copy_to_device(m->state, &s, sizeof(s));
    targets_start(m, m->targets);
    cells_check(m, path);
    model_weights_changed(m);
}

static void run_reassign(const void* line) { run_line(reassign_main, "data/reassign_codebook", (const char*)line); }

static const float* tensor_of(const Model* m, const float* array, int id) {
    return host_f(array + m->table.rows[id].offset, m->table.rows[id].size);
}

static bool equal_tensor(const Model* a, const Model* b, float* const array_a, float* const array_b, int id) {
    const Param* p = &a->table.rows[id];
    return !memcmp(tensor_of(a, array_a, id), tensor_of(b, array_b, id), p->size * sizeof(float));
}

// map[begin .. end - 1]: a permutation of these numbers
static void shuffle(Rng* rng, int* map, int begin, int end) {
    for (int j = begin; j < end; j++) map[j] = j;
    for (int j = end - 1; j > begin; j--) {
        int i = begin + (int)rng_below(rng, (uint64_t)(j - begin) + 1), swap = map[i];
        map[i] = map[j], map[j] = swap;
    }
}

// The codebook with columns shuffled: the same way in every row (the short one's in front stay in front), or each its own way.
static Codebook shuffled(const Codebook* old, bool alike) {
    int32_t row[V], column[V];
    Rng rng = rng_start(9, "shuffle");
    int map[COLUMNS], last = old->length[old->rows - 1];
    for (int r = 0; r < old->rows; r++) {
        if (!alike) shuffle(&rng, map, 0, old->length[r]);
        else if (r == 0) shuffle(&rng, map, 0, last), shuffle(&rng, map, last, COLUMNS);
        for (int j = 0; j < old->length[r]; j++) {
            int v = old->token[r * COLUMNS + j];
            row[v] = r, column[v] = map[j];
        }
    }
    return codebook_from_cells("a shuffled codebook", V, COLUMNS, row, column, "");
}

static Codebook spread_book(void) {  // seven rows, the last one has three tokens
    int32_t order[V];
    for (int v = 0; v < V; v++) order[v] = v * 8 % V;
    return codebook_from_order(V, COLUMNS, order);
}

// ---------------------------------------------------------------------------------------------------------------------

static void costs_by_definition(void** state) {
    (void)state;
    Model m;
    Codebook book = spread_book();
    open_model(&m, true, book);
    for (int at = 0; at < STEPS; at++) step(&m, at);
    int R = book.rows;
    double l_r[V][8] = {}, l_c[V][COLUMNS] = {}, most = 0;
    assert_int_equal(R, 7);
    float* probs = host_values(V);
    CodebookMeasure s = measure_open(&m);
    for (int at = 10; at < 12; at++) {
        Micro micro = batch(at);
        const int* tokens = (const int*)host_f((const float*)micro.tokens, N + 1);
        model_forward(&m, micro.tokens, B, T);
        measure_add(&s, &m, micro.tokens, B, T);
        for (int n = 0; n < N; n++) {
            int v = tokens[n + 1], r = book.row[v];
            double rows[8] = {};
            head_probs(&m, n, probs);
            for (int u = 0; u < V; u++) rows[book.row[u]] += (double)probs[u];
            for (int i = 0; i < R; i++) l_r[v][i] -= log(rows[i]);
            for (int j = 0; j < book.length[r]; j++) l_c[v][j] -= log(probs[book.token[r * COLUMNS + j]] / rows[r]);
        }
    }
    CodebookCosts costs = measure_costs(&s);
    assert_int_equal(costs.positions, 2 * N);
    assert_int_equal(costs.codebook, codebook_crc(&book));
    for (int v = 0; v < V; v++) {
        int length = book.length[book.row[v]];
        double mean = 0;
        for (int i = 0; i < R; i++) {
            assert_off(costs.l_r[v * R + i], l_r[v][i], 3e-6 * (1 + l_r[v][i]) + 8 * STORE_ERROR * l_r[v][i],
                       "token %d in row %d", v, i);
            most = fmax(most, l_r[v][i]);
        }
        for (int j = 0; j < length; j++) mean += l_c[v][j] / length;
        for (int j = 0; j < COLUMNS; j++) {
            double want = j < length ? l_c[v][j] : mean;
            assert_off(costs.l_c[v * COLUMNS + j], want, 3e-6 * (1 + want) + 8 * STORE_ERROR * want, "token %d in column %d", v,
                       j);
        }
    }
    assert_true(most > 10 && costs.l_r[(V - 1) * R] == 0);  // one is frequent, one never occurs
    codebook_costs_free(&costs);
    measure_free(&s);
    model_free(&m);
    codebook_free(&book);
}

// A model of three steps, its checkpoint for another codebook, and the model of that.
static void reassigned(Model* a, Model* b, bool light_embedding, Codebook old, Codebook now) {
    open_model(a, light_embedding, old);
    open_model(b, light_embedding, now);
    for (int at = 0; at < STEPS; at++) step(a, at);
    mkdir(test_path("run"), 0777);
    save(a, test_path("old.ckpt"), CHECKPOINT_ARRAYS);
    codebook_save(test_path("new"), &now);
    int code = run_child(run_reassign, "--checkpoint @/old.ckpt --codebook @/new --out @/next");
    if (code) fail_msg("exit code %d: %s", code, child_output);
    load(b, test_path("next/step_00000003.ckpt"));
    unlink(test_path("next/step_00000003.ckpt"));
}

// What the two models compute for tokens, and after one more step: the same but for the order of sums.
static void same_function(bool light_embedding, bool alike) {
    Model a, b;
    Codebook old = spread_book(), now = shuffled(&old, alike);
    reassigned(&a, &b, light_embedding, old, now);
    assert_says("tokens moved with their weights, 0 of them to another row");
    int moved = 0, Kp = 16;
    for (int v = 0; v < V; v++) moved += old.col[v] != now.col[v];
    assert_true(moved > 20);
    for (int at = STEPS; at < STEPS + 2; at++) {
        double la = step(&a, at), lb = step(&b, at);
        assert_off(lb, la, 1e-6 + STORE_ERROR, "loss of step %d", at);
    }
    const float *wa = tensor_of(&a, a.masters, a.light.col_w), *wb = tensor_of(&b, b.masters, b.light.col_w);
    const float *va = tensor_of(&a, a.v, a.light.col_b), *vb = tensor_of(&b, b.v, b.light.col_b);
    for (int v = 0; v < V; v++) {
        int from = old.row[v] * Kp + old.col[v], to = now.row[v] * Kp + now.col[v];
        for (int c = 0; c < C; c++)
            assert_off(wb[to * C + c], wa[from * C + c], 2e-5 + 3e-3 * (STORE_ERROR > 1e-6), "weights of token %d", v);
        assert_off(vb[to], va[from], (1e-4 + 8 * STORE_ERROR) * (double)(va[from] + 1e-6f), "second moment of token %d", v);
    }
    model_free(&a), model_free(&b), codebook_free(&old), codebook_free(&now);
}

static void inside_rows(void** state) {
    (void)state;
    same_function(false, false);
    same_function(true, true);
}

// Two tokens of different rows change places.
static void between_rows(void** state) {
    (void)state;
    Model a, b;
    Codebook old = spread_book();
    int32_t row[V], column[V], u = old.token[3], w = old.token[6 * COLUMNS + 1];
    memcpy(row, old.row, sizeof(row)), memcpy(column, old.col, sizeof(column));
    row[u] = old.row[w], column[u] = old.col[w], row[w] = old.row[u], column[w] = old.col[u];
    Codebook now = codebook_from_cells("a test", V, COLUMNS, row, column, "");
    reassigned(&a, &b, true, old, now);
    assert_says("2 of 63 tokens moved with their weights, 2 of them to another row");
    assert_says("the nearest are");
    const int ids[2] = {a.light.col_w, a.light.col_b}, Kp = 16;
    for (int i = 0; i < 2; i++) {
        size_t width = i ? 1 : C;
        const float *wa = tensor_of(&a, a.masters, ids[i]), *wb = tensor_of(&b, b.masters, ids[i]);
        const float *va = tensor_of(&a, a.v, ids[i]), *vb = tensor_of(&b, b.v, ids[i]);
        for (int v = 0; v < V; v++) {
            size_t from = (size_t)(old.row[v] * Kp + old.col[v]) * width, to = (size_t)(now.row[v] * Kp + now.col[v]) * width;
            assert_memory_equal(wb + to, wa + from, width * sizeof(float));
            for (size_t c = 0; c < width; c++) assert_true(vb[to + c] == (v == u || v == w ? 0 : va[from + c]));
        }
    }
    assert_true(equal_tensor(&a, &b, a.masters, b.masters, a.light.row_w) && equal_tensor(&a, &b, a.m, b.m, a.light.row_w));
    assert_true(equal_tensor(&a, &b, a.masters, b.masters, a.layer[0].qkv_w) && equal_tensor(&a, &b, a.v, b.v, a.layer[0].qkv_w));
    // the embedding: of least squares, so what is left over sums to 0 in every row and every column
    const float *old_r = tensor_of(&a, a.masters, a.light.rows), *old_c = tensor_of(&a, a.masters, a.light.columns),
                *new_r = tensor_of(&b, b.masters, b.light.rows), *new_c = tensor_of(&b, b.masters, b.light.columns);
    double in_row[8][C] = {}, in_column[COLUMNS][C] = {}, squares = 0;
    for (int v = 0; v < V; v++) {
        for (int c = 0; c < C; c++) {
            double rest =
                (double)old_r[old.row[v] * C + c] + old_c[old.col[v] * C + c] - new_r[row[v] * C + c] - new_c[column[v] * C + c];
            in_row[row[v]][c] += rest, in_column[column[v]][c] += rest, squares += rest * rest;
        }
    }
    for (int c = 0; c < C; c++) {
        for (int r = 0; r < old.rows; r++) assert_off(in_row[r][c], 0, 1e-6, "row %d, channel %d", r, c);
        for (int j = 0; j < COLUMNS; j++) assert_off(in_column[j][c], 0, 1e-6, "column %d, channel %d", j, c);
    }
    assert_true(squares > 1e-4);
    const float *mr = tensor_of(&b, b.v, b.light.rows), *before = tensor_of(&a, a.v, a.light.rows);
    for (int r = 0; r < old.rows; r++) assert_true(mr[r * C] == (r == 0 || r == 6 ? 0 : before[r * C]));
    model_free(&a), model_free(&b), codebook_free(&old), codebook_free(&now);
}

static void refusals(void** state) {
    (void)state;
    Model m;
    Codebook old = spread_book(), wide = codebook_sequential(V, 20), fits = codebook_sequential(V, COLUMNS),
             other = codebook_sequential(40, 10);
    open_model(&m, false, old);
    save(&m, test_path("old.ckpt"), 1);
    model_free(&m);
    codebook_save(test_path("wide"), &wide), codebook_save(test_path("fits"), &fits), codebook_save(test_path("other"), &other);
    mkdir(test_path("full"), 0777);
    write_text(test_path("full/step_00000001.ckpt"), "x");
    write_text(test_path("text"), "not a checkpoint, but long enough to be one: sixty-four bytes and some more");
    const struct {
        const char* line;
        int code;
        const char* says;
    } cases[] = {
        {"--codebook @/fits --out @/x", EXIT_USAGE, "--checkpoint is missing"},
        {"--checkpoint @/old.ckpt --out @/x", EXIT_USAGE, "--codebook is missing"},
        {"--checkpoint @/old.ckpt --codebook @/fits", EXIT_USAGE, "--out is missing"},
        {"--checkpoint @/old.ckpt --codebook @/fits --out @/full", EXIT_FAIL, "already has checkpoints"},
        {"--checkpoint @/text --codebook @/fits --out @/x", EXIT_FAIL, "not a checkpoint"},
        {"--checkpoint @/old.ckpt --codebook @/other --out @/x", EXIT_FAIL, "made for 40 tokens, expected 63"},
        {"--checkpoint @/old.ckpt --codebook @/wide --out @/x", EXIT_FAIL, "head.column.w has 112 rows, expected 96"},
        {"--checkpoint @/old.ckpt --codebook @/fits --out @/x", 0, "tokens moved with their weights"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int code = run_child(run_reassign, cases[i].line);
        if (code != cases[i].code)
            fail_msg("%s: exit code %d, expected %d: %s", cases[i].line, code, cases[i].code, child_output);
        assert_says(cases[i].says);
    }
    codebook_free(&old), codebook_free(&wide), codebook_free(&fits), codebook_free(&other);
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(costs_by_definition), TEST(inside_rows), TEST(between_rows), TEST(refusals)};
    return cmocka_run_group_tests_name("reassign " PRECISION_NAME, tests, NULL, test_dir_remove);
}
