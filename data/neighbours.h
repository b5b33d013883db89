/*
The nearest neighbours of every row of an embedding, by the cosine of the rows after their mean is taken off.

    wte (V,C) -> minus the mean row, divided by its length -> packed twice:
        left   groups of 6 rows   [group][c][6]
        right  panels of WIDE     [panel][c][WIDE]      WIDE = two vectors
    tile   6 x WIDE cosines = left group . right panel, 12 sums in registers; each goes to its row's list of the M largest

A thread takes LEFT_GROUPS groups at a time and runs all panels past them: the groups stay in the second-level cache, a panel is
read from memory once for all of them. A cosine is one chain of additions over c, whatever the vector length and the number of
threads, and candidates come in the order of their ids: of equal cosines the smaller id first. (Only a processor without a fused
multiply-add rounds otherwise, and its tables may differ in the last bit.)

Rows without a direction (all of the mean, such as rows that are zero everywhere) get no neighbours and are nobody's neighbour.
Left out: computing only half of the symmetric product. Lists of two threads would have to be merged for 40 % less time.
*/
#pragma once

#include "tool.h"

#include <math.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float Lanes __attribute__((vector_size(sizeof(float) * LANES)));

enum { LEFT_ROWS = 6, LEFT_GROUPS = 24, WIDE = 2 * LANES };

typedef struct {
    int V, C, M;
    float* left;     // (groups,C,LEFT_ROWS)
    float* right;    // (panels,C,WIDE)
    bool* live;      // (V) has a direction
    float* sims;     // (V,M) the largest first; -2 where there is none
    int32_t* ids;    // (V,M) -1 where there is none
    int next, done;  // groups taken, groups finished
    pthread_mutex_t lock;
    ToolProgress progress;
} Neighbours;

static float* aligned_floats(size_t n) {
    void* p = NULL;
    size_t bytes = n * sizeof(float);
    if (posix_memalign(&p, 64, bytes)) fail("out of host memory: %.1f MiB for the embedding", (double)bytes / 1048576.0);
    memset(p, 0, bytes);
    return (float*)p;
}

// Takes the mean row off and divides by the length, in place; live[v] = row v has a direction. wte: (V,C)
static void center_rows(float* wte, int V, int C, bool* live) {
    double *mean = (double*)xcalloc((size_t)C * sizeof(double)), *length = (double*)xcalloc((size_t)V * sizeof(double));
    double longest = 0;
    for (int v = 0; v < V; v++) {
        for (int c = 0; c < C; c++) mean[c] += (double)wte[(size_t)v * (size_t)C + (size_t)c] / V;
    }
    for (int v = 0; v < V; v++) {
        double sum = 0;
        for (int c = 0; c < C; c++) {
            double x = (double)wte[(size_t)v * (size_t)C + (size_t)c] - mean[c];
            sum += x * x;
        }
        length[v] = sqrt(sum);
        longest = length[v] > longest ? length[v] : longest;
    }
    for (int v = 0; v < V; v++) {
        live[v] = length[v] > 1e-6 * longest;  // below it is what rounding left of nothing
        for (int c = 0; c < C; c++) {
            float* x = &wte[(size_t)v * (size_t)C + (size_t)c];
            *x = live[v] ? (float)(((double)*x - mean[c]) / length[v]) : 0.0f;
        }
    }
    free(mean);
    free(length);
}

// packed (ceil(V/width),C,width) of rows (V,C); missing rows are zero.
static float* pack_rows(const float* rows, int V, int C, int width) {
    size_t groups = (size_t)(V + width - 1) / (size_t)width;
    float* packed = aligned_floats(groups * (size_t)C * (size_t)width);
    for (int v = 0; v < V; v++) {
        float* to = packed + (size_t)(v / width) * (size_t)C * (size_t)width + v % width;
        for (int c = 0; c < C; c++) to[(size_t)c * (size_t)width] = rows[(size_t)v * (size_t)C + (size_t)c];
    }
    return packed;
}

// tile (LEFT_ROWS,WIDE) = left (C,LEFT_ROWS)^T . right (C,WIDE)
static void cosine_tile(const float* left, const float* right, int C, float* tile) {
    Lanes sum[LEFT_ROWS][2];
    memset(sum, 0, sizeof sum);
    for (int c = 0; c < C; c++, left += LEFT_ROWS, right += WIDE) {
        Lanes r0 = *(const Lanes*)(const void*)right, r1 = *(const Lanes*)(const void*)(right + LANES);
#pragma GCC unroll 6
        for (int i = 0; i < LEFT_ROWS; i++) {
            sum[i][0] += left[i] * r0;
            sum[i][1] += left[i] * r1;
        }
    }
    memcpy(tile, sum, sizeof sum);
}

