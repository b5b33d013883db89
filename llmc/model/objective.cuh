/*
The objective seam: what a position is trained to predict, as a list of weighted targets (ops/targets.cuh), and what else is added
to its loss (auxiliary.cuh).

    next token               one entry: (tokens[n + 1], 1)
    multi-token prediction   K entries: (tokens[n + k], c_k), k = 1 .. K; the weights c_k of a step are mtp.h's
    separate heads           one entry each, on logits of their own: ahead_heads.cuh
    soft targets             a row of n-grams or of neighbours takes a share of the main target: smoothing.cuh

One token buffer of B*T + look-ahead ids serves all entries: they are views of it, shifted by k. The weights go to the device with
the optimizer step before and stay in its StepState, so that neither a micro-step nor a step has a launch or a copy more with an
objective than without; only which parts have a weight is known at the launch, and it changes a few times in a run (a ramp begins,
a decay ends). Validation always measures plain cross-entropies, unweighted, whatever is trained.

    Objective o = objective_open(flags, num_iterations);    objective_configure(&o, &config), then model_declare
    objective_upload(&o, m);                                after model_allocate
    objective_start(&o, m, step);                           before the first micro-step; waits for the device
    per step:  micro-steps;  model_update(m, in, objective_weights(&o, step + 1))
*/
#pragma once

#include "../io/logger.h"
#include "ahead.h"
#include "auxiliary.cuh"
#include "mtp.h"
#include "token_filter.h"

static_assert((int)MTP_MAX == (int)STEP_TOKENS, "a step has a loss for each token ahead");

typedef struct {
    Mtp mtp;
    Ahead ahead;
    Smoothing smoothing[SOFT_TABLES];
    Spelling spelling;
    TokenFilter filter;
} Objective;

// ---------------------------------------------------------------------------------------------------------------------
// Lists on the device

UNUSED static Targets shifted_tokens(const Model* m, const Micro* micro, int count) {
    return targets_list(micro->tokens + 1, m->state->in.next.token, count, 1, 1, 0);
}

// Validation: the next token alone, or the tokens 1..count ahead, for their cross-entropies (no gradient: weights do not matter).
UNUSED static Targets next_token(const Model* m, const Micro* micro) { return shifted_tokens(m, micro, 1); }
UNUSED static Targets measured_targets(const Model* m, const Micro* micro, int count) {
    return shifted_tokens(m, micro, m->config.aux.ahead.kind == AHEAD_SHARED ? count : 1);  // auxiliary_measure does the others
}

// Tokens ahead that the shared logits are scored against: weights of 0 at the end do not count, so that an objective without
// weight is the absent one, to the bit.
UNUSED static int targets_count(const Model* m) {
    int count = m->config.aux.ahead.kind == AHEAD_SHARED ? STEP_TOKENS : 1;
    while (count > 1 && m->targets.token[count - 1] == 0.0f) count--;
    return count;
}

// Training: what m->targets gives a weight. micro->tokens has the tokens that they look ahead to behind its B*T.
UNUSED static Targets training_targets(const Model* m, const Micro* micro) {
    Targets t = shifted_tokens(m, micro, targets_count(m));
    for (int i = 0; i < SOFT_TABLES; i++) {
        if (m->targets.table[i] == 0.0f) continue;
        t.table[t.tables] = m->tables[i];
        t.table[t.tables++].rows = micro->tokens + i;  // n-grams follow the input token, neighbours belong to the next one
    }
    return t;
}

// Slots of the losses that a micro-step with m->targets fills, as a bit mask.
UNUSED static uint32_t targets_slots(const Model* m) {
    uint32_t slots = (1u << targets_count(m)) - 1;
    for (int i = 0; i < SOFT_TABLES; i++) slots |= (uint32_t)(m->targets.table[i] != 0.0f) << (LOSS_NGRAM + i);
    slots |= (uint32_t)(m->targets.spelling != 0.0f) << LOSS_SPELLING;
    return slots | ahead_slots(m);
}

// Groups of parameters that m->targets leaves without a gradient, as a bit mask.
UNUSED static uint32_t targets_idle(const Model* m) {
    uint32_t idle = (uint32_t)(m->targets.spelling == 0.0f) << GROUP_SPELLING;
    return idle | ahead_idle(m);
}

// Weights for the first step, or for a step that runs again. Waits for the device.
UNUSED static void targets_start(Model* m, StepWeights weights) {
    m->targets = weights;
    device_sync();
    copy_to_device(&m->state->in.next, &weights, sizeof(weights));
}

// ---------------------------------------------------------------------------------------------------------------------
// The objective of a run

