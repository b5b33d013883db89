/*
Qualifiers, built-in vectors, the two half-width types (storage-identical to CUDA's, rounding to nearest even) and arithmetic.

__shared__ variables are block-scope thread_local: nothing else of a test program is, so the thread-local block of the program
is exactly its static shared memory, and emu_block.h poisons it before every block.
*/
#pragma once

#define __global__
#define __host__
#define __device__
#define __constant__
#if EMU_ASAN
#define __shared__ static  // emu_sanitize.h says why
#else
#define __shared__ thread_local
#endif
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

// clang-format off
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct uint3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct __nv_bfloat16 { uint16_t bits; };
struct __half { uint16_t bits; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
struct alignas(4) __half2 { __half x, y; };
// clang-format on
EMU float2 make_float2(float x, float y) { return {x, y}; }
EMU float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
EMU int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
EMU uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
enum { warpSize = 32 };

EMU inline float __uint_as_float(unsigned x) {
    float y;
    memcpy(&y, &x, 4);
    return y;
}
EMU inline unsigned __float_as_uint(float x) {
    unsigned y;
    memcpy(&y, &x, 4);
    return y;
}
EMU inline float __int_as_float(int x) { return __uint_as_float((unsigned)x); }
EMU inline int __float_as_int(float x) { return (int)__float_as_uint(x); }

EMU inline float __bfloat162float(__nv_bfloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }
EMU inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    unsigned u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {0x7fff};  // every NaN becomes this one, as on the GPU
    unsigned low = u & 0xffff, high = u >> 16;
    return {(uint16_t)(high + (low > 0x8000 || (low == 0x8000 && (high & 1))))};
}
EMU inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }

EMU inline float __half2float(__half x) {
    unsigned sign = (unsigned)(x.bits & 0x8000) << 16, exponent = x.bits >> 10 & 31, mantissa = x.bits & 0x3ff;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) return __uint_as_float(sign | __float_as_uint((float)mantissa * 0x1p-24f));
    return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}
EMU inline __half __float2half_rn(float x) {
    unsigned u = __float_as_uint(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return {0x7fff};
    if (a >= 0x47800000u) return {(uint16_t)(sign | 0x7c00)};                              // 65536 and more
    if (a < 0x38800000u) return {(uint16_t)(sign | (unsigned)rintf(fabsf(x) * 0x1p24f))};  // multiples of 2^-24
    unsigned kept = (a - 0x38000000u) >> 13, low = a & 0x1fff;
    return {
        (uint16_t)(sign | (kept + (low > 0x1000 || (low == 0x1000 && (kept & 1)))))};  // a carry makes the next exponent, or inf
}
EMU inline __half __float2half(float x) { return __float2half_rn(x); }

// glibc's math.h has __expf and __logf of its own
#define __expf(x) expf(x)
#define __logf(x) logf(x)
EMU inline float __fdividef(float x, float y) { return x / y; }
EMU inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
EMU inline float __frcp_rn(float x) { return 1.0f / x; }
EMU inline float __fsqrt_rn(float x) { return sqrtf(x); }
EMU inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
EMU inline int __popc(unsigned x) { return __builtin_popcount(x); }
EMU inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
EMU inline int __ffs(int x) { return __builtin_ffs(x); }
template <class T>
static inline T __ldg(const T* p) {
    return *p;
}
template <class T>
static inline T __ldcs(const T* p) {
    return *p;
}
template <class T>
static inline T __ldcg(const T* p) {
    return *p;
}
template <class T>
static inline void __stcs(T* p, T x) {
    *p = x;
}
template <class T>
static inline void __stcg(T* p, T x) {
    *p = x;
}
template <class T>
static inline T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
static inline T max(T a, T b) {
    return a < b ? b : a;
}

// A small generator for the orders that are asked for by seed.
EMU uint64_t emu_random(uint64_t* state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
EMU size_t emu_round_up(size_t x, size_t unit) { return (x + unit - 1) / unit * unit; }
