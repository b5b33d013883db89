/*
Batches on the device. On the CPU a batch is used where the loader made it. On the GPU:

    loader thread -> page-locked host buffer 0 / 1 -> (copy stream) -> device buffer 0 / 1 -> training stream

One copy moves all of a batch: tokens, order and reference losses. Events keep the two sides apart: the training stream waits for
the copy, the copy into a buffer waits for the micro-step that used it last. The host waits only for the copy that was queued one
batch ago, because the loader is about to refill that host buffer.
*/
#pragma once

#include "../base/device.cuh"
#include "dataloader.h"

typedef struct {
    DataLoader loader;
    const int* tokens;  // of the current batch, on the device
    const int* order;
    const float* reference;  // NULL: the run has no reference losses
#if GPU_EXECUTION
    char *host[2], *device[2];
    size_t bytes;
    cudaStream_t copy_stream;
    cudaEvent_t copied[2], used[2];
    int slot;
    bool copying;  // a copy from host[1 - slot] may be in flight
#endif
} Feed;

// Opens the shards (see loader_open) and the device side. references: folder of the shards' reference losses, NULL: without.
UNUSED static void feed_open(Feed* f, const char* pattern, const char* references, int B, int T, int look_ahead, int vocab_size,
                             bool prefetch) {
    memset(f, 0, sizeof(*f));
    loader_open(&f->loader, pattern, B, T, look_ahead, 0, 1, vocab_size, prefetch);
    if (references) loader_use_references(&f->loader, references);
#if GPU_EXECUTION
    f->bytes = loader_buffer_bytes(&f->loader);
    for (int i = 0; i < 2; i++) {
        CUDA_CHECK(cudaMallocHost((void**)&f->host[i], f->bytes));
        CUDA_CHECK(cudaMalloc((void**)&f->device[i], f->bytes));
        CUDA_CHECK(cudaEventCreateWithFlags(&f->copied[i], cudaEventDisableTiming));
        CUDA_CHECK(cudaEventCreateWithFlags(&f->used[i], cudaEventDisableTiming));
    }
    CUDA_CHECK(cudaStreamCreateWithFlags(&f->copy_stream, cudaStreamNonBlocking));
    loader_use_buffers(&f->loader, f->host[0], f->host[1]);
#endif
}

// The next batch: f->tokens (B*T + look_ahead), f->order and f->reference (B*T), valid for work queued on `stream` until the
// next call.
UNUSED static void feed_next(Feed* f, stream_t stream) {
    (void)stream;
#if GPU_EXECUTION
    if (f->copying) CUDA_CHECK(cudaEventSynchronize(f->copied[1 - f->slot]));
    if (f->copying) CUDA_CHECK(cudaEventRecord(f->used[1 - f->slot], stream));  // everything queued so far used that buffer
    const Batch* batch = loader_next(&f->loader);
    CUDA_CHECK(cudaStreamWaitEvent(f->copy_stream, f->used[f->slot], 0));
    CUDA_CHECK(cudaMemcpyAsync(f->device[f->slot], batch->tokens, f->bytes, cudaMemcpyHostToDevice, f->copy_stream));
    CUDA_CHECK(cudaEventRecord(f->copied[f->slot], f->copy_stream));
    CUDA_CHECK(cudaStreamWaitEvent(stream, f->copied[f->slot], 0));
    f->tokens = (const int*)f->device[f->slot];
    f->order = f->tokens + (batch->order - batch->tokens);
    f->reference = batch->reference ? (const float*)f->tokens + ((const int32_t*)batch->reference - batch->tokens) : NULL;
    f->slot = 1 - f->slot;
    f->copying = true;
#else
    const Batch* batch = loader_next(&f->loader);
    f->tokens = batch->tokens;
    f->order = batch->order;
    f->reference = batch->reference;
#endif
}

UNUSED static void feed_close(Feed* f) {
    loader_close(&f->loader);
#if GPU_EXECUTION
    cudaDeviceSynchronize();
    for (int i = 0; i < 2; i++) {
        cudaFreeHost(f->host[i]);
        cudaFree(f->device[i]);
        cudaEventDestroy(f->copied[i]);
        cudaEventDestroy(f->used[i]);
    }
    cudaStreamDestroy(f->copy_stream);
#endif
}
