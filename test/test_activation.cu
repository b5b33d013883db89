/*
exp, tanh, erf and GELU against double precision: the error bounds that math.cuh and activation.cuh state, over all magnitudes of
both signs; the special values; and the GELU kernels, whose recomputing variant must give the same bits as the forward one.
On the GPU the functions are CUDA's own, so there only the kernels are tested.
*/
#include "harness.h"

#include "gelu_double.h"

#if !GPU_EXECUTION
enum { F_EXP, F_TANH, F_ERF, F_GELU_TANH, F_GELU_ERF, F_GRAD_TANH, F_GRAD_ERF, FUNCTIONS };
static const char* const NAMES[FUNCTIONS] = {"exp", "tanh", "erf", "gelu tanh", "gelu erf", "gelu' tanh", "gelu' erf"};

static float ours(int f, float x) {
    switch (f) {
        case F_EXP: return fast_exp(x);
        case F_TANH: return fast_tanh(x);
        case F_ERF: return fast_erf(x);
        case F_GELU_TANH: return gelu(x, GELU_TANH);
        case F_GELU_ERF: return gelu(x, GELU_ERF);
        case F_GRAD_TANH: return gelu_grad(x, GELU_TANH);
        default: return gelu_grad(x, GELU_ERF);
    }
}
static double truth(int f, double x) {
    switch (f) {
        case F_EXP: return exp(x);
        case F_TANH: return tanh(x);
        case F_ERF: return erf(x);
        case F_GELU_TANH: return gelu_double(x, GELU_TANH);
        case F_GELU_ERF: return gelu_double(x, GELU_ERF);
        case F_GRAD_TANH: return gelu_grad_double(x, GELU_TANH);
        default: return gelu_grad_double(x, GELU_ERF);
    }
}
// What the headers promise
static double allowed(int f, double x, double value) {
    switch (f) {
        case F_EXP: return x < -87.3 ? 0x1p-149 + 3e-7 * value : 3e-7 * value;
        case F_TANH: return 5e-7 * fabs(value);
        case F_ERF: return 6e-7;
        case F_GELU_TANH:
        case F_GELU_ERF: return 6e-7 * fmax(1, fabs(x));
        default: return 5e-7;
    }
}

// Every 509th float there is (509 is prime: all exponents, both signs, mixed mantissas); exp up to where fp32 ends
static void test_error_bounds(void** state) {
    (void)state;
    for (int f = 0; f < FUNCTIONS; f++) {
        float limit = f == F_EXP ? 88.72f : f == F_GRAD_TANH ? 1e12f : 3e38f;
        for (uint64_t bits = 0; bits < (1ull << 32); bits += 509) {
            float x = bits_float((uint32_t)bits);
            if (!(x <= limit && x >= (f == F_EXP ? -3e38f : -limit))) continue;
            double want = truth(f, x), got = ours(f, x), slack = allowed(f, x, want) + 1.5e-45;
            if (!(fabs(got - want) <= slack)) fail_msg("%s(%.9g) is %.9g, expected %.9g +- %.2g", NAMES[f], x, got, want, slack);
        }
    }
}

static void test_special_values(void** state) {
    (void)state;
    for (int f = 0; f < FUNCTIONS; f++) assert_true(isnan(ours(f, NAN)));
    assert_true(fast_exp(0.0f) == 1.0f && fast_exp(-INFINITY) == 0.0f && fast_exp(-1e30f) == 0.0f);
    assert_true(isinf(fast_exp(INFINITY)) && isinf(fast_exp(88.73f)) && isinf(fast_exp(1e30f)));
    assert_true(fast_exp(-177.0f) == 0.0f && fast_exp(-1e9f) == 0.0f);
    assert_true(fast_tanh(INFINITY) == 1.0f && fast_tanh(-INFINITY) == -1.0f && fast_tanh(0.0f) == 0.0f);
    assert_true(fast_erf(INFINITY) == 1.0f && fast_erf(-INFINITY) == -1.0f && fabsf(fast_erf(0.0f)) < 2e-9f);
    for (int kind = GELU_TANH; kind <= GELU_ERF; kind++) {
        assert_true(gelu(0.0f, kind) == 0.0f && gelu(1e30f, kind) == 1e30f && fabsf(gelu(-1e30f, kind)) == 0.0f);
        assert_true(gelu_grad(1e10f, kind) == 1.0f && gelu_grad(-1e10f, kind) == 0.0f);
    }
}
#endif

