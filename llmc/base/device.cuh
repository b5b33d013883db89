/*
The device language: a kernel is written once, row by row, and runs on the GPU, on the CPU and in the emulation.

    KERNEL name(args) { .. }       a kernel
    LAUNCH(k, teams, lanes, s)(..) start it: `teams` teams of `lanes` threads each on stream s
    FOR_EACH(i, n)                 independent items over the whole grid
    FOR_ROWS(r, n)                 rows over teams
    FOR_LANES(i, n)                items of one row over the lanes of the team
    team_sum(x), team_max(x)       over the lanes of the team; every lane gets the result
    FIRST_LANE                     true in one lane of the team: per-row results are written once
    TEAM_MEMORY T x                one x per team; team_barrier() between a lane's write and another lane's read
    Vec, load(p, i), store(p, i)   PACK neighbouring elements as fp32 in registers

                   GPU and EMU                              CPU
    a team         32 lanes: one warp, eight a block        one OpenMP thread
                   more lanes: one block
    FOR_ROWS       strided over teams                       a contiguous chunk per thread
    FOR_LANES      strided over lanes                       a plain loop that the compiler vectorises
    PACK           16 bytes of floatX: 128-bit accesses     1: the vectoriser makes the packs

Everything is `static` (templates too): two variants linked into one binary must not share a symbol. A row of C columns is
C / PACK items; widths that are no multiple of 8 are refused at start (config.h), ragged class counts are the classifier's.

Tried and dropped: Packs of 8 on the CPU too (gcc 12 kept them in memory: 3x slower than one element per item);
`omp simd` on lanes (it forbids the scalar reductions that kernels are made of).
*/
#pragma once

#include "planning.h"
#include "precision.cuh"

#include <math.h>

#if GPU_EXECUTION
// ---------------------------------------------------------------------------------------------------------------------
// GPU and emulation
typedef cudaStream_t stream_t;
enum { PACK = 16 / sizeof(floatX), WARP = 32, TEAMS_PER_BLOCK_OF_WARPS = 8 };

UNUSED static void cuda_check(cudaError_t error, const char* file, int line) {
    if (error != cudaSuccess) fail("CUDA: %s (%s:%d)", cudaGetErrorString(error), file, line);
}
#define CUDA_CHECK(call) cuda_check((call), __FILE__, __LINE__)

#define KERNEL __global__ static void
#define LAUNCH_BOUNDS(lanes) __launch_bounds__(lanes)
UNUSED static dim3 team_grid(int teams, int lanes) {
    return dim3(lanes == WARP ? (teams + TEAMS_PER_BLOCK_OF_WARPS - 1) / TEAMS_PER_BLOCK_OF_WARPS : teams);
}
UNUSED static dim3 team_block(int lanes) { return dim3(lanes, lanes == WARP ? TEAMS_PER_BLOCK_OF_WARPS : 1); }
#ifdef AHEAD_EMU
#define LAUNCH(kernel, teams, lanes, stream) emu_launch(kernel, team_grid(teams, lanes), team_block(lanes), 0, stream)
#else
#define LAUNCH(kernel, teams, lanes, stream) kernel<<<team_grid(teams, lanes), team_block(lanes), 0, stream>>>
#endif

