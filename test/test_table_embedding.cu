/*
The embedding in two parts, rows and columns of a table: its sums, and their gradients, which have one order.
*/
#include "buffer.h"

#include "llmc/ops/table_embedding.cuh"

// tokens (N): every third one the same, so that one row and one column are long runs
static void skewed_tokens(int* tokens, int count, int V, const char* name) {
    Rng rng = rng_start(3, name);
    for (int i = 0; i < count; i++) tokens[i] = i % 3 == 0 ? 5 : (int)rng_below(&rng, V);
}

static void embedding_sums(void** state) {
    (void)state;
    enum { ROWS = 7, COLUMNS = 6, VOCABULARY = 40, POSITIONS = 48, WIDTH = 32, LENGTH = 12 };
    int tokens[POSITIONS], row_of[VOCABULARY], column_of[VOCABULARY], scratch[2 * POSITIONS + ROWS + 1];
    for (int v = 0; v < VOCABULARY; v++) row_of[v] = v * 11 % 42 / COLUMNS, column_of[v] = v * 11 % 42 % COLUMNS;
    skewed_tokens(tokens, POSITIONS, VOCABULARY, "embedding");
    memset(scratch, 0xff, sizeof(scratch));
    const float *rows = normal_values("rows", ROWS * WIDTH, 1), *columns = normal_values("columns", COLUMNS * WIDTH, 1),
                *wpe = normal_values("wpe", LENGTH * WIDTH, 1), *dres = normal_values("dres", POSITIONS * WIDTH, 1);
    int *ids = buffer_i(tokens, POSITIONS), *keys[2] = {buffer_i(row_of, VOCABULARY), buffer_i(column_of, VOCABULARY)};
    float* x = buffer_f(NULL, POSITIONS * WIDTH);
    for (int positions = 0; positions < 2; positions++) {
        TableEmbedding e = {keys[0],
                            keys[1],
                            buffer_x(rows, ROWS * WIDTH),
                            buffer_x(columns, COLUMNS * WIDTH),
                            positions ? buffer_x(wpe, LENGTH * WIDTH) : NULL,
                            LENGTH,
                            0};
        table_embedding(x, ids, e, POSITIONS, WIDTH, 0);
        const float* found = host_f(x, POSITIONS * WIDTH);
        for (int n = 0; n < POSITIONS * WIDTH; n++) {
            int v = tokens[n / WIDTH], i = n % WIDTH;
            double want = (double)rows[row_of[v] * WIDTH + i] + columns[column_of[v] * WIDTH + i];
            if (positions) want += wpe[n / WIDTH % LENGTH * WIDTH + i];
            assert_off(found[n], want, 1e-6, "x, element %d", n);
        }
    }
    for (int table = 0; table < 2; table++) {
        int G = table ? COLUMNS : ROWS;
        const int* key_of = table ? column_of : row_of;
        float *before = normal_values("before", ROWS * WIDTH, 1), *once = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            device_threads(threads);
            float* d = buffer_f(before, (size_t)G * WIDTH);
            table_embedding_backward(d, buffer_x(dres, POSITIONS * WIDTH), ids, keys[table],
                                     buffer_i(scratch, 2 * POSITIONS + ROWS + 1), POSITIONS, G, WIDTH, 0);
            if (once) assert_true(same_bits(d, once, (size_t)G * WIDTH));
            once = d;
        }
        const float* found = host_f(once, (size_t)G * WIDTH);
        for (int g = 0; g < G * WIDTH; g++) {
            double want = before[g];
            for (int n = 0; n < POSITIONS; n++) want += key_of[tokens[n]] == g / WIDTH ? dres[n * WIDTH + g % WIDTH] : 0;
            assert_off(found[g], want, 2e-5, "table %d, element %d", table, g);
        }
    }
}

// Keys of which some are left out: every group in the order of its entries.
static void groups_in_order(void** state) {
    (void)state;
    enum { ENTRIES = 300, GROUPS = 70 };
    int keys[ENTRIES], order[ENTRIES], first[GROUPS + 1], at = 0;
    Rng rng = rng_start(5, "keys");
    for (int n = 0; n < ENTRIES; n++) keys[n] = n % 3 ? (int)rng_below(&rng, GROUPS + 1) - 1 : 40;
    int *found = buffer_i(NULL, ENTRIES), *starts = buffer_i(NULL, GROUPS + 1);
    group_order(found, starts, buffer_i(keys, ENTRIES), ENTRIES, GROUPS, 0);
    device_sync();
    copy_to_host(order, found, sizeof(order)), copy_to_host(first, starts, sizeof(first));
    for (int g = 0; g < GROUPS; g++) {
        assert_int_equal(first[g], at);
        for (int n = 0; n < ENTRIES; n++) {
            if (keys[n] == g) assert_int_equal(order[at++], n);
        }
    }
    assert_int_equal(first[GROUPS], at);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(embedding_sums, release_buffers),
        cmocka_unit_test_teardown(groups_in_order, release_buffers),
    };
    return cmocka_run_group_tests_name("table_embedding " PRECISION_NAME, tests, NULL, NULL);
}