// Offers row v the candidates u0 .. u0+WIDE-1 with these cosines (WIDE).
static void offer(Neighbours* n, int v, int u0, const float* cosines) {
    float* sims = n->sims + (size_t)v * (size_t)n->M;
    int32_t* ids = n->ids + (size_t)v * (size_t)n->M;
    float largest = cosines[0];
    for (int i = 1; i < WIDE; i++) largest = cosines[i] > largest ? cosines[i] : largest;
    if (largest <= sims[n->M - 1]) return;
    for (int i = 0; i < WIDE && u0 + i < n->V; i++) {
        if (cosines[i] <= sims[n->M - 1] || u0 + i == v || !n->live[u0 + i]) continue;
        int j = n->M - 1;
        for (; j > 0 && sims[j - 1] < cosines[i]; j--) {
            sims[j] = sims[j - 1];
            ids[j] = ids[j - 1];
        }
        sims[j] = cosines[i];
        ids[j] = u0 + i;
    }
}

// One thread: LEFT_GROUPS groups against everything, again and again.
static void* neighbours_work(void* argument) {
    Neighbours* n = (Neighbours*)argument;
    int groups = (n->V + LEFT_ROWS - 1) / LEFT_ROWS, panels = (n->V + WIDE - 1) / WIDE, taken = 0;
    float tile[LEFT_ROWS * WIDE];
    for (;;) {
        pthread_mutex_lock(&n->lock);
        n->done += taken;
        tool_progress_show(&n->progress, (double)n->done * LEFT_ROWS);
        int g0 = n->next, g1 = g0 + LEFT_GROUPS < groups ? g0 + LEFT_GROUPS : groups;
        n->next = g1;
        pthread_mutex_unlock(&n->lock);
        if (g0 == g1) return NULL;
        taken = g1 - g0;
        for (int p = 0; p < panels; p++) {
            for (int g = g0; g < g1; g++) {
                size_t C = (size_t)n->C;
                cosine_tile(n->left + (size_t)g * C * LEFT_ROWS, n->right + (size_t)p * C * WIDE, n->C, tile);
                for (int i = 0; i < LEFT_ROWS && g * LEFT_ROWS + i < n->V; i++) {
                    if (n->live[g * LEFT_ROWS + i]) offer(n, g * LEFT_ROWS + i, p * WIDE, tile + i * WIDE);
                }
            }
        }
    }
}

// The M nearest rows of every row of wte (V,C), which is overwritten. Free with neighbours_free.
static Neighbours neighbours_find(float* wte, int V, int C, int M, int threads) {
    Neighbours n;
    size_t entries = (size_t)V * (size_t)M;
    memset(&n, 0, sizeof n);
    n.V = V, n.C = C, n.M = M;
    n.live = (bool*)xcalloc((size_t)V * sizeof(bool));
    center_rows(wte, V, C, n.live);
    n.left = pack_rows(wte, V, C, LEFT_ROWS);
    n.right = pack_rows(wte, V, C, WIDE);
    n.sims = (float*)xmalloc(entries * sizeof(float));
    n.ids = (int32_t*)xmalloc(entries * sizeof(int32_t));
    for (size_t i = 0; i < entries; i++) n.sims[i] = -2.0f, n.ids[i] = -1;
    n.progress = tool_progress_start("rows", 1, V, "comparing");
    pthread_mutex_init(&n.lock, NULL);
    tool_run_threads(threads, neighbours_work, &n);
    tool_progress_clear(&n.progress);
    return n;
}

static void neighbours_free(Neighbours* n) {
    free(n->left);
    free(n->right);
    free(n->live);
    free(n->sims);
    free(n->ids);
}

// weights (m) = softmax(sims / tau) over the m cosines of a row, the largest first.
static void neighbour_weights(const float* sims, int m, double tau, float* weights) {
    double sum = 0;
    for (int j = 0; j < m; j++) sum += exp(((double)sims[j] - (double)sims[0]) / tau);
    for (int j = 0; j < m; j++) weights[j] = (float)(exp(((double)sims[j] - (double)sims[0]) / tau) / sum);
}
