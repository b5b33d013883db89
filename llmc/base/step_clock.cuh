/*
How long each training step took.

    step_clock_open(&c, stream)    once; time counts from here
    step_clock_start(&c)           time counts from here: after whatever is not training
    step_clock_mark(&c)            a step ends here: behind the work that has been queued
    step_clock_read(&c)            its seconds

    CPU   a wall clock
    GPU   events in the stream. The host may queue the next step before it reads, up to the next mark: its own clock would say how
          far it is ahead, not what the step took.
*/
#pragma once

#include "device.cuh"
#include "profile.h"

typedef struct {
#if GPU_EXECUTION
    cudaStream_t stream;
    cudaEvent_t marks[2];
    int newest;
#else
    double last;
#endif
} StepClock;

// The work that has been queued ends a step.
UNUSED static void step_clock_mark(UNUSED StepClock* c) {
#if GPU_EXECUTION
    c->newest = 1 - c->newest;
    CUDA_CHECK(cudaEventRecord(c->marks[c->newest], c->stream));
#endif
}

UNUSED static void step_clock_start(StepClock* c) {
#if GPU_EXECUTION
    step_clock_mark(c);
#else
    c->last = profile_clock();
#endif
}

UNUSED static void step_clock_open(StepClock* c, UNUSED stream_t stream) {
    *c = (StepClock){};
#if GPU_EXECUTION
    c->stream = stream;
    for (int i = 0; i < 2; i++) CUDA_CHECK(cudaEventCreate(&c->marks[i]));
#endif
    step_clock_start(c);
}

// GPU: waits until the step is done. Call it once for each mark, before the next.
UNUSED static double step_clock_read(StepClock* c) {
#if GPU_EXECUTION
    float ms = 0;
    CUDA_CHECK(cudaEventSynchronize(c->marks[c->newest]));
    CUDA_CHECK(cudaEventElapsedTime(&ms, c->marks[1 - c->newest], c->marks[c->newest]));
    return 1e-3 * (double)ms;
#else
    double now = profile_clock(), seconds = now - c->last;
    c->last = now;
    return seconds;
#endif
}
