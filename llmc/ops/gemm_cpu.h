/*
The matrix product on the CPU: result (m,n) = left (m,k) . right (k,n), in fp32, whatever the factors are stored as.

One factor, the smaller, is SHARED: all threads pack it together, a group of k blocks at a time, and all read it. The panels of
the other are each thread's OWN: packed a handful at a time, just before use, into a buffer that stays in the second-level cache.

                              own panels, split over the threads
                     |  thread 0                |  thread 1              |
    shared    s0  -> | o0 o1 o2 o3 | o4 .. o7 | ..                       |     one s panel stays in the first-level cache while
    panels    s1  -> |   tiles     |          |                          |     it meets the handful of own panels; then the next
              ..     |             |          |                          |

    for each group of k blocks (one, unless the shared factor is too long to be packed at once)
        all threads pack the group's shared panels                                            -- barrier
        each thread: for each handful of own panels: for each k block of the group:
            pack the handful; multiply it with every shared panel into tiles of sums; after the last block store the tiles

A tile's sums are fp32 until the whole of k is in them, then scaled, biased, activated, rounded once (gemm_cpu_store.h).

The k blocks depend on k alone, and a tile belongs to one thread: the result has the same bits for any number of threads.
Nothing is allocated after gemm_init, whatever the sizes; larger problems are walked in more chunks of the same buffers.
With too few own panels for all threads, the threads form a grid and split the shared side too.

Measured on Zen 4 at 512 rows of GPT-2 124M: 92-93 % of the tile's own speed; storing takes 2-3 %, packing the rest. Tried and
dropped, all within noise: k blocks of 256 or 512, handfuls of 96 or 384 lines, software prefetch of the next handful's source
and of the lines that a tile will be stored to; products of 5 to 8 rows, and weight gradients of as few, without packing (a
row of a factorised vocabulary: 1 %, bytes are all that counts there).
*/
#pragma once

#include "gemm_call.cuh"
#include "gemm_cpu_pack.h"
#include "gemm_cpu_store.h"

#include <sys/mman.h>

enum {
    K_BLOCK = 384,            // values of k in a panel: 12 KiB of 8 rows, 72 KiB of 48 columns
    OWN_LINES = 192,          // lines of a handful: 288 KiB packed
    SHARED_LINES = 1024,      // lines of the shared side at a time ..
    SHARED_FLOATS = 1 << 20,  // .. and the values of k that fit with them: 4 MiB packed
    FEW_ROWS = 4,             // up to here packing costs more than it saves
    PARALLEL_WORK = 1 << 17,  // multiply-adds below which waking the other threads costs more than it saves
};

typedef struct Gemm {
    TileKind tile;
    int threads;    // at most this many take part
    float* shared;  // packed group of the shared side
    float* own;     // per thread: packed handful
    float* sums;    // tiles between k blocks; per thread, or for the whole chunk if there are several groups
    size_t own_floats, sums_floats;
    int plans_made;  // always 0 here: there is nothing to plan
} Gemm;

// Everything that the threads of one product agree on
typedef struct {
    Side shared, own;
    bool left_is_shared;
    int k, kc, blocks, group;  // values of k, of a block; blocks in all, in a group
    int s_step, o_step;        // panels of a chunk of either side
    const Store* store;
} Product;

typedef struct {
    int begin, end;
} Range;

enum { HUGE_PAGE = 2 << 20 };
static size_t panels_bytes(size_t floats) { return round_up(floats * sizeof(float), HUGE_PAGE); }
static float* alloc_panels(size_t floats) {
    size_t bytes = panels_bytes(floats);
    float* p = (float*)aligned_alloc(HUGE_PAGE, bytes);
    if (!p) fail("out of host memory: %.1f MiB asked for to multiply matrices", bytes / 1048576.0);
#ifdef MADV_HUGEPAGE
    madvise(p, bytes, MADV_HUGEPAGE);  // a panel spans many small pages; a refusal only costs speed
#endif
    return p;
}

// Values of a thread's handful, with the gaps between panels; and of all sums.
static size_t own_floats_of_thread(void) { return panel_floats(OWN_LINES, K_BLOCK) + OWN_LINES / 4 * 32; }
static size_t sums_floats_of(int threads) {
    size_t sums = (size_t)OWN_LINES * SHARED_LINES * (size_t)threads;
    return sums < 2 * SHARED_FLOATS ? 2 * SHARED_FLOATS : sums;
}

// Bytes that gemm_init allocates for so many threads.
UNUSED static size_t gemm_cpu_bytes(int threads) {
    return panels_bytes(SHARED_FLOATS) + panels_bytes(own_floats_of_thread() * (size_t)threads) +
           panels_bytes(sums_floats_of(threads));
}

// Makes g ready for products of any size. workspace_bytes is the GPU's affair and ignored here. Takes about 13 MiB.
UNUSED static void gemm_init(Gemm* g, size_t workspace_bytes) {
    (void)workspace_bytes;
    *g = (Gemm){};
    g->tile = tile_choose();
    g->threads = omp_get_max_threads();
    g->own_floats = own_floats_of_thread();
    g->sums_floats = sums_floats_of(g->threads);
    g->shared = alloc_panels(SHARED_FLOATS);
    g->own = alloc_panels(g->own_floats * g->threads);
    g->sums = alloc_panels(g->sums_floats);
}

