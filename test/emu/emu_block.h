/*
The threads of the block that runs. A thread goes on until it finishes or has to wait; then the next one in order that can run
takes over, so between two barriers each thread runs in one piece.

    fresh --first turn--> ready <--everybody came-- at barrier | at warp (syncwarp, shuffle, vote, matrix instruction)
                            |--returns from the kernel--> gone                       gone threads are waited for by nobody

A thread takes a stack when it starts and gives it back when it is gone: a kernel without barriers runs all its threads on one.
*/
#pragma once

#include <link.h>

enum { EMU_EXIT = 99, EMU_THREADS = 1024, EMU_WARPS = EMU_THREADS / 32, EMU_STACK = 64 << 10, EMU_CP_ASYNC = 96 };
enum { EMU_POISON = 0xff };  // NaN in every floating type
typedef enum { EMU_FRESH, EMU_READY, EMU_AT_BARRIER, EMU_AT_WARP, EMU_GONE } EmuState;

struct EmuThread;
typedef void (*EmuTogether)(struct EmuThread* warp, unsigned lanes);  // what a warp does once its lanes are together

typedef struct EmuThread {
    uint3 index;  // threadIdx
    int linear;
    EmuState state;
    EmuContext context;
    char* stack;
    const char *what, *file;  // what it waits for, and where in the source
    int line;
    unsigned mask;         // of the lanes that it waits for
    EmuTogether together;  // the warp operation, and this lane's operands
    void* operand;
    int value;                        // of __syncthreads_or and _count: given and received
    int copies, cp_groups, cp_first;  // emu_ptx.h
} EmuThread;

static struct {
    EmuThread threads[EMU_THREADS];
    int order[EMU_THREADS], place[EMU_THREADS];  // who has its turn at place i; the place of thread t
    uint64_t ready[EMU_THREADS / 64];            // a bit by place: can run
    int count, alive, at_barrier, cursor;
    uint64_t unfair;                                // random order: state of the choice who runs next, else 0
    unsigned lanes[EMU_WARPS], waiting[EMU_WARPS];  // lanes that are not gone; that wait at a warp operation
    char* stacks[EMU_THREADS];
    int free_stacks;
    EmuContext host;
    void (*body)(void*);  // the kernel, and its arguments
    void* arguments;
    const char* kernel;
    char *shared, *static_shared;
    size_t shared_bytes, static_shared_bytes;
} emu;
static EmuThread* emu_thread;  // that runs; NULL: the host does
static __attribute__((unused)) dim3 gridDim, blockDim;
static __attribute__((unused)) uint3 blockIdx;
#define threadIdx (emu_thread->index)

__attribute__((noreturn, format(printf, 1, 2), unused)) static void emu_fail(const char* format, ...) {
    va_list args;
    fflush(stdout);
    fprintf(stderr, "\nemulation: ");
    if (emu_thread) {
        fprintf(stderr, "kernel %s, block (%u,%u,%u), thread (%u,%u,%u): ", emu.kernel, blockIdx.x, blockIdx.y, blockIdx.z,
                threadIdx.x, threadIdx.y, threadIdx.z);
    }
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    _exit(EMU_EXIT);
}

// Lists where threads wait that wait for ever: each place once, with one of its threads.
__attribute__((noreturn, unused)) static void emu_deadlock() {
    fflush(stdout);
    fprintf(stderr, "\nemulation: kernel %s, block (%u,%u,%u): threads wait for each other for ever\n", emu.kernel, blockIdx.x,
            blockIdx.y, blockIdx.z);
    for (int i = 0; i < emu.count; i++) {
        const EmuThread* t = &emu.threads[i];
        int same = 0, first = i;
        for (int j = emu.count - 1; j >= 0 && t->state != EMU_GONE; j--) {
            const EmuThread* u = &emu.threads[j];
            if (u->state != t->state || u->line != t->line || u->file != t->file || u->mask != t->mask) continue;
            same++, first = j;
        }
        if (first != i || !same) continue;
        fprintf(stderr, "    %d at %s, mask %08x, %s:%d, for instance thread (%u,%u,%u)\n", same, t->what, t->mask, t->file,
                t->line, t->index.x, t->index.y, t->index.z);
    }
    fprintf(stderr, "    %d are gone\n", emu.count - emu.alive);
    _exit(EMU_EXIT);
}

