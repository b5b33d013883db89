/*
The ground that all arenas stand on: the parameter table (where tensors lie, how they start) and the arena itself, with its guard
zones compiled in.
*/
#ifndef AHEAD_GUARDS
#define AHEAD_GUARDS 1
#endif
#include "child.h"

#include "llmc/base/arena.cuh"
#include "llmc/base/params.h"

// A small model's tensors, in table order or backwards; padding: rows of wte beyond the 37 live ones.
static ParamTable small_table(bool backwards, int padding) {
    ParamTable t = {};
    for (int i = 0; i < 5; i++) {
        int which = backwards ? 4 - i : i;
        if (which == 0) {
            int wte = params_add_matrix(&t, "wte", 37 + padding, 24, INIT_NORMAL, 0.02f, true);
            t.rows[wte].live_rows = 37;
        }
        if (which == 1) params_add_vector(&t, "norm.w", 77, INIT_ONE, 0, false);
        if (which == 2) params_add_vector(&t, "norm.b", 256, INIT_ZERO, 0, false);
        if (which == 3) params_add_matrix(&t, "fc.w", 101, 64, INIT_UNIFORM, 0.125f, true);
        if (which == 4) params_add_vector(&t, "one", 1, INIT_NORMAL, 1.0f, false);
    }
    return t;
}

static float* initialised(const ParamTable* t, uint64_t seed) {
    float* masters = (float*)xcalloc(t->size * sizeof(float));
    params_init(t, masters, seed);
    return masters;
}

static void table_layout(void** state) {
    (void)state;
    ParamTable t = small_table(false, 3);
    size_t end = 0;
    for (int id = 0; id < t.count; id++) {
        const Param* p = &t.rows[id];
        assert_int_equal(p->offset % PARAM_UNIT, 0);
        assert_true(p->offset >= end && p->offset < end + PARAM_UNIT);
        assert_int_equal(p->size, p->dims[0] * p->dims[1] * p->dims[2]);
        assert_int_equal(params_find(&t, p->name), id);
        end = p->offset + p->size;
    }
    assert_int_equal(t.size, round_up(end, PARAM_UNIT));
    assert_int_equal(params_find(&t, "wt"), -1);
    assert_int_equal(params_live(&t), 37 * 24 + 77 + 256 + 101 * 64 + 1);
    free(t.rows);
    memset(&t, 0, sizeof(t));
    for (int i = 0; i < 1000; i++) {  // the table grows
        char name[32];
        snprintf(name, sizeof(name), "h.%d.w", i);
        assert_int_equal(params_add_vector(&t, name, 257, INIT_ZERO, 0, false), i);
    }
    assert_int_equal(t.size, 1000 * 512);
    assert_string_equal(t.rows[999].name, "h.999.w");
    free(t.rows);
}

static void initial_values(void** state) {
    (void)state;
    ParamTable t = small_table(false, 3);
    float* w = initialised(&t, 42);
    double sum = 0, squares = 0, largest = 0;
    for (int i = 0; i < 37 * 24; i++) sum += w[i], squares += (double)w[i] * w[i];
    assert_true(fabs(sum / (37 * 24)) < 0.003 && fabs(sqrt(squares / (37 * 24)) / 0.02 - 1) < 0.1);
    for (int i = 37 * 24; i < 40 * 24; i++) assert_true(w[i] == 0);
    for (int i = 0; i < 77; i++) assert_true(w[t.rows[1].offset + i] == 1);
    for (int i = 0; i < 256; i++) assert_true(w[t.rows[2].offset + i] == 0);
    for (int i = 0; i < 101 * 64; i++) largest = fmax(largest, fabsf(w[t.rows[3].offset + i]));
    assert_true(largest < 0.125 && largest > 0.124);
    for (int id = 0; id + 1 < t.count; id++) {
        for (size_t i = t.rows[id].offset + t.rows[id].size; i < t.rows[id + 1].offset; i++) assert_true(w[i] == 0);
    }
    free(w);
    free(t.rows);
}

