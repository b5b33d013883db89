/*
Token shards and the look-ahead loader: every batch is a slice of the shard's bytes at the position that the rule gives, for any
number of processes and any look-ahead; saving and restoring changes nothing; every broken file is named with its fix.
*/
#include "child.h"

#include "llmc/io/dataloader.h"

enum { V = 50257 };

static uint16_t ids[4096];  // what the shards of a test hold, shard after shard

static const char* shard_path(int i) {
    char name[32];
    snprintf(name, sizeof name, "s_%06d.bin", i);
    return test_path(name);
}

static const char* all_shards(void) { return test_path("s_*.bin"); }

// Writes shards of the given sizes (0 ends the list) with random ids, and removes those of the test before.
static void make_shards(const int* sizes) {
    uint32_t random = 12345;
    int at = 0, count = 0;
    for (; sizes[count]; count++) {
        for (int i = 0; i < sizes[count]; i++) {
            random = random * 1664525u + 1013904223u;
            ids[at + i] = (uint16_t)((random >> 16) % (i % 3 ? 40u : (unsigned)V));  // a third over all ids, the rest often equal
        }
        shard_write(shard_path(count), ids + at, (size_t)sizes[count]);
        at += sizes[count];
    }
    for (; count < 4; count++) unlink(shard_path(count));
}

