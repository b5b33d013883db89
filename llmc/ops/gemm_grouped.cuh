/*
Grouped matrix products on the GPU: every group of items has a weight matrix of its own, and no number of its items is known to
the host. Items are sorted by group (group_by.cuh); what is multiplied lies in the order of the items, or is looked up by them.

    kernel                    a block owns (64 x 128)              streams                    launched over
    grouped_forward_kernel    z: items x columns                   x[position], w[g]          tiles, columns / 128
    grouped_dinput_kernel     dx: items x channels                 dz, w[g]                   tiles, channels / 128
    grouped_dweight_kernel    dw[g]: columns x channels, += fp32   dz, x[position] of all g   groups, columns / 64, channels / 128

    w (G,out,in)   bias (G,out)   x (N,in)   z, dz (items,out)   dx (items,in)   dw (G,out,in), db (G,out) fp32

Group g has length[g] columns; the others get z = -infinity, so that a softmax over all `out` columns gives them 0. Every result
is written by one block, sums have one order: same bits every time. A block without a tile leaves at once; so does a group
without items, whose dw is not even read. db comes from the tiles of dz that dweight has in shared memory anyway.

    stage in shared memory    a (64 x 64 bytes) | b (128 x 64 bytes), 3 of them: 45 KB          warp: 32 x 64 of the 64 x 128
    an operand lies           along the sum (64 bytes of a row at a time), or across it (16 or 32 whole rows at a time: ldmatrix
                              transposes); rows of a tile are 16 bytes longer, which spreads 8 of them over all banks

    bf16, fp16   mma.sync 16 x 8 x 16 with fp32 sums                 fp32   plain multiply-adds, 8 x 8 a lane

The LightRNN head of 197 rows x 256 columns at 16 x 1024 tokens, 768 wide, bf16: 3 x 6.4 GFLOP, x 1.4 to 1.8 for tiles that are
not full; w is read twice (155 MB), dw read and written (310 MB), x, z, dx: 130 MB. At 92 % of a 4090's bandwidth and half its
tensor rate 0.65 + 0.4 ms of a step of 82 ms; the dense head's products are 25. No GPU has measured it.

Tried and dropped: tiles of 128 items (an even group has 83: half of the rows would be padding); splitting the sum of a large
group in dweight over blocks (a second pass over fp32 partials; with tokens in order, row 0's 6,000 items are 190 steps).
*/
#pragma once

#include "group_by.cuh"
#include "ptx.cuh"

#if GPU_EXECUTION

enum { GROUPED_M = GROUP_TILE, GROUPED_N = 128, GROUPED_K = 64 / sizeof(floatX), GROUPED_STAGES = 3, GROUPED_THREADS = 128 };
enum { GROUPED_SUMS = GROUPED_M * GROUPED_N / GROUPED_THREADS };
// Elements of a stage's tile of a factor that gives the result SPAN rows or columns
#define GROUPED_TILE(ACROSS, SPAN) ((ACROSS) ? GROUPED_K * ((SPAN) + PACK) : (SPAN) * (GROUPED_K + PACK))

// A wave of items (group_tiles).
typedef struct {
    const GroupTile* tiles;  // (tile_count)
    const int* first;        // (groups+1)
    const int* position;     // of every item: its row of x
    int tile_count, groups, begin, end;
} Grouped;

// One factor of a product: `rows` x `columns` elements at p, rows `stride` apart, or at `gather` (rows) times stride.
typedef struct {
    const floatX* p;
    size_t stride;
    const int* gather;
    int rows, columns;
} GroupedFactor;

// ---------------------------------------------------------------------------------------------------------------------
// Tiles

// Starts the copy of tile (ROWS,COLUMNS) from the factor, from (row, column) on; what lies outside becomes 0. Whole block.
template <int ROWS, int COLUMNS>
__device__ __forceinline__ static void grouped_fetch_tile(floatX* tile, const GroupedFactor& f, int row, int column) {
    enum { PACKS = COLUMNS / PACK };
    UNROLL for (int i = 0; i < ROWS * PACKS / GROUPED_THREADS; i++) {
        int at = (int)threadIdx.x + i * GROUPED_THREADS, r = at / PACKS, c = at % PACKS * PACK;
        bool inside = row + r < f.rows && column + c < f.columns;
        size_t from = !inside ? 0 : f.gather ? (size_t)f.gather[row + r] : (size_t)(row + r);
        cp_async_16(tile + r * (COLUMNS + PACK) + c, inside ? f.p + from * f.stride + column + c : f.p, inside);
    }
}

