/*
What a run would need, without running it: memory by category, work by part, and how long that takes at given rates.

    memory   the arenas of a model that is declared and not allocated, the libraries' scratch, batches, validation in another
             precision: byte for byte what the run allocates (base/planning.h says how a CPU build declares a GPU's)
    work     one step, walked: every product, attention call and kernel of the real step is counted instead of run
    time     sum over the calls of max(flops / rate, bytes / bandwidth), rates and assumed shares of them: base/devices.h

    plan_memory(&run, B, sm_major)   -> MemoryPlan        plan_walk(&run)              -> planning.work
    plan_largest_batch(&run, ..)     -> B                 work_seconds(&work, &rates)  -> seconds of one call

A step is planned with every part of the objective that has weight in some step of the run.
*/
#pragma once

#include "../base/devices.h"
#include "../io/dataloader.h"
#include "setup.cuh"

typedef enum {
    MEMORY_WEIGHTS,
    MEMORY_MASTERS,
    MEMORY_GRADS,
    MEMORY_MOMENTS,
    MEMORY_ACTIVATIONS,
    MEMORY_LOGITS,
    MEMORY_WORKSPACE,
    MEMORY_BATCHES,
    MEMORY_VALIDATION,
    MEMORY_KINDS
} MemoryKind;

typedef struct {
    size_t bytes[MEMORY_KINDS], total;
} MemoryPlan;

typedef struct {
    Config config;
    const FlagTable* flags;
    const Objective* objective;
    bool has_val, own_val;  // own_val: validation in this precision, on the model's own activations
    int val_T;
    size_t (*validation)(void* program, int B, int sm_major);  // bytes of validation in another precision
    void* program;
} PlannedRun;

// ---------------------------------------------------------------------------------------------------------------------
// Memory

static MemoryKind slice_kind(const char* name) {
    if (!strcmp(name, "weights")) return MEMORY_WEIGHTS;
    if (!strcmp(name, "masters")) return MEMORY_MASTERS;
    if (!strcmp(name, "grads")) return MEMORY_GRADS;
    return strstr(name, "logits") ? MEMORY_LOGITS : MEMORY_ACTIVATIONS;
}

static void memory_add_arena(MemoryPlan* p, const Arena* a) {
    bool moments = !strcmp(a->name, "optimizer");
    for (int i = 0; i < a->count; i++) p->bytes[moments ? MEMORY_MOMENTS : slice_kind(a->slices[i].name)] += arena_extent(a, i);
}

// The declared model m as a plan.
UNUSED static MemoryPlan memory_of_model(const Model* m, int T, int sm_major) {
    MemoryPlan p = {};
    const Arena* arenas[] = {&m->parameters, &m->gradients, &m->optimizer, &m->activations};
    for (int i = 0; i < 4; i++) {
        if (arenas[i]->count) memory_add_arena(&p, arenas[i]);
    }
    p.bytes[MEMORY_WORKSPACE] = model_workspace_bytes(m, T, sm_major);
    for (int k = 0; k < MEMORY_KINDS; k++) p.total += p.bytes[k];
    return p;
}

static bool plan_switch(const PlannedRun* run, const char* flag) { return *(const bool*)flag_field(run->flags, flag); }
static int plan_int(const PlannedRun* run, const char* flag) { return *(const int*)flag_field(run->flags, flag); }

// A run with micro-batches of B sequences; sm_major: of the GPU.
UNUSED static MemoryPlan plan_memory(const PlannedRun* run, int B, int sm_major) {
    Model* m = (Model*)xcalloc(sizeof(Model));
    Config c = run->config;
    c.B = B;
    m->attention.deterministic = plan_switch(run, "deterministic");
    model_declare(m, c, true);
    MemoryPlan p = memory_of_model(m, c.T, sm_major);
    p.bytes[MEMORY_BATCHES] =
        2 * loader_batch_bytes(B, c.T, objective_look_ahead(run->objective), filter_compares(&c.aux.filter));
    if (run->has_val) {
        p.bytes[MEMORY_BATCHES] +=
            2 * loader_batch_bytes(plan_int(run, "val_batch_size"), run->val_T, objective_offsets(run->objective), false);
        if (!run->own_val) p.bytes[MEMORY_VALIDATION] = run->validation(run->program, B, sm_major);
    }
    p.total += p.bytes[MEMORY_BATCHES] + p.bytes[MEMORY_VALIDATION];
    free(m->table.rows);
    free(m);
    return p;
}

