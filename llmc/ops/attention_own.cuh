/*
Causal self attention, the project's own CUDA kernels (flash attention): fp32, and bf16 or fp16 where cuDNN is absent, has no
plan, or must be replaced because the backward pass is asked for in a fixed order.

    kernel                      a block owns (station)        streams                        products
    attention_forward_kernel    64 queries                    keys and values 0 .. its end   q k^T, p v
    attention_delta_kernel      delta = rowsum(dout * out)    -                              -
    attention_dkdv_kernel       64 keys and values            queries, dout from its start   k q^T, p^T dout, v dout^T, ds^T q
    attention_dq_kernel         64 queries and dout           keys and values 0 .. its end   q k^T, dout v^T, ds k

(32 instead of 64 in fp32.) The grid is (blocks, heads, B), the longest blocks first. Everything is written by exactly one block:
no atomics, same bits every time. The dk, dv kernel works on transposed scores, so that p^T and ds^T stay in registers.

Shared memory of a block, in tiles (attention_own_tiles.cuh):   | station x 1 or 2 | 2 streams x stages | exchange | lse, delta |
    bf16, HD = 64: 27 KB forward, 37 KB backward; HD = 128: 52 and 70 KB, allowed once per kernel by attention_own_init.

Tried and dropped: one backward kernel with 5 products and fp32 atomics on dq (other bits every run); keeping the station rows of
HD = 128 in registers (over 255 in the dk, dv kernel: they are read again per step instead).
*/
#pragma once

#include "attention_own_tiles.cuh"

#if GPU_EXECUTION

enum { ATTN_FORWARD = 1, ATTN_BACKWARD = 2 };  // station tiles
static const float ATTN_LOG2E = 1.4426950408889634f;

// Bytes of dynamic shared memory. rows: also lse and delta of the streamed queries.
static UNUSED int attn_shared_bytes(int HD, int stations, bool rows) {
    size_t elements = (size_t)ATTN_PITCH(HD) * (stations * ATTN_STATION + 2 * ATTN_STAGES * ATTN_STREAM);
    return (int)(elements * sizeof(floatX) + sizeof(float) * (ATTN_EXCHANGE + (rows ? 2 * ATTN_STAGES * ATTN_STREAM : 0)));
}

// Where the parts of the shared memory start.
template <int HD>
__device__ __forceinline__ static floatX* attn_station(int i) {
    return dynamic_shared<floatX>() + i * ATTN_STATION * ATTN_PITCH(HD);
}
template <int HD>
__device__ __forceinline__ static floatX* attn_stream(int stations, int stage, int i) {
    return attn_station<HD>(stations) + (stage * 2 + i) * ATTN_STREAM * ATTN_PITCH(HD);
}
template <int HD>
__device__ __forceinline__ static float* attn_exchange(int stations) {
    return (float*)attn_stream<HD>(stations, ATTN_STAGES, 0);
}

