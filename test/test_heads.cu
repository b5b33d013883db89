/*
Separate heads for later tokens, and the consistency loss, in the whole model: against recorded tensors, against differences
of the loss, one head after the other against all of them, and what has no weight against what is not there.
*/
#include "buffer.h"
#include "child.h"
#include "gold.h"

#include "../llmc/io/checkpoint.h"
#include "../llmc/model/setup.cuh"

typedef struct {
    float c[3], mu;  // weights of the tokens 1, 2, 3 ahead, and of the consistency loss
} Weights;

static StepWeights step_weights(Weights w) {
    StepWeights s = {};
    memcpy(s.token, w.c, sizeof(w.c));
    s.consistency = w.mu;
    return s;
}

static Config tiny(const char* arch, int B, int T, AheadKind kind, int K, int consist_k) {
    Config c = {};
    c.L = 1, c.NH = 2, c.C = 32, c.V = 131, c.B = B, c.T = T, c.tied = true;
    c.aux.ahead.kind = kind, c.aux.ahead.K = K, c.aux.ahead.consist_k = consist_k, c.aux.ahead.consist_temp = 1.0f;
    config_arch(&c, arch);
    return c;
}

// A model whose proj heads do something: their last matrix is zero in a new one, which hides what stands before it.
static void open_model(Model* m, Config c, uint64_t seed) {
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_plan_shape(m, c.B, c.T);
    model_init_weights(m, seed);
    for (int k = 2; c.aux.ahead.kind == AHEAD_PROJ && k <= c.aux.ahead.K; k++) {
        const Param* p = &m->table.rows[m->ahead.b[k]];
        float* b = host_values(p->size);
        rand_fill_normal(b, p->size, 0.125f, rand_key(seed, p->name));
        copy_to_device(m->masters + p->offset, b, p->size * sizeof(float));
    }
    model_weights_changed(m);
}

// Micro-step `at` of the token stream `tokens`
static Micro micro_of(const Model* m, const int* tokens, int at, bool accumulate) {
    int B = m->config.B, T = m->config.T, N = B * T, K = m->config.aux.ahead.K;
    int* order = (int*)host_values((size_t)N);
    for (int v = 0, i = 0; v < m->config.V; v++) {
        for (int n = 0; n < N; n++) {
            if (tokens[at * N + n] == v) order[i++] = n;
        }
    }
    Micro micro = {buffer_i(tokens + at * N, (size_t)(N + K)), buffer_i(order, (size_t)N), B, T, accumulate};
    return micro;
}

static int* random_tokens(int count, int V) {
    int* tokens = (int*)host_values((size_t)count);
    Rng rng = rng_start(12, "tokens");
    for (int i = 0; i < count; i++) tokens[i] = (int)rng_below(&rng, (uint64_t)V);
    return tokens;
}

static StepState state_of(const Model* m) {
    StepState s;
    copy_to_host(&s, m->state, sizeof(s));
    return s;
}

static float* gradients(const Model* m) {
    float scale = state_of(m).scaler.scale, *g = host_f(m->grads, m->table.size);  // without the loss scale
    for (size_t i = 0; i < m->table.size; i++) g[i] /= scale;
    return g;
}
static double mean_of(const float* x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return sum / n;
}

