/*
The fused classifier: softmax, losses and the gradient of the logits, in place, for a list of weighted targets (targets.cuh).

    per position  entries (y_k, w_k), k < K; W = sum of w_k;  loss = W lse(z) - sum_k w_k z[y_k]
                  dz[v] = scale (W p[v] - sum of the w_k whose y_k = v)

One softmax serves any number of targets: a further target is one gather and one corrected element. Entries that coincide add;
id -1 is absent and its weight leaves W. Columns V..Vp-1 are padding: outside the softmax, gradient exactly 0; so are
columns whose logit is -infinity. Losses are the plain cross-entropies lse - z[y_k] per shifted token, and one of each soft
table's row, so the log shows every part of the objective without a second pass.

    bytes per row: read Vp, write Vp elements of floatX (one read: the GPU keeps the row in registers, sm_90 and sm_100 in their
    second-level cache; the CPU in its caches)

Tried and dropped: comparing every column with every target in registers (K = 17 doubled the kernel's instructions); storing
exp(z) in bf16 between the passes (double rounding).
*/
#pragma once

#include "rows.cuh"
#include "targets.cuh"

// Largest of x and y that lets NaN through and vectorises: floats compared as sign-corrected integers.
#if !GPU_EXECUTION
DEVICE int32_t float_key(float x) {
    int32_t i = (int32_t)float_bits(x);
    return i ^ ((i >> 31) & 0x7fffffff);
}
DEVICE float key_float(int32_t key) { return bits_float((uint32_t)(key ^ ((key >> 31) & 0x7fffffff))); }
#endif

// Column V / PACK * PACK + LANE: of the last columns, too few to fill a pack, each is looked after by one lane. Masks inside the
// packs instead cost registers that the row needs: the compiler keeps one predicate a column.
DEVICE_ONLY float row_tail(const floatX* z, int V) { return LANE < V % PACK ? to_float(z[V / PACK * PACK + LANE]) : -INFINITY; }

#if GPU_EXECUTION
// row_softmax_sum in one read, of a row that is not kept: a lane's sum is relative to the largest logit that it has met so far.
DEVICE_ONLY float row_softmax_sum_once(const floatX* z, int V, float* max) {
    float largest = row_tail(z, V), sum = largest == -INFINITY ? 0.0f : fast_exp(largest - largest);  // NaN stays
    FOR_LANES(i, V / PACK) {
        Vec v = load(z, (size_t)i);
        float before = largest;
        FOR_PACK(k) largest = fmaxf(largest, v.v[k]);
        float base = largest == -INFINITY ? 0.0f : largest;
        sum *= fast_exp(before - base);
        FOR_PACK(k) sum += fast_exp(v.v[k] - base);
    }
    *max = team_max(largest);
    return team_sum(largest == -INFINITY ? 0.0f : sum * fast_exp(largest - *max));
}
#endif

