/*
The look-ahead loader: batches of B*T tokens and the few that follow, from a list of shards, in file order, for ever.

    shard    x0 x1 x2 ..                                      base            (tokens already served of this shard)
             |<- served before ->|<- rank 0: B*T ->|<- rank 1: B*T ->| K more |
    batch    tokens (B*T + look_ahead)   row b, column t = tokens[b*T + t]; its target k steps ahead = tokens[b*T + t + k]
             order  (B*T)                positions 0..B*T-1 sorted by tokens[n], equal ids in rising position
             reference (B*T)             with loader_use_references: a reference model's loss of tokens[b*T + t + 1]

One buffer serves all targets: they are shifted views. The last target of a row is the first token of the next row, and targets
cross document ends; both are always valid tokens. `order` lets the embedding gradient add rows in a fixed order, without atomics.

Next position (loader_advance, a pure function): base += P*B*T; if base + P*B*T + reserve > ntok, go to the next shard, after the
last one to the first. The rule knows no rank, so all ranks change shard at the same step. The loader uses reserve = 8 whatever
look_ahead (<= 8) is: runs with different look-ahead read identical batches. A shard needs P*B*T + look_ahead tokens or more.

With prefetch a thread prepares the following batch while the caller computes. It is handed explicit positions and owns none: the
position of the next batch lives with the caller, so saving and restoring it need not care about a batch in flight.
A bad id or a lost shard that the thread finds is reported by the loader_next call that would have returned it: in order.

Left out: a deeper ring of batches. A batch of 16,384 tokens takes 0.04 ms, sorting included: one ahead is enough.
*/
#pragma once

#include "batch.h"
#include "reference_losses.h"

#include <pthread.h>

enum { LOOK_AHEAD_MAX = 8 };  // tokens kept for targets at a shard's end, whatever is used
enum { LOADER_LOST = -2, LOADER_LOST_REFERENCE = -3 };

typedef struct {
    ShardList shards;
    char** references;  // (shards) files of reference losses, NULL: none
    int B, T, look_ahead, rank, world, vocab_size;
    uint64_t stride;    // P*B*T
    LoaderState state;  // of the batch that the next loader_next returns
    // owned by whoever fills: the thread while in_flight, else the caller
    Shard open_shard;
    ReferenceLosses open_reference;
    int open_index;   // of both, -1: none
    int32_t* counts;  // (vocab_size + 1) of the counting sort
    int32_t* buffer[2];
    bool own_buffers;
    Batch batch[2];
    int64_t bad[2];  // first token >= vocab_size: its position in the shard; -1: none; LOADER_LOST..: which file is gone
    // prefetch
    bool prefetch, in_flight, requested, stop;
    int slot;  // being filled, or to be filled next
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
} DataLoader;

UNUSED static uint64_t loader_reserve(const DataLoader* dl) {
    return (uint64_t)(dl->look_ahead > LOOK_AHEAD_MAX ? dl->look_ahead : LOOK_AHEAD_MAX);
}

// Batches before the list of shards starts again.
UNUSED static uint64_t loader_epoch_batches(const DataLoader* dl) {
    uint64_t batches = 0;
    for (int i = 0; i < dl->shards.count; i++) {
        uint64_t ntok = dl->shards.ntok[i], fit = ntok > loader_reserve(dl) ? (ntok - loader_reserve(dl)) / dl->stride : 0;
        batches += fit ? fit : 1;  // a shard that just holds one batch is served, too
    }
    return batches;
}

// Bytes of one of the two buffers (batch.h).
UNUSED static size_t loader_buffer_bytes(const DataLoader* dl) {
    return loader_batch_bytes(dl->B, dl->T, dl->look_ahead, dl->references != NULL);
}

static void loader_close_files(DataLoader* dl) {
    if (dl->open_index < 0) return;
    shard_close(&dl->open_shard);
    if (dl->references) reference_close(&dl->open_reference);
    dl->open_index = -1;
}

static void loader_open_files(DataLoader* dl, int shard) {
    loader_close_files(dl);
    dl->open_shard = shard_open(dl->shards.paths[shard]);
    if (dl->references) dl->open_reference = reference_open(dl->references[shard]);
    dl->open_index = shard;
}