static void assert_batch(const DataLoader* dl, const Batch* batch, const uint16_t* expected) {
    int N = dl->B * dl->T;
    for (int n = 0; n < N + dl->look_ahead; n++) assert_int_equal(batch->tokens[n], expected[n]);
    bool seen[256];
    memset(seen, 0, sizeof seen);
    for (int n = 0; n < N; n++) {
        int position = batch->order[n];
        assert_in_range(position, 0, N - 1);
        assert_false(seen[position]);
        seen[position] = true;
        if (n == 0) continue;
        int before = batch->order[n - 1];
        int32_t a = batch->tokens[before], b = batch->tokens[position];
        assert_true(a < b || (a == b && before < position));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The rule

static int served(uint64_t ntok, uint64_t processes, int reserve) {
    LoaderState s;
    memset(&s, 0, sizeof s);
    const uint64_t lengths[2] = {ntok, ntok};
    while (s.shard == 0) s = loader_advance(s, lengths, 2, processes * 4, (uint64_t)reserve);
    assert_int_equal(s.position, 0);
    assert_int_equal(s.epoch, 0);
    return (int)s.batches;
}

static void test_batches_served(void** state) {
    (void)state;
    assert_int_equal(served(20, 2, 1), 2);
    assert_int_equal(served(21, 2, 1), 2);
    assert_int_equal(served(25, 2, 1), 3);
    assert_int_equal(served(21, 1, 1), 5);
    assert_int_equal(served(21, 1, 3), 4);
    assert_int_equal(served(24, 1, 1), 5);
    assert_int_equal(served(24, 1, 3), 5);
}

// The loader over three shards, two processes: contents, order, wrap, epochs, and no position served twice.
static void test_contents(void** state) {
    (void)state;
    const int sizes[] = {150, 97, 24 + 3, 0}, starts[] = {0, 150, 247};
    make_shards(sizes);
    for (int prefetch = 0; prefetch < 2; prefetch++) {
        DataLoader ranks[2];
        bool touched[512];
        memset(touched, 0, sizeof touched);
        for (int r = 0; r < 2; r++) loader_open(&ranks[r], all_shards(), 3, 4, 3, r, 2, V, prefetch);
        // 150: base + 24 + 8 <= 150 up to base 96 (next 120 is too far): 5 batches; 97: base up to 48: 3; 27: the one it must
        // give
        for (int step = 0, base = 0, shard = 0; step < 20; step++) {
            for (int r = 0; r < 2; r++) {
                const Batch* batch = loader_next(&ranks[r]);
                assert_int_equal(batch->from.shard, shard);
                assert_int_equal(batch->from.position, base);
                assert_int_equal(batch->from.epoch, step / 9);
                assert_int_equal(batch->from.batches, step);
                int first = starts[shard] + base + r * 12;
                assert_batch(&ranks[r], batch, ids + first);
                for (int n = 0; n < 12 && step < 9; n++) {
                    assert_false(touched[first + n]);
                    touched[first + n] = true;
                }
            }
            base += 24;
            if (base + 24 + 8 > sizes[shard]) base = 0, shard = (shard + 1) % 3;
        }
        loader_reset(&ranks[0]);
        const Batch* again = loader_next(&ranks[0]);
        assert_int_equal(again->from.batches, 0);
        assert_batch(&ranks[0], again, ids);
        for (int r = 0; r < 2; r++) loader_close(&ranks[r]);
    }
}

// Inputs and next-token targets do not depend on how far a run looks ahead.
static void test_same_for_all_look_ahead(void** state) {
    (void)state;
    const int sizes[] = {101, 64, 33, 0};
    make_shards(sizes);
    DataLoader dl[9];
    for (int k = 1; k <= LOOK_AHEAD_MAX; k++) loader_open(&dl[k], all_shards(), 2, 8, k, 0, 1, V, k % 2);
    for (int step = 0; step < 40; step++) {
        const Batch* first = loader_next(&dl[1]);
        for (int k = 2; k <= LOOK_AHEAD_MAX; k++) {
            const Batch* batch = loader_next(&dl[k]);
            assert_memory_equal(batch->tokens, first->tokens, 17 * sizeof(int32_t));
            assert_memory_equal(batch->order, first->order, 16 * sizeof(int32_t));
        }
    }
    for (int k = 1; k <= LOOK_AHEAD_MAX; k++) loader_close(&dl[k]);
}

// After every number of steps (also right before and after a change of shard): a saved position continues exactly, in the same
// loader and in a new one, while a batch is in flight.
static void test_save_and_restore(void** state) {
    (void)state;
    const int sizes[] = {70, 41, 50, 0};
    make_shards(sizes);
    for (int steps = 0; steps < 14; steps++) {
        DataLoader a, b;
        int32_t expected[5][20];
        LoaderState ends[5];
        loader_open(&a, all_shards(), 2, 5, 2, 0, 1, V, true);
        loader_open(&b, all_shards(), 2, 5, 2, 0, 1, V, true);
        for (int i = 0; i < steps; i++) loader_next(&a);
        LoaderState saved = loader_state(&a);
        assert_int_equal(saved.batches, steps);
        for (int i = 0; i < 5; i++) {
            memcpy(expected[i], loader_next(&a)->tokens, 12 * sizeof(int32_t));
            ends[i] = loader_state(&a);
        }
        loader_restore(&a, saved);
        for (int i = 0; i < steps % 3; i++) loader_next(&b);
        loader_restore(&b, saved);
        for (int i = 0; i < 5; i++) {
            assert_memory_equal(loader_next(&a)->tokens, expected[i], 12 * sizeof(int32_t));
            assert_memory_equal(loader_next(&b)->tokens, expected[i], 12 * sizeof(int32_t));
            LoaderState now = loader_state(&b);
            assert_memory_equal(&now, &ends[i], sizeof now);
        }
        loader_close(&a);
        loader_close(&b);
    }
}

// A batch that no longer fits behind the saved position starts in the next shard.
static void test_restore_with_larger_batch(void** state) {
    (void)state;
    const int sizes[] = {60, 60, 0};
    make_shards(sizes);
    DataLoader dl;
    LoaderState s = {1, 0, 30, 4, 99};
    loader_open(&dl, all_shards(), 4, 10, 1, 0, 1, V, false);
    loader_restore(&dl, s);
    s = loader_next(&dl)->from;
    assert_int_equal(s.shard, 0);
    assert_int_equal(s.position, 0);
    assert_int_equal(s.epoch, 5);
    assert_int_equal(s.batches, 99);
    loader_close(&dl);
}

static void test_two_buffers(void** state) {
    (void)state;
    const int sizes[] = {200, 0};
    make_shards(sizes);
    for (int own = 0; own < 2; own++) {
        DataLoader dl;
        void* buffers[2] = {NULL, NULL};
        loader_open(&dl, all_shards(), 2, 4, 1, 0, 1, V, true);
        for (int i = 0; i < 2; i++) buffers[i] = malloc(loader_buffer_bytes(&dl));
        if (own) loader_use_buffers(&dl, buffers[0], buffers[1]);
        const Batch* before = loader_next(&dl);
        for (int step = 1; step < 10; step++) {  // the batch stays whole while the next one is made
            usleep(200);
            assert_batch(&dl, before, ids + 8 * (step - 1));
            const int32_t* tokens_before = before->tokens;
            const Batch* batch = loader_next(&dl);
            assert_ptr_not_equal(batch->tokens, tokens_before);
            if (own) assert_ptr_equal(batch->tokens, buffers[step % 2]);
            before = batch;
        }
        assert_ptr_equal((const void*)before->order, (const void*)(before->tokens + 64));
        loader_close(&dl);
        free(buffers[0]);
        free(buffers[1]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors

typedef struct {
    const char* pattern;
    int B, T, look_ahead, world, vocab_size;
    int batches;
    bool prefetch;
} Attempt;

static void attempt(const void* argument) {
    const Attempt* a = (const Attempt*)argument;
    DataLoader dl;
    loader_open(&dl, a->pattern, a->B, a->T, a->look_ahead, 0, a->world, a->vocab_size, a->prefetch);
    for (int i = 0; i < a->batches; i++) loader_next(&dl);
    loader_close(&dl);
}

// Smallest shard: P*B*T + K tokens are accepted, one fewer is refused.
static void test_smallest_shard(void** state) {
    (void)state;
    for (int K = 1; K <= LOOK_AHEAD_MAX; K++) {
        for (int P = 1; P <= 3; P++) {
            int sizes[] = {P * 12 + K, 0};
            make_shards(sizes);
            Attempt a = {all_shards(), 3, 4, K, P, V, 3, false};
            assert_int_equal(run_child(attempt, &a), 0);
            sizes[0]--;
            make_shards(sizes);
            a.pattern = all_shards();
            assert_int_equal(run_child(attempt, &a), EXIT_FAIL);
        }
    }
    assert_says("43 tokens, but one batch needs 44 (3 processes x batch 3 x sequence 4 + 8 ahead)");
    assert_says("s_000000.bin");
    assert_says("lower --batch_size or --sequence_length");
}

static void write_bytes(const char* path, const void* data, size_t bytes) {
    FILE* f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

// Writes a file of `bytes` bytes that claims magic, version and ntok, and opens it.
static int open_broken(int32_t magic, int32_t version, int32_t ntok, size_t bytes) {
    static int32_t file[512];
    const char* path = test_path("broken.bin");
    Attempt a = {path, 1, 4, 1, 1, V, 1, false};
    memset(file, 0, sizeof file);
    file[0] = magic, file[1] = version, file[2] = ntok;
    write_bytes(path, file, bytes);
    return run_child(attempt, &a);
}

static void test_broken_files(void** state) {
    (void)state;
    assert_int_equal(open_broken(SHARD_MAGIC, 1, 100, 1224), 0);
    assert_int_equal(open_broken(20240521, 1, 100, 1224), EXIT_FAIL);
    assert_says("not a token shard: expected magic 20240520, found 20240521");
    assert_says("make quickstart");
    assert_int_equal(open_broken(SHARD_MAGIC, 7, 100, 1224), EXIT_FAIL);
    assert_says("shard version 7, expected 1");
    assert_int_equal(open_broken(SHARD_MAGIC, 1, 100, 1223), EXIT_FAIL);
    assert_says("truncated: its header says 100 tokens, so 1224 bytes, found 1223");
    assert_int_equal(open_broken(SHARD_MAGIC, 1, 100, 1226), EXIT_FAIL);
    assert_says("wrong length: its header says 100 tokens, so 1224 bytes, found 1226");
    assert_int_equal(open_broken(SHARD_MAGIC, 1, -5, 1224), EXIT_FAIL);
    assert_says("its header says -5 tokens");
    assert_int_equal(open_broken(SHARD_MAGIC, 1, 100, 1000), EXIT_FAIL);
    assert_says("truncated: a shard has a header of 1024 bytes, found 1000");
    assert_int_equal(open_broken(SHARD_MAGIC, 1, 100, 3), EXIT_FAIL);
    assert_says("not a token shard");
    assert_int_equal(open_broken(SHARD_MAGIC, 1, 100, 0), EXIT_FAIL);
    assert_says("not a token shard");

    Attempt page = {test_path("page.bin"), 1, 4, 1, 1, V, 1, false};
    write_text(page.pattern, "<!DOCTYPE html>\n<html>Not found</html>");
    assert_int_equal(run_child(attempt, &page), EXIT_FAIL);
    assert_says("the file starts \"<!DOCTYPE html>.\"");

    Attempt nothing = {test_path("nothing_*.bin"), 1, 4, 1, 1, V, 1, false};
    assert_int_equal(run_child(attempt, &nothing), EXIT_FAIL);
    assert_says("no file matches");
    assert_says("nothing_*.bin");
    assert_says("data/prepare");

    Attempt folder = {test_dir(), 1, 4, 1, 1, V, 1, false};
    assert_int_equal(run_child(attempt, &folder), EXIT_FAIL);
    assert_says("is a directory");

    Attempt endless = {"/dev/zero", 1, 4, 1, 1, V, 1, false};
    assert_int_equal(run_child(attempt, &endless), EXIT_FAIL);
    assert_says("/dev/zero: is a device, expected a file");
}

// An id outside the vocabulary is told by the call that would have returned it, with and without the thread; 0 asks for no batch
// with it. The last id of the vocabulary is fine.
static void test_bad_ids(void** state) {
    (void)state;
    uint16_t good[40] = {0};
    good[21] = 299;
    shard_write(test_path("vocabulary.bin"), good, 40);
    for (int prefetch = 0; prefetch < 2; prefetch++) {
        Attempt a = {test_path("vocabulary.bin"), 2, 4, 1, 1, 300, 4, prefetch};
        assert_int_equal(run_child(attempt, &a), 0);
        a.vocab_size = 299;
        a.batches = 2;  // tokens 0..8 and 8..16
        assert_int_equal(run_child(attempt, &a), 0);
        a.batches = 3;
        assert_int_equal(run_child(attempt, &a), EXIT_FAIL);
        assert_says("vocabulary.bin: token 21 has id 299, but the vocabulary has 299 ids");
        assert_says("data/prepare");
    }
}

static void restore_state(const void* argument) {
    DataLoader dl;
    loader_open(&dl, all_shards(), 2, 5, 2, 0, 1, V, true);
    loader_next(&dl);
    loader_restore(&dl, *(const LoaderState*)argument);
}

static void test_restore_refuses(void** state) {
    (void)state;
    const int sizes[] = {70, 41, 0};
    make_shards(sizes);
    LoaderState s = {2, 0, 0, 0, 0};
    assert_int_equal(run_child(restore_state, &s), EXIT_FAIL);
    assert_says("stands in shard 3, but only 2 shards match");
    s.shard = 1;
    s.position = 42;
    assert_int_equal(run_child(restore_state, &s), EXIT_FAIL);
    assert_says("stands at token 42");
    assert_says("s_000001.bin, which has 41");
}

// A run goes on only in a list that begins with the shards it had: more may follow, none may be missing, renamed or longer.
typedef struct {
    int64_t count;
    uint64_t hash;
} ListThen;

static void compare_list(const void* argument) {
    const ListThen* then = (const ListThen*)argument;
    ShardList list = shard_list(all_shards());
    shard_list_same(&list, "*", then->count, then->hash);
    shard_list_free(&list);
}

static void test_list_of_a_resumed_run(void** state) {
    (void)state;
    const int then[] = {70, 41, 0}, more[] = {70, 41, 50, 0}, fewer[] = {70, 0}, longer[] = {70, 42, 0};
    make_shards(then);
    ShardList list = shard_list(all_shards());
    ListThen two = {2, shard_list_hash(&list, 2)}, unknown = {0, 0};
    shard_list_free(&list);
    assert_int_equal(run_child(compare_list, &two), 0);
    make_shards(more);
    assert_int_equal(run_child(compare_list, &two), 0);
    make_shards(fewer);
    assert_int_equal(run_child(compare_list, &two), EXIT_FAIL);
    assert_says("written with 2 token shards of \"*\", and the 1 that match now do not begin with those");
    assert_int_equal(run_child(compare_list, &unknown), 0);
    make_shards(longer);
    assert_int_equal(run_child(compare_list, &two), EXIT_FAIL);
    make_shards(then);
    assert_int_equal(rename(shard_path(1), shard_path(2)), 0);
    assert_int_equal(run_child(compare_list, &two), EXIT_FAIL);
}

// Deleted, or cut, while the run goes on: told by the call that would serve it, with the thread and without.
static void lose_shard(const void* argument) {
    bool prefetch = *(const int*)argument & 1, cut = *(const int*)argument & 2;
    DataLoader dl;
    loader_open(&dl, all_shards(), 2, 5, 2, 0, 1, V, prefetch);
    loader_next(&dl);
    loader_wait(&dl);
    if (cut) assert_int_equal(truncate(shard_path(0), 1024 + 60), 0);
    else unlink(shard_path(1));
    for (int i = 0; i < 10; i++) printf("batch %d\n", (int)loader_next(&dl)->from.batches), fflush(stdout);
}

static void test_lost_shard(void** state) {
    (void)state;
    for (int how = 0; how < 4; how++) {
        const int sizes[] = {70, 41, 0};  // 70 tokens serve 6 batches of 10 and their targets
        make_shards(sizes);
        assert_int_equal(run_child(lose_shard, &how), EXIT_FAIL);
        assert_says(how & 2 ? "s_000000.bin: was deleted, or changed its length"
                            : "s_000001.bin: was deleted, or changed its length");
        if (how & 2) assert_null(strstr(child_output, "batch"));
        else assert_says("batch 5\nerror");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing

static void write_half(const void* path) {
    ShardWriter w;
    shard_begin(&w, (const char*)path);
    shard_append(&w, ids, 100);
    fail("on the way");
}

// An error while a shard is written leaves the old file and no temporary one.
static void test_whole_or_absent(void** state) {
    (void)state;
    char temp[800];
    const char* path = test_path("half.bin");
    snprintf(temp, sizeof temp, "%s.tmp", path);
    shard_write(path, ids, 10);
    assert_int_equal(run_child(write_half, path), EXIT_FAIL);
    assert_int_equal(access(temp, F_OK), -1);
    Shard shard = shard_open(path);
    assert_int_equal(shard.ntok, 10);
    assert_memory_equal(shard.ids, ids, 20);
    shard_close(&shard);
    assert_int_equal(run_child(write_half, test_path("no_such_folder/half.bin")), EXIT_FAIL);
    assert_says("cannot create");
    assert_says("make the directory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_served),
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_same_for_all_look_ahead),
        cmocka_unit_test(test_save_and_restore),
        cmocka_unit_test(test_restore_with_larger_batch),
        cmocka_unit_test(test_two_buffers),
        cmocka_unit_test(test_smallest_shard),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_bad_ids),
        cmocka_unit_test(test_restore_refuses),
        cmocka_unit_test(test_list_of_a_resumed_run),
        cmocka_unit_test(test_lost_shard),
        cmocka_unit_test(test_whole_or_absent),
    };
    return cmocka_run_group_tests_name("shards and loader", tests, NULL, test_dir_remove);
}
