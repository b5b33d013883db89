/*
Batches reach the kernels that are queued behind them, each its own, with and without the loader's thread. On the GPU, and in the
emulation with many interleavings of the two streams, a missing wait would show as a batch that comes too early or too late.
*/
#include "buffer.h"
#include "child.h"

#include "llmc/io/feed.cuh"

enum { B = 2, T = 12, AHEAD = 3, V = 97, N = B * T, BATCHES = 14, TOKENS = 400 };

// One micro-step: keeps what it was given.
KERNEL keep_kernel(int* kept, const int* tokens, const int* order, const float* reference) {
    FOR_EACH(i, (size_t)(N + AHEAD)) {
        kept[i] = tokens[i];
        if (i < N) kept[N + AHEAD + i] = order[i], kept[2 * N + AHEAD + i] = (int)reference[i];
    }
}

static void feed_and_compare(const uint16_t* ids, bool prefetch) {
    enum { KEPT = 3 * N + AHEAD };
    Feed feed;
    int *kept = buffer_i(NULL, BATCHES * KEPT), *host = (int*)xmalloc(BATCHES * KEPT * sizeof(int));
#if GPU_EXECUTION
    stream_t stream;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
#else
    stream_t stream = 0;
#endif
    feed_open(&feed, test_path("s_*.bin"), test_dir(), B, T, AHEAD, V, prefetch);
    for (int b = 0; b < BATCHES; b++) {
        feed_next(&feed, stream);
        LAUNCH(keep_kernel, 2, WARP, stream)(kept + b * KEPT, feed.tokens, feed.order, feed.reference);
    }
    copy_to_host(host, kept, BATCHES * KEPT * sizeof(int));
    feed_close(&feed);
    for (int b = 0; b < BATCHES; b++) {
        const int *tokens = host + b * KEPT, *order = tokens + N + AHEAD;
        for (int i = 0; i < N + AHEAD; i++) assert_int_equal(tokens[i], ids[b * N + i]);
        for (int i = 0; i < N; i++) assert_int_equal(order[N + i], (b * N + i + 1) % 2048);  // its target's, not its own
        for (int i = 1; i < N; i++) {
            int before = tokens[order[i - 1]], here = tokens[order[i]];
            assert_true(before < here || (before == here && order[i - 1] < order[i]));
        }
    }
#if GPU_EXECUTION
    CUDA_CHECK(cudaStreamDestroy(stream));
#endif
    free(host);
}

static void batches_arrive(void** state) {
    uint16_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++) ids[i] = (uint16_t)(i * i % 89);
    shard_write(test_path("s_000000.bin"), ids, TOKENS);
    ReferenceWriter w;
    Shard shard = shard_open(test_path("s_000000.bin"));
    reference_begin(&w, test_path("s_000000.losses"));
    for (int i = 0; i < TOKENS; i++) {
        float loss = (float)(i % 2048);  // a half holds it exactly
        reference_append(&w, &loss, 1);
    }
    reference_end(&w, &shard, 1, T);
    shard_close(&shard);
#ifdef AHEAD_EMU
    int runs = 40;
#else
    int runs = 4;
#endif
    for (int run = 0; run < runs; run++) {
#ifdef AHEAD_EMU
        emu_queue.seed = (uint64_t)run, emu_queue.seeded = true;
#endif
        feed_and_compare(ids, run % 2);
        assert_int_equal(release_buffers(state), 0);
    }
    assert_int_equal(test_dir_remove(state), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(batches_arrive, release_buffers)};
    return cmocka_run_group_tests_name("feed " PRECISION_NAME, tests, NULL, NULL);
}
