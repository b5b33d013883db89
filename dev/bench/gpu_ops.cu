/*
The kernels and products of a training step on a GPU, one by one, at the sizes of a 124M model with 16 x 1,024 tokens (or with as
many tokens as the argument says, a multiple of 1,024). Times are events around a call, the best of 20; caches are as the call
before left them.

    build/bench/gpu_ops [TOKENS]

    ceiling     a copy inside the device, bytes read and written: what bytes are compared with
    products    cuBLASLt's first offer, and the fastest of its offers, which a run with --deterministic 0 takes
*/
#include "../../llmc/model/setup.cuh"

static cudaEvent_t before, after;
static double ceiling;  // bytes a second

template <class Call>
static double best_of(int calls, Call call) {
    float best = 0, ms = 0;
    for (int i = -2; i < calls; i++) {  // two to warm up
        CUDA_CHECK(cudaEventRecord(before, 0));
        call();
        CUDA_CHECK(cudaEventRecord(after, 0));
        CUDA_CHECK(cudaEventSynchronize(after));
        CUDA_CHECK(cudaEventElapsedTime(&ms, before, after));
        if (i <= 0 || ms < best) best = ms;
    }
    check_launches();
    return 1e-3 * (double)best;
}

template <class Call>
static void moves_bytes(const char* name, double bytes, Call call) {
    double s = best_of(20, call);
    printf("%-42s %9.1f us %8.0f GB/s   %5.1f %% of a copy\n", name, 1e6 * s, 1e-9 * bytes / s, 100 * bytes / s / ceiling);
}
template <class Call>
static void computes(const char* name, double flops, Call call) {
    double s = best_of(20, call);
    printf("%-42s %9.1f us %8.1f TFLOP/s\n", name, 1e6 * s, 1e-12 * flops / s);
}

// n elements of about -1 .. 1
template <class T>
static T* tensor(size_t n) {
    const size_t PERIOD = 1 << 20;
    T* host = (T*)xmalloc(PERIOD * sizeof(T));
    uint32_t x = 1;
    for (size_t i = 0; i < PERIOD; i++) {
        x = x * 1664525u + 1013904223u;
        from_float(&host[i], (float)(int32_t)x * 0x1p-31f);
    }
    T* p = (T*)device_malloc(n * sizeof(T), "bench");
    for (size_t at = 0; at < n; at += PERIOD) copy_to_device(p + at, host, (n - at < PERIOD ? n - at : PERIOD) * sizeof(T));
    free(host);
    return p;
}

// Token ids as often as a text has them: the i-th most frequent one 1/i of the time; and their order, as the loader makes it.
static void make_tokens(int* tokens, int* order, int N, int V) {
    double sum = 0, at = 0;
    int n = 0;
    for (int v = 0; v < V; v++) sum += 1.0 / (v + 1);
    for (int v = 0; v < V; v++) {
        at += (double)N / ((v + 1) * sum);
        for (; n < N && n < at; n++) tokens[n] = v, order[n] = n;  // rising: the order is the identity
    }
    for (; n < N; n++) tokens[n] = V - 1, order[n] = n;
}

static void bench_kernels(int N) {
    enum { C = 768, V = 50257, VP = 50304, T = 1024, NH = 12, D = 64 };
    const double X = sizeof(floatX), F = sizeof(float), NC = (double)N * C;
    size_t n = (size_t)N * C;
    floatX *y = tensor<floatX>(4 * n), *z = tensor<floatX>(4 * n), *dres = tensor<floatX>(n), *out = tensor<floatX>(n);
    float *x = tensor<float>(n), *rstd = tensor<float>((size_t)N), *lse = tensor<float>((size_t)N * NH);
    moves_bytes("rms norm", NC * (F + X), [&] { norm_forward(y, NULL, rstd, x, NULL, NULL, no_lookup, N, C, 0); });
    moves_bytes("rms norm, backward", NC * 4 * X,
                [&] { norm_backward(dres, NULL, NULL, NULL, z, y, rstd, NULL, N, C, true, true, 0); });
    moves_bytes("gelu", 4 * NC * 2 * X, [&] { gelu_forward(y, z, 4 * n, GELU_ERF, 0); });
    moves_bytes("gelu, backward", 4 * NC * 3 * X, [&] { gelu_backward(y, z, NULL, 4 * n, GELU_ERF, 0); });
    float *cosines = tensor<float>(T * D / 2), *sines = tensor<float>(T * D / 2);
    moves_bytes("rotary embedding", NC * 4 * X, [&] { rope(y, cosines, sines, false, N, T, NH, D, 0); });

    int *tokens = (int*)xmalloc((size_t)N * sizeof(int)), *order = (int*)xmalloc((size_t)N * sizeof(int)), distinct = 1;
    make_tokens(tokens, order, N, V);
    for (int i = 1; i < N; i++) distinct += tokens[i] != tokens[i - 1];
    int *ids = (int*)device_malloc((size_t)N * sizeof(int), "bench"),
        *sorted = (int*)device_malloc((size_t)N * sizeof(int), "bench");
    copy_to_device(ids, tokens, (size_t)N * sizeof(int)), copy_to_device(sorted, order, (size_t)N * sizeof(int));
    float* dwte = tensor<float>((size_t)V * C);
    moves_bytes("embedding, backward", NC * X + 2.0 * distinct * C * F,
                [&] { embedding_backward(dwte, dres, ids, sorted, N, C, 0); });

    int rows = N < 8192 ? N : 8192;
    floatX* logits = tensor<floatX>((size_t)rows * VP);
    float *losses = tensor<float>((size_t)8 * rows), *ones = tensor<float>(8);
    for (int K = 1; K <= 8; K *= 8) {
        Targets targets = targets_list(ids, ones, K, 1, 0, 0);  // K times the same: as many gathers and losses as K tokens ahead
        moves_bytes(K == 1 ? "classifier" : "classifier, 8 targets", 2.0 * rows * VP * X,
                    [&] { classifier(logits, losses, rows, targets, 1.0f, ones, rows, V, VP, true, false, 0); });
    }
    Attention at;
    attention_init(&at, false);
    attention_plan(&at, N / T, T, NH, D, true);
    double pairs = (double)(N / T) * NH * T * (T + 1.0) / 2;
    computes("attention", 4 * D * pairs, [&] { attention_forward(&at, out, lse, z, N / T, T, NH, D, 0); });
    computes("attention, backward", 10 * D * pairs, [&] { attention_backward(&at, y, dres, out, lse, z, N / T, T, NH, D, 0); });
    attention_free(&at);
    free(tokens), free(order);
    void* all[] = {y, z, dres, out, x, rstd, lse, cosines, sines, ids, sorted, dwte, logits, losses, ones};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) device_free(all[i], 0);
}

