/*
make plans: the program's own cuDNN graphs (llmc/ops/attention_cudnn.cpp), built to the end for GPUs that are not here.

    shape -> validate -> operation graph -> execution plans -> support check -> run-time compilation -> workspace size

    plans SM ...        one line per shape, one line of summary per architecture, then N passed, N failed, N skipped
    plans               names the architectures it knows

cuDNN takes a description of the GPU in place of one, and fake_libcuda.c in place of a driver; what is not tested is running.
Rules, for every architecture:
    1   a plan forward and backward, bf16 and fp16, for the heads of d12 .. d48 and T = 64 .. 4096, for shared key heads, for
        every head size up to 128 that the program lets through, for lengths that are no power of two
    2   workspace linear in T: at most 8 MB for a row of d12 at T = 1024, other shapes in proportion to heads * T * head size
    3   asked for again, a plan is the same plan; a shape too many and impossible shapes are refused in one sentence that names
        what was asked for
cuDNN's deterministic backward is built too and reported: "stores dP" = its workspace holds a (B,NH,T,T) matrix of 2 bytes, the
reason why it is not used. That is a finding, not a rule: where it reads "linear" for all lengths, the choice can be made anew.
(Short sequences cannot tell: there the matrix is smaller than what the backward pass needs anyway.)
*/
#include "../../llmc/ops/attention_cudnn.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// What cuDNN wants to know of a GPU, as far as cards differ. shared: KB a block may ask for.
typedef struct {
    int sm;
    const char* name;
    int processors, threads, blocks, shared_kb, l2_mb, memory_gb, core_mhz, memory_mhz;
} Gpu;
static const Gpu gpus[] = {
    {80, "NVIDIA A100-SXM4-80GB", 108, 2048, 32, 163, 40, 80, 1410, 1593},
    {86, "NVIDIA GeForce RTX 3090", 82, 1536, 16, 99, 6, 24, 1695, 9751},
    {89, "NVIDIA GeForce RTX 4090", 128, 1536, 24, 99, 72, 24, 2520, 10501},
    {90, "NVIDIA H100 80GB HBM3", 132, 2048, 32, 227, 50, 80, 1980, 2619},
    {100, "NVIDIA B200", 148, 2048, 32, 227, 126, 180, 1965, 3996},
    {103, "NVIDIA B300", 148, 2048, 32, 227, 126, 270, 1920, 3996},
    {120, "NVIDIA GeForce RTX 5090", 170, 1536, 24, 99, 96, 32, 2407, 14001},
};
enum { GPUS = sizeof gpus / sizeof gpus[0], B = 16 };

typedef struct {
    int T, NH, NKV, D;
} Shape;
typedef struct {
    const char* name;
    int NH;
} Size;
static const Size sizes[] = {{"d12", 12}, {"d24", 16}, {"d36", 20}, {"d48", 25}};  // heads of 64 (llmc/model/config.h)

// Of one architecture. Engines: every different one, in the order met.
typedef struct {
    char forward[128], backward[128], exact[128];
    size_t usual, usual_exact, largest;  // workspace backward: d12 at T = 1024 (twice), and of the largest shape
    int stores_dp, exact_plans, plans;
    double seconds;
} Summary;
static Summary sum;
static int passed, failed;

static double now() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool check(bool good, const Gpu* gpu, const char* what) {
    if (good) passed++;
    else failed++, printf("failed: sm_%d: %s\n", gpu->sm, what);
    return good;
}

static AheadCudnn* open_gpu(const Gpu* g, bool deterministic) {
    char json[2048], why[AHEAD_CUDNN_MESSAGE];
    int bytes =
        snprintf(json, sizeof json,
                 "{\"deviceName\": \"%s\", \"deviceVer\": %d, \"smVersion\": %d, \"driverVer\": 13000, \"cudaDeviceId\": 0, "
                 "\"pciDeviceId\": 0, "
                 "\"multiProcessorCount\": %d, \"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], "
                 "\"regsPerBlock\": 65536, \"maxRegistersPerSM\": 65536, \"smClockRateKHz\": %d, \"memClockRateKHz\": %d, "
                 "\"l2CacheSize\": %lld, \"totalGlobalMem\": %lld, \"warpSize\": 32, \"maxThreadsPerBlock\": 1024, "
                 "\"maxThreadsPerSM\": %d, "
                 "\"maxCtasPerSM\": %d, \"maxSharedMemoryPerBlock\": 49152, \"maxSharedMemoryPerBlockOptin\": %d, "
                 "\"reservedSharedMemoryPerBlock\": 1024, \"isTccDriver\": 0, \"supportCoopLaunch\": 1}",
                 g->name, g->sm * 10, g->sm * 10, g->processors, g->core_mhz * 1000, g->memory_mhz * 1000,
                 (long long)g->l2_mb << 20, (long long)g->memory_gb << 30, g->threads, g->blocks, g->shared_kb * 1024);
    AheadCudnn* c = ahead_cudnn_create_for_device(json, (size_t)bytes, g->sm, deterministic, why, sizeof why);
    if (!c) check(false, g, why);
    return c;
}

