/*
What the own attention kernels are made of: tiles in shared memory, and two products that a warp does on 16 of their rows.

    station   ATTN_STATION rows of one operand stay with a block; each warp owns 16 of them
    stream    ATTN_STREAM = 32 rows at a time pass by, fetched by cp.async while the previous 32 are worked on
    tile      rows of HD + 16 bytes: the odd pitch spreads 8 rows over all banks, for ldmatrix and for float4 alike

    attn_scores       s (16,32) per warp  = station rows . stream rows        both along the head: HD terms
    attn_accumulate   sum (16,HD) per warp += s (16,32) stream rows (32,HD)   32 terms

A lane holds 16 values of s and HD / 2 of sum; which ones differs, and the kernels only ask (score_column, slot_row, ..):

    bf16, fp16   mma.sync 16 x 8 x 16 with fp32 sums: 2 rows a lane, 4 lanes a row; s becomes the left operand of the next product
                 in registers
    fp32         plain multiply-adds: 4 rows x 4 columns a lane, 8 lanes a row; s goes through a warp's own piece of shared memory

The head size D (a multiple of 8) is padded with zeros to HD = 32, 64 or 128, rows behind T likewise.
Tried and dropped: 64 stream rows (twice the registers for s; two blocks no longer fit beside each other on sm_89).
*/
#pragma once

#include "attention_shape.h"
#include "ptx.cuh"

#if GPU_EXECUTION

#if PRECISION == PRECISION_FP32
enum { ATTN_WARPS = 2, ATTN_STAGES = 1, ATTN_SLOTS = 4, ATTN_ROW_LANES = 8, ATTN_EXCHANGE_PITCH = 36 };
#else
enum { ATTN_WARPS = 4, ATTN_STAGES = 2, ATTN_SLOTS = 2, ATTN_ROW_LANES = 4, ATTN_EXCHANGE_PITCH = 0 };
#endif
enum { ATTN_THREADS = 32 * ATTN_WARPS, ATTN_STATION = 16 * ATTN_WARPS, ATTN_STREAM = 32, ATTN_SCORES = 16 };
enum { ATTN_EXCHANGE = ATTN_STATION * ATTN_EXCHANGE_PITCH };  // floats
#if defined(AHEAD_EMU)
#define UNROLL_BY(n)
#else
#define UNROLL_PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(n) UNROLL_PRAGMA(unroll n)  // loops that need too many registers when they are unrolled further
#endif
#define ATTN_PITCH(HD) ((HD) + PACK)  // elements from one row of a tile to the next

// Index of the row inside the block that this lane's slot (0 .. ATTN_SLOTS-1) belongs to.
__device__ __forceinline__ static int slot_row(int slot) {
#if PRECISION == PRECISION_FP32
    return (int)threadIdx.x / 8 * 4 + slot;
#else
    return (int)threadIdx.x / 32 * 16 + (int)threadIdx.x % 32 / 4 + slot * 8;
#endif
}
// Slot and stream column of this lane's score i.
__device__ __forceinline__ static int score_slot(int i) { return PRECISION == PRECISION_FP32 ? i / 4 : i / 2 % 2; }
__device__ __forceinline__ static int score_column(int i) {
    int lane = (int)threadIdx.x;
    return PRECISION == PRECISION_FP32 ? lane % 8 + i % 4 * 8 : i / 4 * 8 + lane % 4 * 2 + i % 2;
}
// Slot and head column of this lane's sum i.
template <int HD>
__device__ __forceinline__ static int sum_slot(int i) {
    return PRECISION == PRECISION_FP32 ? i / (HD / 8) : i / 2 % 2;
}
template <int HD>
__device__ __forceinline__ static int sum_column(int i) {
    int lane = (int)threadIdx.x, c = i % (HD / 8);
    return PRECISION == PRECISION_FP32 ? c / 4 * 32 + lane % 8 * 4 + c % 4 : i / 4 * 8 + lane % 4 * 2 + i % 2;
}

