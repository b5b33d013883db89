/*
The golden files themselves: every one reads, is small enough and says why it exists; damaged ones are refused; comparisons
fail when they must; llmc/base/rand.h gives the recorded numbers.
*/
#include "gold.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { FILE_LIMIT = 256 * 1024, TOTAL_LIMIT = 4 * 1024 * 1024 };

static const char* golden_folder(void) {
    const char* folder = getenv("AHEAD_GOLDEN");
    return folder ? folder : "test/golden";
}

static void test_all_files_read(void** state) {
    (void)state;
    DIR* dir = opendir(golden_folder());
    if (!dir) fail_msg("%s: no such folder; run from the project root", golden_folder());
    size_t total = 0;
    int files = 0;
    for (struct dirent* entry; (entry = readdir(dir));) {
        const char* ending = strstr(entry->d_name, ".gold");
        if (!ending) continue;
        char path[600], name[64];
        struct stat info;
        snprintf(path, sizeof(path), "%s/%s", golden_folder(), entry->d_name);
        snprintf(name, sizeof(name), "%.*s", (int)(ending - entry->d_name), entry->d_name);
        assert_int_equal(stat(path, &info), 0);
        if (info.st_size > FILE_LIMIT) fail_msg("%s has %ld bytes, the limit is %d", path, (long)info.st_size, FILE_LIMIT);
        total += (size_t)info.st_size;
        files++;
        Gold* g = gold_open(name);
        assert_string_equal(g->name, name);
        assert_true(strlen(g->why) > 10);
        gold_close(g);
    }
    closedir(dir);
    assert_true(files >= 30);
    if (total > TOTAL_LIMIT) fail_msg("%s holds %zu bytes, the limit is %d", golden_folder(), total, TOTAL_LIMIT);
}

// ---------------------------------------------------------------------------------------------------------------------
// Damaged files. Each is a copy of a good one with one change.
static uint8_t good[FILE_LIMIT];
static size_t good_size;

static void load_good(void) {
    char path[600];
    snprintf(path, sizeof(path), "%s/classifier_vector.gold", golden_folder());
    FILE* file = fopen(path, "rb");
    if (!file) fail_msg("%s: %s", path, strerror(errno));
    good_size = fread(good, 1, sizeof(good), file);
    fclose(file);
}

// Writes bytes to a temporary file and returns the reader's complaint, or "" if it was read.
static const char* complaint(const uint8_t* bytes, size_t size) {
    static char message[512];
    char path[] = "/tmp/ahead_gold_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    close(fd);
    Gold* g = (Gold*)xcalloc(sizeof(Gold));
    bool ok = gold_read(g, path);
    snprintf(message, sizeof(message), "%s", ok ? "" : g->message);
    gold_close(g);
    unlink(path);
    return message;
}

static void assert_complains(const char* message, const char* part) {
    if (!strstr(message, part)) fail_msg("expected a complaint with \"%s\", got \"%s\"", part, message);
}

static void test_damaged_files_are_refused(void** state) {
    (void)state;
    load_good();
    assert_string_equal(complaint(good, good_size), "");
    assert_complains(complaint(good, 0), "truncated");
    assert_complains(complaint(good, 100), "truncated");
    assert_complains(complaint(good, good_size - 64), "truncated");
    for (size_t cut = 0; cut + 64 <= good_size; cut += 37) assert_true(*complaint(good, cut));
    uint8_t* bad = (uint8_t*)xmalloc(good_size);
    memcpy(bad, good, good_size);
    bad[good_size - 64] ^= 1;  // the first byte of the last tensor
    assert_complains(complaint(bad, good_size), "corrupt");
    const char* edits[][3] = {
        // same length: what to find, what to put, the complaint
        {"gold 1", "gold 2", "not a golden file"},
        {"bf16", "bf17", "unknown type"},
        {"param ", "parrot", "bad line"},
        {"tensor", "tenser", "bad line"},
        {" crc ", " cry ", "no offset and crc"},
        {"err_bf16", "err_bf32", "unknown word"},
        {"err_bf16 ", "err_bf16 n", ""},
        {"err_fp32 ", "err_fp32-", "unknown word"},
        {"why ", "who ", "bad line"},
        {" 2 8 @", " 0 8 @", "bad shape"},
        {" 2 8 @", " 9 9 @", ""},
    };
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        memcpy(bad, good, good_size);
        char* at = strstr((char*)bad, edits[i][0]);
        assert_non_null(at);
        memcpy(at, edits[i][1], strlen(edits[i][1]));
        const char* message = complaint(bad, good_size);
        assert_true(*message);
        assert_complains(message, edits[i][2]);
    }
    free(bad);
}

// ---------------------------------------------------------------------------------------------------------------------
// Comparisons fail when they must: in a child process, whose exit code tells.
static int run_child(void (*body)(void**)) {
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    if (!child) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1), dup2(null, 2);
        const struct CMUnitTest tests[] = {cmocka_unit_test(body)};
        _exit(cmocka_run_group_tests(tests, NULL, NULL));
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int mutation;  // what the child does to a copy of the recorded values

