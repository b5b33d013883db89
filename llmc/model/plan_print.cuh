/*
What --dry_run prints: parameters by tensor, memory by category, work by part with its time on every device asked for, and what
was assumed. Everything printed comes from plan.cuh.
*/
#pragma once

#include "plan.cuh"
#include "plan_measure.h"

enum { PLAN_DEVICES = DEVICE_RATES_COUNT };

typedef struct {
    const DeviceRates* devices[PLAN_DEVICES];
    int count;
} PlannedDevices;

// ---------------------------------------------------------------------------------------------------------------------
// Parameters

// A tensor's name without the number of its layer: h.3.mlp.fc.w -> h.*.mlp.fc.w
static void tensor_group(const Param* p, char* out, size_t size) {
    int layer = 0, at = 0;
    if (sscanf(p->name, "h.%d.%n", &layer, &at) == 1 && at) snprintf(out, size, "h.*.%s", p->name + at);
    else snprintf(out, size, "%s", p->name);
}

static void print_parameters(const ParamTable* t) {
    printf("parameters %-22s tensors   elements\n", "");
    for (int id = 0; id < t->count; id++) {
        char group[96], other[96];
        int tensors = 0;
        size_t live = 0;
        bool first = true;
        tensor_group(&t->rows[id], group, sizeof(group));
        for (int i = 0; i < t->count; i++) {
            tensor_group(&t->rows[i], other, sizeof(other));
            if (strcmp(group, other)) continue;
            first = first && i >= id;
            tensors++, live += param_live(&t->rows[i]);
        }
        if (first) printf("  %-31s %7d %10.3fM\n", group, tensors, live / 1e6);
    }
    printf("  %-31s %7d %10.3fM (%zu with padding)\n", "all", t->count, params_live(t) / 1e6, t->size);
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

static void print_memory(const PlannedRun* run, const DeviceRates* d) {
    static const char* const names[] = {"masters fp32", "gradients fp32", "moments fp32", "activations", "logits"};
    MemoryPlan p = plan_memory(run, run->config.B, d->sm_major);
    const char* precision = *(char* const*)flag_field(run->flags, "val_precision");
    printf("memory     %zu bytes, %.1f MiB (%s)\n", p.total, p.total / 1048576.0, d->name);
    printf("  %-31s %12.1f MiB\n", "weights " PRECISION_NAME, p.bytes[MEMORY_WEIGHTS] / 1048576.0);
    for (int k = MEMORY_MASTERS; k <= MEMORY_LOGITS; k++) {
        printf("  %-31s %12.1f MiB\n", names[k - MEMORY_MASTERS], p.bytes[k] / 1048576.0);
    }
    printf("  %-31s %12.1f MiB\n", "scratch of products, attention", p.bytes[MEMORY_WORKSPACE] / 1048576.0);
    printf("  %-31s %12.1f MiB\n", "batches", p.bytes[MEMORY_BATCHES] / 1048576.0);
    if (p.bytes[MEMORY_VALIDATION])
        printf("  validation in %-17s %12.1f MiB\n", precision, p.bytes[MEMORY_VALIDATION] / 1048576.0);
}

// Bytes that a run may take on the device.
static size_t usable_bytes(const DeviceRates* d) {
    return d->memory_gib > 0 ? (size_t)((d->memory_gib - DEVICE_RESERVED_GIB) * 0x1p30) : device_available();
}

// ---------------------------------------------------------------------------------------------------------------------
// Work

enum { LINE_TRUNK, LINE_HEAD, LINE_AUXILIARY, LINE_KINDS, LINES = LINE_KINDS + WORK_KINDS };

static int work_line(const Work* w) {
    if (w->kind != WORK_PRODUCT) return LINE_KINDS + (int)w->kind;
    return w->section == SECTION_HEAD ? LINE_HEAD : w->section == SECTION_AUXILIARY ? LINE_AUXILIARY : LINE_TRUNK;
}
static const char* line_name(int line) {
    static const char* const names[LINES] = {"trunk: products",
                                             "head: products",
                                             "further heads: products",
                                             "",
                                             "attention",
                                             "classifier",
                                             "norms",
                                             "GELU",
                                             "rotary embedding",
                                             "bias gradients",
                                             "embedding gradients",
                                             "copies, sums",
                                             "gradient norm, AdamW"};
    return names[line];
}

typedef struct {
    double flops, bytes, seconds[PLAN_DEVICES];
} WorkSum;

// Sums over a step, by line of the table; the last one is all of it.
static void sum_work(WorkSum* sums, const PlannedDevices* p, bool tf32) {
    memset(sums, 0, (LINES + 1) * sizeof(*sums));
    for (int i = 0; i < planning.count; i++) {
        const Work* w = &planning.work[i];
        WorkSum* both[] = {&sums[work_line(w)], &sums[LINES]};
        for (int s = 0; s < 2; s++) {
            both[s]->flops += w->flops * w->times, both[s]->bytes += w->bytes * w->times;
            for (int d = 0; d < p->count; d++) both[s]->seconds[d] += work_seconds(w, p->devices[d], tf32) * w->times;
        }
    }
}

static void print_work_line(const char* name, const WorkSum* s, const PlannedDevices* p, double tokens) {
    printf("  %-24s %12.3f %10.3f", name, s->flops / tokens / 1e6, s->bytes / 1e9);
    for (int d = 0; d < p->count; d++) printf(" %10.2f", 1e3 * s->seconds[d]);
    printf("\n");
}

static void print_work(const PlannedRun* run, const PlannedDevices* p) {
    WorkSum sums[LINES + 1];
    double tokens = (double)run->config.B * run->config.T * plan_int(run, "grad_accumulation_steps");
    double steps = plan_int(run, "num_iterations"), all = tokens * steps;
    bool tf32 = plan_switch(run, "tf32");
    plan_walk(run);
    sum_work(sums, p, tf32);
    printf("a step     %-15s MFLOP/token    GB/step", "");
    for (int d = 0; d < p->count; d++) printf(" %7s ms", p->devices[d]->name);
    printf("\n");
    for (int i = 0; i < LINES; i++) {
        if (sums[i].flops > 0 || sums[i].bytes > 0) print_work_line(line_name(i), &sums[i], p, tokens);
    }
    print_work_line("all", &sums[LINES], p, tokens);
    printf("  %-47s", "tokens/s");
    for (int d = 0; d < p->count; d++) printf(" %10.0f", tokens / sums[LINES].seconds[d]);
    printf("\n  hours for %.0f tokens%*s", all, 47 - 17 - snprintf(NULL, 0, "%.0f", all), "");
    for (int d = 0; d < p->count; d++) printf(" %10.3f", steps * sums[LINES].seconds[d] / 3600);
    printf("\n  %-47s", "GiB needed");
    for (int d = 0; d < p->count; d++) printf(" %10.2f", plan_memory(run, run->config.B, p->devices[d]->sm_major).total / 0x1p30);
    printf("\n  %-47s", "GiB that a run can have");
    for (int d = 0; d < p->count; d++) printf(" %10.2f", usable_bytes(p->devices[d]) / 0x1p30);
    printf("\n  %-47s", "largest batch_size that fits");
    for (int d = 0; d < p->count; d++)
        printf(" %10d", plan_largest_batch(run, usable_bytes(p->devices[d]), p->devices[d]->sm_major));
    printf("\n");
}

// ---------------------------------------------------------------------------------------------------------------------
// Assumptions

static void print_assumptions(const PlannedRun* run, const PlannedDevices* p) {
    bool tf32 = plan_switch(run, "tf32"), fixed = plan_switch(run, "deterministic");
    bool light = run->config.head == HEAD_LIGHTRNN || run->config.embedding == EMBEDDING_LIGHTRNN;
    printf(
        "assumed    a call takes the longer of its operations at a share of the peak and its bytes at a share of the "
        "bandwidth\n");
    for (int i = 0; i < p->count; i++) {
        const DeviceRates* d = p->devices[i];
        printf("  %-8s %.4g TFLOP/s in %s, %.4g GB/s (%s)\n", d->name, product_rate(d, tf32) / 1e12,
               tf32 && sizeof(floatX) == 4 ? "TF32" : PRECISION_NAME, d->gb_per_s, d->source);
        printf("           reached: %.0f %% by products, %.0f %% by attention; %.0f %% of the bandwidth (%s)\n",
               100 * d->products, 100 * d->attention, 100 * d->bandwidth, d->measured ? "measured" : "assumed");
    }
    if (planning.gpu) {
        printf("  Assumed shares were never measured with this program. %.1f GiB are kept back for the driver.\n",
               DEVICE_RESERVED_GIB);
        if (fixed || PRECISION == PRECISION_FP32)
            printf("  Attention goes backward with the own kernel: 7 products, at cuDNN's rate.\n");
        else printf("  Attention is cuDNN's, 5 products backward, with the scratch that plans of cuDNN 9.19 ask for.\n");
    }
    if (light) printf("  Tokens further ahead are taken to be in other rows of the table; --codebook is not read.\n");
    printf(
        "  Every part of the objective is taken to have weight. Launches, logs, validation, samples, checkpoints: not "
        "counted.\n");
}

// All of it.
UNUSED static void plan_print(const PlannedRun* run) {
    const char* name = *(char* const*)flag_field(run->flags, "gpu");
    PlannedDevices p = {{NULL}, 0};
    DeviceRates cpu;
    Model* m = (Model*)xcalloc(sizeof(Model));
    if (!planning.gpu) cpu = measured_cpu(), p.devices[p.count++] = &cpu;
    else if (device_rates(name)) p.devices[p.count++] = device_rates(name);
    else
        for (int i = 0; i < DEVICE_RATES_COUNT; i++) p.devices[p.count++] = &DEVICE_RATES[i];
    model_declare(m, run->config, true);
    print_parameters(&m->table);
    free(m->table.rows);
    free(m);
    print_memory(run, p.devices[0]);
    print_work(run, &p);
    print_assumptions(run, &p);
}