// Over the lanes that share a row; every one of them gets the result.
__device__ __forceinline__ static float row_max(float x) {
    for (int o = ATTN_ROW_LANES / 2; o > 0; o /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, o));
    return x;
}
__device__ __forceinline__ static float row_sum(float x) {
    for (int o = ATTN_ROW_LANES / 2; o > 0; o /= 2) x += __shfl_xor_sync(0xffffffffu, x, o);
    return x;
}

// ---------------------------------------------------------------------------------------------------------------------
// Tiles

// Starts the copy of tile (ROWS,HD) = src (left,D), rows `stride` elements apart; what lies outside becomes 0. Whole block.
template <int HD, int ROWS>
__device__ __forceinline__ static void attn_fetch(floatX* tile, const floatX* src, size_t stride, int left, int D) {
    enum { PACKS = HD / PACK };
    UNROLL_BY(4) for (int i = 0; i < ROWS * PACKS / ATTN_THREADS; i++) {
        int at = (int)threadIdx.x + i * ATTN_THREADS, row = at / PACKS, column = at % PACKS * PACK;
        bool inside = row < left && column < D;
        cp_async_16(tile + row * ATTN_PITCH(HD) + column, inside ? src + (size_t)row * stride + column : src, inside);
    }
}

// dst (left,D), rows `stride` apart = scale * the block's sums, by way of tile: only rows that the warp itself owns are touched.
template <int HD>
__device__ __forceinline__ static void attn_store(floatX* dst, size_t stride, int left, int D, const float* sum,
                                                  const float (&scale)[ATTN_SLOTS], floatX* tile) {
    enum { PACKS = HD / PACK };
    __syncwarp();
    UNROLL for (int i = 0; i < HD / 2; i++) {
        int slot = sum_slot<HD>(i);
        from_float(tile + slot_row(slot) * ATTN_PITCH(HD) + sum_column<HD>(i), sum[i] * scale[slot]);
    }
    __syncwarp();
    for (int at = (int)threadIdx.x % 32; at < 16 * PACKS; at += 32) {
        int row = (int)threadIdx.x / 32 * 16 + at / PACKS, column = at % PACKS * PACK;
        if (row < left && column < D)
            *(int4*)(dst + (size_t)row * stride + column) = *(const int4*)(tile + row * ATTN_PITCH(HD) + column);
    }
}

#if PRECISION == PRECISION_FP32
// ---------------------------------------------------------------------------------------------------------------------
// fp32: multiply-adds

template <int HD>
struct AttnRows {  // the warp's station rows, as the left operand
    const float* tile;
};
template <int HD>
__device__ __forceinline__ static void attn_load_rows(AttnRows<HD>* rows, const float* tile) {
    rows->tile = tile;
}

template <int HD>
__device__ __forceinline__ static void attn_scores(float (&s)[ATTN_SCORES], const AttnRows<HD>& rows, const float* tile) {
    UNROLL for (int i = 0; i < ATTN_SCORES; i++) s[i] = 0.0f;
    UNROLL_BY(1) for (int d = 0; d < HD; d += 4) {
        float4 b[4];
        UNROLL for (int c = 0; c < 4; c++) b[c] = *(const float4*)(tile + score_column(c) * ATTN_PITCH(HD) + d);
        UNROLL for (int r = 0; r < 4; r++) {
            float4 a = *(const float4*)(rows.tile + slot_row(r) * ATTN_PITCH(HD) + d);
            UNROLL for (int c = 0; c < 4; c++) s[r * 4 + c] += a.x * b[c].x + a.y * b[c].y + a.z * b[c].z + a.w * b[c].w;
        }
    }
}