UNUSED static void gemm_free(Gemm* g) {
    free(g->shared);
    free(g->own);
    free(g->sums);
    *g = (Gemm){};
}

static inline Range share_of(Range all, int i, int parts) {
    int n = all.end - all.begin;
    return (Range){all.begin + (int)((int64_t)n * i / parts), all.begin + (int)((int64_t)n * (i + 1) / parts)};
}

// Splits own x shared panels over a grid of threads and cuts both ranges down to this thread's part (empty for a spare thread).
// Cost of a cell: its tiles, and about one tile's time to pack each own panel.
static void my_part(Range* own, Range* shared) {
    int threads = omp_get_num_threads(), t = omp_get_thread_num(), best_across = 1;
    int64_t best = INT64_MAX;
    for (int across = threads; across >= 1; across--) {
        int down = threads / across;
        int64_t o = (own->end - own->begin + across - 1) / across, s = (shared->end - shared->begin + down - 1) / down;
        if (o * (s + 1) < best) best = o * (s + 1), best_across = across;
    }
    int down = threads / best_across;
    bool spare = t >= best_across * down;
    *own = share_of(*own, spare ? 0 : t % best_across, best_across);
    *shared = share_of(*shared, spare ? 0 : t / best_across, down);
    if (spare) own->end = own->begin;
}

static inline int block_length(const Product* p, int block) {
    int left = p->k - block * p->kc;
    return left < p->kc ? left : p->kc;
}

// shared buffer: [block of the group][panel of the chunk], each panel [kc][width]
static inline size_t shared_at(const Product* p, Range s, int block, int panel) {
    return ((size_t)block * (s.end - s.begin) + panel - s.begin) * panel_floats(p->shared.width, p->kc);
}

// Multiplies this thread's own panels with its shared ones for one group of k blocks [b0, b1).
static void multiply_group(Gemm* g, const Product* p, Range own_chunk, Range shared_chunk, int b0, int b1) {
    TileShape shape = TILE_SHAPES[g->tile];
    Range own = own_chunk, shared = shared_chunk;
    my_part(&own, &shared);
    int t = omp_get_thread_num(), handful = OWN_LINES / p->own.width, across = shared_chunk.end - shared_chunk.begin;
    bool one_group = p->group == p->blocks;
    float* packed = g->own + g->own_floats * t;
    float* sums = one_group ? g->sums + (size_t)OWN_LINES * SHARED_LINES * t : g->sums;
    size_t tile_floats = p->blocks == 1 ? 0 : (size_t)shape.mr * shape.nr;  // a single block needs a single tile

    for (int o0 = own.begin; o0 < own.end; o0 += handful) {
        int o1 = o0 + handful < own.end ? o0 + handful : own.end, first_row = one_group ? o0 : own_chunk.begin;
        for (int b = b0; b < b1; b++) {
            int kc = block_length(p, b);
            size_t apart = panel_floats(p->own.width, kc);
            pack_panels(&p->own, o0, o1, b * p->kc, kc, packed, apart);
            for (int s = shared.begin; s < shared.end; s++) {
                const float* from_shared = g->shared + shared_at(p, shared_chunk, b - b0, s);
                float* tile = sums + ((size_t)(o0 - first_row) * across + s - shared_chunk.begin) * tile_floats;
                const float* from_own = packed;
                for (int o = o0; o < o1; o++, from_own += apart, tile += across * tile_floats) {
                    const float* left = p->left_is_shared ? from_shared : from_own;
                    const float* right = p->left_is_shared ? from_own : from_shared;
                    tile_multiply(g->tile, kc, left, right, tile, b > 0);
                    if (b + 1 < p->blocks) continue;
                    int i = p->left_is_shared ? s : o, j = p->left_is_shared ? o : s;
                    store_tile(p->store, tile, shape.nr, i * shape.mr, j * shape.nr, shape.mr, shape.nr);
                }
            }
        }
    }
}

static void multiply_thread(Gemm* g, const Product* p) {
    int s_panels = side_panels(&p->shared), o_panels = side_panels(&p->own);
    size_t apart = panel_floats(p->shared.width, p->kc);
    for (int s0 = 0; s0 < s_panels; s0 += p->s_step) {
        Range shared = {s0, s0 + p->s_step < s_panels ? s0 + p->s_step : s_panels};
        for (int o0 = 0; o0 < o_panels; o0 += p->o_step) {
            Range own = {o0, o0 + p->o_step < o_panels ? o0 + p->o_step : o_panels};
            for (int b0 = 0; b0 < p->blocks; b0 += p->group) {
                int b1 = b0 + p->group < p->blocks ? b0 + p->group : p->blocks;
                Range mine = share_of(shared, omp_get_thread_num(), omp_get_num_threads());
                for (int b = b0; b < b1; b++) {
                    float* to = g->shared + shared_at(p, shared, b - b0, mine.begin);
                    pack_panels(&p->shared, mine.begin, mine.end, b * p->kc, block_length(p, b), to, apart);
                }
#pragma omp barrier
                multiply_group(g, p, own, shared, b0, b1);
#pragma omp barrier
            }
        }
    }
}

