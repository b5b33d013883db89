// Which of cuBLASLt's offers is fastest on this card: on an H100 the first of eight took up to 1.25 times as long as the best of
// them (dev/LOG.md). The heuristic does not measure.
#pragma once

#include "gemm_plan.cuh"

enum { MEASURE_ROUNDS = 5 };

// Index of the fastest of `count` offers. Runs them in turns on memory of its own, and keeps each one's best time; without room
// for the operands, one line says so and the first offer is taken.
static int gemm_fastest(Gemm* g, const GemmPlan* p, const cublasLtMatmulHeuristicResult_t* offers, int count) {
    const GemmCall* c = &p->call;
    size_t x = (size_t)c->rows * c->in, w = (size_t)c->in * c->out, y = (size_t)c->rows * c->out;
    size_t result = c->kind == GEMM_FORWARD ? y : c->kind == GEMM_DINPUT ? x : w;
    size_t right = c->kind == GEMM_DWEIGHT ? x : w, left = x + w + y - result - right;
    size_t a_bytes = round_up(right * sizeof(floatX), 256), b_bytes = round_up(left * sizeof(floatX), 256);
    size_t bytes = a_bytes + b_bytes + result * (c->result_is_float ? sizeof(float) : sizeof(floatX));
    char* memory = NULL;
    if (cudaMalloc((void**)&memory, bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        printf("matrix products: no memory to measure rows %d, in %d, out %d: the library's first choice is taken\n", c->rows,
               c->in, c->out);
        return 0;
    }
    CUDA_CHECK(cudaMemset(memory, 0x3c, bytes));  // small positive numbers in every type
    cudaEvent_t begin, end;
    CUDA_CHECK(cudaEventCreate(&begin));
    CUDA_CHECK(cudaEventCreate(&end));
    float best[GEMM_OFFERS], alpha = 1.0f, beta = c->accumulate ? 1.0f : 0.0f;
    int fastest = 0;
    for (int round = -1; round < MEASURE_ROUNDS; round++) {  // the first warms up
        for (int i = 0; i < count; i++) {
            float ms = 0;
            void* d = memory + a_bytes + b_bytes;
            CUDA_CHECK(cudaEventRecord(begin, 0));
            gemm_check(c, "measuring",
                       cublasLtMatmul(g->handle, p->operation, &alpha, memory, p->A, memory + a_bytes, p->B, &beta, d, p->D, d,
                                      p->D, &offers[i].algo, g->workspace, g->workspace_bytes, 0));
            CUDA_CHECK(cudaEventRecord(end, 0));
            CUDA_CHECK(cudaEventSynchronize(end));
            CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
            if (round <= 0 || ms < best[i]) best[i] = ms;
        }
    }
    for (int i = 1; i < count; i++) fastest = best[i] < best[fastest] ? i : fastest;
    CUDA_CHECK(cudaEventDestroy(begin));
    CUDA_CHECK(cudaEventDestroy(end));
    CUDA_CHECK(cudaFree(memory));
    return fastest;
}
