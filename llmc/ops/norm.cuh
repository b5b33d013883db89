/*
Layer norm (weight and bias, eps 1e-5) and weightless RMS norm (eps 1e-6), each with the embedding lookup as an option, so that
the first norm of the network reads the tables and writes the residual stream in the same pass.

    forward   x (N,C) fp32 residual stream  ->  y (N,C) floatX for the next GEMM, rstd (N) fp32
              layer norm also keeps xhat (N,C) floatX: its gradient cannot start from y (a weight may be 0), and the residual
              stream is updated in place by the GEMMs, so x itself is gone by then
    backward  dy (N,C), xhat or y, rstd, dres (N,C)  ->  dres += dx     (RMS: dx = rstd (dy - y mean(dy y)))

Bytes per row: forward 6C in bf16 (read 4, write 2; layer norm 8C), backward 8C (read dy, xhat, dres; write dres).
Tried and dropped: keeping x per layer in fp32 (4C bytes a layer more) and keeping the mean (xhat needs none).
*/
#pragma once

#include "reduce.cuh"

#define LAYERNORM_EPS 1e-5f
#define RMSNORM_EPS 1e-6f

typedef struct {
    const int* tokens;  // (N) ids, NULL when x already holds the stream
    const floatX* wte;  // (V,C)
    const floatX* wpe;  // (T,C) or NULL
    int T, unused;      // no padding: a launch's arguments are compared byte by byte
} Lookup;

template <bool LAYERNORM, bool LOOKUP, int P>
KERNEL norm_forward_kernel(floatX* RESTRICT y, floatX* RESTRICT xhat, float* RESTRICT rstd, float* RESTRICT x,
                           const floatX* RESTRICT w, const floatX* RESTRICT b, Lookup lookup, int N, int C) {
    FOR_ROWS(r, N) {
        float* xr = x + (size_t)r * C;
        Row<float, P> row;
        float sum = 0.0f;
        if (LOOKUP) {
            const floatX* e = lookup.wte + (size_t)lookup.tokens[r] * C;
            const floatX* p = lookup.wpe ? lookup.wpe + (size_t)(r % lookup.T) * C : NULL;
            FOR_ROW(j, i, C / PACK) {
                Vec v = load(e, (size_t)i);
                if (p) {
                    Vec q = load(p, (size_t)i);
                    FOR_PACK(k) v.v[k] += q.v[k];
                }
                row_made(&row, j, xr, i, v);
            }
        }
        FOR_ROW(j, i, C / PACK) {
            Vec v = LOOKUP ? row_again(&row, j, (const float*)xr, i) : row_first(&row, j, (const float*)xr, i);
            FOR_PACK(k) sum += LAYERNORM ? v.v[k] : v.v[k] * v.v[k];
        }
        float mean = 0.0f, s;
        if (LAYERNORM) {
            mean = team_sum(sum) / C;
            float squares = 0.0f;
            FOR_ROW(j, i, C / PACK) {
                Vec v = row_again(&row, j, (const float*)xr, i);
                FOR_PACK(k) squares += (v.v[k] - mean) * (v.v[k] - mean);
            }
            s = 1.0f / sqrtf(team_sum(squares) / C + LAYERNORM_EPS);
        } else {
            s = 1.0f / sqrtf(team_sum(sum) / C + RMSNORM_EPS);
        }
        FOR_ROW(j, i, C / PACK) {
            Vec v = row_again(&row, j, (const float*)xr, i);
            FOR_PACK(k) v.v[k] = (v.v[k] - mean) * s;
            if (LAYERNORM) {
                store(xhat + (size_t)r * C, (size_t)i, v);
                Vec scale = load(w, (size_t)i), shift = load(b, (size_t)i);
                FOR_PACK(k) v.v[k] = v.v[k] * scale.v[k] + shift.v[k];
            }
            store(y + (size_t)r * C, (size_t)i, v);
        }
        if (FIRST_LANE) rstd[r] = s;
    }
}

// y, rstd (and xhat for layer norm: w, b not NULL) from x (N,C); with lookup.tokens set, x is first filled from the tables.
UNUSED static void norm_forward(floatX* y, floatX* xhat, float* rstd, float* x, const floatX* w, const floatX* b, Lookup lookup,
                                int N, int C, stream_t stream) {
    int lanes = row_lanes(C), tables = !lookup.tokens ? 0 : lookup.wpe ? 2 : 1, X = (int)sizeof(floatX);
    (void)stream;
    moves(WORK_NORM, (double)N * C * (double)((1 + (w ? 1 : 0) + tables) * X + (int)sizeof(float)));
#define CALL(P)                                                                                                        \
    if (w && lookup.tokens)                                                                                            \
        LAUNCH((norm_forward_kernel<true, true, P>), N, lanes, stream)(y, xhat, rstd, x, w, b, lookup, N, C);          \
    else if (w) LAUNCH((norm_forward_kernel<true, false, P>), N, lanes, stream)(y, xhat, rstd, x, w, b, lookup, N, C); \
    else if (lookup.tokens)                                                                                            \
        LAUNCH((norm_forward_kernel<false, true, P>), N, lanes, stream)(y, xhat, rstd, x, w, b, lookup, N, C);         \
    else LAUNCH((norm_forward_kernel<false, false, P>), N, lanes, stream)(y, xhat, rstd, x, w, b, lookup, N, C)
    ROW_SWITCH(C / PACK, lanes, CALL);
#undef CALL
}

