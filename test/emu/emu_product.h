/*
cublasLtMatmul: D (m,n) = alpha op(A) op(B) + beta C (+ bias (m) to every column), everything column-major, sums in fp32.

    A (m,k), or (k,m) if transposed      B (k,n), or (n,k)      C and D (m,n)      element (i,j) at i + j * leading dimension

Every field is checked before the call is queued. The workspace that the algorithm asked for is overwritten with poison, as a
library that splits sums would overwrite it.
*/
#pragma once

static bool emu_refuses_bias;  // a test plays a library that fuses no bias

enum { EMU_OFFERED_WORKSPACE = 64 << 10 };

typedef struct {
    EmuWork work;
    cublasLtMatmulDescOpaque op;
    cublasLtMatrixLayoutOpaque layout[4];  // A B C D
    const void* p[3];                      // A B C
    void* d;
    float alpha, beta;
    void* workspace;
    size_t workspace_bytes;
} EmuProduct;

EMU size_t emu_type_bytes(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }
EMU size_t emu_layout_bytes(const cublasLtMatrixLayoutOpaque* l) {
    return ((size_t)(l->columns - 1) * (size_t)l->leading + (size_t)l->rows) * emu_type_bytes(l->type);
}
EMU float emu_element(const void* p, size_t at, cudaDataType_t type) {
    if (type == CUDA_R_32F) return ((const float*)p)[at];
    return type == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16*)p)[at]) : __half2float(((const __half*)p)[at]);
}

// Why this problem is none that the library solves; NULL: it is one.
EMU const char* emu_unsupported(const cublasLtMatmulDescOpaque* op, const cublasLtMatrixLayoutOpaque* l) {
    uint64_t m = l[3].rows, n = l[3].columns, k = op->transa == CUBLAS_OP_N ? l[0].columns : l[0].rows;
    if ((op->transa == CUBLAS_OP_N ? l[0].rows : l[0].columns) != m) return "A and D disagree about m";
    if ((op->transb == CUBLAS_OP_N ? l[1].columns : l[1].rows) != n) return "B and D disagree about n";
    if ((op->transb == CUBLAS_OP_N ? l[1].rows : l[1].columns) != k) return "A and B disagree about k";
    if (l[2].rows != m || l[2].columns != n || l[2].type != l[3].type) return "C and D differ in shape or type";
    for (int i = 0; i < 4; i++) {
        if (l[i].leading < (int64_t)l[i].rows) return "a leading dimension is smaller than the rows of its matrix";
        if ((size_t)l[i].leading * emu_type_bytes(l[i].type) % 16) return "a leading dimension is no multiple of 16 bytes";
    }
    if (l[0].type != l[1].type) return "A and B differ in type";
    if (l[3].type != CUDA_R_32F && l[3].type != l[0].type) return "the type of D is neither fp32 nor that of A";
    if (op->scale != CUDA_R_32F) return "alpha and beta are not fp32";
    if (op->compute == CUBLAS_COMPUTE_32F_FAST_TF32 && l[0].type != CUDA_R_32F) return "TF32 multiplies fp32 only";
    if (op->epilogue == CUBLASLT_EPILOGUE_BIAS) {
        if (emu_refuses_bias) return "a library that fuses no bias";
        if ((op->bias_type < 0 ? l[3].type : op->bias_type) != (int)l[3].type) return "the bias is not of D's type";
        if (!op->bias || (uintptr_t)op->bias % 16) return "the bias pointer is missing or not 16-byte aligned";
    }
    return NULL;
}

EMU uint64_t emu_problem_tag(const cublasLtMatmulDescOpaque* op, const cublasLtMatrixLayoutOpaque* l) {
    uint64_t tag = 0x5eed;
    int64_t parts[5 + 4 * 4] = {op->compute, op->scale, op->transa, op->transb, op->epilogue};
    for (int i = 0; i < 4; i++) {
        int64_t* at = parts + 5 + 4 * i;
        at[0] = l[i].type, at[1] = (int64_t)l[i].rows, at[2] = (int64_t)l[i].columns, at[3] = l[i].leading;
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) tag = emu_random(&tag) ^ (uint64_t)parts[i];
    return tag | 1;
}