// Reads the batch at `from` into the slot. Runs in either thread, one at a time. A bad id is not told here but left in bad[slot].
UNUSED static void loader_fill(DataLoader* dl, int slot, LoaderState from) {
    dl->bad[slot] = LOADER_LOST;
    bool is_open = dl->open_index == (int)from.shard;
    if (!shard_intact(dl->shards.paths[from.shard], dl->shards.ntok[from.shard], is_open)) return;
    dl->bad[slot] = LOADER_LOST_REFERENCE;  // as long as its shard
    if (dl->references && !shard_intact(dl->references[from.shard], dl->shards.ntok[from.shard], is_open)) return;
    if (!is_open) loader_open_files(dl, (int)from.shard);
    int N = dl->B * dl->T, total = N + dl->look_ahead;
    uint64_t first = from.position + (uint64_t)dl->rank * (uint64_t)N;
    const uint16_t* ids = dl->open_shard.ids + first;
    int32_t* tokens = dl->buffer[slot];
    int32_t* order = tokens + batch_order_at((size_t)N, dl->look_ahead);
    float* reference = dl->references ? (float*)tokens + batch_reference_at((size_t)N, dl->look_ahead) : NULL;
    dl->bad[slot] = -1;
    dl->batch[slot].tokens = tokens;
    dl->batch[slot].order = order;
    dl->batch[slot].reference = reference;
    dl->batch[slot].from = from;
    int largest = 0;
    for (int n = 0; n < total; n++) {
        tokens[n] = ids[n];
        largest = tokens[n] > largest ? tokens[n] : largest;
    }
    if (largest >= dl->vocab_size) {
        int n = 0;
        while (tokens[n] < dl->vocab_size) n++;
        dl->bad[slot] = (int64_t)first + n;
        return;
    }
    for (int n = 0; reference && n < N; n++) reference[n] = loss_of_half(dl->open_reference.losses[first + 1 + (uint64_t)n]);
    loader_sort(order, tokens, N, dl->counts, dl->vocab_size);
}

UNUSED static void* loader_thread(void* argument) {
    DataLoader* dl = (DataLoader*)argument;
    pthread_mutex_lock(&dl->mutex);
    for (;;) {
        while (!dl->requested && !dl->stop) pthread_cond_wait(&dl->changed, &dl->mutex);
        if (dl->stop) break;
        LoaderState from = dl->state;
        int slot = dl->slot;
        pthread_mutex_unlock(&dl->mutex);
        loader_fill(dl, slot, from);
        pthread_mutex_lock(&dl->mutex);
        dl->requested = false;
        pthread_cond_broadcast(&dl->changed);
    }
    pthread_mutex_unlock(&dl->mutex);
    return NULL;
}

// Waits for the batch in flight, if there is one.
UNUSED static void loader_wait(DataLoader* dl) {
    if (!dl->in_flight) return;
    pthread_mutex_lock(&dl->mutex);
    while (dl->requested) pthread_cond_wait(&dl->changed, &dl->mutex);
    pthread_mutex_unlock(&dl->mutex);
    dl->in_flight = false;
}

UNUSED static void loader_reset(DataLoader* dl) {
    loader_wait(dl);
    memset(&dl->state, 0, sizeof dl->state);
}

/*
Opens the shards that match `pattern` at their first token. rank of world = P processes; look_ahead: 1.. tokens after the batch.
prefetch: with a thread, which holds on to dl: do not move it. vocab_size: ids the model has.
Errors: those of shard.h; a shard with fewer than P*B*T + look_ahead tokens; values out of range.
*/
UNUSED static void loader_open(DataLoader* dl, const char* pattern, int B, int T, int look_ahead, int rank, int world,
                               int vocab_size, bool prefetch) {
    memset(dl, 0, sizeof *dl);
    if (B < 1 || T < 1 || (int64_t)B * T > (1 << 30)) fail("a batch of %d x %d tokens: use sizes from 1 to 2^30 tokens", B, T);
    if (look_ahead < 1 || look_ahead > 4096) fail("look-ahead of %d tokens: use 1..4096", look_ahead);
    if (world < 1 || rank < 0 || rank >= world) fail("rank %d of %d processes: ranks are 0..processes-1", rank, world);
    dl->B = B;
    dl->T = T;
    dl->look_ahead = look_ahead;
    dl->rank = rank;
    dl->world = world;
    dl->vocab_size = vocab_size;
    dl->stride = (uint64_t)world * (uint64_t)B * (uint64_t)T;
    dl->open_index = -1;
    dl->shards = shard_list(pattern);
    for (int i = 0; i < dl->shards.count; i++) {
        uint64_t needed = dl->stride + (uint64_t)look_ahead;
        if (dl->shards.ntok[i] < needed) {
            fail(
                "%s: %llu tokens, but one batch needs %llu (%d processes x batch %d x sequence %d + %d ahead); "
                "lower --batch_size or --sequence_length, or make a longer shard with `data/prepare`",
                dl->shards.paths[i], (unsigned long long)dl->shards.ntok[i], (unsigned long long)needed, world, B, T, look_ahead);
        }
    }
    dl->counts = (int32_t*)xmalloc(((size_t)vocab_size + 1) * sizeof(int32_t));
    dl->own_buffers = true;
    for (int i = 0; i < 2; i++) dl->buffer[i] = (int32_t*)xcalloc(loader_buffer_bytes(dl));
    dl->prefetch = prefetch;
    if (!prefetch) return;
    pthread_mutex_init(&dl->mutex, NULL);
    pthread_cond_init(&dl->changed, NULL);
    int error = pthread_create(&dl->thread, NULL, loader_thread, dl);
    if (error) fail("cannot start the loader thread: %s", strerror(error));
}

