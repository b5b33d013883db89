/*
The next token's hidden row, for one token after another: what samples and --generate run.

    decode_open     tokens of a document start, and room for more
    decode_row      the row of yf that predicts what follows the tokens so far
    decode_add      one more token

While all tokens fit into the trained length T, the keys and values of the earlier ones stay in the cache (L,2,NH,T,D): the first
row costs a whole forward pass over the tokens there are, each further one a pass over one token. Behind that the window slides:
its first token changes, with it the position of every other and so every key, and each row is a whole pass over the last T
tokens. Without a cache (config.decode off) every row is a whole pass. All three give the same numbers, within rounding.

A GPU's products want rows in multiples of 8, so a step there is 8 rows of the same token; the first one counts. Whole passes are
of the one planned length T there; causality makes what lies behind the last token irrelevant.
*/
#pragma once

#include "trunk.cuh"

enum { DECODE_ROWS = GPU_EXECUTION ? 8 : 1, DECODE_UNIT = 16 };  // rows of a step; a CPU's whole passes are multiples of this

typedef struct {
    Model* m;
    int *ids, count, capacity;  // host: all tokens so far
    int cached;                 // leading tokens whose keys and values are in the cache
    int passes, steps;          // whole forward passes, and those over one token
    int *window, *device;       // (at least DECODE_ROWS and T)
    size_t window_bytes;
} Decoder;

// Products of a one-token step; a GPU plans them before the first. Besides, model_plan_shape(m, 1, T) is needed.
UNUSED static void decode_plan(Model* m) {
    int C = m->config.C, rows = DECODE_ROWS;
    bool bias = m->config.bias, fp32 = sizeof(floatX) == sizeof(float);
    gemm_plan(&m->gemm, GEMM_FORWARD, rows, C, 3 * C, fp32, bias, false);
    gemm_plan(&m->gemm, GEMM_FORWARD, rows, C, C, true, bias, true);
    gemm_plan(&m->gemm, GEMM_FORWARD, rows, C, 4 * C, fp32, bias, false);
    gemm_plan(&m->gemm, GEMM_FORWARD, rows, 4 * C, C, true, bias, true);
}

// count >= 1 first tokens (copied); most: tokens that will be there in the end. The model must not train meanwhile.
UNUSED static Decoder decode_open(Model* m, const int* ids, int count, int most) {
    Decoder d = {};
    int T = m->config.T > DECODE_ROWS ? m->config.T : DECODE_ROWS;
    d.m = m, d.count = count, d.capacity = most;
    d.ids = (int*)xmalloc((size_t)most * sizeof(int));
    memcpy(d.ids, ids, (size_t)count * sizeof(int));
    d.window_bytes = (size_t)T * sizeof(int);
    d.window = (int*)xcalloc(d.window_bytes);
    d.device = (int*)device_malloc(d.window_bytes, "the tokens of a sample");
    return d;
}

UNUSED static void decode_close(Decoder* d) {
    device_free(d->device, d->window_bytes);
    free(d->ids), free(d->window);
    memset(d, 0, sizeof(*d));
}

UNUSED static void decode_add(Decoder* d, int id) {
    if (d->count == d->capacity) fail("a decoder has room for %d tokens", d->capacity);
    d->ids[d->count++] = id;
}

static int decode_step(Decoder* d) {
    Model* m = d->m;
    for (int i = 0; i < DECODE_ROWS; i++) d->window[i] = d->ids[d->count - 1];
    copy_to_device(d->device, d->window, DECODE_ROWS * sizeof(int));
    m->cache.mode = CACHE_STEP, m->cache.position = d->count - 1;
    model_forward(m, d->device, DECODE_ROWS, 1);
    m->cache.mode = CACHE_OFF;
    d->cached = d->count, d->steps++;
    return 0;
}

// Row of m->yf, for head_probs: the hidden state after the last token.
UNUSED static int decode_row(Decoder* d) {
    Model* m = d->m;
    int T = m->config.T, length = d->count < T ? d->count : T, first = d->count - length;
    bool caches = m->cache.kv && first == 0;
    if (caches && d->cached == d->count - 1 && d->count > 1) return decode_step(d);
    int run_T = GPU_EXECUTION ? T : (int)round_up((size_t)length, DECODE_UNIT);
    if (run_T > T) run_T = T;
    for (int i = 0; i < run_T; i++) d->window[i] = i < length ? d->ids[first + i] : 0;
    copy_to_device(d->device, d->window, (size_t)run_T * sizeof(int));
    m->cache.mode = caches ? CACHE_FILL : CACHE_OFF;
    model_forward(m, d->device, 1, run_T);
    m->cache.mode = CACHE_OFF;
    d->cached = caches ? d->count : 0, d->passes++;
    return length - 1;
}