// SPAN: of the result. ACROSS: the factor's rows are the terms of the sum, else its columns are.
template <bool ACROSS, int SPAN>
__device__ __forceinline__ static void grouped_fetch(floatX* tile, const GroupedFactor& f, int term) {
    if constexpr (ACROSS) grouped_fetch_tile<GROUPED_K, SPAN>(tile, f, term, 0);
    else grouped_fetch_tile<SPAN, GROUPED_K>(tile, f, 0, term);
}
// ---------------------------------------------------------------------------------------------------------------------
// sum (64,128) of the block += a . b of one stage. grouped_row, grouped_column: of a lane's sum i.
#if PRECISION == PRECISION_FP32
__device__ __forceinline__ static int grouped_row(int i) { return (int)threadIdx.x / 16 + i / 8 * 8; }
__device__ __forceinline__ static int grouped_column(int i) { return (int)threadIdx.x % 16 + i % 8 * 16; }

template <bool ACROSS, int SPAN>
__device__ __forceinline__ static float grouped_element(const floatX* tile, int at, int term) {
    return ACROSS ? tile[term * (SPAN + PACK) + at] : tile[at * (GROUPED_K + PACK) + term];
}
template <bool A_ACROSS, bool B_ACROSS>
__device__ __forceinline__ static void grouped_stage(float (&sum)[GROUPED_SUMS], const floatX* a, const floatX* b) {
    for (int k = 0; k < GROUPED_K; k++) {
        float left[8], right[8];
        UNROLL for (int i = 0; i < 8; i++) left[i] = grouped_element<A_ACROSS, GROUPED_M>(a, grouped_row(i * 8), k);
        UNROLL for (int j = 0; j < 8; j++) right[j] = grouped_element<B_ACROSS, GROUPED_N>(b, grouped_column(j), k);
        UNROLL for (int i = 0; i < GROUPED_SUMS; i++) sum[i] += left[i / 8] * right[i % 8];
    }
}
#else
// Sum i: of 2 x 8 matrices of 16 x 8
__device__ __forceinline__ static int grouped_row(int i) {
    return (int)threadIdx.x / 64 * 32 + i / 32 * 16 + (int)threadIdx.x % 32 / 4 + i / 2 % 2 * 8;
}
__device__ __forceinline__ static int grouped_column(int i) {
    return (int)threadIdx.x / 32 % 2 * 64 + i / 4 % 8 * 8 + (int)threadIdx.x % 4 * 2 + i % 2;
}

// The lane's address in a tile for ldmatrix: 16 rows of the left factor, or 16 columns of the right one.
template <bool ACROSS, int SPAN>
__device__ __forceinline__ static const floatX* grouped_left(const floatX* tile, int at, int term) {
    int lane = (int)threadIdx.x % 32;
    if (ACROSS) return tile + (term + lane / 16 * 8 + lane % 8) * (SPAN + PACK) + at + lane / 8 % 2 * 8;
    return tile + (at + lane % 16) * (GROUPED_K + PACK) + term + lane / 16 * 8;
}
template <bool ACROSS, int SPAN>
__device__ __forceinline__ static const floatX* grouped_right(const floatX* tile, int at, int term) {
    int lane = (int)threadIdx.x % 32;
    if (ACROSS) return tile + (term + lane % 16) * (SPAN + PACK) + at + lane / 16 * 8;
    return tile + (at + lane / 16 * 8 + lane % 8) * (GROUPED_K + PACK) + term + lane / 8 % 2 * 8;
}
template <bool TRANSPOSED>
__device__ __forceinline__ static void grouped_ldmatrix(uint32_t (&out)[4], const floatX* row) {
    if constexpr (TRANSPOSED) ldmatrix_x4_trans(out, row);
    else ldmatrix_x4(out, row);
}

template <bool A_ACROSS, bool B_ACROSS>
__device__ __forceinline__ static void grouped_stage(float (&sum)[GROUPED_SUMS], const floatX* a, const floatX* b) {
    int row = (int)threadIdx.x / 64 * 32, column = (int)threadIdx.x / 32 % 2 * 64;  // of the warp
    UNROLL for (int k = 0; k < GROUPED_K; k += 16) {
        uint32_t left[2][4];
        UNROLL for (int i = 0; i < 2; i++)
            grouped_ldmatrix<A_ACROSS>(left[i], grouped_left<A_ACROSS, GROUPED_M>(a, row + i * 16, k));
        UNROLL for (int j = 0; j < 4; j++) {
            uint32_t right[4];
            grouped_ldmatrix<B_ACROSS>(right, grouped_right<B_ACROSS, GROUPED_N>(b, column + j * 16, k));
            UNROLL for (int i = 0; i < 2; i++) {
                float* to = sum + i * 32 + j * 8;
                mma_m16n8k16<PRECISION == PRECISION_BF16>(to, left[i], right[0], right[1]);
                mma_m16n8k16<PRECISION == PRECISION_BF16>(to + 4, left[i], right[2], right[3]);
            }
        }
    }
}
#endif