// out (B,T,NH,D), lse (B,NH,T) from qkv; scale2 = log2(e) / sqrt(D): exponentials are powers of 2.
template <int HD>
KERNEL LAUNCH_BOUNDS(ATTN_THREADS)
    attention_forward_kernel(floatX* out, float* lse, const floatX* qkv, AttentionShape s, float scale2) {
    int first = (int)(gridDim.x - 1 - blockIdx.x) * ATTN_STATION, h = (int)blockIdx.y, b = (int)blockIdx.z;
    int group = h / (s.NH / s.NKV), end = first + ATTN_STATION < s.T ? first + ATTN_STATION : s.T;
    int count = (end + ATTN_STREAM - 1) / ATTN_STREAM;
    size_t in_row = attention_qkv_row(s), out_row = attention_out_row(s);
    const floatX *in = qkv + (size_t)b * s.T * in_row, *k = in + attention_k_at(s, group), *v = in + attention_v_at(s, group);
    floatX* q_tile = attn_station<HD>(0);
    float sum[HD / 2], top[ATTN_SLOTS], total[ATTN_SLOTS];
    UNROLL for (int i = 0; i < HD / 2; i++) sum[i] = 0.0f;
    UNROLL for (int i = 0; i < ATTN_SLOTS; i++) top[i] = -INFINITY, total[i] = 0.0f;
    AttnRows<HD> q;

    attn_fetch<HD, ATTN_STATION>(q_tile, in + (size_t)first * in_row + attention_q_at(s, h), in_row, s.T - first, s.D);
    for (int n = 1 - ATTN_STAGES; n < count; n++) {
        int next = n + ATTN_STAGES - 1, key = n * ATTN_STREAM;
        if (next < count) {
            int t = next * ATTN_STREAM, stage = next % ATTN_STAGES;
            attn_fetch<HD, ATTN_STREAM>(attn_stream<HD>(ATTN_FORWARD, stage, 0), k + t * in_row, in_row, s.T - t, s.D);
            attn_fetch<HD, ATTN_STREAM>(attn_stream<HD>(ATTN_FORWARD, stage, 1), v + t * in_row, in_row, s.T - t, s.D);
        }
        cp_async_commit();
        if (n < 0) continue;
        cp_async_wait<ATTN_STAGES - 1>();
        __syncthreads();
        if (n == 0 || HD > 64) attn_load_rows<HD>(&q, q_tile);
        float p[ATTN_SCORES], peak[ATTN_SLOTS];
        attn_scores<HD>(p, q, attn_stream<HD>(ATTN_FORWARD, n % ATTN_STAGES, 0));
        if (key + ATTN_STREAM - 1 > first) {
            UNROLL for (int i = 0; i < ATTN_SCORES; i++) if (key + score_column(i) > first + slot_row(score_slot(i))) p[i] =
                -INFINITY;
        }
        UNROLL for (int i = 0; i < ATTN_SLOTS; i++) peak[i] = top[i];
        UNROLL for (int i = 0; i < ATTN_SCORES; i++) peak[score_slot(i)] = fmaxf(peak[score_slot(i)], p[i]);
        float shrink[ATTN_SLOTS];
        UNROLL for (int i = 0; i < ATTN_SLOTS; i++) {
            peak[i] = row_max(peak[i]);
            shrink[i] = fast_exp2((top[i] - peak[i]) * scale2);
            top[i] = peak[i];
            total[i] *= shrink[i];
        }
        UNROLL for (int i = 0; i < ATTN_SCORES; i++) {
            int slot = score_slot(i);
            p[i] = fast_exp2(fmaf(p[i], scale2, -top[slot] * scale2));
            total[slot] += p[i];
        }
        UNROLL for (int i = 0; i < HD / 2; i++) sum[i] *= shrink[sum_slot<HD>(i)];
        attn_accumulate<HD>(sum, p, attn_stream<HD>(ATTN_FORWARD, n % ATTN_STAGES, 1), attn_exchange<HD>(ATTN_FORWARD));
        __syncthreads();
    }
    float inverse[ATTN_SLOTS];
    UNROLL for (int i = 0; i < ATTN_SLOTS; i++) {
        total[i] = row_sum(total[i]);
        inverse[i] = 1.0f / total[i];
        int t = first + slot_row(i);
        if (t < s.T && threadIdx.x % ATTN_ROW_LANES == 0)
            lse[((size_t)b * s.NH + h) * s.T + t] = top[i] * scale2 / ATTN_LOG2E + logf(total[i]);
    }
    floatX* to = out + ((size_t)b * s.T + first) * out_row + (size_t)h * s.D;
    attn_store<HD>(to, out_row, s.T - first, s.D, sum, inverse, q_tile);
}

// delta (B,NH,T) = rowsum(dout * out); out, dout (B,T,NH,D): one row per token and head.
KERNEL attention_delta_kernel(float* delta, const floatX* dout, const floatX* out, AttentionShape s) {
    FOR_ROWS(r, s.B * s.T * s.NH) {
        float sum = 0.0f;
        FOR_LANES(i, s.D / PACK) {
            Vec x = load(dout + (size_t)r * s.D, (size_t)i), y = load(out + (size_t)r * s.D, (size_t)i);
            FOR_PACK(k) sum += x.v[k] * y.v[k];
        }
        sum = team_sum(sum);
        int h = r % s.NH, t = r / s.NH % s.T, b = r / s.NH / s.T;
        if (FIRST_LANE) delta[((size_t)b * s.NH + h) * s.T + t] = sum;
    }
}

