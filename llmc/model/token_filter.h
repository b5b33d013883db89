/*
The token filter's flags: which positions of a micro-batch get a gradient, and in which steps (head_filter.cuh does it).

    --tf_keep 0.6                       the 60 % largest next-token losses (--tf_rule topk); 1, the default, is no filter
    --tf_rule minmax --tf_threshold x   losses that are high within their own sequence
    --tf_rule excess --tf_reference d   the 60 % that are farthest above those of a reference model, which --score_bin put into d
    --tf_start_step a --tf_stop_step b  at work in the steps a .. b - 1; b = 0: to the end

High losses are not a sample of the text: a filtered model learns another distribution, one that expects the unlikely. So a filter
should be off in the last part of a run; val_loss never knows it. excess leaves out what the reference finds hard, too: noise.
*/
#pragma once

#include "../base/flags.h"
#include "../ops/filter.cuh"
#include "config.h"

typedef struct {
    FilterConfig config;
    const char* reference;                // folder of reference losses, NULL: none are read
    int64_t start, stop, num_iterations;  // steps; stop = 0: never
} TokenFilter;

// Does it compare with reference losses, so that batches bring them?
UNUSED static bool filter_compares(const FilterConfig* f) { return f->on && f->rule == FILTER_EXCESS; }

// The filter that the flags ask for; a contradiction ends the program with exit code 2.
UNUSED static TokenFilter filter_from_flags(const FlagTable* flags, int64_t num_iterations) {
    TokenFilter f;
    memset(&f, 0, sizeof(f));
    f.config.rule = flag_choice(flags, "tf_rule");
    f.config.keep = *(const double*)flag_field(flags, "tf_keep");
    f.config.threshold = (float)*(const double*)flag_field(flags, "tf_threshold");
    f.config.mean_of_kept = flag_choice(flags, "tf_norm") == 0;
    f.start = *(const int*)flag_field(flags, "tf_start_step");
    f.stop = *(const int*)flag_field(flags, "tf_stop_step");
    f.num_iterations = num_iterations;
    const char *rule = *(char*const*)flag_field(flags, "tf_rule"), *reference = *(char*const*)flag_field(flags, "tf_reference");
    bool minmax = f.config.rule == FILTER_MINMAX, excess = f.config.rule == FILTER_EXCESS;
    f.config.on = minmax || f.config.keep < 1;
    f.reference = filter_compares(&f.config) ? reference : NULL;
    if (minmax && f.config.keep < 1)
        usage_error("--tf_keep has no effect with --tf_rule minmax, whose share is not fixed; use --tf_threshold");
    if (excess && !*reference) {
        usage_error(
            "--tf_rule excess compares with the losses of a reference model; add --tf_reference DIR, which --score_bin fills");
    }
    if (!excess && *reference) usage_error("--tf_reference has no effect with --tf_rule %s; add --tf_rule excess", rule);
    for (int i = 0; i < flags->count; i++) {
        const char* name = flags->defs[i].name;
        if (flags->defs[i].kind == FLAG_SECTION || strncmp(name, "tf_", 3) || flag_is_default(flags, i)) continue;
        bool threshold = !strcmp(name, "tf_threshold");
        if (threshold && !minmax) usage_error("--tf_threshold has no effect with --tf_rule %s; add --tf_rule minmax", rule);
        if (!f.config.on && !flag_was_set(flags, "tf_keep")) {
            usage_error(
                "--%s has no effect without --tf_keep; add for example --tf_keep 0.6, or --tf_keep 1 if it is meant to be off",
                name);
        }
    }
    if (f.config.on && f.stop && f.stop <= f.start) {
        usage_error("--tf_stop_step %lld is not after --tf_start_step %lld, so no step would be filtered; use a later one, or 0",
                    (long long)f.stop, (long long)f.start);
    }
    return f;
}

// Is the filter at work in this step?
UNUSED static bool filter_at(const TokenFilter* f, int64_t step) {
    return f->config.on && step >= f->start && (!f->stop || step < f->stop);
}

// A line for the banner; nothing without a filter.
UNUSED static void filter_print(const TokenFilter* f) {
    if (!f->config.on) return;
    if (f->config.rule == FILTER_TOPK) printf("filter     gradient of the %g %% largest losses", 100 * f->config.keep);
    else if (f->reference)
        printf("filter     gradient of the %g %% farthest above %s's losses", 100 * f->config.keep, f->reference);
    else printf("filter     gradient of losses above %g of their sequence's range", f->config.threshold);
    if (f->start) printf(", from step %lld", (long long)f->start);
    bool ends = f->stop && f->stop < f->num_iterations;
    if (ends) printf(", until step %lld\n", (long long)f->stop);
    else
        printf(", to the end: it learns another distribution than the text's (--tf_stop_step %lld)\n",
               (long long)(f->num_iterations * 4 / 5));
}
