/*
Matrix products on the GPU: cublasLtMatmul with a plan for every shape, made once.

cuBLASLt thinks in columns. A row-major matrix (R,C) is, byte for byte, the column-major matrix (C,R) = its transpose, with
leading dimension C. So instead of result (m,n) = left (m,k) . right (k,n) we ask for the transpose of all of it, right factor
first:

    row-major, ours                    column-major, cuBLASLt's          A, op          B, op          D, ld
    y  (rows,out) = x . w^T            y^T  = w . x^T                    w   (in,out) T  x  (in,rows)  N  (out,rows) out
    dx (rows,in)  = dy . w             dx^T = w^T . dy^T                 w   (in,out) N  dy (out,rows) N  (in,rows)  in
    dw (out,in)   = dy^T . x           dw^T = x^T . dy                   x   (in,rows) N dy (out,rows) T  (in,out)   in

D's columns are our rows, so a bias over `out` runs along a column of D: exactly cuBLASLt's BIAS epilogue. accumulate is beta = 1
with C = D. Sums are fp32 (CUBLAS_COMPUTE_32F); fp32 storage uses TF32 only if g->allow_tf32 was set before planning.

A plan is descriptors + an algorithm, kept for the life of the Gemm: same plan, same bits. The algorithm is the first that the
heuristic offers, the same in every run; with g->measure it is the fastest of all offers on this card (gemm_measure.cuh), which
another run may see otherwise. Split-K is permitted (a weight gradient has fewer tiles than the card has processors), with partial
sums in fp32: in the workspace, or in place where the result is fp32 itself. sm_90 rounds a product before it adds it to a 16-bit
result. A bias has the result's type, which cuBLASLt documents for every pair of types here; a library that refuses it all the
same gets a plan without, and a kernel of ours adds it. Plan before the first step: a miss inside a step works, but costs host
time and shows in g->plans_made.
*/
#pragma once

#include "gemm_measure.cuh"

// Ready for products on the current device. workspace_bytes 0: 32 MiB, 64 MiB from sm_90 on, as the library's makers advise.
UNUSED static void gemm_init(Gemm* g, size_t workspace_bytes) {
    memset(g, 0, sizeof *g);
    int device = 0, major = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    g->workspace_bytes = workspace_bytes ? workspace_bytes : gemm_gpu_bytes(major);
    cublasStatus_t status = cublasLtCreate(&g->handle);
    if (status != CUBLAS_STATUS_SUCCESS) fail("cuBLASLt does not start: %s", cublasLtGetStatusString(status));
    CUDA_CHECK(cudaMalloc(&g->workspace, g->workspace_bytes));
}

UNUSED static void gemm_free(Gemm* g) {
    for (int i = 0; i < g->plans_made; i++) {
        cublasLtMatmulDescDestroy(g->plans[i].operation);
        cublasLtMatrixLayoutDestroy(g->plans[i].A);
        cublasLtMatrixLayoutDestroy(g->plans[i].B);
        cublasLtMatrixLayoutDestroy(g->plans[i].D);
    }
    cublasLtDestroy(g->handle);
    CUDA_CHECK(cudaFree(g->workspace));
    memset(g, 0, sizeof *g);
}

template <class V>
static void gemm_set(GemmPlan* p, cublasLtMatmulDescAttributes_t attribute, V value) {
    gemm_check(&p->call, "operation", cublasLtMatmulDescSetAttribute(p->operation, attribute, &value, sizeof value));
}

// Asks for algorithms; false if the library has none for this operation.
static bool gemm_choose(Gemm* g, GemmPlan* p) {
    cublasLtMatmulPreference_t wish;
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, align = GEMM_ALIGNMENT;
    if (p->call.result_is_float) reductions |= CUBLASLT_REDUCTION_SCHEME_INPLACE;
    struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void* value;
        size_t bytes;
    } attributes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &g->workspace_bytes, sizeof g->workspace_bytes},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align, sizeof align},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align, sizeof align},
    };
    gemm_check(&p->call, "preference", cublasLtMatmulPreferenceCreate(&wish));
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        cublasStatus_t set =
            cublasLtMatmulPreferenceSetAttribute(wish, attributes[i].name, attributes[i].value, attributes[i].bytes);
        gemm_check(&p->call, "preference", set);
    }
    cublasLtMatmulHeuristicResult_t offers[GEMM_OFFERS];
    int count = 0;
    cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(g->handle, p->operation, p->A, p->B, p->D, p->D, wish, GEMM_OFFERS, offers, &count);
    cublasLtMatmulPreferenceDestroy(wish);
    if (status != CUBLAS_STATUS_SUCCESS && status != CUBLAS_STATUS_NOT_SUPPORTED)
        gemm_fail(&p->call, "choosing an algorithm", status);
    int usable = 0;
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; i++) {  // sorted by estimated time
        if (offers[i].state != CUBLAS_STATUS_SUCCESS || offers[i].workspaceSize > g->workspace_bytes) continue;
        offers[usable++] = offers[i];
    }
    if (usable > 0) p->algorithm = offers[g->measure && usable > 1 ? gemm_fastest(g, p, offers, usable) : 0].algo;
    return usable > 0;
}

