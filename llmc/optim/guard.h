/*
What watches over a step: the dynamic loss scale of fp16, and the detector of outliers. Both are state machines of a few numbers
that may live on the host or on the device.

Loss scale:

    step finite      good_steps + 1; on reaching `interval` the scale doubles and good_steps starts again at 0
    step not finite  the scale halves, good_steps = 0, the step is skipped: no moment moves, Adam's step counter stays

dlogits are multiplied by `scale` in the backward pass; the optimizer multiplies gradients by 1/scale (exact: a power of two)
before clipping. The scale stays in 1..2^24: an overflow at scale 1 is the model's, not the scale's, and
loss_scale_exhausted says so, so that the run can stop with the name of the tensor instead of halving for ever.

Outliers (--skip_loss_z, --skip_grad_z): how many standard deviations does the loss, or the gradient norm, of this step lie above
its running mean?

    z = (x - mean) / sqrt(variance)          0 in the first 128 steps, and when nothing has varied yet
    z > limit: the step is skipped           only above: a loss that falls fast is welcome
    d = min(x - mean, limit * sqrt(variance)), a = 1 / min(n, 128), n = values so far, this one included
    mean += a d,  variance = (1 - a) (variance + a d^2)

So the first 128 values are averaged equally and later ones exponentially, about as far back as a window of 128. x is measured
before it is counted in, and counted in as no more than the limit: one spike cannot widen the spread so far that the next ones
pass, and yet a level that rose for good is reached after a while. A value that is not finite never comes here: such a step is
skipped or ends the run (adamw.cuh), and a NaN in the state would be for good. Three numbers are the state, in a checkpoint, too.
llm.c keeps a window of 128 values and their running sums instead, counts an outlier in before it is measured, which bounds z at
11, and lets a NaN through and into its sums. Tried and dropped: leaving outliers out, for after a jump all steps are skipped.

Define GUARD_FN before including this file to make the functions __device__ ones.
*/
#pragma once

#include "../base/check.h"

#include <math.h>

#ifndef GUARD_FN
#define GUARD_FN UNUSED static inline
#endif

#define LOSS_SCALE_INIT 65536.0f
#define LOSS_SCALE_MAX 16777216.0f
enum { LOSS_SCALE_INTERVAL = 2000 };  // finite steps in a row before the scale doubles

typedef struct {
    float scale;
    int good_steps;  // finite steps since the scale last changed
} LossScale;

GUARD_FN LossScale loss_scale_start(void) {
    LossScale s = {LOSS_SCALE_INIT, 0};
    return s;
}

// A step ended; `finite`: no inf or NaN in any gradient. Returns true when the optimizer may use the gradients.
GUARD_FN bool loss_scale_update(LossScale* s, bool finite, int interval) {
    if (!finite) {
        s->scale = s->scale > 2.0f ? 0.5f * s->scale : 1.0f;
        s->good_steps = 0;
        return false;
    }
    if (++s->good_steps >= interval) {
        s->good_steps = 0;
        if (s->scale < LOSS_SCALE_MAX) s->scale *= 2.0f;
    }
    return true;
}

typedef struct {
    float mean, variance;
    float z;  // of the value counted in last
    int count;
} Outlier;

enum { OUTLIER_STEPS = 128 };  // before the first skip; and how far back it looks

// Counts x, which must be finite, in; limit > 0. Returns true when x is too far above what came before.
GUARD_FN bool outlier_update(Outlier* o, float x, float limit) {
    float d = fmaxf(fminf(x - o->mean, 1e15f), -1e15f), sigma = sqrtf(o->variance);  // so that d^2 stays finite
    bool knows = o->count >= OUTLIER_STEPS && sigma > 0.0f;
    o->z = knows ? d / sigma : 0.0f;
    bool skip = knows && o->z > limit;
    if (skip) d = limit * sigma;
    if (o->count < OUTLIER_STEPS) o->count++;
    float a = 1.0f / (float)o->count;
    o->mean += a * d;
    o->variance = (1.0f - a) * (o->variance + a * d * d);
    return skip;
}

// True when a non-finite step cannot be blamed on the scale any more.
GUARD_FN bool loss_scale_exhausted(const LossScale* s, bool finite) { return !finite && s->scale <= 1.0f; }
