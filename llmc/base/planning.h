/*
A dry run (model/plan.cuh) asks what a run would need, on any machine and without data. Two things serve it:

    sizes    what differs between a CPU and a GPU asks planning.gpu, so that a CPU build declares the memory of a GPU's run
    work     planning.walks: the program goes through its own training step, but products, attention and kernels are counted
             instead of run. Whatever calls a product is in the plan; there is no second description of the step.

    work[]   | section | kind | floating-point operations | bytes | times |      one entry for each call

Bytes are a kernel's inputs and outputs, each once: what a cache cannot save. Per-row numbers (rstd, lse, losses), partial sums,
token ids and small tables are left out; they are about 1 %.
*/
#pragma once

#include "precision.cuh"
#include "profile.h"

typedef enum {
    WORK_PRODUCT,
    WORK_ATTENTION,
    WORK_CLASSIFIER,
    WORK_NORM,
    WORK_GELU,
    WORK_ROPE,
    WORK_BIAS,       // bias gradients
    WORK_EMBEDDING,  // gradients of the embedding
    WORK_OTHER,
    WORK_OPTIMIZER,
    WORK_KINDS
} WorkKind;

typedef struct {
    Section section;
    WorkKind kind;
    double flops, bytes;  // of one call
    double times;         // calls
} Work;

typedef struct {
    bool on;     // a dry run: no data is read, nothing is written
    bool gpu;    // sizes as on a GPU
    bool walks;  // count instead of compute
    double times;
    Work* work;
    int count, capacity;
} Planning;

UNUSED static Planning planning = {false, GPU_EXECUTION, false, 1.0, NULL, 0, 0};

UNUSED static void work_add(WorkKind kind, double flops, double bytes) {
    if (planning.count == planning.capacity) {
        planning.capacity = planning.capacity ? 2 * planning.capacity : 1024;
        planning.work = (Work*)realloc(planning.work, (size_t)planning.capacity * sizeof(Work));
        if (!planning.work) fail("out of host memory for the plan of a step");
    }
    planning.work[planning.count++] = (Work){profile.section, kind, flops, bytes, planning.times};
}

// A kernel that moves so many bytes; nothing happens in a real run.
UNUSED static inline void moves(WorkKind kind, double bytes) {
    if (planning.walks) work_add(kind, 0.0, bytes);
}
