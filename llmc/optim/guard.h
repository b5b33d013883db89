/*
The dynamic loss scale of fp16, as a state machine of two numbers that may live on the host or on the device.

    step finite      good_steps + 1; on reaching `interval` the scale doubles and good_steps starts again at 0
    step not finite  the scale halves, good_steps = 0, the step is skipped: no moment moves, Adam's step counter stays

dlogits are multiplied by `scale` in the backward pass; the optimizer multiplies gradients by 1/scale (exact: a power of two)
before clipping. The scale stays in 1..2^24: an overflow at scale 1 is the model's, not the scale's, and
loss_scale_exhausted says so, so that the run can stop with the name of the tensor instead of halving for ever.

Define GUARD_FN before including this file to make the functions __device__ ones.
*/
#pragma once

#include "../base/check.h"

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

// True when a non-finite step cannot be blamed on the scale any more.
GUARD_FN bool loss_scale_exhausted(const LossScale* s, bool finite) { return !finite && s->scale <= 1.0f; }
