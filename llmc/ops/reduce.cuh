/*
Column sums, for bias and norm-weight gradients: two deterministic stages, no atomics.

    dy (N,C) --team t adds its rows--> partial (teams,C) --a fixed tree over the teams--> out (C)
*/
#pragma once

#include "rows.cuh"

// out (C) = or += sum over teams of partial (teams, stride) columns 0..C-1. GPU: a warp per pack of columns, its lanes share the
// teams; the partials are in the second-level cache.
KERNEL column_reduce_kernel(float* RESTRICT out, const float* RESTRICT partial, int teams, int stride, int C, bool accumulate) {
#if GPU_EXECUTION
    FOR_ROWS(i, C / PACK) {
        Vec sum = {};
        FOR_LANES(t, teams) {
            Vec x = load(partial + (size_t)t * stride, (size_t)i);
            FOR_PACK(k) sum.v[k] += x.v[k];
        }
        FOR_PACK(k) sum.v[k] = team_sum(sum.v[k]);
        if (!FIRST_LANE) continue;
        if (accumulate) {
            Vec before = load(out, (size_t)i);
            FOR_PACK(k) sum.v[k] += before.v[k];
        }
        store(out, (size_t)i, sum);
    }
#else
    Chunk mine = my_chunk((size_t)C);
    if (!accumulate) memset(out + mine.begin, 0, (mine.end - mine.begin) * sizeof(float));
    for (int t = 0; t < teams; t++) {
        FOR_LANES(i, (int)(mine.end - mine.begin)) out[mine.begin + i] += partial[(size_t)t * stride + mine.begin + i];
    }
#endif
}

UNUSED static void column_reduce(float* out, const float* partial, int teams, int stride, int C, bool accumulate,
                                 stream_t stream) {
    (void)stream;
    LAUNCH(column_reduce_kernel, C / PACK, WARP, stream)(out, partial, teams, stride, C, accumulate);
}

template <int P>
KERNEL column_sum_kernel(float* RESTRICT partial, const floatX* RESTRICT dy, int N, int C) {
    Columns<P> columns;
    float* mine = partial + (size_t)TEAM * C;
    columns_clear(&columns, mine, C / PACK);
    FOR_ROWS(r, N) {
        const floatX* row = dy + (size_t)r * C;
        FOR_ROW(j, i, C / PACK) { columns_add(&columns, j, mine, i, load(row, (size_t)i)); }
    }
    columns_flush(&columns, mine, C / PACK);
}

// out (C) fp32 = or += sum of the rows of dy (N,C). scratch: COLUMN_TEAMS * C floats.
UNUSED static void column_sum(float* out, const floatX* dy, float* scratch, int N, int C, bool accumulate, stream_t stream) {
    int lanes = C / PACK <= 1024 ? 256 : 1024, teams = device_teams(COLUMN_TEAMS / 4);
#define CALL(P) LAUNCH(column_sum_kernel<P>, teams, lanes, stream)(scratch, dy, N, C)
    ROW_SWITCH(C / PACK, lanes, CALL);
#undef CALL
    column_reduce(out, scratch, teams, C, C, accumulate, stream);
}
