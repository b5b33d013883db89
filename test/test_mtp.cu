/*
Multi-token prediction on shared logits: the weights of every step, the flags and lists they come from, and what a model learns
with them. A weight of 0 must be the absent objective, to the bit.
*/
#include "buffer.h"
#include "child.h"

#include "llmc/model/setup.cuh"

#include "tiny_objective.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                                                \
    SWITCH(mtp_enabled, 0, "")                                                                                                    \
    INT(mtp_max_steps, 2, 2, 8, "")                                                                                               \
    FLOAT(mtp_weight, 0.1, 0, 1000, "")                                                                                           \
    INT(mtp_rampup_steps, 64, 0, 1000000000, "")                                                                                  \
    CHOICE(mtp_agg, "mean", MTP_AGG_CHOICES, "")                                                                                  \
    FLOAT(mtp_gamma, 0.5, 0, 1, "")                                                                                               \
    FLOAT(mtp_decay_start, 1, 0, 1, "")                                                                                           \
    FLOAT(mtp_decay_end, 1, 0, 1, "")                                                                                             \
    STRING(mtp_weights, "", "")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

// The schedule of `line`, flags separated by spaces, in a run of N steps.
static Mtp schedule(const char* line, int64_t N) {
    Options options;
    FlagTable flags = options_table(&options);
    char* copy = text_copy(line);
    flags_lines(&flags, copy, "test", 0);
    free(copy);
    Mtp m = mtp_from_flags(&flags, N);
    flags_free(&flags);
    return m;
}

static Objective only_mtp(Mtp mtp) {
    Objective o = {};
    o.mtp = mtp;
    return o;
}

// Weights at `step` are exactly these, and as many count.
static void check_weights(const Mtp* m, int64_t step, int count, const double* want) {
    float w[MTP_MAX];
    int found = mtp_weights_at(m, step, w);
    if (found != count) fail_msg("step %d: %d weights count, expected %d", (int)step, found, count);
    for (int k = 0; k < MTP_MAX; k++) {
        double expected = k < count ? want[k] : 0;
        if (fabs(w[k] - expected) > 1e-7) fail_msg("step %d: weight %d is %.9g, expected %.9g", (int)step, k + 1, w[k], expected);
    }
}
#define CHECK_WEIGHTS(m, step, ...)                                                         \
    do {                                                                                    \
        const double expected_weights[] = {__VA_ARGS__};                                    \
        int expected_count = (int)(sizeof(expected_weights) / sizeof(expected_weights[0])); \
        check_weights(m, step, expected_count, expected_weights);                           \
    } while (0)

// ---------------------------------------------------------------------------------------------------------------------
// Weights of a step

static void rises_from_zero(void** state) {
    (void)state;
    Mtp m = schedule("--mtp_enabled --mtp_weight 0.35 --mtp_rampup_steps 32", 1000);
    CHECK_WEIGHTS(&m, 1000, 1, 0.35);  // out of order: a weight depends on nothing but its step
    CHECK_WEIGHTS(&m, 0, 1);
    CHECK_WEIGHTS(&m, 1, 1, 0.0109375);
    CHECK_WEIGHTS(&m, 16, 1, 0.175);
    CHECK_WEIGHTS(&m, 31, 1, 0.3390625);
    CHECK_WEIGHTS(&m, 32, 1, 0.35);
    CHECK_WEIGHTS(&m, 33, 1, 0.35);
    assert_true(m.weight == 0.35 && mtp_weight_at(&m, 16) == 0.175);
    m = schedule("--mtp_enabled --mtp_weight 0.35 --mtp_rampup_steps 0", 1000);
    CHECK_WEIGHTS(&m, 0, 1, 0.35);
    m = schedule("--mtp_enabled --mtp_weight 0", 1000);
    CHECK_WEIGHTS(&m, 500, 1);
    m = schedule("", 1000);
    assert_int_equal(m.K, 1);
    CHECK_WEIGHTS(&m, 500, 1);
    m = schedule("--mtp_enabled 0 --mtp_weight 0.5 --mtp_max_steps 4", 1000);  // a preset, switched off
    assert_int_equal(m.K, 1);
    CHECK_WEIGHTS(&m, 500, 1);
}