typedef struct {
    bool made;
    size_t workspace;
    char engine[64], why[AHEAD_CUDNN_MESSAGE];
} Plan;

static Plan plan(AheadCudnn* c, int dtype, int backward, Shape s) {
    Plan p = {0};
    double t = now();
    int made = ahead_cudnn_plan(c, dtype, backward, B, s.T, s.NH, s.NKV, s.D, &p.workspace, p.why, sizeof p.why);
    if (made == 1) sum.plans++, sum.seconds += now() - t;
    p.made = made >= 0;
    if (p.made) ahead_cudnn_plan_name(c, dtype, backward, B, s.T, s.NH, s.NKV, s.D, p.engine, sizeof p.engine);
    return p;
}

// Rule 2, in bytes. Where query heads share a key head, cuDNN first writes dk and dv per query head, 2 bytes an element.
static size_t most_workspace(Shape s) {
    size_t elements = (size_t)B * (size_t)s.T * (size_t)s.NH * (size_t)s.D;
    return (size_t)(8e6 / (1024 * 12 * 64) * (double)elements) + (s.NKV < s.NH ? 2 * 2 * elements : 0);
}

// Rules 1 and 2 for one plan.
static void check_plan(const Gpu* gpu, const Plan* p, Shape s) {
    char what[AHEAD_CUDNN_MESSAGE];
    if (!check(p->made, gpu, p->why)) return;
    snprintf(what, sizeof what, "workspace of B %d, T %d, %d heads (%d for keys) of %d: %zu bytes, at most %zu (engine %s)", B,
             s.T, s.NH, s.NKV, s.D, p->workspace, most_workspace(s), p->engine);
    check(p->workspace <= most_workspace(s), gpu, what);
}

// `usual` is what the backward pass needs without the switch.
static const char* dp_or_linear(const Plan* p, size_t usual, Shape s) {
    size_t dp = (size_t)2 * B * s.NH * s.T * s.T;
    if (!p->made) return "no plan";
    sum.exact_plans++;
    if (p->workspace >= dp && p->workspace > usual) return sum.stores_dp++, "stores dP";
    return dp > usual ? "linear" : "";
}

static void remember(char (*engines)[128], const Plan* p) {
    size_t used = strlen(*engines);
    if (p->made && !strstr(*engines, p->engine))
        snprintf(*engines + used, sizeof *engines - used, "%s%s", used ? " " : "", p->engine);
}

// One shape: both directions and, as a finding, the deterministic backward (exact: NULL = not wanted).
static void shape_line(const Gpu* gpu, AheadCudnn* c, AheadCudnn* exact, const char* name, Shape s, int dtype) {
    Plan f = plan(c, dtype, 0, s), b = plan(c, dtype, 1, s);
    check_plan(gpu, &f, s);
    check_plan(gpu, &b, s);
    remember(&sum.forward, &f);
    remember(&sum.backward, &b);
    if (b.workspace > sum.largest) sum.largest = b.workspace;
    char heads[16];
    snprintf(heads, sizeof heads, s.NKV == s.NH ? "%d" : "%d/%d", s.NH, s.NKV);
    printf("%-4d %-4s %4d %5s x %-3d %s | %-14s %4zu | %-16s %7.2f %6.2f |", gpu->sm, name, s.T, heads, s.D,
           dtype ? "fp16" : "bf16", f.engine, f.workspace, b.engine, (double)b.workspace / 1e6, (double)b.workspace / 1e6 / B);
    if (exact) {
        Plan d = plan(exact, dtype, 1, s);
        remember(&sum.exact, &d);
        printf(" %-16s %8.2f %s", d.engine, (double)d.workspace / 1e6, dp_or_linear(&d, b.workspace, s));
        if (s.NH == 12 && s.T == 1024) sum.usual = b.workspace, sum.usual_exact = d.workspace;
    }
    printf("\n");
    fflush(stdout);
}

static void model_sizes(const Gpu* gpu) {
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int dtype = AHEAD_CUDNN_BF16; dtype <= AHEAD_CUDNN_FP16; dtype++) {
            AheadCudnn *c = open_gpu(gpu, false), *exact = open_gpu(gpu, true);
            if (!c || !exact) return;
            for (int T = 64; T <= 4096; T *= 2)
                shape_line(gpu, c, exact, sizes[i].name, (Shape){T, sizes[i].NH, sizes[i].NH, 64}, dtype);
            ahead_cudnn_destroy(c);
            ahead_cudnn_destroy(exact);
        }
    }
}

// Key heads that several query heads share, other head sizes, lengths that are no power of two.
static void other_shapes(const Gpu* gpu) {
    static const Shape shapes[] = {{1024, 12, 4, 64}, {1024, 12, 1, 64}, {1024, 16, 4, 128}, {1000, 25, 25, 64},
                                   {17, 4, 4, 32},    {256, 4, 4, 16},   {256, 4, 4, 48},    {256, 4, 4, 80},
                                   {256, 4, 4, 96},   {256, 4, 4, 112},  {1024, 8, 8, 128}};
    AheadCudnn* c = open_gpu(gpu, false);
    if (!c) return;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) shape_line(gpu, c, NULL, "-", shapes[i], AHEAD_CUDNN_BF16);
    ahead_cudnn_destroy(c);
}