// ---------------------------------------------------------------------------------------------------------------------
// Weights

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                                                \
    SWITCH(mtp_enabled, 0, "")                                                                                                    \
    INT(mtp_max_steps, 2, 2, 8, "")                                                                                               \
    FLOAT(mtp_weight, 0.1, 0, 1000, "")                                                                                           \
    INT(mtp_rampup_steps, 0, 0, 1000000000, "")                                                                                   \
    CHOICE(mtp_agg, "mean", MTP_AGG_CHOICES, "")                                                                                  \
    CHOICE(mtp_heads, "shared", MTP_HEADS_CHOICES, "")                                                                            \
    FLOAT(mtp_gamma, 0.5, 0, 1, "")                                                                                               \
    FLOAT(mtp_decay_start, 1, 0, 1, "")                                                                                           \
    FLOAT(mtp_decay_end, 1, 0, 1, "")                                                                                             \
    STRING(mtp_weights, "", "")                                                                                                   \
    FLOAT(consist_weight, 0, 0, 1000, "")                                                                                         \
    INT(consist_k, 2, 2, 8, "")                                                                                                   \
    FLOAT(consist_temp, 1, 0.01, 100, "")                                                                                         \
    SWITCH(consist_teacher_grad, 0, "")                                                                                           \
    INT(consist_rampup_steps, 0, 0, 1000000000, "")                                                                               \
    FLOAT(consist_decay_start, 1, 0, 1, "")                                                                                       \
    FLOAT(consist_decay_end, 1, 0, 1, "")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

// Losses 3, 4, 5 of three heads make one as it is defined; which slots are filled and which groups rest follows from the weights.
static void weights_of_the_heads(void** state) {
    (void)state;
    const double ce[STEP_TOKENS] = {3, 4, 5};
    const struct {
        const char* flags;
        double total;
        uint32_t slots, idle;
    } cases[] = {{"--mtp_agg geo --mtp_weight 0.2", 3.65, 7, 0},
                 {"--mtp_agg sum --mtp_weight 0.1", 3.9, 7, 0},
                 {"--mtp_agg mean --mtp_weight 0.2", 3.9, 7, 0},
                 {"--mtp_weights 1,0,0.5", 5.5, 5, 1 << 1},
                 {"--mtp_weight 0", 3, 1, 1 << 1 | 1 << 2},
                 {"--mtp_weights 1,0.5,0 --consist_weight 0.1", 5, 3 | 1 << LOSS_CONSISTENCY, 1 << 2},
                 {"--mtp_weight 0 --consist_weight 0.1 --consist_k 3", 3, 1 | 1 << LOSS_CONSISTENCY, 1 << 1},
                 {"--mtp_weight 0 --consist_weight 0.1 --consist_decay_start 0 --consist_decay_end 0.5", 3, 1, 1 << 1 | 1 << 2}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[200];
        snprintf(line, sizeof(line), "--mtp_enabled --mtp_max_steps 3 --mtp_heads linear %s", cases[i].flags);
        Options options;
        FlagTable flags = options_table(&options);
        flags_lines(&flags, line, "test", 0);
        Objective o;
        memset(&o, 0, sizeof(o));
        o.mtp = mtp_from_flags(&flags, 10);
        o.ahead = ahead_from_flags(&flags, &o.mtp, 10);
        flags_free(&flags);
        Model m = {};
        objective_configure(&o, &m.config);
        m.targets = objective_weights(&o, 5);
        m.targets.spelling = 1.0f;  // not what this is about
        assert_off(objective_total(&m.targets, ce), cases[i].total, 1e-6, "%s: total", line);
        assert_int_equal(targets_slots(&m) & ~(1u << LOSS_SPELLING), cases[i].slots);
        assert_int_equal(targets_idle(&m), cases[i].idle);
        assert_int_equal(targets_count(&m), 1);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Recorded

static void check_golden(const char* name, AheadKind kind, const char* arch, int chunk) {
    Gold* g = gold_open(name);
    int B = gold_int(g, "B"), T = gold_int(g, "T"), K = gold_int(g, "K"), N = B * T;
    Config c = {};
    c.L = gold_int(g, "L"), c.NH = gold_int(g, "NH"), c.C = gold_int(g, "C"), c.V = gold_int(g, "V"), c.B = B, c.T = T,
    c.tied = true;
    c.aux.ahead = (AheadConfig){kind, K, gold_int(g, "k"), (float)gold_param(g, "temp"), gold_int(g, "teacher_grad") != 0};
    config_arch(&c, arch);
    Model m;
    open_model(&m, c, 42);
    if (chunk) m.chunk_rows = chunk, model_plan_shape(&m, B, T);
    int planned = m.gemm.plans_made;
    Weights w = {{(float)gold_param(g, "c1"), (float)gold_param(g, "c2"), K > 2 ? (float)gold_param(g, "c3") : 0.0f},
                 (float)gold_param(g, "mu")};
    targets_start(&m, step_weights(w));
    Micro micro = micro_of(&m, gold_ints(g, "tokens"), 0, false);
    model_micro_step(&m, &micro, 1);
    assert_int_equal(m.gemm.plans_made, planned);  // a step plans nothing
    for (int k = 1; k <= K; k++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "losses_%d", k);
        gold_check(g, tensor, host_f(m.losses + (k - 1) * N, (size_t)N), PRECISION);
    }
    gold_check(g, "consistency", host_f(m.losses + LOSS_CONSISTENCY * N, (size_t)N), PRECISION);
    const float *grads = gradients(&m), *masters = host_f(m.masters, m.table.size);
    for (int id = 0; id < m.table.count; id++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "grad:%s", m.table.rows[id].name);
        gold_check_sketch(g, tensor, grads + m.table.rows[id].offset, PRECISION);
        const Param* p = &m.table.rows[id];
        for (size_t i = (size_t)c.V * c.C; p->dims[0] == c.Vp && i < p->size; i++) {  // padding rows of a vocabulary
            assert_true(grads[p->offset + i] == 0 && masters[p->offset + i] == 0);
        }
    }
    model_free(&m);
    gold_close(g);
}

