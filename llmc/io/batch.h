/*
What the loader serves: where a batch is read, and how it lies in memory.

    tokens (B*T + look_ahead) | to 256 bytes | order (B*T) | to 256 bytes | reference (B*T)        one copy moves all of it

tokens and order are dataloader.h's; reference is there only in runs with reference losses (reference_losses.h): the loss of the
token that position n predicts, tokens[n + 1], in nats. Everything here is a pure function.
*/
#pragma once

#include "../base/check.h"

typedef struct {
    uint32_t shard;     // index in the list sorted by name
    uint32_t unused;    // 0
    uint64_t position;  // base: tokens of this shard served before, all ranks together
    uint64_t epoch;     // times the list was finished
    uint64_t batches;   // batches served before, per rank
} LoaderState;

typedef struct {
    const int32_t* tokens;   // (B*T + look_ahead)
    const int32_t* order;    // (B*T)
    const float* reference;  // (B*T), NULL: the run has none
    LoaderState from;        // where it was read
} Batch;

// Places of order and of reference, in elements of 4 bytes from tokens on; N = B*T.
UNUSED static size_t batch_order_at(size_t N, int look_ahead) { return round_up(N + (size_t)look_ahead, 64); }
UNUSED static size_t batch_reference_at(size_t N, int look_ahead) { return batch_order_at(N, look_ahead) + round_up(N, 64); }

// Bytes of a batch. references: with reference losses.
UNUSED static size_t loader_batch_bytes(int B, int T, int look_ahead, bool references) {
    size_t N = (size_t)B * (size_t)T, at = references ? batch_reference_at(N, look_ahead) : batch_order_at(N, look_ahead);
    return (at + N) * sizeof(int32_t);
}

// The position after `s`. ntok: (shards); stride = P*B*T tokens; reserve: tokens kept for targets at a shard's end.
UNUSED static LoaderState loader_advance(LoaderState s, const uint64_t* ntok, uint32_t shards, uint64_t stride,
                                         uint64_t reserve) {
    s.position += stride;
    s.batches++;
    if (s.position + stride + reserve > ntok[s.shard]) {
        s.position = 0;
        s.shard++;
        if (s.shard == shards) {
            s.shard = 0;
            s.epoch++;
        }
    }
    return s;
}

// order (N): positions sorted by tokens[n], stable. counts: (V + 1) scratch; every token is < V.
UNUSED static void loader_sort(int32_t* order, const int32_t* tokens, int N, int32_t* counts, int V) {
    memset(counts, 0, ((size_t)V + 1) * sizeof(int32_t));
    for (int n = 0; n < N; n++) counts[tokens[n] + 1]++;
    for (int v = 0; v < V; v++) counts[v + 1] += counts[v];
    for (int n = 0; n < N; n++) order[counts[tokens[n]]++] = n;
}
