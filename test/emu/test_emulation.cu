/*
The emulation itself: every mistake that it promises to see, planted and seen; correct code passes in silence; lanes, barriers,
matrix instructions and conversions give what their definition says.

A mistake that ends the program runs in a child process; one that makes results wrong is compared here.
*/
#include "test/child.h"

#include "llmc/base/arena.cuh"
#include "llmc/ops/ptx.cuh"
#include <cublasLt.h>

static float* device_floats(size_t n) { return (float*)device_malloc(n * sizeof(float), "a test"); }
static void seen(void (*mistake)(const void*), const char* said) {
    int code = run_child(mistake, NULL);
    if (code != EMU_EXIT) fail_msg("\"%s\": exit code %d, not %d; output: %s", said, code, EMU_EXIT, child_output);
    assert_says(said);
}

// ---------------------------------------------------------------------------------------------------------------------
// Lanes that do not come together
KERNEL two_barriers(float* p) {
    if (threadIdx.x < 32) {
        __syncthreads();
        p[0] = 1;
    } else {
        __syncthreads();
        p[1] = 1;
    }
}
KERNEL barrier_and_shuffle(float* p) {
    if (threadIdx.x == 5) __syncthreads();
    p[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
KERNEL two_shuffles(float* p) {
    if (threadIdx.x < 16) p[0] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    else p[1] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
KERNEL reads_a_gone_lane(float* p) {
    if (threadIdx.x >= 16) return;
    p[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 16);
}
KERNEL is_not_in_the_mask(float* p) { p[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 1); }
KERNEL reads_outside_the_mask(float* p) {
    if (threadIdx.x < 16) p[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 16);
}
#define RUNS(name, kernel, lanes)                       \
    static void name(const void*) {                     \
        LAUNCH(kernel, 1, lanes, 0)(device_floats(64)); \
        device_sync();                                  \
    }
RUNS(run_two_barriers, two_barriers, 64)
RUNS(run_barrier_and_shuffle, barrier_and_shuffle, 64)
RUNS(run_two_shuffles, two_shuffles, 64)
RUNS(run_reads_a_gone_lane, reads_a_gone_lane, 64)
RUNS(run_is_not_in_the_mask, is_not_in_the_mask, 64)
RUNS(run_reads_outside_the_mask, reads_outside_the_mask, 64)

static void divergence(void** state) {
    (void)state;
    seen(run_two_barriers, "__syncthreads at test/emu/test_emulation.cu");
    assert_says("while thread");
    seen(run_barrier_and_shuffle, "wait for each other for ever");
    seen(run_two_shuffles, "lanes of one warp meet at different calls");
    seen(run_reads_a_gone_lane, "has left the kernel");
    assert_says("kernel reads_a_gone_lane, block (0,0,0), thread (");
    seen(run_is_not_in_the_mask, "does not name the calling lane");
    seen(run_reads_outside_the_mask, "not in the mask 0000ffff");
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory
KERNEL write_at(float* p, long at) {
    if (threadIdx.x == 0) p[at] = 1;
}
KERNEL write_shared_at(int at) { dynamic_shared<float>()[at + (int)threadIdx.x] = 1; }
KERNEL read_through(const float* const* p, float* q) { q[0] = **p; }

static void run_far_behind(const void*) { LAUNCH(write_at, 1, 64, 0)(device_floats(100), 1000L), device_sync(); }
static void run_just_behind(const void*) {
    float* p = device_floats(100);
    LAUNCH(write_at, 1, 64, 0)(p, 100L);
    cudaFree(p);
}
static void run_just_before(const void*) {
    float* p = device_floats(100);
    LAUNCH(write_at, 1, 64, 0)(p, -1L);
    cudaFree(p);
}
static void run_freed(const void*) {
    float *p = device_floats(100), **q = (float**)device_malloc(8, "a test");
    copy_to_device(q, &p, 8);
    cudaFree(p);
    LAUNCH(read_through, 1, 64, 0)(q, device_floats(1));
    device_sync();
}
static void run_twice_freed(const void*) {
    float* p = device_floats(1);
    cudaFree(p), cudaFree(p);
}
static void run_host_argument(const void*) {
    float here;
    LAUNCH(write_at, 1, 64, 0)(&here, 0L);
}
static void run_freed_argument(const void*) {
    float* p = device_floats(1);
    cudaFree(p);
    LAUNCH(write_at, 1, 64, 0)(p, 0L);
}
static void run_behind_shared(const void*) {
    LAUNCH_SHARED(write_shared_at, 1, 32, 4096, 0)(1024);
    device_sync();
}
static void run_just_behind_shared(const void*) {
    LAUNCH_SHARED(write_shared_at, 1, 32, 4096 + 16, 0)(1000);
    device_sync();
}
static void run_host_reads(const void* after_work) {
    signal(SIGSEGV, SIG_DFL);  // not cmocka's
    float* p = device_floats(1);
    if (after_work) LAUNCH(write_at, 1, 64, 0)(p, 0L), device_sync();
    printf("%f\n", *p);
}

static void wrong_addresses(void** state) {
    (void)state;
    seen(run_far_behind, "access at offset 4000 of an allocation of 400 bytes");
    seen(run_just_behind, EMU_ASAN ? "access at offset 400 of" : "something wrote at offset 400 of an allocation of 400 bytes");
    seen(run_just_before, EMU_ASAN ? "access at offset -4 of" : "something wrote at offset -4 of");
    seen(run_freed, "access at offset 0 of a freed allocation of 400 bytes");
    seen(run_twice_freed, "freed twice");
    seen(run_host_argument, "kernel write_at: argument 1");
    seen(run_freed_argument, "points outside live device memory");
    seen(run_behind_shared, "behind the 4096 bytes of dynamic shared memory");
    seen(run_just_behind_shared, EMU_ASAN ? "access behind the 4112 bytes" : "wrote 0 bytes behind the dynamic shared memory");
    assert_int_equal(run_child(run_host_reads, NULL), -SIGSEGV);
    assert_int_equal(run_child(run_host_reads, "after work"), -SIGSEGV);
}

static void run_wrong_kind(const void*) {
    float x = 0;
    cudaMemcpy(device_floats(1), &x, 4, cudaMemcpyDeviceToHost);
}
static void run_host_as_device(const void*) {
    float x = 0;
    cudaMemcpy(&x, &x, 4, cudaMemcpyHostToDevice);
}
static void run_too_long(const void*) {
    float x[2] = {};
    cudaMemcpy(device_floats(1), x, 8, cudaMemcpyHostToDevice);
}
static void run_memset_too_long(const void*) { cudaMemset(device_floats(1), 0, 5); }
static void run_too_many_threads(const void*) { LAUNCH_SHARED(write_shared_at, 1, 1025, 0, 0)(0); }
static void run_no_blocks(const void*) { LAUNCH_SHARED(write_shared_at, 0, 32, 0, 0)(0); }
static void run_high_grid(const void*) { LAUNCH_SHARED(write_shared_at, dim3(1, 65536), 32, 128, 0)(0); }
static void run_much_shared(const void*) { LAUNCH_SHARED(write_shared_at, 1, 32, 60000, 0)(0); }

static void wrong_calls(void** state) {
    (void)state;
    seen(run_wrong_kind, "a copy to the host has a device pointer as its target");
    seen(run_host_as_device, "is not a device pointer");
    seen(run_too_long, "8 bytes at offset 0 of an allocation of 4 bytes");
    seen(run_memset_too_long, "cudaMemset: 5 bytes");
    seen(run_too_many_threads, "impossible launch of (1,1,1) blocks of (1025,1,1) threads");
    seen(run_no_blocks, "impossible launch");
    seen(run_high_grid, "impossible launch");
    seen(run_much_shared, "60000 bytes of dynamic shared memory, and 49152 are allowed");
    assert_int_equal(cudaFuncSetAttribute(write_shared_at, cudaFuncAttributeMaxDynamicSharedMemorySize, 120 << 10),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaFuncSetAttribute(write_shared_at, cudaFuncAttributeMaxDynamicSharedMemorySize, 60000), cudaSuccess);
    LAUNCH_SHARED(write_shared_at, 1, 32, 60000, 0)(0);
    device_sync();
}

// ---------------------------------------------------------------------------------------------------------------------
// Mistakes that make results wrong
KERNEL turn_around(float* p, bool barrier) {  // p[i] = p[n - 1 - i] by way of shared memory
    __shared__ float all[64];
    all[threadIdx.x] = p[threadIdx.x];
    if (barrier) __syncthreads();
    p[threadIdx.x] = all[63 - threadIdx.x];
}
KERNEL copy_tile(float* p, const float* q, bool wait) {
    float* tile = dynamic_shared<float>();
    cp_async_16(tile + 4 * threadIdx.x, q + 4 * threadIdx.x, threadIdx.x < 31);
    cp_async_commit();
    if (wait) cp_async_wait<0>();
    __syncthreads();
    for (int i = 0; i < 4; i++) p[i * 32 + threadIdx.x] = tile[i * 32 + threadIdx.x];
}

static int wrong_after(bool barrier, int order) {
    float host[64], *p = device_floats(64);
    int wrong = 0;
    for (int i = 0; i < 64; i++) host[i] = (float)i;
    copy_to_device(p, host, sizeof(host));
    device_threads(order);
    LAUNCH(turn_around, 1, 64, 0)(p, barrier);
    copy_to_host(host, p, sizeof(host));
    for (int i = 0; i < 64; i++) wrong += host[i] != 63 - i;
    device_threads(1);
    cudaFree(p);
    return wrong;
}
static void missing_barrier(void** state) {
    (void)state;
    for (int order = 1; order < 10; order++) {
        assert_int_equal(wrong_after(true, order), 0);
        if (!EMU_ASAN) assert_int_not_equal(wrong_after(false, order), 0);  // and NaN: shared memory is poisoned
    }
}
// Without __syncwarp between them, the order of the lanes decides what one reads of another.
KERNEL turn_warp(float* p, bool barrier) {
    float* all = dynamic_shared<float>();
    all[threadIdx.x] = p[threadIdx.x];
    if (barrier) __syncwarp();
    p[threadIdx.x] = all[31 - threadIdx.x];
}
KERNEL copy_what_was_never_written(float* q, const float* p) {
    q[threadIdx.x] = p[threadIdx.x];
    q[32 + threadIdx.x] = dynamic_shared<float>()[threadIdx.x];
}
static void poison(void** state) {
    float host[64], *p = device_floats(32), *q = device_floats(64), *fresh;
    (void)state;
    for (int order = 2; order < 6; order++) {
        for (int barrier = 0; barrier < 2; barrier++) {
            int wrong = 0;
            for (int i = 0; i < 32; i++) host[i] = (float)i;
            copy_to_device(p, host, 128);
            device_threads(order);
            LAUNCH_SHARED(turn_warp, 1, 32, 128, 0)(p, barrier != 0);
            copy_to_host(host, p, 128);
            for (int i = 0; i < 32; i++) wrong += host[i] != 31 - i;
            assert_true(barrier ? wrong == 0 : wrong > 0);
        }
    }
    device_threads(1);
    cudaMalloc(&fresh, 128);
    LAUNCH_SHARED(copy_what_was_never_written, 1, 32, 128, 0)(q, fresh);
    copy_to_host(host, q, sizeof(host));
    for (int i = 0; i < 64; i++) assert_true(isnan(host[i]));
    cudaFree(p), cudaFree(q), cudaFree(fresh);
}
static void missing_wait_for_a_copy(void** state) {
    (void)state;
    float host[128], *p = device_floats(128), *q = device_floats(128);
    for (int i = 0; i < 128; i++) host[i] = (float)i;
    copy_to_device(q, host, sizeof(host));
    for (int wait = 0; wait < 2; wait++) {
        LAUNCH_SHARED(copy_tile, 1, 32, 512, 0)(p, q, wait != 0);
        copy_to_host(host, p, sizeof(host));
        for (int i = 0; i < 128; i++) {
            if (wait) assert_true(host[i] == (i < 124 ? (float)i : 0.0f));
            else assert_true(isnan(host[i]));
        }
    }
    cudaFree(p), cudaFree(q);
}

KERNEL add_one(float* p) { p[threadIdx.x] += 1; }
// A copies 1 into p, B adds 1 and copies back: 2 if B waited for A.
static float two_streams(bool wait, uint64_t seed) {
    float *host, *p = device_floats(32), result;
    cudaStream_t a, b;
    cudaEvent_t copied;
    cudaMallocHost(&host, 32 * sizeof(float));
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking), cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&copied, cudaEventDisableTiming);
    for (int i = 0; i < 32; i++) host[i] = 1;
    emu_queue.seed = seed, emu_queue.seeded = true;
    cudaMemcpyAsync(p, host, 32 * sizeof(float), cudaMemcpyHostToDevice, a);
    cudaEventRecord(copied, a);
    if (wait) cudaStreamWaitEvent(b, copied);
    LAUNCH_SHARED(add_one, 1, 32, 0, b)(p);
    device_sync();
    copy_to_host(&result, p, sizeof(float));
    cudaStreamDestroy(a), cudaStreamDestroy(b);
    cudaFree(p), cudaFreeHost(host);
    return result;
}
static void missing_wait_between_streams(void** state) {
    int right = 0, wrong = 0;
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        assert_true(two_streams(true, seed) == 2.0f);
        if (two_streams(false, seed) == 2.0f) right++;
        else wrong++;
    }
    assert_true(right > 4 && wrong > 4);
}
// Nothing happens before the host waits; the default stream waits for blocking streams, and they for it.
static void queues(void** state) {
    float *host, *p = device_floats(32);
    cudaStream_t blocking;
    (void)state;
    cudaMallocHost(&host, 32 * sizeof(float));
    cudaStreamCreate(&blocking);
    for (uint64_t seed = 0; seed < 20; seed++) {
        emu_queue.seed = seed, emu_queue.seeded = true;
        for (int i = 0; i < 32; i++) host[i] = 1;
        cudaMemcpyAsync(p, host, 32 * sizeof(float), cudaMemcpyHostToDevice, blocking);
        host[0] = 5;  // page-locked memory is read when the copy runs
        LAUNCH_SHARED(add_one, 1, 32, 0, 0)(p);
        cudaMemcpyAsync(host, p, 32 * sizeof(float), cudaMemcpyDeviceToHost, blocking);
        assert_true(host[0] == 5 && host[1] == 1);
        cudaStreamSynchronize(blocking);
        assert_true(host[0] == 6 && host[1] == 2);
    }
    cudaStreamDestroy(blocking);
    cudaFree(p), cudaFreeHost(host);
}

// ---------------------------------------------------------------------------------------------------------------------
// What lanes compute
KERNEL everything(int* out, int n) {
    __shared__ int votes;
    int i = (int)threadIdx.x, lane = i % 32;
    if (i == 0) votes = 0;
    __syncthreads();
    atomicAdd(&votes, i % 3 == 0);
    int* to = out + ((int)blockIdx.x * n + i) * 10;
    to[0] = __shfl_down_sync(0xffffffffu, i, 3);
    to[1] = __shfl_up_sync(0xffffffffu, i, 5, 16);
    to[2] = __shfl_sync(0xffffffffu, i, 7, 8);
    to[3] = (int)__ballot_sync(0xffffffffu, lane % 5 == 1);
    to[4] = __any_sync(0xffffffffu, i == 40) + 2 * __all_sync(0xffffffffu, i < 32);
    to[5] = __syncthreads_count(i % 7 == 0);
    to[6] = votes;
    to[7] = __syncthreads_or(i == n);
    if (lane < 20) to[8] = __shfl_xor_sync(0x000fffffu, i, 1);
    __syncwarp();
    to[9] = (int)(blockDim.x * gridDim.x);
}
static void lanes_together(void** state) {
    enum { BLOCKS = 5 };
    (void)state;
    for (int order = 1; order < 6; order++) {
        for (int n = 32; n <= 96; n += 32) {
            int *out = (int*)device_malloc(BLOCKS * n * 40, "a test"), *host = (int*)xmalloc(BLOCKS * n * 40);
            device_threads(order);
            LAUNCH_SHARED(everything, BLOCKS, n, 0, 0)(out, n);
            copy_to_host(host, out, (size_t)(BLOCKS * n * 40));
            for (int at = 0; at < BLOCKS * n; at++) {
                int i = at % n, lane = i % 32, *to = host + at * 10;
                unsigned ballot = 0;
                for (int l = 1; l < 32; l += 5) ballot |= 1u << l;
                assert_int_equal(to[0], lane < 29 ? i + 3 : i);
                assert_int_equal(to[1], lane % 16 < 5 ? i : i - 5);
                assert_int_equal(to[2], i / 8 * 8 + 7);
                assert_true((unsigned)to[3] == ballot);
                assert_int_equal(to[4], (i / 32 == 1) + 2 * (i < 32));
                assert_int_equal(to[5], (n + 6) / 7);
                assert_int_equal(to[6], (n + 2) / 3);
                assert_int_equal(to[7], 0);
                if (lane < 20) assert_int_equal(to[8], i ^ 1);
                assert_int_equal(to[9], n * BLOCKS);
            }
            cudaFree(out), free(host);
        }
    }
    device_threads(1);
}

// d (16,8) = a (16,16) b (16,8) by ldmatrix and mma, a and b small integers in bf16
KERNEL product(float* d, const bf16* a, const bf16* b) {
    bf16* tile = dynamic_shared<bf16>();  // a, then b
    int lane = (int)threadIdx.x;
    for (int i = lane; i < 256; i += 32) tile[i] = a[i];
    for (int i = lane; i < 128; i += 32) tile[256 + i] = b[i];
    __syncwarp();
    uint32_t left[4], right[4];
    ldmatrix_x4(left, tile + lane % 16 * 16 + lane / 16 * 8);
    ldmatrix_x4_trans(right, tile + 256 + lane % 16 * 8);
    float sum[4] = {};
    mma_m16n8k16<true>(sum, left, right[0], right[1]);
    for (int i = 0; i < 4; i++) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}
static void matrix_instructions(void** state) {
    bf16 a[256], b[128], *da = (bf16*)device_malloc(512, "a test"), *db = (bf16*)device_malloc(256, "a test");
    float d[128], *dd = device_floats(128);
    (void)state;
    for (int i = 0; i < 256; i++) from_float(&a[i], (float)(i * 7 % 11 - 5));
    for (int i = 0; i < 128; i++) from_float(&b[i], (float)(i * 5 % 13 - 6));
    copy_to_device(da, a, sizeof(a)), copy_to_device(db, b, sizeof(b));
    LAUNCH_SHARED(product, 1, 32, 768, 0)(dd, da, db);
    copy_to_host(d, dd, sizeof(d));
    for (int i = 0; i < 128; i++) {
        float sum = 0;
        for (int k = 0; k < 16; k++) sum += to_float(a[i / 8 * 16 + k]) * to_float(b[k * 8 + i % 8]);
        assert_true(d[i] == sum);
    }
    cudaFree(da), cudaFree(db), cudaFree(dd);
}

// Every half-width number comes back; everything between two neighbours goes to the nearer, and to the even one from the middle.
static void conversions(void** state) {
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        int top = kind ? 0x7c00 : 0x7f80;  // infinity
        for (int bits = 0; bits < top; bits++) {
            uint16_t low = (uint16_t)bits, high = (uint16_t)(bits + 1);
            float x = kind ? __half2float({low}) : __bfloat162float({low});
            double y = kind              ? bits + 1 == top ? 65536.0 : __half2float({high})
                                    : bits + 1 == top ? 0x1p128
                                         : __bfloat162float({high});
            float middle = (float)((x + y) / 2), tests[] = {x, nextafterf(middle, 0), middle, nextafterf(middle, INFINITY)};
            uint16_t want[] = {low, low, bits % 2 ? high : low, high};
            for (int i = 0; i < 4; i++) {
                if (i > 0 && (double)middle != (x + y) / 2) continue;  // fp32 cannot hold it
                uint16_t got = kind ? __float2half_rn(tests[i]).bits : __float2bfloat16_rn(tests[i]).bits;
                uint16_t minus = kind ? __float2half_rn(-tests[i]).bits : __float2bfloat16_rn(-tests[i]).bits;
                assert_int_equal(got, want[i]);
                assert_int_equal(minus, want[i] | 0x8000);
            }
        }
        float broken = kind ? __half2float(__float2half_rn(NAN)) : __bfloat162float(__float2bfloat16_rn(NAN));
        assert_true(isnan(broken));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The products' twin: D (16,8) = A (16,24) B (24,8), each mistake by number
static void run_product(const void* which) {
    int mistake = which ? *(const int*)which : 0;
    float one = 1, zero = 0, *a = device_floats(16 * 24), *b = device_floats(24 * 8), *d = device_floats(16 * 8);
    void* workspace = device_malloc(1 << 20, "a test");
    size_t bytes = 1 << 20;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t A, B, D;
    cublasLtMatmulPreference_t wish;
    cublasLtMatmulHeuristicResult_t offers[3];
    int count;
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayoutCreate(&A, CUDA_R_32F, 16, 24, 16), cublasLtMatrixLayoutCreate(&B, CUDA_R_32F, 24, 8, 24);
    cublasLtMatrixLayoutCreate(&D, CUDA_R_32F, 16, 8, 16);
    cublasLtMatmulPreferenceCreate(&wish);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes));
    for (int i = 5; i < 9; i++) {
        uint32_t alignment = 16;
        cublasLtMatmulPreferenceSetAttribute(wish, (cublasLtMatmulPreferenceAttributes_t)i, &alignment, sizeof(alignment));
    }
    cublasLtMatmulAlgoGetHeuristic(handle, op, A, B, D, D, wish, 3, offers, &count);
    cublasLtMatmulAlgo_t* algo = &offers[1].algo;
    int32_t transposed = CUBLAS_OP_T;
    if (mistake == 1) A->leading = 12;
    if (mistake == 2) A->leading = 18;
    if (mistake == 3) B->columns = 7;
    if (mistake == 4) D->leading = 20;  // of another problem
    if (mistake == 5) bytes = 100;
    if (mistake == 6) a += 1;
    if (mistake == 7) D->leading = 32, cublasLtMatmulAlgoGetHeuristic(handle, op, A, B, D, D, wish, 3, offers, &count);
    if (mistake == 8) d = a;
    if (mistake == 9) cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed));
    if (mistake == 10) B->type = CUDA_R_16BF;
    cublasLtMatmul(handle, op, &one, a, A, b, B, &zero, d, D, d, D, algo, workspace, bytes, 0);
    device_sync();
}
static void product_descriptors(void** state) {
    const char* said[] = {"",
                          "a leading dimension is smaller than the rows",
                          "no multiple of 16 bytes",
                          "disagree about n",
                          "was chosen for another problem",
                          "100 bytes of workspace",
                          "1536 bytes at offset 4 of an allocation",
                          "D: 960 bytes at offset 0 of an allocation of 512 bytes",
                          "A overlaps with D",
                          "A and D disagree about m",
                          "A and B differ in type"};
    (void)state;
    for (int mistake = 0; mistake <= 10; mistake++) {
        int code = run_child(run_product, &mistake);
        if (code != (mistake ? EMU_EXIT : 0)) fail_msg("mistake %d: exit code %d; %s", mistake, code, child_output);
        assert_says(said[mistake]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divergence),
        cmocka_unit_test(wrong_addresses),
        cmocka_unit_test(wrong_calls),
        cmocka_unit_test(missing_barrier),
        cmocka_unit_test(poison),
        cmocka_unit_test(missing_wait_for_a_copy),
        cmocka_unit_test(missing_wait_between_streams),
        cmocka_unit_test(queues),
        cmocka_unit_test(lanes_together),
        cmocka_unit_test(matrix_instructions),
        cmocka_unit_test(conversions),
        cmocka_unit_test(product_descriptors),
    };
    return cmocka_run_group_tests_name("emulation", tests, NULL, NULL);
}
