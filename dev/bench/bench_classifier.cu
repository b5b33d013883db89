/*
What a further target costs: the classifier over 128 rows of 50257 classes, and a whole training step, with one target per
position and with more. All lists take turns in one loop, because a machine that others use changes more between two loops than
a target costs; the best times are then compared with those of one target.

    shifted K     the tokens 1 .. K ahead, weights shared by all rows (multi-token prediction)
    explicit 17   a list of ids and weights per row: the next token and 16 others
    n-grams 16    the next token and a row of 16 in a table of 50257 (6.4 MB); corrected: CoCoNT's estimator
    heads         d12: a micro-step without the optimizer, with separate heads for the tokens 2 .. K ahead
    step, K       d6: forward, loss, backward and AdamW with K shifted targets
*/
#include "../../llmc/model/setup.cuh"
#include "bench.h"

enum { N = 256, ROWS = 128, V = 50257, VP = 50304, LISTS = 7, MOST = 17 };

static void compare(const char* what, const char* name, double* seconds, int n, double* one) {
    Timing t = bench_timing(seconds, n);
    if (!*one) *one = t.best;
    printf("%-22s %-22s %9.3f ms %9.3f ms   %.4f of one target\n", what, name, t.best * 1e3, t.median * 1e3, t.best / *one);
    fflush(stdout);
}

// Rows of 16 followers anywhere in the vocabulary.
static SoftTable bench_table(const int* rows, const float* alpha) {
    enum { K = 16 };
    int* ids = (int*)xmalloc((size_t)V * K * sizeof(int));
    float *probs = (float*)xmalloc((size_t)V * K * sizeof(float)), *covered = (float*)xmalloc((size_t)V * sizeof(float));
    for (size_t i = 0; i < (size_t)V * K; i++) ids[i] = (int)((uint32_t)i * 2246822519u % V), probs[i] = 1.0f / K;
    for (int v = 0; v < V; v++) covered[v] = 0.6f;
    SoftTable t = {ids, probs, covered, rows, alpha, 1.5f, K, LOSS_NGRAM, 0, ROWS};
    return t;
}

static void bench_lists(int repeats) {
    static double seconds[LISTS][BENCH_MAX_REPEATS];
    static const char* const names[LISTS] = {
        "shifted 1", "shifted 2", "shifted 4", "shifted 8", "explicit 17", "n-grams 16", "n-grams 16, corrected"};
    static const int counts[LISTS] = {1, 2, 4, 8, MOST, 1, 1};
    static int tokens[ROWS + 8], ids[ROWS * MOST];
    static float weights[ROWS * MOST], losses[MOST * ROWS];
    static const float alpha = 0.1f;
    floatX* logits = (floatX*)device_malloc((size_t)ROWS * VP * sizeof(floatX), "bench");
    float one[] = {1.0f};
    double best = 0;
    for (int i = 0; i < ROWS + 8; i++) tokens[i] = (int)((uint32_t)i * 2654435761u % V);
    for (int i = 0; i < ROWS * MOST; i++) ids[i] = (int)((uint32_t)i * 2246822519u % V), weights[i] = 1.0f / (1 + i % MOST);
    SoftTable table = bench_table(tokens, &alpha);
    for (int i = -1; i < repeats; i++) {
        for (int list = 0; list < LISTS; list++) {
            Targets shifted = targets_list(tokens + 1, weights, counts[list], 1, 1, 0);
            Targets explicit_ids = targets_list(ids, weights, MOST, MOST, 1, MOST);
            for (size_t n = 0; n < (size_t)ROWS * VP; n++) from_float(&logits[n], 0.01f * (float)(n * 7919 % 1000) - 5.0f);
            double start = bench_now();
            if (list >= 5) shifted.tables = 1, shifted.table[0] = table;
            if (list == 5) shifted.table[0].covered = NULL;
            classifier(logits, losses, ROWS, list == 4 ? explicit_ids : shifted, 1e-3f, one, ROWS, V, VP, true, false, 0);
            if (i >= 0) seconds[list][i] = bench_now() - start;
        }
        bench_look_at_ceiling();
    }
    for (int list = 0; list < LISTS; list++) compare("classifier, 128 rows", names[list], seconds[list], repeats, &best);
    device_free(logits, (size_t)ROWS * VP * sizeof(floatX));
}

