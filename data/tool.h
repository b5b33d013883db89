/*
What the table makers of data/ share at the command line: words that are no flags, help, progress, threads, and care for
other files.

    data/build_ngram "data/mine_train_*.bin" --k 16 --out data/mine.ngram
                      word                    flag   flag              words may stand anywhere between the flags
*/
#pragma once

#include "llmc/base/flags.h"
#include "llmc/io/file.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

enum { TOOL_THREADS_MAX = 64 };

typedef struct {
    double start, shown;   // seconds
    const char* unit;      // of `done`, e.g. "tokens"
    double total, divide;  // all there is to do; shown divided by this
    const char* what;      // what is being done, shown at the end of the line
    bool terminal;
} ToolProgress;

static double tool_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Moves the words out of argv to `words` (argc) and leaves the flags; `-` alone is a word. Returns their number.
UNUSED static int tool_take_words(const FlagTable* flags, int* argc, char** argv, char** words) {
    int kept = 1, count = 0;
    for (int i = 1; i < *argc; i++) {
        bool flag = (argv[i][0] == '-' && argv[i][1]) || argv[i][0] == '@';
        if (!flag) {
            words[count++] = argv[i];
            continue;
        }
        argv[kept++] = argv[i];
        int row = !strchr(argv[i], '=') && !strncmp(argv[i], "--", 2) ? flags_find(flags, argv[i] + 2) : -1;
        if (row < 0 || i + 1 == *argc) continue;
        bool number = !strcmp(argv[i + 1], "0") || !strcmp(argv[i + 1], "1");
        if (flags->defs[row].kind != FLAG_SWITCH || number) argv[kept++] = argv[++i];
    }
    *argc = kept;
    argv[kept] = NULL;
    return count;
}

// With --help or -h anywhere: the usage line behind the program's name, what it does, the flags; exit code 0.
UNUSED static void tool_help(FlagTable* flags, int argc, char** argv, const char* usage, const char* what) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") && strcmp(argv[i], "-h")) continue;
        printf("%s %s\n\n%s\n\n", argv[0], usage, what);
        flags->program = argv[0];
        flags_help(flags, stdout);
        exit(0);
    }
}

static void tool_interrupted(int signal_number) {
    new_file_discard();
    _exit(128 + signal_number);
}

// From here on an interrupted program leaves no half file.
UNUSED static void tool_catch_signals(void) {
    signal(SIGINT, tool_interrupted);
    signal(SIGTERM, tool_interrupted);
    signal(SIGHUP, tool_interrupted);
}

// Threads to use: as many as asked for, 0 = one for each processor.
UNUSED static int tool_threads(int wanted) {
    long here = wanted ? wanted : sysconf(_SC_NPROCESSORS_ONLN);
    return here < 1 ? 1 : here > TOOL_THREADS_MAX ? TOOL_THREADS_MAX : (int)here;
}

// Runs work(argument) on `count` threads and returns when all are done.
UNUSED static void tool_run_threads(int count, void* (*work)(void*), void* argument) {
    pthread_t threads[TOOL_THREADS_MAX];
    for (int i = 1; i < count; i++) {
        int error = pthread_create(&threads[i], NULL, work, argument);
        if (error) fail("cannot start thread %d: %s; use fewer with --threads", i + 1, strerror(error));
    }
    work(argument);
    for (int i = 1; i < count; i++) pthread_join(threads[i], NULL);
}

// Refuses to write over a file that does not start with `magic`: a slip on the command line must not cost a shard.
UNUSED static void tool_keep_other_files(const char* path, int32_t magic, const char* what) {
    int32_t found = 0;
    struct stat info;
    if (stat(path, &info)) return;  // no such file: good; a directory that is missing is told when the file is made
    if (S_ISDIR(info.st_mode)) fail("%s: is a directory; name a file with --out", path);
    FILE* file = S_ISREG(info.st_mode) ? fopen(path, "rb") : NULL;
    if (file && fread(&found, sizeof found, 1, file) != 1) found = 0;
    if (file) fclose(file);
    if (found == magic) return;
    fail("%s: exists and is not %s, so it is kept; name another file with --out, or remove it", path, what);
}

// ---------------------------------------------------------------------------------------------------------------------
// Progress, on a terminal only

UNUSED static ToolProgress tool_progress_start(const char* unit, double divide, double total, const char* what) {
    ToolProgress p = {tool_seconds(), 0, unit, total, divide, what, isatty(STDERR_FILENO) != 0};
    return p;
}

UNUSED static void tool_progress_show(ToolProgress* p, double done) {
    double now = tool_seconds(), spent = now - p->start;
    if (!p->terminal || now - p->shown < 0.2 || p->total <= 0) return;
    p->shown = now;
    double rate = done / (spent > 1e-3 ? spent : 1e-3);
    long eta = rate > 0 ? (long)((p->total - done) / rate) : 0;
    fprintf(stderr, "\r\033[K%3.0f%%  %.1f %s/s  ETA %ld:%02ld  %s", 100 * done / p->total, rate / p->divide, p->unit, eta / 60,
            eta % 60, p->what);
    fflush(stderr);
}

UNUSED static void tool_progress_clear(const ToolProgress* p) {
    if (p->terminal) fprintf(stderr, "\r\033[K");
}