EMU cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
                                                  cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                  cublasLtMatmulPreference_t wish, int wanted,
                                                  cublasLtMatmulHeuristicResult_t* results, int* found) {
    cublasLtMatrixLayoutOpaque l[4] = {*a, *b, *c, *d};
    *found = 0;
    emu_note(EMU_PLAN, "cublasLtMatmulAlgoGetHeuristic");
    if (!handle || !handle->alive) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (emu_unsupported(op, l)) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < wanted && i < 3; i++) {  // the first is broken, the second wants a workspace
        size_t bytes = i == 1 ? EMU_OFFERED_WORKSPACE : 0;
        if (bytes > wish->workspace) continue;
        cublasLtMatmulHeuristicResult_t* r = &results[(*found)++];
        *r = {};
        r->algo.data[0] = i == 0 ? 0 : emu_problem_tag(op, l), r->algo.data[1] = bytes;
        for (int j = 0; j < 4; j++) r->algo.data[2 + j] = wish->alignment[j];
        r->workspaceSize = bytes, r->wavesCount = 1.0f;
        r->state = i == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    }
    return *found ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

// ---------------------------------------------------------------------------------------------------------------------
// Sixteen sums at a time, each in the order of k: half the time of a small model would be spent here otherwise.
enum { EMU_WIDE = 16 };
typedef float EmuWide __attribute__((vector_size(EMU_WIDE * sizeof(float))));

// op(X) as groups of `group` lines: (lines / group, k, group), zeros behind the last line; TF32 keeps 10 bits of the mantissa.
EMU float* emu_packed(const void* p, const cublasLtMatrixLayoutOpaque* l, bool k_is_column, int lines, int k, bool tf32,
                      int group) {
    size_t bytes = emu_round_up(emu_round_up((size_t)lines, (size_t)group) * (size_t)k * sizeof(float), sizeof(EmuWide));
    float* out = (float*)memset(aligned_alloc(sizeof(EmuWide), bytes), 0, bytes);
    for (int i = 0; i < lines; i++) {
        for (int j = 0; j < k; j++) {
            size_t at = k_is_column ? (size_t)j * (size_t)l->leading + (size_t)i : (size_t)i * (size_t)l->leading + (size_t)j;
            float x = emu_element(p, at, l->type);
            if (tf32 && isfinite(x)) x = __uint_as_float((__float_as_uint(x) + 0x1000u) & ~0x1fffu);
            out[((size_t)(i / group) * (size_t)k + (size_t)j) * (size_t)group + (size_t)(i % group)] = x;
        }
    }
    return out;
}

EMU_UNWATCHED EMU void emu_dots(float* sums, const EmuWide* x, const float* y, int k) {
    EmuWide sum = {};
    for (int q = 0; q < k; q++) sum += x[q] * y[q];
    memcpy(sums, &sum, sizeof(sum));
}

// Element (i,j) of D from the sum of its products
EMU_UNCOUNTED static void emu_store_product(const EmuProduct* w, int i, int j, float sum) {
    const cublasLtMatrixLayoutOpaque *C = &w->layout[2], *D = &w->layout[3];
    size_t at = (size_t)i + (size_t)j * (size_t)D->leading;
    sum *= w->alpha;
    if (w->beta != 0.0f && D->type == CUDA_R_16BF) sum = __bfloat162float(__float2bfloat16_rn(sum));  // as sm_90 does
    if (w->beta != 0.0f && D->type == CUDA_R_16F) sum = __half2float(__float2half_rn(sum));
    if (w->beta != 0.0f) sum += w->beta * emu_element(w->p[2], (size_t)i + (size_t)j * (size_t)C->leading, C->type);
    if (w->op.epilogue == CUBLASLT_EPILOGUE_BIAS) sum += emu_element(w->op.bias, (size_t)i, D->type);
    if (D->type == CUDA_R_32F) ((float*)w->d)[at] = sum;
    else if (D->type == CUDA_R_16BF) ((__nv_bfloat16*)w->d)[at] = __float2bfloat16_rn(sum);
    else ((__half*)w->d)[at] = __float2half_rn(sum);
}

EMU_UNCOUNTED static void emu_run_product(EmuWork* work) {
    const EmuProduct* w = (const EmuProduct*)work;
    const cublasLtMatrixLayoutOpaque* D = &w->layout[3];
    bool tf32 = w->op.compute == CUBLAS_COMPUTE_32F_FAST_TF32, a_plain = w->op.transa == CUBLAS_OP_N;
    int m = (int)D->rows, n = (int)D->columns;
    int k = emu_product_terms((int)(a_plain ? w->layout[0].columns : w->layout[0].rows));
    float* left = emu_packed(w->p[0], &w->layout[0], a_plain, m, k, tf32, EMU_WIDE);
    float* right = emu_packed(w->p[1], &w->layout[1], w->op.transb == CUBLAS_OP_T, n, k, tf32, 1);
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < m; i += EMU_WIDE) {
            float sums[EMU_WIDE];
            emu_dots(sums, (const EmuWide*)(left + (size_t)i * (size_t)k), right + (size_t)j * (size_t)k, k);
            for (int l = 0; l < EMU_WIDE && i + l < m; l++) emu_store_product(w, i + l, j, sums[l]);
        }
    }
    if (w->workspace_bytes) memset(w->workspace, EMU_POISON, w->workspace_bytes);
    free(left), free(right);
}

