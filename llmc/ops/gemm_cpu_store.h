/*
The last step of the CPU's matrix product: finished sums leave their tile, still hot in the first-level cache, and become a part
of the result. What is fused here costs no pass over memory: scale, bias, adding to what is there, GELU and its derivative.

    STORE_LINEAR  y = alpha * sum + bias (+ y)            y fp32 or floatX
    STORE_GELU    z = sum + bias; a = gelu(z)             both floatX; z may be NULL
    STORE_DGELU   dz = round(sum) * gelu'(z)              floatX

Sums are fp32 until here and are rounded to the storage type once. GELU is applied to z as it is stored, and its derivative to the
sum as it would be stored, so that a product followed by a separate pass (a GPU, a backward pass that recomputes gelu(z)) gets the
same bits.
*/
#pragma once

#include "activation.cuh"
#include "gemm_cpu_tiles.h"

typedef enum { STORE_LINEAR, STORE_GELU, STORE_DGELU } StoreKind;
typedef struct {
    StoreKind kind;
    int m, n;          // the result is (m,n), rows contiguous
    void* y;           // (m,n): y, a or dz
    bool y_is_float;   // y is float*, else floatX*
    bool accumulate;   // LINEAR only
    float alpha;       // LINEAR only
    const void* bias;  // (n) of y's type, or NULL
    floatX* z;         // (m,n) GELU: written unless NULL. DGELU: read
    int gelu_kind;
} Store;

// y, z: the row's first element; sums (n), bias (n) fp32
template <class Y, bool ACCUMULATE>
static void store_linear(Y* RESTRICT y, const float* RESTRICT sums, const float* RESTRICT bias, int n, float alpha) {
    for (int i = 0; i < n; i++) {
        float x = alpha * sums[i] + bias[i];
        from_float(y + i, ACCUMULATE ? to_float(y[i]) + x : x);
    }
}

template <int GELU, bool KEEP_Z>
static void store_gelu(floatX* RESTRICT a, floatX* RESTRICT z, const float* RESTRICT sums, const float* RESTRICT bias, int n) {
    for (int i = 0; i < n; i++) {
        floatX rounded;
        from_float(&rounded, sums[i] + bias[i]);
        if (KEEP_Z) z[i] = rounded;
        from_float(a + i, gelu(to_float(rounded), GELU));
    }
}

template <int GELU>
static void store_dgelu(floatX* RESTRICT dz, const floatX* RESTRICT z, const float* RESTRICT sums, int n) {
    for (int i = 0; i < n; i++) {
        floatX da;
        from_float(&da, sums[i]);
        from_float(dz + i, to_float(da) * gelu_grad(to_float(z[i]), GELU));
    }
}

static inline void store_row(const Store* s, size_t at, const float* sums, const float* bias, int n) {
    floatX *y = (floatX*)s->y + at, *z = s->z ? s->z + at : NULL;
    float* y32 = (float*)s->y + at;
    bool erf = s->gelu_kind == GELU_ERF;
    switch (s->kind) {
        case STORE_LINEAR:
            if (s->y_is_float && s->accumulate) store_linear<float, true>(y32, sums, bias, n, s->alpha);
            else if (s->y_is_float) store_linear<float, false>(y32, sums, bias, n, s->alpha);
            else if (s->accumulate) store_linear<floatX, true>(y, sums, bias, n, s->alpha);
            else store_linear<floatX, false>(y, sums, bias, n, s->alpha);
            return;
        case STORE_GELU:
            if (erf && z) store_gelu<GELU_ERF, true>(y, z, sums, bias, n);
            else if (erf) store_gelu<GELU_ERF, false>(y, z, sums, bias, n);
            else if (z) store_gelu<GELU_TANH, true>(y, z, sums, bias, n);
            else store_gelu<GELU_TANH, false>(y, z, sums, bias, n);
            return;
        case STORE_DGELU:
            if (erf) store_dgelu<GELU_ERF>(y, z, sums, n);
            else store_dgelu<GELU_TANH>(y, z, sums, n);
    }
}

// Writes the part of a tile that exists: `rows` x `cols` sums, rows `apart` floats from each other, to (row, col) of the result.
static inline void store_tile(const Store* s, const float* tile, int apart, int row, int col, int rows, int cols) {
    float bias[TILE_MAX_NR];
    if (rows > s->m - row) rows = s->m - row;
    if (cols > s->n - col) cols = s->n - col;
    if (!s->bias) memset(bias, 0, sizeof(bias));
    else if (s->y_is_float) memcpy(bias, (const float*)s->bias + col, (size_t)cols * sizeof(float));
    else {
        for (int i = 0; i < cols; i++) bias[i] = to_float(((const floatX*)s->bias)[col + i]);
    }
    for (int r = 0; r < rows; r++) store_row(s, (size_t)(row + r) * s->n + col, tile + r * apart, bias, cols);
}