// ADD: dres += dx, else dres = dx (the last norm of the network starts the residual gradient). partial (teams, 2C): the team's
// sums of dy*xhat and dy, layer norm only.
template <bool LAYERNORM, bool ADD, int P>
KERNEL norm_backward_kernel(floatX* RESTRICT dres, float* RESTRICT partial, const floatX* RESTRICT dy,
                            const floatX* RESTRICT normed, const float* RESTRICT rstd, const floatX* RESTRICT w, int N, int C) {
    Columns<P> dw, db;
    float* dw_mine = LAYERNORM ? partial + (size_t)TEAM * 2 * C : NULL;
    float* db_mine = LAYERNORM ? dw_mine + C : NULL;
    if (LAYERNORM) columns_clear(&dw, dw_mine, C / PACK);
    if (LAYERNORM) columns_clear(&db, db_mine, C / PACK);
    FOR_ROWS(r, N) {
        const floatX *dyr = dy + (size_t)r * C, *nr = normed + (size_t)r * C;
        floatX* out = dres + (size_t)r * C;
        Row<floatX, P> d_row, n_row;
        float sum = 0.0f, dot = 0.0f;
        FOR_ROW(j, i, C / PACK) {
            Vec d = row_first(&d_row, j, dyr, i), n = row_first(&n_row, j, nr, i);
            if (LAYERNORM) {
                Vec scale = load(w, (size_t)i);
                Vec dn;
                FOR_PACK(k) dn.v[k] = d.v[k] * n.v[k];
                columns_add(&dw, j, dw_mine, i, dn);
                columns_add(&db, j, db_mine, i, d);
                FOR_PACK(k) sum += d.v[k] * scale.v[k];
                FOR_PACK(k) dot += dn.v[k] * scale.v[k];
            } else {
                FOR_PACK(k) dot += d.v[k] * n.v[k];
            }
        }
        sum = LAYERNORM ? team_sum(sum) / C : 0.0f;
        dot = team_sum(dot) / C;
        float s = rstd[r];
        FOR_ROW(j, i, C / PACK) {
            Vec d = row_again(&d_row, j, dyr, i), n = row_again(&n_row, j, nr, i);
            if (LAYERNORM) {
                Vec scale = load(w, (size_t)i);
                FOR_PACK(k) d.v[k] *= scale.v[k];
            }
            Vec before = {};
            if (ADD) before = load(out, (size_t)i);
            FOR_PACK(k) before.v[k] += s * (d.v[k] - sum - n.v[k] * dot);
            store(out, (size_t)i, before);
        }
    }
    if (LAYERNORM) columns_flush(&dw, dw_mine, C / PACK);
    if (LAYERNORM) columns_flush(&db, db_mine, C / PACK);
}

// dres (N,C) (+)= dx; dw, db (C) fp32 (=|+=) when w is not NULL (layer norm). normed: xhat, for RMS norm y.
// scratch: COLUMN_TEAMS * 2C floats (layer norm only).
UNUSED static void norm_backward(floatX* dres, float* dw, float* db, float* scratch, const floatX* dy, const floatX* normed,
                                 const float* rstd, const floatX* w, int N, int C, bool add, bool accumulate, stream_t stream) {
    int lanes = row_lanes(C), teams = w ? device_teams(COLUMN_TEAMS) : N;
    (void)stream;
    moves(WORK_NORM, (double)N * C * (add ? 4 : 3) * sizeof(floatX));
#define CALL(P)                                                                                                                  \
    if (w && add) LAUNCH((norm_backward_kernel<true, true, P>), teams, lanes, stream)(dres, scratch, dy, normed, rstd, w, N, C); \
    else if (w) LAUNCH((norm_backward_kernel<true, false, P>), teams, lanes, stream)(dres, scratch, dy, normed, rstd, w, N, C);  \
    else if (add)                                                                                                                \
        LAUNCH((norm_backward_kernel<false, true, P>), teams, lanes, stream)(dres, scratch, dy, normed, rstd, w, N, C);          \
    else LAUNCH((norm_backward_kernel<false, false, P>), teams, lanes, stream)(dres, scratch, dy, normed, rstd, w, N, C)
    ROW_SWITCH(C / PACK, lanes, CALL);
#undef CALL
    if (!w) return;
    column_reduce(dw, scratch, teams, 2 * C, C, accumulate, stream);
    column_reduce(db, scratch + C, teams, 2 * C, C, accumulate, stream);
}
