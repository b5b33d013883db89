/*
What a further target costs: the classifier over 128 rows of 50257 classes, and a whole training step, with one target per
position and with more. All lists take turns in one loop, because a machine that others use changes more between two loops than
a target costs; the best times are then compared with those of one target.

    shifted K     the tokens 1 .. K ahead, weights shared by all rows (multi-token prediction)
    explicit 17   a list of ids and weights per row: the next token and 16 others (an n-gram's)
    step, K       d6: forward, loss, backward and AdamW with K shifted targets
*/
#include "../../llmc/model/setup.cuh"
#include "bench.h"

enum { N = 256, ROWS = 128, V = 50257, VP = 50304, LISTS = 5, MOST = 17 };

static void compare(const char* what, const char* name, double* seconds, int n, double* one) {
    Timing t = bench_timing(seconds, n);
    if (!*one) *one = t.best;
    printf("%-22s %-22s %9.3f ms %9.3f ms   %.4f of one target\n", what, name, t.best * 1e3, t.median * 1e3, t.best / *one);
    fflush(stdout);
}

static void bench_lists(int repeats) {
    static double seconds[LISTS][BENCH_MAX_REPEATS];
    static const char* const names[LISTS] = {"shifted 1", "shifted 2", "shifted 4", "shifted 8", "explicit 17"};
    static const int counts[LISTS] = {1, 2, 4, 8, MOST};
    static int tokens[ROWS + 8], ids[ROWS * MOST];
    static float weights[ROWS * MOST], losses[MOST * ROWS];
    floatX* logits = (floatX*)device_malloc((size_t)ROWS * VP * sizeof(floatX), "bench");
    float one[] = {1.0f};
    double best = 0;
    for (int i = 0; i < ROWS + 8; i++) tokens[i] = (int)((uint32_t)i * 2654435761u % V);
    for (int i = 0; i < ROWS * MOST; i++) ids[i] = (int)((uint32_t)i * 2246822519u % V), weights[i] = 1.0f / (1 + i % MOST);
    for (int i = -1; i < repeats; i++) {
        for (int list = 0; list < LISTS; list++) {
            Targets shifted = {tokens + 1, weights, counts[list], 1, 1, 0}, explicit_ids = {ids, weights, MOST, MOST, 1, MOST};
            for (size_t n = 0; n < (size_t)ROWS * VP; n++) from_float(&logits[n], 0.01f * (float)(n * 7919 % 1000) - 5.0f);
            double start = bench_now();
            classifier(logits, losses, ROWS, list == LISTS - 1 ? explicit_ids : shifted, 1e-3f, one, ROWS, V, VP, true, false, 0);
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
            TargetList targets = {{1.0f, 0.1f, 0.1f, 0.1f}, counts[list]};
            targets_start(&m, targets);
            double start = bench_now();
            model_micro_step(&m, &micro, 1);
            model_update(&m, in, counts[list]);
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

int main(int argc, char** argv) {
    int repeats = argc > 1 ? atoi(argv[1]) : 30;
    if (repeats < 1 || repeats > BENCH_MAX_REPEATS) usage_error("repeats: 1..%d", BENCH_MAX_REPEATS);
    bench_begin("further targets");
    bench_lists(repeats);
    bench_steps(repeats / 3 + 1);
    return 0;
}
