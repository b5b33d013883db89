/*
The functions of the CUDA runtime that the project calls. Wrong use that CUDA might let pass (a copy of the wrong kind, a host
pointer where device memory is meant) ends the program here.
*/
#pragma once

typedef enum { cudaSuccess, cudaErrorInvalidValue, cudaErrorMemoryAllocation, cudaErrorNotReady = 600 } cudaError_t;
typedef enum { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice } cudaMemcpyKind;
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };
typedef enum {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
} cudaFuncAttribute;
typedef enum {
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrClockRate = 13,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrL2CacheSize = 38,
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

EMU const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        default: return "cudaErrorNotReady";
    }
}
EMU const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
EMU cudaError_t cudaGetLastError() { return cudaSuccess; }  // a launch that would be refused has ended the program
EMU cudaError_t cudaPeekAtLastError() { return cudaSuccess; }

// --- the device
EMU cudaError_t cudaDeviceSynchronize() {
    emu_note(EMU_SYNC, "cudaDeviceSynchronize");
    return emu_run_until(NULL, NULL), cudaSuccess;
}
EMU cudaError_t cudaDeviceReset() { return cudaDeviceSynchronize(); }
EMU cudaError_t cudaSetDevice(int device) { return device ? cudaErrorInvalidValue : cudaSuccess; }
EMU cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
EMU cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
EMU cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    switch (attribute) {
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = EMU_SHARED; break;
        case cudaDevAttrClockRate: *value = 1000000; break;
        case cudaDevAttrMultiProcessorCount: *value = 4; break;
        case cudaDevAttrL2CacheSize: *value = 4 << 20; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 1536; break;
        case cudaDevAttrComputeCapabilityMajor: *value = 8; break;
        case cudaDevAttrComputeCapabilityMinor: *value = 6; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = EMU_SHARED_OPT_IN; break;
        default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
}
EMU cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
    *p = (cudaDeviceProp){"emulation", EMU_DEVICE_BYTES, EMU_SHARED, EMU_SHARED_OPT_IN, 8, 6, 4, 1536, 4 << 20};
    return cudaSuccess;
}
EMU cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
EMU cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
EMU cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
    *total = EMU_DEVICE_BYTES, *available = EMU_DEVICE_BYTES - emu_memory.live_bytes;
    return cudaSuccess;
}

// --- memory
template <class T>
static cudaError_t cudaMalloc(T** p, size_t bytes) {
    emu_note(EMU_MEMORY, "cudaMalloc");
    return emu_allocate((void**)p, bytes) ? cudaSuccess : cudaErrorMemoryAllocation;
}
EMU cudaError_t cudaFree(void* p) {
    emu_note(EMU_MEMORY, "cudaFree");
    emu_run_until(NULL, NULL);
    if (p) emu_free(p);
    return cudaSuccess;
}
template <class T>
static cudaError_t cudaMallocHost(T** p, size_t bytes) {
    emu_note(EMU_MEMORY, "cudaMallocHost");
    if (emu_memory.pinned_count == 256) emu_fail("more than 256 page-locked allocations");
    *p = (T*)memset(malloc(bytes ? bytes : 1), EMU_POISON, bytes);
    emu_memory.pinned[emu_memory.pinned_count].p = (void*)*p, emu_memory.pinned[emu_memory.pinned_count++].bytes = bytes;
    return cudaSuccess;
}
template <class T>
static cudaError_t cudaHostAlloc(T** p, size_t bytes, unsigned) {
    return cudaMallocHost(p, bytes);
}
EMU cudaError_t cudaFreeHost(void* p) {
    emu_note(EMU_MEMORY, "cudaFreeHost");
    emu_run_until(NULL, NULL);
    for (int i = 0; i < emu_memory.pinned_count; i++) {
        if (emu_memory.pinned[i].p != p) continue;
        emu_memory.pinned[i] = emu_memory.pinned[--emu_memory.pinned_count];
        free(p);
        return cudaSuccess;
    }
    emu_fail("cudaFreeHost: %p is not what cudaMallocHost gave", p);
}

