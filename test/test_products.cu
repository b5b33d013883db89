/*
Matrix products and attention against recorded tensors. Their own programs test sizes, speed paths and properties; this one ties
them to the reference: bias, accumulation into what was there, causal rows, a peaked softmax, shared key heads. And the small
kernels between products, against double.
*/
#include "buffer.h"
#include "gold.h"

#include "llmc/ops/attention.cuh"
#include "llmc/ops/elementwise.cuh"
#include "llmc/ops/gemm.cuh"

static void check_matmul(const char* name) {
    Gold* g = gold_open(name);
    int N = gold_int(g, "N"), K = gold_int(g, "K"), M = gold_int(g, "M");
    size_t NK = (size_t)N * K, NM = (size_t)N * M, MK = (size_t)M * K;
    Gemm gemm;
    gemm_init(&gemm, 0);
    floatX *x = buffer_x(gold_floats(g, "x"), NK), *w = buffer_x(gold_floats(g, "w"), MK), *b = buffer_x(gold_floats(g, "b"), M);
    floatX *dy = buffer_x(gold_floats(g, "dy"), NM), *y = buffer_x(NULL, NM), *dx = buffer_x(NULL, NK);
    float* dw = buffer_f(gold_floats(g, "dw_before"), MK);
    matmul_forward(&gemm, y, x, w, b, N, K, M, 1.0f, false, 0);
    matmul_dinput(&gemm, dx, dy, w, N, K, M, 1.0f, 0);
    matmul_dweight(&gemm, dw, dy, x, N, K, M, 1.0f, true, 0);
    gold_check(g, "y", host_x(y, NM), PRECISION);
    gold_check(g, "dx", host_x(dx, NK), PRECISION);
    gold_check(g, "dw", host_f(dw, MK), PRECISION);
    gemm_free(&gemm);
    gold_close(g);
}

static void golden_matmul(void** state) {
    (void)state;
    check_matmul("matmul_n24");
    if (!GPU_EXECUTION) check_matmul("matmul_n33");  // the GPU takes multiples of 8
}
#ifdef AHEAD_EMU
static void golden_matmul_bias_apart(void** state) {
    (void)state;
    emu_refuses_bias = true;  // a library that fuses none: a kernel of ours adds it
    check_matmul("matmul_n24");
    emu_refuses_bias = false;
}
#endif

static void between_products(void** state) {
    enum { N = 5 * 8 * WARP + 8 };
    (void)state;
    float *u = normal_values("u", N, 3.0f), *d = normal_values("d", N, 1.0f);
    floatX *ux = buffer_x(u, N), *dx = buffer_x(d, N), *a = buffer_x(NULL, N), *sum = buffer_x(u, N);
    float* wide = buffer_f(NULL, N);
    silu_forward(a, ux, N, 0);
    widen(wide, ux, N, 0);
    add_to(sum, dx, N, 0);
    const float *us = host_x(ux, N), *ds = host_x(dx, N), *as = host_x(a, N), *sums = host_x(sum, N), *ws = host_f(wide, N);
    silu_backward(dx, ux, N, 0);
    const float* dus = host_x(dx, N);
    for (int i = 0; i < N; i++) {
        double x = us[i], s = 1 / (1 + exp(-x));
        assert_close(as[i], x * s, 2e-6, "silu of %g", x);
        assert_close(dus[i], ds[i] * (s + x * s * (1 - s)), 4e-6, "gradient of silu at %g", x);
        assert_close(sums[i], x + ds[i], 1e-6, "sum, element %d", i);
        assert_true(ws[i] == us[i]);
    }
}

static void check_attention(const char* name) {
    Gold* g = gold_open(name);
    AttentionShape s = {gold_int(g, "B"), gold_int(g, "T"), gold_int(g, "NH"), gold_int(g, "KV"), gold_int(g, "D")};
    size_t rows = (size_t)s.B * s.T, n_in = rows * attention_qkv_row(s), n_out = rows * attention_out_row(s), n_lse = rows * s.NH;
    Attention at = {};
    attention_init(&at, !ATTENTION_CUDNN);  // with cuDNN: its backward pass, too
    attention_plan(&at, s.B, s.T, s.NH, s.D, true);
    floatX *qkv = buffer_x(gold_floats(g, "qkv"), n_in), *dy = buffer_x(gold_floats(g, "dy"), n_out);
    floatX *y = buffer_x(NULL, n_out), *dqkv = buffer_x(NULL, n_in);
    float* lse = buffer_f(NULL, n_lse);
    if (s.NKV == s.NH) {
        attention_forward(&at, y, lse, qkv, s.B, s.T, s.NH, s.D, 0);
        attention_backward(&at, dqkv, dy, y, lse, qkv, s.B, s.T, s.NH, s.D, 0);
        assert_false(at.fallback_announced);  // cuDNN, where it is there, serves both directions of a shape that was planned
    } else {
#if GPU_EXECUTION
        attention_own_forward(y, lse, qkv, s, 0);
        attention_own_backward(dqkv, (float*)at.workspace, dy, y, lse, qkv, s, 0);
#else
        attention_cpu_forward(at.workspace, at.threads, y, lse, qkv, s);
        attention_cpu_backward(at.workspace, at.threads, dqkv, dy, y, lse, qkv, s);
#endif
    }
    gold_check(g, "y", host_x(y, n_out), PRECISION);
    gold_check(g, "lse", host_f(lse, n_lse), PRECISION);
    gold_check(g, "dqkv", host_x(dqkv, n_in), PRECISION);
    attention_free(&at);
    gold_close(g);
}

static void golden_attention(void** state) {
    (void)state;
    check_attention("attention_t16_d16");
    check_attention("attention_t33_d24");
}
static void golden_attention_grouped(void** state) { (void)state, check_attention("attention_t33_d16_gqa"); }
static void golden_attention_peaked(void** state) { (void)state, check_attention("attention_peaked"); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(golden_matmul, release_buffers),
#ifdef AHEAD_EMU
        cmocka_unit_test_teardown(golden_matmul_bias_apart, release_buffers),
#endif
        cmocka_unit_test_teardown(between_products, release_buffers),
        cmocka_unit_test_teardown(golden_attention, release_buffers),
        cmocka_unit_test_teardown(golden_attention_grouped, release_buffers),
        cmocka_unit_test_teardown(golden_attention_peaked, release_buffers),
    };
    return cmocka_run_group_tests_name("products " PRECISION_NAME, tests, NULL, NULL);
}
