/*
Top-K tables: data/build_ngram against counting by hand, the reader against every kind of damage.
*/
#include "child.h"

#define main ngram_main
#include "data/build_ngram.c"
#undef main

#include "llmc/base/rand.h"

#include <poll.h>

// Runs build_ngram with the words of a line; @ stands for the temporary folder, % for @ (a file of flags).
static void build_ngram(const void* line) { run_line(ngram_main, "data/build_ngram", (const char*)line); }

static const uint16_t tiny[] = {0, 1, 0, 2, 0, 1, 1};

static int write_shards(void** state) {
    (void)state;
    shard_write(test_path("tiny_0.bin"), tiny, 7);
    shard_write(test_path("part_0.bin"), tiny, 3);
    shard_write(test_path("part_1.bin"), tiny + 3, 4);
    shard_write(test_path("none_0.bin"), tiny, 0);
    shard_write(test_path("none_1.bin"), tiny, 1);
    return 0;
}

static void assert_row(const TopTable* t, int v, int id0, double p0, int id1, double p1, double p_top, uint64_t count) {
    assert_int_equal(t->ids[2 * v], id0);
    assert_int_equal(t->ids[2 * v + 1], id1);
    assert_true(fabs((double)t->probs[2 * v] - p0) < 1e-7 && fabs((double)t->probs[2 * v + 1] - p1) < 1e-7);
    assert_true(fabs((double)t->p_top[v] - p_top) < 1e-7);
    assert_int_equal(t->row_counts[v], count);
}

static void test_tiny(void** state) {
    (void)state;
    assert_int_equal(run_child(build_ngram, "@/tiny_*.bin --vocab_size 4 --k 2 --out @/tiny.ngram"), 0);
    assert_says("7 tokens in 1 shards, 6 pairs, 5 of them distinct; the first 2 of each id cover 100.0 %");
    TopTable t = top_table_load(test_path("tiny.ngram"), TABLE_BIGRAM, 4, 2);
    assert_row(&t, 0, 1, 2 / 3.0, 2, 1 / 3.0, 1, 3);
    assert_row(&t, 1, 0, .5, 1, .5, 1, 2);
    assert_row(&t, 2, 0, 1, -1, 0, 1, 1);
    assert_row(&t, 3, -1, 0, -1, 0, 0, 0);
    assert_int_equal(t.pairs, 6);
    assert_int_equal(t.shards, 1);
    top_table_free(&t);
    // a file for 2 serves 1: cut, brought back to 1, and p_top says what is left
    t = top_table_load(test_path("tiny.ngram"), TABLE_BIGRAM, 4, 1);
    assert_int_equal(t.K, 1);
    const int first[] = {1, 0, 0, -1};
    const float probs[] = {1, 1, 1, 0}, p_top[] = {2 / 3.0f, .5f, 1, 0};
    for (int v = 0; v < 4; v++) {
        assert_int_equal(t.ids[v], first[v]);
        assert_true(t.probs[v] == probs[v] && fabsf(t.p_top[v] - p_top[v]) < 1e-7f);
    }
    top_table_free(&t);
}

// 0 1 0 | 2 0 1 1: the pair (0, 2) across the files does not count. Shards without a pair are no harm.
static void test_two_shards(void** state) {
    (void)state;
    assert_int_equal(run_child(build_ngram, "@/part_1.bin @/none_*.bin @/part_0.bin --vocab_size 4 --k 2 --out=@/part.ngram"), 0);
    assert_says("8 tokens in 4 shards, 5 pairs");
    TopTable t = top_table_load(test_path("part.ngram"), TABLE_BIGRAM, 4, 2);
    assert_row(&t, 0, 1, 1, -1, 0, 1, 2);
    assert_row(&t, 1, 0, .5, 1, .5, 1, 2);
    assert_row(&t, 2, 0, 1, -1, 0, 1, 1);
    assert_row(&t, 3, -1, 0, -1, 0, 0, 0);
    assert_int_equal(t.pairs, 5);
    top_table_free(&t);
}

// ---------------------------------------------------------------------------------------------------------------------
// Against counting by hand