EMU void emu_check_copy(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    if (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice)
        emu_must_be_on_device(to, bytes, "copy to the device");
    else if (emu_allocation(to)) emu_fail("a copy to the host has a device pointer as its target");
    if (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)
        emu_must_be_on_device(from, bytes, "copy from the device");
    else if (emu_allocation(from)) emu_fail("a copy from the host has a device pointer as its source");
}
EMU cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = 0) {
    emu_check_copy(to, from, bytes, kind);
    emu_note_copy("cudaMemcpyAsync", stream, to, from, bytes, kind, emu_pinned(kind == cudaMemcpyHostToDevice ? from : to));
    emu_queue_copy(stream, to, from, bytes, kind == cudaMemcpyHostToDevice && !emu_pinned(from));
    return cudaSuccess;
}
EMU cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    emu_check_copy(to, from, bytes, kind);
    emu_note_copy("cudaMemcpy", 0, to, from, bytes, kind, false);
    emu_queue_copy(0, to, from, bytes, false);
    // It waits for no non-blocking stream: it may overwrite what a queued kernel has yet to read, or read what one has yet to
    // write.
    emu_run_until(&emu_default_stream, NULL, &emu_default_stream);
    return cudaSuccess;
}
EMU cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream = 0) {
    emu_must_be_on_device(p, bytes, "cudaMemset");
    emu_note_fill("cudaMemset", stream, p, bytes);
    emu_queue_fill(stream, p, value, bytes);
    return cudaSuccess;
}
EMU cudaError_t cudaMemset(void* p, int value, size_t bytes) {
    return cudaMemsetAsync(p, value, bytes, 0);
}  // does not wait either

// --- streams and events; what is destroyed stays in memory, because work may still name it
EMU cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    *stream = (cudaStream_t)calloc(1, sizeof(CUstream_st));
    (*stream)->blocking = !(flags & cudaStreamNonBlocking);
    (*stream)->next = emu_default_stream.next;
    emu_default_stream.next = *stream;
    return cudaSuccess;
}
EMU cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
EMU cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    emu_note(EMU_SYNC, "cudaStreamSynchronize", stream);
    return emu_run_until(emu_stream(stream), NULL), cudaSuccess;
}
EMU cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    emu_note(EMU_MEMORY, "cudaStreamDestroy");
    emu_run_until(stream, NULL);
    CUstream_st* before = &emu_default_stream;
    while (before && before->next != stream) before = before->next;
    if (!before) emu_fail("cudaStreamDestroy: not a stream");
    before->next = stream->next;
    return cudaSuccess;
}
EMU cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = (cudaEvent_t)calloc(1, sizeof(CUevent_st));
    return cudaSuccess;
}
EMU cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
EMU cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
EMU cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = 0) {
    emu_note(EMU_EVENT, "cudaEventRecord", stream);
    return emu_queue_event(stream, event, true), cudaSuccess;
}
EMU cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned = 0) {
    emu_note(EMU_EVENT, "cudaStreamWaitEvent", stream);
    return emu_queue_event(stream, event, false), cudaSuccess;
}
EMU cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    emu_note(EMU_SYNC, "cudaEventSynchronize");
    return emu_run_until(NULL, event), cudaSuccess;
}
EMU cudaError_t cudaEventQuery(cudaEvent_t event) {
    emu_note(EMU_SYNC, "cudaEventQuery");
    if (event->done >= event->recorded) return cudaSuccess;
    emu_memory_open(true);  // something happens meanwhile, so that polling comes to an end
    emu_catch_crashes(true);
    emu_run_one(NULL);
    emu_catch_crashes(false);
    emu_memory_open(false);
    return cudaErrorNotReady;
}
EMU cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
    if (!begin->done || !end->done) return cudaErrorNotReady;
    *ms = fmaxf((float)((end->seconds - begin->seconds) * 1e3), 1e-3f);  // a caller may divide by it
    return cudaSuccess;
}

// --- kernels
template <class F>
static cudaError_t cudaFuncSetAttribute(F kernel, cudaFuncAttribute attribute, int value) {
    emu_note(EMU_PLAN, "cudaFuncSetAttribute");
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || value > EMU_SHARED_OPT_IN) return cudaErrorInvalidValue;
    emu_kernel((const void*)kernel, NULL)->allowed_shared = value > EMU_SHARED ? value : EMU_SHARED;
    return cudaSuccess;
}
template <class F>
static cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, F, int threads, size_t) {
    *blocks = threads > 0 && threads <= EMU_THREADS ? 1536 / threads : 0;
    return cudaSuccess;
}
