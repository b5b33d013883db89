/*
The autopsy of a step that was not finite: which tensor, which layer, what is in it, and the batch that did it, in a file.

The step is run again, micro-step by micro-step, from where it began to read (the device has changed nothing since). After each:

    parameters    first: a weight that overflowed in an earlier update (also of the low-precision copy: fp16 ends at 65504)
    the loss      then: of the tokens 1, 2, .. ahead and of the objective's other parts
    gradients     then, from the table's end to its start, roughly the way the backward pass takes

What is found first is reported. Everything here copies whole tensors to the host: slow, and once in the life of a run.
*/
#pragma once

#include "../base/text.h"
#include "../io/shard.h"
#include "model.cuh"

typedef struct {
    const char* kind;                      // "parameter ", "gradient of ", "" with a loss
    const char* name;                      // NULL: all is finite
    int layer;                             // -1: of none
    size_t size, nans, infinities, first;  // values, of them NaN, infinite; index of the first of those
    float least, most;                     // of the finite ones
} NonFinite;

// Counts in `n` values in host memory; true when one is not finite.
static bool nonfinite_count(NonFinite* f, const float* x, size_t n) {
    f->size = n, f->nans = f->infinities = f->first = 0;
    f->least = INFINITY, f->most = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(x[i])) {
            f->least = x[i] < f->least ? x[i] : f->least, f->most = x[i] > f->most ? x[i] : f->most;
            continue;
        }
        if (f->nans + f->infinities == 0) f->first = i;
        if (isnan(x[i])) f->nans++;
        else f->infinities++;
    }
    return f->nans + f->infinities > 0;
}

static bool nonfinite_in(NonFinite* f, const float* device, size_t n) {
    float* host = (float*)xmalloc(n * sizeof(float));
    copy_to_host(host, device, n * sizeof(float));
    bool found = nonfinite_count(f, host, n);
    free(host);
    return found;
}

// The same of the weights that products read, which are floatX.
static bool nonfinite_in_weights(NonFinite* f, const floatX* device, size_t n) {
    floatX* host = (floatX*)xmalloc(n * sizeof(floatX));
    float* wide = (float*)xmalloc(n * sizeof(float));
    copy_to_host(host, device, n * sizeof(floatX));
    for (size_t i = 0; i < n; i++) wide[i] = to_float(host[i]);
    bool found = nonfinite_count(f, wide, n);
    free(host), free(wide);
    return found;
}

// "h.3.attn.qkv.w" is of layer 3, "wte" of none.
static int nonfinite_layer(const char* name) {
    return name[0] == 'h' && name[1] == '.' && name[2] >= '0' && name[2] <= '9' ? atoi(name + 2) : -1;
}

// Looks after a micro-step. f->name stays NULL when everything is finite.
// loss_slots, idle: what the step filled and left alone (targets_slots, targets_idle).
UNUSED static NonFinite nonfinite_find(const Model* m, uint32_t loss_slots, uint32_t idle) {
    static const char* const losses[STEP_LOSSES] = {"the loss",
                                                    "the loss of the token 2 ahead",
                                                    "the loss of the token 3 ahead",
                                                    "the loss of the token 4 ahead",
                                                    "the loss of the token 5 ahead",
                                                    "the loss of the token 6 ahead",
                                                    "the loss of the token 7 ahead",
                                                    "the loss of the token 8 ahead",
                                                    "the n-grams' loss",
                                                    "the neighbours' loss",
                                                    "the consistency loss",
                                                    "the spelling loss"};
    NonFinite f = {"", NULL, -1, 0, 0, 0, 0, 0.0f, 0.0f};
    for (int id = 0; id < m->table.count; id++) {
        const Param* p = &m->table.rows[id];
        f.kind = "parameter ", f.layer = nonfinite_layer(p->name);
        if (nonfinite_in(&f, m->masters + p->offset, p->size) || nonfinite_in_weights(&f, m->weights + p->offset, p->size)) {
            f.name = p->name;
            return f;
        }
    }
    size_t N = (size_t)m->config.B * m->config.T;
    f.kind = "", f.layer = -1;
    for (int k = 0; k < STEP_LOSSES; k++) {
        if (!(loss_slots >> k & 1) || !nonfinite_in(&f, m->losses + k * N, N)) continue;
        f.name = losses[k];
        return f;
    }
    for (int id = m->table.count - 1; id >= 0; id--) {
        const Param* p = &m->table.rows[id];
        f.kind = "gradient of ", f.layer = nonfinite_layer(p->name);
        if (idle >> p->group & 1 || !nonfinite_in(&f, grad(m, id), p->size)) continue;
        f.name = p->name;
        return f;
    }
    f.name = NULL;
    return f;
}