// Half of the ids are few, the other half all of 0..V-1, so that some pairs are common and most are not.
static uint16_t* random_ids(int n, int V, uint64_t seed) {
    uint16_t* ids = (uint16_t*)xmalloc((size_t)n * sizeof(uint16_t));
    Rng rng = rng_start(seed, "table");
    for (int i = 0; i < n; i++) ids[i] = (uint16_t)(V - 1 - (int)rng_below(&rng, rng_below(&rng, 2) ? (uint64_t)V : 5));
    return ids;
}

static int by_key(const void* a, const void* b) {
    uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
    return (x > y) - (x < y);
}

// Row v of the table against the sorted keys (n) of the stream, by repeated search for the largest count.
static void assert_counted(const TopTable* t, int v, const uint32_t* keys, size_t n) {
    uint32_t* next = (uint32_t*)xmalloc((n + 1) * sizeof(uint32_t));
    uint64_t *count = (uint64_t*)xcalloc((n + 1) * sizeof(uint64_t)), kept = 0;
    size_t distinct = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || keys[i] != keys[i - 1]) next[distinct++] = keys[i] & 65535;
        count[distinct - 1]++;
    }
    uint64_t best[64];
    for (int j = 0; j < t->K; j++) {
        size_t at = 0;
        for (size_t i = 1; i < distinct; i++) at = count[i] > count[at] ? i : at;
        best[j] = count[at];
        kept += best[j];
        assert_int_equal(t->ids[(size_t)v * (size_t)t->K + (size_t)j], best[j] ? (int)next[at] : -1);
        count[at] = 0;
    }
    for (int j = 0; j < t->K; j++) {
        float expected = best[j] ? (float)((double)best[j] / (double)kept) : 0.0f;
        assert_true(t->probs[(size_t)v * (size_t)t->K + (size_t)j] == expected);
    }
    assert_int_equal(t->row_counts[v], n);
    assert_true(t->p_top[v] == (n ? (float)((double)kept / (double)n) : 0.0f));
    free(next);
    free(count);
}

// V = 65536, with 1 MiB: runs go to files, and files are merged into files. Memory, threads and order change no bit.
static void test_against_counting(void** state) {
    (void)state;
    enum { V = 65536, N0 = 1700000, N1 = 900001, K = 5 };
    uint16_t *a = random_ids(N0, V, 1), *b = random_ids(N1, V, 2);
    uint32_t* keys = (uint32_t*)xmalloc((N0 + N1) * sizeof(uint32_t));
    size_t n = 0, size[3], v_end = 0;
    for (int i = 0; i + 1 < N0; i++) keys[n++] = (uint32_t)a[i] << 16 | a[i + 1];
    for (int i = 0; i + 1 < N1; i++) keys[n++] = (uint32_t)b[i] << 16 | b[i + 1];
    qsort(keys, n, sizeof(uint32_t), by_key);
    shard_write(test_path("random_0.bin"), a, N0);
    shard_write(test_path("random_1.bin"), b, N1);
    const char* common = "--vocab_size 65536 --k 5";
    const char* ways[] = {"@/random_*.bin --out @/r0 --memory 1024 --threads 1 %@/common",
                          "@/random_*.bin --out @/r1 --memory 1 --threads 3 --tmp @ %@/common",
                          "@/random_1.bin @/random_0.bin --out @/r2 --memory 3 --threads 2 %@/common"};
    char* bytes[3];
    write_text(test_path("common"), common);
    for (int i = 0; i < 3; i++) {
        char name[8];
        assert_int_equal(run_child(build_ngram, ways[i]), 0);
        assert_says("2600001 tokens in 2 shards, 2599999 pairs");
        bool spilled = !strstr(child_output, " 0.0 MB through temporary files");
        assert_int_equal(spilled, i > 0);
        snprintf(name, sizeof name, "r%d", i);
        bytes[i] = file_read(test_path(name), 1 << 28, &size[i]);
        assert_int_equal(size[i], TABLE_HEADER_BYTES + V * (8 * K + 12));
        assert_memory_equal(bytes[i], bytes[0], size[0]);
    }
    TopTable t = top_table_load(test_path("r0"), TABLE_BIGRAM, V, K);
    assert_int_equal(t.pairs, N0 + N1 - 2);
    for (int v = 0; v < V; v++) {
        size_t begin = v_end;
        while (v_end < n && (int)(keys[v_end] >> 16) == v) v_end++;
        assert_counted(&t, v, keys + begin, v_end - begin);
    }
    top_table_free(&t);
    for (int i = 0; i < 3; i++) free(bytes[i]);
    free(keys);
    free(a);
    free(b);
}

