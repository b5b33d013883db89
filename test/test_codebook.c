/*
Codebooks: every method of data/build_codebook at the command line, and the readers against damage of every kind. What matching
finds is in test_codebook_match.c.
*/
#include "child.h"

#define main codebook_main
#include "data/build_codebook.c"
#undef main

// Runs build_codebook with the words of a line; @ stands for the temporary folder.
static void build_codebook(const void* line) { run_line(codebook_main, "data/build_codebook", (const char*)line); }

// ---------------------------------------------------------------------------------------------------------------------
// Four tokens in 2 x 2 cells, by hand: 0 1 / 2 3 costs 13.5, the best is 1 0 / 3 2 with 10.5

static const float tiny_l_r[] = {1, 3, 2, 2.5f, 4, 1, 3, 1.5f}, tiny_l_c[] = {2, 1, 1, 2, 1.5f, 1, 2, 2.5f};

static int write_files(void** state) {
    (void)state;
    const uint16_t few[] = {3, 3, 3, 1, 1, 0, 0, 3, 4}, more[] = {6, 6};
    shard_write(test_path("few_0.bin"), few, 9);
    shard_write(test_path("few_1.bin"), more, 2);
    shard_write(test_path("none_0.bin"), few, 0);
    Codebook b = codebook_sequential(4, 2);
    CodebookCosts c = codebook_costs_alloc(&b);
    memcpy(c.l_r, tiny_l_r, sizeof tiny_l_r);
    memcpy(c.l_c, tiny_l_c, sizeof tiny_l_c);
    c.positions = 4;
    codebook_save(test_path("tiny.codebook"), &b);
    codebook_costs_save(test_path("tiny.costs"), &c);
    codebook_costs_free(&c);
    codebook_free(&b);
    return 0;
}

static void test_by_hand(void** state) {
    (void)state;
    const char* line =
        "--method matching --vocab_size 4 --codebook @/tiny.codebook --costs @/tiny.costs --out @/matched.codebook";
    assert_int_equal(run_child(build_codebook, line), 0);
    assert_says("before: objective 13.5 (rows 5.5, columns 8), 3.375000 nats a token");
    assert_says("after: objective 10.5 (rows 5.5, columns 5), 2.625000 nats a token");
    assert_says(
        "round 0: objective 10.5 (rows 5.5, columns 5), bound 0\nround 1: objective 10.5 (rows 5.5, columns 5), bound 10.5\n");
    assert_says("no codebook of this shape is below 10.5: this one is within 0 (0.00 %) of the best");
    assert_says("4 of 4 tokens moved, 0 of them to another row");
    assert_says("4 ids in 2 rows of 2 columns, the last row has 2");
    Codebook b = codebook_load(test_path("matched.codebook"), 4);
    const int cells[] = {1, 0, 3, 2};
    for (int v = 0; v < 4; v++) assert_int_equal(2 * b.row[v] + b.col[v], cells[v]);
    codebook_free(&b);
}

// ---------------------------------------------------------------------------------------------------------------------
// Shapes and orders

