/*
A model with a factorised vocabulary against recorded tensors (dev/reference/record_light.py): losses, n-grams, the distribution
of all tokens, every gradient and every initial weight; and 20 steps of training.
*/
#include "buffer.h"
#include "gold.h"

#include "llmc/model/setup.cuh"
#include "llmc/model/smoothing.cuh"

enum { SEED = 42 };

// Of the recorded case, with its codebook.
static Config config_of(const Gold* g, const char* arch, bool light_embedding, int K) {
    Config c = {};
    c.L = gold_int(g, "L"), c.NH = gold_int(g, "NH"), c.C = gold_int(g, "C"), c.V = gold_int(g, "V"), c.B = gold_int(g, "B"),
    c.T = gold_int(g, "T");
    c.head = HEAD_LIGHTRNN, c.embedding = light_embedding ? EMBEDDING_LIGHTRNN : EMBEDDING_DENSE;
    c.book = codebook_from_cells(g->name, c.V, gold_int(g, "columns"), gold_ints(g, "row"), gold_ints(g, "column"), "");
    c.aux.ahead.K = K;
    config_arch(&c, arch);
    return c;
}

static void open_recorded(Model* m, Config c) {
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_plan_shape(m, c.B, c.T);
    model_init_weights(m, SEED);
}

static void close_recorded(Model* m) {
    codebook_free(&m->config.book);
    model_free(m);
}

// Micro-step `at` of a stream of tokens, with what lies ahead
static Micro micro_of(const Config* c, const int* tokens, int at, bool accumulate) {
    int N = c->B * c->T, K = c->aux.ahead.K > 1 ? c->aux.ahead.K : 1, next = 0;
    int* order = (int*)host_values((size_t)N);
    for (int v = 0; v < c->V; v++) {
        for (int n = 0; n < N; n++) {
            if (tokens[at * N + n] == v) order[next++] = n;
        }
    }
    Micro micro = {buffer_i(tokens + at * N, (size_t)(N + K)), buffer_i(order, (size_t)N), c->B, c->T, accumulate};
    return micro;
}

static StepState state_of(const Model* m) {
    StepState s;
    copy_to_host(&s, m->state, sizeof(s));
    return s;
}

// Biases of the head as recorded: zeros would hide what is done with them.
static void fill_biases(Model* m) {
    const int ids[2] = {m->light.row_b, m->light.col_b};
    for (int i = 0; i < 2; i++) {
        const Param* p = &m->table.rows[ids[i]];
        float* b = host_values(p->size);
        rand_fill_normal(b, p->size, 0.5f, rand_key(SEED, p->name));
        copy_to_device(m->masters + p->offset, b, p->size * sizeof(float));
    }
    model_weights_changed(m);
}

// The tokens ahead, and n-grams if the case has them
static void set_targets(Model* m, const Gold* g, int K) {
    StepWeights w = {};
    w.token[0] = 1;
    if (K > 1) w.token[1] = (float)gold_param(g, "ahead");
    w.table[0] = (float)gold_param(g, "alpha");
    if (w.table[0] > 0) {
        const GoldTensor* ids = gold_tensor(g, "follower_ids");
        Smoothing s[SOFT_TABLES] = {};
        TopTable t = top_table_alloc(TABLE_BIGRAM, ids->dims[0], ids->dims[1]);
        memcpy(t.ids, ids->i32, ids->count * sizeof(int32_t));
        memcpy(t.probs, gold_floats(g, "follower_probs"), ids->count * sizeof(float));
        s[0].table = t;
        smoothing_upload(s, m);
    }
    targets_start(m, w);
}

