/*
The checking build of the emulation: each kind of report, planted and seen with its source line, and a correct twin of each that
passes in silence.
*/
#include "test/child.h"

#include "llmc/base/arena.cuh"
#include "llmc/ops/ptx.cuh"

static float* device_floats(size_t n) {
    float* p;
    if (cudaMalloc(&p, n * sizeof(float)) != cudaSuccess) fail("no memory");
    return p;  // never written
}
static float* zeros(size_t n) { return (float*)device_malloc(n * sizeof(float), "a test"); }

static bool correct;  // the twin without the mistake
static int variant;   // of last_block

KERNEL turn_around(float* p, bool barrier) {
    __shared__ float all[64];
    all[threadIdx.x] = p[threadIdx.x];
    if (barrier) __syncthreads();
    p[threadIdx.x] = all[63 - threadIdx.x];
}
KERNEL turn_warp(float* p, bool barrier) {
    float* all = dynamic_shared<float>();
    all[threadIdx.x] = p[threadIdx.x];
    __shfl_xor_sync(0xffffffffu, 1, 1);  // brings lanes together and orders nothing
    if (barrier) __syncwarp();
    p[threadIdx.x] = all[31 - threadIdx.x];
}
KERNEL next_round(float* p, bool barrier) {  // the exchange is used again while others still read it
    __shared__ float one;
    for (int i = 0; i < 3; i++) {
        if (threadIdx.x == 0) one = p[i];
        __syncthreads();
        p[64 + threadIdx.x] = one;
        if (barrier) __syncthreads();
    }
}
KERNEL across_blocks(float* p, bool apart) { p[apart ? blockIdx.x * 32 + threadIdx.x : threadIdx.x] = 1; }
KERNEL read_first(float* q, const float* p) { q[threadIdx.x] = p[threadIdx.x]; }
KERNEL read_shared(float* p, bool write) {
    __shared__ float x[32];
    if (write) x[threadIdx.x] = 1;
    p[threadIdx.x] = x[threadIdx.x];
}
KERNEL write_shared_at(int at) { dynamic_shared<float>()[at + (int)threadIdx.x] = 1; }
KERNEL read_four(float* q, const float* p, int at) { *(float4*)q = *(const float4*)(p + at); }
// Every block leaves partial sums; the last to raise the counter adds them up.
enum { NO_FENCE, FENCE_TOO_EARLY, OTHER_COUNTER, NO_BARRIER, ALL_FENCE, ONE_FENCES, WARP_FENCES };
KERNEL last_block(float* out, float* partial, int* count, int how) {
    __shared__ bool last;
    int t = (int)threadIdx.x, n = (int)blockDim.x;
    if (how == FENCE_TOO_EARLY) __threadfence();
    partial[(int)blockIdx.x * n + t] = 1;
    if (how == ALL_FENCE || how == OTHER_COUNTER) __threadfence();
    if (how == WARP_FENCES) __syncwarp();
    else if (how != NO_BARRIER) __syncthreads();
    if (t == 0) {
        if (how == ONE_FENCES || how == NO_BARRIER || how == WARP_FENCES) __threadfence();
        last =
            atomicAdd(&count[how == OTHER_COUNTER ? (int)blockIdx.x : 0], 1) == (how == OTHER_COUNTER ? 0 : (int)gridDim.x - 1);
    }
    __syncthreads();
    if (!last) return;
    float sum = 0;
    for (int b = 0; b < (int)gridDim.x; b++) {
        if (how != OTHER_COUNTER || b == 0) sum += partial[b * n + n - 1 - t];
    }
    out[t] = sum;
}
KERNEL counts(int* count) { atomicAdd(count, 1); }
KERNEL early_tile(float* p, const float* q, bool wait) {
    float* tile = dynamic_shared<float>();
    cp_async_16(tile + 4 * threadIdx.x, q + 4 * threadIdx.x, true);
    cp_async_commit();
    if (wait) cp_async_wait<0>();
    __syncthreads();
    p[threadIdx.x] = tile[127 - threadIdx.x];
}