// Entries survive writing, at the ends of their range and in runs of every length.
static void test_runs(void** state) {
    (void)state;
    uint8_t buffer[ENTRY_BYTES];
    const uint64_t values[] = {0, 1, 63, 64, 8191, 8192, 1u << 27, UINT32_MAX};
    const uint64_t counts[] = {1, 2, 127, 128, UINT32_MAX, 1ull << 50};
    for (size_t i = 0; i < 8; i++) {
        for (size_t j = 0; j < 6; j++) {
            uint64_t distance, count;
            uint8_t* end = entry_put(buffer, values[i], counts[j]);
            assert_true(end - buffer <= ENTRY_BYTES);
            assert_ptr_equal(entry_get(buffer, &distance, &count), end);
            assert_true(distance == values[i] && count == counts[j]);
        }
    }
    // 5000 blocks of one key each and no memory to keep more than one: files of files of files
    RunStore store = runs_start(64, test_dir());
    store.memory_limit = 40;
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t key = i % 100 * 40000000u;
        runs_add(&store, buffer, encode_keys(&key, 1, buffer));
    }
    assert_true(store.files.runs[0].level >= 2);
    RunMerge merge = runs_merge(&store);
    uint32_t key;
    uint64_t count, expected = 0;
    for (; merge_next(&merge, &key, &count); expected++) {
        assert_int_equal(key, expected * 40000000u);
        assert_int_equal(count, 50);
    }
    assert_int_equal(expected, 100);
    merge_free(&merge);
    runs_free(&store);
}

// ---------------------------------------------------------------------------------------------------------------------
// Damage

typedef struct {
    const char* name;
    int kind, V, K;
} Wanted;

static void load(const void* argument) {
    const Wanted* w = (const Wanted*)argument;
    TopTable t = top_table_load(w->name, w->kind, w->V, w->K);
    top_table_free(&t);
}

static void assert_refused(const char* name, int kind, int V, int K, const char* sentence) {
    Wanted w = {test_path(name), kind, V, K};
    assert_int_equal(run_child(load, &w), EXIT_FAIL);
    assert_says(name);
    assert_says(sentence);
    assert_says(kind == TABLE_NEIGHBOURS ? "make it with `data/build_neighbours" : "make it with `data/build_ngram");
}

