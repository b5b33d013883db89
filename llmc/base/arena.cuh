/*
Memory. Every buffer of a run is a named slice of one of a few arenas (parameters, gradients, optimizer, activations). Slices
are declared first, the plan is printed and compared with what the device has, and only then is anything allocated: too large a
batch is one sentence at start, never a crash at step 3. Nothing is allocated after that.

    arena:  | slice 0 ....... |guard| slice 1 ... |guard| ...     slices start at multiples of 256 bytes
            guards exist in DEBUG builds: 256 bytes of a pattern that arena_check looks at

CPU memory comes from mmap with huge pages asked for: zeroed, and a page is taken only when touched.
*/
#pragma once

#include "device.cuh"

#if !GPU_EXECUTION
#include <sys/mman.h>
#endif

enum { ARENA_SLICES = 96, ARENA_ALIGN = 256, GUARD_BYTE = 0xA5 };
#ifdef AHEAD_GUARDS
enum { ARENA_GUARD = 256 };
#else
enum { ARENA_GUARD = 0 };
#endif

typedef struct {
    const char* name;
    void** slot;  // receives the address at allocation
    size_t bytes, offset;
} Slice;

typedef struct {
    const char* name;
    Slice slices[ARENA_SLICES];
    int count;
    size_t bytes;
    char* base;
} Arena;

// Zeroed device memory, at least 256-byte aligned; fails with a sentence when there is none.
UNUSED static void* device_malloc(size_t bytes, const char* what) {
    if (bytes == 0) return NULL;
#if GPU_EXECUTION
    void* p = NULL;
    if (cudaMalloc(&p, bytes) != cudaSuccess) {
        fail("GPU memory: %s needs %.1f MiB, which the device does not have; lower --batch_size", what, bytes / 1048576.0);
    }
    CUDA_CHECK(cudaMemset(p, 0, bytes));
    device_sync();  // the training stream does not wait for the default stream
    return p;
#else
    void* p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        fail("memory: %s needs %.1f MiB, which the machine does not have; lower --batch_size", what, bytes / 1048576.0);
    }
    madvise(p, bytes, MADV_HUGEPAGE);
    return p;
#endif
}

UNUSED static void device_free(void* p, UNUSED size_t bytes) {
    if (!p) return;
#if GPU_EXECUTION
    cudaFree(p);
#else
    munmap(p, bytes);
#endif
}

// Blocking copies between host and device, for everything outside the step. bytes is a size in bytes.
UNUSED static void copy_to_device(void* device, const void* host, size_t bytes) {
#if GPU_EXECUTION
    device_sync();  // whatever still reads what is there runs on a stream that this copy does not wait for
    CUDA_CHECK(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
    device_sync();  // a copy from pageable memory may return before it has arrived
#else
    memcpy(device, host, bytes);
#endif
}
UNUSED static void copy_to_host(void* host, const void* device, size_t bytes) {
#if GPU_EXECUTION
    device_sync();  // whatever writes it runs on a stream that this copy does not wait for
    CUDA_CHECK(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
#else
    memcpy(host, device, bytes);
#endif
}
// Copy inside the device, queued on the stream.
UNUSED static void copy_on_device(void* to, const void* from, size_t bytes, UNUSED stream_t stream) {
    moves(WORK_OTHER, 2.0 * (double)bytes);
    if (planning.walks) return;
#if GPU_EXECUTION
    CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
#else
    memcpy(to, from, bytes);
#endif
}

// Bytes the device can still give. CPU: the kernel's own estimate of what fits without swapping.
UNUSED static size_t device_available(void) {
#if GPU_EXECUTION
    size_t available = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&available, &total));
    return available;
#else
    size_t kib = 0;
    char line[128];
    FILE* f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1) break;
    }
    if (f) fclose(f);
    return kib ? kib * 1024 : SIZE_MAX;
#endif
}

