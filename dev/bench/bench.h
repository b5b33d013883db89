/*
What every benchmark here shares: time, the ceilings of this machine, and the table.

    bench_begin("gemm");                                   prints the machine and measures its ceilings
    Timing t;
    BENCH_TIME(t, 20, rms_norm_forward(y, rho, x, N, C, 0));
    bench_row("norm", "1024 x 768", t, bytes, BENCH_BYTES);  one line: best, median, GB/s, % of the ceiling

Ceilings, by all threads (OMP_NUM_THREADS; cores are what counts, not hyperthreads):

    multiply  the GEMM's own register tile on panels that stay in the first two cache levels, GFLOP/s. A loop without loads would
              not notice a neighbour on the same core; this one slows down with the products beside it.
    copy      a[i] = b[i] over 2 x 128 MiB, GB/s read + written      triad  a[i] = b[i] + s c[i] over 3 x 128 MiB
    update    a[i] += s b[i] over 2 x 128 MiB, GB/s of a read and written, b read. Nothing is fetched only to be overwritten, as
              the target of a copy is: this is the ceiling that bytes are compared with

Machines are shared and their clocks move: every BENCH_TIME also runs the tile loop between repetitions, and products are compared
with the fastest loop so far. Times are best and median; best estimates the machine, the distance of the two its noise. Medians
twice as long as the best say that somebody else is computing here: the percentages then mean nothing.
*/
#pragma once

#include "../../llmc/ops/gemm_cpu_tiles.h"

enum { BENCH_MAX_REPEATS = 256, BENCH_TRIES = 7 };
typedef enum { BENCH_FLOPS, BENCH_BYTES } BenchUnit;
typedef struct {
    double best, median;
} Timing;  // seconds
typedef struct {
    double multiply, copy, triad, update;
} BenchCeilings;

static BenchCeilings bench_ceilings;

static inline double bench_now(void) { return omp_get_wtime(); }

static int bench_compare(const void* a, const void* b) {
    double x = *(const double*)a, y = *(const double*)b;
    return x < y ? -1 : x > y;
}
UNUSED static Timing bench_timing(double* seconds, int n) {
    qsort(seconds, n, sizeof(double), bench_compare);
    return (Timing){seconds[0], seconds[n / 2]};
}

// GFLOP/s of the tile, once: about 3 ms. 4 panels of the right factor, 8 of the left, 32 tiles: 270 KiB a thread.
static double bench_multiply(void) {
    enum { KC = 256, ROUNDS = 500, THREAD_FLOATS = 1 << 17 };
    static float* memory;
    static int threads;
    if (threads < omp_get_max_threads()) {
        free(memory);
        threads = omp_get_max_threads();
        memory = (float*)aligned_alloc(64, (size_t)threads * THREAD_FLOATS * sizeof(float));
        if (!memory) fail("out of memory");
        memset(memory, 0, (size_t)threads * THREAD_FLOATS * sizeof(float));
    }
    TileKind tile = tile_choose();
    TileShape shape = TILE_SHAPES[tile];
    int count = 0, rounds = ROUNDS * 384 / (shape.mr * shape.nr);
    double start = bench_now();
#pragma omp parallel
    {
        const float* right = memory + (size_t)THREAD_FLOATS * omp_get_thread_num();
        const float* left = right + 4 * KC * shape.nr;
        float* tiles = (float*)left + 8 * KC * shape.mr;
        for (int i = 0; i < rounds; i++) {
            tile_multiply(tile, KC, left + i / 4 % 8 * KC * shape.mr, right + i % 4 * KC * shape.nr,
                          tiles + i % 32 * shape.mr * shape.nr, true);
        }
#pragma omp atomic
        count += rounds;
    }
    return 2e-9 * count * KC * shape.mr * shape.nr / (bench_now() - start);
}