// Sums exp(z - max) of one row of V live columns; *max receives the largest logit.
template <int P>
DEVICE_ONLY float row_softmax_sum(Row<floatX, P>* row, const floatX* z, int V, float* max) {
#if GPU_EXECUTION
    if constexpr (P == 0) return row_softmax_sum_once(z, V, max);
    float tail = row_tail(z, V), largest = tail;
    FOR_ROW(j, i, V / PACK) {
        Vec v = row_first(row, j, z, i);
        FOR_PACK(k) largest = fmaxf(largest, v.v[k]);
    }
    largest = team_max(largest);
    float sum = fast_exp(tail - largest);
    FOR_ROW(j, i, V / PACK) {
        Vec v = row_again(row, j, z, i);
        FOR_PACK(k) sum += fast_exp(v.v[k] - largest);
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

// ---------------------------------------------------------------------------------------------------------------------
// Entries of one position. GPU: a lane looks after each. CPU: read into arrays first.
// What a row is trained on, in shared memory on the GPU, where lane k looks after entry k. It is read before the row of logits
// comes into the registers, which are then full.
typedef struct {
    int id[MAX_TARGETS];
    float weight[MAX_TARGETS], z[MAX_TARGETS];          // z: the logit, 0 where the entry is absent
    float share[MAX_TARGETS], main_share[SOFT_TABLES];  // of the table's own cross-entropy: of an entry, of the main target
    float W;
} RowList;

DEVICE float entry_ce(const RowList* list, int k, float lse) { return list->id[k] >= 0 ? lse - list->z[k] : 0.0f; }

template <bool SOFT>
DEVICE_ONLY void read_row_list(RowList* list, const Targets& t, const floatX* z, int n, int total) {
    RowTargets row = row_targets<SOFT>(t, n);
    for (int k = LANE; k < total; k += LANE_COUNT) {
        list->share[k] = row_entry<SOFT>(t, row, n, k, &list->id[k], &list->weight[k]);
        list->z[k] = list->id[k] >= 0 ? to_float(z[list->id[k]]) : 0.0f;
    }
    if (!FIRST_LANE) return;
    list->W = row.W;
    if (SOFT) {
        UNROLL for (int i = 0; i < SOFT_TABLES; i++) list->main_share[i] = row.main_share[i];
    }
}

// Losses of entry k (count of them) and of each table: of its row, or of the main target where the row does not count.
template <bool SOFT>
DEVICE_ONLY void write_losses(float* losses, int loss_stride, const Targets& t, int n, const RowList* list, float lse,
                              bool accumulate) {
    for (int k = LANE; k < t.count; k += LANE_COUNT) {
        float* loss = &losses[(size_t)k * loss_stride + n];
        float z = list->id[k] >= 0 ? list->z[k] : lse;
        *loss = (accumulate ? *loss : 0.0f) + lse - z;  // for any number of entries the same bits: no sum that may be reordered
    }
    for (int i = 0, first = t.count; SOFT && i < t.tables; i++) {
        float sum = FIRST_LANE && list->main_share[i] != 0.0f ? list->main_share[i] * entry_ce(list, 0, lse) : 0.0f;
        for (int k = first + LANE; k < first + t.table[i].K; k += LANE_COUNT) {
            if (list->share[k] != 0.0f) sum += list->share[k] * entry_ce(list, k, lse);
        }
        sum = team_sum(sum);
        float* loss = &losses[(size_t)t.table[i].loss_slot * loss_stride + n];
        if (FIRST_LANE) *loss = (accumulate ? *loss : 0.0f) + sum;
        first += t.table[i].K;
    }
}

// Entries that coincide: the first one writes the gradient of the column for all of them.
DEVICE void correct_target(floatX* z, const RowList* list, int k, int total, float max, float factor, float scale) {
    int id = list->id[k], j = 0;
    float weight = 0.0f;
    while (j < k && list->id[j] != id) j++;
    if (id < 0 || j < k) return;
    for (; j < total; j++) weight += list->id[j] == id ? list->weight[j] : 0.0f;
    from_float(&z[id], fast_exp(list->z[k] - max) * factor - scale * weight);
}

template <bool GRADIENT, bool SOFT, int P>
KERNEL LAUNCH_BOUNDS(1024) classifier_kernel(floatX* logits, float* losses, int loss_stride, Targets targets, float scale,
                                             const float* RESTRICT loss_scale, int rows, int V, int Vp, bool accumulate) {
    TEAM_MEMORY RowList list;
    int total = SOFT ? targets_total(targets) : targets.count;
    FOR_ROWS(r, rows) {
        if (targets_no_row(targets, r)) continue;
        floatX* z = logits + (size_t)r * Vp;
        read_row_list<SOFT>(&list, targets, z, r, total);
        team_barrier();  // keeps the loads of the row behind the list: together they would spill
        Row<floatX, P> row;
        float max;
        float sum = row_softmax_sum(&row, z, V, &max);  // has barriers: behind it the list can be read
        write_losses<SOFT>(losses, loss_stride, targets, r, &list, max + logf(sum), accumulate);
        if (GRADIENT) {
            float factor = list.W * scale * *loss_scale / sum;
            float tail = row_tail(z, V);
            FOR_ROW(j, i, V / PACK) {
                Vec v = row_again(&row, j, (const floatX*)z, i);
                FOR_PACK(k) v.v[k] = fast_exp(v.v[k] - max) * factor;
                store(z, (size_t)i, v);
            }
            FOR_LANES(i, Vp - V / PACK * PACK) {
                from_float(&z[V / PACK * PACK + i], i < V % PACK ? fast_exp(tail - max) * factor : 0.0f);
            }
            team_barrier();  // every column is written before the targets' columns are corrected
            for (int k = LANE; k < total; k += LANE_COUNT) correct_target(z, &list, k, total, max, factor, scale * *loss_scale);
        }
        team_barrier();  // the next row reuses the list
    }
}

// A row of 50,304 in registers takes a whole multiprocessor, which then loads or computes, not both. Two blocks that read the row
// once more from the second-level cache are faster where it holds what is under way and half as much again: on an H100, 8192 rows
// took 0.64 ms instead of 0.85. Older cards stay with the one read: nobody has measured them.
UNUSED static bool rows_are_read_again(size_t row_bytes, int packs, int lanes) {
#if GPU_EXECUTION
    static int major, processors, cache;
    if (!major) {
        CUDA_CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
        CUDA_CHECK(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, 0));
        CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    }
    return (major == 9 || major == 10) && lanes == 1024 && packs > 4 * lanes &&
           3 * row_bytes * (size_t)processors <= (size_t)cache;
#else
    (void)row_bytes, (void)packs, (void)lanes;
    return false;
#endif
}

// logits (rows,Vp) -> dlogits in place when gradient is set, times scale * *loss_scale; losses[k * loss_stride + row] (=|+=)
// the cross-entropy of entry k. V live columns, Vp a multiple of 8. At most MAX_TARGETS entries per row.
UNUSED static void classifier(floatX* logits, float* losses, int loss_stride, Targets targets, float scale,
                              const float* loss_scale, int rows, int V, int Vp, bool gradient, bool accumulate, stream_t stream) {
    int total = targets_total(targets);
    if (total > MAX_TARGETS) fail("%d targets per position: at most %d", total, MAX_TARGETS);
    (void)stream;
    moves(WORK_CLASSIFIER, (gradient ? 2.0 : 1.0) * rows * Vp * sizeof(floatX));
    int packs = (V + PACK - 1) / PACK;
    int lanes = !GPU_EXECUTION ? 1 : packs > 2048 ? 1024 : packs > 64 ? 256 : 64;
#define LAUNCH_CLASSIFIER(GRADIENT, SOFT, P)                            \
    LAUNCH((classifier_kernel<GRADIENT, SOFT, P>), rows, lanes, stream) \
    (logits, losses, loss_stride, targets, scale, loss_scale, rows, V, Vp, accumulate)
#define CALL(P)                                                       \
    if (gradient && targets.tables) LAUNCH_CLASSIFIER(true, true, P); \
    else if (gradient) LAUNCH_CLASSIFIER(true, false, P);             \
    else if (targets.tables) LAUNCH_CLASSIFIER(false, true, P);       \
    else LAUNCH_CLASSIFIER(false, false, P)
    if (rows_are_read_again((size_t)Vp * sizeof(floatX), packs, lanes)) {
        CALL(0);
    } else ROW_SWITCH_WIDE(packs, lanes, CALL);
#undef CALL
#undef LAUNCH_CLASSIFIER
}
