// The whole model: against recorded tensors, and the properties that need none. Nothing is read where it lies: in the emulation
// and on a GPU that is device memory.
#include "buffer.h"
#include "gold.h"

#include "llmc/model/nonfinite.cuh"
#include "llmc/model/setup.cuh"

static Config tiny_config(const char* arch, int B, int T, bool tied) {
    Config c = {};
    c.L = 2, c.NH = 4, c.C = 64, c.V = 259, c.B = B, c.T = T, c.tied = tied;
    config_arch(&c, arch);
    return c;
}

static void open_model(Model* m, Config c, uint64_t seed) {
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_plan_shape(m, c.B, c.T);
    model_init_weights(m, seed);
}

// Frees the model; in builds with guard zones looks at them first.
static void close_model(Model* m) {
    const Arena* arenas[] = {&m->parameters, &m->gradients, &m->optimizer, &m->activations};
    device_sync();
    for (int i = 0; i < 4; i++) {
        if (ARENA_GUARD > 0 && arenas[i]->base) arena_check(arenas[i]);
    }
    model_free(m);
}

static StepState state_of(const Model* m) {
    StepState state;
    copy_to_host(&state, m->state, sizeof(state));
    return state;
}

// Stable counting order of the first N tokens, as the loader makes it.
static void sort_order(int* order, const int* tokens, int N, int V) {
    int at = 0;
    for (int v = 0; v < V; v++) {
        for (int n = 0; n < N; n++) {
            if (tokens[n] == v) order[at++] = n;
        }
    }
}

// tokens (B*T + 1) and order (B*T, or NULL): host memory. The copies live until the test ends.
static Micro micro_of(const int* tokens, const int* order, int B, int T, bool accumulate) {
    Micro micro = {buffer_i(tokens, (size_t)B * T + 1), order ? buffer_i(order, (size_t)B * T) : NULL, B, T, accumulate};
    return micro;
}

static void random_tokens(int* tokens, int count, int V, uint64_t seed) {
    Rng rng = rng_start(seed, "tokens");
    for (int i = 0; i < count; i++) tokens[i] = (int)rng_below(&rng, (uint64_t)V);
}

static StepInputs step_inputs(float lr, float decay, float clip, int N, int micro_steps) {
    StepInputs in = {};
    in.lr = lr, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.weight_decay = decay, in.grad_clip = clip;
    in.scale_loss = PRECISION == PRECISION_FP16;
    in.loss_factor[0] = 1.0f / ((float)N * micro_steps);
    return in;
}

static void check_golden_model(const char* arch, const char* name, bool tied) {
    Gold* g = gold_open(name);
    int B = gold_int(g, "B"), T = gold_int(g, "T"), N = B * T;
    Model m;
    open_model(&m, tiny_config(arch, B, T, tied), 42);
    const int* tokens = gold_ints(g, "tokens");
    int* order = (int*)xmalloc(sizeof(int) * N);
    sort_order(order, tokens, N, m.config.V);
    const float* masters = host_f(m.masters, m.table.size);
    for (int id = 0; id < m.table.count; id++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "init:%s", m.table.rows[id].name);
        gold_check_sketch(g, tensor, masters + m.table.rows[id].offset, PRECISION);
    }
    Micro micro = micro_of(tokens, order, B, T, false);
    model_micro_step(&m, &micro, 1);
    gold_check(g, "losses", host_f(m.losses, N), PRECISION);
    float scale = state_of(&m).scaler.scale, *grads = host_f(m.grads, m.table.size);
    for (size_t i = 0; i < m.table.size; i++) grads[i] /= scale;
    for (int id = 0; id < m.table.count; id++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "grad:%s", m.table.rows[id].name);
        gold_check_sketch(g, tensor, grads + m.table.rows[id].offset, PRECISION);
    }
    const float* head = grads + m.table.rows[m.lm_head].offset;
    for (int i = m.config.V * m.config.C; i < m.config.Vp * m.config.C; i++) assert_true(head[i] == 0.0f);
    free(order);
    close_model(&m);
    gold_close(g);
}

static void golden_gpt2(void** state) { (void)state, check_golden_model("gpt2", "model_gpt2", true); }
static void golden_gpt2_untied(void** state) { (void)state, check_golden_model("gpt2", "model_gpt2_untied", false); }
static void golden_nocap(void** state) { (void)state, check_golden_model("nocap", "model_nocap", true); }
static void golden_nocap_untied(void** state) { (void)state, check_golden_model("nocap", "model_nocap_untied", false); }

