/*
The checking build (-DEMU_CHECK, clang -fsanitize=thread, linked without that sanitizer's library): every load and store of a
kernel calls a function here. Each 2 bytes of device and shared memory have a cell that knows who touched them last:

    cell   | addressable | last write: when, block, thread | last read: when, block, thread |

and an access is reported, with kernel, block, thread and source line, that

    leaves every allocation                            reads what nobody has written
    meets an access of another thread of the block, one of the two a write, with no barrier between them
        (inside a warp __syncwarp is enough; a shuffle orders nothing)
    meets one of another block of the same launch, unless fence and atomic put it in order (emu_publish.h)
    is 16 bytes wide and not 16-byte aligned

Time is counted in barriers. Atomics are exempt. Without EMU_CHECK all of this is nothing.
*/
#pragma once

#ifndef EMU_CHECK
EMU inline void emu_check_barrier() {}
EMU inline void emu_check_warp(int) {}
EMU inline void emu_check_block() {}
EMU inline void emu_check_grid() {}
EMU inline void emu_check_live(const void*, size_t, bool) {}
EMU inline void emu_check_pause(bool) {}
EMU inline void emu_check_forget(const void*, size_t) {}
#else

typedef struct {
    EmuTouch write, read;
    uint32_t addressable;
} EmuCell;

static struct {
    EmuCell *device, *local;  // cells of the arena; of dynamic, then static shared memory
    int paused;
} emu_checker;
extern char __executable_start;
enum { EMU_LOCAL_CELLS = (512 << 10) / 2, EMU_STATIC_AT = (384 << 10) / 2 };

EMU void emu_check_barrier() { emu_now.stamp++; }
EMU void emu_check_warp(int w) { emu_now.warp_stamp[w]++; }
EMU void emu_check_pause(bool on) { emu_checker.paused += on ? 1 : -1; }
EMU void emu_check_grid() {
    emu_now.first_block = emu_now.block + 1;
    emu_publish_grid();
}

static EmuCell* emu_cells(size_t count) {
    void* p = mmap(NULL, count * sizeof(EmuCell), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) emu_fail("no address space for the checks");
    return (EmuCell*)p;
}
// The cell of p; NULL: memory that is not watched.
EMU_PLAIN static EmuCell* emu_cell(const void* p) {
    const char* c = (const char*)p;
    if (emu_checker.device && c >= emu_memory.base && c < emu_memory.base + EMU_ARENA)
        return emu_checker.device + (size_t)(c - emu_memory.base) / 2;
    if (!emu_checker.local || !emu_thread) return NULL;
    if (c >= emu.shared && c < emu.shared + emu_round_up(emu.shared_bytes, 128)) return emu_checker.local + (c - emu.shared) / 2;
    if (c >= emu.static_shared && c < emu.static_shared + emu.static_shared_bytes)
        return emu_checker.local + EMU_STATIC_AT + (c - emu.static_shared) / 2;
    return NULL;
}
EMU_PLAIN static void emu_cells_addressable(EmuCell* cells, size_t bytes) {
    memset((void*)cells, 0, (bytes + 1) / 2 * sizeof(EmuCell));
    for (size_t i = 0; i < (bytes + 1) / 2; i++) cells[i].addressable = 1;
}
// Not addressable any more. Whole pages go back to the system: a test that allocates anew for each case would fill memory.
static void emu_cells_gone(EmuCell* cells, size_t count) {
    uintptr_t from = (uintptr_t)cells, first = (from + 4095) & ~(uintptr_t)4095,
              last = (uintptr_t)(cells + count) & ~(uintptr_t)4095;
    size_t head = count, tail = count;  // cells before, and from, those that lie in whole pages
    if (first < last) {
        madvise((void*)first, last - first, MADV_DONTNEED);
        head = (first - from + sizeof(EmuCell) - 1) / sizeof(EmuCell), tail = (last - from) / sizeof(EmuCell);
    }
    for (size_t i = 0; i < head; i++) cells[i].addressable = 0;
    for (size_t i = tail; i < count; i++) cells[i].addressable = 0;
}
// An allocation begins or ends.
EMU void emu_check_live(const void* p, size_t bytes, bool live) {
    if (!emu_checker.device) emu_checker.device = emu_cells(EMU_ARENA / 2);
    if (live) emu_cells_addressable(emu_cell(p), bytes);
    else emu_cells_gone(emu_cell(p), (bytes + 1) / 2);
}
// As if never written.
EMU void emu_check_forget(const void* p, size_t bytes) {
    EmuCell* cell = emu_cell(p);
    for (size_t i = 0; cell && i < bytes / 2; i++) cell[i].write.stamp = 0;
}
EMU void emu_check_block() {
    emu_now.stamp++, emu_now.block++;
    emu_publish_block();
    if (!emu_checker.local) emu_checker.local = emu_cells(EMU_LOCAL_CELLS);
    emu_cells_addressable(emu_checker.local, emu.shared_bytes);
    emu_cells_addressable(emu_checker.local + EMU_STATIC_AT, emu.static_shared_bytes);
}

// Source places of an instruction: itself, and where it was inlined.
static void emu_place_of(uint32_t code, char place[2][256]) {
    char command[128];
    place[0][0] = place[1][0] = 0;
    snprintf(command, sizeof(command), "addr2line -i -e /proc/%d/exe %#lx 2>/dev/null", (int)getpid(), (unsigned long)code - 1);
    FILE* f = popen(command, "r");
    for (int i = 0; f && i < 2 && fgets(place[i], 256, f); i++) place[i][strcspn(place[i], "\n")] = 0;
}