static void compare_mutated(void** state) {
    (void)state;
    Gold* g = gold_open("matmul_n24");
    const GoldTensor* t = gold_tensor(g, "y");
    float* ours = (float*)xmalloc(4 * t->count);
    memcpy(ours, t->f32, 4 * t->count);
    if (mutation == 1) ours[t->count - 1] += 1e-4f;
    if (mutation == 2) ours[7] = NAN;
    if (mutation == 3) ours[7] = INFINITY;
    if (mutation == 4) ours[7] *= 1.0f + 3e-7f;
    gold_check(g, "y", ours, mutation == 5 ? GOLD_BF16 : GOLD_FP32);
    if (mutation == 6) gold_check(g, "x", ours, GOLD_FP32);  // an input has no tolerance
    if (mutation == 7) gold_tensor(g, "no such tensor");
    if (mutation == 8) gold_param(g, "no such parameter");
    free(ours);
    gold_close(g);
}

static void test_comparison_fails_when_it_must(void** state) {
    (void)state;
    const int expected[] = {0, 1, 1, 1, 0, 0, 1, 1, 1};
    for (mutation = 0; mutation < 9; mutation++) {
        int failures = run_child(compare_mutated);
        if (failures != expected[mutation])
            fail_msg("mutation %d: %d failures, expected %d", mutation, failures, expected[mutation]);
    }
}

static void test_infinities_must_agree(void** state) {
    (void)state;
    const float gold[4] = {1, INFINITY, -INFINITY, NAN};
    float ours[4] = {1, INFINITY, -INFINITY, NAN};
    double rms;
    size_t worst;
    assert_true(gold_error(ours, gold, 4, &rms, &worst) == 0);
    ours[1] = -INFINITY;
    assert_true(gold_error(ours, gold, 4, &rms, &worst) == (double)INFINITY && worst == 1);
    ours[1] = INFINITY, ours[3] = 0;
    assert_true(gold_error(ours, gold, 4, &rms, &worst) == (double)INFINITY && worst == 3);
}

// ---------------------------------------------------------------------------------------------------------------------
// rand.h
static void assert_bits(uint64_t ours, const int32_t* halves, const char* what) {
    uint64_t recorded = (uint64_t)(uint32_t)halves[1] << 32 | (uint32_t)halves[0];
    if (ours != recorded) fail_msg("%s: %016llx, recorded %016llx", what, (unsigned long long)ours, (unsigned long long)recorded);
}

static void test_rand(void** state) {
    (void)state;
    Gold* g = gold_open("rand");
    const char* names[3] = {"wte", "h.0.attn.qkv.w", ""};
    const uint64_t at[5] = {0, 1, 2, 1000000, 1ull << 33};
    uint64_t wte = rand_key(42, "wte"), qkv = rand_key(42, "h.0.attn.qkv.w");
    for (int i = 0; i < 3; i++) assert_bits(rand_key(42, names[i]), gold_ints(g, "keys") + 2 * i, names[i]);
    for (int i = 0; i < 5; i++) assert_bits(rand_at(wte, at[i]), gold_ints(g, "at") + 2 * i, "rand_at");
    float x[100];
    rand_fill_uniform(x, 100, 1.0f, wte);
    assert_memory_equal(x, gold_floats(g, "uniform"), sizeof(x));
    for (int i = 0; i < 100; i++) assert_true(rand_uniform(wte, (uint64_t)i) == x[i]);
    rand_fill_normal(x, 99, 1.0f, qkv);
    for (int i = 0; i < 99; i++) {
        assert_true(fabsf(x[i] - gold_floats(g, "normal")[i]) <= 1.2e-7f * fabsf(x[i]));  // one unit in the last place
        assert_true(rand_normal(qkv, (uint64_t)i) == x[i]);
    }
    Rng rng = rng_start(42, "sampling");
    for (int i = 0; i < 20; i++) assert_true(rng_uniform(&rng) == gold_floats(g, "draws")[i]);
    const uint64_t bounds[7] = {1, 2, 3, 10, 1000, 50257, 2147483647};
    Rng saved = rng;
    for (int again = 0; again < 2; again++, rng = saved)  // the state is all there is
        for (int i = 0; i < 7; i++) assert_int_equal(rng_below(&rng, bounds[i]), gold_ints(g, "below")[i]);
    for (int i = 0; i < 7; i++) rng_below(&rng, bounds[i]);
    int32_t order[37];
    rng_permutation(&rng, order, 37);
    gold_check_ints(g, "permutation", order);
    gold_close(g);
}

static void test_rand_moments(void** state) {
    (void)state;
    enum { N = 200001 };
    float* x = (float*)xmalloc(4 * N);
    for (int normal = 0; normal < 2; normal++) {
        double sum = 0, squares = 0, neighbours = 0;
        if (normal) rand_fill_normal(x, N, 2.0f, rand_key(1, "moments"));
        else rand_fill_uniform(x, N, 2.0f, rand_key(1, "moments"));
        for (int i = 0; i < N; i++) sum += x[i], squares += (double)x[i] * x[i], neighbours += i ? (double)x[i] * x[i - 1] : 0;
        double variance = normal ? 4.0 : 4.0 / 3;
        assert_true(fabs(sum / N) < 4 * sqrt(variance / N));
        assert_true(fabs(squares / N / variance - 1) < 4 * sqrt(2.0 / N));
        assert_true(fabs(neighbours / N) < 4 * variance / sqrt((double)N));
    }
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_files_read),
        cmocka_unit_test(test_damaged_files_are_refused),
        cmocka_unit_test(test_comparison_fails_when_it_must),
        cmocka_unit_test(test_infinities_must_agree),
        cmocka_unit_test(test_rand),
        cmocka_unit_test(test_rand_moments),
    };
    return cmocka_run_group_tests_name("gold", tests, NULL, NULL);
}
