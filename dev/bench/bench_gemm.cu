/*
The matrix products of one training step of GPT-2 124M: 12 layers of four linear layers, and the vocabulary; forward, input
gradient, weight gradient.

    build/bench/gemm [rows] [width]      rows = batch * time, default 512; width C, default 768 (12 layers, vocabulary 50304)

Two libraries serve as yardsticks where they are installed: oneDNN (dnnl_sgemm) and OpenBLAS, fp32 only. They are loaded at run
time and are no dependency of the project. OpenBLAS is told which kernels to use, unless OPENBLAS_CORETYPE does: where it does not
know the processor it falls back to SSE and a tenth of the speed.
*/
#include "bench.h"

#include "../../llmc/ops/gemm.cuh"

#include <dlfcn.h>

typedef enum { OURS, DNNL, OPENBLAS, ENGINES } Engine;
static const char* const ENGINE_NAMES[ENGINES] = {"ours", "dnnl_sgemm", "openblas"};
typedef int (*DnnlSgemm)(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                         const float* b, int64_t ldb, float beta, float* c, int64_t ldc);
typedef void (*CblasSgemm)(int order, int transa, int transb, int m, int n, int k, float alpha, const float* a, int lda,
                           const float* b, int ldb, float beta, float* c, int ldc);
static DnnlSgemm dnnl_sgemm;
static CblasSgemm cblas_sgemm;

static void* find_symbol(const char* const* libraries, const char* symbol) {
    for (; *libraries; libraries++) {
        void* library = dlopen(*libraries, RTLD_NOW | RTLD_LOCAL);
        if (library) return dlsym(library, symbol);
    }
    return NULL;
}
static void find_yardsticks(void) {
    static const char* const dnnl[] = {"libdnnl.so.3", "libdnnl.so.2", "libdnnl.so", NULL};
    static const char* const openblas[] = {"libopenblas.so.0", "libopenblas.so", NULL};
    const char* core[TILE_KINDS] = {"Prescott", "Haswell", "SkylakeX"};
    setenv("OPENBLAS_CORETYPE", core[tile_choose()], 0);
    if (PRECISION != PRECISION_FP32) return;
    dnnl_sgemm = (DnnlSgemm)find_symbol(dnnl, "dnnl_sgemm");
    cblas_sgemm = (CblasSgemm)find_symbol(openblas, "cblas_sgemm");
    if (!dnnl_sgemm) printf("oneDNN: not installed\n");
    if (!cblas_sgemm) printf("OpenBLAS: not installed\n");
}
static bool present(Engine e) { return e == OURS || (e == DNNL && dnnl_sgemm) || (e == OPENBLAS && cblas_sgemm); }

typedef struct {
    floatX *x, *w, *dy;  // (rows,in) (out,in) (rows,out); y and dx are written over dy and x
    float* dw;           // (out,in)
} Buffers;

// c (m,n) = a (m,k) . b (k,n), either factor transposed in memory
static void yardstick(Engine e, bool ta, bool tb, int m, int n, int k, const void* a, const void* b, void* c) {
    int lda = ta ? m : k, ldb = tb ? k : n;
    if (e == DNNL) {
        dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1.0f, (const float*)a, lda, (const float*)b, ldb, 0.0f, (float*)c, n);
    } else {
        enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
        cblas_sgemm(ROW_MAJOR, ta ? TRANS : NO_TRANS, tb ? TRANS : NO_TRANS, m, n, k, 1.0f, (const float*)a, lda, (const float*)b,
                    ldb, 0.0f, (float*)c, n);
    }
}

