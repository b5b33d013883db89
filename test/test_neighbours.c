/*
data/build_neighbours: its weights and cosines against sums in double precision, and what it refuses.
*/
#include "child.h"

#define main neighbours_main
#include "data/build_neighbours.c"
#undef main

enum { V = 61, VP = 64, C = 37, M = 5 };

// Runs build_neighbours with the words of a line; @ stands for the temporary folder.
static void build_neighbours(const void* line) { run_line(neighbours_main, "data/build_neighbours", (const char*)line); }

static void write_checkpoint(const char* file, const char* tensor, const float* data, const char* flags) {
    ParamTable table;
    CheckpointWriter w;
    RunState state = run_state_start();
    const int dims[] = {VP, C}, bias[] = {3};
    const float zeros[3] = {0, 0, 0};
    memset(&table, 0, sizeof table);
    int first = params_add(&table, "other", 1, bias, INIT_ZERO, 0, false);
    int wte = params_add(&table, tensor, 2, dims, INIT_ZERO, 0, false);
    bool good = checkpoint_writer_open(&w, test_path(file), &table, 1, flags, &state) &&
                checkpoint_writer_put(&w, first, CHECKPOINT_MASTERS, zeros, 3) &&
                checkpoint_writer_put(&w, wte, CHECKPOINT_MASTERS, data, VP * C) && checkpoint_writer_close(&w);
    if (!good) fail_msg("%s", w.error);
    free(table.rows);
}

// Rows around a common mean; rows 7 and 40 are twins.
static void fill_embedding(float* wte) {
    Rng rng = rng_start(3, "neighbours");
    for (int i = 0; i < VP * C; i++) wte[i] = 0.5f + (float)rng_below(&rng, 2001) / 1000.0f - 1.0f;
    memcpy(wte + 40 * C, wte + 7 * C, C * sizeof(float));
    for (int i = V * C; i < VP * C; i++) wte[i] = 100.0f;  // padding: would swamp the mean if it were counted
}

static double cosine(const float* wte, int a, int b) {
    double mean[C], ab = 0, aa = 0, bb = 0;
    for (int c = 0; c < C; c++) {
        mean[c] = 0;
        for (int v = 0; v < V; v++) mean[c] += (double)wte[v * C + c] / V;
        double x = (double)wte[a * C + c] - mean[c], y = (double)wte[b * C + c] - mean[c];
        ab += x * y, aa += x * x, bb += y * y;
    }
    return ab / sqrt(aa * bb);
}

static void test_weights(void** state) {
    (void)state;
    const float sims[] = {0.8f, 0.4f};
    float a[2];
    neighbour_weights(sims, 2, 0.2, a);
    assert_true(fabsf(a[0] - 0.880797f) < 1e-6f && fabsf(a[1] - 0.119203f) < 1e-6f);
}

static void test_against_double(void** state) {
    (void)state;
    float wte[VP * C];
    fill_embedding(wte);
    write_checkpoint("m.ckpt", "wte", wte, "--n_embd 37\n--vocab_size 61\n--seed 1\n");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/m.ckpt --out @/m1 --m 5 --tau 0.3 --threads 1"), 0);
    assert_says("5 neighbours for 61 of 61 ids, 37 channels, tau 0.3");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/m.ckpt --out @/m3 --m 5 --tau 0.3 --vocab_size 61 --threads 3"),
                     0);
    TopTable t = top_table_load(test_path("m1"), TABLE_NEIGHBOURS, V, M);
    for (int v = 0; v < V; v++) {
        double sims[V], best[M], sum = 0;
        for (int u = 0; u < V; u++) sims[u] = u == v ? -9 : cosine(wte, v, u);
        for (int j = 0; j < M; j++) {
            int at = 0, found = t.ids[v * M + j];
            for (int u = 1; u < V; u++) at = sims[u] > sims[at] ? u : at;
            assert_true(found >= 0 && fabs(sims[found] - sims[at]) < 1e-6);  // of all but equal ones either is right
            best[j] = sims[found];
            sum += exp(best[j] / 0.3);
            sims[found] = -9;
        }
        for (int j = 0; j < M; j++) assert_true(fabs((double)t.probs[v * M + j] - exp(best[j] / 0.3) / sum) < 2e-6);
        assert_true(t.p_top[v] == 1.0f && t.row_counts[v] == 0);
    }
    assert_int_equal(t.ids[7 * M], 40);  // twins find each other
    assert_int_equal(t.ids[40 * M], 7);
    top_table_free(&t);
    size_t size, same;
    char *one = file_read(test_path("m1"), 1 << 20, &size), *three = file_read(test_path("m3"), 1 << 20, &same);
    assert_int_equal(size, same);
    assert_memory_equal(one, three, size);
    free(one);
    free(three);
}

