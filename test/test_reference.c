/*
Reference losses: halves, files of them, what is refused, and batches that bring each position the loss of the token that it
predicts, whatever shard, rank, look-ahead or saved position.
*/
#include "child.h"

#include "llmc/io/dataloader.h"

#include <math.h>

enum { V = 300, SHARDS = 3, MOST = 200 };

static uint16_t ids[SHARDS][MOST];
static float losses[SHARDS][MOST];
static const int sizes[SHARDS] = {150, 97, 24 + 3};

static const char* shard_path(int i) {
    char name[32];
    snprintf(name, sizeof name, "s_%06d.bin", i);
    return test_path(name);
}
static const char* losses_path(int i) {
    char name[32];
    snprintf(name, sizeof name, "s_%06d.losses", i);
    return test_path(name);
}
static const char* all_shards(void) { return test_path("s_*.bin"); }

static void write_losses(int i, uint32_t model) {
    ReferenceWriter w;
    Shard shard = shard_open(shard_path(i));
    unlink(losses_path(i));
    reference_begin(&w, losses_path(i));
    reference_append(&w, losses[i], 10);
    reference_append(&w, losses[i] + 10, (size_t)sizes[i] - 10);
    reference_end(&w, &shard, model, 64);
    shard_close(&shard);
}

static void make_files(void) {
    uint32_t random = 99;
    for (int i = 0; i < SHARDS; i++) {
        for (int n = 0; n < sizes[i]; n++) {
            random = random * 1664525u + 1013904223u;
            ids[i][n] = (uint16_t)((random >> 16) % V);
            losses[i][n] = n ? (float)(random >> 8) / (float)(1 << 20) : 0.0f;
        }
        shard_write(shard_path(i), ids[i], (size_t)sizes[i]);
        write_losses(i, 7);
    }
}

static float kept(int shard, uint64_t n) { return loss_of_half(half_of_loss(losses[shard][n])); }

// ---------------------------------------------------------------------------------------------------------------------

static double half_value(int half) {
    int exponent = half >> 10, fraction = half & 1023;
    return exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
}

// Every half there and back; what lies between two goes to the nearer one, and to the even one from the middle.
static void test_halves(void** state) {
    (void)state;
    for (int h = 0; h <= 0x7bff; h++) {
        double low = half_value(h), high = half_value(h + 1), middle = (low + high) / 2;
        assert_true((double)loss_of_half((uint16_t)h) == low);
        assert_int_equal(half_of_loss((float)low), h);
        if (h == 0x7bff) continue;
        assert_int_equal(half_of_loss((float)middle), h + h % 2);
        assert_int_equal(half_of_loss(nextafterf((float)middle, 0)), h);
        assert_int_equal(half_of_loss(nextafterf((float)middle, INFINITY)), h + 1);
    }
    assert_true(half_of_loss(REFERENCE_MOST) == 0x7bff);
}

static void test_file(void** state) {
    (void)state;
    make_files();
    FileMap map = file_map(losses_path(1), "");
    const int32_t* header = (const int32_t*)(const void*)map.bytes;
    const uint16_t* halves = (const uint16_t*)(const void*)(map.bytes + 1024);
    assert_int_equal(map.size, 1024 + 2 * 97);
    assert_int_equal(header[0], 20240521), assert_int_equal(header[1], 1), assert_int_equal(header[2], 97);
    assert_int_equal((uint32_t)header[3], crc32_add(0, ids[1], 2 * 97));
    assert_int_equal((uint32_t)header[4], crc32_add(0, halves, 2 * 97));
    assert_int_equal(header[5], 7), assert_int_equal(header[6], 64), assert_int_equal(header[7], 0);
    for (int n = 0; n < 97; n++) assert_true(fabs(half_value(halves[n]) - losses[1][n]) <= losses[1][n] / 2048);
    file_unmap(&map);
    char* path = reference_path("some/where", "/else/where/name.of.bin");
    assert_string_equal(path, "some/where/name.of.losses");
    free(path);
}

// Two processes over three shards and two epochs, with a position saved and restored in between.
static void test_batches(void** state) {
    (void)state;
    make_files();
    for (int look_ahead = 1; look_ahead <= 8; look_ahead += 2) {
        DataLoader ranks[2];
        for (int r = 0; r < 2; r++) {
            loader_open(&ranks[r], all_shards(), 3, 4, look_ahead > 3 ? 3 : look_ahead, r, 2, V, look_ahead % 4 == 1);
            loader_use_references(&ranks[r], test_dir());
        }
        for (int step = 0; step < 20; step++) {
            for (int r = 0; r < 2; r++) {
                const Batch* batch = loader_next(&ranks[r]);
                uint64_t first = batch->from.position + (uint64_t)r * 12;
                assert_int_equal(batch->from.epoch, step / 9);
                for (uint64_t n = 0; n < 12; n++) {
                    assert_int_equal(batch->tokens[n + 1], ids[batch->from.shard][first + n + 1]);
                    if (batch->reference[n] != kept((int)batch->from.shard, first + n + 1))
                        fail_msg("step %d, rank %d: the loss of position %d is another token's", step, r, (int)n);
                }
                if (step == 6) loader_restore(&ranks[r], loader_state(&ranks[r]));
            }
        }
        for (int r = 0; r < 2; r++) loader_close(&ranks[r]);
    }
    DataLoader none;
    loader_open(&none, all_shards(), 3, 4, 3, 0, 1, V, false);
    assert_null(loader_next(&none)->reference);
    assert_int_equal(loader_buffer_bytes(&none), (64 + 12) * 4);
    loader_use_references(&none, test_dir());
    assert_int_equal(loader_buffer_bytes(&none), (64 + 64 + 12) * 4);
    loader_close(&none);
}