static void run_turn_around(const void*) { LAUNCH(turn_around, 1, 64, 0)(zeros(64), correct); }
static void run_turn_warp(const void*) { LAUNCH_SHARED(turn_warp, 1, 32, 128, 0)(zeros(32), correct); }
static void run_next_round(const void*) { LAUNCH(next_round, 1, 64, 0)(zeros(128), correct); }
static void run_across_blocks(const void*) { LAUNCH_SHARED(across_blocks, 2, 32, 0, 0)(zeros(64), correct); }
static void run_read_first(const void*) {
    LAUNCH_SHARED(read_first, 1, 32, 0, 0)(zeros(32), correct ? zeros(32) : device_floats(32));
}
static void run_read_shared(const void*) { LAUNCH_SHARED(read_shared, 1, 32, 0, 0)(zeros(32), correct); }
static void run_just_behind(const void*) { LAUNCH_SHARED(read_first, 1, 32, 0, 0)(zeros(32), zeros(correct ? 32 : 31)); }
static void run_behind_shared(const void*) { LAUNCH_SHARED(write_shared_at, 1, 32, correct ? 128 : 104, 0)(0); }
static void run_misaligned(const void*) { LAUNCH_SHARED(read_four, 1, 1, 0, 0)(zeros(4), zeros(16), correct ? 4 : 1); }
static void run_early_tile(const void*) { LAUNCH_SHARED(early_tile, 1, 32, 512, 0)(zeros(32), zeros(128), correct); }
static void run_counts(const void*) { LAUNCH_SHARED(counts, 7, 32, 0, 0)((int*)zeros(1)); }
static void run_last_block(const void*) {
    LAUNCH_SHARED(last_block, 5, variant == WARP_FENCES ? 32 : 64, 0, 0)(zeros(64), zeros(320), (int*)zeros(5), variant);
}
static void run_two_launches(const void*) {  // launches of one stream are in order
    float* p = zeros(64);
    for (int i = 0; i < 2; i++) LAUNCH_SHARED(across_blocks, 1, 32, 0, 0)(p, true);
}

typedef struct {
    void (*run)(const void*);
    const char *said, *also;
} Mistake;
static void run_and_wait(const void* m) {
    ((const Mistake*)m)->run(NULL);
    device_sync();
}

static void mistakes(void** state) {
    // without a barrier the order decides whether the read comes before the write or races with it
    const Mistake list[] = {{run_turn_around, "r", "kernel turn_around, block (0,0,0), thread ("},
                            {run_turn_warp, "r", "test_check.cu:"},
                            {run_next_round, "races with a", " of thread ("},
                            {run_across_blocks, "races with a write", "global offset"},
                            {run_read_first, "reads what was never written", "read of 4 bytes at global offset"},
                            {run_read_shared, "reads what was never written", "shared offset"},
                            {run_just_behind, "is outside every allocation", "global offset 124"},
                            {run_behind_shared, "is outside every allocation", "write of 4 bytes at shared offset 1"},
                            {run_misaligned, "is not 16-byte aligned", "read of 16 bytes at global offset 4"},
                            {run_early_tile, "reads what was never written", "early_tile"}};
    (void)state;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        correct = false;
        int code = run_child(run_and_wait, &list[i]);
        if (code != EMU_EXIT) fail_msg("\"%s\" is not seen: exit code %d, %s", list[i].said, code, child_output);
        assert_says(list[i].said);
        assert_says(list[i].also);
        correct = true;
        code = run_child(run_and_wait, &list[i]);
        if (code != 0) fail_msg("without the mistake \"%s\": exit code %d, %s", list[i].said, code, child_output);
    }
}
static void silence(void** state) {
    const Mistake list[] = {{run_counts, "", ""}, {run_two_launches, "", ""}};
    (void)state;
    for (int i = 0; i < 2; i++) assert_int_equal(run_child(run_and_wait, &list[i]), 0);
}

// A counter tells the last block that the others are through, and only a fence in front of it that their sums have arrived.
static void between_blocks(void** state) {
    const Mistake last = {run_last_block, "", ""};
    const char* place = "test/emu/test_check.cu:";
    (void)state;
    for (variant = ALL_FENCE; variant <= WARP_FENCES; variant++) {
        int code = run_child(run_and_wait, &last);
        if (code != 0) fail_msg("correct way %d: exit code %d, %s", variant, code, child_output);
    }
    for (variant = NO_FENCE; variant <= NO_BARRIER; variant++) {
        int code = run_child(run_and_wait, &last);
        if (code != EMU_EXIT) fail_msg("mistake %d is not seen: exit code %d, %s", variant, code, child_output);
        assert_says("kernel last_block, block (");
        assert_says("read of 4 bytes at global offset");
        assert_says("a write of block (");
        assert_says(variant == OTHER_COUNTER ? "races with a write"
                                             : "comes by an atomic, without a __threadfence in front of it");
        const char* first = strstr(child_output, place);
        assert_true(first && strstr(first + 1, place));  // where it is read, and where it was written
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mistakes), cmocka_unit_test(silence), cmocka_unit_test(between_blocks)};
    return cmocka_run_group_tests_name("checking build of the emulation", tests, NULL, NULL);
}
