/*
Attention against plain double-precision loops: sizes that fit no block, causality, extreme scores, threads, grouped heads.

The same file runs on the CPU, in the emulation and on a GPU; tolerances are relative to the largest entry of the tensor:

    fp32 2e-5   (fp32 sums)        bf16 2e-2, fp16 3e-3   (out is rounded before backward uses it; p and ds are rounded on a GPU)
*/
#include "harness.h"

#include "../llmc/ops/attention.cuh"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

static const bool FIXED_ORDER = !ATTENTION_CUDNN;  // with cuDNN: its backward pass, too
static const double TOLERANCE = PRECISION == PRECISION_FP32 ? 2e-5 : PRECISION == PRECISION_BF16 ? 2e-2 : 3e-3;

// One problem: inputs (rounded to floatX) and results as double, and the same in the execution's memory.
typedef struct {
    AttentionShape s;
    size_t n_in, n_out, n_lse;             // elements of qkv, of out, of lse
    double *qkv, *dout;                    // inputs
    double *out, *lse, *dqkv;              // results of the code under test
    double *ref_out, *ref_lse, *ref_dqkv;  // results of the loops below
    floatX *x_qkv, *x_dout, *x_out, *x_dqkv;
    float* x_lse;
} Problem;

static uint32_t seed = 1;
static double uniform(void) {
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (1 << 23) - 1.0;
}
static double rounded(double x) {
    floatX y;
    from_float(&y, (float)x);
    return (double)to_float(y);
}

static void* device_memory(size_t bytes) {
#if GPU_EXECUTION
    void* p;
    CUDA_CHECK(cudaMalloc(&p, bytes));
    return p;
#else
    return xmalloc(bytes);
#endif
}
static void copy(void* to, const void* from, size_t bytes, bool up) {
#if GPU_EXECUTION
    CUDA_CHECK(cudaMemcpy(to, from, bytes, up ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost));
#else
    (void)up;
    memcpy(to, from, bytes);
#endif
}
static void upload(floatX* to, const double* from, size_t n) {
    floatX* host = (floatX*)xmalloc(n * sizeof(floatX));
    for (size_t i = 0; i < n; i++) from_float(&host[i], (float)from[i]);
    copy(to, host, n * sizeof(floatX), true);
    free(host);
}
static void download(double* to, const floatX* from, size_t n) {
    floatX* host = (floatX*)xmalloc(n * sizeof(floatX));
    copy(host, from, n * sizeof(floatX), false);
    for (size_t i = 0; i < n; i++) to[i] = (double)to_float(host[i]);
    free(host);
}

static Problem make_problem(int B, int T, int NH, int NKV, int D, double size) {
    Problem p = {};
    p.s = (AttentionShape){B, T, NH, NKV, D};
    p.n_in = (size_t)B * T * attention_qkv_row(p.s), p.n_out = (size_t)B * T * attention_out_row(p.s),
    p.n_lse = (size_t)B * NH * T;
    double** fields[] = {&p.qkv, &p.dqkv, &p.ref_dqkv, &p.dout, &p.out, &p.ref_out, &p.lse, &p.ref_lse};
    size_t sizes[] = {p.n_in, p.n_in, p.n_in, p.n_out, p.n_out, p.n_out, p.n_lse, p.n_lse};
    for (int i = 0; i < 8; i++) *fields[i] = (double*)xcalloc(sizes[i] * sizeof(double));
    for (size_t i = 0; i < p.n_in; i++) p.qkv[i] = rounded(size * uniform());
    for (size_t i = 0; i < p.n_out; i++) p.dout[i] = rounded(uniform());
    floatX** moved[] = {&p.x_qkv, &p.x_dqkv, &p.x_dout, &p.x_out};
    for (int i = 0; i < 4; i++) *moved[i] = (floatX*)device_memory((i < 2 ? p.n_in : p.n_out) * sizeof(floatX));
    p.x_lse = (float*)device_memory(p.n_lse * sizeof(float));
    return p;
}
static void free_problem(Problem* p) {
    double* fields[] = {p->qkv, p->dqkv, p->ref_dqkv, p->dout, p->out, p->ref_out, p->lse, p->ref_lse};
    for (int i = 0; i < 8; i++) free(fields[i]);
    void* moved[] = {p->x_qkv, p->x_dqkv, p->x_dout, p->x_out, p->x_lse};
#if GPU_EXECUTION
    for (int i = 0; i < 5; i++) CUDA_CHECK(cudaFree(moved[i]));
#else
    for (int i = 0; i < 5; i++) free(moved[i]);
#endif
}

