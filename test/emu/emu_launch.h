/*
A kernel launch: emu_launch(kernel, grid, block, shared_bytes, stream)(arguments..) checks the shape, queues the launch, and the
grid runs when its stream's turn comes. LAUNCH and LAUNCH_SHARED of the project become this.
*/
#pragma once

enum { EMU_SHARED = 48 << 10, EMU_SHARED_OPT_IN = 99 << 10, EMU_KERNELS = 512 };  // bytes: what every card since sm_80 has

typedef struct {
    const void* function;
    const char* name;
    int allowed_shared;  // bytes, by cudaFuncSetAttribute
    uint64_t launches, threads;
} EmuKernel;
static EmuKernel emu_kernels[EMU_KERNELS];
static int emu_kernel_count;

static void emu_report() {
    fprintf(stderr, "%10s %12s  kernel\n", "launches", "threads");
    for (int i = 0; i < emu_kernel_count; i++) {
        const EmuKernel* k = &emu_kernels[i];
        if (k->launches) fprintf(stderr, "%10lu %12lu  %s\n", k->launches, k->threads, k->name);
    }
}

EMU EmuKernel* emu_kernel(const void* function, const char* name) {
    if (!emu_kernel_count && getenv("EMU_REPORT")) atexit(emu_report);
    int i = 0;
    while (i < emu_kernel_count && emu_kernels[i].function != function) i++;
    if (i == EMU_KERNELS) emu_fail("more than %d kernels", EMU_KERNELS);
    if (i == emu_kernel_count) emu_kernels[emu_kernel_count++] = (EmuKernel){function, name, EMU_SHARED, 0, 0};
    if (name) emu_kernels[i].name = name;
    return &emu_kernels[i];
}

typedef struct {
    EmuWork work;
    EmuKernel* kernel;
    dim3 grid, block;
    size_t shared;
    void (*body)(void*);
    void* arguments;
    int note;  // emu_budget.h
} EmuGrid;

EMU void emu_check_shape(const EmuGrid* g) {
    dim3 n = g->grid, b = g->block;
    uint64_t threads = (uint64_t)b.x * b.y * b.z;
    if (!n.x || n.x > 0x7fffffffu || !n.y || n.y > 65535 || !n.z || n.z > 65535 || !threads || threads > EMU_THREADS ||
        b.z > 64) {
        emu_fail("kernel %s: impossible launch of (%u,%u,%u) blocks of (%u,%u,%u) threads", g->kernel->name, n.x, n.y, n.z, b.x,
                 b.y, b.z);
    }
    if (g->shared > (size_t)g->kernel->allowed_shared) {
        emu_fail("kernel %s: %zu bytes of dynamic shared memory, and %d are allowed: cudaFuncSetAttribute asks for more",
                 g->kernel->name, g->shared, g->kernel->allowed_shared);
    }
}