static void test_shapes(void** state) {
    (void)state;
    enum { V = 50257 };
    const struct {
        int columns, rows, width, last, longer;
    } shapes[] = {{0, 224, 225, 82, 81}, {225, 224, 225, 82, 81}, {256, 197, 256, 81, 22}};
    int32_t* order = (int32_t*)xmalloc(V * sizeof(int32_t));
    for (int i = 0; i < V; i++) order[i] = V - 1 - i;
    for (int s = 0; s < 3; s++) {
        Codebook b = codebook_sequential(V, shapes[s].columns), freq = codebook_from_order(V, shapes[s].columns, order);
        Codebook snake = codebook_snake(V, shapes[s].columns, order);
        assert_true(b.rows == shapes[s].rows && b.columns == shapes[s].width);
        for (int r = 0; r < b.rows; r++) {
            assert_int_equal(b.length[r], r + 1 < b.rows ? b.columns : shapes[s].last);
            assert_int_equal(freq.length[r], b.length[r]);
            assert_int_equal(snake.length[r], V / b.rows + (r < shapes[s].longer));
        }
        for (int v = 0; v < V; v++) {
            int i = V - 1 - v;
            assert_true(b.row[v] == v / b.columns && b.col[v] == v % b.columns);
            assert_true(freq.row[v] == i / b.columns && freq.col[v] == i % b.columns);
            assert_true(snake.row[v] == i % b.rows && snake.col[v] == i / b.rows);
            assert_int_equal(b.token[b.row[v] * b.columns + b.col[v]], v);
        }
        assert_int_equal(b.token[b.rows * b.columns - 1], -1);
        assert_true(codebook_crc(&b) != codebook_crc(&freq));
        codebook_save(test_path("big.codebook"), &snake);
        Codebook read = codebook_load(test_path("big.codebook"), V);
        assert_int_equal(codebook_crc(&read), codebook_crc(&snake));
        assert_memory_equal(read.token, snake.token, (size_t)b.rows * (size_t)b.columns * sizeof(int32_t));
        codebook_free(&b), codebook_free(&freq), codebook_free(&snake), codebook_free(&read);
    }
    free(order);
    Codebook one = codebook_sequential(1, 0), thin = codebook_sequential(65536, 1), wide = codebook_sequential(65536, 65536);
    assert_true(one.rows == 1 && one.columns == 1 && thin.rows == 65536 && wide.rows == 1);
    codebook_save(test_path("thin.codebook"), &thin);
    Codebook read = codebook_load(test_path("thin.codebook"), 65536);
    assert_int_equal(read.row[65535], 65535);
    codebook_free(&one), codebook_free(&thin), codebook_free(&wide), codebook_free(&read);
}

// Counts 2 2 0 4 1 0 2 of seven ids: the order is 3 0 1 6 4 2 5.
static void test_counts(void** state) {
    (void)state;
    const int freq[] = {1, 2, 5, 0, 4, 6, 3};
    assert_int_equal(run_child(build_codebook, "@/few_*.bin --method freq --vocab_size 7 --out @/f"), 0);
    assert_says("7 ids in 3 rows of 3 columns, the last row has 1");
    assert_says(
        "11 tokens in 2 shards: row 0 has the most, 72.73 % of them (an even share is 33.33 %); half of them are in 1 of 3 rows");
    assert_says("row 2 has the fewest, 0.0000 %");
    Codebook b = codebook_load(test_path("f"), 7);
    for (int v = 0; v < 7; v++) assert_int_equal(3 * b.row[v] + b.col[v], freq[v]);
    codebook_free(&b);
    assert_int_equal(run_child(build_codebook, "@/few_1.bin @/few_0.bin --method snake --vocab_size 7 --out @/s"), 0);
    assert_says("row 0 has the most, 54.55 % of them");
    b = codebook_load(test_path("s"), 7);
    const int32_t order[] = {3, 0, 1, 6, 4, 2, 5};
    for (int i = 0; i < 7; i++) assert_true(b.row[order[i]] == i % 3 && b.col[order[i]] == i / 3);
    codebook_free(&b);
    // sequential needs no shards; when it is given some it says how they spread
    assert_int_equal(run_child(build_codebook, "--vocab_size 7 --columns 7 --out @/q"), 0);
    assert_says("7 ids in 1 rows of 7 columns, the last row has 7");
    assert_null(strstr(child_output, "shards"));
    assert_int_equal(run_child(build_codebook, "@/few_*.bin --vocab_size 7 --columns 7 --out @/q"), 0);
    assert_says("row 0 has the most, 100.00 % of them");
}

// ---------------------------------------------------------------------------------------------------------------------
// Damage

typedef struct {
    size_t at;
    uint32_t word;
    bool sign;  // with the right checksum for it
    long change_size;
    const char* sentence;
} Damage;

static uint32_t bits(float x) {
    uint32_t word;
    memcpy(&word, &x, 4);
    return word;
}