// Runs the code under test; results are poisoned first, so that an entry that is not written is seen.
static bool planned = true;  // false: the shape comes as a surprise
static void run(Attention* at, Problem* p) {
    AttentionShape s = p->s;
    for (size_t i = 0; i < p->n_in; i++) p->dqkv[i] = NAN;
    upload(p->x_dqkv, p->dqkv, p->n_in);
    upload(p->x_qkv, p->qkv, p->n_in);
    upload(p->x_dout, p->dout, p->n_out);
    if (s.NKV == s.NH) {
        if (planned) attention_plan(at, s.B, s.T, s.NH, s.D, true);
        if (planned) attention_plan(at, s.B, s.T, s.NH, s.D, false);
        int plans = at->plans_made;
        attention_forward(at, p->x_out, p->x_lse, p->x_qkv, s.B, s.T, s.NH, s.D, 0);
        attention_backward(at, p->x_dqkv, p->x_dout, p->x_out, p->x_lse, p->x_qkv, s.B, s.T, s.NH, s.D, 0);
        if (planned) assert_int_equal(plans, at->plans_made);
    } else {
        attention_plan(at, s.B, s.T, s.NH, s.D, true);
#if GPU_EXECUTION
        attention_own_forward(p->x_out, p->x_lse, p->x_qkv, s, 0);
        attention_own_backward(p->x_dqkv, (float*)at->workspace, p->x_dout, p->x_out, p->x_lse, p->x_qkv, s, 0);
#else
        attention_cpu_forward(at->workspace, at->threads, p->x_out, p->x_lse, p->x_qkv, s);
        attention_cpu_backward(at->workspace, at->threads, p->x_dqkv, p->x_dout, p->x_out, p->x_lse, p->x_qkv, s);
#endif
    }
    device_sync();
    download(p->out, p->x_out, p->n_out);
    download(p->dqkv, p->x_dqkv, p->n_in);
    float* lse = (float*)xmalloc(p->n_lse * sizeof(float));
    copy(lse, p->x_lse, p->n_lse * sizeof(float), false);
    for (size_t i = 0; i < p->n_lse; i++) p->lse[i] = (double)lse[i];
    free(lse);
}

// The definition, one query row at a time. prob, dprob: T doubles each.
static void reference_row(Problem* p, int b, int h, int t, double* prob, double* dprob) {
    AttentionShape s = p->s;
    int g = h / (s.NH / s.NKV), D = s.D;  // the layout is spelt out: the helpers of attention_shape.h are under test too
    size_t in_row = (size_t)(s.NH + 2 * s.NKV) * D, out_row = (size_t)s.NH * D, base = (size_t)b * s.T * in_row;
    const double *q = p->qkv + base + t * in_row + (size_t)h * D, *k = p->qkv + base + (size_t)(s.NH + g) * D;
    const double* v = p->qkv + base + (size_t)(s.NH + s.NKV + g) * D;
    double *dq = p->ref_dqkv + (q - p->qkv), *dk = p->ref_dqkv + (k - p->qkv), *dv = p->ref_dqkv + (v - p->qkv);
    size_t at = ((size_t)b * s.T + t) * out_row + (size_t)h * D;
    double top = -INFINITY, sum = 0, delta = 0, scale = 1.0 / sqrt((double)D);
    for (int u = 0; u <= t; u++) {
        prob[u] = 0;
        for (int d = 0; d < D; d++) prob[u] += scale * q[d] * k[u * in_row + d];
        top = fmax(top, prob[u]);
    }
    for (int u = 0; u <= t; u++) sum += prob[u] = exp(prob[u] - top);
    p->ref_lse[((size_t)b * s.NH + h) * s.T + t] = top + log(sum);
    for (int d = 0; d < D; d++) p->ref_out[at + d] = 0;
    for (int u = 0; u <= t; u++) {
        prob[u] /= sum, dprob[u] = 0;
        for (int d = 0; d < D; d++) p->ref_out[at + d] += prob[u] * v[u * in_row + d];
        for (int d = 0; d < D; d++) dprob[u] += p->dout[at + d] * v[u * in_row + d];
        delta += prob[u] * dprob[u];
    }
    for (int u = 0; u <= t; u++) {
        double ds = scale * prob[u] * (dprob[u] - delta);
        for (int d = 0; d < D; d++) {
            dq[d] += ds * k[u * in_row + d];
            dk[u * in_row + d] += ds * q[d];
            dv[u * in_row + d] += prob[u] * p->dout[at + d];
        }
    }
}
static void reference(Problem* p) {
    double *prob = (double*)xmalloc(sizeof(double) * p->s.T), *dprob = (double*)xmalloc(sizeof(double) * p->s.T);
    for (size_t i = 0; i < p->n_in; i++) p->ref_dqkv[i] = 0;
    for (int b = 0; b < p->s.B; b++)
        for (int h = 0; h < p->s.NH; h++)
            for (int t = 0; t < p->s.T; t++) reference_row(p, b, h, t, prob, dprob);
    free(prob), free(dprob);
}