// What the flags ask for; a contradiction ends the program with exit code 2.
UNUSED static Objective objective_open(const FlagTable* flags, int64_t num_iterations) {
    Objective o;
    memset(&o, 0, sizeof(o));
    o.mtp = mtp_from_flags(flags, num_iterations);
    o.ahead = ahead_from_flags(flags, &o.mtp, num_iterations);
    smoothing_from_flags(o.smoothing, flags, num_iterations);
    o.spelling = spelling_from_flags(flags, num_iterations);
    o.filter = filter_from_flags(flags, num_iterations);
    if (o.filter.config.on && o.ahead.config.kind != AHEAD_SHARED) {
        usage_error(
            "the token filter (--tf_keep, --tf_rule) is not defined for heads of their own; use --mtp_heads shared, or no "
            "filter");
    }
    return o;
}

// What a head over two coordinates of a token is not defined for: exit code 2.
static void objective_check_light(const Objective* o) {
    const char* what = o->ahead.config.kind != AHEAD_SHARED
                           ? "heads of their own (--mtp_heads linear or proj); use --mtp_heads shared"
                       : o->filter.config.on     ? "the token filter (--tf_keep, --tf_rule); leave it out"
                       : o->smoothing[1].table.K ? "soft cross-entropy (--soft_ce_beta); leave it out"
                       : o->smoothing[0].corrected && !o->smoothing[0].exact
                           ? "--cocont_mode cc with --cocont_mass rows; use --cocont_mass exact"
                           : NULL;
    if (what) usage_error("the lightrnn head is not defined for %s", what);
}

// What the model must have for it. Of c, the head must be set.
UNUSED static void objective_configure(const Objective* o, Config* c) {
    if (c->head == HEAD_LIGHTRNN) objective_check_light(o);
    else if (o->smoothing[0].exact) {
        usage_error("--cocont_mass exact has no effect with a dense head, which always has n-grams as words; leave it out");
    }
    c->aux.ahead = o->ahead.config;
    for (int i = 0; i < SOFT_TABLES; i++) c->aux.table_k[i] = o->smoothing[i].table.K;
    c->aux.exact = o->smoothing[0].exact && o->smoothing[0].table.K;
    c->aux.spelling = o->spelling.config;
    c->aux.filter = o->filter.config;
}

// Tables to the device, after model_allocate.
UNUSED static void objective_upload(Objective* o, Model* m) {
    smoothing_upload(o->smoothing, m);
    spelling_upload(&o->spelling, m);
}

// Tokens ahead that validation measures, and tokens that a training batch needs behind its last one.
UNUSED static int objective_offsets(const Objective* o) { return o->mtp.K; }
UNUSED static int objective_look_ahead(const Objective* o) {
    return o->mtp.K > o->spelling.config.letters ? o->mtp.K : o->spelling.config.letters;
}

UNUSED static StepWeights objective_weights(const Objective* o, int64_t step) {
    StepWeights w;
    memset(&w, 0, sizeof(w));
    mtp_weights_at(&o->mtp, step, w.token);
    w.consistency = (float)aux_weight_at(&o->ahead.consistency, step);
    for (int i = 0; i < SOFT_TABLES; i++) w.table[i] = (float)aux_weight_at(&o->smoothing[i].alpha, step);
    w.spelling = (float)aux_weight_at(&o->spelling.weight, step);
    w.filter = filter_at(&o->filter, step) ? 1.0f : 0.0f;
    return w;
}

UNUSED static void objective_start(const Objective* o, Model* m, int64_t step) { targets_start(m, objective_weights(o, step)); }

// factors (STEP_LOSSES): turn the sums in the losses buffer into means over the positions of `micro_steps` micro-steps.
UNUSED static void objective_loss_factors(const Model* m, int micro_steps, float* factors) {
    for (int k = 0; k < STEP_LOSSES; k++) factors[k] = 1.0f / ((float)m->config.B * m->config.T * micro_steps);
    factors[LOSS_CONSISTENCY] = ahead_pair_factor(m, m->config.B, m->config.T, 1.0f / (float)micro_steps);
}

// sum of c_k ce_k, no mean: the loss of the tokens 1, 2, .. ahead, from their cross-entropies ce (STEP_TOKENS).
static double objective_total(const StepWeights* w, const double* ce) {
    double total = 0;
    for (int k = 0; k < STEP_TOKENS; k++) total += w->token[k] != 0 ? (double)w->token[k] * ce[k] : 0;
    return total;
}

