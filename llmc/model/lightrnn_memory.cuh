/*
What the LightRNN head (head_lightrnn.cuh) has: its parameters, its slices of the activations, and the plans of its products.

    slices, N positions of K targets     both                                                GPU
                                         row ids, item of a target, item position 4NK each   item keys, item order 4NK each
                                         item ids, item losses 8NK each                      tiles 16 (2N/64 + rows) a wave
                                         first item 4 (rows + 1)                             row lengths 4 rows
    n-grams that are words               list ids, weights, share 4NK each, item weights 8NK       K: with the n-grams of a row
*/
#pragma once

#include "../ops/gemm_grouped.cuh"
#include "../ops/items.cuh"
#include "model.cuh"

UNUSED static void light_params(Model* m) {
    const Config* c = &m->config;
    LightRnn* l = &m->light;
    ParamTable* t = &m->table;
    int R = c->book.rows, K = c->book.columns, Rp = (int)round_up((size_t)R, 8), Kp = (int)round_up((size_t)K, 8);
    m->lm_head = -1;
    l->row_w = params_add_matrix(t, "head.row.w", Rp, c->C, INIT_NORMAL, 0.02f, true);
    l->row_b = params_add_vector(t, "head.row.b", Rp, INIT_ZERO, 0.0f, c->decay_vectors);
    l->col_w = params_add_matrix(t, "head.column.w", R * Kp, c->C, INIT_NORMAL, 0.02f, true);
    l->col_b = params_add_vector(t, "head.column.b", R * Kp, INIT_ZERO, 0.0f, c->decay_vectors);
    t->rows[l->row_w].live_rows = t->rows[l->row_b].live_rows = R;
    for (int id = l->col_w; id <= l->col_b; id++) {
        t->rows[id].live_rows = K, t->rows[id].period = Kp;
        t->rows[id].scatter = true;
    }
}

static int light_wave_items(const Config* c) { return 2 * c->B * c->T; }

// n-grams that are words: the targets of so many positions, and the weights of so many items' targets.
UNUSED static void light_plan_list(Model* m, size_t positions, size_t item_targets) {
    LightRnn* l = &m->light;
    Arena* a = &m->activations;
    size_t on = m->config.aux.exact ? 1 : 0, entries = on * positions * (size_t)light_entries(&m->config);
    arena_add(a, "list ids", &l->list.ids, entries * sizeof(int));
    arena_add(a, "list weights", &l->list.weights, entries * sizeof(float));
    arena_add(a, "list shares", &l->list.share, entries * sizeof(float));
    arena_add(a, "item weights", &l->item_weights, on * item_targets * sizeof(float));
}

UNUSED static void light_plan_activations(Model* m) {
    const Config* c = &m->config;
    LightRnn* l = &m->light;
    Arena* a = &m->activations;
    size_t K = (size_t)light_entries(c), N = (size_t)c->B * c->T, NK = N * K, I = sizeof(int), F = sizeof(float);
    size_t wave = (size_t)light_wave_items(c) * K;
    size_t Rp = round_up((size_t)c->book.rows, 8);
    arena_add(a, "row ids", &l->row_ids, NK * I);
    arena_add(a, "item of a target", &l->slot, NK * I);
    arena_add(a, "item position", &l->item_position, NK * I);
    arena_add(a, "item ids", &l->item_ids, wave * I);
    arena_add(a, "first item", &l->first, ((size_t)c->book.rows + 1) * I);
    arena_add(a, "item losses", &l->item_losses, wave * F);
    arena_add(a, "row bias sums", &l->bias_scratch, m->training ? (size_t)device_teams(COLUMN_TEAMS) * Rp * F : 0);
    light_plan_list(m, N, wave);
    if (!planning.gpu) return;
    size_t waves = (K + 1) / 2, tiles = waves * (size_t)group_tiles_most(c->book.rows, GROUP_TILE, light_wave_items(c));
    arena_add(a, "item keys", &l->item_keys, NK * I);
    arena_add(a, "item order", &l->item_order, NK * I);
    arena_add(a, "row lengths", &l->lengths, (size_t)c->book.rows * I);
    arena_add(a, "item tiles", &l->tiles, tiles * sizeof(GroupTile));
}

// CPU: products of one thread each, for the small groups.
UNUSED static void light_allocate(Model* m) {
    LightRnn* l = &m->light;
#if GPU_EXECUTION
    copy_to_device(l->lengths, m->config.book.length, (size_t)m->config.book.rows * sizeof(int));
#else
    int threads = device_team_count();
    l->gemm_count = threads;
    l->gemms = (Gemm*)xcalloc((size_t)threads * sizeof(Gemm));
    omp_set_num_threads(1);
    for (int t = 0; t < threads; t++) gemm_init(&l->gemms[t], 0);
    omp_set_num_threads(threads);
    omp_set_max_active_levels(1);  // kernels started by one of several threads run in it alone
#endif
}

UNUSED static void light_free(Model* m) {
    for (int t = 0; t < m->light.gemm_count; t++) gemm_free(&m->light.gemms[t]);
    free(m->light.gemms);
}

UNUSED static void light_plan_shape(Model* m, int N) {
    const Config* c = &m->config;
    int Rp = (int)round_up((size_t)c->book.rows, 8), cells = c->book.rows * (int)round_up((size_t)c->book.columns, 8);
    bool fp32 = sizeof(floatX) == sizeof(float);
    plan_chunks(m, N, c->C, Rp, true);
    gemm_plan(&m->gemm, GEMM_FORWARD, HEAD_SAMPLE_ROWS, c->C, Rp, fp32, true, false);
    gemm_plan(&m->gemm, GEMM_FORWARD, HEAD_SAMPLE_ROWS, c->C, cells, fp32, true, false);
}
