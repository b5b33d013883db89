/*
The checking build, between the blocks of one launch. A read of what another block wrote is in order only by way of an atomic:

    block A    plain writes;  __threadfence();  atomic on x           publishes what stands before the fence
    block B    atomic on x;  plain reads                              may read it: the thread, and after a barrier its block

A fence covers the writes of its own thread, and those of other threads that a barrier (in a warp __syncwarp) puts before it;
between fence and atomic, too, there may be a barrier. Blocks run one after another here, so A is over when B reads: of each block
is kept what its atomics published, and where.

    EmuRelease   | block | addresses of its atomics | writes before barrier .. | of warp w before .. | of thread t, fence .. |

Lenient where exactness would cost: a block with atomics on more than 4 addresses counts as having used any, and the fence that
the memory model wants on the reader's side is not asked for.
*/
#pragma once

#ifndef EMU_CHECK
EMU inline void emu_check_fence() {}
EMU inline void emu_check_atomic(const void*) {}
#else
#define EMU_PLAIN __attribute__((no_sanitize("thread"), disable_sanitizer_instrumentation))  // does not watch itself

// Who touched memory, and when. Time is counted in barriers.
typedef struct {
    uint32_t stamp, block;  // 0: never
    uint32_t code;          // the instruction, from the program's start
    uint16_t thread, warp_stamp, fences;
} EmuTouch;

static struct {
    uint32_t stamp, block, first_block;  // of the barrier, the block, the launch
    uint16_t warp_stamp[EMU_WARPS];
} emu_now = {1, 1, 1, {}};

enum { EMU_RELEASES = 1 << 16, EMU_ADDRESSES = 4, EMU_BLOCKS_NAMED = 1 << 16 };
typedef struct {
    uint32_t block, stamp;
    int count;  // of addresses
    const void* address[EMU_ADDRESSES];
    uint32_t first[EMU_ADDRESSES];  // stamp of the first atomic there
    uint16_t warp_stamp[EMU_WARPS], fences[EMU_THREADS];
    bool warp_has[EMU_WARPS];
} EmuRelease;

static struct {
    EmuRelease* list;  // of this launch, by block
    int count;
    bool used;  // by this block
    struct {
        uint16_t fences, warp_stamp, atomic_warp_stamp;  // how many; of the last fence; of the last atomic
        uint32_t stamp;                                  // of the last fence
        const void* atomic;                              // address of the last one
    } thread[EMU_THREADS];
    uint3 index[EMU_BLOCKS_NAMED];  // blockIdx of block b at b % EMU_BLOCKS_NAMED
} emu_publish;

EMU_PLAIN static bool emu_earlier(uint16_t a, uint16_t b) { return (int16_t)(a - b) < 0; }
EMU_PLAIN static void emu_publish_block() {
    emu_publish.index[emu_now.block % EMU_BLOCKS_NAMED] = blockIdx;
    if (emu_publish.used) __builtin_memset(emu_publish.thread, 0, sizeof(emu_publish.thread));
    emu_publish.used = false;
}
EMU_PLAIN static void emu_publish_grid() {
    size_t bytes = sizeof(EmuRelease) * EMU_RELEASES;
    if (!emu_publish.list)
        emu_publish.list =
            (EmuRelease*)mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (emu_publish.list == MAP_FAILED) emu_fail("no address space for the checks");
    emu_publish.count = 0;
}

EMU_PLAIN EMU void emu_check_fence() {
    int t = emu_thread->linear;
    emu_publish.used = true;
    emu_publish.thread[t].fences++;
    emu_publish.thread[t].stamp = emu_now.stamp, emu_publish.thread[t].warp_stamp = emu_now.warp_stamp[t / 32];
}

EMU_PLAIN EMU void emu_check_atomic(const void* p) {
    int me = emu_thread->linear, i = 0;
    EmuRelease* r = emu_publish.count ? &emu_publish.list[emu_publish.count - 1] : NULL;
    if (!r || r->block != emu_now.block) {
        if (emu_publish.count == EMU_RELEASES) emu_fail("more than %d blocks with atomics", EMU_RELEASES);
        r = &emu_publish.list[emu_publish.count++];
        __builtin_memset(r, 0, sizeof(*r));
        r->block = emu_now.block;
    }
    while (i < r->count && i < EMU_ADDRESSES && r->address[i] != p) i++;
    if (i == r->count && i < EMU_ADDRESSES) r->address[i] = p, r->first[i] = emu_now.stamp;
    if (i == r->count) r->count++;
    for (int t = 0; emu_publish.used && t < emu.count; t++) {
        uint32_t stamp = emu_publish.thread[t].stamp;
        uint16_t warp_stamp = emu_publish.thread[t].warp_stamp;
        bool before = stamp && (t == me || stamp < emu_now.stamp ||
                                (t / 32 == me / 32 && emu_earlier(warp_stamp, emu_now.warp_stamp[me / 32])));
        if (!before) continue;  // a fence that this atomic does not come behind
        r->fences[t] = emu_publish.thread[t].fences;
        if (stamp > r->stamp) r->stamp = stamp;
        if (!r->warp_has[t / 32] || emu_earlier(r->warp_stamp[t / 32], warp_stamp)) r->warp_stamp[t / 32] = warp_stamp;
        r->warp_has[t / 32] = true;
    }
    emu_publish.used = true;
    emu_publish.thread[me].atomic = p, emu_publish.thread[me].atomic_warp_stamp = emu_now.warp_stamp[me / 32];
}

EMU_PLAIN static const EmuRelease* emu_release_of(uint32_t block) {
    int low = 0, high = emu_publish.count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (emu_publish.list[middle].block < block) low = middle + 1;
        else high = middle;
    }
    return low < emu_publish.count && emu_publish.list[low].block == block ? &emu_publish.list[low] : NULL;
}
// True if the running thread comes behind an atomic of its block on p.
EMU_PLAIN static bool emu_acquired(const void* p) {
    const EmuRelease* mine = emu_release_of(emu_now.block);
    int me = emu_thread->linear, w = me / 32;
    for (int i = 0; mine && i < mine->count && i < EMU_ADDRESSES; i++) {
        if (mine->address[i] == p && mine->first[i] < emu_now.stamp) return true;
    }
    for (int t = w * 32; mine && t < w * 32 + 32; t++) {
        if (emu_publish.thread[t].atomic == p &&
            (t == me || emu_earlier(emu_publish.thread[t].atomic_warp_stamp, emu_now.warp_stamp[w])))
            return true;
    }
    return mine && mine->count > EMU_ADDRESSES;
}

typedef enum { EMU_APART, EMU_NOT_FENCED, EMU_PUBLISHED } EmuPublished;
// How what another block of this launch did and what the running thread does now hang together.
EMU_PLAIN static EmuPublished emu_published(const EmuTouch* other) {
    const EmuRelease* r = emu_release_of(other->block);
    bool met = r && r->count > EMU_ADDRESSES;
    for (int i = 0; r && !met && i < r->count && i < EMU_ADDRESSES; i++) met = emu_acquired(r->address[i]);
    if (!met) return EMU_APART;
    int w = other->thread / 32;
    bool fenced = other->fences < r->fences[other->thread] || other->stamp < r->stamp ||
                  (r->warp_has[w] && emu_earlier(other->warp_stamp, r->warp_stamp[w]));
    return fenced ? EMU_PUBLISHED : EMU_NOT_FENCED;
}
#endif
