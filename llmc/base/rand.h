/*
Random numbers: a counter-based stream for tensors, and a small sequential generator for sampling and shuffling.

Tensors. Value i of a tensor depends on the seed, the tensor's name and i, and on nothing else: not on the order in which
tensors are made, on the number of threads, or on how many padding rows follow.

    key   = mix(seed ^ fnv1a64(name))
    h(i)  = mix(key + (i + 1) * 0x9E3779B97F4A7C15)         64 bits: output i of splitmix64 started at `key`
    uniform value i          u = ((h(i) >> 40) + 0.5) * 2^-23 - 1: one of 2^24 odd multiples of 2^-24 in (-1, 1), exact in
                             fp32, so a bound times u is rounded once and every machine gets the same bits
    normal values 2j, 2j+1   r * cos(t), r * sin(t) from one h(j) (Box-Muller in double, rounded once to float):
                             r = sqrt(-2 ln u1), t = 2 pi u2, u1 = ((h >> 32) + 0.5) / 2^32, u2 = ((h & 0xffffffff) + 0.5) / 2^32

A tensor is initialised with bound * u or deviation * normal, one fp32 multiplication. dev/reference/rand.py is the same in
numpy; test/golden/rand.gold holds values of both. Sequential: splitmix64, whose whole state is one 64-bit number (it goes
into checkpoints).

Tried and dropped: a Mersenne twister whose stream matches the common frameworks (2.5 KB of state, one order of tensors, and
the frameworks change their order); one hash per normal value (twice the logarithms).
*/
#pragma once

#include "check.h"

#include <math.h>

#define RAND_GOLDEN 0x9E3779B97F4A7C15ull

UNUSED static inline uint64_t rand_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// Key of the stream that belongs to `name` (any string) under `seed`.
UNUSED static inline uint64_t rand_key(uint64_t seed, const char* name) {
    uint64_t hash = 0xCBF29CE484222325ull;
    for (const char* c = name; *c; c++) hash = (hash ^ (uint8_t)*c) * 0x100000001B3ull;
    return rand_mix(seed ^ hash);
}

// The 64 random bits of counter i: also the noise of anything that must not depend on order (masks, dropped layers).
UNUSED static inline uint64_t rand_at(uint64_t key, uint64_t i) { return rand_mix(key + (i + 1) * RAND_GOLDEN); }

// Value i of the uniform stream: in (-1, 1), exact in fp32.
UNUSED static inline float rand_uniform(uint64_t key, uint64_t i) {
    return (float)(2 * (int32_t)(rand_at(key, i) >> 40) + 1 - (1 << 24)) * 0x1p-24f;
}

// Values 2j and 2j + 1 of the normal stream (mean 0, deviation 1).
UNUSED static inline void rand_normal_pair(uint64_t key, uint64_t j, float* even, float* odd) {
    uint64_t h = rand_at(key, j);
    double u1 = ((double)(h >> 32) + 0.5) * 0x1p-32, u2 = ((double)(h & 0xffffffffu) + 0.5) * 0x1p-32;
    double r = sqrt(-2.0 * log(u1)), t = 6.283185307179586 * u2;
    *even = (float)(r * cos(t));
    *odd = (float)(r * sin(t));
}

// Value i of the normal stream.
UNUSED static inline float rand_normal(uint64_t key, uint64_t i) {
    float even, odd;
    rand_normal_pair(key, i / 2, &even, &odd);
    return i & 1 ? odd : even;
}

// out[i] = bound * value i of the uniform stream, i < count. Any number of threads gives the same values.
UNUSED static void rand_fill_uniform(float* out, size_t count, float bound, uint64_t key) {
#ifdef _OPENMP
#pragma omp parallel for schedule(static)
#endif
    for (size_t i = 0; i < count; i++) out[i] = bound * rand_uniform(key, i);
}

// out[i] = std * value i of the normal stream, i < count: both values of a pair are used, twice as fast as rand_normal.
UNUSED static void rand_fill_normal(float* out, size_t count, float std, uint64_t key) {
#ifdef _OPENMP
#pragma omp parallel for schedule(static)
#endif
    for (size_t j = 0; j < (count + 1) / 2; j++) {
        float even, odd;
        rand_normal_pair(key, j, &even, &odd);
        out[2 * j] = std * even;
        if (2 * j + 1 < count) out[2 * j + 1] = std * odd;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Sequential generator. Save and restore `state` to continue a stream exactly.
typedef struct {
    uint64_t state;
} Rng;

UNUSED static inline Rng rng_start(uint64_t seed, const char* name) {
    Rng rng = {rand_key(seed, name)};
    return rng;
}

UNUSED static inline uint64_t rng_next(Rng* rng) {
    rng->state += RAND_GOLDEN;
    return rand_mix(rng->state);
}

// Uniform in [0, 1), 24 bits.
UNUSED static inline float rng_uniform(Rng* rng) { return (float)(rng_next(rng) >> 40) * 0x1p-24f; }

// Uniform in 0..n-1, n >= 1, without bias: draws again when the 64-bit value falls into the incomplete last group.
UNUSED static inline uint64_t rng_below(Rng* rng, uint64_t n) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x = rng_next(rng);
    while (x >= limit) x = rng_next(rng);
    return x % n;
}

// order[0..n-1] = a uniform permutation of 0..n-1.
UNUSED static void rng_permutation(Rng* rng, int32_t* order, int n) {
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)rng_below(rng, (uint64_t)i + 1);
        int32_t swap = order[i];
        order[i] = order[j], order[j] = swap;
    }
}
