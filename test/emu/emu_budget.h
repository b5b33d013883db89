/*
The counting build (-DEMU_BUDGET, clang -fsanitize=thread without its library, as the checking build): a list of everything that
the host asks of the GPU, in order, and for every kernel the bytes that its threads move in device memory.

    note     kind | name | stream | grid, block, shared bytes | a hash of every argument | copy | product | traffic by region
    region   a named piece of device memory (emu_region); what has no name is region 0
    cell     of 16 bytes: launch that touched it last, thread that read it last, and which of its eight 2-byte elements were
             read by anyone, read by that thread, written

    traffic  read    first    nobody of this launch had read the element
                     again    the same thread had: a second pass over memory
                     shared   another thread had: lanes that look at one value, or blocks that look at one tile
             write   first, again

A load is counted where it is executed: what the compiler has merged counts once, what it could not merge counts twice.
Without EMU_BUDGET all of this is nothing.
*/
#pragma once

typedef enum { EMU_KERNEL, EMU_PRODUCT, EMU_COPY, EMU_FILL, EMU_SYNC, EMU_EVENT, EMU_MEMORY, EMU_PLAN, EMU_ATTRIBUTE } EmuKind;

typedef struct {
    int m, n, k;
    bool transposed[2];  // A, B
    int64_t leading[4];  // A B C D
    int type[4];         // cudaDataType_t
    const void* p[4];
    float alpha, beta;
    int epilogue;  // cublasLtEpilogue_t
    size_t workspace;
    const void* workspace_at;
} EmuProductNote;

#ifndef EMU_BUDGET
EMU inline void emu_note(EmuKind, const char*, cudaStream_t = 0) {}
EMU inline void emu_note_copy(const char*, cudaStream_t, const void*, const void*, size_t, int, bool) {}
EMU inline void emu_note_fill(const char*, cudaStream_t, const void*, size_t) {}
EMU inline void emu_note_product(cudaStream_t, const EmuProductNote&) {}
template <class... Args>
static int emu_note_launch(const char*, dim3, dim3, size_t, cudaStream_t, const Args&...) {
    return 0;
}
EMU inline void emu_count_for(int) {}
EMU inline int emu_product_terms(int k) { return k; }
#define EMU_UNCOUNTED
#else
#define EMU_UNCOUNTED __attribute__((no_sanitize("thread"), disable_sanitizer_instrumentation))
enum { EMU_NOTES = 1 << 15, EMU_REGIONS = 200, EMU_ARGUMENTS = 16, EMU_READ = 0, EMU_WRITE = 3 };

typedef struct {
    uint64_t bytes[5];  // read first, again, shared; written first, again
} EmuTraffic;
typedef struct {
    EmuKind kind;
    const char* name;  // of the kernel or the function
    cudaStream_t stream;
    dim3 grid, block;
    size_t shared;
    int arguments;
    uint64_t argument[EMU_ARGUMENTS];
    const void *to, *from;  // of a copy
    size_t bytes;           // of a copy or fill
    int direction;          // cudaMemcpyKind
    bool pinned;            // its host memory is page-locked
    EmuProductNote product;
    EmuTraffic* traffic;  // (EMU_REGIONS)
} EmuNote;
typedef struct {
    uint32_t launch, reader;
    uint8_t read, mine, written, region;
} EmuBudgetCell;
static struct {
    EmuNote* notes;
    int count, regions;
    const char* region[EMU_REGIONS];
    EmuBudgetCell* cells;
    EmuTraffic* traffic;         // of the launch that runs
    uint32_t launch;             // its number
    bool on;                     // launches that run from now on are counted
    const char *alias, *target;  // arguments in alias .. alias + alias_bytes count as if they pointed to target
    size_t alias_bytes;
} emu_budget;
static const size_t EMU_COUNTED = (size_t)1 << 36;  // of the arena

// The counting build multiplies the first 8 of k terms: products stay finite and cheap, and no count depends on a value.
EMU inline int emu_product_terms(int k) { return k < 8 ? k : 8; }