static GemmPlan* gemm_make_plan(Gemm* g, const GemmCall* c) {
    if (c->rows < 1 || c->in < 1 || c->out < 1 || c->rows % 8 || c->in % 8 || c->out % 8) {
        fail("matrix product of rows %d, in %d, out %d: on the GPU all three must be multiples of 8; pad the tensor", c->rows,
             c->in, c->out);
    }
    if (g->plans_made == GEMM_MAX_PLANS) fail("more than %d different matrix products: raise GEMM_MAX_PLANS", GEMM_MAX_PLANS);
    GemmPlan* p = &g->plans[g->plans_made];
    p->call = *c;
    p->tf32 = g->allow_tf32;
    cudaDataType_t X = PRECISION == PRECISION_FP32 ? CUDA_R_32F : PRECISION == PRECISION_BF16 ? CUDA_R_16BF : CUDA_R_16F;
    cudaDataType_t result = c->result_is_float ? CUDA_R_32F : X;
    bool tf32 = PRECISION == PRECISION_FP32 && g->allow_tf32;
    cublasComputeType_t compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    gemm_check(c, "operation", cublasLtMatmulDescCreate(&p->operation, compute, CUDA_R_32F));
    gemm_set(p, CUBLASLT_MATMUL_DESC_TRANSA, (int32_t)(c->kind == GEMM_FORWARD ? CUBLAS_OP_T : CUBLAS_OP_N));
    gemm_set(p, CUBLASLT_MATMUL_DESC_TRANSB, (int32_t)(c->kind == GEMM_DWEIGHT ? CUBLAS_OP_T : CUBLAS_OP_N));
    int A_cols = c->kind == GEMM_DWEIGHT ? c->rows : c->out, B_rows = c->kind == GEMM_FORWARD ? c->in : c->out;
    int D_rows = c->kind == GEMM_FORWARD ? c->out : c->in, D_cols = c->kind == GEMM_DWEIGHT ? c->out : c->rows;
    gemm_check(c, "layout", cublasLtMatrixLayoutCreate(&p->A, X, c->in, A_cols, c->in));
    gemm_check(c, "layout", cublasLtMatrixLayoutCreate(&p->B, X, B_rows, c->rows, B_rows));
    gemm_check(c, "layout", cublasLtMatrixLayoutCreate(&p->D, result, D_rows, D_cols, D_rows));
    p->bias_apart = false;
    if (c->bias) {
        gemm_set(p, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
        gemm_set(p, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, (int32_t)result);
        gemm_set(p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, (const void*)g->workspace);  // the heuristic reads its alignment
    }
    bool found = gemm_choose(g, p);
    if (!found && c->bias) {
        gemm_set(p, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
        p->bias_apart = true;
        found = gemm_choose(g, p);
    }
    if (!found) gemm_fail(c, "no algorithm on this GPU", CUBLAS_STATUS_NOT_SUPPORTED);
    g->plans_made++;
    return p;
}

static GemmPlan* gemm_find_plan(Gemm* g, const GemmCall* c) {
    for (int i = 0; i < g->plans_made; i++) {
        const GemmPlan* p = &g->plans[i];
        if (p->call.kind == c->kind && p->call.rows == c->rows && p->call.in == c->in && p->call.out == c->out &&
            p->call.result_is_float == c->result_is_float && p->call.accumulate == c->accumulate && !p->call.bias == !c->bias &&
            p->tf32 == g->allow_tf32) {
            return &g->plans[i];
        }
    }
    return gemm_make_plan(g, c);
}

// Makes the plan for a product that a step will ask for: after these calls, a step plans nothing.
UNUSED static void gemm_plan(Gemm* g, GemmKind kind, int rows, int in, int out, bool result_is_float, bool bias,
                             bool accumulate) {
    const void* some = bias ? g->workspace : NULL;
    GemmCall c = {kind, rows,  in,    out, result_is_float || PRECISION == PRECISION_FP32, accumulate, some, NULL, NULL, NULL, 1,
                  0,    false, false, NULL};
    gemm_find_plan(g, &c);
}

// y (rows,out) += bias (out): only where the library would not fuse it
template <class Y>
KERNEL gemm_bias_kernel(Y* RESTRICT y, const Y* RESTRICT bias, int rows, int out) {
    FOR_ROWS(r, rows) {
        FOR_LANES(i, out / PACK) {
            Vec sum = load(y + (size_t)r * out, (size_t)i), b = load(bias, (size_t)i);
            FOR_PACK(k) sum.v[k] += b.v[k];
            store(y + (size_t)r * out, (size_t)i, sum);
        }
    }
}

UNUSED static void gemm_multiply(Gemm* g, const GemmCall* c, cudaStream_t stream) {
    GemmPlan* p = gemm_find_plan(g, c);
    if (c->bias && !p->bias_apart) gemm_set(p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, c->bias);
    float beta = c->accumulate ? 1.0f : 0.0f;
    gemm_check(c, "running",
               cublasLtMatmul(g->handle, p->operation, &c->alpha, c->right, p->A, c->left, p->B, &beta, c->result, p->D,
                              c->result, p->D, &p->algorithm, g->workspace, g->workspace_bytes, stream));
    if (c->bias && p->bias_apart) {
        int lanes = c->out >= 1024 ? 256 : WARP;
        if (c->result_is_float) {
            LAUNCH(gemm_bias_kernel<float>, c->rows, lanes, stream)((float*)c->result, (const float*)c->bias, c->rows, c->out);
        } else {
            LAUNCH(gemm_bias_kernel<floatX>, c->rows, lanes, stream)((floatX*)c->result, (const floatX*)c->bias, c->rows, c->out);
        }
    }
}
