/*
One matrix product as a value: what gemm.cuh's functions hand to whichever of gemm_cublaslt.cuh and gemm_cpu.h does the work.

    kind           left . right            result       sums over
    GEMM_FORWARD   x (rows,in) . w^T       (rows,out)   in            w (out,in)
    GEMM_DINPUT    dy (rows,out) . w       (rows,in)    out
    GEMM_DWEIGHT   dy^T . x (rows,in)      (out,in)     rows          dy (rows,out)
*/
#pragma once

#include "../base/device.cuh"

typedef enum { GEMM_FORWARD, GEMM_DINPUT, GEMM_DWEIGHT } GemmKind;

typedef struct {
    GemmKind kind;  // these six are also the key of a plan (of bias: whether there is one)
    int rows, in, out;
    bool result_is_float;  // else floatX
    bool accumulate;       // result += ..
    const void* bias;      // (out) of the result's type, or NULL; forward only

    const floatX *left, *right;  // the factors in the order of the table
    void* result;
    float alpha;  // factor of the sums, not of the bias

    int gelu_kind;       // CPU only, for the two below
    bool gelu_forward;   // result = gelu(sum + bias), and z = sum + bias unless z is NULL
    bool gelu_backward;  // result = sum * gelu'(z)
    floatX* z;           // shape of the result
} GemmCall;

// Scratch of cuBLASLt: 32 MiB, 64 MiB from sm_90 on, as its makers advise.
UNUSED static size_t gemm_gpu_bytes(int sm_major) { return (size_t)(sm_major >= 9 ? 64 : 32) << 20; }

// The product as work of a plan (base/planning.h). On a GPU the activation is a kernel of its own behind it (gemm.cuh).
UNUSED static void gemm_count(const GemmCall* c) {
    double rows = c->rows, in = c->in, out = c->out, X = sizeof(floatX);
    double x = rows * in, y = rows * out, w = in * out;
    double result = c->kind == GEMM_FORWARD ? y : c->kind == GEMM_DINPUT ? x : w;
    double bytes = (x + y + w - result) * X + result * (c->accumulate ? 2 : 1) * (c->result_is_float ? sizeof(float) : X);
    bool z = c->gelu_backward || (c->gelu_forward && c->z);
    work_add(WORK_PRODUCT, 2 * rows * in * out, bytes + (z && !planning.gpu ? result * X : 0));
    if (planning.gpu && c->gelu_forward) moves(WORK_GELU, 2 * result * X);
    if (planning.gpu && c->gelu_backward) moves(WORK_GELU, 3 * result * X);
}

DEVICE bool is_float(const float*) { return true; }
DEVICE bool is_float(const bf16*) { return false; }
DEVICE bool is_float(const fp16*) { return false; }
