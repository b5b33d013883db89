/*
Matrix products, all of them: the linear layers and the vocabulary, forward and backward. One header for the GPU (cuBLASLt
behind a cache of plans, gemm_cublaslt.cuh) and the CPU (own kernels, gemm_cpu.h).

    everything is row-major                       x (rows,in)   w (out,in)   y, dy, z (rows,out)   dw (out,in)   bias (out)

    forward   y  = x . w^T        +----------+   +---in---+        dinput    dx = dy . w         (rows,in)
                                  | x        | . | w    ^T|        dweight   dw = dy^T . x       (out,in), fp32
                                  +---in-----+   +--------+

    types     x, w, bias, dy, z: floatX. y: floatX or float (logits, an fp32 residual stream). dw: float. Sums: fp32.
    sizes     CPU: any >= 1; multiples of 8 are the fast path. GPU: multiples of 8, else a sentence and exit 1.
    order     calls on one stream run in order; one Gemm serves one stream, and calls come from outside parallel regions
    bits      same sizes, same machine: same bits. CPU: for any number of threads, too

    Gemm g;
    gemm_init(&g, 0);                                    before the first step: all memory that products ever need
    gemm_plan(&g, GEMM_FORWARD, rows, in, out, ..);      GPU: choose the algorithm now; g.plans_made counts (CPU: nothing to do)
    matmul_forward(&g, y, x, w, bias, rows, in, out, 1.0f, false, stream);
    gemm_free(&g);
*/
#pragma once

#include "activation.cuh"

#if GPU_EXECUTION
#include "gemm_cublaslt.cuh"
#else
#include "gemm_cpu.h"
#endif

// y (rows,out) = alpha * x (rows,in) . w (out,in)^T + bias (out, of y's type, NULL: none) + (accumulate ? y : 0)
template <class Y>
UNUSED static void matmul_forward(Gemm* g, Y* y, const floatX* x, const floatX* w, const Y* bias, int rows, int in, int out,
                                  float alpha, bool accumulate, stream_t stream) {
    GemmCall c = {GEMM_FORWARD, rows, in, out, is_float(y), accumulate, bias, x, w, y, alpha, 0, false, false, NULL};
    gemm_multiply(g, &c, stream);
}

// z (rows,out) = x (rows,in) . w (out,in)^T + bias (out, NULL: none); a (rows,out) = gelu(z). z NULL: only a is wanted.
UNUSED static void matmul_forward_gelu(Gemm* g, floatX* z, floatX* a, const floatX* x, const floatX* w, const floatX* bias,
                                       int rows, int in, int out, int gelu_kind, stream_t stream) {
    GemmCall c = {GEMM_FORWARD, rows, in, out, is_float(a), false, bias, x, w, a, 1.0f, gelu_kind, true, false, z};
#if GPU_EXECUTION
    if (z) c.result = z;
    gemm_multiply(g, &c, stream);
    gelu_forward(a, (floatX*)c.result, (size_t)rows * out, gelu_kind, stream);
#else
    gemm_multiply(g, &c, stream);
#endif
}

// dx (rows,in) = alpha * dy (rows,out) . w (out,in)
UNUSED static void matmul_dinput(Gemm* g, floatX* dx, const floatX* dy, const floatX* w, int rows, int in, int out, float alpha,
                                 stream_t stream) {
    GemmCall c = {GEMM_DINPUT, rows, in, out, is_float(dx), false, NULL, dy, w, dx, alpha, 0, false, false, NULL};
    gemm_multiply(g, &c, stream);
}

// dx (rows,in) += alpha * dy (rows,out) . w (out,in): a further consumer of x. 16-bit storage rounds the sum once more.
UNUSED static void matmul_dinput_add(Gemm* g, floatX* dx, const floatX* dy, const floatX* w, int rows, int in, int out,
                                     float alpha, stream_t stream) {
    GemmCall c = {GEMM_DINPUT, rows, in, out, is_float(dx), true, NULL, dy, w, dx, alpha, 0, false, false, NULL};
    gemm_multiply(g, &c, stream);
}

// dz (rows,in) = (dy (rows,out) . w (out,in)) * gelu'(z (rows,in)): the gradient before the activation that fed this layer
UNUSED static void matmul_dinput_gelu(Gemm* g, floatX* dz, const floatX* dy, const floatX* w, const floatX* z, int rows, int in,
                                      int out, int gelu_kind, stream_t stream) {
    floatX* z_read = (floatX*)z;
    GemmCall c = {GEMM_DINPUT, rows, in, out, is_float(dz), false, NULL, dy, w, dz, 1.0f, gelu_kind, false, true, z_read};
    gemm_multiply(g, &c, stream);
#if GPU_EXECUTION
    gelu_backward(dz, z, NULL, (size_t)rows * in, gelu_kind, stream);
#endif
}

// dw (out,in) fp32 = alpha * dy (rows,out)^T . x (rows,in) + (accumulate ? dw : 0). Storing first saves a pass of zeroing.
UNUSED static void matmul_dweight(Gemm* g, float* dw, const floatX* dy, const floatX* x, int rows, int in, int out, float alpha,
                                  bool accumulate, stream_t stream) {
    GemmCall c = {GEMM_DWEIGHT, rows, in, out, true, accumulate, NULL, dy, x, dw, alpha, 0, false, false, NULL};
    gemm_multiply(g, &c, stream);
}
