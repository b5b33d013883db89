/*
GELU, the activation between the two matrices of an MLP: value, derivative, and the kernels that apply them to whole tensors.

    GELU_TANH  0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))     GPT-2 as OpenAI released it
    GELU_ERF   0.5 x (1 + erf(x / sqrt(2)))                        the exact form: NoCap and most newer recipes

    z (n)  before the activation        a (n)  after it: a = gelu(z)        da, dz (n)  gradients of the loss; dz = da * gelu'(z)

0.5 (1 + tanh(u)) is computed as 1 / (1 + exp(-2u)): one exponential and one division, and no cancellation for negative x.
The derivative uses exp(-2|u|), which cannot overflow. The kind is a template parameter of the kernels, so that loops have no
branch in them.
On the CPU the matrix products apply the same functions while their results are still in cache (gemm_cpu_store.h).
Tried and dropped: the GELU epilogues of cuBLASLt. They know the tanh form only, and before sm_90 they cost a kernel anyway.
*/
#pragma once

#include "../base/math.cuh"

enum { GELU_TANH = 0, GELU_ERF = 1 };
#define GELU_FAR 8.0f  // exp(2u) is 3e21: products stay in range in any order of evaluation (from 10 on they overflow)

// 2u, u the argument of the tanh form. As everywhere in base/math.cuh: nothing that a compiler may reorder.
DEVICE float gelu_2u(float x) { return fmaf(x * 0.071354816f, x * x, x * 1.595769122f); }

// gelu(x); kind GELU_TANH or GELU_ERF. Absolute error below 6e-7 * max(1, |x|) on the CPU.
DEVICE float gelu(float x, int kind) {
    if (kind == GELU_TANH) return x / (1.0f + fast_exp(-gelu_2u(x)));
    float half = 0.5f * x;
    return fmaf(half, fast_erf(x * 0.707106781f), half);
}

// d gelu(x) / dx. Absolute error below 5e-7 on the CPU.
DEVICE float gelu_grad(float x, int kind) {
    if (kind == GELU_TANH) {
        float e = fast_exp(-fabsf(gelu_2u(x))), q = 1.0f / (1.0f + e), eq = e * q;  // q and eq: s(|2u|) and 1 - s, s the sigmoid
        float slope = fmaf(x * 0.214064449f, x * x, x * 1.595769122f);              // x * d(2u)/dx
        return fmaf(eq * q, slope, x < 0.0f ? eq : q);
    }
    float h = x * 0.707106781f, e = fast_exp(-h * h);
    return fmaf(x * 0.398942280f, e, fmaf(0.5f, fast_erf_exp(h, e), 0.5f));
}

template <int GELU>
KERNEL gelu_forward_kernel(floatX* a, const floatX* z, size_t n) {
    FOR_EACH(i, n / PACK) {
        Vec x = load(z, i);
        FOR_PACK(k) x.v[k] = gelu(x.v[k], GELU);
        store(a, i, x);
    }
}

// dz = da * gelu'(z), dz in da's place. RECOMPUTE also writes a = gelu(z), which the weight gradient after it reads.
template <int GELU, bool RECOMPUTE>
KERNEL gelu_backward_kernel(floatX* RESTRICT da, const floatX* RESTRICT z, floatX* RESTRICT a, size_t n) {
    FOR_EACH(i, n / PACK) {
        Vec x = load(z, i), d = load(da, i);
        FOR_PACK(k) d.v[k] *= gelu_grad(x.v[k], GELU);
        store(da, i, d);
        if (RECOMPUTE) {
            FOR_PACK(k) x.v[k] = gelu(x.v[k], GELU);
            store(a, i, x);
        }
    }
}

// Teams of one warp for n elements of floatX: enough to fill any card, and each lane keeps two or more packs
UNUSED static int gelu_teams(size_t n) {
    size_t teams = (n / PACK + 2 * WARP - 1) / (2 * WARP);
    return teams < 1 ? 1 : teams > 8192 ? 8192 : (int)teams;
}

// a (n) = gelu(z (n)). n: a multiple of 8; pointers 16-byte aligned; a may be z.
UNUSED static void gelu_forward(floatX* a, const floatX* z, size_t n, int gelu_kind, stream_t stream) {
    (void)stream;
    moves(WORK_GELU, 2.0 * (double)n * sizeof(floatX));
    if (gelu_kind == GELU_ERF) LAUNCH(gelu_forward_kernel<GELU_ERF>, gelu_teams(n), WARP, stream)(a, z, n);
    else LAUNCH(gelu_forward_kernel<GELU_TANH>, gelu_teams(n), WARP, stream)(a, z, n);
}

// da (n) becomes dz = da * gelu'(z (n)); a (n), if not NULL, becomes gelu(z). Sizes as above.
UNUSED static void gelu_backward(floatX* da, const floatX* z, floatX* a, size_t n, int gelu_kind, stream_t stream) {
    int teams = gelu_teams(n);
    (void)teams, (void)stream;
    moves(WORK_GELU, (a ? 4.0 : 3.0) * (double)n * sizeof(floatX));
    if (gelu_kind == GELU_ERF && a) LAUNCH((gelu_backward_kernel<GELU_ERF, true>), teams, WARP, stream)(da, z, a, n);
    else if (gelu_kind == GELU_ERF) LAUNCH((gelu_backward_kernel<GELU_ERF, false>), teams, WARP, stream)(da, z, a, n);
    else if (a) LAUNCH((gelu_backward_kernel<GELU_TANH, true>), teams, WARP, stream)(da, z, a, n);
    else LAUNCH((gelu_backward_kernel<GELU_TANH, false>), teams, WARP, stream)(da, z, a, n);
}
