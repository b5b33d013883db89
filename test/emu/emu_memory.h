/*
Device memory: one arena of addresses that holds nothing else, and what cudaMallocHost gives.

    arena  | .. | slack 0xC5 | bytes .... | slack | page without access | next allocation ..     addresses are never used twice
                ^ page       ^ 256-byte aligned    ^ page

Contents start as NaN. Stepping over the end by more than the slack (under 256 bytes) or into freed memory stops the program at
the access; into the slack, at cudaFree. While no work runs, the whole arena is without access: a host that follows a device
pointer crashes here as it would in front of a GPU.
*/
#pragma once

enum { EMU_ALLOCATIONS = 1 << 16, EMU_SLACK = 0xC5 };
static const size_t EMU_ARENA = (size_t)1 << 40, EMU_DEVICE_BYTES = (size_t)8 << 30;

typedef struct {
    char *p, *pages;
    size_t bytes, span;  // asked for; pages
    bool live, access;
} EmuAllocation;

// One card for all variants in a program: a validation in another precision reads the trainer's masters.
inline struct EmuMemory {
    char *base, *next;
    EmuAllocation* table;  // by address
    int count, open;
    size_t live_bytes;
    EmuAllocation* opened[EMU_ALLOCATIONS];  // those with access while work runs
    int opened_count;
    struct {
        void* p;
        size_t bytes;
    } pinned[256];
    int pinned_count;
} emu_memory;

static void emu_check_live(const void* p, size_t bytes, bool live);  // emu_check.h

// The allocation at or in front of p, live or not; NULL: p is no device pointer.
EMU EmuAllocation* emu_allocation(const void* p) {
    const char* c = (const char*)p;
    if (!emu_memory.base || c < emu_memory.base || c >= emu_memory.base + EMU_ARENA) return NULL;
    int low = 0, high = emu_memory.count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (emu_memory.table[middle].pages <= c) low = middle + 1;
        else high = middle;
    }
    return low ? &emu_memory.table[low - 1] : NULL;
}

// True if bytes from p on lie inside one live allocation.
EMU bool emu_on_device(const void* p, size_t bytes) {
    const EmuAllocation* a = emu_allocation(p);
    return a && a->live && (const char*)p >= a->p && (const char*)p + bytes <= a->p + a->bytes;
}
EMU bool emu_pinned(const void* p) {
    for (int i = 0; i < emu_memory.pinned_count; i++) {
        const char* start = (const char*)emu_memory.pinned[i].p;
        if ((const char*)p >= start && (const char*)p < start + emu_memory.pinned[i].bytes) return true;
    }
    return false;
}

EMU void emu_must_be_on_device(const void* p, size_t bytes, const char* what) {
    const EmuAllocation* a = emu_allocation(p);
    if (emu_on_device(p, bytes)) return;
    if (!a) emu_fail("%s: %p is not a device pointer", what, p);
    emu_fail("%s: %zu bytes at offset %zd of %s of %zu bytes", what, bytes, (const char*)p - a->p,
             a->live ? "an allocation" : "a freed allocation", a->bytes);
}

EMU void emu_memory_access(EmuAllocation* a) {
    mprotect(a->pages, a->span, PROT_READ | PROT_WRITE);
    if (!a->access) emu_memory.opened[emu_memory.opened_count++] = a;
    a->access = true;
}

// Between the two calls work runs, and a live allocation gets access when it is first touched (emu_crash): most work touches few
// of them. Calls nest.
EMU void emu_memory_open(bool open) {
    emu_memory.open += open ? 1 : -1;
    if (emu_memory.open) return;
    for (int i = 0; i < emu_memory.opened_count; i++) {
        EmuAllocation* a = emu_memory.opened[i];
        a->access = false;
        if (a->live) mprotect(a->pages, a->span, PROT_NONE);
    }
    emu_memory.opened_count = 0;
}

