/*
The optimizer step, three launches and no host in between:

    grads --norm_kernel--> partial sums --step_finish_kernel--> StepState --adamw_kernel--> masters, m, v, weights

norm_kernel      sum of squares of every gradient, one partial per team (4 bytes read per parameter)
step_finish      one team: global norm, clip factor, is everything finite?, fp16 loss scale, bias corrections, mean losses
adamw            read g, m, v, w (16 bytes), write m, v, w (12) and the floatX copy (2): 28 to 30 bytes per parameter

The decision to skip (a non-finite loss or gradient, an fp16 overflow, an outlier: guard.h) is made on the device before the
first weight is touched; the host reads it later, for the log. A skipped step leaves weights, moments and the step count as they
were.

    theta *= 1 - lr * decay;  m, v;  theta -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
    (Loshchilov and Hutter 2019, in PyTorch's order)

A unit is 256 elements (params.h); unit_flags has one byte per unit, so one launch serves all tensors.
*/
#pragma once

#include "../base/math.cuh"
#include "../base/params.h"
#define GUARD_FN DEVICE
#include "guard.h"

enum { UNIT_DECAY = 1, UNIT_CLEAR = 2, UNIT_GROUP = 4 };  // weight decay; clear the gradient after use; above: group
enum { NORM_TEAMS = 4096, STEP_TOKENS = 8, STEP_TABLES = 2 };

// What the detector of outliers looks at
enum { OUTLIER_LOSS, OUTLIER_NORM, OUTLIERS };

// Losses that a step can have, each a row of N numbers: of the tokens 1..8 ahead, then
typedef enum { LOSS_NGRAM = STEP_TOKENS, LOSS_NEIGHBOURS, LOSS_CONSISTENCY, LOSS_SPELLING, STEP_LOSSES } LossSlot;

// How much each part of the objective counts in a step (model/objective.cuh). A part of weight 0 is absent.
typedef struct {
    float token[STEP_TOKENS];  // the token k + 1 ahead
    float table[STEP_TABLES];  // share of the main target that goes to the n-grams, to the neighbours
    float consistency, spelling;
    float filter;  // 1: the token filter is at work (model/head_filter.cuh)
} StepWeights;

// What the host decides for a step; passed by value.
typedef struct {
    float lr, beta1, beta2, eps, weight_decay;
    float grad_clip;                 // largest global norm, 0 = off
    float skip_z[OUTLIERS];          // skip the step when its loss, its norm is such an outlier; 0 = off
    bool scale_loss;                 // fp16: the loss scale is at work
    bool halt;                       // after a hopeless step skip all later ones: the run is about to stop
    uint32_t loss_slots;             // bit k: slot k of the losses was filled in this step
    uint32_t idle;                   // bit g: parameters of group g rest: no gradient, no moments, no decay
    float loss_factor[STEP_LOSSES];  // turns a sum of losses into the mean
    // Of the NEXT step (model/objective.cuh). They ride along to the StepState, where that step's kernels read them: no launch
    // and no copy of their own, always the same address.
    StepWeights next;
} StepInputs;

// What the device decides. The host reads it after the step, for the log.
typedef struct {
    StepInputs in;
    float losses[STEP_LOSSES];  // means over the step; 0 where a slot was not filled
    float grad_norm;            // of the unscaled gradients, before clipping
    float grad_factor;          // 1/loss_scale times the clip factor
    float bias1, bias2;         // 1 - beta^t
    int skip;                   // 1: this step changed nothing
    int hopeless;               // 1: and no smaller loss scale could have helped
    int skipped;                // how many did, in all
    int steps;                  // t, updates done
    LossScale scaler;           // fp16 loss scale (optim/guard.h); scale stays 1 otherwise
    Outlier outliers[OUTLIERS];
} StepState;

DEVICE bool unit_rests(int flags, uint32_t idle) { return idle >> (flags / UNIT_GROUP) & 1; }