static void bench_products(int N) {
    enum { C = 768, VP = 50304 };
    const struct {
        const char* name;
        int in, out, rows;
        bool residual;  // the result is added to the fp32 stream
    } layers[] = {{"qkv", C, 3 * C, N, false},
                  {"attention's projection", C, C, N, true},
                  {"fc", C, 4 * C, N, false},
                  {"mlp's projection", 4 * C, C, N, true},
                  {"head", C, VP, N < 8192 ? N : 8192, false}};
    const char* const kinds[] = {"", ", dx", ", dw"};
    Gemm first, fastest;
    gemm_init(&first, 0), gemm_init(&fastest, 0);
    fastest.measure = true;
    for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
        int in = layers[i].in, out = layers[i].out, rows = layers[i].rows;
        floatX *x = tensor<floatX>((size_t)rows * in), *w = tensor<floatX>((size_t)in * out),
               *y = tensor<floatX>((size_t)rows * out);
        float *sum = tensor<float>((size_t)rows * out), *dw = tensor<float>((size_t)in * out);
        for (int kind = 0; kind < 3; kind++) {
            for (int measured = 0; measured < 2; measured++) {
                Gemm* g = measured ? &fastest : &first;
                char name[64];
                snprintf(name, sizeof(name), "%s%s%s", layers[i].name, kinds[kind], measured ? ", fastest offer" : "");
                computes(name, 2.0 * rows * in * out, [&] {
                    if (kind == 1) matmul_dinput(g, x, y, w, rows, in, out, 1.0f, 0);
                    else if (kind == 2) matmul_dweight(g, dw, y, x, rows, in, out, 1.0f, true, 0);
                    else if (layers[i].residual) matmul_forward(g, sum, x, w, (const float*)NULL, rows, in, out, 1.0f, true, 0);
                    else matmul_forward(g, y, x, w, (const floatX*)NULL, rows, in, out, 1.0f, false, 0);
                });
            }
        }
        void* all[] = {x, w, y, sum, dw};
        for (int k = 0; k < 5; k++) device_free(all[k], 0);
    }
    gemm_free(&first), gemm_free(&fastest);
}

int main(int argc, char** argv) {
    int N = argc > 1 ? atoi(argv[1]) : 16384;
    if (N < 1024 || N % 1024) fail("usage: %s [TOKENS]: a multiple of 1024", argv[0]);
    cudaDeviceProp card;
    CUDA_CHECK(cudaGetDeviceProperties(&card, 0));
    CUDA_CHECK(cudaEventCreate(&before));
    CUDA_CHECK(cudaEventCreate(&after));
    size_t bytes = (size_t)N * 65536;
    char *from = (char*)device_malloc(bytes, "bench"), *to = (char*)device_malloc(bytes, "bench");
    ceiling = 2.0 * (double)bytes / best_of(10, [&] { copy_on_device(to, from, bytes, 0); });
    device_free(from, bytes), device_free(to, bytes);
    printf("%s, %s, %d tokens. A copy of %.1f GB: %.0f GB/s read and written\n\n", card.name, PRECISION_NAME, N,
           1e-9 * (double)bytes, 1e-9 * ceiling);
    bench_kernels(N);
    bench_products(N);
    return 0;
}