// The tiny table with a word of its header or payload replaced; signed: with the right checksum for that.
static void damage(const char* name, size_t at, uint32_t word, bool sign, long change_size) {
    size_t size;
    char* bytes = file_read(test_path("tiny.ngram"), 1 << 20, &size);
    bytes = (char*)realloc(bytes, size + 8);
    memset(bytes + size, 0, 8);
    memcpy(bytes + at, &word, 4);
    size += (size_t)change_size;
    if (sign) {
        memset(bytes + 4 * TABLE_CRC_WORD, 0, 4);
        uint32_t crc = crc32_add(0, bytes, size);
        memcpy(bytes + 4 * TABLE_CRC_WORD, &crc, 4);
    }
    FILE* file = fopen(test_path(name), "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) fail_msg("cannot write %s", name);
    free(bytes);
}

static uint32_t bits(float x) {
    uint32_t word;
    memcpy(&word, &x, 4);
    return word;
}

static void test_damage(void** state) {
    (void)state;
    enum { IDS = TABLE_HEADER_BYTES, PROBS = IDS + 4 * 8, P_TOP = PROBS + 4 * 8, COUNTS = P_TOP + 4 * 4 };
    const struct {
        size_t at;
        uint32_t word;
        bool sign;
        long change_size;
        const char* sentence;
    } cases[] = {
        {0, 0x4D544821, true, 0, "not a table of bigrams: expected magic 20250601, found 1297369121 (the file starts \"!HTM"},
        {4, 2, true, 0, "table version 2, expected 1"},
        {8, TABLE_NEIGHBOURS, true, 0, "a table of neighbours (kind 2), expected bigrams (kind 1)"},
        {8, 9, true, 0, "a table of ? (kind 9), expected bigrams (kind 1)"},
        {12, 5, true, 0, "truncated: its header says 5 ids with 2 entries each, so 1164 bytes, found 1136"},
        {12, 65537, true, 0, "damaged: its header says 65537 ids and 2 entries each"},
        {12, 0x80000000u, true, 0, "damaged: its header says -2147483648 ids"},
        {16, 5, true, 0, "damaged: its header says 4 ids and 5 entries each"},
        {16, 1, true, 0, "wrong length: its header says 4 ids with 1 entries each, so 1104 bytes, found 1136"},
        {0, TABLE_MAGIC, true, -4, "truncated: its header says 4 ids with 2 entries each, so 1136 bytes, found 1132"},
        {0, TABLE_MAGIC, true, 4, "wrong length: its header says 4 ids with 2 entries each, so 1136 bytes, found 1140"},
        {0, TABLE_MAGIC, true, -200, "truncated: a table has a header of 1024 bytes, found 936"},
        {20, 7, true, 0, "its header says 7 pairs, its rows have 6"},
        {28, 2, false, 0, "damaged: expected checksum"},
        {IDS, 1 | 1 << 20, false, 0, "damaged: expected checksum"},
        {1000, 1, false, 0, "damaged: expected checksum"},
        {IDS + 4, 4, true, 0, "entry 1 of id 0 is id 4, expected -1..3"},
        {IDS + 4, (uint32_t)-2, true, 0, "entry 1 of id 0 is id -2"},
        {IDS + 4, 1, true, 0, "the entries of id 0 are not in order of probability, each id once"},
        {IDS, (uint32_t)-1, true, 0, "entry 0 of id 0 has probability 0.666667, expected 0 as it is empty"},
        {PROBS, bits(NAN), true, 0, "entry 0 of id 0 has probability nan, expected 0..1"},
        {PROBS + 4, bits(-0.1f), true, 0, "entry 1 of id 0 has probability -0.1"},
        {PROBS, bits(1.5f), true, 0, "entry 0 of id 0 has probability 1.5"},
        {PROBS, bits(0.2f), true, 0, "the entries of id 0 are not in order"},
        {PROBS + 4, bits(0.2f), true, 0, "the probabilities of id 0 sum to 0.866667, expected 1"},
        {P_TOP, bits(INFINITY), true, 0, "the entries of id 0 cover a share of inf, expected more than 0 and at most 1"},
        {P_TOP + 12, bits(1), true, 0, "the entries of id 3 cover a share of 1, expected 0 as there are none"},
        {COUNTS, 4, true, 0, "its header says 6 pairs, its rows have 7"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        damage("bad.ngram", cases[i].at, cases[i].word, cases[i].sign, cases[i].change_size);
        assert_refused("bad.ngram", TABLE_BIGRAM, 4, 2, cases[i].sentence);
    }
    damage("good.ngram", 0, TABLE_MAGIC, true, 0);
    Wanted good = {test_path("good.ngram"), TABLE_BIGRAM, 4, 2};
    assert_int_equal(run_child(load, &good), 0);
}

static void test_wrong_table(void** state) {
    (void)state;
    assert_refused("tiny.ngram", TABLE_BIGRAM, 5, 2, "made for 4 ids, expected 5 (--vocab_size)");
    assert_refused("tiny.ngram", TABLE_BIGRAM, 4, 3, "has 2 entries for each id, expected 3 or more; ask for 2");
    assert_refused("tiny.ngram", TABLE_NEIGHBOURS, 4, 2, "a table of bigrams (kind 1), expected neighbours (kind 2)");
    assert_refused("no_such.ngram", TABLE_NEIGHBOURS, 4, 2, "cannot open: No such file");
    write_text(test_path("page.ngram"), "<!DOCTYPE html><html>");
    assert_refused("page.ngram", TABLE_BIGRAM, 4, 2, "the file starts \"<!DOCTYPE html><\"");
    write_text(test_path("empty.ngram"), "");
    assert_refused("empty.ngram", TABLE_BIGRAM, 4, 2, "expected magic 20250601, found 0");
}

// ---------------------------------------------------------------------------------------------------------------------
// The command line

static void test_refusals(void** state) {
    (void)state;
    assert_int_equal(run_child(build_ngram, "--out @/no"), EXIT_USAGE);
    assert_says("no shards are named");
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin"), EXIT_USAGE);
    assert_says("--out is missing");
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin --out @/no --vocab_size 4"), EXIT_USAGE);
    assert_says("--k is 16, but there are only 4 ids");
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin --out @/no --k 0"), EXIT_USAGE);
    assert_says("--k is 0: expected a whole number in 1..1024");
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin --out @/no --vocabsize 4"), EXIT_USAGE);
    assert_says("did you mean --vocab_size?");
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin @/tiny_*.bin --out @/no"), EXIT_USAGE);
    assert_says("tiny_0.bin is named twice");
    assert_int_equal(run_child(build_ngram, "@/missing_*.bin --out @/no"), EXIT_FAIL);
    assert_says("no file matches");
    assert_int_equal(run_child(build_ngram, "@/none_*.bin --out @/no"), EXIT_FAIL);
    assert_says("no pair of tokens in the 2 shards named");
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin --out @/no --vocab_size 2 --k 1"), EXIT_FAIL);
    assert_says("tiny_0.bin: token 3 is id 2, expected ids below --vocab_size 2");
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin --out @/no --tmp @/missing"), EXIT_FAIL);
    assert_says("name another directory with --tmp");
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin --out @/missing/no"), EXIT_FAIL);
    assert_says("missing/no.tmp: cannot create");
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin --out @/part_0.bin"), EXIT_FAIL);
    assert_says("part_0.bin: exists and is not a table, so it is kept");
    assert_int_equal(access(test_path("no"), F_OK), -1);
    assert_int_equal(access(test_path("no.tmp"), F_OK), -1);
    shard_write(test_path("x_val_0.bin"), tiny, 7);
    assert_int_equal(run_child(build_ngram, "@/x_val_0.bin --out @/val.ngram"), 0);
    assert_says("warning: x_val_0.bin looks like validation text");
    assert_int_equal(run_child(build_ngram, "--help"), 0);
    assert_says("SHARDS_*.bin");
    assert_says("--memory");
}

// A build that is stopped leaves neither a half table nor a temporary file.
static void test_interrupted(void** state) {
    (void)state;
    char *shards = text_copy(test_path("random_*.bin")), *out = text_copy(test_path("i/out")),
         *half = text_copy(test_path("i/out.tmp"));
    const char* line[] = {"data/build_ngram", shards, "--out",        out,     "--memory", "1",
                          "--threads",        "1",    "--vocab_size", "65536", NULL};
    char* argv[11];
    const int signals[] = {SIGINT, SIGTERM, SIGKILL};
    char command[1024];
    assert_int_equal(mkdir(test_path("i"), 0777), 0);
    for (int i = 0; i < 3; i++) {
        int status = 0;
        fflush(stdout);
        memcpy(argv, line, sizeof line);
        pid_t pid = fork();
        if (pid == 0) {
            fclose(stdout);
            exit(ngram_main(10, argv));
        }
        for (int ms = 0; access(half, F_OK) && ms < 20000; ms++) poll(NULL, 0, 1);  // it has begun
        kill(pid, signals[i]);
        waitpid(pid, &status, 0);
        assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);  // it takes half a second and more
        // killed outright, the one thing left is the name that the next start writes over
        snprintf(command, sizeof command, "test -z \"$(ls '%s' | grep -v '^out.tmp$')\"", test_path("i"));
        assert_int_equal(system(command), 0);
        assert_int_equal(access(half, F_OK), signals[i] == SIGKILL ? 0 : -1);
    }
    assert_int_equal(run_child(build_ngram, "@/tiny_0.bin --vocab_size 4 --k 2 --out @/i/out"), 0);
    assert_int_equal(access(half, F_OK), -1);
    free(shards);
    free(out);
    free(half);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),     cmocka_unit_test(test_two_shards),  cmocka_unit_test(test_against_counting),
        cmocka_unit_test(test_runs),     cmocka_unit_test(test_damage),      cmocka_unit_test(test_wrong_table),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_interrupted),
    };
    return cmocka_run_group_tests_name("top-K tables", tests, write_shards, test_dir_remove);
}