// A tensor's values follow from the seed and its name: not from its place, its neighbours or its padding.
static void initial_values_follow_names(void** state) {
    (void)state;
    ParamTable t = small_table(false, 3), others[] = {small_table(true, 3), small_table(false, 91), small_table(false, 3)};
    float* w = initialised(&t, 42);
    for (int k = 0; k < 3; k++) {
        ParamTable* u = &others[k];
        float* x = initialised(u, k == 2 ? 43 : 42);
        for (int id = 0; id < t.count; id++) {
            const Param *p = &t.rows[id], *q = &u->rows[params_find(u, p->name)];
            size_t live = p->size / p->dims[0] * p->live_rows;
            bool same = !memcmp(w + p->offset, x + q->offset, live * sizeof(float));
            bool random = p->init == INIT_NORMAL || p->init == INIT_UNIFORM;
            assert_int_equal(same, !(random && k == 2));  // another seed, other values
            for (size_t i = live; i < q->size; i++) assert_true(x[q->offset + i] == 0);
        }
        free(x);
        free(u->rows);
    }
    const Param* fc = &t.rows[params_find(&t, "fc.w")];
    for (int i = 0; i < 24; i++) assert_true(w[i] / 0.02f != w[fc->offset + i] / 0.125f);
    free(w);
    free(t.rows);
}

// ---------------------------------------------------------------------------------------------------------------------
enum { SLICES = 5 };
static char* slices[SLICES];
static const size_t slice_bytes[SLICES] = {1, 256, 0, 1000, 70000};

static Arena small_arena(void) {
    static const char* names[SLICES] = {"first", "second", "none", "third", "last"};
    Arena a = {};
    a.name = "activations";
    for (int i = 0; i < SLICES; i++) arena_add(&a, names[i], &slices[i], slice_bytes[i]);
    arena_allocate(&a);
    return a;
}

static void arena_slices(void** state) {
    (void)state;
    Arena a = small_arena();
    char* end = a.base;
    for (int i = 0; i < SLICES; i++) {
        if (slice_bytes[i] == 0) {
            assert_null(slices[i]);
            continue;
        }
        assert_int_equal((uintptr_t)slices[i] % ARENA_ALIGN, 0);
        assert_true(slices[i] >= end);
        for (size_t b = 0; b < slice_bytes[i]; b++) assert_true(slices[i][b] == 0);
        memset(slices[i], 0xff, slice_bytes[i]);  // all of it is ours
        end = slices[i] + slice_bytes[i] + ARENA_GUARD;
    }
    assert_true(end <= a.base + a.bytes);
    arena_check(&a);
    arena_free(&a);
    assert_null(a.base);
}

static void write_behind(const void* argument) {
    Arena a = small_arena();
    slices[3][*(const int*)argument] = 1;
    arena_check(&a);
}
static void ask_for_too_much(const void* argument) {
    (void)argument;
    Arena small = {}, large = {};
    void* slot;
    small.name = "parameters", large.name = "activations";
    arena_add(&small, "w", &slot, 1 << 20);
    arena_add(&large, "qkv", &slot, (size_t)1 << 50);
    Arena* both[] = {&small, &large};
    arenas_must_fit(both, 1, 0);
    printf("the small one fits; ");
    arenas_must_fit(both, 2, 0);
}
static void too_many_slices(const void* argument) {
    (void)argument;
    Arena a = {};
    void* slot;
    a.name = "activations";
    for (int i = 0; i <= ARENA_SLICES; i++) arena_add(&a, "x", &slot, 8);
}

static void arena_refusals(void** state) {
    (void)state;
    const int inside = 999, behind = 1024, far_behind = 1024 + ARENA_GUARD - 1;
    assert_int_equal(run_child(write_behind, &inside), 0);
    assert_int_equal(run_child(write_behind, &behind), EXIT_FAIL);
    assert_says("something wrote 0 bytes behind third of activations");
    assert_int_equal(run_child(write_behind, &far_behind), EXIT_FAIL);
    assert_says("behind third of activations");
    assert_int_equal(run_child(ask_for_too_much, NULL), EXIT_FAIL);
    assert_says("the small one fits");
    assert_says("1048576.00 GiB of it activations");
    assert_says("lower --batch_size");
    assert_int_equal(run_child(too_many_slices, NULL), EXIT_FAIL);
    assert_says("arena activations: more than 96 slices");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_layout), cmocka_unit_test(initial_values), cmocka_unit_test(initial_values_follow_names),
        cmocka_unit_test(arena_slices), cmocka_unit_test(arena_refusals),
    };
    return cmocka_run_group_tests_name("ground", tests, NULL, NULL);
}
