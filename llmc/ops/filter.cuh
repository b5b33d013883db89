/*
The token filter's choice of positions, made on the device from the losses of the next token, without the host knowing it.

    topk     the keep largest losses of the micro-batch; of equal ones the first. Their number is known, so their rows are
             gathered and the products of the gradient are smaller:

             losses (N) --rank of every one--> position (rows): the kept ones, largest loss first; rows = keep rounded up to 8
                                               slot (N): the inverse, -1 for the others        factor (rows): 0 for the padding

    excess   topk of what is left of the losses when those of a reference model are taken off: what both find hard is noise,
             what the reference knows and this model does not is worth learning (Lin et al. 2024)

    minmax   a loss that is high within its own sequence: (l - min) / (max - min + 1e-8) > threshold. Their number is not known:
             factor (N) is 0 for the others, and every product keeps its size

factor is what the mean is made of: `kept`, N / (number kept), so that a mean over N positions becomes one over the kept ones;
`all`, 1. The rank of a loss is how many are larger: one launch, no sort. N^2 comparisons, 0.3 billion for 16,384 positions,
beside the 630 billion multiplications of one product over GPT-2's vocabulary.
A loss that is not a number leaves ranks twice or unused; the step it belongs to is not applied.

Tried and dropped: taking the reference off inside the ranking (N^2 subtractions and twice the reads, to save a launch over N);
rows in the order of their positions (a second launch, for a prefix sum; a product does not care).
*/
#pragma once

#include "targets.cuh"

enum { FILTER_TARGETS = 8 };                                            // tokens ahead that a filtered list may have
typedef enum { FILTER_TOPK, FILTER_MINMAX, FILTER_EXCESS } FilterRule;  // in the order of FILTER_RULES
#define FILTER_RULES "topk|minmax|excess"

KERNEL filter_topk_kernel(int* RESTRICT position, int* RESTRICT slot, float* RESTRICT factor, const float* RESTRICT losses, int N,
                          int keep, int rows, float weight) {
    FOR_EACH(n, (size_t)N) {
        float mine = losses[n];
        int rank = 0;
        for (int i = 0; i < N / PACK; i++) {
            Vec other = load(losses, (size_t)i);
            FOR_PACK(k) rank += (other.v[k] > mine) | ((other.v[k] == mine) & ((size_t)(i * PACK + k) < n));
        }
        slot[n] = rank < rows ? rank : -1;
        if (rank >= rows) continue;
        position[rank] = (int)n;
        factor[rank] = rank < keep ? weight : 0.0f;
    }
}

// losses (N), N a multiple of PACK -> position (rows), slot (N), factor (rows). 1 <= keep <= rows <= N. weight: factor of what is
// kept.
UNUSED static void filter_topk(int* position, int* slot, float* factor, const float* losses, int N, int keep, int rows,
                               float weight, stream_t stream) {
    (void)stream;
    LAUNCH(filter_topk_kernel, (N + 63) / 64, 64, stream)(position, slot, factor, losses, N, keep, rows, weight);
}

KERNEL filter_excess_kernel(float* RESTRICT losses, const float* RESTRICT reference, int N) {
    FOR_EACH(n, (size_t)N) losses[n] -= reference[n];
}

// losses (N) -= reference (N), both in nats: what filter_topk then ranks.
UNUSED static void filter_excess(float* losses, const float* reference, int N, stream_t stream) {
    (void)stream;
    LAUNCH(filter_excess_kernel, (N + 127) / 128, 128, stream)(losses, reference, N);
}

KERNEL filter_minmax_kernel(float* RESTRICT factor, float* RESTRICT counts, const float* RESTRICT losses, int B, int T,
                            float threshold) {
    FOR_ROWS(b, B) {
        const float* row = losses + (size_t)b * T;
        float* out = factor + (size_t)b * T;
        float high = -INFINITY, low = INFINITY, kept = 0.0f;
        FOR_LANES(t, T) {
            high = row[t] > high ? row[t] : high;
            low = row[t] < low ? row[t] : low;
        }
        high = team_max(high), low = -team_max(-low);
        FOR_LANES(t, T) {
            bool keeps = (row[t] - low) / (high - low + 1e-8f) > threshold;
            out[t] = keeps ? 1.0f : 0.0f;
            kept += keeps ? 1.0f : 0.0f;
        }
        kept = team_sum(kept);
        if (FIRST_LANE) counts[b] = kept;
    }
}

KERNEL filter_mean_kernel(float* RESTRICT factor, const float* RESTRICT counts, int B, int T) {
    FOR_ROWS(b, B) {
        float kept = 0.0f;
        FOR_LANES(i, B) kept += counts[i];
        kept = team_sum(kept);  // exact: below 2^24
        float weight = kept > 0.0f ? (float)B * (float)T / kept : 0.0f;
        FOR_LANES(t, T) factor[(size_t)b * T + t] *= weight;
    }
}