// A training line: `trn` stays the next token's plain cross-entropy, so that runs with and without an objective compare. `mtp` is
// the weighted sum over the tokens ahead and `ce_k` its parts as far as they had a weight; `cocont` and `soft_ce` are the
// cross-entropies of the tables' rows, `consist_k` the divergence of head k from the next token's. losses: of its StepState.
UNUSED static void objective_log_step(const Objective* o, int64_t step, const float* losses, StepRecord* r) {
    static const char* const keys[] = {"ce_1", "ce_2", "ce_3", "ce_4", "ce_5", "ce_6", "ce_7", "ce_8"};
    static const char *const tables[] = {"cocont", "soft_ce"}, *const alphas[] = {"cocont_alpha", "soft_ce_beta"};
    static const char* const consists[] = {"",          "",          "consist_2", "consist_3", "consist_4",
                                           "consist_5", "consist_6", "consist_7", "consist_8"};
    double ce[STEP_TOKENS];
    StepWeights w = objective_weights(o, step);
    r->loss = losses[0];
    for (int i = 0; i < SOFT_TABLES; i++) {
        if (o->smoothing[i].alpha.weight == 0) continue;
        step_record_add(r, alphas[i], w.table[i]);
        if (w.table[i] != 0) step_record_add(r, tables[i], losses[LOSS_NGRAM + i]);
    }
    if (o->spelling.config.letters) step_record_add(r, "spell_weight", aux_weight_at(&o->spelling.weight, step));
    if (w.spelling != 0) step_record_add(r, "spell", losses[LOSS_SPELLING]);
    if (o->ahead.consistency.weight != 0) {
        step_record_add(r, "consist_weight", w.consistency);
        if (w.consistency != 0) step_record_add(r, consists[o->ahead.config.consist_k], losses[LOSS_CONSISTENCY]);
    }
    if (o->mtp.K == 1) return;
    for (int k = 0; k < STEP_TOKENS; k++) ce[k] = losses[k];
    r->mtp_weight = mtp_weight_at(&o->mtp, step);
    step_record_add(r, "mtp", objective_total(&w, ce));
    for (int k = 1; k < o->mtp.K; k++) {
        if (w.token[k] != 0) step_record_add(r, keys[k], ce[k]);
    }
}

// A validation line: val = ntp = plain next-token cross-entropy, mtp = the total with the weights of this step (equal to ntp when
// they are 0), val_ce_k for every offset whatever its weight. ce: objective_offsets means in nats.
UNUSED static void objective_log_validation(const Objective* o, int64_t step, const double* ce, StepRecord* r) {
    static const char* const keys[] = {"val_ce_1", "val_ce_2", "val_ce_3", "val_ce_4",
                                       "val_ce_5", "val_ce_6", "val_ce_7", "val_ce_8"};
    StepWeights w = objective_weights(o, step);
    r->loss = ce[0];
    if (o->mtp.K == 1) return;
    r->mtp_loss = objective_total(&w, ce);
    r->mtp_weight = mtp_weight_at(&o->mtp, step);
    for (int k = 1; k < o->mtp.K; k++) step_record_add(r, keys[k], ce[k]);
}

// Lines for the banner, with what the objective costs if its weight is never let down. Nothing without one.
UNUSED static void objective_print(const Objective* o) {
    for (int i = 0; i < SOFT_TABLES; i++) {
        const AuxWeight* a = &o->smoothing[i].alpha;
        double end = aux_weight_at(a, a->num_iterations);
        if (a->weight == 0) continue;
        const char* what = i ? "its neighbours" : o->smoothing[0].exact ? "n-grams, as words" : "n-grams";
        printf("objective  %g of the target on %s, %g at the end", a->weight, what, end);
        if (end > 0)
            printf(": up to %.4f nats of val loss (--%s_decay_start 0.8 lets it down)", -log(1 - end), i ? "soft_ce" : "cocont");
        printf("\n");
    }
    spelling_print(&o->spelling);
    filter_print(&o->filter);
    if (o->mtp.K == 1) return;
    float w[MTP_MAX];
    double sum = 0;
    int count = mtp_weights_at(&o->mtp, o->mtp.num_iterations, w);
    for (int k = 1; k < count; k++) sum += w[k] / w[0];
    if (o->ahead.config.kind != AHEAD_SHARED) {
        printf("objective  %d tokens ahead on heads of their own, which only training needs\n", o->mtp.K);
        return;
    }
    printf("objective  %d tokens ahead on the same logits, ", o->mtp.K);
    if (sum == 0) printf("one by the end\n");
    else {
        printf("with weight %g at the end: up to %.4f nats of val loss%s\n", sum, log(1 + sum),
               o->mtp.stages ? "" : " (--mtp_decay_start 0.8 lets it down)");
    }
}