#define TEAM ((int)(blockIdx.x * blockDim.y + threadIdx.y))
#define TEAM_COUNT ((int)(gridDim.x * blockDim.y))
#define LANE ((int)threadIdx.x)
#define LANE_COUNT ((int)blockDim.x)
#define FIRST_LANE (threadIdx.x == 0)
#define FOR_ROWS(r, n) for (int r = TEAM; r < (n); r += TEAM_COUNT)
#define FOR_LANES(i, n) for (int i = LANE; i < (n); i += LANE_COUNT)
#define FOR_EACH(i, n) \
    for (size_t i = (size_t)TEAM * blockDim.x + threadIdx.x, i##_end = (n); i < i##_end; i += (size_t)TEAM_COUNT * blockDim.x)

// Reduction over the team: shuffles inside a warp, and for a team of several warps one exchange through shared memory.
// Safe to call in a loop: the leading barrier separates the exchange from the previous call's readers.
template <bool MAX>
DEVICE_ONLY float team_reduce(float x) {
    for (int o = WARP / 2; o > 0; o /= 2) {
        float y = __shfl_xor_sync(0xffffffffu, x, o);
        x = MAX ? fmaxf(x, y) : x + y;
    }
    if (blockDim.x == WARP) return x;
    __shared__ float per_warp[WARP];
    int warps = (int)blockDim.x / WARP;
    __syncthreads();
    if (LANE % WARP == 0) per_warp[LANE / WARP] = x;
    __syncthreads();
    x = LANE % WARP < warps ? per_warp[LANE % WARP] : (MAX ? -INFINITY : 0.0f);
    for (int o = WARP / 2; o > 0; o /= 2) {
        float y = __shfl_xor_sync(0xffffffffu, x, o);
        x = MAX ? fmaxf(x, y) : x + y;
    }
    return x;
}
DEVICE_ONLY float team_sum(float x) { return team_reduce<false>(x); }
DEVICE_ONLY float team_max(float x) { return team_reduce<true>(x); }

#define TEAM_MEMORY __shared__  // of teams of more than a warp: then the team is a block
DEVICE_ONLY void team_barrier() { __syncthreads(); }

#define device_sync() CUDA_CHECK(cudaDeviceSynchronize())
#define check_launches() CUDA_CHECK(cudaGetLastError())  // a launch that was refused says so only here; does not wait
#define device_teams(wanted) (wanted)
#ifdef AHEAD_EMU
#define device_threads(count) emu_order_by(count)  // another order of threads and blocks for every count
#else
UNUSED static void device_threads(int) {}
#endif
#define RESTRICT __restrict__
#if defined(__CUDA_ARCH__) || defined(EMU_BUDGET)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL  // host compilers do not know the pragma
#endif
#else
// ---------------------------------------------------------------------------------------------------------------------
// CPU
#include <omp.h>
typedef int stream_t;  // there is one queue, and it is the calling thread
enum { PACK = 1, WARP = 1 };

#define KERNEL static inline void
#define LAUNCH_BOUNDS(lanes)
// A walk (planning.h) only counts. `for`, because callers write `if (..) LAUNCH(..)(..); else ..`
#define LAUNCH(kernel, teams, lanes, stream) \
    for (bool launched = planning.walks; !launched; launched = true) _Pragma("omp parallel") kernel
#define TEAM omp_get_thread_num()
#define TEAM_COUNT omp_get_num_threads()
#define LANE 0
#define LANE_COUNT 1
#define FIRST_LANE true

typedef struct {
    size_t begin, end;
} Chunk;
UNUSED static inline Chunk my_chunk(size_t n) {
    size_t t = (size_t)omp_get_thread_num(), threads = (size_t)omp_get_num_threads();
    return (Chunk){n * t / threads, n * (t + 1) / threads};
}
#define FOR_ROWS(r, n) for (int r = (int)my_chunk((size_t)(n)).begin, r##_end = (int)my_chunk((size_t)(n)).end; r < r##_end; r++)
#define FOR_LANES(i, n) _Pragma("GCC ivdep") for (int i = 0; i < (n); i++)
#define FOR_EACH(i, n)                                                             \
    for (Chunk i##_c = my_chunk(n), *i##_once = &i##_c; i##_once; i##_once = NULL) \
    _Pragma("GCC ivdep") for (size_t i = i##_c.begin; i < i##_c.end; i++)

DEVICE float team_sum(float x) { return x; }
DEVICE float team_max(float x) { return x; }
#define TEAM_MEMORY
DEVICE void team_barrier() {}
// Per-team partial sums are added up by this count, so the next launch must have neither more nor fewer: OpenMP would otherwise
// start fewer threads under OMP_DYNAMIC or OMP_THREAD_LIMIT, and a team that never ran would leave its partial sums unwritten.
UNUSED static inline int device_team_count(void) {
    omp_set_dynamic(0);
    int threads = omp_get_max_threads(), limit = omp_get_thread_limit();
    return threads < limit ? threads : limit;
}
#define device_sync() ((void)0)
#define check_launches() ((void)0)
#define device_threads(count) omp_set_num_threads(count)
// how many teams a launch of `wanted` teams really has
#define device_teams(wanted) (planning.gpu ? (wanted) : device_team_count())
#define RESTRICT __restrict__
#define UNROLL
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Packs: PACK neighbours of any storage type. `raw` keeps the storage type (half the registers), Vec is fp32.
#if GPU_EXECUTION
// Words, not elements: nvcc would keep each 2-byte element in a register of its own (it spilled rows that fit twice).
template <class T>
struct alignas(16) Raw {
    uint32_t word[PACK * sizeof(T) / 4];
};
#else
template <class T>
struct Raw {
    T v[PACK];
};
#endif
typedef struct {
    float v[PACK];
} Vec;
#define FOR_PACK(k) UNROLL for (int k = 0; k < PACK; k++)

template <class T>
DEVICE Raw<T> load_raw(const T* p, size_t i) {
    return *(const Raw<T>*)(p + i * PACK);
}
#if GPU_EXECUTION
// Two neighbours as one word; the pointer only says of which type.
#ifdef __CUDA_ARCH__
DEVICE float2 word_to_floats(uint32_t word, bf16*) {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
DEVICE float2 word_to_floats(uint32_t word, fp16*) { return __half22float2(*(__half2*)&word); }
DEVICE uint32_t floats_to_word(float low, float high, bf16*) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *(uint32_t*)&pair;
}
DEVICE uint32_t floats_to_word(float low, float high, fp16*) {
    __half2 pair = __floats2half2_rn(low, high);
    return *(uint32_t*)&pair;
}
#else
template <class T>
DEVICE float2 word_to_floats(uint32_t word, T*) {
    T pair[2];
    memcpy((void*)pair, &word, 4);
    return make_float2(to_float(pair[0]), to_float(pair[1]));
}
template <class T>
DEVICE uint32_t floats_to_word(float low, float high, T*) {
    T pair[2];
    uint32_t word;
    from_float(&pair[0], low), from_float(&pair[1], high);
    memcpy(&word, pair, 4);
    return word;
}
#endif
template <class T>
DEVICE Vec unpack(Raw<T> raw) {
    Vec x;
    if constexpr (sizeof(T) == sizeof(float)) memcpy(&x, &raw, sizeof(x));
    else UNROLL for (int k = 0; k < PACK / 2; k++) {
            float2 pair = word_to_floats(raw.word[k], (T*)NULL);
            x.v[2 * k] = pair.x, x.v[2 * k + 1] = pair.y;
        }
    return x;
}
template <class T>
DEVICE Raw<T> pack(Vec x) {
    Raw<T> raw;
    if constexpr (sizeof(T) == sizeof(float)) memcpy(&raw, &x, sizeof(x));
    else UNROLL for (int k = 0; k < PACK / 2; k++) raw.word[k] = floats_to_word(x.v[2 * k], x.v[2 * k + 1], (T*)NULL);
    return raw;
}
#else
template <class T>
DEVICE Vec unpack(Raw<T> raw) {
    Vec x;
    FOR_PACK(k) x.v[k] = to_float(raw.v[k]);
    return x;
}
template <class T>
DEVICE Raw<T> pack(Vec x) {
    Raw<T> raw;
    FOR_PACK(k) from_float(&raw.v[k], x.v[k]);
    return raw;
}
#endif
template <class T>
DEVICE Vec load(const T* p, size_t i) {  // p: 16-byte aligned on the GPU; reads elements [i*PACK, i*PACK + PACK)
    return unpack(load_raw(p, i));
}
template <class T>
DEVICE void store(T* p, size_t i, Vec x) {
    *(Raw<T>*)(p + i * PACK) = pack<T>(x);
}
