/*
The rates of this machine's CPU, for a dry run: measured in about half a second, with the products that training uses.
*/
#pragma once

#include "../base/devices.h"
#include "../ops/gemm.cuh"

enum { MEASURE_ROWS = 512, MEASURE_IN = 768, MEASURE_OUT = 3072, MEASURE_FLOATS = 1 << 24 };
#define MEASURE_SECONDS 0.2
#define CPU_ATTENTION_SHARE 0.7  // of the rate of products; on an AMD EPYC (Zen 4) it was 0.67 to 0.81

#if GPU_EXECUTION
UNUSED static DeviceRates measured_cpu(void) { fail("a GPU's variant does not measure the CPU"); }
#else
// Operations a second of a product in this variant's storage, all threads.
static double measured_products(void) {
    Gemm g;
    gemm_init(&g, 0);
    floatX *x = (floatX*)xcalloc((size_t)MEASURE_ROWS * MEASURE_IN * sizeof(floatX)),
           *w = (floatX*)xcalloc((size_t)MEASURE_OUT * MEASURE_IN * sizeof(floatX)),
           *y = (floatX*)xcalloc((size_t)MEASURE_ROWS * MEASURE_OUT * sizeof(floatX));
    double begin = 0, seconds = 0;
    int calls = -1;  // the first one warms up
    do {
        if (calls == 0) begin = profile_clock();
        matmul_forward(&g, y, x, w, (const floatX*)NULL, MEASURE_ROWS, MEASURE_IN, MEASURE_OUT, 1.0f, false, 0);
        calls++;
        if (calls > 0) seconds = profile_clock() - begin;
    } while (calls < 1 || seconds < MEASURE_SECONDS);
    free(x), free(w), free(y);
    gemm_free(&g);
    return 2.0 * MEASURE_ROWS * MEASURE_IN * MEASURE_OUT * calls / seconds;
}

// Bytes a second that all threads read and write together: y += x.
static double measured_bandwidth(void) {
    float *x = (float*)xcalloc(MEASURE_FLOATS * sizeof(float)), *y = (float*)xcalloc(MEASURE_FLOATS * sizeof(float));
    double begin = 0, seconds = 0;
    int calls = -1;
    do {
        if (calls == 0) begin = profile_clock();
#pragma omp parallel for
        for (int i = 0; i < MEASURE_FLOATS; i++) y[i] += x[i] + 1.0f;
        calls++;
        if (calls > 0) seconds = profile_clock() - begin;
    } while (calls < 1 || seconds < MEASURE_SECONDS);
    free(x), free(y);
    return 3.0 * sizeof(float) * MEASURE_FLOATS * calls / seconds;
}

UNUSED static DeviceRates measured_cpu(void) {
    DeviceRates d = {
        "cpu", "this machine's CPU", 0, 0, 0, 0, 0, 0, 1, CPU_ATTENTION_SHARE, 1, true, "measured just now, all threads"};
    d.tflops_16 = d.tflops_tf32 = d.tflops_fp32 = 1e-12 * measured_products();
    d.gb_per_s = 1e-9 * measured_bandwidth();
    return d;
}
#endif
