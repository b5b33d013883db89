/*
A whole training step on the CPU: forward, loss, backward, AdamW, for the shapes that dev/bench/pytorch_step.py times too.

    limit   the time that arithmetic and memory cannot beat: matmul FLOP (6 per weight and token; the vocabulary unpadded) and
            causal attention FLOP at the multiply ceiling, plus AdamW's 28 bytes per parameter at the update ceiling

    build/bench/step [SHAPE [REPEATS]]      SHAPE: d12_t64, d12, d6, nocap_d6, parts; all when absent
    parts   d6 with the token filter (0.6 of the positions: 1 + 3 0.6 products over the vocabulary for 3) and with a spelling head
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
    BENCH_TIME(whole, repeats, (model_micro_step(&m, &micro, 1), model_update(&m, in, m.targets)));
    BENCH_TIME(forward, repeats, model_forward(&m, tokens, s->B, s->T));
    BENCH_TIME(head, repeats, head_loss(&m, &micro, next_token(&m, &micro), 1.0f, true));
    BENCH_TIME(update, repeats, model_update(&m, in, m.targets));
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

// What parts of an objective cost: one model that has them, with each of them on and off.
static void bench_parts(int repeats) {
    enum { B = 4, T = 256, N = B * T, LETTERS = 4 };
    const Shape* s = &SHAPES[2];
    const double keep = 0.6;
    Config c = {};
    c.L = s->L, c.NH = s->NH, c.C = s->C, c.V = s->V, c.B = B, c.T = T, c.tied = true;
    c.aux.filter.on = true, c.aux.filter.rule = FILTER_TOPK, c.aux.filter.keep = keep, c.aux.filter.mean_of_kept = true;
    c.aux.spelling.letters = LETTERS;
    config_arch(&c, s->arch);
    Model m = {};
    model_declare(&m, c, true);
    model_allocate(&m, false, true);
    model_plan_shape(&m, B, T);
    model_init_weights(&m, 1);
    uint8_t* table = (uint8_t*)xcalloc((size_t)c.V * SPELL_ROW);
    for (int v = 0; v < c.V; v++)
        table[(size_t)v * SPELL_ROW] = (uint8_t)(v % 128), table[(size_t)v * SPELL_ROW + SPELL_COUNT] = 1;
    copy_to_device(m.spelling.table, table, (size_t)c.V * SPELL_ROW);
    int *tokens = (int*)xmalloc((N + SPELL_MAX) * sizeof(int)), *order = (int*)xmalloc(N * sizeof(int));
    for (int n = 0; n < N + SPELL_MAX; n++) tokens[n] = n % 8191;  // rising: the order is the identity
    for (int n = 0; n < N; n++) order[n] = n;
    Micro micro = {tokens, order, B, T, false};
    StepInputs in = {};
    in.lr = 1e-4f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.loss_factor[0] = 1.0f / (float)N;
    double vocabulary = 2.0 * N * c.V * c.C, spell = 6.0 * N * LETTERS * SPELL_PADDED * c.C;
    double trunk = 6.0 * N * 12.0 * c.L * c.C * c.C + 6.0 * c.L * (double)c.C * (T + 1) * N;
    const char* rows[] = {"step", "step, tf_keep 0.6", "step, 4 letters", "  head", "  head, tf_keep 0.6"};
    double seconds[5][BENCH_MAX_REPEATS], head_flop[3] = {3 * vocabulary, (1 + 3 * keep) * vocabulary, 3 * vocabulary};
    Timing t[5];
    if (repeats > BENCH_MAX_REPEATS) repeats = BENCH_MAX_REPEATS;
    for (int r = -1; r < repeats; r++) {  // in turn: who else computes here disturbs all of them; the first round warms up
        for (int i = 0; i < 5; i++) {
            StepWeights weights = {};
            weights.token[0] = 1.0f, weights.filter = i == 1 || i == 4, weights.spelling = i == 2 ? 0.1f : 0.0f;
            targets_start(&m, weights);
            double begin = bench_now();
            if (i < 3) model_micro_step(&m, &micro, 1), model_update(&m, in, weights);
            else head_loss(&m, &micro, next_token(&m, &micro), 1.0f / N, true);
            seconds[i][r < 0 ? 0 : r] = bench_now() - begin;
        }
    }
    for (int i = 0; i < 5; i++) {
        double flop = i < 3 ? trunk + head_flop[i] + (i == 2 ? spell : 0) : head_flop[i - 3];
        t[i] = bench_timing(seconds[i], repeats);
        bench_row(rows[i], "d6 B4 T256", t[i], flop, BENCH_FLOPS);
    }
    printf(
        "  with the filter a step takes %.3f times as long, its head %.3f (of its products: %.3f); with letters a step %.3f\n\n",
        t[1].best / t[0].best, t[4].best / t[3].best, (1 + 3 * keep) / 3, t[2].best / t[0].best);
    if (m.state->skipped) fail("parts: %d steps were skipped, so the times mean nothing", m.state->skipped);
    free(tokens), free(order), free(table);
    model_free(&m);
}

int main(int argc, char** argv) {
    bench_begin("training step");
    for (size_t i = 0; i < sizeof(SHAPES) / sizeof(SHAPES[0]); i++) {
        if (argc < 2 || !strcmp(argv[1], SHAPES[i].name)) bench_shape(&SHAPES[i], argc > 2 ? atoi(argv[2]) : 10);
    }
    if (argc < 2 || !strcmp(argv[1], "parts")) bench_parts(argc > 2 ? atoi(argv[2]) : 10);
    return 0;
}
