/*
Attention of one new token over the keys and values of those before it: what text generation runs for every token.

    kv (2,NH,T,D)      one layer's cache: a head's keys, and its values, of positions 0 .. are neighbours in memory
    qkv (3,NH,D)       the new token's row, already rotated; its key and value enter the cache at `position`
    scores (NH,T)      fp32 scratch: q k / sqrt(D), then exp of it less the maximum

    a team per head:   | lane 0: key 0 | lane 1: key 1 | ..              scores: a lane has whole keys
                       | lanes 0..D/PACK-1: value 0 | next: value 1 |..  output: a group of lanes has one value at a time, adds up
                                                                         every KEY_GROUPS-th; then the groups are added

Same sums as the other executions of attention in another order: equal within fp32 rounding, not to the bit. One team a head
leaves most of a GPU idle; the products of a one-token step, which read every weight, are what takes its time.
*/
#pragma once

#include "attention_shape.h"
#include "rope.cuh"
#include "rows.cuh"

enum { DECODE_LANES = 256 };

#if GPU_EXECUTION
#define KEY_GROUP(packs) (LANE / (packs))
#define KEY_GROUPS(packs) (LANE_COUNT / (packs))
#define FOR_KEY_PACKS(i, packs) if (int i = LANE % (packs); KEY_GROUP(packs) < KEY_GROUPS(packs))
DEVICE_ONLY void keys_flush(const Columns<1>* o, float* partial, int packs) {
    if (KEY_GROUP(packs) < KEY_GROUPS(packs)) store(partial, (size_t)LANE, o->sum[0]);
}
#else
#define KEY_GROUP(packs) 0
#define KEY_GROUPS(packs) 1
#define FOR_KEY_PACKS(i, packs) FOR_LANES(i, packs)
DEVICE void keys_flush(const Columns<1>*, float*, int) {}
#endif

KERNEL LAUNCH_BOUNDS(DECODE_LANES)
    attention_decode_kernel(floatX* RESTRICT out, float* scores, floatX* kv, const floatX* RESTRICT qkv, float scale,
                            int position, int T, int NH, int D) {
    alignas(16) TEAM_MEMORY float partial[DECODE_LANES * PACK];  // (KEY_GROUPS,D)
    int packs = D / PACK, count = position + 1;
    FOR_ROWS(h, NH) {
        const floatX* q = qkv + (size_t)h * D;
        floatX *keys = kv + (size_t)h * T * D, *values = kv + (size_t)(NH + h) * T * D;
        float* s = scores + (size_t)h * T;
        FOR_LANES(i, packs) {
            store(keys + (size_t)position * D, (size_t)i, load(q + (size_t)NH * D, (size_t)i));
            store(values + (size_t)position * D, (size_t)i, load(q + (size_t)2 * NH * D, (size_t)i));
        }
        team_barrier();
        float max = -INFINITY, sum = 0.0f;
        FOR_LANES(t, count) {
            float dot = 0.0f;
            for (int i = 0; i < packs; i++) {
                Vec a = load(q, (size_t)i), b = load((const floatX*)keys + (size_t)t * D, (size_t)i);
                FOR_PACK(k) dot += a.v[k] * b.v[k];
            }
            s[t] = dot * scale;
        }
        FOR_LANES(t, count) max = fmaxf(max, s[t]);
        max = team_max(max);
        FOR_LANES(t, count) {
            s[t] = fast_exp(s[t] - max);
            sum += s[t];
        }
        sum = team_sum(sum);
        team_barrier();
        Columns<1> o;
        columns_clear(&o, partial, packs);
        for (int t = KEY_GROUP(packs); t < count; t += KEY_GROUPS(packs)) {
            FOR_KEY_PACKS(i, packs) {
                Vec x = load((const floatX*)values + (size_t)t * D, (size_t)i);
                FOR_PACK(k) x.v[k] *= s[t];
                columns_add(&o, 0, partial, i, x);
            }
        }
        keys_flush(&o, partial, packs);
        team_barrier();
        FOR_LANES(i, packs) {
            Vec x = {};
            for (int g = 0; g < KEY_GROUPS(packs); g++) {
                Vec part = load((const float*)partial, (size_t)(g * packs + i));
                FOR_PACK(k) x.v[k] += part.v[k];
            }
            FOR_PACK(k) x.v[k] /= sum;
            store(out + (size_t)h * D, (size_t)i, x);
        }
        team_barrier();
    }
}

// out (NH,D) = attention of the row qkv (3,NH,D) at `position` over positions 0 .. position; kv (2,NH,T,D) has those below, and
// gets this one. scores: NH * T floats of scratch. D: a multiple of 8, at most 128; position < T.
UNUSED static void attention_decode(floatX* out, float* scores, floatX* kv, const floatX* qkv, int position, int T, int NH, int D,
                                    stream_t stream) {
    AttentionShape shape = {1, T, NH, NH, D};
    attention_check_shape(shape, 128);
    (void)stream;
    LAUNCH(attention_decode_kernel, NH, DECODE_LANES, stream)
    (out, scores, kv, qkv, attention_scale(shape), position, T, NH, D);
}

KERNEL cache_fill_kernel(floatX* RESTRICT kv, const floatX* RESTRICT qkv, int N, int T, int NH, int D) {
    FOR_ROWS(r, N) {
        const floatX* k = qkv + ((size_t)r * 3 + 1) * NH * D;
        FOR_LANES_2(h, 2 * NH, i, D / PACK) {
            store(kv + ((size_t)h * T + r) * D, (size_t)i, load(k + (size_t)h * D, (size_t)i));
        }
    }
}

// Keys and values of positions 0 .. N-1 into kv (2,NH,T,D), from the rows qkv (N,3,NH,D) of a whole forward pass.
UNUSED static void cache_fill(floatX* kv, const floatX* qkv, int N, int T, int NH, int D, stream_t stream) {
    (void)stream;
    LAUNCH(cache_fill_kernel, N, WARP, stream)(kv, qkv, N, T, NH, D);
}