// Names the kernel, the thread and what the address belongs to.
__attribute__((noreturn)) static void emu_stray(const void* p) {
    const EmuAllocation* a = emu_allocation(p);
    const char* c = (const char*)p;
    if (emu.shared && c >= emu.shared && c < emu.shared + emu.shared_bytes + 8192)
        emu_fail("access behind the %zu bytes of dynamic shared memory", emu.shared_bytes);
    if (emu.shared && c >= emu.shared - 8192 && c < emu.shared) emu_fail("access in front of the dynamic shared memory");
    if (a) {
        emu_fail("access at offset %zd of %s of %zu bytes", c - a->p, a->live ? "an allocation" : "a freed allocation", a->bytes);
    }
    emu_fail("access to %p, which is no device memory (or a stack that is used up)", p);
}
static void emu_crash(int, siginfo_t* info, void*) {  // while work runs
    EmuAllocation* a = emu_allocation(info->si_addr);
    if (!a || !a->live || a->access || (char*)info->si_addr >= a->pages + a->span) emu_stray(info->si_addr);
    emu_memory_access(a);
}

#if EMU_ASAN
// After a sanitizer's report: where it happened, and the emulation's exit code.
static void emu_sanitizer_died() {
    if (__asan_report_present()) emu_stray(__asan_get_report_address());
    emu_fail("undefined behaviour, reported above");
}
__attribute__((constructor)) static void emu_sanitizer_starts() { __sanitizer_set_death_callback(emu_sanitizer_died); }
#endif

EMU void emu_catch_crashes(bool on) {
    static struct sigaction before[2];
    static char* stack;
    if (!stack) {
        stack_t s = {};
        s.ss_sp = stack = (char*)malloc(65536), s.ss_size = 65536;
        sigaltstack(&s, NULL);
    }
    struct sigaction action = {};
    action.sa_sigaction = emu_crash;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, on ? &action : &before[0], on ? &before[0] : NULL);
    sigaction(SIGBUS, on ? &action : &before[1], on ? &before[1] : NULL);
}

EMU bool emu_allocate(void** p, size_t bytes) {
    if (!emu_memory.base) {
        int none = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        emu_memory.base = emu_memory.next = (char*)mmap(NULL, EMU_ARENA, PROT_NONE, none, -1, 0);
        if (emu_memory.base == MAP_FAILED) emu_fail("no address space for device memory");
        emu_memory.table =
            (EmuAllocation*)mmap(NULL, sizeof(EmuAllocation) * EMU_ALLOCATIONS, PROT_READ | PROT_WRITE, none, -1, 0);
    }
    if (emu_memory.live_bytes + bytes > EMU_DEVICE_BYTES) return false;
    if (emu_memory.count == EMU_ALLOCATIONS) emu_fail("more than %d allocations", EMU_ALLOCATIONS);
    size_t space = emu_round_up(bytes, 256), span = emu_round_up(space, 4096);
    EmuAllocation* a = &emu_memory.table[emu_memory.count++];
    *a = (EmuAllocation){emu_memory.next + span - space, emu_memory.next, bytes, span, true, false};
    emu_memory.next += span + 4096;
    emu_memory.live_bytes += bytes;
    mprotect(a->pages, span, PROT_READ | PROT_WRITE);
    emu_allow(a->pages, span);
    memset(a->pages, EMU_SLACK, span);
    emu_forbid(a->pages, span + 4096);
    emu_allow(a->p, bytes);
    memset(a->p, EMU_POISON, bytes);
    emu_check_live(a->p, bytes, true);
    mprotect(a->pages, span, PROT_NONE);
    *p = a->p;
    return true;
}

EMU void emu_free(void* p) {
    EmuAllocation* a = emu_allocation(p);
    if (!a || a->p != p) emu_fail("cudaFree: %p is not what cudaMalloc gave", p);
    if (!a->live) emu_fail("cudaFree: an allocation of %zu bytes is freed twice", a->bytes);
    mprotect(a->pages, a->span, PROT_READ | PROT_WRITE);
    emu_allow(a->pages, a->span);
    for (const char* c = a->pages; c < a->pages + a->span; c++) {
        if (c == a->p) c += a->bytes;
        if (c < a->pages + a->span && (unsigned char)*c != EMU_SLACK)
            emu_fail("something wrote at offset %zd of an allocation of %zu bytes", c - a->p, a->bytes);
    }
    emu_check_live(a->p, a->bytes, false);
    a->live = false;
    emu_memory.live_bytes -= a->bytes;
    emu_forbid(a->pages, a->span);
    mmap(a->pages, a->span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}
