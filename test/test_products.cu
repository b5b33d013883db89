/*
Matrix products and attention against recorded tensors. Their own programs test sizes, speed paths and properties; this one ties
them to the reference: bias, accumulation into what was there, causal rows, a peaked softmax, shared key heads.
*/
#include "buffer.h"
#include "gold.h"

#include "llmc/ops/attention.cuh"
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

static void check_attention(const char* name) {
    Gold* g = gold_open(name);
    AttentionShape s = {gold_int(g, "B"), gold_int(g, "T"), gold_int(g, "NH"), gold_int(g, "KV"), gold_int(g, "D")};
    size_t rows = (size_t)s.B * s.T, n_in = rows * attention_qkv_row(s), n_out = rows * attention_out_row(s), n_lse = rows * s.NH;
    Attention at = {};
    attention_init(&at, true);
    attention_plan(&at, s.B, s.T, s.NH, s.D, true);
    floatX *qkv = buffer_x(gold_floats(g, "qkv"), n_in), *dy = buffer_x(gold_floats(g, "dy"), n_out);
    floatX *y = buffer_x(NULL, n_out), *dqkv = buffer_x(NULL, n_in);
    float* lse = buffer_f(NULL, n_lse);
    if (s.NKV == s.NH) {
        attention_forward(&at, y, lse, qkv, s.B, s.T, s.NH, s.D, 0);
        attention_backward(&at, dqkv, dy, y, lse, qkv, s.B, s.T, s.NH, s.D, 0);
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
        cmocka_unit_test_teardown(golden_attention, release_buffers),
        cmocka_unit_test_teardown(golden_attention_grouped, release_buffers),
        cmocka_unit_test_teardown(golden_attention_peaked, release_buffers),
    };
    return cmocka_run_group_tests_name("products " PRECISION_NAME, tests, NULL, NULL);
}
