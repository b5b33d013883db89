/*
The objective seam: what a position is trained to predict, as a list of weighted targets (ops/classifier.cuh).

    next token               one entry: (tokens[n + 1], 1)
    multi-token prediction   K entries: (tokens[n + k], c_k), k = 1 .. K; the weights c_k of a step are mtp.h's

One token buffer of B*T + K ids serves all entries: they are views of it, shifted by k. The weights go to the device with the
optimizer step before and stay in its StepState, so that neither a micro-step nor a step has a launch or a copy more with an
objective than without; only the number of entries is a launch argument, and it changes a few times in a run (a ramp begins, a
decay ends). Validation always measures plain cross-entropies, unweighted, whatever is trained.

    Objective o = objective_open(flags, num_iterations);
    objective_start(&o, m, step);                           before the first micro-step; waits for the device
    per step:  micro-steps; count = objective_next(&o, m, step + 1); model_update(m, in, count)
*/
#pragma once

#include "../io/logger.h"
#include "model.cuh"
#include "mtp.h"

static_assert((int)MTP_MAX == (int)STEP_LOSSES, "a step has a loss for each token ahead");

typedef struct {
    Mtp mtp;
} Objective;

// ---------------------------------------------------------------------------------------------------------------------
// Lists on the device

UNUSED static Targets shifted_tokens(const Model* m, const Micro* micro, int count) {
    Targets t = {micro->tokens + 1, m->state->in.target_weights, count, 1, 1, 0};
    return t;
}

// Validation: the next token alone, or the tokens 1..count ahead, for their cross-entropies (no gradient: weights do not matter).
UNUSED static Targets next_token(const Model* m, const Micro* micro) { return shifted_tokens(m, micro, 1); }
UNUSED static Targets measured_targets(const Model* m, const Micro* micro, int count) { return shifted_tokens(m, micro, count); }

// Training: what targets_start or the last update left. micro->tokens has m->targets.count tokens behind its B*T.
UNUSED static Targets training_targets(const Model* m, const Micro* micro) { return shifted_tokens(m, micro, m->targets.count); }

// Weights for the first step, or for a step that runs again. Waits for the device.
UNUSED static void targets_start(Model* m, TargetList list) {
    m->targets = list;
    device_sync();
    copy_to_device(m->state->in.target_weights, list.weights, sizeof(list.weights));
}

// ---------------------------------------------------------------------------------------------------------------------
// The objective of a run

// What the flags ask for; a contradiction ends the program with exit code 2.
UNUSED static Objective objective_open(const FlagTable* flags, int64_t num_iterations) {
    Objective o = {mtp_from_flags(flags, num_iterations)};
    return o;
}

// Tokens that a batch needs behind its last one.
UNUSED static int objective_look_ahead(const Objective* o) { return o->mtp.K; }

UNUSED static TargetList objective_targets(const Objective* o, int64_t step) {
    TargetList list;
    list.count = mtp_weights_at(&o->mtp, step, list.weights);
    return list;
}

UNUSED static void objective_start(const Objective* o, Model* m, int64_t step) { targets_start(m, objective_targets(o, step)); }

// Between the last micro-step and the update: the update will carry the weights of step `next` to the device. Returns the number
// of targets that the micro-steps before had.
UNUSED static int objective_next(const Objective* o, Model* m, int64_t next) {
    int count = m->targets.count;
    m->targets = objective_targets(o, next);
    return count;
}

// The loss that a step minimises, from the cross-entropies ce (count) of the tokens 1, 2, .. ahead: sum of c_k ce_k, no mean.
static double objective_total(TargetList list, const double* ce) {
    double total = 0;
    for (int k = 0; k < list.count; k++) total += (double)list.weights[k] * ce[k];
    return total;
}

// A training line: `trn` stays the next token's plain cross-entropy, so that runs with and without an objective compare; the loss
// that was minimised is `mtp`, and `ce_k` are its parts as far as they had a weight. losses: of the StepState of that step.
UNUSED static void objective_log_step(const Objective* o, int64_t step, const float* losses, StepRecord* r) {
    static const char* const keys[] = {"ce_1", "ce_2", "ce_3", "ce_4", "ce_5", "ce_6", "ce_7", "ce_8"};
    double ce[STEP_LOSSES];
    TargetList list = objective_targets(o, step);
    r->loss = losses[0];
    if (o->mtp.K == 1) return;
    for (int k = 0; k < list.count; k++) ce[k] = losses[k];
    r->mtp_weight = mtp_weight_at(&o->mtp, step);
    step_record_add(r, "mtp", objective_total(list, ce));
    for (int k = 1; k < list.count; k++) step_record_add(r, keys[k], ce[k]);
}

// A validation line: val = ntp = plain next-token cross-entropy, mtp = the total with the weights of this step (equal to ntp when
// they are 0), val_ce_k for every offset whatever its weight. ce: look-ahead means in nats.
UNUSED static void objective_log_validation(const Objective* o, int64_t step, const double* ce, StepRecord* r) {
    static const char* const keys[] = {"val_ce_1", "val_ce_2", "val_ce_3", "val_ce_4",
                                       "val_ce_5", "val_ce_6", "val_ce_7", "val_ce_8"};
    r->loss = ce[0];
    if (o->mtp.K == 1) return;
    r->mtp_loss = objective_total(objective_targets(o, step), ce);
    r->mtp_weight = mtp_weight_at(&o->mtp, step);
    for (int k = 1; k < o->mtp.K; k++) step_record_add(r, keys[k], ce[k]);
}

// One line for the banner, with what the objective costs if its weight is never let down. Nothing without one.
UNUSED static void objective_print(const Objective* o) {
    if (o->mtp.K == 1) return;
    float w[MTP_MAX];
    double sum = 0;
    int count = mtp_weights_at(&o->mtp, o->mtp.num_iterations, w);
    for (int k = 1; k < count; k++) sum += w[k] / w[0];
    printf("objective  %d tokens ahead on the same logits, ", o->mtp.K);
    if (sum == 0) printf("one by the end\n");
    else {
        printf("with weight %g at the end: up to %.4f nats of val loss%s\n", sum, log(1 + sum),
               o->mtp.stages ? "" : " (--mtp_decay_start 0.8 lets it down)");
    }
}