static void check_golden_curve(const char* arch, const char* name) {
    Gold* g = gold_open(name);
    int B = gold_int(g, "B"), T = gold_int(g, "T"), N = B * T, steps = gold_int(g, "steps"), A = gold_int(g, "accumulation");
    Model m;
    open_model(&m, tiny_config(arch, B, T, true), 42);
    const int* tokens = gold_ints(g, "tokens");
    const float* rates = gold_floats(g, "rates");
    int* order = (int*)xmalloc(sizeof(int) * N);
    float *losses = (float*)xmalloc(sizeof(float) * steps), *norms = (float*)xmalloc(sizeof(float) * steps);
    for (int step = 0; step < steps; step++) {
        for (int a = 0; a < A; a++) {
            const int* at = tokens + (step * A + a) * N;
            sort_order(order, at, N, m.config.V);
            Micro micro = micro_of(at, order, B, T, a > 0);
            model_micro_step(&m, &micro, A);
        }
        float decay = (float)gold_param(g, "weight_decay"), clip = (float)gold_param(g, "grad_clip");
        model_update(&m, step_inputs(rates[step], decay, clip, N, A), m.targets);
        StepState state = state_of(&m);
        assert_int_equal(state.skip, 0);
        losses[step] = state.losses[0];
        norms[step] = state.grad_norm;
    }
    gold_check(g, "losses", losses, PRECISION);
    gold_check(g, "norms", norms, PRECISION);
    const float* masters = host_f(m.masters, m.table.size);
    for (int id = 0; id < m.table.count; id++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "final:%s", m.table.rows[id].name);
        if (!gold_find(g, tensor)) continue;  // key biases: their exact gradient is 0, Adam turns rounding into steps
        gold_check_sketch(g, tensor, masters + m.table.rows[id].offset, PRECISION);
    }
    free(order), free(losses), free(norms);
    close_model(&m);
    gold_close(g);
}

static void golden_curve_gpt2(void** state) { (void)state, check_golden_curve("gpt2", "curve_gpt2"); }
static void golden_curve_nocap(void** state) { (void)state, check_golden_curve("nocap", "curve_nocap"); }

// ---------------------------------------------------------------------------------------------------------------------
// Properties

typedef struct {
    float *losses, *grads;  // (N), (table.size)
    size_t size;
} Outcome;

// Losses and gradients of one step of A micro-steps of B rows each; change, if given, edits the model before it runs.
static Outcome run_step(Config c, const int* tokens, int A, void (*change)(Model*)) {
    Model m;
    open_model(&m, c, 7);
    if (change) change(&m);
    int N = c.B * c.T;
    int* order = (int*)xmalloc(sizeof(int) * N);
    for (int a = 0; a < A; a++) {
        sort_order(order, tokens + a * N, N, c.V);
        Micro micro = micro_of(tokens + a * N, order, c.B, c.T, a > 0);
        model_micro_step(&m, &micro, A);
    }
    Outcome o = {(float*)xmalloc(sizeof(float) * N), (float*)xmalloc(sizeof(float) * m.table.size), m.table.size};
    copy_to_host(o.losses, m.losses, sizeof(float) * N);
    copy_to_host(o.grads, m.grads, sizeof(float) * m.table.size);
    free(order);
    close_model(&m);
    return o;
}

static void outcome_free(Outcome* o) { free(o->losses), free(o->grads); }

static double relative_difference(const float* a, const float* b, size_t n) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) difference += pow((double)a[i] - b[i], 2), norm += pow(a[i], 2);
    return sqrt(difference / norm);
}

static void assert_same_bits(const float* a, const float* b, size_t n) { assert_memory_equal(a, b, n * sizeof(float)); }

static const char* const ARCHS[] = {"gpt2", "nocap"};
enum { ODD_T = GPU_EXECUTION ? 36 : 33 };  // no multiple of any tile; a GPU multiplies rows by eights

// One batch of 4 rows = two micro-steps of 2 rows: what an accumulation that stores, or a scale that is off, would break.
static void accumulation(void** state) {
    (void)state;
    int tokens[4 * 24 + 1];
    random_tokens(tokens, 4 * 24 + 1, 259, 3);
    for (int a = 0; a < 2; a++) {
        for (int tied = 0; tied < 2; tied++) {
            Outcome one = run_step(tiny_config(ARCHS[a], 4, 24, tied), tokens, 1, NULL);
            Outcome two = run_step(tiny_config(ARCHS[a], 2, 24, tied), tokens, 2, NULL);
            double d = relative_difference(one.grads, two.grads, one.size), allowed[] = {2e-6, 2e-2, 3e-3};
            if (!(d < allowed[PRECISION])) fail_msg("%s tied %d: gradients differ by %g", ARCHS[a], tied, d);
            outcome_free(&one), outcome_free(&two);
        }
    }
}

