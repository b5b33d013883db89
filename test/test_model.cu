// The whole model: against recorded tensors, and the properties that need none.
#include "llmc/model/setup.cuh"
#include "test/gold.h"
#include "test/gold_check.h"

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
    model_init_weights(m, seed);
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

static Micro micro_of(const int* tokens, const int* order, int B, int T, bool accumulate) {
    Micro micro = {tokens, order, B, T, accumulate};
    return micro;
}

UNUSED static void random_tokens(int* tokens, int count, int V, uint64_t seed) {
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
    for (int id = 0; id < m.table.count; id++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "init:%s", m.table.rows[id].name);
        gold_check_sketch(g, tensor, m.masters + m.table.rows[id].offset, PRECISION);
    }
    Micro micro = micro_of(tokens, order, B, T, false);
    model_micro_step(&m, &micro, 1);
    gold_check(g, "losses", m.losses, PRECISION);
    float scale = m.state->scaler.scale;
    for (size_t i = 0; i < m.table.size; i++) m.grads[i] /= scale;
    for (int id = 0; id < m.table.count; id++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "grad:%s", m.table.rows[id].name);
        gold_check_sketch(g, tensor, grad(&m, id), PRECISION);
    }
    for (int v = m.config.V; v < m.config.Vp; v++) {
        for (int c = 0; c < m.config.C; c++) assert_true(grad(&m, m.lm_head)[v * m.config.C + c] == 0.0f);
    }
    free(order);
    model_free(&m);
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
        model_update(&m, step_inputs(rates[step], decay, clip, N, A), 1);
        assert_int_equal(m.state->skip, 0);
        losses[step] = m.state->losses[0];
        norms[step] = m.state->grad_norm;
    }
    gold_check(g, "losses", losses, PRECISION);
    gold_check(g, "norms", norms, PRECISION);
    for (int id = 0; id < m.table.count; id++) {
        char tensor[80];
        snprintf(tensor, sizeof(tensor), "final:%s", m.table.rows[id].name);
        if (!gold_find(g, tensor)) continue;  // key biases: their exact gradient is 0, Adam turns rounding into steps
        gold_check_sketch(g, tensor, m.masters + m.table.rows[id].offset, PRECISION);
    }
    free(order), free(losses), free(norms);
    model_free(&m);
    gold_close(g);
}

static void golden_curve_gpt2(void** state) { (void)state, check_golden_curve("gpt2", "curve_gpt2"); }
static void golden_curve_nocap(void** state) { (void)state, check_golden_curve("nocap", "curve_nocap"); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_gpt2),         cmocka_unit_test(golden_gpt2_untied),  cmocka_unit_test(golden_nocap),
        cmocka_unit_test(golden_nocap_untied), cmocka_unit_test(golden_curve_gpt2),   cmocka_unit_test(golden_curve_nocap),
    };
    return cmocka_run_group_tests_name("model " PRECISION_NAME, tests, NULL, NULL);
}