EMU bool emu_overlap(const void* p, size_t p_bytes, const void* q, size_t q_bytes) {
    return (const char*)p < (const char*)q + q_bytes && (const char*)q < (const char*)p + p_bytes;
}

EMU cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                                  cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                                  const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                                  cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                                  size_t bytes, cudaStream_t stream) {
    const char* names[] = {"cublasLtMatmul: A", "cublasLtMatmul: B", "cublasLtMatmul: C", "cublasLtMatmul: D"};
    EmuProduct* w = (EmuProduct*)calloc(1, sizeof(EmuProduct));
    const void* p[4] = {a, b, c, d};
    w->work.run = emu_run_product, w->op = *desc;
    w->layout[0] = *a_layout, w->layout[1] = *b_layout, w->layout[2] = *c_layout, w->layout[3] = *d_layout;
    w->p[0] = a, w->p[1] = b, w->p[2] = c, w->d = d;
    memcpy(&w->alpha, alpha, sizeof(float));
    memcpy(&w->beta, beta, sizeof(float));
    if (!handle || !handle->alive) return CUBLAS_STATUS_NOT_INITIALIZED;
    const char* wrong = emu_unsupported(desc, w->layout);
    if (wrong) emu_fail("cublasLtMatmul: %s", wrong);
    if (algo->data[0] != emu_problem_tag(desc, w->layout))
        emu_fail("cublasLtMatmul: the algorithm was chosen for another problem");
    for (int i = 0; i < 4; i++) {
        if (i == 2 && w->beta == 0.0f) continue;
        emu_must_be_on_device(p[i], emu_layout_bytes(&w->layout[i]), names[i]);
        if ((uintptr_t)p[i] % algo->data[2 + i]) emu_fail("%s is less aligned than was promised", names[i]);
    }
    size_t d_bytes = emu_layout_bytes(&w->layout[3]);
    for (int i = 0; i < 2; i++) {
        if (emu_overlap(p[i], emu_layout_bytes(&w->layout[i]), d, d_bytes)) emu_fail("%s overlaps with D", names[i]);
    }
    if (w->beta != 0.0f && c != d && emu_overlap(c, emu_layout_bytes(&w->layout[2]), d, d_bytes))
        emu_fail("cublasLtMatmul: C and D overlap and are not the same");
    if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS)
        emu_must_be_on_device(desc->bias, w->layout[3].rows * emu_type_bytes(w->layout[3].type), "cublasLtMatmul: bias");
    if (bytes < algo->data[1]) emu_fail("cublasLtMatmul: %zu bytes of workspace, the algorithm needs %lu", bytes, algo->data[1]);
    if (bytes) emu_must_be_on_device(workspace, bytes, "cublasLtMatmul: workspace");
    if (algo->data[1]) {
        if ((uintptr_t)workspace % 256) emu_fail("cublasLtMatmul: the workspace is not 256-byte aligned");
        if (emu_overlap(workspace, algo->data[1], d, d_bytes)) emu_fail("cublasLtMatmul: the workspace overlaps with D");
    }
    w->workspace = workspace, w->workspace_bytes = algo->data[1];
    const cublasLtMatrixLayoutOpaque* l = w->layout;
    int k = (int)(desc->transa == CUBLAS_OP_N ? l[0].columns : l[0].rows);
    emu_note_product(stream, {(int)l[3].rows,
                              (int)l[3].columns,
                              k,
                              {desc->transa != CUBLAS_OP_N, desc->transb != CUBLAS_OP_N},
                              {l[0].leading, l[1].leading, l[2].leading, l[3].leading},
                              {l[0].type, l[1].type, l[2].type, l[3].type},
                              {a, b, c, d},
                              w->alpha,
                              w->beta,
                              desc->epilogue,
                              bytes,
                              workspace});
    emu_enqueue(stream, &w->work);
    return CUBLAS_STATUS_SUCCESS;
}
