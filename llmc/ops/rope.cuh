/*
Rotary positions, in place on the packed projections: q and k of every head, v untouched.

    qkv (B,T,3,NH,D):  | q h0 .. h(NH-1) | k h0 .. | v .. |     each head: first half i, second half i + D/2
    y[i]       =  x[i] cos(t w_i) + x[i + D/2] sin(t w_i)       w_i = 10000^(-2i/D)
    y[i + D/2] = -x[i] sin(t w_i) + x[i + D/2] cos(t w_i)

The rotation is by -t w (the sign of the NoCap baseline). The backward pass rotates dq, dk the other way. Angles come from fp32
tables made in double: a bf16 table would alias positions above 256.
*/
#pragma once

#include "../base/math.cuh"

// Fills host tables cos_table, sin_table (T, D/2).
UNUSED static void rope_tables(float* cos_table, float* sin_table, int T, int D) {
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < D / 2; i++) {
            double angle = t * pow(10000.0, -2.0 * i / D);
            cos_table[t * (D / 2) + i] = (float)cos(angle);
            sin_table[t * (D / 2) + i] = (float)sin(angle);
        }
    }
}

#if GPU_EXECUTION
#define FOR_LANES_2(h, heads, i, n)                                 \
    for (int flat = LANE; flat < (heads) * (n); flat += LANE_COUNT) \
        for (int h = flat / (n), i = flat % (n), once = 1; once; once = 0)
#else
#define FOR_LANES_2(h, heads, i, n) \
    for (int h = 0; h < (heads); h++) FOR_LANES(i, n)
#endif

KERNEL rope_kernel(floatX* qkv, const float* RESTRICT cos_table, const float* RESTRICT sin_table, float direction, int N, int T,
                   int NH, int D) {
    int half = D / 2;
    FOR_ROWS(r, N) {
        const float *c = cos_table + (size_t)(r % T) * half, *s = sin_table + (size_t)(r % T) * half;
        floatX* row = qkv + (size_t)r * 3 * NH * D;
        FOR_LANES_2(h, 2 * NH, i, half / PACK) {
            floatX *lo = row + h * D, *hi = lo + half;
            Vec a = load(lo, (size_t)i), b = load(hi, (size_t)i), ct = load(c, (size_t)i), st = load(s, (size_t)i);
            Vec x, y;
            FOR_PACK(k) x.v[k] = a.v[k] * ct.v[k] + direction * b.v[k] * st.v[k];
            FOR_PACK(k) y.v[k] = b.v[k] * ct.v[k] - direction * a.v[k] * st.v[k];
            store(lo, (size_t)i, x);
            store(hi, (size_t)i, y);
        }
    }
}

// Rotates q and k of qkv (N,3,NH,D) in place; N = B*T, row r is position r % T. backward: the inverse rotation, for dq and dk.
UNUSED static void rope(floatX* qkv, const float* cos_table, const float* sin_table, bool backward, int N, int T, int NH, int D,
                        stream_t stream) {
    (void)stream;
    moves(WORK_ROPE, 4.0 * N * NH * D * sizeof(floatX));
    LAUNCH(rope_kernel, N, WARP, stream)(qkv, cos_table, sin_table, backward ? -1.0f : 1.0f, N, T, NH, D);
}