static void recompute_is_the_same(void** state) {
    (void)state;
    int tokens[2 * ODD_T + 1];
    random_tokens(tokens, 2 * ODD_T + 1, 259, 4);
    for (int a = 0; a < 2; a++) {
        Config c = tiny_config(ARCHS[a], 2, ODD_T, true);
        c.L = 3;
        config_arch(&c, ARCHS[a]);
        Outcome kept = run_step(c, tokens, 1, NULL);
        for (int r = RECOMPUTE_GELU; r <= RECOMPUTE_BLOCK; r++) {
            c.recompute = (Recompute)r;
            Outcome again = run_step(c, tokens, 1, NULL);
            assert_same_bits(kept.losses, again.losses, 2 * ODD_T);
            assert_same_bits(kept.grads, again.grads, kept.size);
            outcome_free(&again);
        }
        outcome_free(&kept);
    }
}

static void chunks_of_16(Model* m) { m->chunk_rows = 16; }

// The head in chunks of rows (with a last, shorter one) = the head at once.
static void chunks_are_the_whole(void** state) {
    (void)state;
    int tokens[2 * 20 + 1];
    random_tokens(tokens, 2 * 20 + 1, 259, 5);
    Outcome whole = run_step(tiny_config("nocap", 2, 20, true), tokens, 1, NULL);
    Outcome chunks = run_step(tiny_config("nocap", 2, 20, true), tokens, 1, chunks_of_16);
#ifdef __CUDACC__  // a library may add up 16 rows in another order than 40
    const double allowed = 1e-2;
    assert_true(relative_difference(whole.losses, chunks.losses, 40) < allowed);
#else
    const double allowed = 1e-5;
    assert_same_bits(whole.losses, chunks.losses, 40);
#endif
    assert_true(relative_difference(whole.grads, chunks.grads, whole.size) < allowed);
    outcome_free(&whole), outcome_free(&chunks);
}

// After an update, the same batch gives the same gradients: what is only ever added to has been cleared.
static void updates_leave_no_gradient(void** state) {
    enum { B = 2, T = 16, N = B * T };
    (void)state;
    int tokens[N + 1], order[N];
    random_tokens(tokens, N + 1, 259, 6);
    sort_order(order, tokens, N, 259);
    for (int a = 0; a < 4; a++) {
        Model m;
        open_model(&m, tiny_config(ARCHS[a / 2], B, T, a % 2), 7);
        float* grads[2];
        for (int step = 0; step < 2; step++) {
            Micro micro = micro_of(tokens, order, B, T, false);
            model_micro_step(&m, &micro, 1);
            grads[step] = host_f(m.grads, m.table.size);
            model_update(&m, step_inputs(0.0f, 0.1f, 1.0f, N, 1), m.targets);  // a learning rate of 0 keeps the weights
        }
        assert_same_bits(grads[0], grads[1], m.table.size);
        close_model(&m);
    }
}

// What model_plan_shape planned is all that a step asks a library for: both micro-steps, a last chunk that is shorter, a sample.
static void steps_plan_nothing(void** state) {
    enum { B = 2, T = 40, N = B * T };
    (void)state;
    int tokens[N + 1], order[N];
    float probs[259];
    random_tokens(tokens, N + 1, 259, 12);
    sort_order(order, tokens, N, 259);
    for (int a = 0; a < 2; a++) {
        Model m;
        open_model(&m, tiny_config(ARCHS[a], B, T, true), 7);
        m.chunk_rows = 48;
        model_plan_shape(&m, B, T);
        int products = m.gemm.plans_made, attention = m.attention.plans_made;
        for (int k = 0; k < 2; k++) {
            Micro micro = micro_of(tokens, order, B, T, k > 0);
            model_micro_step(&m, &micro, 2);
        }
        model_update(&m, step_inputs(1e-3f, 0.1f, 1.0f, N, 2), m.targets);
        head_probs(&m, N - 1, probs);
        assert_int_equal(m.gemm.plans_made, products);
        assert_int_equal(m.attention.plans_made, attention);
        assert_false(m.attention.fallback_announced);
        close_model(&m);
    }
}