// Declares a slice of `bytes` whose address goes to *slot when the arena is allocated. Zero bytes: *slot becomes NULL.
UNUSED static void arena_add(Arena* arena, const char* name, void* slot, size_t bytes) {
    if (arena->count == ARENA_SLICES) fail("arena %s: more than %d slices", arena->name, ARENA_SLICES);
    arena->bytes = round_up(arena->bytes, ARENA_ALIGN);
    arena->slices[arena->count++] = (Slice){name, (void**)slot, bytes, arena->bytes};
    arena->bytes = round_up(arena->bytes + bytes, ARENA_ALIGN) + ARENA_GUARD;
}

UNUSED static void arena_allocate(Arena* arena) {
    arena->base = (char*)device_malloc(arena->bytes, arena->name);
    for (int i = 0; i < arena->count; i++) {
        Slice* s = &arena->slices[i];
        *s->slot = s->bytes ? arena->base + s->offset : NULL;
        char* guard = arena->base + round_up(s->offset + s->bytes, ARENA_ALIGN);
#if GPU_EXECUTION
        if (ARENA_GUARD > 0) CUDA_CHECK(cudaMemset(guard, GUARD_BYTE, ARENA_GUARD));
#else
        if (ARENA_GUARD > 0) memset(guard, GUARD_BYTE, ARENA_GUARD);
#endif
    }
}

// Addresses without memory, for a walk (planning.h): whoever reads or writes there crashes.
UNUSED static void arena_pretend(Arena* arena) {
    for (int i = 0; i < arena->count; i++) {
        Slice* s = &arena->slices[i];
        *s->slot = s->bytes ? (char*)((uintptr_t)1 << 46) + s->offset : NULL;
    }
}

// Bytes that slice i takes up, with what follows it to align the next one (and its guard): they add up to the arena.
UNUSED static size_t arena_extent(const Arena* arena, int i) {
    size_t end = i + 1 < arena->count ? arena->slices[i + 1].offset : arena->bytes;
    return end - (i ? arena->slices[i].offset : 0);
}

// Looks at every guard of a DEBUG build and names the slice that something was written behind.
UNUSED static void arena_check(const Arena* arena) {
    unsigned char guard[ARENA_GUARD + 1];
    for (int i = 0; i < arena->count; i++) {
        const Slice* s = &arena->slices[i];
        copy_to_host(guard, arena->base + round_up(s->offset + s->bytes, ARENA_ALIGN), ARENA_GUARD);
        for (int b = 0; b < ARENA_GUARD; b++) {
            if (guard[b] != GUARD_BYTE) fail("memory: something wrote %d bytes behind %s of %s", b, s->name, arena->name);
        }
    }
}

UNUSED static void arena_free(Arena* arena) {
    device_free(arena->base, arena->bytes);
    memset(arena, 0, sizeof(*arena));
}

// Prints the slices of an arena that are at least 1 % of `total` bytes, and the arena's sum.
UNUSED static void arena_print(const Arena* arena, size_t total) {
    printf("  %-12s %9.1f MiB ", arena->name, arena->bytes / 1048576.0);
    for (int i = 0; i < arena->count; i++) {
        const Slice* s = &arena->slices[i];
        if (s->bytes * 100 >= total) printf("  %s %.1f", s->name, s->bytes / 1048576.0);
    }
    printf("\n");
}

// Refuses a plan that does not fit, naming the largest part.
UNUSED static void arenas_must_fit(Arena* const* arenas, int count, size_t extra) {
    size_t total = extra, available = device_available();
    const Arena* largest = arenas[0];
    for (int i = 0; i < count; i++) {
        total += arenas[i]->bytes;
        if (arenas[i]->bytes > largest->bytes) largest = arenas[i];
    }
    if (total > available) {
        fail(
            "memory: this run needs %.2f GiB (%.2f GiB of it %s) and %.2f GiB are free; lower --batch_size or use --recompute "
            "block",
            total / 0x1p30, largest->bytes / 0x1p30, largest->name, available / 0x1p30);
    }
}
