/*
Speed of causal attention, forward and backward, in GFLOP/s of the causal half:

    forward   2 products: 2 * 2 * B NH D * T (T + 1) / 2        backward   5 products (the own GPU kernel does 7: not counted)

    bench_attention [B T NH D]     without arguments: the two shapes of the project's presets and a ragged one
*/
#include "llmc/ops/attention.cuh"

#include <time.h>

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// n elements of floatX, reproducible, in about -1..1; on a GPU they are device memory.
static floatX* make_tensor(size_t n, uint32_t seed) {
    floatX* host = (floatX*)xmalloc(n * sizeof(floatX));
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        from_float(&host[i], (float)(int32_t)seed / 2147483648.0f);
    }
#if GPU_EXECUTION
    floatX* device;
    CUDA_CHECK(cudaMalloc(&device, n * sizeof(floatX)));
    CUDA_CHECK(cudaMemcpy(device, host, n * sizeof(floatX), cudaMemcpyHostToDevice));
    free(host);
    return device;
#else
    return host;
#endif
}
static void free_tensor(void* p) {
#if GPU_EXECUTION
    CUDA_CHECK(cudaFree(p));
#else
    free(p);
#endif
}

static void measure(int B, int T, int NH, int D) {
    size_t n = (size_t)B * (size_t)T * (size_t)NH * (size_t)D;
    floatX *qkv = make_tensor(3 * n, 1), *dout = make_tensor(n, 2), *out = make_tensor(n, 3), *dqkv = make_tensor(3 * n, 4);
    float* lse = (float*)make_tensor((size_t)B * (size_t)T * (size_t)NH * (4 / sizeof(floatX)), 5);
    Attention at;
    attention_init(&at, false);
    attention_plan(&at, B, T, NH, D, true);
    attention_plan(&at, B, T, NH, D, false);
    double best[2] = {1e9, 1e9}, spent = 0;
    for (int repeat = 0; repeat < 200 && spent < 2.0; repeat++) {
        double t0 = seconds();
        attention_forward(&at, out, lse, qkv, B, T, NH, D, 0);
        device_sync();
        double t1 = seconds();
        attention_backward(&at, dqkv, dout, out, lse, qkv, B, T, NH, D, 0);
        device_sync();
        double t2 = seconds();
        best[0] = t1 - t0 < best[0] ? t1 - t0 : best[0];
        best[1] = t2 - t1 < best[1] ? t2 - t1 : best[1];
        spent += t2 - t0;
    }
    double product = 2.0 * (double)B * NH * D * T * (T + 1) / 2.0 * 1e-9;
    printf("B%-3d T%-5d NH%-3d D%-4d  forward %8.2f ms %8.1f GF/s   backward %8.2f ms %8.1f GF/s   both %8.1f GF/s\n", B, T, NH,
           D, best[0] * 1e3, 2 * product / best[0], best[1] * 1e3, 5 * product / best[1], 7 * product / (best[0] + best[1]));
    attention_free(&at);
    free_tensor(qkv), free_tensor(dout), free_tensor(out), free_tensor(dqkv), free_tensor(lse);
}

int main(int argc, char** argv) {
    printf("attention, %s, best of many, causal flop only\n", PRECISION_NAME);
    if (argc == 5) {
        measure(atoi(argv[1]), atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    } else {
        measure(4, 1024, 12, 64);
        measure(4, 256, 6, 64);
        measure(2, 1000, 12, 72);
    }
    return 0;
}