static void assert_close(const Problem* p, const char* name, const double* x, const double* ref, size_t n, double tolerance) {
    double largest = 1e-3, worst = 0;
    size_t where = 0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs(ref[i]));
    for (size_t i = 0; i < n; i++) {
        double e = fabs(x[i] - ref[i]) / largest;
        if (!(e <= worst)) worst = e, where = i;
    }
    if (!(worst <= tolerance))
        fail_msg("%s at B=%d T=%d NH=%d NKV=%d D=%d: entry %zu is %g, expected %g (error %g of the largest, allowed %g)", name,
                 p->s.B, p->s.T, p->s.NH, p->s.NKV, p->s.D, where, x[where], ref[where], worst, tolerance);
}
static void check(Attention* at, Problem* p, double tolerance) {
    run(at, p);
    reference(p);
    assert_close(p, "out", p->out, p->ref_out, p->n_out, tolerance);
    assert_close(p, "lse", p->lse, p->ref_lse, p->n_lse, 2e-6);
    assert_close(p, "dqkv", p->dqkv, p->ref_dqkv, p->n_in, tolerance);
}

// ---------------------------------------------------------------------------------------------------------------------

static void test_sizes(void** state) {
    static const int lengths[] = {1, 2, 16, 33, 64, 100, BRIEF ? 129 : 257, 58}, heads[] = {1, 3, 4},
                     sizes[] = {8, 16, 24, 64, 72, 128};
    Attention at;
    (void)state;
    attention_init(&at, FIXED_ORDER);
    for (int i = 0; i < 8; i++)  // the last one finds the scratch as a longer one left it
        for (int j = 0; j < 6; j++) {
            int NH = BRIEF ? 1 + (i + j) % 2 : heads[(i + j) % 3], B = BRIEF ? 1 : 1 + (i + j) % 2;
            Problem p = make_problem(B, lengths[i], NH, NH, sizes[j], 2.0);
            check(&at, &p, TOLERANCE);
            free_problem(&p);
        }
    attention_free(&at);
}

// A shape that nobody planned works, too, and so does a longer one after it.
static void test_unplanned(void** state) {
    Attention at;
    (void)state;
    attention_init(&at, FIXED_ORDER);
    planned = false;
    for (int T = 16; T <= 144; T += 128) {
        Problem p = make_problem(1, T, 2, 2, 16, 2.0);
        check(&at, &p, TOLERANCE);
        free_problem(&p);
    }
    planned = true;
    attention_free(&at);
}

// Query heads that share a key head: their gradients add up in dk and dv.
static void test_grouped_heads(void** state) {
    Attention at;
    (void)state;
    attention_init(&at, FIXED_ORDER);
    for (int NKV = 1; NKV <= 2; NKV++) {
        Problem p = make_problem(2, 70, 4, NKV, 16, 2.0);
        check(&at, &p, TOLERANCE);
        free_problem(&p);
    }
    attention_free(&at);
}

// The loops above against finite differences of sum(dout * out): the oracle itself is right.
static void test_reference_gradient(void** state) {
    Problem p = make_problem(1, 5, 2, 1, 8, 1.0);
    (void)state;
    reference(&p);
    double* gradient = (double*)xmalloc(p.n_in * sizeof(double));
    memcpy(gradient, p.ref_dqkv, p.n_in * sizeof(double));
    for (size_t i = 0; i < p.n_in; i++) {
        double loss[2], x = p.qkv[i];
        for (int side = 0; side < 2; side++) {
            p.qkv[i] = x + (side ? 1e-5 : -1e-5);
            reference(&p);
            loss[side] = 0;
            for (size_t j = 0; j < p.n_out; j++) loss[side] += p.dout[j] * p.ref_out[j];
        }
        p.qkv[i] = x;
        assert_true(fabs((loss[1] - loss[0]) / 2e-5 - gradient[i]) < 1e-7);
    }
    free(gradient);
    free_problem(&p);
}

