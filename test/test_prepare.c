/*
data/prepare as a user meets it: what its shards hold, what it refuses, and what it says then.
*/
#include "child.h"

#define main prepare_main
#include "data/prepare.c"
#undef main

// Runs `prepare` with the words of a line; @ stands for the temporary folder.
static void prepare(const void* line) { run_line(prepare_main, "data/prepare", (const char*)line); }

static void assert_shard(const char* name, const uint16_t* ids, size_t ntok) {
    Shard shard = shard_open(test_path(name));
    assert_int_equal(shard.ntok, ntok);
    assert_memory_equal(shard.ids, ids, ntok * sizeof(uint16_t));
    shard_close(&shard);
}

static int write_texts(void** state) {
    (void)state;
    write_text(test_path("one.txt"), "abc");
    write_text(test_path("two.txt"), "de");
    write_text(test_path("empty.txt"), "");
    return 0;
}

// End-of-text stands between documents only; an empty file is no document; documents run over shard ends.
static void test_shards(void** state) {
    (void)state;
    const uint16_t all[] = {'a', 'b', 'c', 256, 'd', 'e', 256, 'a', 'b', 'c'};
    assert_int_equal(run_child(prepare, "--out @/whole @/empty.txt @/one.txt @/empty.txt @/two.txt @/one.txt"), 0);
    assert_says("whole_000000.bin: 10 tokens");
    assert_says("empty.txt: empty, left out");
    assert_says("257 ids; 5 texts");
    assert_shard("whole_000000.bin", all, 10);
    assert_int_equal(run_child(prepare, "@/one.txt --shard_tokens 4 @/two.txt --out @/parts --tokenizer=bytes @/one.txt"), 0);
    assert_shard("parts_000000.bin", all, 4);
    assert_shard("parts_000001.bin", all + 4, 4);
    assert_shard("parts_000002.bin", all + 8, 2);
    assert_int_equal(access(test_path("parts_000003.bin"), F_OK), -1);
    // a shard that is exactly full at the end of the text is followed by no empty one
    assert_int_equal(run_child(prepare, "--out @/full --shard_tokens 3 @/one.txt"), 0);
    assert_int_equal(access(test_path("full_000001.bin"), F_OK), -1);
    // the tokenizer it wrote is one it takes
    assert_int_equal(run_child(prepare, "--out @/again --tokenizer @/whole_tokenizer.bin @/one.txt"), 0);
    assert_shard("again_000000.bin", all, 3);
}

static void test_force(void** state) {
    (void)state;
    const uint16_t de[] = {'d', 'e'};
    assert_int_equal(run_child(prepare, "--out @/kept --shard_tokens 1 @/one.txt"), 0);
    assert_int_equal(run_child(prepare, "--out @/kept @/two.txt"), EXIT_FAIL);
    assert_says("kept_000000.bin: exists already, with 3 shards of this prefix");
    assert_says("--force");
    assert_int_equal(access(test_path("kept_000002.bin"), F_OK), 0);
    assert_int_equal(run_child(prepare, "--out @/kept --force @/two.txt"), 0);
    assert_shard("kept_000000.bin", de, 2);
    assert_int_equal(access(test_path("kept_000001.bin"), F_OK), -1);
    assert_int_equal(access(test_path("kept_000002.bin"), F_OK), -1);
}

static void test_refusals(void** state) {
    (void)state;
    assert_int_equal(run_child(prepare, "--out @/no @/one.txt @/missing.txt"), EXIT_FAIL);
    assert_says("missing.txt: cannot open: No such file");
    assert_int_equal(run_child(prepare, "--out @/no @"), EXIT_FAIL);
    assert_says("is a directory");
    assert_int_equal(run_child(prepare, "--out @/no @/empty.txt"), EXIT_FAIL);
    assert_says("no text in the 1 files named");
    assert_int_equal(run_child(prepare, "--out @/no/such/folder @/one.txt"), EXIT_FAIL);
    assert_says("folder_000000.bin.tmp: cannot create");
    assert_int_equal(run_child(prepare, "--out @/no --tokenizer @/missing.tiktoken @/one.txt"), EXIT_FAIL);
    assert_says("missing.tiktoken: cannot open");
    assert_says("--tokenizer bytes");
    assert_int_equal(run_child(prepare, "--out @/no --tokenizer @/one.txt @/one.txt"), EXIT_FAIL);
    assert_says("line 1 is not `base64 rank`");
    assert_int_equal(access(test_path("no_000000.bin"), F_OK), -1);
    assert_int_equal(access(test_path("no_tokenizer.bin"), F_OK), -1);
}

static void test_command_line(void** state) {
    (void)state;
    assert_int_equal(run_child(prepare, "@/one.txt"), EXIT_USAGE);
    assert_says("--out is missing");
    assert_int_equal(run_child(prepare, "--out @/no"), EXIT_USAGE);
    assert_says("no text file is named");
    assert_int_equal(run_child(prepare, "--out @/no --tokeniser bytes @/one.txt"), EXIT_USAGE);
    assert_says("did you mean --tokenizer?");
    assert_int_equal(run_child(prepare, "--out @/no --shard_tokens 0 @/one.txt"), EXIT_USAGE);
    assert_says("--shard_tokens");
    assert_int_equal(run_child(prepare, "--help"), 0);
    assert_says("--shard_tokens");
    assert_says("TEXT...");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_force),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_command_line),
    };
    return cmocka_run_group_tests_name("data/prepare", tests, write_texts, test_dir_remove);
}