// Rule 3, first half.
static void same_plan_again(const Gpu* gpu) {
    AheadCudnn* c = open_gpu(gpu, false);
    if (!c) return;
    size_t first = 0, again = 1;
    char why[AHEAD_CUDNN_MESSAGE], what[AHEAD_CUDNN_MESSAGE];
    int a = ahead_cudnn_plan(c, AHEAD_CUDNN_BF16, 1, 4, 64, 4, 4, 64, &first, why, sizeof why);
    int b = ahead_cudnn_plan(c, AHEAD_CUDNN_BF16, 1, 4, 64, 4, 4, 64, &again, why, sizeof why);
    int other = ahead_cudnn_plan(c, AHEAD_CUDNN_BF16, 0, 4, 64, 4, 4, 64, &again, why, sizeof why);
    snprintf(what, sizeof what, "the same plan again: %d and %d and, forward, %d, expected 1 0 1", a, b, other);
    check(a == 1 && b == 0 && other == 1, gpu, what);
    int made = 1;
    for (int T = 65; made == 1 && T < 65 + 100; T++)
        made = ahead_cudnn_plan(c, AHEAD_CUDNN_BF16, 0, 1, T, 1, 1, 16, &again, why, sizeof why);
    check(made == -1 && strstr(why, "too many shapes are in use"), gpu,
          "the table of plans has no end, or says so in other words");
    ahead_cudnn_destroy(c);
}

// Rule 3, second half: shape s has no plan, and the sentence says what was asked for.
static void refused(const Gpu* gpu, AheadCudnn* c, int backward, Shape s) {
    char what[2 * AHEAD_CUDNN_MESSAGE], asked[128];
    Plan p = plan(c, AHEAD_CUDNN_BF16, backward, s);
    snprintf(asked, sizeof asked, "no %s plan for bf16, head size %d, %d tokens, %d heads, batch %d on a described sm_%d: ",
             backward ? "backward" : "forward", s.D, s.T, s.NH, B, gpu->sm);
    const char* reason = p.made ? NULL : strstr(p.why, asked);
    snprintf(what, sizeof what, "expected \"%s<reason>\", got %s", asked, p.made ? "a plan" : p.why);
    if (!check(reason && strlen(reason) > strlen(asked) && !strchr(p.why, '\n'), gpu, what)) return;
    printf("%-5d refused: %s\n", gpu->sm, p.why);
}

static void refusals(const Gpu* gpu) {
    AheadCudnn* c = open_gpu(gpu, false);
    if (!c) return;
    for (int backward = 0; backward < 2; backward++) {
        refused(gpu, c, backward, (Shape){128, 4, 4, 60});  // no multiple of 8
        refused(gpu, c, backward, (Shape){128, 4, 4, 4});
        refused(gpu, c, backward, (Shape){128, 12, 5, 64});  // 5 key heads do not serve 12
    }
    refused(gpu, c, 1, (Shape){1, 4, 4, 64});                                         // a sequence of one token has no backward
    if (gpu->sm < 90 || gpu->sm >= 120) refused(gpu, c, 1, (Shape){128, 4, 4, 136});  // nor have heads above 128 on these
    ahead_cudnn_destroy(c);
}

static void one_gpu(const Gpu* gpu) {
    double start = now();
    sum = (Summary){0};
    printf("%s, sm_%d, B = %d\n", gpu->name, gpu->sm, B);
    printf("%-4s %-4s %4s %11s %s | %-14s %4s | %-16s %7s %6s | %s\n", "sm", "", "T", "heads x D", "dtype", "forward", "B",
           "backward", "MB", "MB/row", "deterministic backward, MB");
    model_sizes(gpu);
    other_shapes(gpu);
    same_plan_again(gpu);
    refusals(gpu);
    printf(
        "summary: sm_%d: forward %s; backward %s; d12, T 1024: %.1f MB (%.2f a row), largest shape %.0f MB; deterministic %s: "
        "%.0f MB, "
        "%d of %d store dP; %d plans, %.2f s each, %.0f s\n",
        gpu->sm, sum.forward, sum.backward, (double)sum.usual / 1e6, (double)sum.usual / 1e6 / B, (double)sum.largest / 1e6,
        sum.exact, (double)sum.usual_exact / 1e6, sum.stores_dp, sum.exact_plans, sum.plans,
        sum.seconds / (sum.plans ? sum.plans : 1), now() - start);
}

int main(int argc, char** argv) {
    if (argc == 1) {
        for (int i = 0; i < GPUS; i++) printf("%d\n", gpus[i].sm);
        return 0;
    }
    for (int a = 1; a < argc; a++) {
        int i = 0;
        while (i < GPUS && gpus[i].sm != atoi(argv[a])) i++;
        if (i < GPUS) one_gpu(&gpus[i]);
        else failed++, printf("failed: sm_%s is not described here; known: run without arguments\n", argv[a]);
    }
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed || !passed;
}
