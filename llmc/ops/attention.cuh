/*
Causal self attention on the packed projections: the one door to three executions.

    qkv (B,T,3,NH,D) --forward-->  out (B,T,NH,D)  and  lse (B,NH,T) = log sum exp of the scaled scores, scale = 1/sqrt(D)
    dout, out, lse, qkv --backward--> dqkv (B,T,3,NH,D), written, not added

    execution   file                used                                        head size            backward
    CPU         attention_cpu.h     CPU variants                                multiple of 8        5 products, fixed order
    own CUDA    attention_own.cuh   fp32; no cuDNN; no plan; deterministic      multiple of 8, 128   7 products, fixed order
    cuDNN       attention_cudnn.h   bf16 and fp16, built with -DAHEAD_CUDNN     multiple of 8, 128   dq by fp32 atomics

No execution holds a (T,T) matrix: backward recomputes the probabilities from lse. Scratch belongs to the Attention and is
allocated by attention_plan, never in a step:

    CPU   per thread: one head in fp32, about 8 T D floats      own CUDA   delta (B,NH,T) fp32, backward only
    cuDNN what its plan asks for: linear in T (fp32 dq accumulators)
*/
#pragma once

#include "../base/math.cuh"
#include "attention_shape.h"
#if GPU_EXECUTION
#include "attention_own.cuh"
#else
#include "attention_cpu.h"
#endif

#if defined(AHEAD_CUDNN) && GPU_EXECUTION && !defined(AHEAD_EMU) && PRECISION != PRECISION_FP32
#define ATTENTION_CUDNN 1
#include "attention_cudnn.h"
#else
#define ATTENTION_CUDNN 0
#endif

typedef struct {
    bool deterministic;  // backward in a fixed order always: cuDNN's backward is then replaced by the own kernel
    int plans_made;      // calls of attention_plan that did work; constant once training runs
    void* workspace;
    size_t workspace_bytes;
    int threads;  // CPU: the scratch serves this many
    bool fallback_announced;
#if ATTENTION_CUDNN
    AheadCudnn* cudnn;  // NULL: the library does not answer
#endif
} Attention;

static UNUSED AttentionShape attention_shape(int B, int T, int NH, int D) { return (AttentionShape){B, T, NH, NH, D}; }

// Bytes of scratch for one shape (the own kernel's on a GPU; cuDNN's is known after attention_plan, in workspace_bytes).
static UNUSED size_t attention_workspace_bytes(int B, int T, int NH, int D) {
#if !GPU_EXECUTION
    if (!planning.gpu) return attention_cpu_bytes(attention_shape(B, T, NH, D), omp_get_max_threads());
#endif
    (void)D;
    return sizeof(float) * (size_t)B * (size_t)NH * (size_t)T;
}

// Does cuDNN go backward, in this build or in the one that a dry run is for?
static UNUSED bool attention_backward_is_cudnn(const Attention* at) {
    return !at->deterministic && PRECISION != PRECISION_FP32 && (ATTENTION_CUDNN || (planning.on && planning.gpu));
}

// What its plans ask for, as those of cuDNN 9.19 for sm_80 to sm_120 say (`make plans`): fp32 dq once or twice, and delta.
static UNUSED size_t attention_cudnn_bytes(int B, int T, int NH, int D, int sm_major) {
    size_t rows = (size_t)B * (size_t)T * (size_t)NH;
    return rows * (size_t)D * (sm_major == 9 || sm_major == 10 ? 4 : 8) + rows * 4;
}

// Products of a head's causal half that a backward pass makes: cuDNN's and the CPU's sweep 5, two sweeps 7.
static UNUSED int attention_backward_products(const Attention* at, AttentionShape s) {
#if !GPU_EXECUTION
    if (!planning.gpu) return attn_parts(s, omp_get_max_threads()) > 1 ? 7 : 5;
#endif
    (void)s;
    return attention_backward_is_cudnn(at) ? 5 : 7;
}

// A call as work of a plan (base/planning.h): products of (T,D) with (T,D) of which half is masked, the diagonal included.
static UNUSED void attention_count(const Attention* at, AttentionShape s, bool backward) {
    double pairs = (double)s.B * s.NH * s.T * ((double)s.T + 1) / 2, row = (double)s.B * s.T * s.NH * s.D * sizeof(floatX);
    int products = backward ? attention_backward_products(at, s) : 2;
    work_add(WORK_ATTENTION, 2.0 * s.D * pairs * products, (backward ? 8 : 4) * row);
}

// The first time that a GPU build with cuDNN runs the own kernel instead, one line says why.
static UNUSED void attention_announce(Attention* at, const char* why) {
    if (!at->fallback_announced) printf("attention: the project's own CUDA kernel is used (%s)\n", why);
    at->fallback_announced = true;
}

// Prepares *at. deterministic: same inputs give the same gradient bits on every execution; costs time with cuDNN only.
static UNUSED void attention_init(Attention* at, bool deterministic) {
    *at = (Attention){};
    at->deterministic = deterministic;
#if GPU_EXECUTION
    attention_own_init();
#endif
#if ATTENTION_CUDNN
    char why[AHEAD_CUDNN_MESSAGE];
    at->cudnn = ahead_cudnn_create(why, sizeof why);
    if (!at->cudnn) attention_announce(at, why);
#endif
}