// ---------------------------------------------------------------------------------------------------------------------

static void open_all(const void* argument) {
    ShardList list = shard_list(all_shards());
    (void)argument;
    reference_list(test_dir(), &list);
}

static void assert_refused(const char* says) {
    int code = run_child(open_all, NULL);
    if (code != 1) fail_msg("exit code %d where \"%s\" was expected", code, says);
    assert_says(says);
    assert_int_equal(strlen(child_output), strcspn(child_output, "\n") + 1);
}

// The word at byte `at` of the second file is another.
static void change(int at, int32_t word) {
    FILE* file = fopen(losses_path(1), "r+b");
    assert_true(file && fseek(file, at, SEEK_SET) == 0 && fwrite(&word, 4, 1, file) == 1 && fclose(file) == 0);
}

static void test_refused(void** state) {
    (void)state;
    make_files();
    assert_int_equal(run_child(open_all, NULL), 0);
    unlink(losses_path(2));
    assert_refused("s_000002.losses: cannot open");
    write_losses(2, 8);
    assert_refused("s_000002.losses: losses of two models");
    write_losses(2, 7);
    change(0, 20240520);
    assert_refused("s_000001.losses: no reference losses: expected magic 20240521, found 20240520");
    change(0, 20240521), change(4, 2);
    assert_refused("reference losses of version 2, expected 1");
    change(4, 1), change(8, 98);
    assert_refused("s_000001.losses: truncated: its header says 98 tokens, so 1220 bytes, found 1218");
    write_losses(1, 7), change(1024 + 2 * 50, 0x12345678);
    assert_refused("s_000001.losses: damaged");
    losses[1][9] = -1;
    write_losses(1, 7);
    assert_int_equal(run_child(open_all, NULL), 0);  // below 0 by rounding
    Shard shard = shard_open(shard_path(1));
    shard_close(&shard);
    ids[1][96]++;
    shard_write(shard_path(1), ids[1], 97);
    assert_refused("s_000001.losses: losses of other tokens than those of");
    shard_write(shard_path(1), ids[1], 96);
    assert_refused("s_000001.losses: losses of 97 tokens, but");
    write_text(losses_path(1), "<!DOCTYPE html>");
    assert_refused("the file starts \"<!DOCTYPE html>\"");
}

// A file of someone else's, whose checksum is right: a loss that compares with nothing.
static void test_not_a_number(void** state) {
    (void)state;
    const uint16_t bad[] = {0x7c00, 0x7e00, 0x8000, 0xbc00};
    for (int i = 0; i < 4; i++) {
        uint16_t halves[97];
        make_files();
        for (int n = 0; n < 97; n++) halves[n] = n == 60 ? bad[i] : half_of_loss(losses[1][n]);
        FILE* file = fopen(losses_path(1), "r+b");
        assert_true(file && fseek(file, 1024, SEEK_SET) == 0 && fwrite(halves, 2, 97, file) == 97 && fclose(file) == 0);
        change(16, (int32_t)crc32_add(0, halves, 2 * 97));
        assert_refused("s_000001.losses: a loss in it is negative or not finite");
    }
}

static void write_in_child(const void* loss) {
    ReferenceWriter w;
    reference_begin(&w, test_path("fresh.losses"));
    reference_append(&w, (const float*)loss, 1);
}
static void overwrite_in_child(const void* path) {
    ReferenceWriter w;
    reference_begin(&w, (const char*)path);
}

static void test_not_written(void** state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, 70000};
    make_files();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run_child(write_in_child, &bad[i]), 1);
        assert_says("fresh.losses: the loss of token 0 is");
        assert_int_not_equal(access(test_path("fresh.losses.tmp"), F_OK), 0);
    }
    assert_int_equal(run_child(overwrite_in_child, losses_path(0)), 1);
    assert_says("is not overwritten");
}

static void lose_a_file(const void* argument) {
    DataLoader dl;
    (void)argument;
    loader_open(&dl, all_shards(), 3, 4, 1, 0, 1, V, true);
    loader_use_references(&dl, test_dir());
    loader_next(&dl);
    unlink(losses_path(1));
    for (int i = 0; i < 30; i++) loader_next(&dl);
}

static void test_lost(void** state) {
    (void)state;
    make_files();
    assert_int_equal(run_child(lose_a_file, NULL), 1);
    assert_says("s_000001.losses: was deleted, or changed its length, while the run went on");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves),
        cmocka_unit_test_teardown(test_file, test_dir_remove),
        cmocka_unit_test_teardown(test_batches, test_dir_remove),
        cmocka_unit_test_teardown(test_refused, test_dir_remove),
        cmocka_unit_test_teardown(test_not_a_number, test_dir_remove),
        cmocka_unit_test_teardown(test_not_written, test_dir_remove),
        cmocka_unit_test_teardown(test_lost, test_dir_remove),
    };
    return cmocka_run_group_tests_name("reference losses", tests, NULL, NULL);
}
