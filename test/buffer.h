/*
Buffers for kernel tests, on whichever side the kernels run. A test asks for them and forgets them: release_buffers, the
teardown of every test, frees all and looks behind each one for stray writes.

    buffer_x(v, n)  n elements of floatX     from host floats v, or, v = NULL, filled with a NaN pattern,
    buffer_f(v, n)  n floats                 so that an element that a kernel forgets to write is seen
    buffer_i(v, n)  n ints
    buffer:         | n elements | 64 bytes of 0xA5 |

    host_x(p, n), host_f(p, n)      the values in host memory, as floats; released the same way
    normal_values(name, n, scale)   host floats, seeded by their name and rounded to floatX
    same_bits(p, q, n)              compares two device arrays of one type bit by bit
*/
#pragma once

#include "harness.h"
#include "../llmc/base/arena.cuh"
#include "../llmc/base/rand.h"

#if defined(AHEAD_EMU) && (EMU_ASAN || defined(EMU_CHECK))
enum { BUFFER_GUARD = 0 };  // these builds see the first byte behind an allocation, reads too
#else
enum { BUFFER_GUARD = 64 };
#endif
enum { BUFFERS = 1024, BUFFER_GUARD_BYTE = 0xA5 };
// What storing in floatX may lose of a value, relative and absolute
static const double STORE_ERROR = PRECISION == PRECISION_FP32 ? 0x1p-23 : PRECISION == PRECISION_BF16 ? 0x1.01p-8 : 0x1.01p-11;
static const double STORE_FLOOR = PRECISION == PRECISION_FP16 ? 0x1.01p-25 : 1e-37;

typedef struct {
    void* memory;
    size_t bytes;
    bool on_device;
} Buffer;
static Buffer buffers[BUFFERS];
static int buffer_count;

static void* buffer_keep(void* memory, size_t bytes, bool on_device) {
    if (buffer_count == BUFFERS) fail("a test uses more than %d buffers", BUFFERS);
    buffers[buffer_count++] = (Buffer){memory, bytes, on_device};
    return memory;
}

// Frees everything; returns how many buffers were written beyond their end.
UNUSED static int release_buffers(void** state) {
    int stray = 0;
    (void)state;
    device_sync();
    for (int i = 0; i < buffer_count; i++) {
        Buffer* b = &buffers[i];
        uint8_t guard[BUFFER_GUARD + 1];
        if (!b->on_device) {
            free(b->memory);
            continue;
        }
        copy_to_host(guard, (char*)b->memory + b->bytes, BUFFER_GUARD);
        bool intact = true;
        for (int k = 0; k < BUFFER_GUARD; k++) intact = intact && guard[k] == BUFFER_GUARD_BYTE;
        if (!intact) print_error("something was written behind buffer %d (%zu bytes)\n", i, b->bytes), stray++;
        device_free(b->memory, b->bytes + BUFFER_GUARD);
    }
    buffer_count = 0;
    return stray;
}

UNUSED static void* buffer_bytes(const void* from, size_t bytes) {
    uint8_t* host = (uint8_t*)xmalloc(bytes + BUFFER_GUARD);
    memset(host, 0xff, bytes);
    if (from) memcpy(host, from, bytes);
    memset(host + bytes, BUFFER_GUARD_BYTE, BUFFER_GUARD);
    void* memory = device_malloc(bytes + BUFFER_GUARD, "a test");
    copy_to_device(memory, host, bytes + BUFFER_GUARD);
    free(host);
    return buffer_keep(memory, bytes, true);
}
UNUSED static float* buffer_f(const float* v, size_t n) { return (float*)buffer_bytes(v, n * sizeof(float)); }
UNUSED static int* buffer_i(const int* v, size_t n) { return (int*)buffer_bytes(v, n * sizeof(int)); }
UNUSED static floatX* buffer_x(const float* v, size_t n) {
    if (!v) return (floatX*)buffer_bytes(NULL, n * sizeof(floatX));
    floatX* host = (floatX*)xmalloc(n * sizeof(floatX));
    for (size_t i = 0; i < n; i++) from_float(&host[i], v[i]);
    floatX* device = (floatX*)buffer_bytes(host, n * sizeof(floatX));
    free(host);
    return device;
}

UNUSED static float* host_values(size_t n) { return (float*)buffer_keep(xmalloc(n * sizeof(float)), n * sizeof(float), false); }
UNUSED static float* host_f(const float* device, size_t n) {
    float* host = host_values(n);
    device_sync();
    copy_to_host(host, device, n * sizeof(float));
    return host;
}
UNUSED static float* host_x(const floatX* device, size_t n) {
    floatX* raw = (floatX*)xmalloc(n * sizeof(floatX));
    device_sync();
    copy_to_host(raw, device, n * sizeof(floatX));
    float* host = host_values(n);
    for (size_t i = 0; i < n; i++) host[i] = to_float(raw[i]);
    free(raw);
    return host;
}

UNUSED static float* normal_values(const char* name, size_t n, float scale) {
    float* host = host_values(n);
    rand_fill_normal(host, n, scale, rand_key(1, name));
    for (size_t i = 0; i < n; i++) {
        floatX rounded;
        from_float(&rounded, host[i]);
        host[i] = to_float(rounded);
    }
    return host;
}

UNUSED static bool same_memory(const void* p, const void* q, size_t bytes) {
    void *a = xmalloc(bytes), *b = xmalloc(bytes);
    device_sync();
    copy_to_host(a, p, bytes);
    copy_to_host(b, q, bytes);
    bool same = !memcmp(a, b, bytes);
    free(a), free(b);
    return same;
}
#define same_bits(p, q, n) same_memory(p, q, (n) * sizeof((p)[0]))

// ours against the exact value: `arithmetic` is what fp32 sums may lose, absolute; storing in floatX comes on top.
#define assert_close(ours, want, arithmetic, ...) \
    assert_off(ours, want, (arithmetic) + STORE_ERROR * fabs(want) + STORE_FLOOR, __VA_ARGS__)
// The same for results kept in fp32.
#define assert_close_f(ours, want, arithmetic, ...) assert_off(ours, want, (arithmetic) + 0x1p-23 * fabs(want), __VA_ARGS__)
#define assert_off(ours, want, allowed, ...)                                                           \
    do {                                                                                               \
        double off_ours = (ours), off_want = (want), off_allowed = (allowed);                          \
        if (fabs(off_ours - off_want) <= off_allowed) break; /* NaN does not pass */                   \
        print_error(__VA_ARGS__);                                                                      \
        fail_msg(": ours %.9g, exact %.9g, allowed difference %.3g", off_ours, off_want, off_allowed); \
    } while (0)
