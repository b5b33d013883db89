/*
The instructions of llmc/ops/ptx.cuh, with the layouts that its head draws. A copy of cp.async poisons its target at once and
happens when it is waited for: nobody may still use what was there, nor read too early.
*/
#pragma once

typedef struct {
    void* shared;
    const void* global;
    int group;
    bool copy;
} EmuCpAsync;
static EmuCpAsync emu_cp_async[EMU_THREADS][EMU_CP_ASYNC];

EMU void* emu_dynamic_shared() { return emu.shared; }

EMU void emu_must_be_shared(const void* p, size_t bytes, const char* what) {
    const char* c = (const char*)p;
    if ((uintptr_t)p % bytes) emu_fail("%s: address %p is not %zu-byte aligned", what, p, bytes);
    if (c < emu.shared || c + bytes > emu.shared + emu.shared_bytes)
        emu_fail("%s: offset %zd is outside the %zu bytes of dynamic shared memory", what, c - emu.shared, emu.shared_bytes);
}

typedef struct {
    uint32_t* out;
    const void* row;
    bool transposed;
} EmuLdmatrix;
EMU_UNWATCHED static void emu_ldmatrix_together(EmuThread* warp, unsigned lanes) {
    if (lanes != 0xffffffffu) emu_fail("ldmatrix needs all 32 lanes, and has %08x", lanes);
    for (int lane = 0; lane < 32; lane++) {
        EmuLdmatrix* mine = (EmuLdmatrix*)warp[lane].operand;
        for (int m = 0; m < 4; m++) {
            uint16_t pair[2];
            for (int h = 0; h < 2; h++) {
                int i = lane / 4, j = lane % 4 * 2 + h, row = mine->transposed ? j : i, column = mine->transposed ? i : j;
                pair[h] = ((const uint16_t*)((EmuLdmatrix*)warp[m * 8 + row].operand)->row)[column];
            }
            memcpy(&mine->out[m], pair, 4);
        }
    }
}
EMU void emu_ldmatrix_x4(uint32_t* out, const void* row, bool transposed) {
    EmuLdmatrix mine = {out, row, transposed};
    emu_must_be_shared(row, 16, "ldmatrix");
    emu_together(0xffffffffu, "ldmatrix", __FILE__, transposed, emu_ldmatrix_together, &mine);
}

typedef struct {
    float* d;
    const uint32_t *a, *b;
    bool is_bf16;
} EmuMma;
EMU inline float emu_half(uint32_t pair, int which, bool is_bf16) {
    uint16_t bits = (uint16_t)(which ? pair >> 16 : pair);
    return is_bf16 ? __bfloat162float({bits}) : __half2float({bits});
}
EMU_UNWATCHED static void emu_mma_together(EmuThread* warp, unsigned lanes) {
    float a[16][16], b[8][16];  // b by columns
    if (lanes != 0xffffffffu) emu_fail("mma needs all 32 lanes, and has %08x", lanes);
    for (int lane = 0; lane < 32; lane++) {
        const EmuMma* o = (const EmuMma*)warp[lane].operand;
        int g = lane / 4, c = lane % 4 * 2;
        for (int h = 0; h < 2; h++) {
            for (int i = 0; i < 4; i++) a[g + i % 2 * 8][c + i / 2 * 8 + h] = emu_half(o->a[i], h, o->is_bf16);
            for (int i = 0; i < 2; i++) b[g][c + i * 8 + h] = emu_half(o->b[i], h, o->is_bf16);
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        EmuMma* o = (EmuMma*)warp[lane].operand;
        for (int i = 0; i < 4; i++) {
            const float *left = a[lane / 4 + i / 2 * 8], *right = b[lane % 4 * 2 + i % 2];
            float sum = 0.0f;
            for (int k = 0; k < 16; k++) sum += left[k] * right[k];
            o->d[i] += sum;
        }
    }
}
EMU void emu_mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, bool is_bf16) {
    EmuMma mine = {d, a, b, is_bf16};
    emu_together(0xffffffffu, "mma", __FILE__, is_bf16, emu_mma_together, &mine);
}

EMU void emu_cp_async_16(void* shared, const void* global, bool copy) {
    EmuThread* me = emu_thread;
    emu_must_be_shared(shared, 16, "cp.async");
    if ((uintptr_t)global % 16) emu_fail("cp.async: global address %p is not 16-byte aligned", global);
    if (copy) emu_must_be_on_device(global, 16, "cp.async");
    if (me->copies - me->cp_first == EMU_CP_ASYNC) emu_fail("more than %d open cp.async in one thread", EMU_CP_ASYNC);
    memset(shared, EMU_POISON, 16);
    emu_check_forget(shared, 16);
    emu_cp_async[me->linear][me->copies++ % EMU_CP_ASYNC] = (EmuCpAsync){shared, global, me->cp_groups, copy};
}
EMU void emu_cp_async_commit() { emu_thread->cp_groups++; }
EMU void emu_cp_async_wait(int open_groups) {
    EmuThread* me = emu_thread;
    for (; me->cp_first < me->copies; me->cp_first++) {
        const EmuCpAsync* c = &emu_cp_async[me->linear][me->cp_first % EMU_CP_ASYNC];
        if (c->group >= me->cp_groups - open_groups) break;
        if (c->copy) memcpy(c->shared, c->global, 16);
        else memset(c->shared, 0, 16);
    }
}
