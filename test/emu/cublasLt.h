/*
The part of cuBLASLt that llmc/ops/gemm_cublaslt.cuh calls: descriptors here, the product itself in emu_product.h.

The twin is stricter than the library: whatever is inconsistent ends the program. It refuses what the library documents as not
supported: a half-width bias for an fp32 result, types that do not belong together, leading dimensions that are no multiple of 16
bytes (the caller promised that alignment). An algorithm is tagged with the problem it was chosen for.
*/
#pragma once

#include "emu.h"

// clang-format off
typedef enum {
    CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_NOT_INITIALIZED = 1, CUBLAS_STATUS_INVALID_VALUE = 7, CUBLAS_STATUS_NOT_SUPPORTED = 15
} cublasStatus_t;
typedef enum { CUBLAS_OP_N, CUBLAS_OP_T } cublasOperation_t;
typedef enum { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 } cublasComputeType_t;
typedef enum { CUDA_R_32F = 0, CUDA_R_16F = 2, CUDA_R_16BF = 14 } cudaDataType_t;
typedef enum { CUBLASLT_EPILOGUE_DEFAULT = 1, CUBLASLT_EPILOGUE_BIAS = 4 } cublasLtEpilogue_t;
typedef enum {
    CUBLASLT_REDUCTION_SCHEME_NONE = 0,
    CUBLASLT_REDUCTION_SCHEME_INPLACE = 1,
    CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2
} cublasLtReductionScheme_t;
typedef enum {
    CUBLASLT_MATMUL_DESC_TRANSA = 3,
    CUBLASLT_MATMUL_DESC_TRANSB = 4,
    CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
    CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8,
    CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26
} cublasLtMatmulDescAttributes_t;
typedef enum {
    CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,
    CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
} cublasLtMatmulPreferenceAttributes_t;

struct cublasLtContext { int alive; };
struct cublasLtMatmulDescOpaque {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t transa, transb, epilogue, bias_type;
    const void* bias;
};
struct cublasLtMatrixLayoutOpaque {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t leading;
};
struct cublasLtMatmulPreferenceOpaque {
    uint64_t workspace;
    uint32_t reductions, alignment[4];  // A B C D
};
typedef struct cublasLtContext* cublasLtHandle_t;
typedef struct cublasLtMatmulDescOpaque* cublasLtMatmulDesc_t;
typedef struct cublasLtMatrixLayoutOpaque* cublasLtMatrixLayout_t;
typedef struct cublasLtMatmulPreferenceOpaque* cublasLtMatmulPreference_t;
typedef struct { uint64_t data[8]; } cublasLtMatmulAlgo_t;  // tag of the problem, workspace bytes, alignment of A B C D
typedef struct {
    cublasLtMatmulAlgo_t algo;
    size_t workspaceSize;
    cublasStatus_t state;
    float wavesCount;
} cublasLtMatmulHeuristicResult_t;
// clang-format on

EMU const char* cublasLtGetStatusString(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
        case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
        case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
        default: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
}
EMU cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    *handle = (cublasLtHandle_t)calloc(1, sizeof(cublasLtContext));
    (*handle)->alive = 1;
    return CUBLAS_STATUS_SUCCESS;
}
EMU cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return free(handle), CUBLAS_STATUS_SUCCESS; }

EMU cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute, cudaDataType_t scale) {
    emu_note(EMU_PLAN, "cublasLtMatmulDescCreate");
    *desc = (cublasLtMatmulDesc_t)calloc(1, sizeof(cublasLtMatmulDescOpaque));
    **desc = (cublasLtMatmulDescOpaque){compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, -1, NULL};
    return CUBLAS_STATUS_SUCCESS;
}
EMU cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return free(desc), CUBLAS_STATUS_SUCCESS; }
EMU cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                                  const void* value, size_t bytes) {
    void* field = NULL;
    size_t size = sizeof(int32_t);
    switch (attribute) {
        case CUBLASLT_MATMUL_DESC_TRANSA: field = &desc->transa; break;
        case CUBLASLT_MATMUL_DESC_TRANSB: field = &desc->transb; break;
        case CUBLASLT_MATMUL_DESC_EPILOGUE: field = &desc->epilogue; break;
        case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: field = &desc->bias_type; break;
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER: field = &desc->bias, size = sizeof(void*); break;
    }
    emu_note(EMU_ATTRIBUTE, "cublasLtMatmulDescSetAttribute");
    if (!field || bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

EMU cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                                              uint64_t columns, int64_t leading) {
    *layout = (cublasLtMatrixLayout_t)calloc(1, sizeof(cublasLtMatrixLayoutOpaque));
    **layout = (cublasLtMatrixLayoutOpaque){type, rows, columns, leading};
    return CUBLAS_STATUS_SUCCESS;
}
EMU cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return free(layout), CUBLAS_STATUS_SUCCESS; }

EMU cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
    *preference = (cublasLtMatmulPreference_t)calloc(1, sizeof(cublasLtMatmulPreferenceOpaque));
    **preference = (cublasLtMatmulPreferenceOpaque){0, 0xffffffffu, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}
EMU cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) { return free(p), CUBLAS_STATUS_SUCCESS; }
EMU cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                        cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                        size_t bytes) {
    void* field;
    size_t size = sizeof(uint32_t);
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) field = &p->workspace, size = sizeof(uint64_t);
    else if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) field = &p->reductions;
    else field = &p->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
    if (bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

#include "emu_product.h"