static UNUSED void attention_free(Attention* at) {
#if GPU_EXECUTION
    if (at->workspace) CUDA_CHECK(cudaFree(at->workspace));
#else
    free(at->workspace);
#endif
#if ATTENTION_CUDNN
    if (at->cudnn) ahead_cudnn_destroy(at->cudnn);
#endif
    *at = (Attention){};
}

static UNUSED void attention_grow(Attention* at, size_t bytes) {
    bytes = round_up(bytes, 256);
    if (bytes <= at->workspace_bytes) return;
#if GPU_EXECUTION
    if (at->workspace) CUDA_CHECK(cudaFree(at->workspace));
    CUDA_CHECK(cudaMalloc(&at->workspace, bytes));
#else
    free(at->workspace);
    at->workspace = aligned_alloc(256, bytes);
    if (!at->workspace) fail("attention: out of host memory: %.1f MiB asked for", (double)bytes / 1048576.0);
    memset(at->workspace, 0, bytes);  // pages are made here and not in the first step
#endif
    at->workspace_bytes = bytes;
    at->plans_made++;
}

// Makes everything that calls with this shape need, forward and, if asked, backward: cuDNN plans (0.3 to 0.6 s each), scratch.
// Call it for every shape before the first step; one that was not planned still works, but on a GPU with the own kernel.
// Impossible shapes end the program.
static UNUSED void attention_plan(Attention* at, int B, int T, int NH, int D, bool backward) {
    AttentionShape s = attention_shape(B, T, NH, D);
    attention_check_shape(s, GPU_EXECUTION ? 128 : 0);
#if GPU_EXECUTION
    if (backward) attention_grow(at, attention_workspace_bytes(B, T, NH, D));
#else
    (void)backward;
    at->threads = omp_get_max_threads();
    attention_grow(at, attention_cpu_bytes(s, at->threads));
#endif
#if ATTENTION_CUDNN
    int directions = !at->cudnn ? 0 : backward && !at->deterministic ? 2 : 1;
    for (int way = 0; way < directions; way++) {
        char why[AHEAD_CUDNN_MESSAGE];
        size_t bytes = 0;
        int made = ahead_cudnn_plan(at->cudnn, PRECISION == PRECISION_FP16, way, B, T, NH, NH, D, &bytes, why, sizeof why);
        if (made < 0) attention_announce(at, why);
        else at->plans_made += made, attention_grow(at, bytes);
    }
#endif
}

// out (B,T,NH,D), lse (B,NH,T) fp32 = attention of qkv (B,T,3,NH,D). All pointers 16-byte aligned.
static UNUSED void attention_forward(Attention* at, floatX* out, float* lse, const floatX* qkv, int B, int T, int NH, int D,
                                     stream_t stream) {
    AttentionShape s = attention_shape(B, T, NH, D);
    if (planning.walks) {
        attention_count(at, s, false);
        return;
    }
#if GPU_EXECUTION
    attention_check_shape(s, 128);
#if ATTENTION_CUDNN
    if (at->cudnn) {
        char why[AHEAD_CUDNN_MESSAGE];
        int done = ahead_cudnn_forward(at->cudnn, PRECISION == PRECISION_FP16, out, lse, qkv, B, T, NH, NH, D, at->workspace,
                                       stream, why, sizeof why);
        if (done < 0) fail("%s", why);
        if (done) return;
        attention_announce(at, "no cuDNN plan for this shape");
    }
#endif
    (void)at;
    attention_own_forward(out, lse, qkv, s, stream);
#else
    (void)stream;
    if (at->threads != omp_get_max_threads() || attention_cpu_bytes(s, at->threads) > at->workspace_bytes)
        attention_plan(at, B, T, NH, D, false);
    attention_cpu_forward(at->workspace, at->threads, out, lse, qkv, s);
#endif
}

// dqkv (B,T,3,NH,D) = gradient, from dout and out (B,T,NH,D), lse (B,NH,T) of the forward call, qkv (B,T,3,NH,D).
static UNUSED void attention_backward(Attention* at, floatX* dqkv, const floatX* dout, const floatX* out, const float* lse,
                                      const floatX* qkv, int B, int T, int NH, int D, stream_t stream) {
    AttentionShape s = attention_shape(B, T, NH, D);
    if (planning.walks) {
        attention_count(at, s, true);
        return;
    }
#if GPU_EXECUTION
    attention_check_shape(s, 128);
#if ATTENTION_CUDNN
    if (at->cudnn && !at->deterministic) {
        char why[AHEAD_CUDNN_MESSAGE];
        int done = ahead_cudnn_backward(at->cudnn, PRECISION == PRECISION_FP16, dqkv, dout, out, lse, qkv, B, T, NH, NH, D,
                                        at->workspace, stream, why, sizeof why);
        if (done < 0) fail("%s", why);
        if (done) return;
        attention_announce(at, "no cuDNN plan for this shape");
    }
#endif
    attention_grow(at, attention_workspace_bytes(B, T, NH, D));
    attention_own_backward(dqkv, (float*)at->workspace, dout, out, lse, qkv, s, stream);
#else
    (void)stream;
    if (at->threads != omp_get_max_threads() || attention_cpu_bytes(s, at->threads) > at->workspace_bytes)
        attention_plan(at, B, T, NH, D, true);
    attention_cpu_backward(at->workspace, at->threads, dqkv, dout, out, lse, qkv, s);
#endif
}