// dk and dv of 64 keys: all later queries of every head that reads them pass by.
template <int HD>
KERNEL LAUNCH_BOUNDS(ATTN_THREADS) attention_dkdv_kernel(floatX* dqkv, const float* delta, const floatX* dout, const float* lse,
                                                         const floatX* qkv, AttentionShape s, float scale2) {
    int first = (int)blockIdx.x * ATTN_STATION, group = (int)blockIdx.y, b = (int)blockIdx.z, heads = s.NH / s.NKV;
    int start = first / ATTN_STREAM, per_head = (s.T + ATTN_STREAM - 1) / ATTN_STREAM - start, count = per_head * heads;
    size_t in_row = attention_qkv_row(s), out_row = attention_out_row(s), in_at = (size_t)b * s.T * in_row;
    size_t k_at = in_at + (size_t)first * in_row + attention_k_at(s, group);
    size_t v_at = in_at + (size_t)first * in_row + attention_v_at(s, group);
    floatX *k_tile = attn_station<HD>(0), *v_tile = attn_station<HD>(1);
    float* row_values = attn_exchange<HD>(ATTN_BACKWARD) + ATTN_EXCHANGE;  // (stages, lse | delta, 32)
    float dk[HD / 2], dv[HD / 2];
    UNROLL for (int i = 0; i < HD / 2; i++) dk[i] = 0.0f, dv[i] = 0.0f;
    AttnRows<HD> k, v;

    attn_fetch<HD, ATTN_STATION>(k_tile, qkv + k_at, in_row, s.T - first, s.D);
    attn_fetch<HD, ATTN_STATION>(v_tile, qkv + v_at, in_row, s.T - first, s.D);
    for (int n = 1 - ATTN_STAGES; n < count; n++) {
        int next = n + ATTN_STAGES - 1;
        if (next < count) {
            int h = group * heads + next / per_head, t = (start + next % per_head) * ATTN_STREAM, stage = next % ATTN_STAGES;
            const floatX* q = qkv + in_at + t * in_row + attention_q_at(s, h);
            const floatX* g = dout + ((size_t)b * s.T + t) * out_row + h * s.D;
            attn_fetch<HD, ATTN_STREAM>(attn_stream<HD>(ATTN_BACKWARD, stage, 0), q, in_row, s.T - t, s.D);
            attn_fetch<HD, ATTN_STREAM>(attn_stream<HD>(ATTN_BACKWARD, stage, 1), g, out_row, s.T - t, s.D);
            if (threadIdx.x < 2 * ATTN_STREAM) {  // behind the end: probability 0
                int row = (int)threadIdx.x % ATTN_STREAM, is_delta = (int)threadIdx.x / ATTN_STREAM;
                size_t at = ((size_t)b * s.NH + h) * s.T + t + row;
                float x = is_delta ? 0.0f : INFINITY;
                if (t + row < s.T) x = is_delta ? delta[at] : lse[at] * ATTN_LOG2E;
                row_values[stage * 2 * ATTN_STREAM + (int)threadIdx.x] = x;
            }
        }
        cp_async_commit();
        if (n < 0) continue;
        cp_async_wait<ATTN_STAGES - 1>();
        __syncthreads();
        int stage = n % ATTN_STAGES, query = (start + n % per_head) * ATTN_STREAM;
        const floatX *q_tile = attn_stream<HD>(ATTN_BACKWARD, stage, 0), *dout_tile = attn_stream<HD>(ATTN_BACKWARD, stage, 1);
        const float *lse2 = row_values + stage * 2 * ATTN_STREAM, *shift = lse2 + ATTN_STREAM;
        float p[ATTN_SCORES], ds[ATTN_SCORES];
        if (n == 0 || HD > 64) attn_load_rows<HD>(&k, k_tile);
        attn_scores<HD>(p, k, q_tile);
        UNROLL for (int i = 0; i < ATTN_SCORES; i++) {
            bool future = query + score_column(i) < first + slot_row(score_slot(i));
            p[i] = future ? 0.0f : fast_exp2(fmaf(p[i], scale2, -lse2[score_column(i)]));
        }
        attn_accumulate<HD>(dv, p, dout_tile, attn_exchange<HD>(ATTN_BACKWARD));
        if (n == 0 || HD > 64) attn_load_rows<HD>(&v, v_tile);
        attn_scores<HD>(ds, v, dout_tile);
        UNROLL for (int i = 0; i < ATTN_SCORES; i++) ds[i] = p[i] * (ds[i] - shift[score_column(i)]);
        attn_accumulate<HD>(dk, ds, q_tile, attn_exchange<HD>(ATTN_BACKWARD));
        __syncthreads();
    }
    float one[ATTN_SLOTS], scale[ATTN_SLOTS];
    UNROLL for (int i = 0; i < ATTN_SLOTS; i++) one[i] = 1.0f, scale[i] = scale2 / ATTN_LOG2E;
    attn_store<HD>(dqkv + k_at, in_row, s.T - first, s.D, dk, scale, k_tile);
    attn_store<HD>(dqkv + v_at, in_row, s.T - first, s.D, dv, one, v_tile);
}

