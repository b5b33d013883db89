/*
Scoring: every token of a shard has the loss that a forward pass over its window gives it, whatever the number of windows at once,
at the shard's start, between windows and behind the last whole one; and the loader hands it to the position that predicts it.
*/
#include "buffer.h"
#include "child.h"

#include "llmc/io/dataloader.h"
#include "llmc/model/score.cuh"
#include "tiny_objective.h"

enum { STRIDE = T - T / 2, LONGEST = 75 };

// By hand, losses (ntok): token i by a pass over its window alone, in the second row of a batch.
static void score_by_hand(Model* m, const uint16_t* ids, int ntok, float* losses) {
    losses[0] = 0;
    for (int i = 1; i < ntok; i++) {
        int window = i <= T ? 0 : (i - T - 1) / STRIDE + 1, first = window * STRIDE, row[2 * T] = {}, targets[2 * T] = {};
        bool starts = i == 1 || (i > T && (i - T - 1) % STRIDE == 0);
        for (int t = 0; t < T && starts; t++) {
            if (first + t < ntok) row[T + t] = ids[first + t];
            if (first + t + 1 < ntok) targets[T + t] = ids[first + t + 1];
        }
        if (starts) {
            Micro micro = {buffer_i(row, 2 * T), NULL, B, T, false};
            model_forward(m, micro.tokens, B, T);
            head_loss(m, &micro, targets_list(buffer_i(targets, 2 * T), m->state->in.next.token, 1, 1, 1, 0), 0.0f, false);
        }
        losses[i] = host_f(m->losses, N)[T + i - 1 - first];
    }
}

static void scores_every_token(void** state) {
    const int lengths[] = {1, 2, T, T + 1, T + 2, T + STRIDE + 1, T + STRIDE + 2, LONGEST};
    uint16_t ids[LONGEST];
    float expected[LONGEST];
    Rng rng = rng_start(5, "shard");
    for (int i = 0; i < LONGEST; i++) ids[i] = (uint16_t)rng_below(&rng, V);
    Model m;
    open_tiny(&m, "gpt2", NULL);
    for (int l = 0; l < 8; l++) {
        int ntok = lengths[l];
        char *shard_path = text_copy(test_path("s_0.bin")), *path = text_copy(test_path("s_0.losses"));
        shard_write(shard_path, ids, (size_t)ntok);
        Scorer s = score_open(&m, B, T);
        Shard shard = shard_open(shard_path);
        s.total = ntok;
        double mean = score_shard(&s, &shard, path, 77), sum = 0;
        assert_true(score_is_done(&shard, path, 77, T));
        ReferenceLosses r = reference_open(path);
        reference_check(&r, &shard);
        assert_int_equal(r.losses[0], 0);
        score_by_hand(&m, ids, ntok, expected);
        for (int i = 1; i < ntok; i++) {
            sum += expected[i];
            assert_off(loss_of_half(r.losses[i]), expected[i], 1e-5 + expected[i] / 2048, "%d tokens: token %d", ntok, i);
        }
        assert_int_equal(release_buffers(state), 0);
        if (ntok > 1) assert_off(mean, sum / (ntok - 1), 1e-4, "mean");
        assert_int_equal(s.done, ntok);
        reference_close(&r), shard_close(&shard), score_close(&s);
        unlink(path), free(path), free(shard_path);
    }
    model_free(&m);
}

// From the model through the file and the loader: what a position is compared with is what the model lost on its target.
static void positions_get_their_losses(void** state) {
    (void)state;
    uint16_t ids[LONGEST];
    float losses[LONGEST];
    for (int i = 0; i < LONGEST; i++) ids[i] = (uint16_t)(i * i % V);
    Model m;
    open_tiny(&m, "nocap", NULL);
    unlink(test_path("s_0.losses"));
    shard_write(test_path("s_0.bin"), ids, LONGEST);
    int before = dup(STDOUT_FILENO), nowhere = open("/dev/null", O_WRONLY);
    fflush(stdout), dup2(nowhere, STDOUT_FILENO);
    score_shards(&m, B, T, test_path("s_*.bin"), test_dir(), 5);
    score_shards(&m, B, T, test_path("s_*.bin"), test_dir(), 5);  // it is there
    fflush(stdout), dup2(before, STDOUT_FILENO), close(before), close(nowhere);
    DataLoader dl;
    loader_open(&dl, test_path("s_*.bin"), B, T, 1, 0, 1, V, false);
    loader_use_references(&dl, test_dir());
    score_by_hand(&m, ids, LONGEST, losses);
    for (int step = 0; step < 2; step++) {
        const Batch* batch = loader_next(&dl);
        for (int n = 0; n < N; n++) {
            float expected = losses[step * N + n + 1];
            assert_off(batch->reference[n], expected, 1e-5 + expected / 2048, "step %d, position %d", step, n);
        }
    }
    loader_close(&dl);
    model_free(&m);
}

typedef struct {
    int vocab;
    uint32_t model;
} Wrong;

static void score_in_child(const void* argument) {
    const Wrong* w = (const Wrong*)argument;
    uint16_t ids[4] = {1, 2, 3, 4};
    Shard shard = {"some.bin", ids, 4, {}};
    score_check_ids(&shard, w->vocab);
    shard = shard_open(test_path("s_0.bin"));
    score_is_done(&shard, test_path("s_0.losses"), w->model, T);
}

static void wrong_ones_are_refused(void** state) {
    Wrong small = {4, 1}, other = {5, 2}, right = {5, 1};
    const uint16_t ids[3] = {7, 8, 9};
    const float losses[3] = {0, 1, 2};
    ReferenceWriter w;
    shard_write(test_path("s_0.bin"), ids, 3);
    Shard shard = shard_open(test_path("s_0.bin"));
    unlink(test_path("s_0.losses"));
    reference_begin(&w, test_path("s_0.losses"));
    reference_append(&w, losses, 3);
    reference_end(&w, &shard, 1, T);
    shard_close(&shard);
    assert_int_equal(run_child(score_in_child, &small), 1);
    assert_says("some.bin: token 3 has id 4, but the model of --init_from has 4 ids");
    assert_int_equal(run_child(score_in_child, &other), 1);
    assert_says("s_0.losses: losses by another model than --init_from");
    assert_int_equal(run_child(score_in_child, &right), 0);
    assert_int_equal(test_dir_remove(state), 0);
}

#if !GPU_EXECUTION  // the child would need a card of its own
static void stop_in_child(const void* m) {
    stop_signal = SIGTERM;
    score_shards((Model*)(uintptr_t)m, B, T, test_path("s_*.bin"), test_dir(), 5);
}

// A signal gives the shard up that is being scored and leaves nothing of it.
static void a_stop_leaves_nothing(void** state) {
    uint16_t ids[LONGEST] = {};
    Model m;
    open_tiny(&m, "nocap", NULL);
    shard_write(test_path("s_0.bin"), ids, LONGEST);
    assert_int_equal(run_child(stop_in_child, &m), 128 + SIGTERM);
    assert_says("stopped by SIGTERM: 0 of 1 shards are scored; the same command goes on");
    assert_true(access(test_path("s_0.losses"), F_OK) && access(test_path("s_0.losses.tmp"), F_OK));
    model_free(&m);
    assert_int_equal(test_dir_remove(state), 0);
}
#endif

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(scores_every_token),
        TEST(positions_get_their_losses),
        TEST(wrong_ones_are_refused),
#if !GPU_EXECUTION
        TEST(a_stop_leaves_nothing),
#endif
    };
    return cmocka_run_group_tests_name("scoring " PRECISION_NAME, tests, NULL, NULL);
}