// Dynamic shared memory ends at a page without access; the start is 128-byte aligned, so up to 127 bytes are slack.
EMU void emu_shared_init(size_t bytes) {
    enum { SPACE = 256 << 10 };
    static char* all;
    if (!all) {
        all = (char*)mmap(NULL, SPACE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(all + SPACE, 4096, PROT_NONE);
    }
    emu.shared = all + SPACE - emu_round_up(bytes, 128);
    emu.shared_bytes = bytes;
    emu_allow(all, SPACE);
    memset(emu.shared + bytes, EMU_SLACK, (size_t)(all + SPACE - emu.shared) - bytes);
    emu_forbid(all, SPACE);
    emu_allow(emu.shared, bytes);
}
EMU void emu_shared_check() {
    for (size_t i = emu.shared_bytes; !EMU_ASAN && i < emu_round_up(emu.shared_bytes, 128); i++) {
        if ((unsigned char)emu.shared[i] != EMU_SLACK)
            emu_fail("kernel %s, block (%u,%u,%u): something wrote %zu bytes behind the dynamic shared memory", emu.kernel,
                     blockIdx.x, blockIdx.y, blockIdx.z, i - emu.shared_bytes);
    }
}

EMU void emu_run_grid(EmuWork* work) {
    EmuGrid* g = (EmuGrid*)work;
    uint64_t blocks = (uint64_t)g->grid.x * g->grid.y * g->grid.z, seed = 0;
    emu_block_init();
    emu_shared_init(g->shared);
    emu_check_grid();
    gridDim = g->grid, blockDim = g->block;
    emu.kernel = g->kernel->name, emu.body = g->body, emu.arguments = g->arguments;
    emu.count = (int)(g->block.x * g->block.y * g->block.z);
    for (int i = 0; i < emu.count; i++) {
        unsigned t = (unsigned)i, x = g->block.x, y = g->block.y;
        emu.threads[i].index = {t % x, t / x % y, t / x / y}, emu.threads[i].linear = i;
    }
    emu_count_for(g->note);
    int kind = emu_order_kind(&seed);
    for (uint64_t i = 0; i < blocks; i++) {
        // random: neighbours are swapped by the bits of the seed, and it starts anywhere
        uint64_t at = kind == 0 ? i : kind == 1 ? blocks - 1 - i : (seed % blocks + i) % blocks;
        if (kind == 2 && (at ^ 1) < blocks && seed >> (at / 2 % 32 + 32) & 1) at ^= 1;
        blockIdx = {(unsigned)(at % g->grid.x), (unsigned)(at / g->grid.x % g->grid.y), (unsigned)(at / g->grid.x / g->grid.y)};
        if (i == 0 || kind == 2) emu_order_threads();
        emu_run_block();
        if (g->shared) emu_shared_check();
    }
    g->kernel->launches++, g->kernel->threads += blocks * (uint64_t)emu.count;
    emu_count_for(-1);
    emu_thread = NULL;
}

// ---------------------------------------------------------------------------------------------------------------------
// Arguments are kept by value in the queue
template <class... Args>
struct EmuCall {
    EmuGrid grid;
    void (*kernel)(Args...);
    std::tuple<Args...> arguments;
};
template <class... Args>
static void emu_call(void* call) {
    EmuCall<Args...>* c = (EmuCall<Args...>*)call;
    std::apply(c->kernel, c->arguments);
}

template <class T>
static void emu_check_argument(const char* kernel, int position, T x) {
    if constexpr (std::is_pointer_v<T>) {
        const EmuAllocation* a = emu_allocation((const void*)x);
        if (!x || emu_pinned((const void*)x)) return;
        if (!a) emu_fail("kernel %s: argument %d, %p, is a pointer to host memory", kernel, position, (const void*)x);
        if (!a->live || (const char*)x < a->p || (const char*)x > a->p + a->bytes)
            emu_fail("kernel %s: argument %d points outside live device memory", kernel, position);
    } else {
        (void)kernel, (void)position, (void)x;
    }
}

template <class... Args>
struct EmuLaunch {
    void (*kernel)(Args...);
    const char *name, *launcher;
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
    void operator()(Args... args) const {
        EmuCall<Args...>* c = (EmuCall<Args...>*)calloc(1, sizeof(EmuCall<Args...>));
        int position = 0;
        c->grid.kernel = emu_kernel((const void*)kernel, name);
        emu_cover("kernel", name), emu_cover("launcher", launcher);
        c->grid.grid = grid, c->grid.block = block, c->grid.shared = shared;
        c->grid.body = emu_call<Args...>, c->grid.arguments = c, c->grid.work.run = emu_run_grid;
        c->kernel = kernel, c->arguments = std::tuple<Args...>(args...);
        emu_check_shape(&c->grid);
        (emu_check_argument(name, ++position, args), ...);
        c->grid.note = emu_note_launch(name, grid, block, shared, stream, args...);
        emu_enqueue(stream, &c->grid.work);
    }
};
template <class... Args>
static EmuLaunch<Args...> emu_launch_named(const char* name, const char* launcher, void (*kernel)(Args...), dim3 grid, dim3 block,
                                           size_t shared_bytes, cudaStream_t stream) {
    return {kernel, name, launcher, grid, block, shared_bytes, stream};
}
#define emu_launch(kernel, grid, block, shared_bytes, stream) \
    emu_launch_named(#kernel, __func__, kernel, grid, block, shared_bytes, stream)
