/*
Small kernels between products: one pass over a tensor, element by element.

    silu        a = u sigmoid(u)                du = da (s + u s (1 - s)), s = sigmoid(u)
    widen       x = y: floatX into the fp32 of a stream that products add to
    add_to      y += x: a gradient that reaches its tensor on a second path

    n elements: a multiple of 8; pointers 16-byte aligned. Bytes: read and write what is named, once.
*/
#pragma once

#include "../base/math.cuh"

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

KERNEL silu_forward_kernel(floatX* a, const floatX* u, size_t n) {
    FOR_EACH(i, n / PACK) {
        Vec x = load(u, i);
        FOR_PACK(k) x.v[k] *= sigmoid(x.v[k]);
        store(a, i, x);
    }
}

KERNEL silu_backward_kernel(floatX* RESTRICT da, const floatX* RESTRICT u, size_t n) {
    FOR_EACH(i, n / PACK) {
        Vec x = load(u, i), d = load(da, i);
        FOR_PACK(k) {
            float s = sigmoid(x.v[k]);
            d.v[k] *= fmaf(x.v[k] * s, 1.0f - s, s);
        }
        store(da, i, d);
    }
}

KERNEL widen_kernel(float* RESTRICT x, const floatX* RESTRICT y, size_t n) {
    FOR_EACH(i, n / PACK) { store(x, i, load(y, i)); }
}

KERNEL add_to_kernel(floatX* RESTRICT y, const floatX* RESTRICT x, size_t n) {
    FOR_EACH(i, n / PACK) {
        Vec a = load((const floatX*)y, i), b = load(x, i);
        FOR_PACK(k) a.v[k] += b.v[k];
        store(y, i, a);
    }
}

// Teams of one warp for n elements: enough to fill any card, two or more packs a lane.
UNUSED static int elementwise_teams(size_t n) {
    size_t teams = (n / PACK + 2 * WARP - 1) / (2 * WARP);
    return teams < 1 ? 1 : teams > 8192 ? 8192 : (int)teams;
}

// a (n) = silu(u (n)); a may be u.
UNUSED static void silu_forward(floatX* a, const floatX* u, size_t n, stream_t stream) {
    (void)stream;
    moves(WORK_OTHER, 2.0 * (double)n * sizeof(floatX));
    LAUNCH(silu_forward_kernel, elementwise_teams(n), WARP, stream)(a, u, n);
}

// da (n) becomes du = da * silu'(u (n)).
UNUSED static void silu_backward(floatX* da, const floatX* u, size_t n, stream_t stream) {
    (void)stream;
    moves(WORK_OTHER, 3.0 * (double)n * sizeof(floatX));
    LAUNCH(silu_backward_kernel, elementwise_teams(n), WARP, stream)(da, u, n);
}

// x (n) fp32 = y (n)
UNUSED static void widen(float* x, const floatX* y, size_t n, stream_t stream) {
    (void)stream;
    moves(WORK_OTHER, (double)n * (sizeof(floatX) + sizeof(float)));
    LAUNCH(widen_kernel, elementwise_teams(n), WARP, stream)(x, y, n);
}

// y (n) += x (n), rounded once
UNUSED static void add_to(floatX* y, const floatX* x, size_t n, stream_t stream) {
    (void)stream;
    moves(WORK_OTHER, 3.0 * (double)n * sizeof(floatX));
    LAUNCH(add_to_kernel, elementwise_teams(n), WARP, stream)(y, x, n);
}