static void bench_steps(int repeats) {
    static double seconds[3][BENCH_MAX_REPEATS];
    static const int counts[3] = {1, 2, 4};
    Config c = {};
    c.L = 6, c.NH = 6, c.C = 384, c.V = V, c.B = 1, c.T = N, c.tied = true;
    config_arch(&c, "nocap");
    Model m = {};
    model_declare(&m, c, true);
    model_allocate(&m, false, true);
    model_plan_shape(&m, c.B, c.T);
    model_init_weights(&m, 1);
    static int tokens[N + 8], order[N];
    for (int n = 0; n < N + 8; n++) tokens[n] = n * 160;  // rising: the order is the identity
    for (int n = 0; n < N; n++) order[n] = n;
    Micro micro = {tokens, order, c.B, c.T, false};
    StepInputs in = {};
    in.lr = 1e-4f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f;
    for (int k = 0; k < STEP_LOSSES; k++) in.loss_factor[k] = 1.0f / N;
    double best = 0;
    for (int i = -1; i < repeats; i++) {
        for (int list = 0; list < 3; list++) {
            StepWeights weights = {};
            for (int k = 0; k < counts[list]; k++) weights.token[k] = k ? 0.1f : 1.0f;
            targets_start(&m, weights);
            double start = bench_now();
            model_micro_step(&m, &micro, 1);
            model_update(&m, in, weights);
            if (i >= 0) seconds[list][i] = bench_now() - start;
        }
    }
    for (int list = 0; list < 3; list++) {
        char name[32];
        snprintf(name, sizeof(name), "nocap_d6, K = %d", counts[list]);
        compare("step", name, seconds[list], repeats, &best);
    }
    model_free(&m);
}

// 123.5M multiplications a token without them; a linear head has 38.6M more: 1.31 times with one, 1.62 with two.
static void bench_heads(int repeats) {
    enum { CASES = 5 };
    static double seconds[CASES][BENCH_MAX_REPEATS];
    static const char* const names[CASES] = {"next token alone", "proj, K = 2", "linear, K = 2", "linear, K = 3",
                                             "linear, 2, consistency"};
    static Model models[2];  // linear and proj; a head without weight is not there
    static int tokens[N + 8], order[N];
    for (int n = 0; n < N + 8; n++) tokens[n] = n * 160;
    for (int n = 0; n < N; n++) order[n] = n;
    for (int i = 0; i < 2; i++) {
        Config c = {};
        c.L = 12, c.NH = 12, c.C = 768, c.V = V, c.B = 1, c.T = N, c.tied = true;
        c.aux.ahead = (AheadConfig){i ? AHEAD_PROJ : AHEAD_LINEAR, i ? 2 : 3, 2, 1.0f, false};
        config_arch(&c, "nocap");
        model_declare(&models[i], c, true);
        model_allocate(&models[i], false, true);
        model_plan_shape(&models[i], c.B, c.T);
        model_init_weights(&models[i], 1);
    }
    Micro micro = {tokens, order, 1, N, false};
    double best = 0;
    for (int i = -1; i < repeats; i++) {
        for (int k = 0; k < CASES; k++) {
            Model* m = &models[k == 1];
            StepWeights weights = {};
            weights.token[0] = 1.0f, weights.token[1] = k > 0 ? 0.1f : 0.0f, weights.token[2] = k == 3 ? 0.1f : 0.0f;
            weights.consistency = k == 4 ? 0.01f : 0.0f;
            targets_start(m, weights);
            double start = bench_now();
            model_micro_step(m, &micro, 1);
            if (i >= 0) seconds[k][i] = bench_now() - start;
        }
    }
    for (int k = 0; k < CASES; k++) compare("micro-step, d12", names[k], seconds[k], repeats, &best);
    for (int i = 0; i < 2; i++) model_free(&models[i]);
}

int main(int argc, char** argv) {
    int repeats = argc > 1 ? atoi(argv[1]) : 30;
    if (repeats < 1 || repeats > BENCH_MAX_REPEATS) usage_error("repeats: 1..%d", BENCH_MAX_REPEATS);
    bench_begin("further targets");
    bench_lists(repeats);
    bench_steps(repeats / 3 + 1);
    bench_heads(repeats / 10 + 1);
    return 0;
}