static void golden_linear(void** state) {
    (void)state;
    check_golden("heads_linear", AHEAD_LINEAR, "nocap", 0);
    check_golden("heads_linear", AHEAD_LINEAR, "nocap", 24);  // a chunk ends in a row, and the last is short
}
static void golden_proj(void** state) {
    (void)state;
    check_golden("heads_proj", AHEAD_PROJ, "gpt2", 0);
    check_golden("heads_proj", AHEAD_PROJ, "gpt2", 24);
}

// ---------------------------------------------------------------------------------------------------------------------
// Against differences and sums

static double total_loss(Model* m, const Micro* micro, Weights w) {
    int N = micro->B * micro->T, k = m->config.aux.ahead.consist_k;
    model_micro_step(m, micro, 1);
    double sum = w.mu * mean_of(host_f(m->losses + LOSS_CONSISTENCY * N, N), N) * micro->T / (micro->T - k + 1);
    for (int i = 0; i < m->config.aux.ahead.K; i++) sum += w.c[i] * mean_of(host_f(m->losses + i * N, N), N);
    return sum;
}

// Central differences of the total along each tensor's own gradient, where the slope is its norm. The teacher learns as well:
// a stopped one has no such function.
static void finite_differences(void** state) {
    if (PRECISION != PRECISION_FP32) printf("skipped: finite differences: %s storage rounds them away\n", PRECISION_NAME);
    if (PRECISION != PRECISION_FP32) skip();
    const Weights w = {{1.0f, 0.7f, 0.4f}, 0.8f};
    const int* tokens = random_tokens(40, 131);
    for (int kind = AHEAD_LINEAR; kind <= AHEAD_PROJ; kind++) {
        for (int consist_k = GPU_EXECUTION ? 3 : 2; consist_k <= 3; consist_k++) {
            Config c = tiny(consist_k == 2 ? "gpt2" : "nocap", 2, 16, (AheadKind)kind, 3, consist_k);
            c.aux.ahead.consist_teacher_grad = true, c.aux.ahead.consist_temp = consist_k == 2 ? 1.0f : 0.5f;
            c.tied = kind == AHEAD_PROJ;
            Model m;
            open_model(&m, c, 7);
            targets_start(&m, step_weights(w));
            Micro micro = micro_of(&m, tokens, 0, false);
            model_micro_step(&m, &micro, 1);
            const float* grads = host_f(m.grads, m.table.size);
            for (int id = 0; id < m.table.count; id++) {
                const Param* p = &m.table.rows[id];
                const float *g = grads + p->offset, *before = host_f(m.masters + p->offset, p->size);
                float* moved = host_values(p->size);
                double norm = 0, slope = 0, h = 0.005;
                for (size_t i = 0; i < p->size; i++) norm += (double)g[i] * g[i];
                norm = sqrt(norm);
                if (p->group == 0 && norm < 1e-3) continue;
                for (int sign = 1; sign >= -1; sign -= 2) {
                    for (size_t i = 0; i < p->size; i++) moved[i] = (float)(before[i] + sign * h * g[i] / norm);
                    copy_to_device(m.masters + p->offset, moved, p->size * sizeof(float));
                    slope += sign * total_loss(&m, &micro, w) / (2 * h);
                }
                copy_to_device(m.masters + p->offset, before, p->size * sizeof(float));
                assert_off(slope, norm, 0.01 * norm + 3e-4, "kind %d, %d ahead, %s: slope against gradient", kind, consist_k,
                           p->name);
            }
            model_free(&m);
            assert_int_equal(release_buffers(state), 0);
            tokens = random_tokens(40, 131);
        }
    }
}