// Names of places are nearly always the same literal.
EMU inline bool emu_same_text(const char* a, const char* b) { return a == b || !strcmp(a, b); }

// emu_check.h: something happened that puts accesses in order
static void emu_check_barrier();
static void emu_check_warp(int w);
static void emu_check_block();

// ---------------------------------------------------------------------------------------------------------------------
// Who runs next
EMU_UNWATCHED EMU inline void emu_can_run_again(EmuThread* t) {
    int at = emu.place[t->linear];
    t->state = EMU_READY;
    emu.ready[at / 64] |= 1ull << at % 64;
}
EMU_UNWATCHED EMU inline void emu_cannot_run(const EmuThread* t) {
    int at = emu.place[t->linear];
    emu.ready[at / 64] &= ~(1ull << at % 64);
}
// The first place from `at` on whose thread can run; -1: none.
EMU_UNWATCHED EMU inline int emu_ready_from(int at) {
    int word = at / 64;
    uint64_t bits = emu.ready[word] & ~0ull << at % 64;
    while (!bits) {
        if (++word * 64 >= emu.count) return -1;
        bits = emu.ready[word];
    }
    return word * 64 + __builtin_ctzll(bits);
}
EMU_UNWATCHED EMU EmuThread* emu_next() {
    if (emu.alive == 0) return NULL;
    if (emu.unfair && emu_random(&emu.unfair) % 8 == 0)  // somebody gets ahead of the others
        emu.cursor = (int)(emu_random(&emu.unfair) % (uint64_t)emu.count);
    int at = emu_ready_from(emu.cursor + 1 < emu.count ? emu.cursor + 1 : 0);
    if (at < 0) at = emu_ready_from(0);
    if (at < 0) emu_deadlock();
    emu.cursor = at;
    return &emu.threads[emu.order[at]];
}

EMU_UNWATCHED EMU void emu_go_on_with(EmuThread* next, EmuContext* left) {
    emu_thread = next;
    if (next->state == EMU_FRESH) {
        next->state = EMU_READY;
        next->stack = emu.stacks[--emu.free_stacks];
        emu_context_make(&next->context, next->stack,
                         EMU_STACK - (size_t)(emu.free_stacks % 64) * 64);  // not all in one cache set
    }
    emu_context_switch(left, &next->context, false);
}

// The running thread has set its state and is left until that is ready again.
EMU_UNWATCHED EMU void emu_wait() {
    EmuThread* me = emu_thread;
    emu_cannot_run(me);
    EmuThread* next = emu_next();
    if (next != me) emu_go_on_with(next, &me->context);
}

EMU_UNWATCHED EMU void emu_leave_barrier(EmuThread* t) {
    int votes = 0;
    for (int i = 0; i < emu.count; i++) votes += emu.threads[i].state == EMU_AT_BARRIER && emu.threads[i].value;
    for (int i = 0; i < emu.count; i++) {
        EmuThread* u = &emu.threads[i];
        if (u->state != EMU_AT_BARRIER) continue;
        if (u->line != t->line || !emu_same_text(u->file, t->file)) {
            emu_fail("%s at %s:%d, while thread (%u,%u,%u) is at %s:%d", t->what, t->file, t->line, u->index.x, u->index.y,
                     u->index.z, u->file, u->line);
        }
        u->value = votes;
        emu_can_run_again(u);
    }
    emu.at_barrier = 0;
    emu_check_barrier();
}

EMU_UNWATCHED EMU void emu_gone(EmuThread* me) {
    me->state = EMU_GONE;
    emu_cannot_run(me);
    emu.alive--;
    emu.lanes[me->linear / 32] &= ~(1u << me->linear % 32);
    if (emu.alive > 0 && emu.at_barrier == emu.alive) {
        for (int i = 0; i < emu.count; i++) {
            if (emu.threads[i].state == EMU_AT_BARRIER) return emu_leave_barrier(&emu.threads[i]);
        }
    }
}

static void emu_warp_arrived(EmuThread* warp, int w);  // emu_lanes.h: perhaps all are there now