// Changing token `at` leaves every earlier out and lse as it was, bit for bit, and changes a later one. Without gradient from the
// tokens at and after it, its own gradient and that of every later token is exactly zero.
static void test_causality(void** state) {
    static const int places[] = {1, 15, 16, 63, 64, 99};
    Attention at;
    (void)state;
    attention_init(&at, FIXED_ORDER);
    for (int i = 0; i < 6; i++) {
        Problem p = make_problem(1, 100, 2, 2, 16, 1.0), q = p;
        size_t row = attention_out_row(p.s), in_row = attention_qkv_row(p.s), before = places[i] * row;
        for (size_t j = before; j < p.n_out; j++) p.dout[j] = 0;
        run(&at, &p);
        for (size_t j = 0; j < p.n_in; j++)
            if (j >= places[i] * in_row) assert_true(p.dqkv[j] == 0.0);
        q.out = (double*)xmalloc(p.n_out * sizeof(double)), q.lse = (double*)xmalloc(p.n_lse * sizeof(double));
        for (size_t j = 0; j < in_row; j++) p.qkv[places[i] * in_row + j] = rounded(uniform());
        run(&at, &q);
        assert_memory_equal(p.out, q.out, before * sizeof(double));
        assert_memory_not_equal(p.out + before, q.out + before, (p.n_out - before) * sizeof(double));
        for (int h = 0; h < 2; h++) assert_memory_equal(p.lse + h * 100, q.lse + h * 100, places[i] * sizeof(double));
        free(q.out), free(q.lse);
        free_problem(&p);
    }
    attention_free(&at);
}

// Scores of about +-1e4: the softmax is one-hot almost everywhere, nothing overflows, lse is the largest score.
static void test_extreme_scores(void** state) {
    Attention at;
    (void)state;
    attention_init(&at, FIXED_ORDER);
    Problem p = make_problem(1, 130, 2, 2, 64, 60.0);
    for (size_t i = 0; i < p.n_in; i++) p.qkv[i] = p.qkv[i] > 0 ? 60.0 : -60.0;
    run(&at, &p);
    reference(&p);
    assert_close(&p, "lse", p.lse, p.ref_lse, p.n_lse, 2e-6);
    assert_close(&p, "out", p.out, p.ref_out, p.n_out, TOLERANCE);
    for (size_t i = 0; i < p.n_in; i++) assert_true(isfinite(p.dqkv[i]));
    free_problem(&p);
    attention_free(&at);
}

// Equal keys: every earlier token gets the same weight, so out is the running mean of v and lse grows like log(t + 1).
static void test_uniform_rows(void** state) {
    int T = 90, D = 16;
    Attention at;
    (void)state;
    attention_init(&at, FIXED_ORDER);
    Problem p = make_problem(1, T, 1, 1, D, 1.0);
    for (int t = 0; t < T; t++)
        for (int d = 0; d < D; d++) p.qkv[t * 3 * D + D + d] = 0.0;
    run(&at, &p);
    double mean[16] = {};
    for (int t = 0; t < T; t++) {
        assert_true(fabs(p.lse[t] - log(t + 1.0)) < 1e-5);
        for (int d = 0; d < D; d++) {
            mean[d] += p.qkv[t * 3 * D + 2 * D + d];
            assert_true(fabs(p.out[t * D + d] - mean[d] / (t + 1)) < TOLERANCE);
        }
    }
    free_problem(&p);
    attention_free(&at);
}

// Same bits twice, on the CPU with any number of threads, more than there are heads included, in the emulation in any order.
static void test_same_bits(void** state) {
    Attention at;
    (void)state;
    Problem p = make_problem(1, 300, 2, 2, 24, 2.0);
    double *out = (double*)xmalloc(p.n_out * sizeof(double)), *dqkv = (double*)xmalloc(p.n_in * sizeof(double));
    static const int counts[] = {1, 2, 3, 7};
    for (int i = 0; i < 4; i++) {
        device_threads(counts[i]);
        attention_init(&at, true);
        run(&at, &p);
        if (i > 0) assert_memory_equal(out, p.out, p.n_out * sizeof(double));
        if (i > 0) assert_memory_equal(dqkv, p.dqkv, p.n_in * sizeof(double));
        memcpy(out, p.out, p.n_out * sizeof(double)), memcpy(dqkv, p.dqkv, p.n_in * sizeof(double));
        attention_free(&at);
    }
    free(out), free(dqkv);
    free_problem(&p);
}

// A head size that is no multiple of 8 ends the program with exit code 1 and a sentence.
static void test_bad_head_size(void** state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        Attention at = {};
        if (!freopen("/dev/null", "w", stderr)) _exit(9);
        attention_plan(&at, 1, 16, 2, 60, false);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EXIT_FAIL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_head_size),  // first: a process that has used a GPU may not fork
        cmocka_unit_test(test_reference_gradient), cmocka_unit_test(test_sizes),     cmocka_unit_test(test_unplanned),
        cmocka_unit_test(test_grouped_heads),      cmocka_unit_test(test_causality), cmocka_unit_test(test_extreme_scores),
        cmocka_unit_test(test_uniform_rows),       cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests_name("attention " PRECISION_NAME, tests, NULL, NULL);
}