// The largest B whose plan takes at most `bytes`; 0: not even 1. B*T stays below 2^31.
UNUSED static int plan_largest_batch(const PlannedRun* run, size_t bytes, int sm_major) {
    int most = (int)((int64_t)INT32_MAX / run->config.T / STEP_LOSSES), fits = 0, above = 1;
    while (above <= most && plan_memory(run, above, sm_major).total <= bytes) fits = above, above *= 2;
    if (above > most) above = most + 1;
    while (above - fits > 1) {
        int middle = fits + (above - fits) / 2;
        if (plan_memory(run, middle, sm_major).total <= bytes) fits = middle;
        else above = middle;
    }
    return fits;
}

// ---------------------------------------------------------------------------------------------------------------------
// Work

enum { PLAN_SAMPLES = 4096 };  // steps that are looked at for their weights

// Weights of a step in which every part is present that is present in some step.
static StepWeights plan_weights(const Objective* o, int64_t steps) {
    StepWeights all = {};
    float* sum = (float*)&all;
    for (int i = 0; i <= PLAN_SAMPLES; i++) {
        StepWeights w = objective_weights(o, (int64_t)((double)(steps ? steps - 1 : 0) * i / PLAN_SAMPLES));
        for (size_t k = 0; k < sizeof(w) / sizeof(float); k++) sum[k] = fmaxf(sum[k], ((const float*)&w)[k]);
    }
    return all;
}

// Fills planning.work with the calls of one step. CPU builds only: they go through the step without a device.
UNUSED static void plan_walk(const PlannedRun* run) {
    Model* m = (Model*)xcalloc(sizeof(Model));
    int micro_steps = plan_int(run, "grad_accumulation_steps");
    Arena* arenas[] = {&m->parameters, &m->gradients, &m->optimizer, &m->activations};
    model_declare(m, run->config, true);
    for (int i = 0; i < 4; i++) arena_pretend(arenas[i]);
    if (!m->weights) m->weights = (floatX*)m->masters;
    m->attention.deterministic = plan_switch(run, "deterministic");
    for (int i = 0; i < SOFT_TABLES; i++) m->tables[i].K = run->config.aux.table_k[i];
    m->targets = plan_weights(run->objective, plan_int(run, "num_iterations"));
    const int* tokens = (const int*)m->losses;  // an address, nothing more
    Micro first = {tokens, tokens, run->config.B, run->config.T, false}, later = first;
    later.accumulate = true;
    planning.count = 0, planning.walks = true, planning.times = 1;
    model_micro_step(m, &first, micro_steps);
    StepInputs in = {};
    model_update(m, in, m->targets);
    planning.times = micro_steps - 1;
    if (micro_steps > 1) model_micro_step(m, &later, micro_steps);
    planning.walks = false;
    free(m->table.rows);
    free(m);
}

// Is this run's plan one for a GPU? Without --dry_run there is none. A contradiction ends the program with exit code 2.
UNUSED static bool plan_for_gpu(const FlagTable* flags) {
    const char *gpu = *(char*const*)flag_field(flags, "gpu"), *device = *(char*const*)flag_field(flags, "device");
    bool is_auto = !strcmp(gpu, "auto"), cpu = !strcmp(gpu, "cpu");
    if (!*(const bool*)flag_field(flags, "dry_run")) {
        if (flag_was_set(flags, "gpu")) usage_error("--gpu %s has no effect without --dry_run; add it, or leave --gpu out", gpu);
        return false;
    }
    if (!is_auto && strcmp(device, "auto") && cpu != !strcmp(device, "cpu")) {
        usage_error("--gpu %s plans for another device than --device %s; leave --device out", gpu, device);
    }
    return is_auto ? strcmp(device, "cpu") != 0 : !cpu;
}

// Floating-point operations of a second's worth of products.
UNUSED static double product_rate(const DeviceRates* d, bool tf32) {
    bool fp32 = sizeof(floatX) == sizeof(float);
    return 1e12 * (!fp32 ? d->tflops_16 : tf32 ? d->tflops_tf32 : d->tflops_fp32);
}

UNUSED static double work_seconds(const Work* w, const DeviceRates* d, bool tf32) {
    bool attention = w->kind == WORK_ATTENTION;
    double rate = product_rate(d, tf32 && !attention) * (attention ? d->attention : d->products);
    double compute = w->flops / rate, memory = w->bytes / (1e9 * d->gb_per_s * d->bandwidth);
    return compute > memory ? compute : memory;
}
