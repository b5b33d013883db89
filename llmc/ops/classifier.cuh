/*
The fused classifier: softmax, losses and the gradient of the logits, in place, for a list of weighted targets.

    per position  entries (y_k, w_k), k < K; W = sum of w_k;  loss = W lse(z) - sum_k w_k z[y_k]
                  dz[v] = scale (W p[v] - sum of the w_k whose y_k = v)

One softmax serves any number of targets: a further target is one gather and one corrected element. Entries that coincide add;
id -1 is absent and its weight leaves W. Columns V..Vp-1 are padding: outside the softmax, gradient exactly 0. Losses are the
plain cross-entropies lse - z[y_k] per entry, so the log shows every offset without a second pass.

    bytes per row: read Vp, write Vp elements of floatX (one read: the GPU keeps the row in registers; the CPU in its caches)

The id list is a strided view, so shifted tokens need no list in memory: id(n, k) = ids[n * row_stride + k * target_stride].
Tried and dropped: comparing every column with every target in registers (K = 17 doubled the kernel's instructions); storing
exp(z) in bf16 between the passes (double rounding).
*/
#pragma once

#include "rows.cuh"

typedef struct {
    const int* ids;        // id of entry k of row n: ids[n * row_stride + k * target_stride]
    const float* weights;  // weight:             weights[n * weight_stride + k]
    int count;             // K
    int row_stride, target_stride, weight_stride;
} Targets;

DEVICE int target_id(Targets t, int n, int k) { return t.ids[(size_t)n * t.row_stride + (size_t)k * t.target_stride]; }
DEVICE float target_weight(Targets t, int n, int k) { return t.weights[(size_t)n * t.weight_stride + k]; }

// One corrected element: entry k writes the final gradient of its column unless an earlier entry has the same id.
DEVICE void correct_target(floatX* z, Targets t, int n, int k, float dz_dense, float scale) {
    int id = target_id(t, n, k);
    float weight = 0.0f;
    for (int j = 0; j < t.count; j++) {
        if (target_id(t, n, j) != id) continue;
        if (j < k) return;
        weight += target_weight(t, n, j);
    }
    from_float(&z[id], dz_dense - scale * weight);
}

// Largest of x and y that lets NaN through and vectorises: floats compared as sign-corrected integers.
#if !GPU_EXECUTION
DEVICE int32_t float_key(float x) {
    int32_t i = (int32_t)float_bits(x);
    return i ^ ((i >> 31) & 0x7fffffff);
}
DEVICE float key_float(int32_t key) { return bits_float((uint32_t)(key ^ ((key >> 31) & 0x7fffffff))); }
#endif

// Sums exp(z - max) of one row of V live columns; *max receives the largest logit.
template <int P>
DEVICE_ONLY float row_softmax_sum(Row<floatX, P>* row, const floatX* z, int V, float* max) {
#if GPU_EXECUTION
    float largest = -INFINITY, sum = 0.0f;
    FOR_ROW(j, i, (V + PACK - 1) / PACK) {
        Vec v = row_first(row, j, z, i);
        FOR_PACK(k) if (i * PACK + k < V) largest = fmaxf(largest, v.v[k]);
    }
    largest = team_max(largest);
    FOR_ROW(j, i, (V + PACK - 1) / PACK) {
        Vec v = row_again(row, j, z, i);
        FOR_PACK(k) if (i * PACK + k < V) sum += fast_exp(v.v[k] - largest);
    }
    *max = largest;
    return team_sum(sum);
#else
    (void)row;
    int32_t largest = INT32_MIN;
    FOR_LANES(i, V) {
        int32_t key = float_key(to_float(z[i]));
        largest = key > largest ? key : largest;
    }
    *max = key_float(largest);
    float m = *max, sum = 0.0f;
    FOR_LANES(i, V) sum += fast_exp(to_float(z[i]) - m);
    return sum;
#endif
}