// losses (B,T) -> factor (B,T). counts: B floats of scratch. mean_of_kept: factor is N / (number kept) instead of 1.
UNUSED static void filter_minmax(float* factor, float* counts, const float* losses, int B, int T, float threshold,
                                 bool mean_of_kept, stream_t stream) {
    (void)stream;
    LAUNCH(filter_minmax_kernel, B, 256, stream)(factor, counts, losses, B, T, threshold);
    if (mean_of_kept) LAUNCH(filter_mean_kernel, B, 256, stream)(factor, counts, B, T);
}

// ---------------------------------------------------------------------------------------------------------------------
KERNEL gather_rows_kernel(floatX* RESTRICT to, const floatX* RESTRICT from, const int* RESTRICT position, int rows, int C) {
    FOR_ROWS(r, rows) {
        const floatX* row = from + (size_t)position[r] * C;
        FOR_LANES(i, C / PACK) * (Raw<floatX>*)(to + (size_t)r * C + i * PACK) = load_raw(row, (size_t)i);
    }
}

// to (rows,C): the rows of from (N,C) at position (rows)
UNUSED static void gather_rows(floatX* to, const floatX* from, const int* position, int rows, int C, stream_t stream) {
    (void)stream;
    moves(WORK_OTHER, 2.0 * rows * C * sizeof(floatX));
    LAUNCH(gather_rows_kernel, rows, WARP, stream)(to, from, position, rows, C);
}

KERNEL spread_rows_kernel(floatX* RESTRICT to, const floatX* RESTRICT from, const int* RESTRICT slot, int N, int C) {
    FOR_ROWS(n, N) {
        floatX* row = to + (size_t)n * C;
        if (slot[n] < 0) {
            FOR_LANES(i, C / PACK) store(row, (size_t)i, Vec{});
        } else {
            const floatX* source = from + (size_t)slot[n] * C;
            FOR_LANES(i, C / PACK) * (Raw<floatX>*)(row + i * PACK) = load_raw(source, (size_t)i);
        }
    }
}

// to (N,C): row n is row slot[n] of from, or 0 where slot[n] is -1
UNUSED static void spread_rows(floatX* to, const floatX* from, const int* slot, int N, int C, stream_t stream) {
    (void)stream;
    moves(WORK_OTHER, 2.0 * N * C * sizeof(floatX));
    LAUNCH(spread_rows_kernel, N, WARP, stream)(to, from, slot, N, C);
}

// A list of targets of other positions, or with other weights, written out.
typedef struct {
    int* ids;         // (rows, FILTER_TARGETS), count of them in use
    float* weights;   // the same
    int* table_rows;  // (SOFT_TABLES, rows)
} FilterList;

KERNEL filter_targets_kernel(FilterList list, Targets t, const int* RESTRICT position, const float* RESTRICT factor, int rows) {
    FOR_EACH(r, (size_t)rows) {
        int n = position ? position[r] : (int)r;
        for (int k = 0; k < t.count; k++) {
            list.ids[r * t.count + k] = target_id(t, n, k);
            list.weights[r * t.count + k] = target_weight(t, n, k) * factor[r];
        }
        for (int i = 0; i < t.tables; i++) list.table_rows[(size_t)i * rows + r] = t.table[i].rows[n];
    }
}

// The targets of the positions position (rows; NULL: 0, 1, ..), every weight times factor (rows), written to list.
UNUSED static Targets filter_targets(FilterList* list, Targets t, const int* position, const float* factor, int rows,
                                     stream_t stream) {
    (void)stream;
    if (t.count > FILTER_TARGETS) fail("token filter: %d tokens ahead, at most %d", t.count, FILTER_TARGETS);
    LAUNCH(filter_targets_kernel, (rows + 127) / 128, 128, stream)(*list, t, position, factor, rows);
    Targets kept = t;
    kept.ids = list->ids, kept.weights = list->weights;
    kept.row_stride = kept.weight_stride = t.count, kept.target_stride = 1;
    kept.position = position;
    for (int i = 0; i < t.tables; i++) kept.table[i].rows = list->table_rows + (size_t)i * rows;
    return kept;
}

KERNEL add_losses_kernel(float* RESTRICT losses, const float* RESTRICT fresh, int slots, int stride, int N, bool accumulate) {
    FOR_EACH(n, (size_t)N) {
        for (int s = 0; s < 32; s++) {
            size_t at = (size_t)s * stride + n;
            if (slots >> s & 1) losses[at] = (accumulate ? losses[at] : 0.0f) + fresh[at];
        }
    }
}

// losses (=|+=) fresh in the slots of a bit mask, `stride` floats apart, N in use
UNUSED static void add_losses(float* losses, const float* fresh, int slots, int stride, int N, bool accumulate, stream_t stream) {
    (void)stream;
    LAUNCH(add_losses_kernel, (N + 127) / 128, 128, stream)(losses, fresh, slots, stride, N, accumulate);
}