static void threads_give_the_same(void** state) {
    (void)state;
    int tokens[2 * 32 + 1], threads = device_teams(1);
    random_tokens(tokens, 2 * 32 + 1, 259, 6);
    for (int a = 0; a < 2; a++) {
        device_threads(1);
        Outcome one = run_step(tiny_config(ARCHS[a], 2, 32, true), tokens, 1, NULL);
        for (int count = 2; count <= 3; count++) {  // in the emulation: random order above, then forward, then reverse
            device_threads(count);
            Outcome many = run_step(tiny_config(ARCHS[a], 2, 32, true), tokens, 1, NULL);
            device_threads(threads);
            assert_same_bits(one.losses, many.losses, 64);
            assert_true(relative_difference(one.grads, many.grads, one.size) < 1e-5);
            if (GPU_EXECUTION) assert_same_bits(one.grads, many.grads, one.size);
            outcome_free(&many);
        }
        outcome_free(&one);
    }
}

// A changed token moves nothing before it in its row, and something behind it. Other rows do not notice.
static void causality(void** state) {
    (void)state;
    enum { B = 2, T = ODD_T, C = 64 };
    int tokens[B * T + 1];
    random_tokens(tokens, B * T + 1, 259, 8);
    for (int a = 0; a < 2; a++) {
        Model m;
        open_model(&m, tiny_config(ARCHS[a], B, T, true), 7);
        model_forward(&m, buffer_i(tokens, B * T + 1), B, T);
        const float* before = host_x(m.yf, B * T * C);
        int at = 17, saved = tokens[at];
        tokens[at] = (saved + 1) % 259;
        model_forward(&m, buffer_i(tokens, B * T + 1), B, T);
        tokens[at] = saved;
        const float* after = host_x(m.yf, B * T * C);
        assert_memory_equal(before, after, sizeof(float) * at * C);
        assert_memory_equal(before + T * C, after + T * C, sizeof(float) * T * C);
        for (int t = at; t < T; t++) assert_memory_not_equal(before + t * C, after + t * C, sizeof(float) * C);
        close_model(&m);
    }
}

// The distribution that samples are drawn from sums to one and agrees with the loss.
static void probabilities(void** state) {
    (void)state;
    int tokens[33];
    random_tokens(tokens, 33, 259, 9);
    Model m;
    open_model(&m, tiny_config("gpt2", 1, 32, false), 7);
    Micro micro = micro_of(tokens, NULL, 1, 32, false);
    model_forward(&m, micro.tokens, 1, 32);
    head_loss(&m, &micro, next_token(&m, &micro), 0.0f, false);
    const float* losses = host_f(m.losses, 32);
    float probs[259];
    for (int n = 0; n < 32; n += 31) {
        double sum = 0, loss = losses[n];
        head_probs(&m, n, probs);
        for (int v = 0; v < 259; v++) sum += probs[v];
        assert_true(fabs(sum - 1) < 1e-5);
        assert_true(fabs(-log(probs[tokens[n + 1]]) - loss) < 1e-4);
    }
    close_model(&m);
}

static void nan_in_last_matrix(Model* m) {
    int id = params_find(&m->table, "h.1.mlp.proj.w");
    float nan = NAN;
    copy_to_device(m->masters + m->table.rows[id].offset + 5, &nan, sizeof(nan));
    model_weights_changed(m);
}

// NaN anywhere: the step is refused, and weights and moments stay as they were.
static void nan_never_reaches_the_weights(void** state) {
    (void)state;
    int tokens[2 * 16 + 1], order[32];
    random_tokens(tokens, 33, 259, 10);
    sort_order(order, tokens, 32, 259);
    Model m;
    open_model(&m, tiny_config("nocap", 2, 16, true), 7);
    nan_in_last_matrix(&m);
    const float* before = host_f(m.masters, m.table.size);
    Micro micro = micro_of(tokens, order, 2, 16, false);
    model_micro_step(&m, &micro, 1);
    model_update(&m, step_inputs(1e-2f, 0.1f, 1.0f, 32, 1), m.targets);
    assert_int_equal(state_of(&m).skip, 1);
    assert_int_equal(state_of(&m).steps, 0);
    assert_memory_equal(before, host_f(m.masters, m.table.size), m.table.size * sizeof(float));
    const float *first = host_f(m.m, m.table.size), *second = host_f(m.v, m.table.size);
    for (size_t i = 0; i < m.table.size; i++) assert_true(first[i] == 0.0f && second[i] == 0.0f);
    close_model(&m);
}

