/*
The declarations of CUDA that our kernels use, for a C++ compiler: the seam of the third execution (GPU semantics on a CPU).
test/test_language.sh compiles every kernel header against them with -DAHEAD_EMU, so a kernel that leaves the device language,
or a call of the runtime that is not listed here, is noticed where there is no nvcc. Declarations only: nothing here runs.

    cuda_runtime.h   cuda_bf16.h   cuda_fp16.h   cublasLt.h        all include this file

emu_launch(kernel, grid, block, shared_bytes, stream)(args...)   is what LAUNCH becomes
*/
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>

// clang-format off
#define __global__
#define __host__
#define __device__
#define __constant__
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

// --- vectors and the built-in variables
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
float2 make_float2(float x, float y);
float4 make_float4(float x, float y, float z, float w);
int4 make_int4(int x, int y, int z, int w);
uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w);
extern const uint3 threadIdx, blockIdx;
extern const dim3 blockDim, gridDim;
enum { warpSize = 32 };

// --- what lanes do together
void __syncthreads();
int __syncthreads_or(int predicate);
int __syncthreads_count(int predicate);
void __syncwarp(unsigned mask = 0xffffffffu);
void __threadfence();
void __threadfence_block();
template <class T> T __shfl_sync(unsigned mask, T x, int lane, int width = 32);
template <class T> T __shfl_xor_sync(unsigned mask, T x, int lanes, int width = 32);
template <class T> T __shfl_down_sync(unsigned mask, T x, unsigned lanes, int width = 32);
template <class T> T __shfl_up_sync(unsigned mask, T x, unsigned lanes, int width = 32);
unsigned __ballot_sync(unsigned mask, int predicate);
int __any_sync(unsigned mask, int predicate);
int __all_sync(unsigned mask, int predicate);
template <class T> T atomicAdd(T* p, T x);
template <class T> T atomicMax(T* p, T x);
template <class T> T atomicCAS(T* p, T expected, T x);

// --- arithmetic and memory
float __expf(float x);
float __logf(float x);
float __fdividef(float x, float y);
float __fmaf_rn(float x, float y, float z);
float __frcp_rn(float x);
float __fsqrt_rn(float x);
float rsqrtf(float x);
int __popc(unsigned x);
int __clz(int x);
int __ffs(int x);
float __int_as_float(int x);
int __float_as_int(float x);
unsigned __float_as_uint(float x);
float __uint_as_float(unsigned x);
template <class T> T __ldg(const T* p);
template <class T> T __ldcs(const T* p);
template <class T> T __ldcg(const T* p);
template <class T> void __stcs(T* p, T x);
template <class T> void __stcg(T* p, T x);
template <class T> T min(T a, T b);
template <class T> T max(T a, T b);

// --- the two half-width types
struct __nv_bfloat16 { uint16_t bits; };
struct __half { uint16_t bits; };
struct __nv_bfloat162 { __nv_bfloat16 x, y; };
struct __half2 { __half x, y; };
float __bfloat162float(__nv_bfloat16 x);
float __half2float(__half x);
__nv_bfloat16 __float2bfloat16(float x);
__nv_bfloat16 __float2bfloat16_rn(float x);
__half __float2half(float x);
__half __float2half_rn(float x);

// --- the runtime
typedef enum { cudaSuccess, cudaErrorInvalidValue, cudaErrorMemoryAllocation, cudaErrorNotReady = 600 } cudaError_t;
typedef enum { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice } cudaMemcpyKind;
typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
typedef struct CUgraph_st* cudaGraph_t;
typedef struct CUgraphExec_st* cudaGraphExec_t;
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };
typedef enum {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
} cudaStreamCaptureMode;
typedef enum {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
} cudaFuncAttribute;
typedef enum {
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrClockRate = 13,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrMaxThreadsPerMultiProcessor = 39,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
} cudaDeviceAttr;
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, maxThreadsPerMultiProcessor, l2CacheSize;
};
const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaDeviceReset();
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaMemGetInfo(size_t* available, size_t* total);
template <class T> cudaError_t cudaMalloc(T** p, size_t bytes);
template <class T> cudaError_t cudaMallocHost(T** p, size_t bytes);
template <class T> cudaError_t cudaHostAlloc(T** p, size_t bytes, unsigned flags);
cudaError_t cudaFree(void* p);
cudaError_t cudaFreeHost(void* p);
cudaError_t cudaMemset(void* p, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream = 0);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = 0);
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = 0);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end);
template <class F> cudaError_t cudaFuncSetAttribute(F kernel, cudaFuncAttribute attribute, int value);
template <class F>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, F kernel, int threads, size_t shared);

// --- a launch: emu_launch(k, grid, block, shared, stream) gives something that is called with k's arguments
template <class... Args>
struct EmuLaunch {
    void operator()(Args... args) const;
};
template <class... Args>
EmuLaunch<Args...> emu_launch(void (*kernel)(Args...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream);