static void shares_of_the_offsets(void** state) {
    (void)state;
    const double ce[STEP_TOKENS] = {3, 4, 5};
    const struct {
        const char* flags;
        double w2, w3, total;
    } cases[] = {{"--mtp_agg mean", 0.1, 0.1, 3.9},
                 {"--mtp_agg sum", 0.2, 0.2, 4.8},
                 {"--mtp_agg geo", 0.1, 0.05, 3.65},
                 {"--mtp_agg geo --mtp_gamma 0.1", 0.02, 0.002, 3.09}};
    for (int i = 0; i < 4; i++) {
        char line[200];
        snprintf(line, sizeof(line), "--mtp_enabled --mtp_max_steps 3 --mtp_weight 0.2 --mtp_rampup_steps 0 %s", cases[i].flags);
        Objective o = only_mtp(schedule(line, 10));
        CHECK_WEIGHTS(&o.mtp, 5, 1, cases[i].w2, cases[i].w3);
        StepWeights w = objective_weights(&o, 5);
        assert_off(objective_total(&w, ce), cases[i].total, 1e-6, "%s: total", cases[i].flags);
    }
}

static void falls_to_zero(void** state) {
    (void)state;
    Mtp m = schedule("--mtp_enabled --mtp_weight 0.4 --mtp_rampup_steps 20 --mtp_decay_start 0.5 --mtp_decay_end 0.9", 100);
    CHECK_WEIGHTS(&m, 10, 1, 0.2);
    CHECK_WEIGHTS(&m, 50, 1, 0.4);
    CHECK_WEIGHTS(&m, 70, 1, 0.2);
    CHECK_WEIGHTS(&m, 90, 1);
    CHECK_WEIGHTS(&m, 100, 1);
    m = schedule("--mtp_enabled --mtp_weight 0.4 --mtp_rampup_steps 20 --mtp_decay_start 0", 10);  // both at once
    CHECK_WEIGHTS(&m, 5, 1, 0.4 * 0.25 * 0.5);
}

