// The plans of gemm_cublaslt.cuh: what it and gemm_measure.cuh share.
#pragma once

#include "gemm_call.cuh"

#include <cublasLt.h>

enum { GEMM_MAX_PLANS = 256, GEMM_OFFERS = 8, GEMM_ALIGNMENT = 16 };

typedef struct {
    GemmCall call;  // only its shape and flags count; bias is NULL or not
    bool tf32;
    bool bias_apart;  // the library would not fuse the bias
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t A, B, D;
    cublasLtMatmulAlgo_t algorithm;
} GemmPlan;

typedef struct Gemm {
    cublasLtHandle_t handle;
    void* workspace;
    size_t workspace_bytes;
    bool allow_tf32;  // fp32 storage: multiply with 10-bit mantissas on tensor cores. Set it before planning.
    bool measure;     // take the fastest algorithm. Set it before planning.
    int plans_made;   // stays put once training runs
    GemmPlan plans[GEMM_MAX_PLANS];
} Gemm;

UNUSED __attribute__((noreturn)) static void gemm_fail(const GemmCall* c, const char* what, cublasStatus_t status) {
    const char* kinds[] = {"forward", "dinput", "dweight"};
    fail("matrix product %s, rows %d, in %d, out %d, %s -> %s%s%s: %s: %s", kinds[c->kind], c->rows, c->in, c->out,
         PRECISION_NAME, c->result_is_float ? "fp32" : PRECISION_NAME, c->bias ? ", bias" : "",
         c->accumulate ? ", accumulate" : "", what, cublasLtGetStatusString(status));
}

static inline void gemm_check(const GemmCall* c, const char* what, cublasStatus_t status) {
    if (status != CUBLAS_STATUS_SUCCESS) gemm_fail(c, what, status);
}
