/*
The model's memory: parameters, activations, scratch. The code that walks it is trunk.cuh.

    arena         per parameter   slices
    parameters    4 (+2)          masters fp32 (+ weights floatX when that is not fp32)
    gradients     4               grads fp32
    optimizer     8               m, v
    activations   -               per layer and once, below

    N = B*T rows. Kept per layer until the backward pass (in units of N*C elements of floatX):
        y1 1 | xhat1 1 (LayerNorm) | qkv 3 | att 1 | y2 1 | xhat2 1 (LayerNorm) | z 4 | a 4 | rstd1, rstd2 (N), lse (B,NH,T) fp32
    Once: x (N,C) fp32 residual stream, updated in place by the GEMMs; dres (N,C); d4 (N,4C); dn (N,C); yf and xhatf (N,C);
          logits (chunk,Vp)
    --recompute gelu    one `a` for all layers
    --recompute block   one set for all layers, and per layer the fp32 stream that enters it
*/
#pragma once

#include "../base/arena.cuh"
#include "../ops/attention.cuh"
#include "../ops/attention_decode.cuh"
#include "../ops/cells.cuh"
#include "../ops/classifier.cuh"
#include "../ops/embedding.cuh"
#include "../ops/filter.cuh"
#include "../ops/gemm.cuh"
#include "../ops/norm.cuh"
#include "../ops/rope.cuh"
#include "../ops/spelling.cuh"
#include "../ops/table_embedding.cuh"
#include "../optim/adamw.cuh"
#include "config.h"

typedef struct {
    int ln1_w, ln1_b, ln2_w, ln2_b;  // ids in the parameter table, -1 = the trunk has none
    int qkv_w, qkv_b, attn_proj_w, attn_proj_b;
    int fc_w, fc_b, proj_w, proj_b;
} LayerParams;

typedef struct {
    floatX *y1, *xhat1, *qkv, *att, *y2, *xhat2, *z, *a;
    float *rstd1, *lse, *rstd2;
} LayerActs;

// The spelling head (spelling.cuh), and the token filter's scratch (head_filter.cuh).
typedef struct {
    int w, b;        // ids; -1: there is none
    uint8_t* table;  // (V,SPELL_ROW)
    int* letters;    // (N,M)
    float* norm;     // 2 numbers of ops/spelling.cuh
    floatX* logits;  // (chunk,M*SPELL_PADDED)
    float *letter_losses, *column_scratch;
} SpellingHead;

typedef struct {
    int *position, *slot;    // (rows), (N)
    float *factor, *counts;  // (rows), (B)
    float* losses;           // (STEP_LOSSES,N) of one micro-step
    FilterList list;
} FilterBuffers;

// Separate heads for later tokens (ahead_heads.cuh); [k]: of the head that looks k tokens ahead.
typedef struct {
    int w[STEP_TOKENS + 1], a[STEP_TOKENS + 1], b[STEP_TOKENS + 1];  // ids
    floatX* teacher;                                                 // (chunk,Vp) logits of the next token's head, shifted
    float* rstd;                                                     // (N) of a proj head's norm
} AheadHeads;

// A lightrnn embedding and head: two coordinates of a token instead of one id.
typedef struct {
    int rows, columns;                  // ids of the embedding's tables (embed.cuh)
    int cells;                          // id of the codebook in the parameter table, -1: the model has none
    int row_w, row_b, col_w, col_b;     // ids of the head (head_lightrnn.cuh)
    int *row_of, *column_of;            // (V) cell of each token
    int* sort;                          // scratch of the embedding's gradient
    int *row_ids, *slot;                // (N,K) row of each target; the item that scores it, -1: none
    SoftList list;                      // (N,K) targets, with n-grams that are words
    int *item_position, *item_ids;      // (N K) of the items, sorted by row: position; (wave,K) cells of the targets in its row
    float* item_weights;                // (wave,K) of those targets, with n-grams that are words
    int* first;                         // (rows + 1) first item of each row
    float *item_losses, *bias_scratch;  // (K,wave); column sums
    int *item_keys, *item_order;        // GPU: (N K) scratch of the sort
    int* lengths;                       // GPU: (rows) cells of each row that hold a token
    struct GroupTile* tiles;            // GPU: of each wave of items (ops/group_by.cuh)
    Gemm* gemms;                        // CPU: one for each thread
    int gemm_count;
} LightRnn;

