/*
Matching of codebooks (data/codebook_match.h): the exact stages against enumeration, proofs by potentials, ties, prices.
*/
#include "harness.h"

#include "data/codebook_match.h"

#include "llmc/base/rand.h"

typedef struct {
    const Codebook* b;
    const CodebookCosts* c;
    const int32_t *row, *col;    // (V) given
    double rows, columns, both;  // the least of each: l_r, l_c, the sum
    double columns_of_given_rows, rows_of_given_columns;
    bool used[64];
} Best;

static void enumerate(Best* best, int v, double rows, double columns, bool given_rows, bool given_columns) {
    const Codebook* b = best->b;
    if (v == b->V) {
        best->rows = fmin(best->rows, rows);
        best->columns = fmin(best->columns, columns);
        best->both = fmin(best->both, rows + columns);
        if (given_rows) best->columns_of_given_rows = fmin(best->columns_of_given_rows, columns);
        if (given_columns) best->rows_of_given_columns = fmin(best->rows_of_given_columns, rows);
        return;
    }
    for (int r = 0; r < b->rows; r++) {
        for (int j = 0; j < b->length[r]; j++) {
            bool* used = &best->used[r * b->columns + j];
            if (*used) continue;
            *used = true;
            enumerate(best, v + 1, rows + (double)best->c->l_r[v * b->rows + r],
                      columns + (double)best->c->l_c[v * b->columns + j], given_rows && best->row[v] == r,
                      given_columns && best->col[v] == j);
            *used = false;
        }
    }
}

// Costs of one of three kinds: any, with many ties, and of tokens that are a million times as frequent as others.
static void random_costs(Rng* rng, CodebookCosts* c, int kind) {
    for (int v = 0; v < c->V; v++) {
        float count = kind == 2 ? powf(10, 6 * rng_uniform(rng)) : 1;
        for (int i = 0; i < c->rows + c->columns; i++) {
            float* at = i < c->rows ? &c->l_r[v * c->rows + i] : &c->l_c[v * c->columns + i - c->rows];
            *at = kind == 1 ? (float)rng_below(rng, 3) : count * rng_uniform(rng);
        }
    }
}