KERNEL norm_kernel(float* RESTRICT partial, const float* RESTRICT grads, const uint8_t* RESTRICT unit_flags, uint32_t idle,
                   int units) {
    float sum = 0.0f;
    FOR_ROWS(u, units) {
        if (unit_rests(unit_flags[u], idle)) continue;  // what an earlier step left there
        const float* g = grads + (size_t)u * PARAM_UNIT;
        FOR_LANES(i, PARAM_UNIT / PACK) {
            Vec x = load(g, (size_t)i);
            FOR_PACK(k) sum += x.v[k] * x.v[k];
        }
    }
    sum = team_sum(sum);
    if (FIRST_LANE) partial[TEAM] = sum;
}

// losses: (STEP_LOSSES, N) sums over the micro-steps; only the slots of in.loss_slots are read.
KERNEL step_finish_kernel(StepState* s, StepInputs in, const float* partial, int partials, const float* losses, int N) {
    FOR_ROWS(once, 1) {
        bool finite = true;
        for (int k = 0; k < STEP_LOSSES; k++) {
            float sum = 0.0f;
            if (FIRST_LANE) s->losses[k] = 0.0f;
            if (!(in.loss_slots >> k & 1)) continue;
            FOR_LANES(n, N) sum += losses[(size_t)k * N + n];
            sum = team_sum(sum);
            finite = finite && isfinite(sum);
            if (FIRST_LANE) s->losses[k] = sum * in.loss_factor[k];
        }
        float squares = 0.0f;
        FOR_LANES(t, partials) squares += partial[t];
        squares = team_sum(squares);
        if (!FIRST_LANE) continue;
        float scale = s->scaler.scale, norm = sqrtf(squares) / scale;
        finite = finite && isfinite(squares);
        if (in.halt && s->hopeless) finite = false;
        s->hopeless = !finite && (!in.scale_loss || loss_scale_exhausted(&s->scaler, finite));
        s->in = in;
        s->grad_norm = norm;
        bool skip = !finite;
        float seen[OUTLIERS] = {s->losses[0], norm};
        for (int k = 0; k < OUTLIERS; k++) {
            if (finite && in.skip_z[k] > 0.0f) skip = outlier_update(&s->outliers[k], seen[k], in.skip_z[k]) || skip;
        }
        s->skip = skip;
        s->skipped += skip;
        if (in.scale_loss) loss_scale_update(&s->scaler, finite, LOSS_SCALE_INTERVAL);
        s->grad_factor = (in.grad_clip > 0.0f && norm > in.grad_clip ? in.grad_clip / norm : 1.0f) / scale;
        if (skip) continue;
        s->steps++;
        s->bias1 = 1.0f - powf(in.beta1, (float)s->steps);
        s->bias2 = 1.0f - powf(in.beta2, (float)s->steps);
    }
}

// COPY: weights is a separate floatX arena (bf16, fp16).
template <bool COPY>
KERNEL adamw_kernel(float* RESTRICT masters, floatX* RESTRICT weights, float* RESTRICT grads, float* RESTRICT m,
                    float* RESTRICT v, const uint8_t* RESTRICT unit_flags, const StepState* s, int units) {
    float beta1 = s->in.beta1, beta2 = s->in.beta2, eps = s->in.eps, factor = s->grad_factor;
    float step_size = s->in.lr / s->bias1, inv_bias2 = 1.0f / s->bias2;
    bool skip = s->skip;
    FOR_ROWS(u, units) {
        int flags = unit_flags[u];
        float keep = flags & UNIT_DECAY ? 1.0f - s->in.lr * s->in.weight_decay : 1.0f;
        size_t at = (size_t)u * PARAM_UNIT;
        if (!skip && !unit_rests(flags, s->in.idle)) {
            FOR_LANES(i, PARAM_UNIT / PACK) {
                Vec g = load(grads + at, (size_t)i), w = load(masters + at, (size_t)i);
                Vec mi = load(m + at, (size_t)i), vi = load(v + at, (size_t)i);
                FOR_PACK(k) {
                    float gk = g.v[k] * factor;
                    mi.v[k] = beta1 * mi.v[k] + (1.0f - beta1) * gk;
                    vi.v[k] = beta2 * vi.v[k] + (1.0f - beta2) * gk * gk;
                    w.v[k] = w.v[k] * keep - step_size * mi.v[k] / (sqrtf(vi.v[k] * inv_bias2) + eps);
                }
                store(m + at, (size_t)i, mi);
                store(v + at, (size_t)i, vi);
                store(masters + at, (size_t)i, w);
                if (COPY) store(weights + at, (size_t)i, w);
            }
        }
        if (flags & UNIT_CLEAR) {
            FOR_LANES(i, PARAM_UNIT / PACK) store(grads + at, (size_t)i, Vec{});
        }
    }
}

