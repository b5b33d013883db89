/*
The weight of one part of an objective over a run, from its flags:

    --PREFIX_rampup_steps R --PREFIX_decay_start f0 --PREFIX_decay_end f1      (optim/schedule.h draws both curves)
    weight at a step = the flag's weight * ramp(step) * decay(step / num_iterations)

A function of the step and the flags alone: nothing of it is in a checkpoint. The flag's own value is never changed.
*/
#pragma once

#include "../base/flags.h"
#include "../optim/schedule.h"

typedef struct {
    double weight;                   // the flag's; 0: the part is absent
    int64_t rampup, num_iterations;  // steps
    double decay_start, decay_end;   // fractions of the run
} AuxWeight;

UNUSED static double aux_weight_at(const AuxWeight* w, int64_t step) {
    double progress = w->num_iterations > 0 ? (double)step / (double)w->num_iterations : 1;
    return w->weight * ramp(step, w->rampup) * decay_factor(progress, w->decay_start, w->decay_end);
}

static double flag_number(const FlagTable* flags, const char* prefix, const char* name) {
    char full[64];
    snprintf(full, sizeof(full), "%s_%s", prefix, name);
    int i = flags_known(flags, full);
    const void* field = (const char*)flags->values + flags->defs[i].offset;
    return flags->defs[i].kind == FLAG_INT ? *(const int*)field : *(const double*)field;
}

// The schedule of `weight` that --PREFIX_* asks for; a contradiction ends the program with exit code 2.
UNUSED static AuxWeight aux_weight_from_flags(const FlagTable* flags, const char* prefix, double weight, int64_t num_iterations) {
    AuxWeight w;
    w.weight = weight;
    w.num_iterations = num_iterations;
    w.rampup = (int64_t)flag_number(flags, prefix, "rampup_steps");
    w.decay_start = flag_number(flags, prefix, "decay_start");
    w.decay_end = flag_number(flags, prefix, "decay_end");
    if (w.decay_start > w.decay_end) {
        usage_error("--%s_decay_start %g comes after --%s_decay_end %g; use --%s_decay_start %g or less", prefix, w.decay_start,
                    prefix, w.decay_end, prefix, w.decay_end);
    }
    return w;
}

// A flag that would have no effect is a mistake that is said, not one that a run hides: when the part is off, any flag called
// PREFIX_* that the user changed is refused, unless the flag that turns the part on was itself given. on: `--use_cocont`.
UNUSED static void aux_check_idle(const FlagTable* flags, const char* prefix, bool enabled, const char* on) {
    size_t length = strlen(prefix);
    char name[64];
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(on + 2, " "), on + 2);
    if (enabled || flag_was_set(flags, name)) return;
    for (int i = 0; i < flags->count; i++) {
        const char* flag = flags->defs[i].name;
        if (flags->defs[i].kind == FLAG_SECTION || strncmp(flag, prefix, length) || flag_is_default(flags, i)) continue;
        usage_error("--%s has no effect without %s; add it, or --%s 0 if it is meant to be off", flag, on, name);
    }
}