#define assert_near(a, b) \
    if (fabs((a) - (b)) > 1e-9 * (1 + fabs(b))) fail_msg("%s is %.15g, expected %.15g", #a, a, b)

static void test_against_enumeration(void** state) {
    (void)state;
    Rng rng = rng_start(1, "codebook");
    int stayed = 0, best_found[2] = {0, 0};
    for (int i = 0; i < 300; i++) {
        int V = 1 + (int)rng_below(&rng, i % 10 ? 6 : 8), columns = 1 + (int)rng_below(&rng, (uint64_t)V);
        int32_t order[8], row[8], col[8], new_row[8];
        rng_permutation(&rng, order, V);
        Codebook b = i % 2 ? codebook_from_order(V, columns, order) : codebook_snake(V, columns, order);
        CodebookCosts c = codebook_costs_alloc(&b);
        random_costs(&rng, &c, i % 3);
        Match stages;
        memset(&stages, 0, sizeof stages);
        stages.old = &b, stages.costs = &c;
        double bound = match_rows(&b, &c, row);
        match_places(&stages, false, row, col, 0);
        match_places(&stages, true, b.col, new_row, 0);
        Codebook two = codebook_from_cells("two stages", V, columns, row, col, "");
        Codebook other = codebook_from_cells("columns kept", V, columns, new_row, b.col, "");
        Best best = {&b, &c, row, b.col, INFINITY, INFINITY, INFINITY, INFINITY, INFINITY, {false}};
        enumerate(&best, 0, 0, 0, true, true);
        MatchCost found = match_cost(&two, &c);
        assert_near(found.rows, best.rows);
        assert_near(bound, best.rows);
        assert_near(found.columns, best.columns_of_given_rows);
        assert_near(match_cost(&other, &c).rows, best.rows_of_given_columns);

        double before = match_sum(match_cost(&b, &c)), after[2];
        for (int more = 0; more < 2; more++) {
            Match m = match_codebook(&b, &c, more ? 8 : 1, NULL);
            after[more] = match_sum(m.cost);
            if (more == 0) assert_near(m.bound, best.rows + best.columns);
            assert_true(after[more] <= before && after[more] <= match_sum(found));
            assert_true(m.bound <= best.both * (1 + 1e-9) && best.both <= after[more] * (1 + 1e-9));
            assert_near(match_sum(match_cost(&m.book, &c)), after[more]);
            assert_memory_equal(m.book.length, b.length, (size_t)b.rows * sizeof(int32_t));
            codebook_check("matched", &m.book, "");
            best_found[more] += after[more] <= best.both * (1 + 1e-9);
            match_free(&m);
        }
        assert_true(after[1] <= after[0]);
        stayed += after[0] < match_sum(found) * (1 - 1e-9);
        codebook_free(&two), codebook_free(&other), codebook_free(&b);
        codebook_costs_free(&c);
    }
    assert_true(stayed > 4);                                  // some of them are no better for new rows, and keep theirs
    assert_true(best_found[0] < 285 && best_found[1] > 295);  // of 300: prices find what the stages alone do not
}

// Tokens and lines of the table with something in common, so that rows and columns compete: prices bring it near the bound.
static void test_prices(void** state) {
    (void)state;
    enum { V = 300 };
    Codebook b = codebook_sequential(V, 17);
    CodebookCosts c = codebook_costs_alloc(&b);
    Rng rng = rng_start(4, "codebook");
    double gap[2];
    for (int v = 0; v < V; v++) {
        float count = 3000 / (float)(v + 3), a = rng_uniform(&rng), z = rng_uniform(&rng);
        for (int r = 0; r < b.rows; r++) c.l_r[v * b.rows + r] = count * (1 + 2 * a * r / b.rows + rng_uniform(&rng) / 4);
        for (int j = 0; j < b.columns; j++)
            c.l_c[v * b.columns + j] = count * (1 + 2 * z * j / b.columns + rng_uniform(&rng) / 4);
    }
    for (int more = 0; more < 2; more++) {
        Match m = match_codebook(&b, &c, more ? 8 : 1, NULL);
        gap[more] = (match_sum(m.cost) - m.bound) / m.bound;
        match_free(&m);
    }
    assert_true(gap[1] >= 0 && gap[1] < gap[0] / 2);
    codebook_free(&b);
    codebook_costs_free(&c);
}

// Too many for enumeration, but the potentials prove the result. A group without room, others of one place and with places left.
static void test_proof(void** state) {
    (void)state;
    enum { N = 3000, K = 40, STRIDE = 41 };
    Rng rng = rng_start(2, "codebook");
    float* cost = (float*)xmalloc(N * STRIDE * sizeof(float));
    int32_t ids[N], home[N], capacity[K], used[K] = {0};
    rng_permutation(&rng, ids, N);
    for (int k = 0; k < K; k++) capacity[k] = k == 7 ? 0 : k < 5 ? 1 : 90;
    for (int i = 0; i < N; i++) {
        float count = floorf(1e6f / (float)(i + 3)) - 400;
        home[i] = -1;
        for (int k = 0; k <= K; k++) cost[i * STRIDE + k] = fmaxf(count, 0) * ((float)k / K + 0.2f * fabsf(rng_uniform(&rng)));
    }
    Transport t = transport_solve(N, K, cost, STRIDE, ids, capacity, home, NULL);
    for (int i = 0; i < N; i++) used[t.group[i]]++;
    for (int k = 0; k < K; k++) {
        assert_true(used[k] <= capacity[k] && t.potential[k] <= 0 && (used[k] == capacity[k] || t.potential[k] == 0));
    }
    double total = transport_total(&t), bound = transport_bound(&t);
    assert_true(bound > 0 && total - bound <= 2 * N / t.scale + 1e-12 * total && bound - total <= 1e-12 * total);
    transport_free(&t);
    free(cost);
}

// The largest costs that a file may hold next to the smallest float: no sum overflows.
static void test_extremes(void** state) {
    (void)state;
    enum { V = 60 };
    Codebook b = codebook_sequential(V, 9);
    CodebookCosts c = codebook_costs_alloc(&b);
    Rng rng = rng_start(5, "codebook");
    const float values[] = {codebook_cost_max, 1, 0, 1e-45f};
    for (int i = 0; i < V * b.rows; i++) c.l_r[i] = values[rng_below(&rng, 4)];
    for (int i = 0; i < V * b.columns; i++) c.l_c[i] = values[rng_below(&rng, 4)];
    Match m = match_codebook(&b, &c, 8, NULL);
    assert_true(isfinite(m.bound) && match_sum(m.cost) < 1e30);  // all of the largest can be avoided
    for (size_t i = 0; i < (size_t)V * (size_t)b.rows; i++) assert_true(isfinite(m.priced[i]));
    match_free(&m);
    codebook_free(&b);
    codebook_costs_free(&c);
}

// What costs the same everywhere stays where it is, when all do and when the others move.
static void test_ties(void** state) {
    (void)state;
    enum { V = 200 };
    int32_t order[V];
    Rng rng = rng_start(3, "codebook");
    rng_permutation(&rng, order, V);
    Codebook b = codebook_from_order(V, 16, order);
    CodebookCosts c = codebook_costs_alloc(&b);
    for (int i = 0; i < V * b.rows; i++) c.l_r[i] = 3;
    for (int i = 0; i < V * b.columns; i++) c.l_c[i] = 2;
    Match m = match_codebook(&b, &c, 8, NULL);
    assert_int_equal(m.moved, 0);
    assert_near(m.cost.rows, 3.0 * V);
    match_free(&m);
    // token a belongs to b's row and b to a's: they change places, and only they move
    int a = b.token[0], other = b.token[3 * b.columns + 5];
    c.l_r[a * b.rows + 3] = c.l_r[other * b.rows] = 1;
    m = match_codebook(&b, &c, 8, NULL);
    assert_int_equal(m.moved, 2);
    assert_int_equal(m.new_rows, 2);
    assert_int_equal(m.book.token[0], other);
    assert_int_equal(m.book.token[3 * b.columns + 5], a);
    match_free(&m);
    codebook_free(&b);
    codebook_costs_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_enumeration),
        cmocka_unit_test(test_prices),
        cmocka_unit_test(test_proof),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_ties),
    };
    return cmocka_run_group_tests_name("matching of codebooks", tests, NULL, NULL);
}