// What a report says of a value planted into a gradient, a loss, a parameter, the copy of a parameter that products read.
static void nonfinite_is_found(void** state) {
    (void)state;
    int tokens[2 * 16 + 1], order[32];
    random_tokens(tokens, 33, 259, 12);
    sort_order(order, tokens, 32, 259);
    Model m;
    open_model(&m, tiny_config("gpt2", 2, 16, true), 7);
    Micro micro = micro_of(tokens, order, 2, 16, false);
    model_micro_step(&m, &micro, 1);
    device_sync();
    assert_null(nonfinite_find(&m, 1, 0).name);
    int fc = params_find(&m.table, "h.1.mlp.fc.w");
    assert_true(fc >= 0);
    size_t at = m.table.rows[fc].offset;
    const float values[] = {NAN, -INFINITY, NAN};
    const struct {
        const char* text;
        void* where;
        bool low;
    } plants[] = {
        {"gradient of h.1.mlp.fc.w (layer 1): 2 NaN and 1 infinite of 16384 values, the first is value 5, the others lie in ",
         m.grads + at + 5, false},
        {"the loss: 2 NaN and 1 infinite of 32 values, the first is value 20, ", m.losses + 20, false},
        {"parameter h.1.mlp.fc.w (layer 1): 2 NaN and 1 infinite of 16384 values, the first is value 9, ", m.weights + at + 9,
         true},
        {"parameter wte: 2 NaN and 1 infinite of ", m.masters + m.table.rows[m.wte].offset + 1, false}};
    for (int i = 0; i < 4; i++) {  // each is looked for before those that were planted earlier
        Text t = {0, 0, 0};
        floatX low[3];
        for (int k = 0; k < 3; k++) from_float(&low[k], values[k]);
        if (plants[i].low) copy_to_device(plants[i].where, low, sizeof(low));
        else copy_to_device(plants[i].where, values, sizeof(values));
        NonFinite f = nonfinite_find(&m, 1, 0);
        nonfinite_text(&t, &f);
        if (strncmp(t.data, plants[i].text, strlen(plants[i].text))) fail_msg("\"%s\" is not \"%s..\"", t.data, plants[i].text);
        text_free(&t);
    }
    close_model(&m);
}

// Central differences of the mean loss in the directions of a few weights (fp32 storage only: the others round it away).
static void finite_differences(void** state) {
    (void)state;
    if (PRECISION != PRECISION_FP32) printf("skipped: finite differences: %s storage rounds them away\n", PRECISION_NAME);
    if (PRECISION != PRECISION_FP32) skip();
    int tokens[2 * 16 + 1], order[32];
    random_tokens(tokens, 33, 259, 11);
    sort_order(order, tokens, 32, 259);
    for (int a = 0; a < 2; a++) {
        Model m;
        open_model(&m, tiny_config(ARCHS[a], 2, 16, true), 7);
        Micro micro = micro_of(tokens, order, 2, 16, false);
        model_micro_step(&m, &micro, 1);
        const float* grads = host_f(m.grads, m.table.size);
        for (int id = 0; id < m.table.count; id++) {
            // along the gradient itself, where the slope is its norm and rounding matters least
            const Param* p = &m.table.rows[id];
            size_t n = p->size;
            const float *g = grads + p->offset, *w = host_f(m.masters + p->offset, n);
            double norm = 0, slope = 0;
            for (size_t i = 0; i < n; i++) norm += (double)g[i] * g[i];
            norm = sqrt(norm);
            if (norm < 1e-3) continue;
            float *moved = host_values(n), h = 0.02f;
            for (int sign = 1; sign >= -1; sign -= 2) {
                for (size_t i = 0; i < n; i++) moved[i] = w[i] + sign * h * (float)(g[i] / norm);
                copy_to_device(m.masters + p->offset, moved, n * sizeof(float));
                model_forward(&m, micro.tokens, 2, 16);
                head_loss(&m, &micro, next_token(&m, &micro), 0.0f, false);
                const float* losses = host_f(m.losses, 32);
                for (int r = 0; r < 32; r++) slope += sign * (double)losses[r] / 32 / (2 * h);
            }
            copy_to_device(m.masters + p->offset, w, n * sizeof(float));
            if (fabs(slope - norm) > 0.01 * norm + 2e-4) fail_msg("%s %s: slope %g, gradient %g", ARCHS[a], p->name, slope, norm);
        }
        close_model(&m);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(golden_gpt2),
        TEST(golden_gpt2_untied),
        TEST(golden_nocap),
        TEST(golden_nocap_untied),
        TEST(golden_curve_gpt2),
        TEST(golden_curve_nocap),
        TEST(accumulation),
        TEST(recompute_is_the_same),
        TEST(chunks_are_the_whole),
        TEST(steps_plan_nothing),
        TEST(threads_give_the_same),
        TEST(causality),
        TEST(updates_leave_no_gradient),
        TEST(probabilities),
        TEST(nan_never_reaches_the_weights),
        TEST(nonfinite_is_found),
        TEST(finite_differences),
    };
    return cmocka_run_group_tests_name("model " PRECISION_NAME, tests, NULL, NULL);
}
