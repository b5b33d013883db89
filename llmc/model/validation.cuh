/*
Validation: plain cross-entropies of the whole vocabulary, whatever is trained. val_loss is the next token's.

    --val_tokens positions from the start of the first shard, in batches of B sequences of T tokens; `rows` of them run at once,
    as many as the model's activations hold

    open_validation(&feed, pattern, B, T, offsets, V, tokens)       after model_declare
    validate(&model, &feed, rows, T, tokens, &stop_signal, means)   the same positions every time

Losses add up on the device, and the host reads them once. Each position has a sum of its own: the order does not depend on how
many threads or blocks there are.
*/
#pragma once

#include "../io/feed.cuh"
#include "../io/stop.h"
#include "setup.cuh"

// Rows of a validation batch that are computed at once: the largest divisor of the batch that fits the training batch.
UNUSED static int validation_rows(int val_batch_size, int batch_size) {
    int rows = val_batch_size < batch_size ? val_batch_size : batch_size;
    while (val_batch_size % rows) rows--;
    return rows;
}

static void zero_losses(Model* m, int offsets) {
    size_t bytes = (size_t)offsets * m->config.B * m->config.T * sizeof(float);
#if GPU_EXECUTION
    CUDA_CHECK(cudaMemsetAsync(m->losses, 0, bytes, m->stream));
#else
    memset(m->losses, 0, bytes);
#endif
}

// means (offsets): mean loss in nats of the tokens 1, 2, .. ahead, over the first `tokens` positions of the validation shards.
// Gives up, and returns false, when *stop is set meanwhile.
UNUSED static bool validate(Model* m, Feed* val, int rows, int T, int64_t tokens, const volatile sig_atomic_t* stop,
                            double* means) {
    int B = val->loader.B, offsets = val->loader.look_ahead;  // as objective_offsets
    loader_reset(&val->loader);
    zero_losses(m, offsets);
    for (int64_t done = 0; done < tokens; done += (int64_t)B * T) {
        feed_next(val, m->stream);
        for (int b = 0; b < B; b += rows) {
            if (*stop) return false;
            Micro micro = {val->tokens + (size_t)b * T, NULL, rows, T, true};
            model_forward(m, micro.tokens, rows, T);
            head_loss(m, &micro, measured_targets(m, &micro, offsets), 0.0f, false);
            auxiliary_measure(m, &micro);
        }
    }
    check_launches();
    int N = rows * T, stride = m->config.B * m->config.T;
    float* losses = (float*)xmalloc((size_t)N * sizeof(float));
    for (int k = 0; k < offsets; k++) {
        copy_to_host(losses, m->losses + (size_t)k * stride, (size_t)N * sizeof(float));
        double sum = 0.0;
        for (int n = 0; n < N; n++) sum += losses[n];
        means[k] = sum / (double)tokens;
    }
    free(losses);
    return true;
}

// Opens the validation shards, in batches of B sequences of T tokens, and refuses to score any token twice.
UNUSED static void open_validation(Feed* val, const char* pattern, int B, int T, int look_ahead, int vocab_size, int64_t tokens) {
    feed_open(val, pattern, NULL, B, T, look_ahead, vocab_size, false);
    int64_t most = (int64_t)(loader_epoch_batches(&val->loader) * val->loader.stride);
    if (tokens > most) {
        int64_t all = 0;
        for (int i = 0; i < val->loader.shards.count; i++) all += (int64_t)val->loader.shards.ntok[i];
        fail("%s: %lld tokens serve at most --val_tokens %lld, but --val_tokens is %lld; lower it, or bring more text", pattern,
             (long long)all, (long long)most, (long long)tokens);
    }
    loader_check(&val->loader);
}
