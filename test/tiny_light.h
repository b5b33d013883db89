/*
Tiny models with a lightrnn head, and codebooks for them. Needs buffer.h and llmc/model/setup.cuh.
*/
#pragma once

enum { PASSES = BRIEF ? 1 : 2 };

// tokens (count): every third one the same, so that one row and one column are long runs
UNUSED static void skewed_tokens(int* tokens, int count, int V, const char* name) {
    Rng rng = rng_start(3, name);
    for (int i = 0; i < count; i++) tokens[i] = i % 3 == 0 ? 5 : (int)rng_below(&rng, V);
}

// A model of one layer. Its codebook is the test's.
typedef struct {
    int B, T, C, V, K;  // K targets
    bool light_embedding;
    Codebook book;
} LightShape;

// tied: only of the shared decoder with a lightrnn embedding. rank: only of the low-rank one. exact: n-grams are words.
UNUSED static Config light_config(LightShape s, LightDecoder decoder, int rank, bool tied, bool exact) {
    Config c = {};
    c.L = 1, c.NH = (s.C + 127) / 128, c.C = s.C, c.V = s.V, c.B = s.B, c.T = s.T;
    c.head = HEAD_LIGHTRNN, c.embedding = s.light_embedding ? EMBEDDING_LIGHTRNN : EMBEDDING_DENSE;
    c.decoder = decoder, c.light_rank = rank, c.tied = tied;
    c.book = s.book;
    c.aux.ahead.K = s.K;
    c.aux.table_k[0] = 3, c.aux.exact = exact;
    config_arch(&c, "nocap");
    return c;
}

UNUSED static void open_light_config(Model* m, Config c) {
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_plan_shape(m, c.B, c.T);
    model_init_weights(m, 7);
    float one = 1;  // no loss scale, in any precision
    copy_to_device(&m->state->scaler.scale, &one, sizeof(one));
}

UNUSED static void open_light_decoder(Model* m, LightShape s, LightDecoder decoder, int rank, bool tied) {
    open_light_config(m, light_config(s, decoder, rank, tied, false));
}

UNUSED static void open_light(Model* m, LightShape s) { open_light_decoder(m, s, DECODER_PER_ROW, 0, false); }

UNUSED static Codebook book_alloc(int V, int rows, int columns) {
    Codebook b = {V,
                  rows,
                  columns,
                  (int32_t*)host_values((size_t)V),
                  (int32_t*)host_values((size_t)V),
                  (int32_t*)host_values((size_t)rows * columns),
                  (int32_t*)host_values((size_t)rows)};
    memset(b.token, 0xff, (size_t)rows * columns * sizeof(int32_t));
    memset(b.length, 0, (size_t)rows * sizeof(int32_t));
    return b;
}

// Tokens dealt to rows in turn, each row's cells from the left; the last rows are the shorter ones.
UNUSED static Codebook dealt_book(int V, int rows) {
    Codebook b = book_alloc(V, rows, (V + rows - 1) / rows);
    for (int v = 0; v < V; v++) {
        int r = v * 7 % rows;
        while (b.length[r] == b.columns) r = (r + 1) % rows;
        b.row[v] = r, b.col[v] = b.length[r]++;
        b.token[r * b.columns + b.col[v]] = v;
    }
    return b;
}

UNUSED static Codebook ordered_book(int V, int columns) {
    Codebook b = codebook_sequential(V, columns), mine = book_alloc(V, b.rows, b.columns);
    memcpy(mine.row, b.row, (size_t)V * sizeof(int32_t));
    memcpy(mine.col, b.col, (size_t)V * sizeof(int32_t));
    codebook_index("a test", &mine, "look at it");
    codebook_free(&b);
    return mine;
}

UNUSED static void put(Model* m, int id, const float* values) {
    copy_to_device(m->masters + m->table.rows[id].offset, values, m->table.rows[id].size * sizeof(float));
    model_weights_changed(m);
}

UNUSED static void put_weights(Model* m, const float* w, int count) {
    StepWeights weights = {};
    for (int k = 0; k < count; k++) weights.token[k] = w[k];
    targets_start(m, weights);
}