// Batches come with the losses that the files in `dir` have of the shards (reference_losses.h, whose errors are these). After
// loader_open, before anything else.
UNUSED static void loader_use_references(DataLoader* dl, const char* dir) {
    dl->references = reference_list(dir, &dl->shards);
    for (int i = 0; i < 2; i++) {
        free(dl->buffer[i]);
        dl->buffer[i] = (int32_t*)xcalloc(loader_buffer_bytes(dl));
    }
}

// Two caller's buffers (page-locked memory, say) of loader_buffer_bytes(dl) each, before the first loader_next. The caller frees.
UNUSED static void loader_use_buffers(DataLoader* dl, void* first, void* second) {
    loader_wait(dl);
    for (int i = 0; dl->own_buffers && i < 2; i++) free(dl->buffer[i]);
    dl->own_buffers = false;
    dl->buffer[0] = (int32_t*)first;
    dl->buffer[1] = (int32_t*)second;
}

// The next batch: valid until the following call of loader_next (with prefetch the other buffer is being filled meanwhile).
// Error: an id >= vocab_size.
UNUSED static const Batch* loader_next(DataLoader* dl) {
    if (dl->in_flight) loader_wait(dl);
    else loader_fill(dl, dl->slot, dl->state);
    int slot = dl->slot;
    if (dl->bad[slot] <= LOADER_LOST) {
        fail("%s: was deleted, or changed its length, while the run went on; bring it back and go on with --resume auto",
             (dl->bad[slot] == LOADER_LOST ? dl->shards.paths : dl->references)[dl->state.shard]);
    }
    if (dl->bad[slot] >= 0) {
        uint64_t at = (uint64_t)dl->bad[slot];
        const char* path = dl->open_shard.path;
        fail(
            "%s: token %llu has id %d, but the vocabulary has %d ids; it was made with another tokenizer: use the vocabulary of "
            "its tokenizer file, or make the shard again with `data/prepare`",
            path, (unsigned long long)at, dl->open_shard.ids[at], dl->vocab_size);
    }
    dl->state = loader_advance(dl->state, dl->shards.ntok, (uint32_t)dl->shards.count, dl->stride, loader_reserve(dl));
    dl->slot = 1 - slot;
    if (dl->prefetch) {
        pthread_mutex_lock(&dl->mutex);
        dl->requested = dl->in_flight = true;
        pthread_cond_broadcast(&dl->changed);
        pthread_mutex_unlock(&dl->mutex);
    }
    return &dl->batch[slot];
}

// What a checkpoint keeps: where the batch that comes next is read.
UNUSED static LoaderState loader_state(const DataLoader* dl) { return dl->state; }

// Continues at a saved position. When the batch grew since and no longer fits before the shard's end, the next shard follows.
// Errors: the list has no such shard, or the shard no such position.
UNUSED static void loader_restore(DataLoader* dl, LoaderState s) {
    if (s.shard >= (uint32_t)dl->shards.count) {
        fail(
            "cannot resume: the checkpoint stands in shard %u, but only %d shards match (the last is %s); bring the missing "
            "shards back",
            s.shard + 1, dl->shards.count, dl->shards.paths[dl->shards.count - 1]);
    }
    if (s.position > dl->shards.ntok[s.shard]) {
        fail("cannot resume: the checkpoint stands at token %llu of %s, which has %llu; bring the shard of that run back",
             (unsigned long long)s.position, dl->shards.paths[s.shard], (unsigned long long)dl->shards.ntok[s.shard]);
    }
    loader_wait(dl);
    if (s.position > 0 && s.position + dl->stride + loader_reserve(dl) > dl->shards.ntok[s.shard]) {
        s.position = 0;
        s.shard = (s.shard + 1) % (uint32_t)dl->shards.count;
        if (s.shard == 0) s.epoch++;
    }
    dl->state = s;
}

// Reads the next batch without serving it: what is wrong with the shard's ids is said before a run has written anything.
UNUSED static void loader_check(DataLoader* dl) {
    LoaderState here = loader_state(dl);
    loader_next(dl);
    loader_restore(dl, here);
}

UNUSED static void loader_close(DataLoader* dl) {
    loader_wait(dl);
    if (dl->prefetch) {
        pthread_mutex_lock(&dl->mutex);
        dl->stop = true;
        pthread_cond_broadcast(&dl->changed);
        pthread_mutex_unlock(&dl->mutex);
        pthread_join(dl->thread, NULL);
        pthread_mutex_destroy(&dl->mutex);
        pthread_cond_destroy(&dl->changed);
    }
    loader_close_files(dl);
    for (int i = 0; dl->references && i < dl->shards.count; i++) free(dl->references[i]);
    free(dl->references);
    for (int i = 0; dl->own_buffers && i < 2; i++) free(dl->buffer[i]);
    free(dl->counts);
    shard_list_free(&dl->shards);
    memset(dl, 0, sizeof *dl);
}
