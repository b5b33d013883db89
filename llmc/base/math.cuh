/*
exp, tanh and erf as one short formula each, so that CPU loops vectorise without a vector math library (a call that the
compiler cannot see through keeps a loop scalar). On the GPU they are the hardware's or CUDA's own.

    function   method on the CPU                                            largest error (tested over the whole range)
    fast_exp   2^n * polynomial of degree 6 on [-ln2/2, ln2/2]               3e-7 relative; subnormal below -87.3, inf above 88.73
    fast_tanh  (1 - e) / (1 + e), e = exp(-2|x|); odd series for |x| < 0.25  5e-7 relative
    fast_erf   1 - polynomial * exp(-x^2) (Abramowitz and Stegun 7.1.26)     6e-7 absolute

fast_erf_exp(x, e) is erf(x) for a caller that has e = exp(-x^2) already.
Sums of products are written as fmaf and products never in threes: there is nothing left for -fassociative-math to reorder, so a
value has the same bits in a vector loop, in its scalar tail and in any other function (recompute = no recompute).
*/
#pragma once

#include "device.cuh"

#if GPU_EXECUTION
DEVICE float fast_exp(float x) {
#ifdef __CUDA_ARCH__
    float y;  // as __expf, which handles subnormal results in three more instructions; here they are 0
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.44269504f));
    return y;
#else
    return expf(x);
#endif
}
DEVICE float fast_tanh(float x) { return tanhf(x); }
DEVICE float fast_erf(float x) { return erff(x); }
DEVICE float fast_erf_exp(float x, float) { return erff(x); }
#else
DEVICE float fast_exp(float x) {
    float c = x < -175.0f ? -175.0f : x;  // two clamps and no further test: the scaling below makes 0 and infinity by itself
    c = c > 177.0f ? 177.0f : c;          // NaN fails both tests and stays NaN
    float n = __builtin_rintf(c * 1.44269504f);
    float r = __builtin_fmaf(n, -0.693145752f, c);  // ln2 in two parts: n * high is exact
    r = __builtin_fmaf(n, -1.42860677e-6f, r);
    float p = 2.0f * 1.38888889e-3f;  // twice the polynomial: the powers of two then stay finite where the result does
    p = __builtin_fmaf(p, r, 2.0f * 8.33333333e-3f);
    p = __builtin_fmaf(p, r, 2.0f * 4.16666667e-2f);
    p = __builtin_fmaf(p, r, 2.0f * 1.66666667e-1f);
    p = __builtin_fmaf(p, r, 1.0f);
    p = __builtin_fmaf(p, r, 2.0f);
    p = __builtin_fmaf(p, r, 2.0f);
    // 2^(n-1) in two factors, because n goes below -125; a compiler may multiply them first. At the clamps they make infinity and
    // 0. (The int of n - 1 from the bits of 1.5 * 2^23 + n: a cast has no value for NaN.)
    int exponent = (int)(float_bits(n + 12582912.0f) - 0x4b400001u), half = exponent >> 1, rest = exponent - half;
    return p * bits_float((uint32_t)(half + 127) << 23) * bits_float((uint32_t)(rest + 127) << 23);
}
DEVICE float fast_tanh(float x) {
    float a = __builtin_fabsf(x), e = fast_exp(-2.0f * a), x2 = x * x;
    float far = __builtin_copysignf((1.0f - e) / (1.0f + e), x);
    float series = __builtin_fmaf(x2, 0.0218694885f, -0.0539682540f);
    series = __builtin_fmaf(x2, series, 0.133333333f);
    series = __builtin_fmaf(x2, series, -0.333333333f);
    float near = __builtin_fmaf(x * x2, series, x);
    return a < 0.25f ? near : far;
}
DEVICE float fast_erf_exp(float x, float e) {
    float a = __builtin_fabsf(x), t = 1.0f / __builtin_fmaf(0.3275911f, a, 1.0f);
    float p = __builtin_fmaf(t, 1.061405429f, -1.453152027f);
    p = __builtin_fmaf(t, p, 1.421413741f);
    p = __builtin_fmaf(t, p, -0.284496736f);
    p = __builtin_fmaf(t, p, 0.254829592f);
    return __builtin_copysignf(__builtin_fmaf(-(t * p), e, 1.0f), x);
}
DEVICE float fast_erf(float x) { return fast_erf_exp(x, fast_exp(-x * x)); }
#endif
