/*
A whole training step on the CPU: forward, loss, backward, AdamW, for the shapes that dev/bench/pytorch_step.py times too.

    limit   the time that arithmetic and memory cannot beat: matmul FLOP (6 per weight and token; the vocabulary unpadded) and
            causal attention FLOP at the multiply ceiling, plus AdamW's 28 bytes per parameter at the update ceiling

    build/bench/step [SHAPE [REPEATS]]      SHAPE: d12_t64, d12, d6, nocap_d6; all when absent
*/
#include "../../llmc/model/setup.cuh"
#include "bench.h"

typedef struct {
    const char *name, *arch;
    int L, NH, C, V, B, T;
} Shape;

static const Shape SHAPES[] = {
    {"d12_t64", "gpt2", 12, 12, 768, 50257, 4, 64},
    {"d12", "gpt2", 12, 12, 768, 50257, 4, 256},
    {"d6", "gpt2", 6, 6, 384, 50257, 4, 256},
    {"nocap_d6", "nocap", 6, 6, 384, 50257, 4, 256},
};

static void bench_shape(const Shape* s, int repeats) {
    Config c = {};
    c.L = s->L, c.NH = s->NH, c.C = s->C, c.V = s->V, c.B = s->B, c.T = s->T, c.tied = true;
    config_arch(&c, s->arch);
    Model m = {};
    model_declare(&m, c, true);
    model_allocate(&m, false, true);
    model_plan_shape(&m, s->B, s->T);
    model_init_weights(&m, 1);
    int N = s->B * s->T;
    int *tokens = (int*)xmalloc((size_t)(N + 1) * sizeof(int)), *order = (int*)xmalloc((size_t)N * sizeof(int));
    for (int n = 0; n <= N; n++) tokens[n] = n % 8191;  // rising: the order is the identity
    for (int n = 0; n < N; n++) order[n] = n;
    Micro micro = {tokens, order, s->B, s->T, false};
    StepInputs in = {};
    in.lr = 1e-4f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.loss_factor[0] = 1.0f / (float)N;
    Timing whole, forward, head, update;
    BENCH_TIME(whole, repeats, (model_micro_step(&m, &micro, 1), model_update(&m, in, 1)));
    BENCH_TIME(forward, repeats, model_forward(&m, tokens, s->B, s->T));
    BENCH_TIME(head, repeats, head_loss(&m, &micro, next_token(&m, &micro), 1.0f, true));
    BENCH_TIME(update, repeats, model_update(&m, in, 1));
    double weights = 12.0 * s->L * s->C * s->C, vocabulary = (double)s->V * s->C;
    double attention = 6.0 * s->L * (double)s->C * (s->T + 1) * N, linear = 6.0 * N * (weights + vocabulary);
    double bytes = 28.0 * (double)params_live(&m.table);
    double limit = (linear + attention) / (bench_ceilings.multiply * 1e9) + bytes / (bench_ceilings.update * 1e9);
    char shape[64];
    snprintf(shape, sizeof(shape), "%s B%d T%d", s->name, s->B, s->T);
    bench_row("step", shape, whole, linear + attention, BENCH_FLOPS);
    bench_row("  forward of trunk", shape, forward, 2.0 * N * weights + attention / 3, BENCH_FLOPS);
    bench_row("  head, both ways", shape, head, 6.0 * N * vocabulary, BENCH_FLOPS);
    bench_row("  norm and AdamW", shape, update, 32.0 * (double)params_live(&m.table), BENCH_BYTES);
    printf("%-22s %-22s %7.3f ms   the step is at %.1f %% of it; %.1f tokens/s best, %.1f median\n\n", "  limit", shape,
           limit * 1e3, 100 * limit / whole.best, N / whole.best, N / whole.median);
    if (m.state->skipped) fail("%s: %d steps were skipped, so the times mean nothing", s->name, m.state->skipped);
    free(tokens), free(order);
    model_free(&m);
}

int main(int argc, char** argv) {
    bench_begin("training step");
    for (size_t i = 0; i < sizeof(SHAPES) / sizeof(SHAPES[0]); i++) {
        if (argc < 2 || !strcmp(argv[1], SHAPES[i].name)) bench_shape(&SHAPES[i], argc > 2 ? atoi(argv[2]) : 10);
    }
    return 0;
}