static void multiply(Gemm* g, Engine e, GemmKind kind, Buffers b, int rows, int in, int out) {
    if (e != OURS) {
        if (kind == GEMM_FORWARD) yardstick(e, false, true, rows, out, in, b.x, b.w, b.dy);
        if (kind == GEMM_DINPUT) yardstick(e, false, false, rows, in, out, b.dy, b.w, b.x);
        if (kind == GEMM_DWEIGHT) yardstick(e, true, false, out, in, rows, b.dy, b.x, b.dw);
        return;
    }
    if (kind == GEMM_FORWARD) matmul_forward(g, b.dy, b.x, b.w, (const floatX*)NULL, rows, in, out, 1.0f, false, 0);
    if (kind == GEMM_DINPUT) matmul_dinput(g, b.x, b.dy, b.w, rows, in, out, 1.0f, 0);
    if (kind == GEMM_DWEIGHT) matmul_dweight(g, b.dw, b.dy, b.x, rows, in, out, 1.0f, false, 0);
}

static void fill(floatX* x, size_t n) {
    for (size_t i = 0; i < n; i++) from_float(x + i, (float)((i * 2654435761u >> 7) % 2001) * 1e-3f - 1.0f);
}

int main(int argc, char** argv) {
    int rows = argc > 1 ? atoi(argv[1]) : 512, C = argc > 2 ? atoi(argv[2]) : 768;
    if (rows < 1 || rows > 1 << 16 || C < 1 || C > 1 << 14) usage_error("use: bench gemm [rows 1..65536] [width 1..16384]");
    enum { LAYERS = 12, VOCABULARY = 50304, LINEAR = 5 };
    int in[LINEAR] = {C, C, C, 4 * C, C}, out[LINEAR] = {3 * C, C, 4 * C, C, VOCABULARY};
    size_t widest = 4 * C > VOCABULARY ? 4 * C : VOCABULARY;
    Buffers b = {(floatX*)alloc_panels((size_t)rows * 4 * C), (floatX*)alloc_panels(widest * C),
                 (floatX*)alloc_panels(rows * widest), alloc_panels(widest * C)};
    Gemm g;
    gemm_init(&g, 0);
    find_yardsticks();
    bench_begin("matrix products");
    double seconds[ENGINES] = {}, work = 0.0;
    for (int l = 0; l < LINEAR; l++) {
        double flops = 2.0 * rows * in[l] * out[l];
        int count = out[l] == VOCABULARY ? 1 : LAYERS, repeats = out[l] == VOCABULARY ? 5 : 20;
        for (int kind = GEMM_FORWARD; kind <= GEMM_DWEIGHT; kind++) {
            work += count * flops;
            for (int e = 0; e < ENGINES; e++) {
                if (!present((Engine)e)) continue;
                static const char* const PASSES[] = {"forward", "dinput", "dweight"};
                char kernel[64], shape[64];
                snprintf(kernel, sizeof kernel, "%s %s", e == OURS ? "matmul" : ENGINE_NAMES[e], PASSES[kind]);
                snprintf(shape, sizeof shape, "%d x %d -> %d", rows, in[l], out[l]);
                fill(b.x, (size_t)rows * in[l]);  // outputs land in inputs: keep the values tame
                fill(b.w, (size_t)out[l] * in[l]);
                fill(b.dy, (size_t)rows * out[l]);
                Timing t;
                BENCH_TIME(t, repeats, multiply(&g, (Engine)e, (GemmKind)kind, b, rows, in[l], out[l]));
                bench_row(kernel, shape, t, flops, BENCH_FLOPS);
                seconds[e] += count * t.best;
            }
        }
    }
    printf("\nall products of a step: %d layers and the vocabulary, three passes, %.1f GFLOP\n", LAYERS, work * 1e-9);
    for (int e = 0; e < ENGINES; e++) {
        if (!present((Engine)e)) continue;
        printf("%-22s %8.1f ms %8.1f GFLOP/s %6.1f %% of the ceiling\n", ENGINE_NAMES[e], seconds[e] * 1e3,
               work / seconds[e] * 1e-9, 100.0 * work / seconds[e] * 1e-9 / bench_ceilings.multiply);
    }
    gemm_free(&g);
    return 0;
}