// Keys and values of the tokens before, for generating one token after another (decode.cuh).
typedef enum {
    CACHE_OFF,   // a forward pass is one over whole sequences
    CACHE_FILL,  // .. and leaves the keys and values of its first sequence here
    CACHE_STEP,  // it is one over the token at `position`, and those below are in the cache
} CacheMode;

typedef struct {
    CacheMode mode;
    int position;
    floatX* kv;  // (L,2,NH,T,D); NULL: the model has none
} KvCache;
// A lightrnn head whose rows share their column weights (light_tables.cuh). Its rows, columns and their biases are light's.
typedef struct {
    int mix;                  // id of the shared decoder's matrix
    int low_in, low_out;      // ids of the thin factors
    CellItems items;          // of a chunk of positions
    int *order, *length;      // the items sorted by row, then scratch; (R) cells of each row
    float* item_losses;       // (K,chunk K)
    float *factor, *dfactor;  // (chunk K,rank)
    floatX *shift, *mixed;    // (Rp,Kp) logits that a row adds; (Rp,C) its vector, mixed
    float* dshift;            // (Rp,Kp), 0 between micro-steps
    floatX* dshift_x;         // the same, rounded
    floatX *dmixed, *drows;   // (Rp,C)
} LightTables;

static_assert((int)STEP_TABLES == (int)SOFT_TABLES, "a step has a weight for each table of the target list");

typedef struct {
    Config config;
    ParamTable table;
    int wte, wpe, lm_head, lnf_w, lnf_b;  // ids; lm_head == wte when tied
    LayerParams layer[MAX_LAYERS];
    Arena parameters, gradients, optimizer, activations;
    float *masters, *grads, *m, *v;
    floatX* weights;  // == masters in fp32
    uint8_t* unit_flags;
    StepState* state;
    StepWeights targets;            // what the next micro-step is trained on: the host's copy of state->in.next
    SoftTable tables[SOFT_TABLES];  // n-grams, neighbours; K = 0: the run has none
    int* table_ids[SOFT_TABLES];    // their memory
    float *table_probs[SOFT_TABLES], *table_covered[SOFT_TABLES];
    SpellingHead spelling;
    FilterBuffers filter;
    AheadHeads ahead;
    LightRnn light;
    KvCache cache;
    LightTables tables_head;
    LayerActs acts;  // of layer 0; layer_acts steps through
    float *x, *saved_x, *rstdf, *losses, *rope_cos, *rope_sin, *column_scratch, *norm_scratch;
    floatX *dres, *d4, *dn, *yf, *xhatf, *logits;
    int chunk_rows;  // rows of logits that exist at once
    bool training;   // false: forward only, on the masters of another model
    Gemm gemm;
    Attention attention;
    stream_t stream;
} Model;

// One micro-step's input on the device.
typedef struct Micro {
    const int* tokens;  // (B*T + look_ahead)
    const int* order;   // (B*T), NULL when no gradient is wanted
    int B, T;
    bool accumulate;                // false in the first micro-step of a step: gradients and losses are stored, later ones added
    const float* reference = NULL;  // (B*T) loss of the next token by a reference model, for a filter of that rule
} Micro;

UNUSED static const floatX* weight(const Model* m, int id) { return id < 0 ? NULL : m->weights + m->table.rows[id].offset; }
// The fp32 master: what is added to the fp32 residual stream.
UNUSED static const float* master(const Model* m, int id) { return id < 0 ? NULL : m->masters + m->table.rows[id].offset; }
UNUSED static float* grad(const Model* m, int id) { return id < 0 ? NULL : m->grads + m->table.rows[id].offset; }

