/*
What changes with the step number and with nothing else: the learning rate and the weights of auxiliary objectives.

    trapezoid      ______________           cosine   _             linear   _            constant   ____________
                  /              \                  / `-.                  / `-.                   /
    warmup ------/                \ final          /     `-._ final       /     `-. final         /
                 0      N - warmdown  N            0          N           0        N

All are functions of the step alone, so a resumed run continues on the same curve. Warmup is lr*(it+1)/warmup: step 0 already
moves the weights, and step warmup-1 is the first at the full rate; where ranges overlap, warmup wins.
*/
#pragma once

#include "../base/check.h"

#include <math.h>

#define SCHEDULE_CHOICES "trapezoid|cosine|linear|constant"  // the CHOICE list of --lr_schedule, in the order of the enum
typedef enum { SCHEDULE_TRAPEZOID, SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT } ScheduleKind;

static inline double clamp_unit(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

// Learning rate of optimizer step `step` (from 0) of a run of num_iterations steps. warmup and warmdown are in steps; warmdown
// is the trapezoid's falling edge. final_lr_frac, in 0..1, is what remains of base_lr at step num_iterations.
UNUSED static double learning_rate_at(ScheduleKind kind, int64_t step, int64_t num_iterations, double base_lr, int64_t warmup,
                                      int64_t warmdown, double final_lr_frac) {
    if (step < warmup) return base_lr * (double)(step + 1) / (double)warmup;
    double span = (double)(num_iterations - warmup);
    double progress = span > 0 ? clamp_unit((double)(step - warmup) / span) : 1;
    double low = base_lr * final_lr_frac;
    switch (kind) {
        case SCHEDULE_TRAPEZOID: {
            if (step < num_iterations - warmdown) return base_lr;
            double left = warmdown > 0 ? clamp_unit((double)(num_iterations - step) / (double)warmdown) : 1;
            return low + (base_lr - low) * left;
        }
        case SCHEDULE_COSINE: return low + (base_lr - low) * 0.5 * (1 + cos(3.14159265358979323846 * progress));
        case SCHEDULE_LINEAR: return low + (base_lr - low) * (1 - progress);
        case SCHEDULE_CONSTANT: break;
    }
    return base_lr;
}

// Share of an auxiliary weight that is active at `step`: rises 0, 1/R, 2/R, .. to 1 at step R; R = 0 is 1 from the start.
// Multiply the flag's value by it each step and keep the flag's value untouched: w = flag * ramp(..) * decay_factor(..).
UNUSED static double ramp(int64_t step, int64_t R) { return R > 0 && step < R ? (double)step / (double)R : 1; }

// 1 up to fraction f0 of the run, falling linearly to 0 at fraction f1; s = step/num_iterations. f0 = 1 never decays.
UNUSED static double decay_factor(double s, double f0, double f1) {
    if (f0 >= 1 || s < f0) return 1;
    return f1 > f0 ? clamp_unit((f1 - s) / (f1 - f0)) : 0;
}