static void check_recorded(const char* name, const char* arch, bool light_embedding, bool exact) {
    Gold* g = gold_open(name);
    int K = gold_int(g, "K");
    Config c = config_of(g, arch, light_embedding, K);
    if (gold_param(g, "alpha") > 0) c.aux.table_k[0] = gold_tensor(g, "follower_ids")->dims[1];
    c.aux.exact = exact;
    Model m;
    open_recorded(&m, c);
    int N = c.B * c.T, V = c.V;
    fill_biases(&m);
    set_targets(&m, g, K);
    Micro micro = micro_of(&c, gold_ints(g, "tokens"), 0, false);
    model_micro_step(&m, &micro, 1);
    for (int k = 0; k < K; k++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "losses_%d", k + 1);
        gold_check(g, tensor, host_f(m.losses + k * N, (size_t)N), PRECISION);
    }
    if (gold_find(g, "ngram")) gold_check(g, "ngram", host_f(m.losses + LOSS_NGRAM * N, (size_t)N), PRECISION);
    const GoldTensor* positions = gold_tensor(g, "positions");
    float* probs = host_values(positions->count * (size_t)V);
    for (size_t i = 0; i < positions->count; i++) head_probs(&m, positions->i32[i], probs + i * (size_t)V);
    gold_check(g, "probs", probs, PRECISION);
    float *grads = host_f(m.grads, m.table.size), scale = state_of(&m).scaler.scale;
    const float* masters = host_f(m.masters, m.table.size);
    for (size_t i = 0; i < m.table.size; i++) grads[i] /= scale;
    for (int id = 0; id < m.table.count; id++) {
        const Param* p = &m.table.rows[id];
        char tensor[80];
        if (id == m.light.cells) continue;
        snprintf(tensor, sizeof(tensor), "grad:%s", p->name);
        gold_check_sketch(g, tensor, grads + p->offset, PRECISION);
        snprintf(tensor, sizeof(tensor), "init:%s", p->name);
        gold_check_sketch(g, tensor, masters + p->offset, PRECISION);
    }
    close_recorded(&m);
    gold_close(g);
}

static void both_ends(void** state) { (void)state, check_recorded("light_both", "nocap", true, false); }
static void words(void** state) { (void)state, check_recorded("light_words", "nocap", true, true); }
static void head_alone(void** state) { (void)state, check_recorded("light_head", "gpt2", false, false); }

static void curve(void** state) {
    (void)state;
    Gold* g = gold_open("curve_light");
    Config c = config_of(g, "nocap", true, 1);
    Model m;
    open_recorded(&m, c);
    int N = c.B * c.T, steps = gold_int(g, "steps"), A = gold_int(g, "accumulation");
    const int* tokens = gold_ints(g, "tokens");
    const float* rates = gold_floats(g, "rates");
    float *losses = host_values((size_t)steps), *norms = host_values((size_t)steps);
    StepInputs in = {};
    in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.weight_decay = (float)gold_param(g, "weight_decay");
    in.scale_loss = PRECISION == PRECISION_FP16;
    for (int k = 0; k < STEP_LOSSES; k++) in.loss_factor[k] = 1.0f / (float)(N * A);
    for (int step = 0; step < steps; step++) {
        for (int a = 0; a < A; a++) {
            Micro micro = micro_of(&c, tokens, step * A + a, a > 0);
            model_micro_step(&m, &micro, A);
        }
        in.lr = rates[step];
        model_update(&m, in, m.targets);
        StepState s = state_of(&m);
        assert_int_equal(s.skip, 0);
        losses[step] = s.losses[0], norms[step] = s.grad_norm;
    }
    gold_check(g, "losses", losses, PRECISION);
    gold_check(g, "norms", norms, PRECISION);
    const float* masters = host_f(m.masters, m.table.size);
    for (int id = 0; id < m.table.count; id++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "final:%s", m.table.rows[id].name);
        if (id != m.light.cells) gold_check_sketch(g, tensor, masters + m.table.rows[id].offset, PRECISION);
    }
    close_recorded(&m);
    gold_close(g);
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(both_ends), TEST(words), TEST(head_alone), TEST(curve)};
    return cmocka_run_group_tests_name("lightrnn, recorded " PRECISION_NAME, tests, NULL, NULL);
}