// File `from` with a word replaced, as file `name`.
static void damage(const char* from, const char* name, const Damage* d) {
    size_t size;
    char* bytes = file_read(test_path(from), 1 << 20, &size);
    bytes = (char*)realloc(bytes, size + 8);
    memset(bytes + size, 0, 8);
    memcpy(bytes + d->at, &d->word, 4);
    size += (size_t)d->change_size;
    if (d->sign) {
        memset(bytes + 4 * TABLE_CRC_WORD, 0, 4);
        uint32_t crc = crc32_add(0, bytes, size);
        memcpy(bytes + 4 * TABLE_CRC_WORD, &crc, 4);
    }
    FILE* file = fopen(test_path(name), "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) fail_msg("cannot write %s", name);
    free(bytes);
}

static void load(const void* path) {
    Codebook b = codebook_load((const char*)path, 4);
    codebook_free(&b);
}

static void load_costs(const void* path) {
    Codebook b = codebook_sequential(4, 2);
    CodebookCosts c = codebook_costs_load((const char*)path, &b);
    assert_true(c.positions == 4 && c.l_r[7] == 1.5f && c.l_c[7] == 2.5f);
    codebook_costs_free(&c);
    codebook_free(&b);
}

enum { ROW = 4 * CODEBOOK_ROWS_WORD, PAYLOAD = TABLE_HEADER_BYTES };

static void test_damage(void** state) {
    (void)state;
    const Damage cases[] = {
        {0, 0x4D544821, true, 0, "not a file of codebooks: expected magic 20250601, found 1297369121 (the file starts \"!HTM"},
        {4, 2, true, 0, "version 2, expected 1"},
        {8, TABLE_BIGRAM, true, 0, "a file of bigrams (kind 1), expected codebooks (kind 3)"},
        {8, CODEBOOK_COSTS_KIND, true, 0, "a file of codebook costs (kind 4), expected codebooks (kind 3)"},
        {12, 5, true, 0, "damaged: its header says 5 tokens in 2 rows of 2 columns"},
        {12, 65537, true, 0, "damaged: its header says 65537 tokens"},
        {12, 0x80000000u, true, 0, "damaged: its header says -2147483648 tokens"},
        {16, 0, true, 0, "damaged: its header says 4 tokens in 2 rows of 0 columns"},
        {16, 5, true, 0, "damaged: its header says 4 tokens in 2 rows of 5 columns"},
        {ROW, 3, true, 0, "damaged: its header says 4 tokens in 3 rows of 2 columns"},
        {12, 3, true, 0, "wrong length: its header says 3 tokens in 2 rows of 2 columns, so 1036 bytes, found 1040"},
        {0, TABLE_MAGIC, true, -4, "truncated: its header says 4 tokens in 2 rows of 2 columns, so 1040 bytes, found 1036"},
        {0, TABLE_MAGIC, true, 4, "wrong length: its header says 4 tokens"},
        {0, TABLE_MAGIC, true, -200, "truncated: expected a header of 1024 bytes, found 840"},
        {1000, 1, false, 0, "damaged: expected checksum"},
        {PAYLOAD, 1, false, 0, "damaged: expected checksum"},
        {PAYLOAD, 2 << 16, true, 0, "token 1 is in row 2, column 1, expected rows 0..1, columns 0..1"},
        {PAYLOAD + 8, 2, true, 0, "token 0 is in row 0, column 2, expected rows 0..1, columns 0..1"},
        {PAYLOAD + 8, 0, true, 0, "tokens 0 and 1 are both in row 0, column 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        damage("tiny.codebook", "bad.codebook", &cases[i]);
        assert_int_equal(run_child(load, test_path("bad.codebook")), EXIT_FAIL);
        assert_says("bad.codebook");
        assert_says(cases[i].sentence);
        assert_says("make it with `data/build_codebook --vocab_size 4");
    }
    const Damage none = {0, TABLE_MAGIC, true, 0, ""}, wider = {16, 3, true, 0, ""}, gap = {PAYLOAD + 8, 2 << 16, true, 0, ""};
    damage("tiny.codebook", "good.codebook", &none);
    assert_int_equal(run_child(load, test_path("good.codebook")), 0);
    damage("tiny.codebook", "wider.codebook", &wider);
    assert_int_equal(run_child(load, test_path("wider.codebook")), 0);
    damage("wider.codebook", "gap.codebook", &gap);
    assert_int_equal(run_child(load, test_path("gap.codebook")), EXIT_FAIL);
    assert_says("row 0 has 2 tokens, but its column 1 is empty");
    assert_int_equal(run_child(load, test_path("f")), EXIT_FAIL);
    assert_says("made for 7 tokens, expected 4 (--vocab_size)");
    assert_int_equal(run_child(load, test_path("no_such.codebook")), EXIT_FAIL);
    assert_says("cannot open: No such file");
    write_text(test_path("page.codebook"), "<!DOCTYPE html><html>");
    assert_int_equal(run_child(load, test_path("page.codebook")), EXIT_FAIL);
    assert_says("the file starts \"<!DOCTYPE html><\"");
}

static void test_damaged_costs(void** state) {
    (void)state;
    enum { COLUMNS = PAYLOAD + 32 };
    const Damage cases[] = {
        {8, TABLE_CODEBOOK, true, 0, "a file of codebooks (kind 3), expected codebook costs (kind 4)"},
        {16, 3, true, 0, "truncated: its header says 4 tokens in 2 rows of 3 columns, so 1104 bytes, found 1088"},
        {12, 3, true, 0, "wrong length: its header says 3 tokens in 2 rows of 2 columns, so 1072 bytes, found 1088"},
        {4 * CODEBOOK_CRC_WORD, 1, true, 0, "measured with another codebook (4 tokens, 2 columns, checksum 00000001)"},
        {COLUMNS, 1, false, 0, "damaged: expected checksum"},
        {PAYLOAD + 8, bits(NAN), true, 0, "token 1 costs nan in row 0, expected 0..1e+30 nats"},
        {PAYLOAD + 12, bits(-1), true, 0, "token 1 costs -1 in row 1"},
        {COLUMNS + 28, bits(INFINITY), true, 0, "token 3 costs inf in column 1"},
        {COLUMNS + 28, bits(2e30f), true, 0, "token 3 costs 2e+30 in column 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        damage("tiny.costs", "bad.costs", &cases[i]);
        assert_int_equal(run_child(load_costs, test_path("bad.costs")), EXIT_FAIL);
        assert_says("bad.costs");
        assert_says(cases[i].sentence);
        assert_says("measure the costs again with this codebook");
    }
    assert_int_equal(run_child(load_costs, test_path("tiny.costs")), 0);
}

// What no file can say, but a program: codebooks in memory that are wrong.
static void wrong_codebook(const void* which) {
    Codebook b = codebook_sequential(6, 3);
    CodebookCosts c = codebook_costs_alloc(&b);
    int32_t order[] = {0, 1, 2, 2, 4, 5}, far[] = {0, 1, 2, 3, 4, 6};
    switch (*(const char*)which) {
        case 'e': b.length[1] = 0; break;
        case 's': b.token[4] = 5, b.token[5] = 4; break;
        case 'l': b.length[0] = 2, b.token[2] = -1; break;
        case 'o': b = codebook_from_order(6, 3, order); break;
        case 'f': b = codebook_snake(6, 3, far); break;
        case 'c': b = codebook_sequential(6, 7); break;
        case 'v': b = codebook_sequential(65537, 0); break;
        case 't': b = codebook_sequential(2000, 1), c = codebook_costs_alloc(&b); break;
        case 'n': c.l_c[7] = NAN, codebook_costs_save(test_path("nan.costs"), &c); break;
    }
    codebook_check("memory", &b, "look again");
    codebook_costs_free(&c);
    codebook_free(&b);
}

static void test_wrong_codebooks(void** state) {
    (void)state;
    const char* cases[][2] = {
        {"e", "memory: damaged: row 1 has 0 tokens, expected 1..3; look again"},
        {"s", "row 1, column 1 holds 5, which is not there"},
        {"l", "5 tokens in the rows, expected 6"},
        {"o", "names token 2 twice, expected each of 0..5 once"},
        {"f", "names token 6, expected 0..5"},
        {"c", "no codebook has 6 tokens and 7 columns"},
        {"v", "no codebook has 65537 tokens"},
        {"t", "costs of a codebook with 2000 rows and 1 columns: expected at most 1024 of either"},
        {"n", "token 2 costs nan in column 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(run_child(wrong_codebook, cases[i][0]), EXIT_FAIL);
        assert_says(cases[i][1]);
    }
    assert_int_equal(run_child(wrong_codebook, "-"), 0);
    assert_int_equal(access(test_path("nan.costs"), F_OK), -1);
}

// ---------------------------------------------------------------------------------------------------------------------
// The command line

static void test_refusals(void** state) {
    (void)state;
    const struct {
        const char* line;
        int code;
        const char* sentence;
    } cases[] = {
        {"--method freq", EXIT_USAGE, "--out is missing"},
        {"--method freq --out @/no", EXIT_USAGE, "--method freq counts tokens, but no shards are named"},
        {"--method snake --out @/no", EXIT_USAGE, "--method snake counts tokens, but no shards are named"},
        {"--method best --out @/no", EXIT_USAGE, "--method is \"best\": expected one of sequential, freq, snake, matching"},
        {"--method matching --out @/no --costs @/tiny.costs", EXIT_USAGE, "name it with --codebook"},
        {"--method matching --out @/no --codebook @/tiny.codebook", EXIT_USAGE, "measured with it with --costs"},
        {"--out @/no --codebook @/tiny.codebook", EXIT_USAGE,
         "--codebook is for --method matching, but the method is sequential"},
        {"--out @/no --costs @/tiny.costs", EXIT_USAGE, "--costs is for --method matching"},
        {"--out @/no --rounds 2", EXIT_USAGE, "--rounds is for --method matching"},
        {"--method matching --out @/no --codebook @/tiny.codebook --costs @/tiny.costs --columns 2", EXIT_USAGE,
         "--columns is given, but --method matching keeps those of"},
        {"--out @/no --vocab_size 7 --columns 8", EXIT_USAGE, "--columns is 8, but there are only 7 ids"},
        {"--out @/no --colums 8", EXIT_USAGE, "did you mean --columns?"},
        {"@/few_0.bin @/few_*.bin --out @/no --vocab_size 7", EXIT_USAGE, "few_0.bin is named twice"},
        {"@/missing_*.bin --out @/no", EXIT_FAIL, "no file matches"},
        {"@/none_0.bin --out @/no", EXIT_FAIL, "no token in the 1 shards named"},
        {"@/few_0.bin --method freq --out @/no --vocab_size 4", EXIT_FAIL,
         "few_0.bin: holds id 4, expected ids below --vocab_size 4"},
        {"--method matching --out @/no --codebook @/tiny.codebook --costs @/tiny.costs", EXIT_FAIL,
         "made for 4 tokens, expected 50257"},
        {"--method matching --out @/no --codebook @/f --costs @/tiny.costs --vocab_size 7", EXIT_FAIL,
         "measured with another codebook"},
        {"--out @/missing/no", EXIT_FAIL, "missing/no.tmp: cannot create"},
        {"--out @/few_0.bin", EXIT_FAIL, "few_0.bin: exists and is not a codebook, so it is kept"},
        {"--out @/tiny.costs", EXIT_FAIL, "tiny.costs: exists and is a file of codebook costs, so it is kept"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (run_child(build_codebook, cases[i].line) != cases[i].code) fail_msg("%s: %s", cases[i].line, child_output);
        assert_says(cases[i].sentence);
    }
    assert_int_equal(access(test_path("no"), F_OK), -1);
    assert_int_equal(access(test_path("no.tmp"), F_OK), -1);
    assert_int_equal(run_child(build_codebook, "--help"), 0);
    assert_says("--method");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),  cmocka_unit_test(test_shapes),        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_damage),   cmocka_unit_test(test_damaged_costs), cmocka_unit_test(test_wrong_codebooks),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("codebooks", tests, write_files, test_dir_remove);
}