template <bool GRADIENT, int P>
KERNEL LAUNCH_BOUNDS(1024) classifier_kernel(floatX* logits, float* losses, int loss_stride, Targets targets, float scale,
                                             const float* RESTRICT loss_scale, int rows, int V, int Vp, bool accumulate) {
    FOR_ROWS(r, rows) {
        floatX* z = logits + (size_t)r * Vp;
        Row<floatX, P> row;
        float max;
        float sum = row_softmax_sum(&row, z, V, &max);
        float lse = max + logf(sum), W = 0.0f;
        for (int k = 0; k < targets.count; k++) {
            if (target_id(targets, r, k) >= 0) W += target_weight(targets, r, k);
        }
        float dscale = GRADIENT ? scale * *loss_scale : 0.0f;
        float factor = W * dscale / sum;
        float mine = 0.0f;  // logit of the target that this lane looks after (K <= lanes)
        FOR_LANES(k, targets.count) {
            int id = target_id(targets, r, k);
            mine = id >= 0 ? to_float(z[id]) : lse;
            float* loss = &losses[(size_t)k * loss_stride + r];
            *loss = (accumulate ? *loss : 0.0f) + lse - mine;
        }
        if (!GRADIENT) continue;
#if GPU_EXECUTION
        __syncthreads();  // every target's logit is read before any column is overwritten
        FOR_ROW(j, i, (V + PACK - 1) / PACK) {
            Vec v = row_again(&row, j, (const floatX*)z, i);
            FOR_PACK(k) v.v[k] = i * PACK + k < V ? fast_exp(v.v[k] - max) * factor : 0.0f;
            store(z, (size_t)i, v);
        }
        for (int i = (V + PACK - 1) / PACK + LANE; i < Vp / PACK; i += LANE_COUNT) store(z, (size_t)i, Vec{});
        __syncthreads();  // every column is written before the targets' columns are corrected
        FOR_LANES(k, targets.count) {
            if (target_id(targets, r, k) >= 0) correct_target(z, targets, r, k, fast_exp(mine - max) * factor, dscale);
        }
        __syncthreads();  // the next row reuses the exchange buffers
#else
        float dense[64];
        for (int k = 0; k < targets.count; k++) {
            int id = target_id(targets, r, k);
            dense[k] = id >= 0 ? fast_exp(to_float(z[id]) - max) * factor : 0.0f;
        }
        FOR_LANES(i, V) from_float(&z[i], fast_exp(to_float(z[i]) - max) * factor);
        FOR_LANES(i, Vp - V) from_float(&z[V + i], 0.0f);
        for (int k = 0; k < targets.count; k++) {
            if (target_id(targets, r, k) >= 0) correct_target(z, targets, r, k, dense[k], dscale);
        }
#endif
    }
}

enum { MAX_TARGETS = 64 };

// logits (rows,Vp) -> dlogits in place when gradient is set, times scale * *loss_scale; losses[k * loss_stride + row] (=|+=)
// the cross-entropy of entry k. V live columns, Vp a multiple of 8. At most MAX_TARGETS entries per row.
UNUSED static void classifier(floatX* logits, float* losses, int loss_stride, Targets targets, float scale,
                              const float* loss_scale, int rows, int V, int Vp, bool gradient, bool accumulate, stream_t stream) {
    if (targets.count > MAX_TARGETS) fail("%d targets per position: at most %d", targets.count, MAX_TARGETS);
    (void)stream;
    int packs = (V + PACK - 1) / PACK;
    int lanes = !GPU_EXECUTION ? 1 : packs > 2048 ? 1024 : packs > 64 ? 256 : 64;
#define CALL(P)                                                                                                              \
    if (gradient) LAUNCH((classifier_kernel<true, P>), rows, lanes, stream)                                                  \
    (logits, losses, loss_stride, targets, scale, loss_scale, rows, V, Vp, accumulate);                                      \
    else LAUNCH((classifier_kernel<false, P>), rows, lanes, stream)(logits, losses, loss_stride, targets, scale, loss_scale, \
                                                                    rows, V, Vp, accumulate)
    ROW_SWITCH_WIDE(packs, lanes, CALL);
#undef CALL
}