// dq of 64 queries: all keys and values up to them pass by.
template <int HD>
KERNEL LAUNCH_BOUNDS(ATTN_THREADS) attention_dq_kernel(floatX* dqkv, const float* delta, const floatX* dout, const float* lse,
                                                       const floatX* qkv, AttentionShape s, float scale2) {
    int first = (int)(gridDim.x - 1 - blockIdx.x) * ATTN_STATION, h = (int)blockIdx.y, b = (int)blockIdx.z;
    int group = h / (s.NH / s.NKV), end = first + ATTN_STATION < s.T ? first + ATTN_STATION : s.T;
    int count = (end + ATTN_STREAM - 1) / ATTN_STREAM;
    size_t in_row = attention_qkv_row(s), out_row = attention_out_row(s), in_at = (size_t)b * s.T * in_row;
    size_t q_at = in_at + (size_t)first * in_row + attention_q_at(s, h);
    const floatX *k = qkv + in_at + attention_k_at(s, group), *v = qkv + in_at + attention_v_at(s, group);
    floatX *q_tile = attn_station<HD>(0), *dout_tile = attn_station<HD>(1);
    float dq[HD / 2], lse2[ATTN_SLOTS], shift[ATTN_SLOTS];
    UNROLL for (int i = 0; i < HD / 2; i++) dq[i] = 0.0f;
    UNROLL for (int i = 0; i < ATTN_SLOTS; i++) {
        int t = first + slot_row(i);
        size_t at = ((size_t)b * s.NH + h) * s.T + t;
        lse2[i] = t < s.T ? lse[at] * ATTN_LOG2E : INFINITY;
        shift[i] = t < s.T ? delta[at] : 0.0f;
    }
    AttnRows<HD> q, g;

    attn_fetch<HD, ATTN_STATION>(q_tile, qkv + q_at, in_row, s.T - first, s.D);
    attn_fetch<HD, ATTN_STATION>(dout_tile, dout + ((size_t)b * s.T + first) * out_row + h * s.D, out_row, s.T - first, s.D);
    for (int n = 1 - ATTN_STAGES; n < count; n++) {
        int next = n + ATTN_STAGES - 1, key = n * ATTN_STREAM;
        if (next < count) {
            int t = next * ATTN_STREAM, stage = next % ATTN_STAGES;
            attn_fetch<HD, ATTN_STREAM>(attn_stream<HD>(ATTN_BACKWARD, stage, 0), k + t * in_row, in_row, s.T - t, s.D);
            attn_fetch<HD, ATTN_STREAM>(attn_stream<HD>(ATTN_BACKWARD, stage, 1), v + t * in_row, in_row, s.T - t, s.D);
        }
        cp_async_commit();
        if (n < 0) continue;
        cp_async_wait<ATTN_STAGES - 1>();
        __syncthreads();
        const floatX* k_tile = attn_stream<HD>(ATTN_BACKWARD, n % ATTN_STAGES, 0);
        const floatX* v_tile = attn_stream<HD>(ATTN_BACKWARD, n % ATTN_STAGES, 1);
        float p[ATTN_SCORES], ds[ATTN_SCORES];
        if (n == 0 || HD > 64) attn_load_rows<HD>(&q, q_tile);
        attn_scores<HD>(p, q, k_tile);
        if (n == 0 || HD > 64) attn_load_rows<HD>(&g, dout_tile);
        attn_scores<HD>(ds, g, v_tile);
        UNROLL for (int i = 0; i < ATTN_SCORES; i++) {
            int slot = score_slot(i);
            bool future = key + score_column(i) > first + slot_row(slot);
            float x = future ? 0.0f : fast_exp2(fmaf(p[i], scale2, -lse2[slot]));
            ds[i] = x * (ds[i] - shift[slot]);
        }
        attn_accumulate<HD>(dq, ds, k_tile, attn_exchange<HD>(ATTN_BACKWARD));
        __syncthreads();
    }
    float scale[ATTN_SLOTS];
    UNROLL for (int i = 0; i < ATTN_SLOTS; i++) scale[i] = scale2 / ATTN_LOG2E;
    attn_store<HD>(dqkv + q_at, in_row, s.T - first, s.D, dq, scale, q_tile);
}

