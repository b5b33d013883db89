/*
The checkpoints of one run: <output_dir>/step_00001000.ckpt, named by the next step to run. A name that is there is complete,
because it appeared by rename; *.ckpt.tmp is what a killed run left and is never read.
*/
#pragma once

#include "checkpoint.h"

#include <dirent.h>

// New string "<dir>/step_%08d.ckpt"; free it.
UNUSED static char* checkpoint_path(const char* dir, int64_t step) {
    Text t = {0, 0, 0};
    text_add(&t, "%s/step_%08lld.ckpt", dir, (long long)step);
    return t.data;
}

// Step of a name "step_<digits><suffix>", or -1.
static int64_t checkpoint_name_step(const char* name, const char* suffix) {
    if (strncmp(name, "step_", 5)) return -1;
    size_t digits = strspn(name + 5, "0123456789");
    if (digits < 8 || digits > 18 || strcmp(name + 5 + digits, suffix)) return -1;
    return strtoll(name + 5, NULL, 10);
}

static int checkpoint_newer_first(const void* a, const void* b) {
    int64_t x = *(const int64_t*)a, y = *(const int64_t*)b;
    return (x < y) - (x > y);
}

// Steps of the checkpoints in dir, newest first, in a new array (free it); 0 when there are none or no such directory.
UNUSED static int checkpoint_list(const char* dir, int64_t** steps) {
    int count = 0, capacity = 0;
    *steps = NULL;
    DIR* d = opendir(dir);
    for (struct dirent* entry = d ? readdir(d) : NULL; entry; entry = readdir(d)) {
        int64_t step = checkpoint_name_step(entry->d_name, ".ckpt");
        if (step < 0) continue;
        if (count == capacity) {
            capacity = 2 * capacity + 16;
            *steps = (int64_t*)realloc(*steps, (size_t)capacity * sizeof(int64_t));
            if (!*steps) fail("out of host memory for the list of checkpoints in %s", dir);
        }
        (*steps)[count++] = step;
    }
    if (d) closedir(d);
    if (count) qsort(*steps, (size_t)count, sizeof(int64_t), checkpoint_newer_first);
    return count;
}

// Path of the newest checkpoint in dir whose every byte checks out (free it), or NULL. A damaged one is announced and the one
// before it is tried. Reads the file once: about a second for a 124M model.
UNUSED static char* checkpoint_latest(const char* dir) {
    int64_t* steps;
    int count = checkpoint_list(dir, &steps);
    char* path = NULL;
    for (int i = 0; i < count && !path; i++) {
        CheckpointReader r;
        path = checkpoint_path(dir, steps[i]);
        bool good = checkpoint_reader_open(&r, path);
        if (good) {
            good = checkpoint_reader_verify(&r);
            checkpoint_reader_close(&r);
        }
        if (good) break;
        const char* next = i + 1 < count ? "trying the checkpoint before it" : "no older checkpoint is left";
        fprintf(stderr, "warning: %s\nwarning: %s\n", r.error, next);
        free(path);
        path = NULL;
    }
    free(steps);
    return path;
}

// Removes temporary files of killed runs and all but the newest `keep` checkpoints (keep <= 0: keeps all). `written`, the step
// just saved, always stays, and so do multiples of keep_every when it is > 0. A file that cannot be removed is left.
UNUSED static void checkpoint_prune(const char* dir, int keep, int64_t keep_every, int64_t written) {
    int64_t* steps;
    int count = checkpoint_list(dir, &steps);
    for (int i = keep; keep > 0 && i < count; i++) {
        if (steps[i] == written || (keep_every > 0 && steps[i] % keep_every == 0)) continue;
        char* path = checkpoint_path(dir, steps[i]);
        unlink(path);
        free(path);
    }
    free(steps);
    DIR* d = opendir(dir);
    for (struct dirent* entry = d ? readdir(d) : NULL; entry; entry = readdir(d)) {
        if (checkpoint_name_step(entry->d_name, ".ckpt.tmp") < 0) continue;
        Text t = {0, 0, 0};
        text_add(&t, "%s/%s", dir, entry->d_name);
        unlink(t.data);
        text_free(&t);
    }
    if (d) closedir(d);
}