__attribute__((noreturn)) static void emu_report_access(const void* p, size_t bytes, bool write, const void* code,
                                                        const char* what, const EmuTouch* other) {
    char place[2][256], other_place[2][256], more[512] = "";
    emu_place_of((uint32_t)((const char*)code - &__executable_start), place);
    if (other) {
        unsigned t = other->thread;
        uint3 b = emu_publish.index[other->block % EMU_BLOCKS_NAMED];
        int n = 0;
        emu_place_of(other->code, other_place);
        if (other->block != emu_now.block) n = snprintf(more, sizeof(more), " of block (%u,%u,%u),", b.x, b.y, b.z);
        snprintf(more + n, sizeof(more) - (size_t)n, "%s thread (%u,%u,%u) at %s", n ? "" : " of", t % blockDim.x,
                 t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y, other_place[0]);
    }
    const EmuAllocation* a = emu_allocation(p);
    emu_fail("%s of %zu bytes at %s %zd (%s, called from %s) %s%s", write ? "write" : "read", bytes,
             a ? "global offset" : "shared offset",
             a ? (const char*)p - a->p
               : (const char*)p - (emu_cell(p) < emu_checker.local + EMU_STATIC_AT ? emu.shared : emu.static_shared),
             place[0], place[1], what, more);
}

// True if nothing puts the other access before the running thread's.
EMU_PLAIN static bool emu_unordered(const EmuTouch* other) {
    if (!other->stamp || other->block < emu_now.first_block) return false;
    if (other->block != emu_now.block) return emu_published(other) != EMU_PUBLISHED;
    int me = emu_thread->linear;
    if (other->thread == me || other->stamp != emu_now.stamp) return false;
    return other->thread / 32 != me / 32 || other->warp_stamp == emu_now.warp_stamp[me / 32];
}

static const char* emu_conflict(const EmuTouch* other, bool with_read) {
    if (other->block != emu_now.block && emu_published(other) == EMU_NOT_FENCED)
        return with_read ? "comes by an atomic, without a __threadfence in front of it, behind a read"
                         : "comes by an atomic, without a __threadfence in front of it, behind a write";
    return with_read ? "races with a read" : "races with a write";
}

EMU_PLAIN static void emu_access(const void* p, size_t bytes, bool write, const void* code) {
    EmuCell* cell = emu_cell(p);
    if (!cell) return;
    EmuTouch now = {emu_now.stamp, 0, (uint32_t)((const char*)code - &__executable_start), 0, 0, 0};
    bool check = emu_thread && !emu_checker.paused;
    if (emu_thread) {
        int t = emu_thread->linear;
        now.block = emu_now.block, now.thread = (uint16_t)t, now.warp_stamp = emu_now.warp_stamp[t / 32];
        now.fences = emu_publish.thread[t].fences;
    }
    if (check && bytes == 16 && (uintptr_t)p % 16) emu_report_access(p, bytes, write, code, "is not 16-byte aligned", NULL);
    for (size_t i = 0; i < (bytes + 1) / 2; i++, cell++) {
        if (check && !cell->addressable) emu_report_access(p, bytes, write, code, "is outside every allocation", NULL);
        if (check && !write && !cell->write.stamp) emu_report_access(p, bytes, write, code, "reads what was never written", NULL);
        for (int r = 0; check && r <= write; r++) {  // behind a write, a write behind a read too
            const EmuTouch* other = r ? &cell->read : &cell->write;
            if (emu_unordered(other)) emu_report_access(p, bytes, write, code, emu_conflict(other, r != 0), other);
        }
        if (write) cell->write = now;
        else if (check) cell->read = now;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What the compiler calls
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
#define EMU_HOOK(n)                                                                                            \
    EMU_PLAIN void __tsan_read##n(void* p) { emu_access(p, n, false, __builtin_return_address(0)); }           \
    EMU_PLAIN void __tsan_write##n(void* p) { emu_access(p, n, true, __builtin_return_address(0)); }           \
    EMU_PLAIN void __tsan_unaligned_read##n(void* p) { emu_access(p, n, false, __builtin_return_address(0)); } \
    EMU_PLAIN void __tsan_unaligned_write##n(void* p) { emu_access(p, n, true, __builtin_return_address(0)); }
EMU_HOOK(1)
EMU_HOOK(2)
EMU_HOOK(4)
EMU_HOOK(8)
EMU_HOOK(16)
// Structures move by these, and the compiler does not announce it.
EMU_PLAIN __attribute__((no_builtin)) void* memcpy(void* to, const void* from, size_t n) {
    emu_access(from, n, false, __builtin_return_address(0));
    emu_access(to, n, true, __builtin_return_address(0));
    char* t = (char*)to;
    asm volatile("rep movsb" : "+D"(t), "+S"(from), "+c"(n)::"memory");
    return to;
}
EMU_PLAIN __attribute__((no_builtin)) void* memmove(void* to, const void* from, size_t n) {
    if ((char*)to <= (const char*)from || (const char*)from + n <= (char*)to) return memcpy(to, from, n);
    for (; n > 0; n--) ((volatile char*)to)[n - 1] = ((const volatile char*)from)[n - 1];
    return to;
}
EMU_PLAIN __attribute__((no_builtin)) void* memset(void* to, int value, size_t n) {
    emu_access(to, n, true, __builtin_return_address(0));
    char* t = (char*)to;
    asm volatile("rep stosb" : "+D"(t), "+c"(n) : "a"(value) : "memory");
    return to;
}
}
#endif