template <int HD>
__device__ __forceinline__ static void attn_accumulate(float (&sum)[HD / 2], const float (&s)[ATTN_SCORES], const float* tile,
                                                       float* exchange) {
    __syncwarp();
    UNROLL for (int i = 0; i < ATTN_SCORES; i++) exchange[slot_row(score_slot(i)) * ATTN_EXCHANGE_PITCH + score_column(i)] = s[i];
    __syncwarp();
    UNROLL_BY(1) for (int t = 0; t < ATTN_STREAM; t++) {
        float p[4];
        UNROLL for (int r = 0; r < 4; r++) p[r] = exchange[slot_row(r) * ATTN_EXCHANGE_PITCH + t];
        UNROLL for (int g = 0; g < HD / 32; g++) {
            float4 v = *(const float4*)(tile + t * ATTN_PITCH(HD) + sum_column<HD>(g * 4));
            UNROLL for (int r = 0; r < 4; r++) {
                float* to = sum + r * (HD / 8) + g * 4;
                to[0] += p[r] * v.x, to[1] += p[r] * v.y, to[2] += p[r] * v.z, to[3] += p[r] * v.w;
            }
        }
    }
}

#else
// ---------------------------------------------------------------------------------------------------------------------
// bf16 and fp16: tensor cores

template <int HD>
struct AttnRows {  // the warp's 16 station rows as left operands, one per 16 columns
    uint32_t part[HD / 16][4];
};
template <int HD>
__device__ __forceinline__ static void attn_load_rows(AttnRows<HD>* rows, const floatX* tile) {
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * 16 + lane % 16;
    UNROLL for (int k = 0; k < HD / 16; k++) ldmatrix_x4(rows->part[k], tile + row * ATTN_PITCH(HD) + k * 16 + lane / 16 * 8);
}

template <int HD>
__device__ __forceinline__ static void attn_scores(float (&s)[ATTN_SCORES], const AttnRows<HD>& rows, const floatX* tile) {
    int lane = (int)threadIdx.x % 32;
    const floatX* mine = tile + (lane / 16 * 8 + lane % 8) * ATTN_PITCH(HD) + lane / 8 % 2 * 8;
    UNROLL for (int i = 0; i < ATTN_SCORES; i++) s[i] = 0.0f;
    UNROLL for (int k = 0; k < HD / 16; k++) {
        UNROLL for (int n = 0; n < ATTN_STREAM / 16; n++) {  // 16 stream rows: two tiles of 8 columns of s
            uint32_t b[4];
            ldmatrix_x4(b, mine + n * 16 * ATTN_PITCH(HD) + k * 16);
            mma_m16n8k16<PRECISION == PRECISION_BF16>(s + n * 8, rows.part[k], b[0], b[1]);
            mma_m16n8k16<PRECISION == PRECISION_BF16>(s + n * 8 + 4, rows.part[k], b[2], b[3]);
        }
    }
}

template <int HD>
__device__ __forceinline__ static void attn_accumulate(float (&sum)[HD / 2], const float (&s)[ATTN_SCORES], const floatX* tile,
                                                       float* exchange) {
    (void)exchange;
    int lane = (int)threadIdx.x % 32;
    const floatX* mine = tile + lane % 16 * ATTN_PITCH(HD) + lane / 16 * 8;
    UNROLL for (int k = 0; k < ATTN_STREAM / 16; k++) {
        const float* p = s + k * 8;  // 16 columns of s: the lane's share of d is its share of a
        uint32_t a[4] = {pack_pair<floatX>(p[0], p[1]), pack_pair<floatX>(p[2], p[3]), pack_pair<floatX>(p[4], p[5]),
                         pack_pair<floatX>(p[6], p[7])};
        UNROLL for (int n = 0; n < HD / 16; n++) {
            uint32_t b[4];
            ldmatrix_x4_trans(b, mine + k * 16 * ATTN_PITCH(HD) + n * 16);
            mma_m16n8k16<PRECISION == PRECISION_BF16>(sum + n * 8, a, b[0], b[1]);
            mma_m16n8k16<PRECISION == PRECISION_BF16>(sum + n * 8 + 4, a, b[2], b[3]);
        }
    }
}
#endif
#endif