// One optimizer step over arenas of table->size elements. partial: NORM_TEAMS floats of scratch. state is device memory.
UNUSED static void adamw_step(const ParamTable* table, float* masters, floatX* weights, float* grads, float* m, float* v,
                              const uint8_t* unit_flags, float* partial, StepState* state, StepInputs in, const float* losses,
                              int N, stream_t stream) {
    (void)stream;
    // Tensors at the table's end that rest are as if they were not there: the others' sums are split in the same way, to the bit.
    size_t size = table->size;
    for (int id = table->count - 1; id > 0 && in.idle >> table->rows[id].group & 1; id--) size = table->rows[id].offset;
    int units = (int)(size / PARAM_UNIT);
    int teams = device_teams(units < NORM_TEAMS ? units : NORM_TEAMS);
    // the norm reads g; AdamW reads g, m, v, w, writes m, v, w, and the floatX copy
    moves(WORK_OPTIMIZER, (double)size * (4 + 28 + ((const void*)weights == (const void*)masters ? 0 : sizeof(floatX))));
    LAUNCH(norm_kernel, teams, WARP, stream)(partial, grads, unit_flags, in.idle, units);
    LAUNCH(step_finish_kernel, 1, 1024, stream)(state, in, partial, teams, losses, N);
    int grid = units / 8 < 4096 ? units : 4096 * 8;
    (void)grid;
    if ((const void*)weights == (const void*)masters) {
        LAUNCH(adamw_kernel<false>, grid, WARP, stream)(masters, weights, grads, m, v, unit_flags, state, units);
    } else {
        LAUNCH(adamw_kernel<true>, grid, WARP, stream)(masters, weights, grads, m, v, unit_flags, state, units);
    }
}

// Copies masters into the floatX arena: after initialisation and after loading a checkpoint. fp32: nothing to do.
KERNEL cast_kernel(floatX* RESTRICT weights, const float* RESTRICT masters, size_t n) {
    FOR_EACH(i, n / PACK) { store(weights, i, load(masters, i)); }
}
UNUSED static void cast_weights(floatX* weights, const float* masters, size_t n, stream_t stream) {
    (void)stream;
    int teams = n / PACK < 4096 * 256 ? (int)(n / PACK + 255) / 256 : 4096;
    (void)teams;
    if ((const void*)weights != (const void*)masters) LAUNCH(cast_kernel, teams, 256, stream)(weights, masters, n);
}

// Fills host memory flags (table->size / PARAM_UNIT bytes).
UNUSED static void unit_flags_fill(const ParamTable* table, uint8_t* flags) {
    for (int id = 0; id < table->count; id++) {
        const Param* p = &table->rows[id];
        uint8_t f = (uint8_t)((p->decay ? UNIT_DECAY : 0) | (p->scatter ? UNIT_CLEAR : 0) | p->group * UNIT_GROUP);
        memset(flags + p->offset / PARAM_UNIT, f, (p->size + PARAM_UNIT - 1) / PARAM_UNIT);
    }
}
