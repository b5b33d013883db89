/*
What lanes do together. A place in the source (file and line) stands for a call: all threads of a block must reach a barrier at
the same place, all lanes of a mask the same warp operation; whoever waits for lanes that never come is reported.
*/
#pragma once

// Checks that the lanes of `mask` that are left have all come to the same operation, and does it.
EMU_UNWATCHED static void emu_warp_arrived(EmuThread* warp, int w) {
    for (unsigned rest = emu.waiting[w]; rest;) {
        EmuThread* t = &warp[__builtin_ctz(rest)];
        unsigned lanes = t->mask & emu.lanes[w];
        rest &= ~t->mask;
        if (lanes & ~emu.waiting[w]) continue;  // somebody is still missing
        for (unsigned l = lanes; l; l &= l - 1) {
            const EmuThread* u = &warp[__builtin_ctz(l)];
            if (u->mask == t->mask && u->line == t->line && emu_same_text(u->file, t->file) && emu_same_text(u->what, t->what))
                continue;
            emu_fail(
                "lanes of one warp meet at different calls: thread %d at %s, mask %08x, %s:%d; thread %d at %s, mask %08x, %s:%d",
                t->linear, t->what, t->mask, t->file, t->line, u->linear, u->what, u->mask, u->file, u->line);
        }
        t->together(warp, lanes);
        emu.waiting[w] &= ~lanes;
        for (unsigned l = lanes; l; l &= l - 1) emu_can_run_again(&warp[__builtin_ctz(l)]);
    }
}

typedef struct {
    uint64_t given, got;
    int from;  // the lane to read
} EmuOperand;  // of a shuffle or vote

EMU_UNWATCHED EMU void emu_together(unsigned mask, const char* what, const char* file, int line, EmuTogether together,
                                    void* operand) {
    EmuThread* me = emu_thread;
    int w = me->linear / 32;
    unsigned mine = 1u << me->linear % 32;
    if (!(mask & mine))
        emu_fail("%s at %s:%d: mask %08x does not name the calling lane %d", what, file, line, mask, me->linear % 32);
    me->what = what, me->file = file, me->line = line, me->mask = mask, me->state = EMU_AT_WARP;
    me->together = together, me->operand = operand;
    emu.waiting[w] |= mine;
    if (!(mask & emu.lanes[w] & ~emu.waiting[w])) emu_warp_arrived(&emu.threads[w * 32], w);
    if (me->state != EMU_READY) emu_wait();
}

// ---------------------------------------------------------------------------------------------------------------------
// Barriers
EMU int emu_barrier(int predicate, const char* what, const char* file, int line) {
    EmuThread* me = emu_thread;
    me->what = what, me->file = file, me->line = line, me->mask = 0, me->state = EMU_AT_BARRIER, me->value = predicate;
    if (++emu.at_barrier == emu.alive) {
        emu_leave_barrier(me);
    } else {
        emu_wait();
    }
    return me->value;
}
#define EMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
EMU void __syncthreads(EMU_HERE) { emu_barrier(0, "__syncthreads", file, line); }
EMU int __syncthreads_or(int x, EMU_HERE) { return emu_barrier(x != 0, "__syncthreads_or", file, line) != 0; }
EMU int __syncthreads_count(int x, EMU_HERE) { return emu_barrier(x != 0, "__syncthreads_count", file, line); }

static void emu_warp_barrier(EmuThread* warp, unsigned) { emu_check_warp(warp->linear / 32); }
EMU void __syncwarp(unsigned mask = 0xffffffffu, EMU_HERE) {
    emu_together(mask, "__syncwarp", file, line, emu_warp_barrier, NULL);
}
EMU unsigned __activemask() { return emu.lanes[emu_thread->linear / 32]; }

