/*
The machine instructions that CUDA C++ has no name for: the only file with inline assembly (sm_80 and newer).

    function           the 32 lanes of a warp together                                         a lane's share
    ldmatrix_x4        read four 8 x 8 matrices of 2-byte elements from shared memory;          matrix m in out[m]: row lane / 4,
                       lanes 8m .. 8m+7 give the addresses of the rows of matrix m              columns 2 (lane % 4) and the next
    ldmatrix_x4_trans  the same, each matrix transposed on the way
    mma_m16n8k16       d (16,8) += a (16,16) b (16,8), fp32 sums                                g = lane / 4, c = 2 (lane % 4):
                           a   rows g and g + 8, columns c, c+1 and c+8, c+9                    a[0] (g,c)   a[1] (g+8,c)
                                                                                                a[2] (g,c+8) a[3] (g+8,c+8)
                           b   rows c, c+1 and c+8, c+9, column g                               b[0] (c,g)   b[1] (c+8,g)
                           d   rows g and g + 8, columns c, c+1                                 d[0] d[1] (g,c)  d[2] d[3] (g+8,c)
    cp_async_16        start a copy of 16 bytes from global to shared memory, or fill with 0
    cp_async_commit    close the group of copies started so far; cp_async_wait<n> waits until at most n groups are open

The emulation defines the emu_ functions below with the same layouts; everything else here is the same for both.
*/
#pragma once

#include "../base/device.cuh"

#if GPU_EXECUTION

#ifdef AHEAD_EMU
void* emu_dynamic_shared();                                                           // this block's dynamic shared memory
void emu_ldmatrix_x4(uint32_t* out, const void* row, bool transposed);                // out[4]
void emu_mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, bool is_bf16);  // d[4] a[4] b[2]
void emu_cp_async_16(void* shared, const void* global, bool copy);                    // !copy: 16 zero bytes, global is not read
void emu_cp_async_commit();
void emu_cp_async_wait(int open_groups);
#endif

// The block's dynamic shared memory: one accessor, 128-byte aligned; sizes are given at the launch.
template <class T>
__device__ __forceinline__ static T* dynamic_shared() {
#ifdef AHEAD_EMU
    return (T*)emu_dynamic_shared();
#else
    extern __shared__ __align__(128) unsigned char dynamic_shared_memory[];
    return (T*)dynamic_shared_memory;
#endif
}

// kernel<<<grid, block, shared bytes, stream>>>(args), in a spelling that the emulation understands too.
#ifdef AHEAD_EMU
#define LAUNCH_SHARED(kernel, grid, block, shared, stream) emu_launch(kernel, grid, block, shared, stream)
#else
#define LAUNCH_SHARED(kernel, grid, block, shared, stream) kernel<<<grid, block, shared, stream>>>
#endif

#ifndef AHEAD_EMU
__device__ __forceinline__ static uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }
#endif

__device__ __forceinline__ static void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
#ifdef AHEAD_EMU
    emu_ldmatrix_x4(out, row, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

__device__ __forceinline__ static void ldmatrix_x4_trans(uint32_t (&out)[4], const void* row) {
#ifdef AHEAD_EMU
    emu_ldmatrix_x4(out, row, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// BF16: elements of a and b are bf16, else fp16.
template <bool BF16>
__device__ __forceinline__ static void mma_m16n8k16(float* d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef AHEAD_EMU
    uint32_t b[2] = {b0, b1};
    emu_mma_m16n8k16(d, a, b, BF16);
#else
    if constexpr (BF16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Two neighbours of one row as the 32 bits that mma takes: `first` in the low half.
template <class T>
__device__ __forceinline__ static uint32_t pack_pair(float first, float second) {
    T pair[2];
    uint32_t bits;
    from_float(&pair[0], first);
    from_float(&pair[1], second);
    memcpy(&bits, pair, 4);
    return bits;
}

__device__ __forceinline__ static void cp_async_16(void* shared, const void* global, bool copy) {
#ifdef AHEAD_EMU
    emu_cp_async_16(shared, global, copy);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(copy ? 16 : 0)
                 : "memory");
#endif
}
__device__ __forceinline__ static void cp_async_commit() {
#ifdef AHEAD_EMU
    emu_cp_async_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int OPEN>
__device__ __forceinline__ static void cp_async_wait() {
#ifdef AHEAD_EMU
    emu_cp_async_wait(OPEN);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(OPEN) : "memory");
#endif
}

// 2^x, the hardware's: 2 ulp, subnormal results become 0.
__device__ __forceinline__ static float fast_exp2(float x) {
#ifdef AHEAD_EMU
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

#endif
