/*
A list with a table (targets.cuh) written out: for a head over rows and columns, which looks an entry up many times.

    position n, 2 tokens, a table of 3      ids     | y_1 | y_2 |  q_1  |  q_2  |  q_3  |     E = 5 entries; -1: absent
                                            weights | c_1'| c_2 | c a p_1 ..            |     row_targets' numbers
                                            share   |  m  |  0  | f p_1 ..              |     of the table's own cross-entropy

Each entry is a token like every other: the head's two softmaxes then carry the whole distribution, a row with the mass of all its
entries and a column with that of its own. Losses come one for each entry and are put together here: a shifted token's goes to its
own slot, the table's is the sum of share * cross-entropy.

    bytes a position   12 E; an entry is read once a sort, once a wave of items and once by the softmax of the rows
*/
#pragma once

#include "../base/device.cuh"
#include "targets.cuh"

typedef struct {
    int* ids;
    float *weights, *share;  // all (N,E)
} SoftList;

KERNEL soft_list_kernel(SoftList list, Targets t, int N, int E) {
    FOR_ROWS(n, N) {
        RowTargets row = row_targets<true>(t, n);
        for (int k = LANE; k < E; k += LANE_COUNT) {
            size_t at = (size_t)n * E + k;
            float share = row_entry<true>(t, row, n, k, &list.ids[at], &list.weights[at]);
            list.share[at] = k ? share : row.main_share[0];
        }
    }
}

// Writes the list of N positions. t has one table. Returns it as a plain list.
UNUSED static Targets soft_list(const SoftList* list, Targets t, int N, stream_t stream) {
    (void)stream;
    int E = targets_total(t);
    LAUNCH(soft_list_kernel, N, WARP, stream)(*list, t, N, E);
    return targets_list(list->ids, list->weights, E, E, 1, E);
}

// Where the cross-entropies of a position's entries go.
typedef struct {
    float* to;            // slots of `stride`
    const float* share;   // (N,entries), NULL: there is no table
    int stride, entries;  // of which the first `tokens` are shifted tokens, each with a slot of its own
    int tokens, table_slot;
} ListLosses;

KERNEL list_losses_kernel(ListLosses l, const float* RESTRICT of, int of_stride, const int* RESTRICT slot, int begin, int end,
                          int N, bool accumulate) {
    FOR_EACH(n, (size_t)N) {
        float table = 0.0f;
        for (int k = 0; k < l.entries; k++) {
            size_t entry = n * (size_t)l.entries + (size_t)k;
            int at = slot ? slot[entry] : (int)n;
            float ce = at >= begin && at < end ? of[(size_t)k * of_stride + at - begin] : 0.0f;
            float* to = l.to + (size_t)k * l.stride + n;
            if (k < l.tokens) *to = (accumulate ? *to : 0.0f) + ce;
            if (l.share && l.share[entry] != 0.0f) table += l.share[entry] * ce;
        }
        float* to = l.to + (size_t)l.table_slot * l.stride + n;
        if (l.share) *to = (accumulate ? *to : 0.0f) + table;
    }
}

// l.to = or += the cross-entropies `of` (entries,of_stride) of N positions. slot (N,entries): the item of an entry, of which
// begin .. end - 1 are in `of` and the others count nothing; NULL: `of` has one for each position.
UNUSED static void list_losses(ListLosses l, const float* of, int of_stride, const int* slot, int begin, int end, int N,
                               bool accumulate, stream_t stream) {
    (void)stream;
    LAUNCH(list_losses_kernel, (N + 127) / 128, 128, stream)(l, of, of_stride, slot, begin, end, N, accumulate);
}
