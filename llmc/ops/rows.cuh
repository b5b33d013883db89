/*
One row, read once. A kernel that needs a row twice (statistics, then the result) keeps it in registers on the GPU, P packs a
lane; on the CPU the second read hits the first-level cache and registers would only get in the vectoriser's way.

    FOR_ROW(j, i, n)             pack i of the row is the j-th of this lane, i < n
    row_first(row, j, p, i)      reads pack i of p and keeps it
    row_again(row, j, p, i)      the same pack, without touching memory on the GPU
    row_made(row, j, p, i, x)    writes x to pack i of p and keeps it, as if it had been read
    columns_add(sum, j, p, i, x) adds to this team's running sum of column pack i: registers on the GPU, p itself on the CPU
    columns_flush(sum, p, n)     writes the registers to p, the team's own row of partial sums

ROW_SWITCH(packs, lanes, CALL) picks P at launch: CALL is a macro that starts the kernel for a constant P. P = 0 keeps nothing
and reads again.
*/
#pragma once

#include "../base/math.cuh"

#if GPU_EXECUTION
template <class T, int P>
struct Row {
    Raw<T> raw[P ? P : 1];
};
template <int P>
struct Columns {
    Vec sum[P];
};
#define FOR_ROW(j, i, n) \
    UNROLL for (int j = 0; P ? j < P : LANE + j * LANE_COUNT < (n); j++) if (int i = LANE + j * LANE_COUNT; i < (n))

template <class T, int P>
DEVICE Vec row_first(Row<T, P>* row, int j, const T* p, int i) {
    Raw<T> raw = load_raw(p, (size_t)i);
    if (P) row->raw[j] = raw;
    return unpack(raw);
}
template <class T, int P>
DEVICE Vec row_again(const Row<T, P>* row, int j, const T* p, int i) {
    return P ? unpack(row->raw[j]) : load(p, (size_t)i);
}
template <class T, int P>
DEVICE void row_made(Row<T, P>* row, int j, T* p, int i, Vec x) {
    Raw<T> raw = pack<T>(x);
    if (P) row->raw[j] = raw;
    *(Raw<T>*)(p + (size_t)i * PACK) = raw;
}
template <int P>
DEVICE_ONLY void columns_clear(Columns<P>* columns, float*, int) {
    UNROLL for (int j = 0; j < P; j++) FOR_PACK(k) columns->sum[j].v[k] = 0.0f;
}
template <int P>
DEVICE void columns_add(Columns<P>* columns, int j, float*, int, Vec x) {
    FOR_PACK(k) columns->sum[j].v[k] += x.v[k];
}
template <int P>
DEVICE_ONLY void columns_flush(const Columns<P>* columns, float* p, int n) {
    FOR_ROW(j, i, n) { store(p, (size_t)i, columns->sum[j]); }
}

// Picks the smallest compiled P that covers the row. Narrow: row_lanes keeps norms at 4 packs a lane. Wide: class counts; a row
// too wide for 32 registers a lane (fp32 logits of a large vocabulary) gets P = 0, which reads it twice.
#define ROW_SWITCH(packs, lanes, CALL)                                \
    do {                                                              \
        int per_lane = ((packs) + (lanes)-1) / (lanes);               \
        if (per_lane <= 1) {                                          \
            CALL(1);                                                  \
        } else if (per_lane <= 2) {                                   \
            CALL(2);                                                  \
        } else if (per_lane <= 3) {                                   \
            CALL(3);                                                  \
        } else if (per_lane <= 4) {                                   \
            CALL(4);                                                  \
        } else fail("a row of %d columns is too wide", (packs)*PACK); \
    } while (0)
#define ROW_SWITCH_WIDE(packs, lanes, CALL)             \
    do {                                                \
        int per_lane = ((packs) + (lanes)-1) / (lanes); \
        if (per_lane <= 1) {                            \
            CALL(1);                                    \
        } else if (per_lane <= 4) {                     \
            CALL(4);                                    \
        } else if (per_lane <= 7) {                     \
            CALL(7);                                    \
        } else {                                        \
            CALL(0);                                    \
        }                                               \
    } while (0)
#else
template <class T, int P>
struct Row {
    char unused;
};
template <int P>
struct Columns {
    char unused;
};
#define FOR_ROW(j, i, n) FOR_LANES(i, n) for (int j = 0; j < 1; j++)

template <class T, int P>
DEVICE Vec row_first(Row<T, P>*, int, const T* p, int i) {
    return load(p, (size_t)i);
}
template <class T, int P>
DEVICE Vec row_again(const Row<T, P>*, int, const T* p, int i) {
    return load(p, (size_t)i);
}
template <class T, int P>
DEVICE void row_made(Row<T, P>*, int, T* p, int i, Vec x) {
    store(p, (size_t)i, x);
}
template <int P>
DEVICE void columns_clear(Columns<P>*, float* p, int n) {
    FOR_LANES(i, n) p[i] = 0.0f;
}
template <int P>
DEVICE void columns_add(Columns<P>*, int, float* p, int i, Vec x) {
    p[i] += x.v[0];
}
template <int P>
DEVICE void columns_flush(const Columns<P>*, float*, int) {}
#define ROW_SWITCH(packs, lanes, CALL) \
    do {                               \
        (void)(packs), (void)(lanes);  \
        CALL(1);                       \
    } while (0)
#define ROW_SWITCH_WIDE ROW_SWITCH
#endif

// Lanes for a row of C columns, four packs each: a warp up to C = 1024 in bf16 (512 in fp32), else a block of 256.
UNUSED static int row_lanes(int C) {
    if (!GPU_EXECUTION) return 1;
    return C / PACK <= 4 * WARP ? WARP : 256;
}

// Teams whose partial column sums are added up afterwards: a fixed grid on the GPU (same bits on every card), the threads on the
// CPU. A scratch of COLUMN_TEAMS rows is enough for both.
enum { COLUMN_TEAMS = 1024 };