// ---------------------------------------------------------------------------------------------------------------------
// Shuffles and votes
EMU_UNWATCHED static void emu_shuffle_together(EmuThread* warp, unsigned lanes) {
    for (unsigned l = lanes; l; l &= l - 1) {
        EmuThread* t = &warp[__builtin_ctz(l)];
        EmuOperand* o = (EmuOperand*)t->operand;
        if (!(lanes >> o->from & 1)) {
            emu_fail("%s at %s:%d: thread %d reads lane %d, which is not in the mask %08x or has left the kernel", t->what,
                     t->file, t->line, t->linear, o->from, t->mask);
        }
        o->got = ((EmuOperand*)warp[o->from].operand)->given;
    }
}
template <class T>
EMU_UNWATCHED static T emu_shuffle(unsigned mask, T x, int from, const char* what, const char* file, int line) {
    static_assert(sizeof(T) <= 8, "a shuffle moves 8 bytes at most");
    EmuOperand o = {0, 0, from};
    memcpy(&o.given, &x, sizeof(T));
    emu_together(mask, what, file, line, emu_shuffle_together, &o);
    memcpy(&x, &o.got, sizeof(T));
    return x;
}
EMU inline int emu_lane() { return emu_thread->linear % 32; }
template <class T>
static T __shfl_sync(unsigned mask, T x, int lane, int width = 32, EMU_HERE) {
    return emu_shuffle(mask, x, emu_lane() / width * width + (lane & (width - 1)), "__shfl_sync", file, line);
}
template <class T>
static T __shfl_xor_sync(unsigned mask, T x, int lanes, int width = 32, EMU_HERE) {
    int lane = emu_lane(), from = lane ^ lanes;
    return emu_shuffle(mask, x, from / width > lane / width ? lane : from, "__shfl_xor_sync", file, line);
}
template <class T>
static T __shfl_down_sync(unsigned mask, T x, unsigned lanes, int width = 32, EMU_HERE) {
    int lane = emu_lane(), from = lane + (int)lanes;
    return emu_shuffle(mask, x, from / width != lane / width ? lane : from, "__shfl_down_sync", file, line);
}
template <class T>
static T __shfl_up_sync(unsigned mask, T x, unsigned lanes, int width = 32, EMU_HERE) {
    int lane = emu_lane(), from = lane - (int)lanes;
    return emu_shuffle(mask, x, from < lane / width * width ? lane : from, "__shfl_up_sync", file, line);
}

EMU_UNWATCHED static void emu_vote_together(EmuThread* warp, unsigned lanes) {
    uint64_t votes = 0;
    for (unsigned l = lanes; l; l &= l - 1) {
        int lane = __builtin_ctz(l);
        if (((EmuOperand*)warp[lane].operand)->given) votes |= 1u << lane;
    }
    for (unsigned l = lanes; l; l &= l - 1) ((EmuOperand*)warp[__builtin_ctz(l)].operand)->got = votes | (uint64_t)lanes << 32;
}
EMU uint64_t emu_vote(unsigned mask, int predicate, const char* what, const char* file, int line) {
    EmuOperand o = {(uint64_t)(predicate != 0), 0, 0};
    emu_together(mask, what, file, line, emu_vote_together, &o);
    return o.got;
}
EMU unsigned __ballot_sync(unsigned mask, int x, EMU_HERE) { return (unsigned)emu_vote(mask, x, "__ballot_sync", file, line); }
EMU int __any_sync(unsigned mask, int x, EMU_HERE) { return (unsigned)emu_vote(mask, x, "__any_sync", file, line) != 0; }
EMU int __all_sync(unsigned mask, int x, EMU_HERE) {
    uint64_t got = emu_vote(mask, x, "__all_sync", file, line);
    return (unsigned)got == (unsigned)(got >> 32);
}

// ---------------------------------------------------------------------------------------------------------------------
// Fences and atomics: fibers are never interrupted
EMU inline void __threadfence() { emu_check_fence(); }
EMU inline void __threadfence_block() {}
EMU inline void __threadfence_system() { emu_check_fence(); }
static void emu_check_pause(bool on);
template <class T>
static T atomicAdd(T* p, std::common_type_t<T> x) {
    emu_check_pause(true);
    emu_check_atomic(p);
    T before = *p;
    *p = before + x;
    emu_check_pause(false);
    return before;
}
template <class T>
static T atomicMax(T* p, std::common_type_t<T> x) {
    emu_check_pause(true);
    emu_check_atomic(p);
    T before = *p;
    *p = before < x ? x : before;
    emu_check_pause(false);
    return before;
}
template <class T>
static T atomicCAS(T* p, std::common_type_t<T> expected, std::common_type_t<T> x) {
    emu_check_pause(true);
    emu_check_atomic(p);
    T before = *p;
    if (before == expected) *p = x;
    emu_check_pause(false);
    return before;
}