// sum = a . b over `terms` terms. sum_columns: *column_sum of the first 64 lanes += column threadIdx.x of a, which lies across.
template <bool A_ACROSS, bool B_ACROSS>
__device__ __forceinline__ static void grouped_multiply(float (&sum)[GROUPED_SUMS], const GroupedFactor& a,
                                                        const GroupedFactor& b, int terms, bool sum_columns, float* column_sum) {
    enum { A = GROUPED_TILE(A_ACROSS, GROUPED_M), STAGE = A + GROUPED_TILE(B_ACROSS, GROUPED_N) };
    floatX* memory = dynamic_shared<floatX>();
    int steps = (terms + GROUPED_K - 1) / GROUPED_K;
    UNROLL for (int i = 0; i < GROUPED_SUMS; i++) sum[i] = 0.0f;
    for (int s = 1 - GROUPED_STAGES; s < steps; s++) {
        int next = s + GROUPED_STAGES - 1;
        if (s >= 0) {
            cp_async_wait<GROUPED_STAGES - 2>();
            __syncthreads();  // stage s has come for everyone, and everyone is done with the stage that is filled now
        }
        if (next < steps) {
            floatX* stage = memory + next % GROUPED_STAGES * STAGE;
            grouped_fetch<A_ACROSS, GROUPED_M>(stage, a, next * GROUPED_K);
            grouped_fetch<B_ACROSS, GROUPED_N>(stage + A, b, next * GROUPED_K);
        }
        cp_async_commit();
        if (s < 0) continue;
        const floatX* stage = memory + s % GROUPED_STAGES * STAGE;
        grouped_stage<A_ACROSS, B_ACROSS>(sum, stage, stage + A);
        if (A_ACROSS && sum_columns && threadIdx.x < GROUPED_M) {
            for (int k = 0; k < GROUPED_K; k++) *column_sum += to_float(stage[k * (GROUPED_M + PACK) + (int)threadIdx.x]);
        }
    }
    __syncthreads();
}

// to (rows,columns), rows `stride` apart, = or += the block's sums, by way of shared memory. rows, columns: cut to the block's.
template <bool ADD, class T>
__device__ __forceinline__ static void grouped_store(T* to, size_t stride, int rows, int columns,
                                                     const float (&sum)[GROUPED_SUMS]) {
    enum { EACH = 16 / sizeof(T), PITCH = GROUPED_N + EACH };
    T* exchange = dynamic_shared<T>();
    UNROLL for (int i = 0; i < GROUPED_SUMS; i++) from_float(exchange + grouped_row(i) * PITCH + grouped_column(i), sum[i]);
    __syncthreads();
    for (int at = (int)threadIdx.x; at < GROUPED_M * GROUPED_N / EACH; at += GROUPED_THREADS) {
        int r = at / (GROUPED_N / EACH), c = at % (GROUPED_N / EACH) * EACH;
        if (r >= rows || c >= columns) continue;
        T* target = to + (size_t)r * stride + c;
        if constexpr (ADD) {
            float4 before = *(const float4*)target, more = *(const float4*)(exchange + r * PITCH + c);
            *(float4*)target = make_float4(before.x + more.x, before.y + more.y, before.z + more.z, before.w + more.w);
        } else {
            *(int4*)target = *(const int4*)(exchange + r * PITCH + c);
        }
    }
}

// Bytes of dynamic shared memory: the stages, or later the fp32 results.
constexpr static int grouped_shared(bool a_across, bool b_across) {
    int stages = GROUPED_STAGES * (GROUPED_TILE(a_across, GROUPED_M) + GROUPED_TILE(b_across, GROUPED_N)) * (int)sizeof(floatX);
    int results = GROUPED_M * (GROUPED_N + 4) * (int)sizeof(float);
    return stages > results ? stages : results;
}
static_assert(grouped_shared(false, false) <= 48 << 10, "more shared memory must be asked for, kernel by kernel");

// ---------------------------------------------------------------------------------------------------------------------
// Kernels