// Rows without a direction: 0 and 3 are the mean of the others. Equal cosines: the smaller id first.
static void test_no_direction(void** state) {
    (void)state;
    float wte[VP * C];
    memset(wte, 0, sizeof wte);
    wte[1 * C] = wte[2 * C + 1] = wte[6 * C + 1] = 1.0f;  // 2 and 6 point one way, 4 and 5 the opposite ways of 1 and 2
    wte[4 * C] = wte[5 * C + 1] = -1.0f;
    wte[7 * C + 1] = -1.0f;
    write_checkpoint("zero.ckpt", "wte", wte, "");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/zero.ckpt --out @/zero --m 5 --vocab_size 8"), 0);
    assert_says("5 neighbours for 6 of 8 ids");
    TopTable t = top_table_load(test_path("zero"), TABLE_NEIGHBOURS, 8, 5);
    const int of_1[] = {2, 5, 6, 7, 4}, of_2[] = {6, 1, 4, 5, 7};
    for (int j = 0; j < 5; j++) {
        assert_int_equal(t.ids[1 * 5 + j], of_1[j]);
        assert_int_equal(t.ids[2 * 5 + j], of_2[j]);
        assert_int_equal(t.ids[0 * 5 + j], -1);
        assert_int_equal(t.ids[3 * 5 + j], -1);
    }
    assert_true(t.p_top[0] == 0.0f && t.p_top[3] == 0.0f && t.p_top[1] == 1.0f);
    top_table_free(&t);
    memset(wte, 0, sizeof wte);
    write_checkpoint("same.ckpt", "wte", wte, "");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/same.ckpt --out @/no --vocab_size 61"), EXIT_FAIL);
    assert_says("all rows of its embedding are the same");
}

static void test_refusals(void** state) {
    (void)state;
    float wte[VP * C];
    fill_embedding(wte);
    assert_int_equal(run_child(build_neighbours, "--out @/no"), EXIT_USAGE);
    assert_says("--checkpoint is missing");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/m.ckpt"), EXIT_USAGE);
    assert_says("--out is missing");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/m.ckpt --out @/no --m 61"), EXIT_USAGE);
    assert_says("--m is 61, but an id has only 60 others");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/m.ckpt --out @/no --tau 0"), EXIT_USAGE);
    assert_says("--tau is 0: expected a number in 0.001..100");
    assert_int_equal(run_child(build_neighbours, "@/m.ckpt --out @/no"), EXIT_USAGE);
    assert_says("unexpected");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/m.ckpt --out @/no --vocab_size 65"), EXIT_FAIL);
    assert_says("its embedding has 64 rows, expected at least 2 and at least --vocab_size 65");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/missing.ckpt --out @/no"), EXIT_FAIL);
    assert_says("missing.ckpt: cannot open");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/m.ckpt --out @/m.ckpt"), EXIT_FAIL);
    assert_says("m.ckpt: exists and is not a table, so it is kept");
    write_checkpoint("light.ckpt", "wte_row", wte, "--vocab_size 61\n");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/light.ckpt --out @/no"), EXIT_FAIL);
    assert_says("has no embedding \"wte\"");
    wte[11 * C] = NAN;
    write_checkpoint("nan.ckpt", "wte", wte, "--vocab_size 61\n");
    assert_int_equal(run_child(build_neighbours, "--checkpoint @/nan.ckpt --out @/no"), EXIT_FAIL);
    assert_says("the embedding of id 11 is not finite");
    assert_int_equal(access(test_path("no"), F_OK), -1);
    assert_int_equal(access(test_path("no.tmp"), F_OK), -1);
    assert_int_equal(run_child(build_neighbours, "--help"), 0);
    assert_says("--tau");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_against_double),
        cmocka_unit_test(test_no_direction),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("data/build_neighbours", tests, NULL, test_dir_remove);
}
