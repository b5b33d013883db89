// The kernels between the matrix products, at the sizes of a 124M model with 1024 tokens. Bytes are what a kernel has to move.
#include "../../llmc/base/arena.cuh"
#include "../../llmc/model/config.h"
#include "../../llmc/ops/activation.cuh"
#include "../../llmc/ops/classifier.cuh"
#include "../../llmc/ops/embedding.cuh"
#include "../../llmc/ops/norm.cuh"
#include "../../llmc/ops/rope.cuh"
#include "../../llmc/optim/adamw.cuh"
#include "bench.h"

static floatX* elements(size_t n) {
    floatX* p = (floatX*)device_malloc(n * sizeof(floatX), "bench");
    for (size_t i = 0; i < n; i++) from_float(&p[i], 0.01f * (float)((i * 7919) % 1000) - 5.0f);
    return p;
}
static float* floats(size_t n) {
    float* p = (float*)device_malloc(n * sizeof(float), "bench");
    for (size_t i = 0; i < n; i++) p[i] = 0.01f * (float)((i * 7919) % 1000) - 5.0f;
    return p;
}

int main(void) {
    enum { N = 1024, C = 768, V = 50257, VP = 50304, ROWS = 128, REPEATS = 20 };
    const double X = sizeof(floatX), F = sizeof(float), NC = (double)N * C;
    Timing t;
    bench_begin("kernels between the products");
    floatX *y = elements(4 * N * C), *xhat = elements(N * C), *dy = elements(4 * N * C), *dres = elements(N * C),
           *w = elements(C), *b = elements(C);
    float *x = floats(N * C), *rstd = floats(N), *scratch = floats((size_t)COLUMN_TEAMS * 2 * C), *dw = floats(4 * C),
          *db = floats(C);
    Lookup none = {NULL, NULL, NULL, 1, 0};
    BENCH_TIME(t, REPEATS, norm_forward(y, xhat, rstd, x, w, b, none, N, C, 0));
    bench_row("layernorm forward", "1024 x 768", t, NC * (F + 2 * X), BENCH_BYTES);
    BENCH_TIME(t, REPEATS, norm_backward(dres, dw, db, scratch, dy, xhat, rstd, w, N, C, true, true, 0));
    bench_row("layernorm backward", "1024 x 768", t, NC * 4 * X, BENCH_BYTES);
    BENCH_TIME(t, REPEATS, norm_forward(y, NULL, rstd, x, NULL, NULL, none, N, C, 0));
    bench_row("rmsnorm forward", "1024 x 768", t, NC * (F + X), BENCH_BYTES);
    BENCH_TIME(t, REPEATS, norm_backward(dres, NULL, NULL, NULL, dy, y, rstd, NULL, N, C, true, true, 0));
    bench_row("rmsnorm backward", "1024 x 768", t, NC * 4 * X, BENCH_BYTES);
    BENCH_TIME(t, REPEATS, gelu_forward(y, dy, 4 * N * C, GELU_TANH, 0));
    bench_row("gelu tanh forward", "1024 x 3072", t, 4 * NC * 2 * X, BENCH_BYTES);
    BENCH_TIME(t, REPEATS, gelu_backward(dy, y, NULL, 4 * N * C, GELU_ERF, 0));
    bench_row("gelu erf backward", "1024 x 3072", t, 4 * NC * 3 * X, BENCH_BYTES);
    float *cosines = floats(1024 * 32), *sines = floats(1024 * 32);
    rope_tables(cosines, sines, 1024, 64);
    BENCH_TIME(t, REPEATS, rope(y, cosines, sines, false, N, 1024, 12, 64, 0));
    bench_row("rope", "1024 x 2 x 768", t, NC * 4 * X, BENCH_BYTES);
    BENCH_TIME(t, REPEATS, column_sum(dw, y, scratch, N, 4 * C, true, 0));
    bench_row("bias gradient", "1024 x 3072", t, 4 * NC * X, BENCH_BYTES);

    int *tokens = (int*)xmalloc(sizeof(int) * (N + 1)), *order = (int*)xmalloc(sizeof(int) * N);
    for (int n = 0; n <= N; n++) tokens[n] = n / 4 * 7;
    for (int n = 0; n < N; n++) order[n] = n;
    float* dwte = floats((size_t)8192 * C);
    BENCH_TIME(t, REPEATS, embedding_backward(dwte, dres, tokens, order, N, C, 0));
    bench_row("embedding backward", "1024 x 768", t, NC * X + NC / 4 * 2 * F, BENCH_BYTES);

    floatX* logits = elements((size_t)ROWS * VP);
    float one[] = {1.0f}, *losses = floats(N);
    Targets targets = targets_list(tokens, one, 1, 1, 1, 0);
    BENCH_TIME(t, REPEATS, classifier(logits, losses, N, targets, 1e-3f, one, ROWS, V, VP, true, false, 0));
    bench_row("classifier", "128 x 50257", t, (double)ROWS * VP * 2 * X, BENCH_BYTES);

    ParamTable table = {};
    params_add_matrix(&table, "w", 32768, 1024, INIT_ZERO, 0, true);
    size_t n = table.size;
    float *masters = floats(n), *grads = floats(n), *m = floats(n), *v = (float*)device_malloc(n * sizeof(float), "bench");
    floatX* weights = sizeof(floatX) == sizeof(float) ? (floatX*)masters : elements(n);
    uint8_t* flags = (uint8_t*)xcalloc(n / PARAM_UNIT);
    unit_flags_fill(&table, flags);
    StepState* state = (StepState*)xcalloc(sizeof(StepState));
    state->scaler.scale = 1.0f;
    StepInputs in = {};
    in.lr = 1e-4f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.weight_decay = 0.1f;
    float* partial = floats(NORM_TEAMS);
    BENCH_TIME(t, 5, adamw_step(&table, masters, weights, grads, m, v, flags, partial, state, in, losses, N, 0));
    bench_row("norm and AdamW", "33.6M parameters", t, (double)n * (32 + (sizeof(floatX) < 4 ? X : 0)), BENCH_BYTES);
    return 0;
}
