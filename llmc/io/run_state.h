/*
Where a run stands, apart from its tensors: what a checkpoint needs beside the parameter arena to continue bit for bit.
Stored as `key=value` lines, so that `head -c 4000 step_*.ckpt` shows it. A later version may add keys: those marked `later` are 0
in older files.
*/
#pragma once

#include "../base/text.h"

#include <math.h>

typedef struct {
    int64_t step;         // the next step to run: steps 0..step-1 are in the weights
    int64_t tokens_seen;  // trained on, all ranks
    int64_t loader[4];    // shard, position, epoch, batches of the next batch (dataloader.h)
    int64_t shards;       // in the list that those count in (0: not known), and what they are (shard_list_hash)
    uint64_t shards_hash;
    int64_t adam_steps;       // updates applied, for bias correction (skipped steps do not count)
    int64_t loss_scale_good;  // guard.h
    double loss_scale;
    uint64_t sampler_state;  // generator of the samples printed while training
    double best_val;         // lowest validation loss so far, nats; INFINITY before the first
    double train_seconds;    // validation and checkpoints off the clock
    struct {
        double mean, variance;
        int64_t count;
    } outlier[2];  // of the loss, of the gradient norm (guard.h)
} RunState;

typedef struct {
    const char* key;
    char kind;  // i int64_t, n int64_t that fits an int; both count something and are not negative. u uint64_t, d double
    size_t offset;
    bool later;
} RunStateField;

static const RunStateField run_state_fields[] = {
    {"step", 'n', offsetof(RunState, step), false},
    {"tokens_seen", 'i', offsetof(RunState, tokens_seen), false},
    {"loader_shard", 'n', offsetof(RunState, loader), false},
    {"loader_position", 'i', offsetof(RunState, loader) + 8, false},
    {"loader_epoch", 'i', offsetof(RunState, loader) + 16, false},
    {"loader_batches", 'i', offsetof(RunState, loader) + 24, false},
    {"adam_steps", 'n', offsetof(RunState, adam_steps), false},
    {"loss_scale", 'd', offsetof(RunState, loss_scale), false},
    {"loss_scale_good", 'n', offsetof(RunState, loss_scale_good), false},
    {"sampler_state", 'u', offsetof(RunState, sampler_state), false},
    {"best_val", 'd', offsetof(RunState, best_val), false},
    {"train_seconds", 'd', offsetof(RunState, train_seconds), false},
    {"shards", 'n', offsetof(RunState, shards), true},
    {"outlier_loss_mean", 'd', offsetof(RunState, outlier[0].mean), true},
    {"outlier_loss_variance", 'd', offsetof(RunState, outlier[0].variance), true},
    {"outlier_loss_count", 'n', offsetof(RunState, outlier[0].count), true},
    {"outlier_norm_mean", 'd', offsetof(RunState, outlier[1].mean), true},
    {"outlier_norm_variance", 'd', offsetof(RunState, outlier[1].variance), true},
    {"outlier_norm_count", 'n', offsetof(RunState, outlier[1].count), true},
    {"shards_hash", 'u', offsetof(RunState, shards_hash), true},
};
enum { RUN_STATE_FIELDS = sizeof(run_state_fields) / sizeof(run_state_fields[0]) };

UNUSED static RunState run_state_start(void) {
    RunState s;
    memset(&s, 0, sizeof(s));
    s.best_val = INFINITY, s.loss_scale = 1;
    return s;
}

UNUSED static void run_state_text(const RunState* state, Text* t) {
    for (int i = 0; i < RUN_STATE_FIELDS; i++) {
        const RunStateField* f = &run_state_fields[i];
        const char* at = (const char*)state + f->offset;
        text_add(t, "%s=", f->key);
        if (f->kind == 'i' || f->kind == 'n') text_add(t, "%lld", (long long)*(const int64_t*)at);
        else if (f->kind == 'u') text_add(t, "%llu", (unsigned long long)*(const uint64_t*)at);
        else text_add_number(t, *(const double*)at);
        text_add_char(t, '\n');
    }
}

// Reads one value; false: not one, or out of range. A loss scale is divided by; best_val may be infinite, nothing else.
static bool run_state_value(RunState* state, const RunStateField* f, const char* value) {
    char *at = (char*)state + f->offset, *end = NULL;
    errno = 0;
    if (f->kind == 'd') {
        double x = strtod(value, &end);
        bool good = at == (char*)&state->loss_scale ? x > 0 && x < 1e30 : at == (char*)&state->best_val ? !isnan(x) : isfinite(x);
        if (!good) return false;
        *(double*)at = x;
    } else if (f->kind == 'u') {
        *(uint64_t*)at = strtoull(value, &end, 10);
    } else {
        int64_t x = *(int64_t*)at = strtoll(value, &end, 10);
        if (x < 0 || x > (f->kind == 'n' ? INT32_MAX / 2 : INT64_MAX / 2)) return false;  // so that they can be added to
    }
    return end != value && *end == '\n' && (f->kind == 'd' || errno != ERANGE);
}

// Fills `state` from the lines; keys that are not ours are skipped. Returns NULL, or the key that is missing or unreadable.
UNUSED static const char* run_state_parse(RunState* state, const char* text) {
    *state = run_state_start();
    for (int i = 0; i < RUN_STATE_FIELDS; i++) {
        const RunStateField* f = &run_state_fields[i];
        size_t length = strlen(f->key);
        const char* line = text;
        while (line && (strncmp(line, f->key, length) || line[length] != '=')) {
            line = strchr(line, '\n');
            if (line) line++;
        }
        if (!line && f->later) continue;
        if (!line) return f->key;
        if (!run_state_value(state, f, line + length + 1)) return f->key;
    }
    return NULL;
}