// "gradient of h.1.mlp.fc.w (layer 1): 3 NaN and 2 infinite of 4096 values, the first is value 17, the others lie in -12 .. 7"
static void nonfinite_text(Text* t, const NonFinite* f) {
    if (!f->name) {
        text_add(t, "the gradient norm, though every gradient by itself is finite");
        return;
    }
    text_add(t, "%s%s", f->kind, f->name);
    if (f->layer >= 0) text_add(t, " (layer %d)", f->layer);
    text_add(t, ": %zu NaN and %zu infinite of %zu values, the first is value %zu, ", f->nans, f->infinities, f->size, f->first);
    if (f->nans + f->infinities == f->size) text_add(t, "none is finite");
    else text_add(t, "the others lie in %.3g .. %.3g", f->least, f->most);
}

// Writes `count` token ids as a shard, so that a run can read the batch again. Returns false, with errno, and leaves nothing when
// that fails: the report matters more.
static bool nonfinite_save(const char* path, const int* device_tokens, size_t count) {
    int* tokens = (int*)xmalloc(count * sizeof(int));
    size_t bytes = SHARD_HEADER_BYTES + 2 * count;
    char* file = (char*)xcalloc(bytes);
    int32_t* header = (int32_t*)file;
    copy_to_host(tokens, device_tokens, count * sizeof(int));
    header[0] = SHARD_MAGIC, header[1] = SHARD_VERSION, header[2] = (int32_t)count;
    for (size_t i = 0; i < count; i++) ((uint16_t*)(file + SHARD_HEADER_BYTES))[i] = (uint16_t)tokens[i];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ssize_t n = fd < 0 ? -1 : write(fd, file, bytes);
    bool good = n >= 0 && (size_t)n == bytes && fsync(fd) == 0;
    int error = n >= 0 && (size_t)n < bytes ? ENOSPC : errno;
    if (fd >= 0) close(fd);
    if (fd >= 0 && !good) unlink(path);
    free(tokens), free(file);
    errno = error;
    return good;
}

// Ends the program. tokens: of the micro-step (device, `count` ids); dir: "" = nowhere to keep them.
UNUSED __attribute__((noreturn)) static void nonfinite_stop(const NonFinite* f, int64_t step, int micro, const char* dir,
                                                            const int* tokens, size_t count) {
    Text t = {0, 0, 0}, path = {0, 0, 0};
    nonfinite_text(&t, f);
    text_add(&path, "%s/nonfinite_step_%lld.bin", dir, (long long)step);
    if (*dir && nonfinite_save(path.data, tokens, count)) text_add(&t, "; the batch is in %s", path.data);
    else if (*dir) text_add(&t, "; the batch could not be written to %s: %s", path.data, strerror(errno));
    const char* fix = *f->kind == 'p'
                          ? "an earlier update made it so: go on from an older checkpoint with a lower --learning_rate"
                          : "the weights are as before this step; lower --learning_rate, add --grad_clip 1, or go on "
                            "with --nonfinite skip";
    fprintf(stderr, "error: step %lld, micro-step %d: not finite: %s; %s\n", (long long)step, micro, t.data, fix);
    exit(EXIT_NONFINITE);
}