// Rows so few that reading the right factor is all the work: a dot product per result. Both sides k_contiguous.
static void multiply_few_rows(const Side* left, const Side* right, int k, const Store* store) {
#pragma omp parallel if ((int64_t)left->size * right->size * k > PARALLEL_WORK)
    {
        float tile[FEW_ROWS * TILE_MAX_NR];
        int strips = (right->size + TILE_MAX_NR - 1) / TILE_MAX_NR;
        Range mine = share_of((Range){0, strips}, omp_get_thread_num(), omp_get_num_threads());
        for (int strip = mine.begin; strip < mine.end; strip++) {
            int col = strip * TILE_MAX_NR, cols = right->size - col < TILE_MAX_NR ? right->size - col : TILE_MAX_NR;
            for (int j = 0; j < cols; j++) {
                const floatX* w = right->data + (size_t)(col + j) * right->ld;
                for (int i = 0; i < left->size; i++) {
                    const floatX* x = left->data + (size_t)i * left->ld;
                    float sum = 0.0f;
                    for (int c = 0; c < k; c++) sum += to_float(x[c]) * to_float(w[c]);
                    tile[i * TILE_MAX_NR + j] = sum;
                }
            }
            store_tile(store, tile, TILE_MAX_NR, 0, col, left->size, cols);
        }
    }
}

// result = left . right, stored as `store` says. Call it outside parallel regions: it opens its own.
static void gemm_run(Gemm* g, Side left, Side right, int k, const Store* store) {
    if (left.size <= 0 || right.size <= 0) return;
    if (left.size <= FEW_ROWS && left.k_contiguous && right.k_contiguous) {
        multiply_few_rows(&left, &right, k, store);
        return;
    }
    TileShape shape = TILE_SHAPES[g->tile];
    left.tile = right.tile = g->tile;
    left.width = shape.mr;
    right.width = shape.nr;

    Product p = {};
    p.store = store;
    p.left_is_shared = left.size <= right.size;
    p.shared = p.left_is_shared ? left : right;
    p.own = p.left_is_shared ? right : left;
    p.k = k;
    p.blocks = k > 0 ? (k + K_BLOCK - 1) / K_BLOCK : 1;
    p.kc = (int)round_up((k + p.blocks - 1) / p.blocks, 8);  // blocks of equal length
    int s_panels = side_panels(&p.shared);
    p.s_step = SHARED_LINES / p.shared.width < s_panels ? SHARED_LINES / p.shared.width : s_panels;
    size_t block_floats = panel_floats(p.shared.width, p.kc) * p.s_step;
    p.group = (int)(SHARED_FLOATS / block_floats);
    p.group = p.group < 1 ? 1 : p.group > p.blocks ? p.blocks : p.group;
    p.o_step = side_panels(&p.own);
    if (p.group < p.blocks) p.o_step = (int)(g->sums_floats / ((size_t)p.s_step * shape.mr * shape.nr));

    int threads = omp_get_max_threads() < g->threads ? omp_get_max_threads() : g->threads;
    bool parallel = (int64_t)left.size * right.size * k > PARALLEL_WORK;
#pragma omp parallel num_threads(threads) if (parallel)
    multiply_thread(g, &p);
}

// Nothing to plan on the CPU; see gemm_cublaslt.cuh
UNUSED static void gemm_plan(Gemm* g, GemmKind kind, int rows, int in, int out, bool result_is_float, bool bias,
                             bool accumulate) {
    (void)g, (void)kind, (void)rows, (void)in, (void)out, (void)result_is_float, (void)bias, (void)accumulate;
}

// The call as left (m,k) . right (k,n)
UNUSED static void gemm_multiply(Gemm* g, const GemmCall* c, stream_t stream) {
    (void)stream;
    if (planning.walks) {
        gemm_count(c);
        return;
    }
    int m = c->kind == GEMM_DWEIGHT ? c->out : c->rows, n = c->kind == GEMM_FORWARD ? c->out : c->in;
    int k = c->kind == GEMM_FORWARD ? c->in : c->kind == GEMM_DINPUT ? c->out : c->rows;
    Store store = {};
    store.kind = c->gelu_forward ? STORE_GELU : c->gelu_backward ? STORE_DGELU : STORE_LINEAR;
    store.m = m;
    store.n = n;
    store.y = c->result;
    store.y_is_float = c->result_is_float;
    store.accumulate = c->accumulate;
    store.alpha = c->alpha;
    store.bias = c->bias;
    store.z = c->z;
    store.gelu_kind = c->gelu_kind;
    Side left = {c->left, m, c->kind == GEMM_DWEIGHT ? m : k, c->kind != GEMM_DWEIGHT, TILE_PLAIN, 0};
    Side right = {c->right, n, c->kind == GEMM_FORWARD ? k : n, c->kind == GEMM_FORWARD, TILE_PLAIN, 0};
    gemm_run(g, left, right, k, &store);
}