EMU EmuBudgetCell* emu_budget_cell(const void* p) {
    if (!emu_budget.cells) {
        int none = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        size_t bytes = EMU_COUNTED / 16 * sizeof(EmuBudgetCell);
        emu_budget.cells = (EmuBudgetCell*)mmap(NULL, bytes, PROT_READ | PROT_WRITE, none, -1, 0);
        if ((void*)emu_budget.cells == MAP_FAILED) emu_fail("no address space for the counts");
    }
    size_t at = (size_t)((const char*)p - emu_memory.base);
    if (at >= EMU_COUNTED) emu_fail("device memory beyond what the counting build can count");
    return emu_budget.cells + at / 16;
}

// Names device memory; a name that is known gets further bytes. Returns the region's number.
EMU int emu_region(const char* name, const void* p, size_t bytes) {
    int r = 1;
    if (!emu_budget.regions) emu_budget.region[0] = "other", emu_budget.regions = 1;
    while (r < emu_budget.regions && strcmp(emu_budget.region[r], name)) r++;
    if (r == EMU_REGIONS) emu_fail("more than %d regions", EMU_REGIONS);
    if (r == emu_budget.regions) emu_budget.region[emu_budget.regions++] = name;
    for (size_t i = 0; i < bytes; i += 16) emu_budget_cell((const char*)p + i)->region = (uint8_t)r;
    return r;
}

static EmuNote* emu_new_note(EmuKind kind, const char* name, cudaStream_t stream) {
    if (!emu_budget.notes) emu_budget.notes = (EmuNote*)calloc(EMU_NOTES, sizeof(EmuNote));
    if (emu_budget.count == EMU_NOTES) emu_fail("more than %d notes", EMU_NOTES);
    EmuNote* n = &emu_budget.notes[emu_budget.count++];
    *n = {};
    n->kind = kind, n->name = name, n->stream = stream;
    return n;
}
EMU void emu_note(EmuKind kind, const char* name, cudaStream_t stream = 0) { emu_new_note(kind, name, stream); }
EMU void emu_note_copy(const char* name, cudaStream_t stream, const void* to, const void* from, size_t bytes, int direction,
                       bool pinned) {
    EmuNote* n = emu_new_note(EMU_COPY, name, stream);
    n->to = to, n->from = from, n->bytes = bytes, n->direction = direction, n->pinned = pinned;
}
EMU void emu_note_fill(const char* name, cudaStream_t stream, const void* to, size_t bytes) {
    EmuNote* n = emu_new_note(EMU_FILL, name, stream);
    n->to = to, n->bytes = bytes;
}
EMU void emu_note_product(cudaStream_t stream, const EmuProductNote& product) {
    emu_new_note(EMU_PRODUCT, "cublasLtMatmul", stream)->product = product;
}

// --- arguments
EMU uint64_t emu_note_word(uint64_t word) {
    uint64_t in_alias = word - (uint64_t)(uintptr_t)emu_budget.alias;
    if (emu_budget.alias && in_alias < emu_budget.alias_bytes) word = (uint64_t)(uintptr_t)emu_budget.target + in_alias;
    return word;
}
// A structure with padding inside needs an overload of its own: what is in the padding is anybody's guess.
template <class T>
static uint64_t emu_note_value(const T& x) {
    uint64_t sum = sizeof(T);
    for (size_t at = 0; at < sizeof(T); at += 8) {
        uint64_t word = 0;
        memcpy(&word, (const char*)&x + at, sizeof(T) - at < 8 ? sizeof(T) - at : 8);
        sum = (sum ^ emu_note_word(word)) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 29;
    }
    return sum;
}
template <class... Args>
static int emu_note_launch(const char* name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, const Args&... args) {
    static_assert(sizeof...(Args) <= EMU_ARGUMENTS, "a kernel with more arguments than a note has room for");
    EmuNote* n = emu_new_note(EMU_KERNEL, name, stream);
    n->grid = grid, n->block = block, n->shared = shared;
    ((n->argument[n->arguments++] = emu_note_value(args)), ...);
    n->traffic = (EmuTraffic*)calloc(EMU_REGIONS, sizeof(EmuTraffic));
    return emu_budget.count - 1;
}
// What runs now is the launch of this note; -1: nothing.
EMU void emu_count_for(int note) {
    if (emu_budget.on) emu_budget_cell(emu_memory.next);
    emu_budget.launch++;
    emu_budget.traffic = note < 0 || !emu_budget.on ? NULL : emu_budget.notes[note].traffic;
}

