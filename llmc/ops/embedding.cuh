/*
Gradient of the token and position tables. (The forward lookup is part of norm.cuh's first norm.)

The loader hands over `order`: positions sorted by token id, stable. A team that stands at the first slot of a run of equal ids
adds up the whole run in that order, so no two teams touch a row and the sum has one order: deterministic without atomics.

    order  | 7 19 40 | 3 | 1 2 5 9 11 | ..      ids  | 12 12 12 | 13 | 50 50 .. |
             ^ this team owns row 12    ^ row 50
*/
#pragma once

#include "../base/math.cuh"

// First slot behind `slot` whose token is not `id`, in O(log of the run's length): order is sorted by token.
DEVICE int run_end(const int* RESTRICT tokens, const int* RESTRICT order, int slot, int id, int N) {
    int in = slot, out, step = 1;  // `in` is in the run; `out` is not
    while ((out = in + step) < N && tokens[order[out]] == id) in = out, step *= 2;
    if (out > N) out = N;
    while (out - in > 1) {
        int middle = in + (out - in) / 2;
        if (tokens[order[middle]] == id) in = middle;
        else out = middle;
    }
    return out;
}

#if GPU_EXECUTION
enum { RUN_AHEAD = 8 };  // rows of a run that are read before the first is added: a frequent token has hundreds
#endif

// slabs: how many teams share the columns of one run (a frequent token is a long run; on the GPU lanes of several teams split it)
KERNEL embedding_backward_kernel(float* dwte, const floatX* RESTRICT dres, const int* RESTRICT tokens, const int* RESTRICT order,
                                 int N, int C, int slabs) {
    int packs = C / PACK / slabs;
    FOR_ROWS(item, N * slabs) {
        int slot = item / slabs, slab = item % slabs;
        int id = tokens[order[slot]];
        if (slot > 0 && tokens[order[slot - 1]] == id) continue;
        float* row = dwte + (size_t)id * C;
        int end = run_end(tokens, order, slot, id, N);
#if GPU_EXECUTION
        FOR_LANES(l, packs) {
            int i = slab * packs + l;
            Vec sum = load(row, (size_t)i);
            int s = slot;
            for (; s + RUN_AHEAD <= end; s += RUN_AHEAD) {
                Raw<floatX> d[RUN_AHEAD];
                UNROLL for (int j = 0; j < RUN_AHEAD; j++) d[j] = load_raw(dres + (size_t)order[s + j] * C, (size_t)i);
                UNROLL for (int j = 0; j < RUN_AHEAD; j++) {
                    Vec x = unpack(d[j]);
                    FOR_PACK(k) sum.v[k] += x.v[k];
                }
            }
            for (; s < end; s++) {
                Vec x = load(dres + (size_t)order[s] * C, (size_t)i);
                FOR_PACK(k) sum.v[k] += x.v[k];
            }
            store(row, (size_t)i, sum);
        }
#else
        for (int s = slot; s < end; s++) {
            const floatX* d = dres + (size_t)order[s] * C;
            FOR_LANES(i, packs) row[slab * packs + i] += to_float(d[slab * packs + i]);
        }
#endif
    }
}

// dwte (V,C) fp32 += scatter of dres (N,C) by tokens (N); order (N) as the loader sorted it.
UNUSED static void embedding_backward(float* dwte, const floatX* dres, const int* tokens, const int* order, int N, int C,
                                      stream_t stream) {
    (void)stream;
    moves(WORK_EMBEDDING, (double)N * C * sizeof(floatX));  // and the rows of the ids that occur, which only the data know
    int slabs = 1;
    while (GPU_EXECUTION && C / PACK / slabs > WARP && C / PACK % (2 * slabs) == 0) slabs *= 2;
    LAUNCH(embedding_backward_kernel, N * slabs, WARP, stream)(dwte, dres, tokens, order, N, C, slabs);
}

KERNEL position_backward_kernel(float* RESTRICT dwpe, const floatX* RESTRICT dres, int B, int T, int C, bool accumulate) {
    FOR_ROWS(t, T) {
        FOR_LANES(i, C / PACK) {
            Vec sum = {};
            if (accumulate) sum = load(dwpe + (size_t)t * C, (size_t)i);
            for (int b = 0; b < B; b++) {
                Vec d = load(dres + ((size_t)b * T + t) * C, (size_t)i);
                FOR_PACK(k) sum.v[k] += d.v[k];
            }
            store(dwpe + (size_t)t * C, (size_t)i, sum);
        }
    }
}

// dwpe (T,C) fp32 = or += sum over the batch of dres (B,T,C)
UNUSED static void position_backward(float* dwpe, const floatX* dres, int B, int T, int C, bool accumulate, stream_t stream) {
    (void)stream;
    moves(WORK_EMBEDDING, (double)B * T * C * sizeof(floatX));
    LAUNCH(position_backward_kernel, T, WARP, stream)(dwpe, dres, B, T, C, accumulate);
}