// GB/s of a stream kind; every kind's own reads and writes
typedef enum { STREAM_COPY, STREAM_TRIAD, STREAM_UPDATE } Stream;
static double bench_stream(Stream kind) {
    size_t n = (size_t)32 << 20;
    float *a = (float*)xmalloc(n * 4), *b = (float*)xmalloc(n * 4), *c = (float*)xmalloc(n * 4);
    double best = 1e30;
    for (int try_ = -1; try_ < BENCH_TRIES; try_++) {  // the first writes the pages
        double start = bench_now();
#pragma omp parallel
        {
            Chunk mine = my_chunk(n);
            if (try_ < 0) {
                for (size_t i = mine.begin; i < mine.end; i++) a[i] = b[i] = c[i] = 1.0f;
            } else if (kind == STREAM_COPY) {
                memcpy(a + mine.begin, b + mine.begin, (mine.end - mine.begin) * sizeof(float));
            } else if (kind == STREAM_TRIAD) {
#pragma GCC ivdep
                for (size_t i = mine.begin; i < mine.end; i++) a[i] = b[i] + 3.0f * c[i];
            } else {
#pragma GCC ivdep
                for (size_t i = mine.begin; i < mine.end; i++) a[i] += 3.0f * b[i];
            }
        }
        double seconds = bench_now() - start;
        if (try_ >= 0 && seconds < best) best = seconds;
    }
    free(a);
    free(b);
    free(c);
    return (kind == STREAM_COPY ? 8.0 : 12.0) * (double)n / best * 1e-9;
}

static void bench_look_at_ceiling(void) {
    double rate = bench_multiply();
    if (rate > bench_ceilings.multiply) bench_ceilings.multiply = rate;
}

// Runs `code` once to warm up, then `n` times (at most BENCH_MAX_REPEATS), the tile loop in between.
#define BENCH_TIME(timing, n, code)                                                                                 \
    do {                                                                                                            \
        double bench_seconds[BENCH_MAX_REPEATS];                                                                    \
        int bench_wanted = (n), bench_n = bench_wanted < BENCH_MAX_REPEATS ? bench_wanted : (int)BENCH_MAX_REPEATS; \
        code;                                                                                                       \
        for (int bench_i = 0; bench_i < bench_n; bench_i++) {                                                       \
            double bench_start = bench_now();                                                                       \
            code;                                                                                                   \
            bench_seconds[bench_i] = bench_now() - bench_start;                                                     \
            bench_look_at_ceiling();                                                                                \
        }                                                                                                           \
        (timing) = bench_timing(bench_seconds, bench_n);                                                            \
    } while (0)

UNUSED static void bench_begin(const char* what) {
    for (int i = 0; i < 10 * BENCH_TRIES; i++) bench_look_at_ceiling();
    bench_ceilings.copy = bench_stream(STREAM_COPY);
    bench_ceilings.triad = bench_stream(STREAM_TRIAD);
    bench_ceilings.update = bench_stream(STREAM_UPDATE);
    printf("%s, %s, %d threads, %s tile. Ceilings: multiply %.1f GFLOP/s; copy %.1f, triad %.1f, update %.1f GB/s\n\n", what,
           PRECISION_NAME, omp_get_max_threads(), TILE_SHAPES[tile_choose()].name, bench_ceilings.multiply, bench_ceilings.copy,
           bench_ceilings.triad, bench_ceilings.update);
    printf("%-22s %-22s %10s %10s %16s %10s\n", "kernel", "shape", "best", "median", "rate", "of ceiling");
}

// amount: floating-point operations or bytes (own reads + writes) of one run
UNUSED static void bench_row(const char* kernel, const char* shape, Timing t, double amount, BenchUnit unit) {
    double rate = amount / t.best * 1e-9, ceiling = unit == BENCH_FLOPS ? bench_ceilings.multiply : bench_ceilings.update;
    printf("%-22s %-22s %7.3f ms %7.3f ms %9.1f %s %8.1f %%\n", kernel, shape, t.best * 1e3, t.median * 1e3, rate,
           unit == BENCH_FLOPS ? "GFLOP/s" : "GB/s   ", 100.0 * rate / ceiling);
    fflush(stdout);
}