// --- accesses
EMU_UNCOUNTED __attribute__((noinline)) static void emu_count_device(const char* c, size_t bytes, bool write) {
    uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    uint32_t reader = block * EMU_THREADS + (uint32_t)emu_thread->linear;
    while (bytes) {
        size_t at = (uintptr_t)c % 16, here = bytes < 16 - at ? bytes : 16 - at;
        EmuBudgetCell* cell = emu_budget.cells + (size_t)(c - emu_memory.base) / 16;
        unsigned first = (unsigned)at / 2, last = (unsigned)(at + here - 1) / 2, mask = (2u << last) - (1u << first);
        unsigned fresh = cell->launch == emu_budget.launch ? 0xff : 0, mine = cell->reader == reader ? fresh : 0;
        unsigned read = cell->read & fresh, own = cell->mine & mine, written = cell->written & fresh;
        uint64_t each = here == 1 ? 1 : 2, *sum = emu_budget.traffic[cell->region].bytes;
        if (write) {
            sum[EMU_WRITE] += each * (unsigned)__builtin_popcount(mask & ~written);
            sum[EMU_WRITE + 1] += each * (unsigned)__builtin_popcount(mask & written);
            written |= mask;
        } else {
            sum[EMU_READ] += each * (unsigned)__builtin_popcount(mask & ~read);
            sum[EMU_READ + 1] += each * (unsigned)__builtin_popcount(mask & own);
            sum[EMU_READ + 2] += each * (unsigned)__builtin_popcount(mask & read & ~own);
            read |= mask, own |= mask, cell->reader = reader;
        }
        cell->launch = emu_budget.launch;
        cell->read = (uint8_t)read, cell->written = (uint8_t)written;
        if (!write || !fresh) cell->mine = (uint8_t)own;
        c += here, bytes -= here;
    }
}
EMU_UNCOUNTED inline __attribute__((always_inline)) static void emu_count(const void* p, size_t bytes, bool write) {
    if ((size_t)((const char*)p - emu_memory.base) >= EMU_COUNTED || !emu_budget.traffic || !emu_thread) return;
    emu_count_device((const char*)p, bytes, write);
}
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
#define EMU_COUNT(n)                                                                 \
    EMU_UNCOUNTED void __tsan_read##n(void* p) { emu_count(p, n, false); }           \
    EMU_UNCOUNTED void __tsan_write##n(void* p) { emu_count(p, n, true); }           \
    EMU_UNCOUNTED void __tsan_unaligned_read##n(void* p) { emu_count(p, n, false); } \
    EMU_UNCOUNTED void __tsan_unaligned_write##n(void* p) { emu_count(p, n, true); }
EMU_COUNT(1)
EMU_COUNT(2)
EMU_COUNT(4)
EMU_COUNT(8)
EMU_COUNT(16)
// Structures move by these.
EMU_UNCOUNTED __attribute__((no_builtin)) void* memcpy(void* to, const void* from, size_t n) {
    emu_count(from, n, false);
    emu_count(to, n, true);
    char* t = (char*)to;
    asm volatile("rep movsb" : "+D"(t), "+S"(from), "+c"(n)::"memory");
    return to;
}
EMU_UNCOUNTED __attribute__((no_builtin)) void* memmove(void* to, const void* from, size_t n) {
    if ((char*)to <= (const char*)from || (const char*)from + n <= (char*)to) return memcpy(to, from, n);
    for (; n > 0; n--) ((volatile char*)to)[n - 1] = ((const volatile char*)from)[n - 1];
    return to;
}
EMU_UNCOUNTED __attribute__((no_builtin)) void* memset(void* to, int value, size_t n) {
    emu_count(to, n, true);
    char* t = (char*)to;
    asm volatile("rep stosb" : "+D"(t), "+c"(n) : "a"(value) : "memory");
    return to;
}
}
#endif