// --- kernels ------------------------------------------------------------------------------------------------------------------
static floatX* device_copy(const float* values, size_t n) {
    floatX* host = (floatX*)xmalloc(n * sizeof(floatX));
    for (size_t i = 0; i < n; i++) from_float(host + i, values[i]);
#if GPU_EXECUTION
    floatX* p;
    CUDA_CHECK(cudaMalloc(&p, n * sizeof(floatX)));
    CUDA_CHECK(cudaMemcpy(p, host, n * sizeof(floatX), cudaMemcpyHostToDevice));
    free(host);
    return p;
#else
    return host;
#endif
}
static floatX* host_copy(floatX* from, size_t n) {  // and frees `from`
#if GPU_EXECUTION
    floatX* host = (floatX*)xmalloc(n * sizeof(floatX));
    CUDA_CHECK(cudaMemcpy(host, from, n * sizeof(floatX), cudaMemcpyDeviceToHost));
    CUDA_CHECK(cudaFree(from));
    return host;
#else
    (void)n;
    return from;
#endif
}

static void check_kernels(size_t n, int kind) {
    const double unit = PRECISION == PRECISION_FP32 ? 0x1p-23 : PRECISION == PRECISION_BF16 ? 0x1.02p-8 : 0x1.02p-11;
    float *z = (float*)xmalloc(n * 4), *da = (float*)xmalloc(n * 4);
    for (size_t i = 0; i < n; i++) {
        floatX rounded;
        from_float(&rounded, (float)(i * 2654435761u % 12007) / 1000.0f - 6.0f);
        z[i] = to_float(rounded);
        from_float(&rounded, (float)(i * 40503u % 4001) / 1000.0f - 2.0f);
        da[i] = to_float(rounded);
    }
    floatX *x_z = device_copy(z, n), *a = device_copy(da, n), *dz = device_copy(da, n), *dz2 = device_copy(da, n);
    floatX *a2 = device_copy(da, n), *in_place = device_copy(z, n);
    gelu_forward(a, x_z, n, kind, 0);
    gelu_forward(in_place, in_place, n, kind, 0);
    gelu_backward(dz, x_z, NULL, n, kind, 0);
    gelu_backward(dz2, x_z, a2, n, kind, 0);
    x_z = host_copy(x_z, n), a = host_copy(a, n), dz = host_copy(dz, n), dz2 = host_copy(dz2, n);
    a2 = host_copy(a2, n), in_place = host_copy(in_place, n);
    for (size_t i = 0; i < n; i++) {
        double want = gelu_double(z[i], kind), slope = da[i] * gelu_grad_double(z[i], kind);
        double slack = 6e-7 * fmax(1, fabs(z[i])) + unit * fabs(want) + 0x1p-25, slack_z = 1e-6 + unit * fabs(slope) + 0x1p-25;
        if (!(fabs(to_float(a[i]) - want) <= slack)) fail_msg("gelu(%g) is %g, expected %g", z[i], to_float(a[i]), want);
        if (!(fabs(to_float(dz[i]) - slope) <= slack_z))
            fail_msg("dgelu(%g, %g) is %g, expected %g", z[i], da[i], to_float(dz[i]), slope);
    }
    assert_memory_equal(a, in_place, n * sizeof(floatX));
    assert_memory_equal(a, a2, n * sizeof(floatX));
    assert_memory_equal(dz, dz2, n * sizeof(floatX));
    floatX* all[] = {x_z, a, dz, dz2, a2, in_place};
    for (int i = 0; i < 6; i++) free(all[i]);
    free(z), free(da);
}
static void test_kernels(void** state) {
    (void)state;
    for (int kind = GELU_TANH; kind <= GELU_ERF; kind++) {
        for (size_t n = 8; n < 200000; n = n * 7 + 8) check_kernels(n, kind);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#if !GPU_EXECUTION
        cmocka_unit_test(test_error_bounds),
        cmocka_unit_test(test_special_values),
#endif
        cmocka_unit_test(test_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
