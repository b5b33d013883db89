/*
Storage types. Arithmetic is always fp32; floatX is only how activations and compute weights lie in memory.

    PRECISION  floatX   bytes  masters, moments, gradients, norms, losses
    fp32       float    4      float
    bf16       bf16     2      float (the floatX copy of a weight is rewritten by the optimizer once per step)
    fp16       fp16     2      float, with dynamic loss scaling (optim/guard)

On the GPU the types are CUDA's own; on the CPU they are two bytes with the same rounding (to nearest even, NaN stays NaN),
converted by branch-free integer code that compilers vectorise. No member functions: they would be weak symbols, and the
variants of this program (one per device and precision) must share none.
*/
#pragma once

#include "check.h"

#define PRECISION_FP32 0
#define PRECISION_BF16 1
#define PRECISION_FP16 2
#ifndef PRECISION
#define PRECISION PRECISION_FP32
#endif

#if defined(__CUDACC__) || defined(AHEAD_EMU)
#define GPU_EXECUTION 1  // teams are real threads: nvcc, or the emulation of test/emu
#else
#define GPU_EXECUTION 0  // a team is one thread; OpenMP threads share the rows
#endif

#if GPU_EXECUTION
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define DEVICE __host__ __device__ __forceinline__ static
#define DEVICE_ONLY __device__ __forceinline__ static  // uses lanes or barriers
typedef __nv_bfloat16 bf16;
typedef __half fp16;

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __bfloat162float(x); }
DEVICE float to_float(fp16 x) { return __half2float(x); }
DEVICE void from_float(float* out, float x) { *out = x; }
DEVICE void from_float(bf16* out, float x) { *out = __float2bfloat16_rn(x); }
DEVICE void from_float(fp16* out, float x) { *out = __float2half_rn(x); }
#else
#define DEVICE static inline __attribute__((always_inline, unused))
#define DEVICE_ONLY DEVICE
typedef struct {
    uint16_t bits;
} bf16;
typedef struct {
    uint16_t bits;
} fp16;

DEVICE uint32_t float_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}
DEVICE float bits_float(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return bits_float((uint32_t)x.bits << 16); }
DEVICE float to_float(fp16 x) {
    // exponent and mantissa moved into place are 2^-112 of the value, subnormals included; inf and NaN get the top exponent back
    uint32_t magnitude = (uint32_t)(x.bits & 0x7fff) << 13, sign = (uint32_t)(x.bits & 0x8000) << 16;
    uint32_t finite = float_bits(bits_float(magnitude) * 0x1p112f);
    return bits_float(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite));
}
DEVICE void from_float(float* out, float x) { *out = x; }
DEVICE void from_float(bf16* out, float x) {
    uint32_t u = float_bits(x);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
    out->bits = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40 : rounded);
}
DEVICE void from_float(fp16* out, float x) {
    uint32_t u = float_bits(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    uint32_t normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1)) >> 13;  // rebias, round to nearest even
    uint32_t tiny = float_bits(bits_float(a) + 0.5f) - 0x3f000000u;        // the adder rounds at 2^-24
    uint32_t h = a < 0x38800000u ? tiny : a < 0x47800000u ? normal : a > 0x7f800000u ? 0x7e00u : 0x7c00u;
    out->bits = (uint16_t)(sign | h);
}
#endif

#if PRECISION == PRECISION_FP32
typedef float floatX;
#define PRECISION_NAME "fp32"
#elif PRECISION == PRECISION_BF16
typedef bf16 floatX;
#define PRECISION_NAME "bf16"
#elif PRECISION == PRECISION_FP16
typedef fp16 floatX;
#define PRECISION_NAME "fp16"
#endif