// ---------------------------------------------------------------------------------------------------------------------
// Host side

// More than 48 KB of shared memory must be asked for, once per kernel and process.
template <int HD>
static void attn_allow_shared() {
    const cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
    CUDA_CHECK(cudaFuncSetAttribute(attention_forward_kernel<HD>, most, attn_shared_bytes(HD, ATTN_FORWARD, false)));
    CUDA_CHECK(cudaFuncSetAttribute(attention_dkdv_kernel<HD>, most, attn_shared_bytes(HD, ATTN_BACKWARD, true)));
    CUDA_CHECK(cudaFuncSetAttribute(attention_dq_kernel<HD>, most, attn_shared_bytes(HD, ATTN_BACKWARD, false)));
}
static UNUSED void attention_own_init() {
    attn_allow_shared<32>();
    attn_allow_shared<64>();
    attn_allow_shared<128>();
}

template <int HD>
static void attn_launch_forward(floatX* out, float* lse, const floatX* qkv, AttentionShape s, stream_t stream) {
    dim3 grid((s.T + ATTN_STATION - 1) / ATTN_STATION, s.NH, s.B);
    LAUNCH_SHARED(attention_forward_kernel<HD>, grid, dim3(ATTN_THREADS), attn_shared_bytes(HD, ATTN_FORWARD, false), stream)
    (out, lse, qkv, s, attention_scale(s) * ATTN_LOG2E);
}

template <int HD>
static void attn_launch_backward(floatX* dqkv, const float* delta, const floatX* dout, const float* lse, const floatX* qkv,
                                 AttentionShape s, stream_t stream) {
    int blocks = (s.T + ATTN_STATION - 1) / ATTN_STATION;
    float scale2 = attention_scale(s) * ATTN_LOG2E;
    dim3 keys(blocks, s.NKV, s.B), queries(blocks, s.NH, s.B), block(ATTN_THREADS);
    LAUNCH_SHARED(attention_dkdv_kernel<HD>, keys, block, attn_shared_bytes(HD, ATTN_BACKWARD, true), stream)
    (dqkv, delta, dout, lse, qkv, s, scale2);
    LAUNCH_SHARED(attention_dq_kernel<HD>, queries, block, attn_shared_bytes(HD, ATTN_BACKWARD, false), stream)
    (dqkv, delta, dout, lse, qkv, s, scale2);
}

// out (B,T,NH,D), lse (B,NH,T) = attention of qkv (B,T,(NH+2*NKV),D); D: a multiple of 8 up to 128, pointers 16-byte aligned.
static UNUSED void attention_own_forward(floatX* out, float* lse, const floatX* qkv, AttentionShape s, stream_t stream) {
    if (s.D <= 32) attn_launch_forward<32>(out, lse, qkv, s, stream);
    else if (s.D <= 64) attn_launch_forward<64>(out, lse, qkv, s, stream);
    else attn_launch_forward<128>(out, lse, qkv, s, stream);
}

// dqkv (like qkv) = gradient; delta (B,NH,T): scratch.
static UNUSED void attention_own_backward(floatX* dqkv, float* delta, const floatX* dout, const floatX* out, const float* lse,
                                          const floatX* qkv, AttentionShape s, stream_t stream) {
    LAUNCH(attention_delta_kernel, s.B * s.T * s.NH, WARP, stream)(delta, dout, out, s);
    if (s.D <= 32) attn_launch_backward<32>(dqkv, delta, dout, lse, qkv, s, stream);
    else if (s.D <= 64) attn_launch_backward<64>(dqkv, delta, dout, lse, qkv, s, stream);
    else attn_launch_backward<128>(dqkv, delta, dout, lse, qkv, s, stream);
}

#endif
