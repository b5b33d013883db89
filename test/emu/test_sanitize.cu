/*
The sanitizer build of the emulation: each kind of stray access and undefined arithmetic, planted in a kernel and reported, and a
correct twin of each that passes in silence.
*/
#include "test/child.h"

#include "llmc/base/arena.cuh"
#include "llmc/ops/ptx.cuh"

static float* device_floats(size_t n) { return (float*)device_malloc(n * sizeof(float), "a test"); }

KERNEL write_at(float* p, int at) { p[at + (int)threadIdx.x] = 1; }
KERNEL read_at(float* q, const float* p, int at) { q[threadIdx.x] = p[at + (int)threadIdx.x]; }
KERNEL read_through(const float* const* p, float* q) { q[0] = **p; }
KERNEL write_shared_at(int at) { dynamic_shared<float>()[at + (int)threadIdx.x] = 1; }
KERNEL write_static(float* p, int at) {
    __shared__ float all[64];
    float* q = all;
    asm("" : "+r"(q));  // a pointer that does not know its array
    q[at + (int)threadIdx.x] = 1;
    __syncthreads();
    p[threadIdx.x] = all[threadIdx.x];
}
KERNEL write_local(float* p, int at) {
    float mine[8], *q = mine;
    for (int i = 0; i < 8; i++) mine[i] = 0;
    asm("" : "+r"(q));
    __syncthreads();  // the thread has been off its stack
    q[at] = 1;
    p[threadIdx.x] = mine[threadIdx.x % 8];
}
KERNEL index_local(float* p, int at) {
    float mine[8] = {};
    mine[at] = 1;
    p[threadIdx.x] = mine[threadIdx.x % 8];
}
KERNEL read_four(float* q, const float* p, int at) { q[0] = ((const float4*)(p + at))->x; }
KERNEL shift_by(int* p, int bits) { p[0] = 1 << bits; }
KERNEL add_to(int* p, int x) { p[0] = 0x7fffffff + x; }
KERNEL to_int(int* p, float x) { p[0] = (int)x; }

static bool correct;  // the twin without the mistake
static void run_behind(const void*) { LAUNCH_SHARED(write_at, 1, 32, 0, 0)(device_floats(correct ? 32 : 31), 0); }
static void run_before(const void*) { LAUNCH_SHARED(write_at, 1, 32, 0, 0)(device_floats(32), correct ? 0 : -1); }
static void run_read_behind(const void*) {
    LAUNCH_SHARED(read_at, 1, 32, 0, 0)(device_floats(32), device_floats(33), correct ? 1 : 2);
}
static void run_between(const void*) {  // from one allocation far into another
    float *p = device_floats(32), *q = device_floats(4096);
    LAUNCH_SHARED(write_at, 1, 32, 0, 0)(p, correct ? 0 : (int)(q - p) - 32);
}
static void run_freed(const void*) {
    float *p = device_floats(32), **q = (float**)device_malloc(8, "a test");
    copy_to_device(q, &p, 8);
    if (!correct) cudaFree(p);
    LAUNCH_SHARED(read_through, 1, 1, 0, 0)(q, device_floats(1));
}
static void run_shared_behind(const void*) { LAUNCH_SHARED(write_shared_at, 1, 32, 132, 0)(correct ? 1 : 2); }
static void run_shared_before(const void*) { LAUNCH_SHARED(write_shared_at, 1, 32, 132, 0)(correct ? 0 : -1); }
static void run_static(const void*) { LAUNCH_SHARED(write_static, 1, 32, 0, 0)(device_floats(32), correct ? 32 : 33); }
static void run_local(const void*) { LAUNCH_SHARED(write_local, 1, 64, 0, 0)(device_floats(64), correct ? 7 : 8); }
static void run_index(const void*) { LAUNCH_SHARED(index_local, 1, 64, 0, 0)(device_floats(64), correct ? 7 : 8); }
static void run_misaligned(const void*) {
    LAUNCH_SHARED(read_four, 1, 1, 0, 0)(device_floats(4), device_floats(16), correct ? 4 : 1);
}
static void run_shift(const void*) { LAUNCH_SHARED(shift_by, 1, 1, 0, 0)((int*)device_floats(1), correct ? 30 : 32); }
static void run_overflow(const void*) { LAUNCH_SHARED(add_to, 1, 1, 0, 0)((int*)device_floats(1), correct ? 0 : 1); }
static void run_to_int(const void*) { LAUNCH_SHARED(to_int, 1, 1, 0, 0)((int*)device_floats(1), correct ? 5.0f : NAN); }

typedef struct {
    void (*run)(const void*);
    const char *said, *also;
} Mistake;
static void run_and_wait(const void* m) {
    ((const Mistake*)m)->run(NULL);
    device_sync();
}

static void mistakes(void** state) {
    const Mistake list[] = {
        {run_behind, "WRITE of size 4", "kernel write_at, block (0,0,0), thread (31,0,0): access at offset 124 of an"},
        {run_before, "WRITE of size 4", "thread (0,0,0): access at offset -4 of an allocation of 128 bytes"},
        {run_read_behind, "READ of size 4", "kernel read_at, block (0,0,0), thread (31,0,0): access at offset 132"},
        {run_between, "WRITE of size 4", "of an allocation of 128 bytes"},
        {run_freed, "READ of size 4", "access at offset 0 of a freed allocation of 128 bytes"},
        {run_shared_behind, "WRITE of size 4", "access behind the 132 bytes of dynamic shared memory"},
        {run_shared_before, "WRITE of size 4", "access in front of the dynamic shared memory"},
        {run_static, "global-buffer-overflow", "kernel write_static, block (0,0,0), thread (31,0,0): "},
        {run_local, "stack-buffer-overflow", "kernel write_local, block (0,0,0), thread ("},
        {run_index, "index 8 out of bounds", "kernel index_local, block (0,0,0), thread ("},
        {run_misaligned, "misaligned address", "kernel read_four, block (0,0,0), thread (0,0,0): undefined"},
        {run_shift, "shift exponent 32 is too large", "kernel shift_by"},
        {run_overflow, "signed integer overflow", "kernel add_to"},
        {run_to_int, "outside the range of representable values", "kernel to_int"}};
    (void)state;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        correct = false;
        int code = run_child(run_and_wait, &list[i]);
        if (code != EMU_EXIT) fail_msg("\"%s\" is not seen: exit code %d, %s", list[i].also, code, child_output);
        assert_says(list[i].said);
        assert_says(list[i].also);
        correct = true;
        code = run_child(run_and_wait, &list[i]);
        if (code != 0) fail_msg("without the mistake \"%s\": exit code %d, %s", list[i].also, code, child_output);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mistakes)};
    return cmocka_run_group_tests_name("sanitizer build of the emulation", tests, NULL, NULL);
}
