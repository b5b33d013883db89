/*
cuDNN's fused attention behind plain C functions: the one part of the program that is compiled apart (attention_cudnn.cpp),
because its headers take half a minute. No cuDNN type crosses this line. Shapes as in attention.cuh; NKV key heads serve NH query
heads.

    ahead_cudnn_create  ->  ahead_cudnn_plan (before the first step, per shape and direction)  ->  forward, backward  ->  destroy

Functions that can fail write one sentence into why (AHEAD_CUDNN_MESSAGE bytes are enough) and never end the program.
*/
#pragma once

#include <stddef.h>

enum { AHEAD_CUDNN_MESSAGE = 512 };
enum { AHEAD_CUDNN_BF16 = 0, AHEAD_CUDNN_FP16 = 1 };  // dtype

typedef struct AheadCudnn AheadCudnn;

#ifdef __cplusplus
extern "C" {
#endif

// For the current GPU. NULL: cuDNN does not answer or is another major version than the one compiled for.
AheadCudnn* ahead_cudnn_create(char* why, size_t why_size);

// For a GPU that is described and not there: makes plans, cannot run them. For tests. json: cuDNN's description of it, `bytes`
// long; sm: its architecture, 89 for sm_89; deterministic: backward plans that give the same bits every time (see the .cpp).
AheadCudnn* ahead_cudnn_create_for_device(const char* json, size_t bytes, int sm, int deterministic, char* why, size_t why_size);

void ahead_cudnn_destroy(AheadCudnn* cudnn);

// Builds the plan for one shape, direction and dtype and keeps it. *workspace_bytes = device memory that running it needs.
// Returns 1: made, 0: it was there already, -1: cuDNN has none (why).
int ahead_cudnn_plan(AheadCudnn* cudnn, int dtype, int backward, int B, int T, int NH, int NKV, int D, size_t* workspace_bytes,
                     char* why, size_t why_size);

// name = cuDNN's engine and knobs behind a plan that was made, "" if there is none.
void ahead_cudnn_plan_name(AheadCudnn* cudnn, int dtype, int backward, int B, int T, int NH, int NKV, int D, char* name,
                           size_t name_size);

// out (B,T,NH,D), lse (B,NH,T) from qkv (B,T,NH+2*NKV,D). stream: a cudaStream_t. 1: started, 0: no plan for this shape, -1: why.
int ahead_cudnn_forward(AheadCudnn* cudnn, int dtype, void* out, float* lse, const void* qkv, int B, int T, int NH, int NKV,
                        int D, void* workspace, void* stream, char* why, size_t why_size);

// dqkv (like qkv) from dout, out, lse, qkv. Returns as forward does.
int ahead_cudnn_backward(AheadCudnn* cudnn, int dtype, void* dqkv, const void* dout, const void* out, const float* lse,
                         const void* qkv, int B, int T, int NH, int NKV, int D, void* workspace, void* stream, char* why,
                         size_t why_size);

#ifdef __cplusplus
}
#endif