// Activations of layer l.
UNUSED static LayerActs layer_acts(const Model* m, int l) {
    const Config* c = &m->config;
    size_t N = (size_t)c->B * c->T, at = c->recompute == RECOMPUTE_BLOCK ? 0 : (size_t)l;
    size_t NC = at * N * c->C, a_at = c->recompute == RECOMPUTE_NONE ? 4 * NC : 0;
    LayerActs k = m->acts;
    k.y1 += NC, k.qkv += 3 * NC, k.att += NC, k.y2 += NC, k.z += 4 * NC, k.a += a_at;
    if (c->layernorm) k.xhat1 += NC, k.xhat2 += NC;
    k.rstd1 += at * N, k.rstd2 += at * N, k.lse += at * N * c->NH;
    return k;
}

// What a norm's backward pass starts from: xhat (LayerNorm) or y itself (RMSNorm).
UNUSED static const floatX* normed(const floatX* xhat, const floatX* y) { return xhat ? xhat : y; }

// Positions whose whole distribution is computed to sample from one: a GPU's products need rows in eights.
enum { HEAD_SAMPLE_ROWS = GPU_EXECUTION ? 8 : 1 };

// Rows of logits held at once: few enough that the buffer stays small, enough that the fp32 gradient of the head, read and
// written once per chunk, costs little beside the products (GPU: 8192 rows; CPU: 512).
UNUSED static int head_chunk_rows(int N) {
    int most = planning.gpu ? 8192 : 512, chunks = (N + most - 1) / most;
    return (int)round_up((size_t)(N + chunks - 1) / (size_t)chunks, 8);
}

// Elements of the logits buffer: a chunk of rows of the dense head; of the lightrnn head, a chunk of rows over the table's rows,
// or a wave of 2 N items over its columns, or all cells after a few positions (head_lightrnn.cuh), or a chunk of positions and
// their items (light_tables.cuh).
UNUSED static size_t head_logits(const Config* c, int chunk_rows) {
    if (c->head == HEAD_DENSE) return (size_t)chunk_rows * c->Vp;
    size_t rows = (size_t)chunk_rows * round_up((size_t)c->book.rows, 8);
    size_t row = round_up((size_t)c->book.columns, 8), columns, sample = HEAD_SAMPLE_ROWS * (size_t)c->book.rows * row;
    if (c->decoder != DECODER_PER_ROW) {
        size_t K = (size_t)light_entries(c);
        columns = (K > 1 ? K + 1 : 1) * (size_t)chunk_rows * row, sample = 0;
    } else columns = 2 * (size_t)c->B * c->T * row;
    if (rows < columns) rows = columns;
    return rows > sample ? rows : sample;
}