// Gradients and losses of one step of A micro-steps; the caller frees the buffers.
static float* step_gradients(Config c, Weights w, const int* tokens, int A, float* losses) {
    Model m;
    open_model(&m, c, 7);
    targets_start(&m, step_weights(w));
    for (int a = 0; a < A; a++) {
        Micro micro = micro_of(&m, tokens, a, a > 0);
        model_micro_step(&m, &micro, A);
    }
    float* g = gradients(&m);
    if (losses) copy_to_host(losses, m.losses, (size_t)STEP_LOSSES * c.B * c.T * sizeof(float));
    model_free(&m);
    return g;
}

static size_t table_size(Config c) {
    Model m = {};
    model_declare(&m, c, true);
    free(m.table.rows);
    return m.table.size;
}

static double relative_difference(const float* a, const float* b, size_t n) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) difference += pow((double)a[i] - b[i], 2), norm += pow(a[i], 2);
    return sqrt(difference / norm);
}
static const double SAME[] = {3e-6, 3e-2, 4e-3};  // by precision

// One head after the other = all at once: gradients are linear in the weights, and no head sees another's buffers.
static void heads_add_up(void** state) {
    const Weights all = {{1, 0.5f, 0.25f}, 0}, second = {{1, 0.5f, 0}, 0}, third = {{1, 0, 0.25f}, 0}, none = {{1, 0, 0}, 0};
    for (int kind = AHEAD_LINEAR; kind <= AHEAD_PROJ; kind++) {
        Config c = tiny("nocap", 2, 16, (AheadKind)kind, 3, 0);
        size_t size = table_size(c);
        const int* tokens = random_tokens(40, c.V);
        float *sum = step_gradients(c, all, tokens, 1, NULL), *parts = step_gradients(c, second, tokens, 1, NULL);
        const float *more = step_gradients(c, third, tokens, 1, NULL), *main_head = step_gradients(c, none, tokens, 1, NULL);
        for (size_t i = 0; i < size; i++) parts[i] += more[i] - main_head[i];
        double d = relative_difference(sum, parts, size);
        if (!(d < SAME[PRECISION])) fail_msg("kind %d: gradients differ by %g", kind, d);
        assert_int_equal(release_buffers(state), 0);
    }
}