static void parts_of_the_run(void** state) {
    (void)state;
    Mtp m = schedule("--mtp_enabled --mtp_max_steps 3 --mtp_weights 1,0.5,0.25:0/1,0.5:0/1", 300);
    CHECK_WEIGHTS(&m, 0, 1, 0.5, 0.25);
    CHECK_WEIGHTS(&m, 50, 1, 0.5, 0.125);
    CHECK_WEIGHTS(&m, 99, 1, 0.5, 0.0025);
    CHECK_WEIGHTS(&m, 100, 1, 0.5);
    CHECK_WEIGHTS(&m, 150, 1, 0.25);
    CHECK_WEIGHTS(&m, 199, 1, 0.005);
    CHECK_WEIGHTS(&m, 200, 1);
    CHECK_WEIGHTS(&m, 300, 1);
    assert_off(mtp_weight_at(&m, 50), 0.625, 1e-7, "weight in the log");
    m = schedule("--mtp_enabled --mtp_max_steps 3 --mtp_weights 2:1,0,0.5/0.5,.25", 9);  // parts of 4.5 steps; a hole
    CHECK_WEIGHTS(&m, 0, 2, 0, 0.5);
    CHECK_WEIGHTS(&m, 4, 2 - 8.0 / 9, 0, 0.5);
    CHECK_WEIGHTS(&m, 5, 0.5, 0.25);
    CHECK_WEIGHTS(&m, 9, 0.5, 0.25);
    m = schedule("--mtp_enabled --mtp_weights 1,0:1", 0);  // a run without steps ends at once
    CHECK_WEIGHTS(&m, 0, 1, 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Lists and flags that cannot be meant

static void parse_in_child(const void* line) { schedule((const char*)line, 100); }

static void refuses_contradictions(void** state) {
    (void)state;
    const struct {
        const char *line, *says;
    } cases[] = {
        {"--mtp_enabled --mtp_weights 1,,0.5", "\"\", weight 2 of stage 1, is not a number in 0..1000"},
        {"--mtp_enabled --mtp_weights 1,o.5", "\"o.5\", weight 2 of stage 1, is not a number"},
        {"--mtp_enabled --mtp_weights 1,0.5/1,0.5:", "\"0.5:\", weight 2 of stage 2, is not a number"},
        {"--mtp_enabled --mtp_weights 1,0.5:0:1", "\"0.5:0:1\", weight 2"},
        {"--mtp_enabled --mtp_weights 1,-0.5", "\"-0.5\", weight 2"},
        {"--mtp_enabled --mtp_weights 1,nan", "\"nan\", weight 2"},
        {"--mtp_enabled --mtp_weights 1,1e9", "\"1e9\", weight 2"},
        {"--mtp_enabled --mtp_weights 1,0.5/", "\"\", weight 1 of stage 2"},
        {"--mtp_enabled --mtp_weights 0,1", "the first weight of stage 1, the next token's, is 0"},
        {"--mtp_enabled --mtp_weights 1:0,1", "the first weight of stage 1"},
        {"--mtp_enabled --mtp_weights 1,1,1,1,1,1,1,1,1", "stage 1 has more than 8 weights"},
        {"--mtp_enabled --mtp_weights 1/1/1/1/1/1/1/1/1/1/1/1/1/1/1/1/1", "more than 16 stages"},
        {"--mtp_enabled --mtp_weights 1,0.5->0", "did you mean 1,0.5:0?"},
        {"--mtp_enabled --mtp_weights 1,0.5..0;1", "did you mean 1,0.5:0/1?"},
        {"--mtp_enabled --mtp_weights [1,.5,.25->0],[1,.5->0],[1]", "did you mean 1,.5,.25:0/1,.5:0/1?"},
        {"--mtp_enabled --mtp_weights \"1 0.5 | 1\"", "did you mean 1,0.5/1?"},
        {"--mtp_enabled --mtp_weights x", "write for example 1,0.5,0.25:0/1,0.5:0/1"},
        {"--mtp_enabled --mtp_weights 1", "weighs the next token alone"},
        {"--mtp_enabled --mtp_weights 1,1,1", "looks 3 tokens ahead, but --mtp_max_steps is 2; use --mtp_max_steps 3"},
        {"--mtp_enabled --mtp_weights 1,1 --mtp_max_steps 4", "looks 2 tokens ahead, but --mtp_max_steps is 4"},
        {"--mtp_enabled --mtp_weights 1,1 --mtp_weight 0.2", "--mtp_weight has no effect with --mtp_weights"},
        {"--mtp_enabled --mtp_weights 1,1 --mtp_rampup_steps 3", "--mtp_rampup_steps has no effect with --mtp_weights"},
        {"--mtp_enabled --mtp_gamma 0.3", "--mtp_gamma has no effect with --mtp_agg mean; add --mtp_agg geo"},
        {"--mtp_enabled --mtp_decay_end 0.5", "--mtp_decay_start 1 comes after --mtp_decay_end 0.5"},
        {"--mtp_weight 0.2", "--mtp_weight has no effect without --mtp_enabled"},
        {"--mtp_max_steps 3", "--mtp_max_steps has no effect without --mtp_enabled"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int code = run_child(parse_in_child, cases[i].line);
        if (code != EXIT_USAGE) fail_msg("%s: exit code %d, expected 2; it said %s", cases[i].line, code, child_output);
        assert_says(cases[i].says);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What a model does with them

// Losses and gradient of the logits of one position, from the definition: z = (1,2,0,-1), tokens ahead (1,0,3) or (1,1), w = 0.35
static void known_gradients(void** state) {
    (void)state;
    const float z[8] = {1, 2, 0, -1, NAN, NAN, NAN, NAN}, one = 1;
    const struct {
        int K, tokens[4];
        double total, dz[4];
    } cases[] = {{3, {2, 1, 0, 3}, 1.294256, {0.144792, -0.130716, 0.117645, -0.131721}},
                 {2, {2, 1, 1, 0}, 0.594256, {0.319792, -0.480716, 0.117645, 0.043279}}};
    for (int i = 0; i < 2; i++) {
        char line[100];
        snprintf(line, sizeof(line), "--mtp_enabled --mtp_max_steps %d --mtp_weight 0.35 --mtp_rampup_steps 0", cases[i].K);
        Objective o = only_mtp(schedule(line, 10));
        Model m = {};
        StepState* s = (StepState*)buffer_bytes(NULL, sizeof(StepState));
        m.state = s;
        objective_start(&o, &m, 3);
        Micro micro = {buffer_i(cases[i].tokens, 4), NULL, 1, 1, false};
        floatX* logits = buffer_x(z, 8);
        float* losses = buffer_f(NULL, 3);
        classifier(logits, losses, 1, training_targets(&m, &micro), 1.0f, buffer_f(&one, 1), 1, 4, 8, true, false, 0);
        const float *dz = host_x(logits, 8), *ce = host_f(losses, 3);
        double plain[STEP_TOKENS] = {ce[0], ce[1], ce[2]};
        assert_off(objective_total(&m.targets, plain), cases[i].total, 2e-6, "case %d: total", i);
        for (int v = 0; v < 4; v++) assert_close(dz[v], cases[i].dz[v], 2e-6, "case %d: gradient of class %d", i, v);
        for (int v = 4; v < 8; v++) assert_true(dz[v] == 0);
    }
}

// Five steps from the same start. o: the objective, NULL: none was ever named.
static Trace train_steps(const char* arch, const Objective* o) {
    Model m;
    StepWeights weights[STEPS + 1] = {};
    open_tiny(&m, arch, NULL);
    for (int step = 0; step <= STEPS; step++) {
        if (o) weights[step] = objective_weights(o, step);
        else weights[step].token[0] = 1.0f;
    }
    Trace t = trace_steps(&m, weights, 0);
    model_free(&m);
    return t;
}

static void weight_zero_is_absent(void** state) {
    (void)state;
    Objective zero = only_mtp(schedule("--mtp_enabled --mtp_max_steps 4 --mtp_weight 0", 100));
    Objective later = only_mtp(schedule("--mtp_enabled --mtp_max_steps 3 --mtp_weights 1,0,0/1,0.5,0.25", 20));
    Objective heavy = only_mtp(schedule("--mtp_enabled --mtp_weight 0.5 --mtp_rampup_steps 4", 20));
    const char* const archs[] = {"gpt2", "nocap"};
    for (int a = 0; a < 2; a++) {
        Trace absent = train_steps(archs[a], NULL), same = train_steps(archs[a], &zero);
        assert_memory_equal(absent.values, same.values, absent.bytes), free(same.values);
        same = train_steps(archs[a], &later);
        assert_memory_equal(absent.values, same.values, absent.bytes), free(same.values);
        Trace other = train_steps(archs[a], &heavy);  // rises from 0: the first step is the same, the second is not
        assert_memory_equal(absent.values, other.values, absent.step_bytes);
        assert_memory_not_equal((char*)absent.values + absent.step_bytes, (char*)other.values + absent.step_bytes,
                                absent.step_bytes);
        free(other.values), free(absent.values);
    }
}

// The weights that an update carries are on the device when the next micro-step runs, and that step's losses are all measured.
static void weights_ride_along(void** state) {
    (void)state;
    Model m;
    int tokens[TOKENS], order[N * STEPS];
    open_tiny(&m, "nocap", NULL);
    make_batches(tokens, order);
    Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
    Objective o =
        only_mtp(schedule("--mtp_enabled --mtp_max_steps 3 --mtp_weight 0.3 --mtp_rampup_steps 3 --mtp_decay_start 0.75", 8));
    StepInputs in = {};
    in.lr = 1e-3f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.scale_loss = PRECISION == PRECISION_FP16;
    for (int k = 0; k < STEP_LOSSES; k++) in.loss_factor[k] = 1.0f / N;
    objective_start(&o, &m, 0);
    for (int step = 0; step < 8; step++) {
        float expected[MTP_MAX], found[MTP_MAX];
        int count = mtp_weights_at(&o.mtp, step, expected);
        copy_to_host(found, m.state->in.next.token, sizeof(found));
        assert_memory_equal(expected, found, sizeof(found));
        assert_int_equal(targets_count(&m), count);
        model_micro_step(&m, &micro, 1);
        model_update(&m, in, objective_weights(&o, step + 1));
        StepState s;
        copy_to_host(&s, m.state, sizeof(s));
        for (int k = 0; k < count; k++) {
            double sum = 0;
            const float* losses = host_f(m.losses + k * N, N);
            for (int n = 0; n < N; n++) sum += losses[n];
            assert_off(s.losses[k], sum / N, 1e-5, "step %d, loss %d", step, k + 1);
        }
    }
    model_free(&m);
}

// Entry k is the token k ahead, and measuring more of them changes no bit of the first.
static void offsets_are_measured(void** state) {
    (void)state;
    Model m;
    int tokens[TOKENS], order[N * STEPS];
    open_tiny(&m, "gpt2", NULL);
    make_batches(tokens, order);
    Micro micro = {buffer_i(tokens, TOKENS), NULL, B, T, true};  // as in validation: losses add up over batches
    float first[3][N], probs[V];
    for (int i = 0; i < 3; i++) {
        const int counts[] = {1, 3, MTP_MAX};
        float* zeros = (float*)xcalloc(STEP_LOSSES * N * sizeof(float));
        copy_to_device(m.losses, zeros, STEP_LOSSES * N * sizeof(float));
        free(zeros);
        for (int batch = 0; batch < 3; batch++) {
            micro.tokens += batch;
            model_forward(&m, micro.tokens, B, T);
            head_loss(&m, &micro, counts[i] == 1 ? next_token(&m, &micro) : measured_targets(&m, &micro, counts[i]), 0.0f, false);
            micro.tokens -= batch;
        }
        copy_to_host(first[i], m.losses, N * sizeof(float));
    }
    assert_memory_equal(first[0], first[1], sizeof(first[0]));
    assert_memory_equal(first[0], first[2], sizeof(first[0]));
    micro.accumulate = false;
    model_forward(&m, micro.tokens, B, T);
    head_loss(&m, &micro, measured_targets(&m, &micro, MTP_MAX), 0.0f, false);
    const float* losses = host_f(m.losses, MTP_MAX * N);
    for (int n = 0; n < N; n += 5) {
        head_probs(&m, n, probs);
        for (int k = 1; k <= MTP_MAX; k++) {
            assert_off(losses[(k - 1) * N + n], -log(probs[tokens[n + k]]), 1e-4, "position %d, %d ahead", n, k);
        }
    }
    model_free(&m);
}

static double total_loss(Model* m, const Micro* micro) {
    double sum = 0;
    model_forward(m, micro->tokens, B, T);
    head_loss(m, micro, training_targets(m, micro), 0.0f, false);
    int count = targets_count(m) * N;
    const float* losses = host_f(m->losses, (size_t)count);
    for (int i = 0; i < count; i++) sum += (double)m->targets.token[i / N] * losses[i] / N;
    return sum;
}

static void finite_differences(void** state) {
    (void)state;
    if (!slopes_mean_something()) skip();
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    Objective o = only_mtp(schedule("--mtp_enabled --mtp_max_steps 3 --mtp_weights 1,0.7,0.4", 10));
    for (int a = 0; a < 2; a++) {
        Model m;
        open_tiny(&m, a ? "nocap" : "gpt2", NULL);
        objective_start(&o, &m, 0);
        Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
        check_slopes(&m, &micro, total_loss);
        model_free(&m);
        assert_int_equal(release_buffers(state), 0);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(rises_from_zero),        TEST(shares_of_the_offsets), TEST(falls_to_zero),         TEST(parts_of_the_run),
        TEST(refuses_contradictions), TEST(known_gradients),       TEST(weight_zero_is_absent), TEST(weights_ride_along),
        TEST(offsets_are_measured),   TEST(finite_differences),
    };
    return cmocka_run_group_tests_name("multi-token prediction " PRECISION_NAME, tests, NULL, NULL);
}
