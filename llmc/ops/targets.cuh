/*
What one position is trained to predict: a list of (id, weight), read where it lies instead of being written out.

    shifted tokens   entries 0 .. count-1: id = ids[n * row_stride + k * target_stride], weight = weights[n * weight_stride + k]
    soft tables      then K entries per table: a row of likely alternatives, chosen by the token rows[n]
                         n-grams: rows = the input token, the entries are what follows it in the training text
                         neighbours: rows = the main target, the entries are tokens that mean nearly the same

A table takes a share alpha of the main target's weight c (entry 0) and gives it to its row q:

    main target   c (1 - alpha + alpha m)      entry j of the row   c alpha f p_j           p_j: probs, sum 1 over a row's entries
    plain         m = 0, f = 1                                      the row replaces the main target
    corrected     y among the entries: m = 0, f = (g - 1) / (g - P);   else m = 1, f = P / (g - P)
                  (P = covered[row], the share of all counts that the entries cover; g = gamma > 1: the estimator of CoCoNT,
                  Sathe and Sarawagi 2024, whose expectation over y is the whole n-gram distribution)
    empty row, or a position that is not smoothed   m = 1, f = 0: the main target as it was, to the bit

id -1 is absent and its weight leaves the sum W. A row is 2 K numbers of 4 bytes; a table of 50257 x 16 (6.4 MB) stays in a
GPU's second-level cache. Tried and dropped: writing the list out once a micro-step (N (K + 1) 8 bytes written and read again).
*/
#pragma once

#include "../base/math.cuh"

enum { MAX_TARGETS = 64, SOFT_TABLES = 2 };

typedef struct {
    const int* ids;        // (V,K): entries of a row, -1 behind the last; an empty row begins with -1
    const float* probs;    // (V,K)
    const float* covered;  // (V), NULL: plain
    const int* rows;       // the table row of position n is rows[n]
    const float* alpha;    // one number on the device
    float gamma;
    int K;
    int loss_slot;  // of the losses buffer: where the row's cross-entropy goes
    int first, T;   // only the first positions of each sequence of T are smoothed; first = 0: all
} SoftTable;

typedef struct {
    const int* ids;
    const float* weights;
    int count;
    int row_stride, target_stride, weight_stride;
    int tables;           // of `table` in use
    int first_row;        // position of row 0 in the micro-batch
    const int* position;  // of every row, where they do not follow one another; NULL: first_row + row
    const int* live;  // one number on the device: how many rows there are, counted from row 0; NULL: all that the host asks for
    SoftTable table[SOFT_TABLES];
} Targets;

// A list without tables. ids and weights are device memory, laid out as the head of this file says.
UNUSED static Targets targets_list(const int* ids, const float* weights, int count, int row_stride, int target_stride,
                                   int weight_stride) {
    Targets t;
    memset(&t, 0, sizeof(t));
    t.ids = ids, t.weights = weights, t.count = count;
    t.row_stride = row_stride, t.target_stride = target_stride, t.weight_stride = weight_stride;
    return t;
}

// The list of the positions from `row` on.
UNUSED static Targets targets_from(Targets t, int row) {
    t.ids += (size_t)row * t.row_stride;
    t.weights += (size_t)row * t.weight_stride;
    t.first_row += row;
    if (t.position) t.position += row;
    for (int i = 0; i < t.tables; i++) t.table[i].rows += row;
    return t;
}

// Is row r one that only the host asks for? Read for each row: kept in a register, the limit would spill the classifier's row.
DEVICE bool targets_no_row(const Targets& t, int r) { return t.live && t.first_row + r >= *t.live; }

// All entries of a position, absent ones included.
DEVICE int targets_total(const Targets& t) {
    int total = t.count;
    for (int i = 0; i < t.tables; i++) total += t.table[i].K;
    return total;
}

DEVICE int target_id(const Targets& t, int n, int k) { return t.ids[(size_t)n * t.row_stride + (size_t)k * t.target_stride]; }
DEVICE float target_weight(const Targets& t, int n, int k) { return t.weights[(size_t)n * t.weight_stride + k]; }

// What the tables make of one position; the same in every lane.
typedef struct {
    float main, W;                                          // weight of entry 0; sum of all weights
    float entry[SOFT_TABLES];                               // factor of probs: c alpha f
    float row_share[SOFT_TABLES], main_share[SOFT_TABLES];  // f and m
} RowTargets;

template <bool SOFT>
DEVICE_ONLY RowTargets row_targets(const Targets& t, int n) {
    RowTargets r;
    int y = target_id(t, n, 0);
    float c = target_weight(t, n, 0), kept = 1.0f, tables = 0.0f;
    if (SOFT) {
        UNROLL for (int i = 0; i < SOFT_TABLES; i++) {
            r.entry[i] = r.row_share[i] = r.main_share[i] = 0.0f;
            if (i >= t.tables) continue;
            const SoftTable& s = t.table[i];
            int row = s.rows[n];
            const int* ids = s.ids + (size_t)row * s.K;
            float f = 1.0f, m = 0.0f;
            if (s.covered) {
                float hit = 0.0f, P = s.covered[row];
                FOR_LANES(j, s.K) hit = ids[j] == y ? 1.0f : hit;
                hit = team_max(hit);
                f = (hit != 0.0f ? s.gamma - 1.0f : P) / (s.gamma - P);
                m = 1.0f - hit;
            }
            if (ids[0] < 0 || (s.first > 0 && (t.position ? t.position[n] : t.first_row + n) % s.T >= s.first))
                f = 0.0f, m = 1.0f;
            r.row_share[i] = f, r.main_share[i] = m;
            r.entry[i] = c * *s.alpha * f;
            kept -= *s.alpha * (1.0f - m);
            tables += r.entry[i];
        }
    }
    r.main = c * kept;
    r.W = y >= 0 ? r.main : 0.0f;
    for (int k = 1; k < t.count; k++) {
        if (target_id(t, n, k) >= 0) r.W += target_weight(t, n, k);
    }
    if (SOFT) r.W += tables;
    return r;
}

// Entry k, 0 <= k < targets_total(t), of position n. Returns its share of its table's own cross-entropy, 0 for a shifted token.
template <bool SOFT>
DEVICE float row_entry(const Targets& t, const RowTargets& r, int n, int k, int* id, float* weight) {
    if (!SOFT || k < t.count) {
        *id = target_id(t, n, k);
        *weight = k == 0 ? r.main : target_weight(t, n, k);
        return 0.0f;
    }
    k -= t.count;
    *id = -1, *weight = 0.0f;
    float share = 0.0f;
    UNROLL for (int i = 0; i < SOFT_TABLES; i++) {
        if (i >= t.tables) continue;
        const SoftTable& s = t.table[i];
        if (k >= 0 && k < s.K && r.row_share[i] != 0.0f) {
            size_t at = (size_t)s.rows[n] * s.K + k;
            *id = s.ids[at], *weight = r.entry[i] * s.probs[at], share = r.row_share[i] * s.probs[at];
        }
        k -= s.K;
    }
    return share;
}