// Declares activations in the arena. look at the table in the head of this file.
UNUSED static void model_plan_activations(Model* m) {
    const Config* c = &m->config;
    size_t N = (size_t)c->B * c->T, NC = N * c->C, X = sizeof(floatX), F = sizeof(float);
    size_t layers = c->recompute == RECOMPUTE_BLOCK || !m->training ? 1 : (size_t)c->L;
    size_t a_layers = c->recompute == RECOMPUTE_NONE ? layers : 1, ln = c->layernorm ? 1 : 0, back = m->training ? 1 : 0;
    Arena* a = &m->activations;
    a->name = "activations";
    arena_add(a, "y1", &m->acts.y1, layers * NC * X);
    arena_add(a, "xhat1", &m->acts.xhat1, ln * layers * NC * X);
    arena_add(a, "rstd1", &m->acts.rstd1, layers * N * F);
    arena_add(a, "qkv", &m->acts.qkv, 3 * layers * NC * X);
    arena_add(a, "att", &m->acts.att, layers * NC * X);
    arena_add(a, "lse", &m->acts.lse, layers * N * c->NH * F);
    arena_add(a, "y2", &m->acts.y2, layers * NC * X);
    arena_add(a, "xhat2", &m->acts.xhat2, ln * layers * NC * X);
    arena_add(a, "rstd2", &m->acts.rstd2, layers * N * F);
    arena_add(a, "z", &m->acts.z, 4 * layers * NC * X);
    arena_add(a, "a", &m->acts.a, 4 * a_layers * NC * X);
    arena_add(a, "saved x", &m->saved_x, c->recompute == RECOMPUTE_BLOCK ? back * c->L * NC * F : 0);
    arena_add(a, "x", &m->x, NC * F);
    arena_add(a, "yf", &m->yf, NC * X);
    arena_add(a, "xhatf", &m->xhatf, ln * NC * X);
    arena_add(a, "rstdf", &m->rstdf, N * F);
    arena_add(a, "dres", &m->dres, back * NC * X);
    arena_add(a, "d4", &m->d4, back * 4 * NC * X);
    arena_add(a, "dn", &m->dn, back * NC * X);
    m->chunk_rows = head_chunk_rows((int)N);
    arena_add(a, "logits", &m->logits, head_logits(c, m->chunk_rows) * X);
    arena_add(a, "losses", &m->losses, STEP_LOSSES * N * F);
    size_t angles = c->learned_positions ? 0 : (size_t)c->T * (c->C / c->NH / 2);
    arena_add(a, "kv cache", &m->cache.kv, c->decode ? 2 * (size_t)c->L * c->T * c->C * X : 0);
    arena_add(a, "rope cos", &m->rope_cos, angles * F);
    arena_add(a, "rope sin", &m->rope_sin, angles * F);
    arena_add(a, "column sums", &m->column_scratch, c->bias ? back * (size_t)device_teams(COLUMN_TEAMS) * 4 * c->C * F : 0);
    arena_add(a, "norm partials", &m->norm_scratch, (size_t)device_teams(NORM_TEAMS) * F);
    arena_add(a, "step state", &m->state, sizeof(StepState));
}

// Declares the parameter arenas; the table must be complete.
UNUSED static void model_plan_parameters(Model* m) {
    size_t n = m->table.size;
    m->parameters.name = "parameters";
    m->gradients.name = "gradients";
    m->optimizer.name = "optimizer";
    if (m->training) arena_add(&m->parameters, "masters", &m->masters, n * sizeof(float));
    arena_add(&m->parameters, "weights", &m->weights, sizeof(floatX) == sizeof(float) ? 0 : n * sizeof(floatX));
    if (!m->training) return;
    arena_add(&m->gradients, "grads", &m->grads, n * sizeof(float));
    arena_add(&m->optimizer, "m", &m->m, n * sizeof(float));
    arena_add(&m->optimizer, "v", &m->v, n * sizeof(float));
    arena_add(&m->optimizer, "unit flags", &m->unit_flags, n / PARAM_UNIT);
}

// Plans the products of one linear layer with `rows` rows; residual: its output is added to the fp32 stream.
UNUSED static void plan_linear(Model* m, int rows, int in, int out, bool bias, bool residual) {
    gemm_plan(&m->gemm, GEMM_FORWARD, rows, in, out, residual || sizeof(floatX) == sizeof(float), bias, residual);
    if (!m->training) return;
    gemm_plan(&m->gemm, GEMM_DINPUT, rows, in, out, sizeof(floatX) == sizeof(float), false, false);
    gemm_plan(&m->gemm, GEMM_DWEIGHT, rows, in, out, true, false, false);
    gemm_plan(&m->gemm, GEMM_DWEIGHT, rows, in, out, true, false, true);
}

// The same of a layer that takes N rows chunk by chunk, as heads do.
UNUSED static void plan_chunks(Model* m, int N, int in, int out, bool bias) {
    if (N >= m->chunk_rows) plan_linear(m, m->chunk_rows, in, out, bias, false);
    if (N % m->chunk_rows) plan_linear(m, N % m->chunk_rows, in, out, bias, false);
}