// One batch of 4 rows = two micro-steps of 2 rows, losses and gradients.
static void accumulation(void** state) {
    const Weights w = {{1, 0.5f, 0}, 0.5f};  // head 3 is drawn, but has no cross-entropy of its own
    for (int kind = AHEAD_LINEAR; kind <= AHEAD_PROJ; kind++) {
        Config whole = tiny("gpt2", 4, 8, (AheadKind)kind, 3, 3), half = tiny("gpt2", 2, 8, (AheadKind)kind, 3, 3);
        whole.aux.ahead.consist_teacher_grad = half.aux.ahead.consist_teacher_grad = true;
        float one[STEP_LOSSES * 32], two[STEP_LOSSES * 16];
        const int slots[] = {0, 1, LOSS_CONSISTENCY};
        const int* tokens = random_tokens(40, whole.V);
        float *a = step_gradients(whole, w, tokens, 1, one), *b = step_gradients(half, w, tokens, 2, two);
        double d = relative_difference(a, b, table_size(whole));
        if (!(d < SAME[PRECISION])) fail_msg("kind %d: gradients differ by %g", kind, d);
        for (int i = 0; i < 3; i++) {
            assert_off(mean_of(two + slots[i] * 16, 16) / 2, mean_of(one + slots[i] * 32, 32), 1e-5, "losses of slot %d",
                       slots[i]);
        }
        assert_int_equal(release_buffers(state), 0);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Weight 0, and what a stopped teacher does not reach

static void stopped_teacher(void** state) {
    const Weights with = {{1, 0.5f, 0}, 0.7f}, without = {{1, 0.5f, 0}, 0};
    for (int taught = 0; taught < 2; taught++) {
        Config c = tiny("nocap", 2, 16, AHEAD_LINEAR, 2, 2);
        c.tied = false, c.aux.ahead.consist_teacher_grad = taught;
        const int* tokens = random_tokens(40, c.V);
        const float *a = step_gradients(c, with, tokens, 1, NULL), *b = step_gradients(c, without, tokens, 1, NULL);
        Model m = {};
        model_declare(&m, c, true);
        for (int id = 0; id < m.table.count; id++) {
            const Param* p = &m.table.rows[id];
            bool same = !memcmp(a + p->offset, b + p->offset, p->size * sizeof(float));
            bool expected = id == m.lm_head && !taught;  // reached through the teacher alone
            if (same != expected) fail_msg("teacher %s, %s: the same gradient: %d", taught ? "taught" : "stopped", p->name, same);
        }
        free(m.table.rows);
        assert_int_equal(release_buffers(state), 0);
    }
}

// Some steps; resting: the parameters that must stay as they are have names that begin so. Returns the masters.
static float* train(Config c, Weights w, const char* resting, Model* m) {
    const int* tokens = random_tokens(5 * 32 + 8, c.V);
    open_model(m, c, 7);
    targets_start(m, step_weights(w));
    float* mark = host_values(m->table.size);  // gradients that nobody may touch are seen
    for (size_t i = 0; i < m->table.size; i++) mark[i] = NAN;
    for (int id = 0; id < m->table.count; id++) {
        const Param* p = &m->table.rows[id];
        if (!strncmp(p->name, resting, strlen(resting))) copy_to_device(m->grads + p->offset, mark, p->size * sizeof(float));
    }
    StepInputs in = {};
    in.lr = 3e-3f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.weight_decay = 0.1f, in.grad_clip = 1.0f;
    in.scale_loss = PRECISION == PRECISION_FP16;
    for (int k = 0; k < STEP_LOSSES; k++) in.loss_factor[k] = 1.0f / 32;
    for (int step = 0; step < (GPU_EXECUTION ? 2 : 5); step++) {
        Micro micro = micro_of(m, tokens, step, false);
        model_micro_step(m, &micro, 1);
        model_update(m, in, step_weights(w));
    }
    assert_int_equal(state_of(m).skip, 0);
    return host_f(m->masters, m->table.size);
}

static void weight_zero_is_absent(void** state) {
    for (int kind = AHEAD_LINEAR; kind <= AHEAD_PROJ; kind++) {
        Model plain, heads;
        Config c = tiny("nocap", 2, 16, (AheadKind)kind, 3, 2), none = tiny("nocap", 2, 16, AHEAD_SHARED, 1, 0);
        const Weights zero = {{1, 0, 0}, 0};
        const float *a = train(none, zero, "none", &plain), *b = train(c, zero, "mtp.", &heads);
        for (int id = 0; id < plain.table.count; id++) {
            const Param *p = &plain.table.rows[id], *q = &heads.table.rows[id];
            assert_string_equal(p->name, q->name);
            assert_memory_equal(a + p->offset, b + q->offset, p->size * sizeof(float));
        }
        assert_true(same_memory(plain.losses, heads.losses, 32 * sizeof(float)));
        model_free(&plain), model_free(&heads);
        assert_int_equal(release_buffers(state), 0);
    }
}

// A head without weight keeps its bits while the others learn; one that is only drawn to the teacher does learn.
static void a_head_rests(void** state) {
    for (int kind = AHEAD_LINEAR; kind <= AHEAD_PROJ; kind++) {
        for (int drawn = 0; drawn < 2; drawn++) {
            Config c = tiny("nocap", 2, 16, (AheadKind)kind, 3, 2);
            const Weights w = {{1, 0, 0.5f}, drawn ? 0.5f : 0.0f};
            Model fresh, m;
            open_model(&fresh, c, 7);
            const float *before = host_f(fresh.masters, fresh.table.size), *after = train(c, w, drawn ? "none" : "mtp.2.", &m);
            const float *first = host_f(m.m, m.table.size), *grads = host_f(m.grads, m.table.size);
            for (int id = 0; id < m.table.count; id++) {
                const Param* p = &m.table.rows[id];
                bool same = !memcmp(before + p->offset, after + p->offset, p->size * sizeof(float));
                bool rests = !strncmp(p->name, "mtp.2.", 6) && !drawn;
                if (same != rests) fail_msg("kind %d, drawn %d, %s: unchanged %d", kind, drawn, p->name, same);
                for (size_t i = 0; rests && i < p->size; i++)
                    assert_true(first[p->offset + i] == 0 && isnan(grads[p->offset + i]));
            }
            model_free(&fresh), model_free(&m);
            assert_int_equal(release_buffers(state), 0);
        }
    }
}

// Rows shorter than the look-ahead have no pair: the loss is 0, and so is all it could move.
static void too_short_for_a_pair(void** state) {
    (void)state;
    if (GPU_EXECUTION) printf("skipped: sequences of 2: a GPU multiplies and attends by eights\n");
    if (GPU_EXECUTION) skip();
    Config c = tiny("nocap", 4, 2, AHEAD_LINEAR, 3, 3);
    c.aux.ahead.consist_teacher_grad = true;
    const Weights with = {{1, 0.5f, 0}, 0.7f}, without = {{1, 0.5f, 0}, 0};
    float losses[STEP_LOSSES * 8];
    const int* tokens = random_tokens(40, c.V);
    const float *a = step_gradients(c, with, tokens, 1, losses), *b = step_gradients(c, without, tokens, 1, NULL);
    for (int n = 0; n < 8; n++) assert_true(losses[LOSS_CONSISTENCY * 8 + n] == 0);
    assert_memory_equal(a, b, table_size(c) * sizeof(float));
}

// ---------------------------------------------------------------------------------------------------------------------
// Validation and export

// Every head is measured by itself, whatever it weighs: the losses that training measures, to the bit.
static void heads_are_measured(void** state) {
    for (int kind = AHEAD_LINEAR; kind <= AHEAD_PROJ; kind++) {
        Config c = tiny("gpt2", 2, 16, (AheadKind)kind, 3, 0);
        const int* tokens = random_tokens(40, c.V);
        Model m;
        open_model(&m, c, 7);
        const Weights w = {{1, 0.5f, 0.5f}, 0}, zero = {{1, 0, 0}, 0};
        targets_start(&m, step_weights(w));
        Micro micro = micro_of(&m, tokens, 0, false);
        model_micro_step(&m, &micro, 1);
        const float* trained = host_f(m.losses, 3 * 32);
        targets_start(&m, step_weights(zero));
        model_forward(&m, micro.tokens, 2, 16);
        head_loss(&m, &micro, next_token(&m, &micro), 0.0f, false);
        ahead_measure(&m, &micro);
        assert_memory_equal(trained, host_f(m.losses, 3 * 32), 3 * 32 * sizeof(float));
        micro.accumulate = true;
        ahead_measure(&m, &micro);
        const float* sums = host_f(m.losses, 3 * 32);
        for (int n = 32; n < 96; n++) assert_off(sums[n], 2.0 * trained[n], 1e-5, "kind %d: sum of two batches, %d", kind, n);
        model_free(&m);
        assert_int_equal(release_buffers(state), 0);
    }
}

// A model without heads reads the checkpoint of one with heads, and predicts the next token with the same bits.
static void export_without_heads(void** state) {
    for (int kind = AHEAD_LINEAR; kind <= AHEAD_PROJ; kind++) {
        Config c = tiny("gpt2", 2, 16, (AheadKind)kind, 3, 2), none = tiny("gpt2", 2, 16, AHEAD_SHARED, 1, 0);
        const int* tokens = random_tokens(40, c.V);
        Model trained, plain;
        CheckpointWriter w;
        CheckpointReader r;
        RunState run = run_state_start();
        open_model(&trained, c, 7), open_model(&plain, none, 8);
        const float* masters = host_f(trained.masters, trained.table.size);
        checkpoint_writer_open(&w, test_path("heads.ckpt"), &trained.table, 1, "", &run);
        for (int id = 0; id < trained.table.count; id++) {
            const Param* p = &trained.table.rows[id];
            checkpoint_writer_put(&w, id, CHECKPOINT_MASTERS, masters + p->offset, p->size);
        }
        if (!checkpoint_writer_close(&w)) fail_msg("%s", w.error);
        if (!checkpoint_reader_open(&r, test_path("heads.ckpt"))) fail_msg("%s", r.error);
        if (!checkpoint_reader_match(&r, &plain.table, MATCH_WITHIN)) fail_msg("%s", r.error);
        float* read = host_values(plain.table.size);
        memset(read, 0, plain.table.size * sizeof(float));
        for (int id = 0; id < plain.table.count; id++) {
            const Param* p = &plain.table.rows[id];
            if (!checkpoint_reader_get(&r, id, CHECKPOINT_MASTERS, read + p->offset, p->size)) fail_msg("%s", r.error);
        }
        checkpoint_reader_close(&r);
        copy_to_device(plain.masters, read, plain.table.size * sizeof(float));
        model_weights_changed(&plain);
        float probs[2][131];
        Model* both[2] = {&trained, &plain};
        for (int i = 0; i < 2; i++) {
            Micro micro = micro_of(both[i], tokens, 0, false);
            model_forward(both[i], micro.tokens, 2, 16);
            head_probs(both[i], 31, probs[i]);
            head_loss(both[i], &micro, next_token(both[i], &micro), 0.0f, false);
        }
        assert_memory_equal(probs[0], probs[1], sizeof(probs[0]));
        assert_true(same_memory(trained.losses, plain.losses, 32 * sizeof(float))), model_free(&trained), model_free(&plain);
        assert_int_equal(release_buffers(state), 0);
    }
    test_dir_remove(state);
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(weights_of_the_heads), TEST(golden_linear),        TEST(golden_proj),        TEST(finite_differences),
        TEST(heads_add_up),         TEST(accumulation),         TEST(stopped_teacher),    TEST(weight_zero_is_absent),
        TEST(a_head_rests),         TEST(too_short_for_a_pair), TEST(heads_are_measured), TEST(export_without_heads),
    };
    return cmocka_run_group_tests_name("heads " PRECISION_NAME, tests, NULL, NULL);
}