KERNEL LAUNCH_BOUNDS(GROUPED_THREADS) grouped_forward_kernel(floatX* z, const floatX* x, const floatX* w, const floatX* bias,
                                                             const int* length, Grouped g, int in, int out) {
    int across = (out + GROUPED_N - 1) / GROUPED_N, column = (int)blockIdx.x % across * GROUPED_N;
    GroupTile t = g.tiles[blockIdx.x / across];
    if (!t.count) return;
    size_t first = (size_t)t.group * out + column;
    GroupedFactor a = {x, (size_t)in, g.position + t.first, t.count, in},
                  b = {w + first * in, (size_t)in, NULL, out - column, in};
    float sum[GROUPED_SUMS];
    grouped_multiply<false, false>(sum, a, b, in, false, NULL);
    int live = length[t.group] - column;
    UNROLL for (int i = 0; i < GROUPED_SUMS; i++) {
        int c = grouped_column(i);
        sum[i] = c < live ? sum[i] + to_float(bias[first + c]) : -INFINITY;
    }
    grouped_store<false>(z + (size_t)(t.first - g.begin) * out + column, (size_t)out, t.count, out - column, sum);
}

KERNEL LAUNCH_BOUNDS(GROUPED_THREADS)
    grouped_dinput_kernel(floatX* dx, const floatX* dz, const floatX* w, Grouped g, int in, int out) {
    int across = (in + GROUPED_N - 1) / GROUPED_N, channel = (int)blockIdx.x % across * GROUPED_N;
    GroupTile t = g.tiles[blockIdx.x / across];
    if (!t.count) return;
    size_t item = (size_t)(t.first - g.begin);
    GroupedFactor a = {dz + item * out, (size_t)out, NULL, t.count, out};
    GroupedFactor b = {w + (size_t)t.group * out * in + channel, (size_t)in, NULL, out, in - channel};
    float sum[GROUPED_SUMS];
    grouped_multiply<false, true>(sum, a, b, out, false, NULL);
    grouped_store<false>(dx + item * in + channel, (size_t)in, t.count, in - channel, sum);
}

KERNEL LAUNCH_BOUNDS(GROUPED_THREADS)
    grouped_dweight_kernel(float* dw, float* db, const floatX* dz, const floatX* x, Grouped g, int in, int out) {
    int across = (in + GROUPED_N - 1) / GROUPED_N, down = (out + GROUPED_M - 1) / GROUPED_M;
    int channel = (int)blockIdx.x % across * GROUPED_N, column = (int)blockIdx.x / across % down * GROUPED_M;
    int group = (int)blockIdx.x / across / down;
    int first = g.first[group] > g.begin ? g.first[group] : g.begin,
        end = g.first[group + 1] < g.end ? g.first[group + 1] : g.end;
    if (first >= end) return;
    GroupedFactor a = {dz + (size_t)(first - g.begin) * out + column, (size_t)out, NULL, end - first, out - column};
    GroupedFactor b = {x + channel, (size_t)in, g.position + first, end - first, in - channel};
    float sum[GROUPED_SUMS], bias = 0.0f;
    grouped_multiply<true, true>(sum, a, b, end - first, channel == 0, &bias);
    size_t at = (size_t)group * out + column;
    if (!channel && (int)threadIdx.x < GROUPED_M && (int)threadIdx.x < out - column) db[at + threadIdx.x] += bias;
    grouped_store<true>(dw + at * in + channel, (size_t)in, out - column, in - channel, sum);
}

// z (items of the wave,out) = x (.,in) . w[g] (out,in)^T + bias[g] (out); -infinity from column length[g] (G) on.
// in, out: multiples of 8, here and below.
UNUSED static void grouped_forward(floatX* z, const floatX* x, const floatX* w, const floatX* bias, const int* length, Grouped g,
                                   int in, int out, stream_t stream) {
    dim3 grid(g.tile_count * ((out + GROUPED_N - 1) / GROUPED_N));
    LAUNCH_SHARED(grouped_forward_kernel, grid, dim3(GROUPED_THREADS), grouped_shared(false, false), stream)
    (z, x, w, bias, length, g, in, out);
}

// dx (items of the wave,in) = dz (.,out) . w[g] (out,in)
UNUSED static void grouped_dinput(floatX* dx, const floatX* dz, const floatX* w, Grouped g, int in, int out, stream_t stream) {
    dim3 grid(g.tile_count * ((in + GROUPED_N - 1) / GROUPED_N));
    LAUNCH_SHARED(grouped_dinput_kernel, grid, dim3(GROUPED_THREADS), grouped_shared(false, true), stream)
    (dx, dz, w, g, in, out);
}

// dw[g] (out,in) += dz^T . x, db[g] (out) += column sums of dz, over the items of the wave in g.
UNUSED static void grouped_dweight(float* dw, float* db, const floatX* dz, const floatX* x, Grouped g, int in, int out,
                                   stream_t stream) {
    dim3 grid(g.groups * ((out + GROUPED_M - 1) / GROUPED_M) * ((in + GROUPED_N - 1) / GROUPED_N));
    LAUNCH_SHARED(grouped_dweight_kernel, grid, dim3(GROUPED_THREADS), grouped_shared(true, true), stream)
    (dw, db, dz, x, g, in, out);
}

#endif