EMU_UNWATCHED static void emu_fiber_main() {
    emu_arrive_on_stack(NULL);
    for (;;) {
        EmuThread* me = emu_thread;
        emu.body(emu.arguments);
        emu_gone(me);
        if (emu.waiting[me->linear / 32]) emu_warp_arrived(&emu.threads[me->linear / 32 * 32], me->linear / 32);
        EmuThread* next = emu_next();
        if (next && next->state == EMU_FRESH) {  // goes on with this stack
            next->state = EMU_READY, next->stack = me->stack, emu_thread = next;
            continue;
        }
        emu.stacks[emu.free_stacks++] = me->stack;
        emu_thread = next;
        emu_context_switch(&me->context, next ? &next->context : &emu.host, true);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// A block
static int emu_find_static_shared(struct dl_phdr_info* info, size_t, void*) {
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_TLS) continue;
        emu.static_shared = (char*)info->dlpi_tls_data, emu.static_shared_bytes = info->dlpi_phdr[i].p_memsz;
    }
    return 1;  // the program itself comes first, libraries are not looked at
}

EMU void emu_block_init() {
    if (emu.free_stacks) return;
    size_t each = EMU_STACK + 4096;  // an unreadable page below each stack
    char* all = (char*)mmap(NULL, each * EMU_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) emu_fail("no memory for the stacks of %d threads", EMU_THREADS);
    for (int i = 0; i < EMU_THREADS; i++) {
        mprotect(all + i * each, 4096, PROT_NONE);
        emu.stacks[i] = all + i * each + 4096;
    }
    emu.free_stacks = EMU_THREADS;
    dl_iterate_phdr(emu_find_static_shared, NULL);
}

// Which order: 0 forward, 1 reverse, 2 random (every block another one).
static struct {
    int kind;
    uint64_t state;
    bool known;
} emu_order;

EMU void emu_order_from_environment() {
    const char* order = getenv("EMU_ORDER");
    emu_order.kind = !order ? 2 : !strcmp(order, "forward") ? 0 : !strcmp(order, "reverse") ? 1 : 2;
    emu_order.state = 1, emu_order.known = true;
    if (order && emu_order.kind == 2 && sscanf(order, "random:%lu", &emu_order.state) != 1)
        emu_fail("EMU_ORDER=%s: forward, reverse or random:SEED", order);
}
// For tests that compare orders: 1 what EMU_ORDER says, 2 forward, 3 reverse, above: random with that seed.
EMU void emu_order_by(int number) {
    emu_order_from_environment();
    if (number > 1) emu_order.kind = number == 2 ? 0 : number == 3 ? 1 : 2, emu_order.state = (uint64_t)number;
}
EMU int emu_order_kind(uint64_t* seed) {
    if (!emu_order.known) emu_order_from_environment();
    if (emu_order.kind == 2) *seed = emu_random(&emu_order.state);
    return emu_order.kind;
}

EMU_UNWATCHED EMU void emu_order_threads() {
    uint64_t seed = 0;
    int n = emu.count, kind = emu_order_kind(&seed);
    for (int i = 0; i < n; i++) emu.order[i] = kind == 1 ? n - 1 - i : i;
    emu.unfair = kind == 2 ? seed | 1 : 0;
    for (int i = n - 1; kind == 2 && i > 0; i--) {
        int j = (int)(emu_random(&seed) % (uint64_t)(i + 1)), moved = emu.order[i];
        emu.order[i] = emu.order[j], emu.order[j] = moved;
    }
    for (int i = 0; i < n; i++) emu.place[emu.order[i]] = i;
}

// Runs emu.body in every thread of block blockIdx; shared memory starts poisoned.
EMU_UNWATCHED EMU void emu_run_block() {
    for (int i = 0; i < emu.count; i++) {
        EmuThread* t = &emu.threads[i];
        t->copies = t->cp_groups = t->cp_first = 0;
        emu_can_run_again(t);
        t->state = EMU_FRESH;
    }
    for (int w = 0; w * 32 < emu.count; w++) {
        int lanes = emu.count - w * 32;
        emu.lanes[w] = lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1, emu.waiting[w] = 0;
    }
    if (emu.static_shared_bytes) memset(emu.static_shared, EMU_POISON, emu.static_shared_bytes);
    if (emu.shared_bytes) memset(emu.shared, EMU_POISON, emu.shared_bytes);
    emu_check_block();
    emu.alive = emu.count, emu.at_barrier = 0, emu.cursor = -1;
    emu_go_on_with(emu_next(), &emu.host);
}
