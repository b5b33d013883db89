/*
What the fuzz targets share. A target is one parser of files or flags that libFuzzer feeds with bytes:

    #include "fuzz.h"             first: what follows is the parser, with its calls of the system renamed
    #include "llmc/io/shard.h"
    static void parse(data, size) writes the bytes to files in fuzz_dir, and reads them as the program does
    static void seeds(void)       first inputs, written with the project's own writers
    FUZZ_TARGET(parse, seeds, true)

    build/test/test_fuzz_shard                    runs the seeds and the kept cases, test/fuzz/corpus/shard, once: a test
    build/test/test_fuzz_shard FILE ..            runs these
    build/test/test_fuzz_shard DIR -dict=..       fuzzes (test/fuzz/run.sh)
    FUZZ_SEEDS=DIR build/test/test_fuzz_shard     writes the seeds to DIR, and to DIR.dict words for the fuzzer

A refused input leaves through fail(), so through exit(): here it jumps back to the fuzzer. What the parser had taken by then
(memory, descriptors, streams, mappings, directories) is on a list and is given back. When the parser comes to its end, that list
must be empty: what is left is a leak, and a finding. So are, beside what the sanitizers report: more than FUZZ_MEMORY_MOST bytes;
a file opened for writing, made, renamed or removed outside fuzz_dir; running a program; and reading a file that the target did
not write, where it sets `fuzz_reads` (elsewhere such a file is not there).

Tried and dropped: a process for each input (200 a second instead of 5,000); LeakSanitizer (a jump leaves what it calls leaks).
*/
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <math.h>
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FUZZ_UNUSED __attribute__((unused))

enum { FUZZ_HELD = 1 << 16, FUZZ_PATH = 512, FUZZ_MEMORY_MOST = 1 << 28, FUZZ_SECONDS = 20 };
typedef enum { FUZZ_MEMORY, FUZZ_DESCRIPTOR, FUZZ_STREAM, FUZZ_MAPPING, FUZZ_DIRECTORY, FUZZ_LIST } FuzzKind;
typedef struct {
    FuzzKind kind;
    void* at;  // a descriptor: its number
    size_t size;
} FuzzHeld;

static FuzzHeld fuzz_held[FUZZ_HELD];  // (fuzz_count) what the parser has taken, in order
static int fuzz_count;
static size_t fuzz_bytes;  // of memory in it
static bool fuzz_on;       // inside the parser
static jmp_buf fuzz_back;
static char fuzz_dir[FUZZ_PATH];    // the only directory that may be written to; emptied after every input
static const char* fuzz_reads;      // the name that every file must have that is read; NULL: any in fuzz_dir
static FILE* fuzz_err;              // stderr, also where it was closed for the parser
static char fuzz_seeds[FUZZ_PATH];  // where fuzz_seed writes

__attribute__((format(printf, 1, 2), noreturn)) static void fuzz_finding(const char* format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(fuzz_err ? fuzz_err : stderr, "finding: ");
    vfprintf(fuzz_err ? fuzz_err : stderr, format, args);
    fprintf(fuzz_err ? fuzz_err : stderr, "\n");
    va_end(args);
    abort();
}

// ---------------------------------------------------------------------------------------------------------------------
// What is taken and given back

static void fuzz_add(FuzzKind kind, void* at, size_t size) {
    if (!fuzz_on) return;
    if (fuzz_count == FUZZ_HELD) fuzz_finding("%d pieces of memory and files are held at once", FUZZ_HELD);
    fuzz_held[fuzz_count++] = (FuzzHeld){kind, at, size};
    fuzz_bytes += kind == FUZZ_MEMORY ? size : 0;
    if (fuzz_bytes > FUZZ_MEMORY_MOST) fuzz_finding("%zu bytes of memory, the last %zu at once", fuzz_bytes, size);
}

static void fuzz_remove(FuzzKind kind, void* at) {
    for (int i = fuzz_count - 1; i >= 0; i--) {
        if (fuzz_held[i].kind != kind || fuzz_held[i].at != at) continue;
        fuzz_bytes -= kind == FUZZ_MEMORY ? fuzz_held[i].size : 0;
        memmove(&fuzz_held[i], &fuzz_held[i + 1], (size_t)(fuzz_count - i - 1) * sizeof(FuzzHeld));
        fuzz_count--;
        return;
    }
}

static void fuzz_give_back(void) {
    while (fuzz_count) {
        FuzzHeld h = fuzz_held[--fuzz_count];
        glob_t list;
        memset(&list, 0, sizeof(list));
        list.gl_pathv = (char**)h.at, list.gl_pathc = h.size;
        if (h.kind == FUZZ_MEMORY) free(h.at);
        if (h.kind == FUZZ_DESCRIPTOR) close((int)(intptr_t)h.at);
        if (h.kind == FUZZ_STREAM) fclose((FILE*)h.at);
        if (h.kind == FUZZ_MAPPING) munmap(h.at, h.size);
        if (h.kind == FUZZ_DIRECTORY) closedir((DIR*)h.at);
        if (h.kind == FUZZ_LIST) globfree(&list);
    }
    fuzz_bytes = 0;
}

FUZZ_UNUSED static void* fuzz_malloc(size_t n) {
    void* p = malloc(n);
    if (p) fuzz_add(FUZZ_MEMORY, p, n);
    return p;
}
FUZZ_UNUSED static void* fuzz_calloc(size_t n, size_t size) {
    void* p = calloc(n, size);
    if (p) fuzz_add(FUZZ_MEMORY, p, n * size);
    return p;
}
FUZZ_UNUSED static void* fuzz_realloc(void* old, size_t n) {
    fuzz_remove(FUZZ_MEMORY, old);
    void* p = realloc(old, n);
    if (p) fuzz_add(FUZZ_MEMORY, p, n);
    return p;
}
FUZZ_UNUSED static void* fuzz_aligned_alloc(size_t alignment, size_t n) {
    void* p = aligned_alloc(alignment, n);
    if (p) fuzz_add(FUZZ_MEMORY, p, n);
    return p;
}
FUZZ_UNUSED static int fuzz_posix_memalign(void** p, size_t alignment, size_t n) {
    int error = posix_memalign(p, alignment, n);
    if (!error) fuzz_add(FUZZ_MEMORY, *p, n);
    return error;
}
FUZZ_UNUSED static void fuzz_free(void* p) {
    fuzz_remove(FUZZ_MEMORY, p);
    free(p);
}
FUZZ_UNUSED static void* fuzz_mmap(void* at, size_t n, int protection, int flags, int fd, off_t offset) {
    void* p = mmap(at, n, protection, flags, fd, offset);
    if (p != MAP_FAILED) fuzz_add(FUZZ_MAPPING, p, n);
    return p;
}
FUZZ_UNUSED static int fuzz_munmap(void* p, size_t n) {
    fuzz_remove(FUZZ_MAPPING, p);
    return munmap(p, n);
}

// ---------------------------------------------------------------------------------------------------------------------
// Files: written in fuzz_dir alone

static bool fuzz_inside(const char* path) {
    size_t n = strlen(fuzz_dir);
    return !strncmp(path, fuzz_dir, n) && (path[n] == '/' || !path[n]) && !strstr(path, "/../");
}
static void fuzz_may_write(const char* path) {
    if (fuzz_on && !fuzz_inside(path)) fuzz_finding("writes to \"%s\", outside its directory", path);
}
// Whether a file is there to be read.
static bool fuzz_may_read(const char* path) {
    if (!fuzz_on || !strcmp(path, "/proc/meminfo")) return true;
    bool asked = fuzz_inside(path) && (!fuzz_reads || !strcmp(strrchr(path, '/') + 1, fuzz_reads));
    if (fuzz_reads && !asked) fuzz_finding("reads \"%s\", which its input names", path);
    errno = ENOENT;
    return asked;
}
FUZZ_UNUSED static int fuzz_open(const char* path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    if ((flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC)) fuzz_may_write(path);
    else if (!(flags & O_DIRECTORY) && !fuzz_may_read(path)) return -1;
    int fd = open(path, flags, mode);
    if (fd >= 0) fuzz_add(FUZZ_DESCRIPTOR, (void*)(intptr_t)fd, 0);
    return fd;
}
FUZZ_UNUSED static int fuzz_close(int fd) {
    fuzz_remove(FUZZ_DESCRIPTOR, (void*)(intptr_t)fd);
    return close(fd);
}
FUZZ_UNUSED static int fuzz_mkstemp(char* path) {
    fuzz_may_write(path);
    int fd = mkstemp(path);
    if (fd >= 0) fuzz_add(FUZZ_DESCRIPTOR, (void*)(intptr_t)fd, 0);
    return fd;
}
FUZZ_UNUSED static FILE* fuzz_fopen(const char* path, const char* mode) {
    if (*mode != 'r' || strchr(mode, '+')) fuzz_may_write(path);
    else if (!fuzz_may_read(path)) return NULL;
    FILE* file = fopen(path, mode);
    if (file) fuzz_add(FUZZ_STREAM, file, 0);
    return file;
}
FUZZ_UNUSED static int fuzz_fclose(FILE* file) {
    fuzz_remove(FUZZ_STREAM, file);
    return fclose(file);
}
FUZZ_UNUSED static DIR* fuzz_opendir(const char* path) {
    DIR* d = fuzz_on && !fuzz_inside(path) ? NULL : opendir(path);
    if (d) fuzz_add(FUZZ_DIRECTORY, d, 0);
    return d;
}
FUZZ_UNUSED static int fuzz_closedir(DIR* d) {
    fuzz_remove(FUZZ_DIRECTORY, d);
    return closedir(d);
}
FUZZ_UNUSED static int fuzz_glob(const char* pattern, int flags, int (*error)(const char*, int), glob_t* list) {
    if (fuzz_on && !fuzz_inside(pattern)) return GLOB_NOMATCH;
    int status = glob(pattern, flags, error, list);
    if (!status) fuzz_add(FUZZ_LIST, list->gl_pathv, list->gl_pathc);
    return status;
}
FUZZ_UNUSED static void fuzz_globfree(glob_t* list) {
    fuzz_remove(FUZZ_LIST, list->gl_pathv);
    globfree(list);
}
FUZZ_UNUSED static int fuzz_rename(const char* from, const char* to) {
    fuzz_may_write(from), fuzz_may_write(to);
    return rename(from, to);
}
FUZZ_UNUSED static int fuzz_unlink(const char* path) {
    fuzz_may_write(path);
    return unlink(path);
}
FUZZ_UNUSED static int fuzz_mkdir(const char* path, mode_t mode) {
    if (strncmp(fuzz_dir, path, strlen(path))) fuzz_may_write(path);  // one that fuzz_dir is in is there
    return mkdir(path, mode);
}

// ---------------------------------------------------------------------------------------------------------------------
// For targets

// Path of `name` in fuzz_dir, valid until eight more calls.
FUZZ_UNUSED static const char* fuzz_path(const char* name) {
    static char paths[8][FUZZ_PATH + 64];
    static int turn;
    char* path = paths[turn++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", fuzz_dir, name);
    return path;
}

// Puts bytes into the file `name` of fuzz_dir; returns its path.
FUZZ_UNUSED static const char* fuzz_file(const char* name, const void* data, size_t size) {
    const char* path = fuzz_path(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd)) fuzz_finding("cannot write %s", path);
    return path;
}

// Writes the seed NAME: `head`, what tells the target how to read it, and the file `path`, if any.
FUZZ_UNUSED static void fuzz_seed(const char* name, const void* head, size_t head_bytes, const char* path) {
    char to[FUZZ_PATH + 64], buffer[4096];
    snprintf(to, sizeof(to), "%s/%s", fuzz_seeds, name);
    FILE *out = fopen(to, "wb"), *in = path ? fopen(path, "rb") : NULL;
    if (!out || (path && !in)) fuzz_finding("cannot write the seed %s", to);
    fwrite(head, 1, head_bytes, out);
    for (size_t n; in && (n = fread(buffer, 1, sizeof(buffer), in)) > 0;) fwrite(buffer, 1, n, out);
    if (in) fclose(in);
    fclose(out);
}

static int fuzz_empty_one(const char* path, const struct stat* info, int kind, struct FTW* at) {
    (void)info, (void)kind;
    return at->level ? remove(path) : 0;
}
static void fuzz_empty(void) { nftw(fuzz_dir, fuzz_empty_one, 8, FTW_DEPTH | FTW_PHYS); }
static void fuzz_end(void) {
    fuzz_empty();
    rmdir(fuzz_dir);
}

// frees: a parser that comes to its end has given everything back
static void fuzz_one(void (*parse)(const uint8_t*, size_t), const uint8_t* data, size_t size, bool frees) {
    fuzz_on = true;
    if (!setjmp(fuzz_back)) {
        parse(data, size);
        if (frees && fuzz_count) fuzz_finding("%d pieces of memory and files are never given back", fuzz_count);
    }
    fuzz_on = false;
    fuzz_give_back();
    fuzz_empty();
}

// A word that the fuzzer may put into an input: into SEEDS.dict.
FUZZ_UNUSED static void fuzz_word(const char* before, const char* word, int length) {
    char to[FUZZ_PATH + 8];
    snprintf(to, sizeof(to), "%s.dict", fuzz_seeds);
    FILE* out = getenv("FUZZ_SEEDS") ? fopen(to, "a") : NULL;
    if (out) fprintf(out, "\"%s%.*s\"\n", before, length, word), fclose(out);
}

// Runs the files of a directory, in the order of their names; returns how many.
static int fuzz_replay(const char* dir, void (*parse)(const uint8_t*, size_t), bool frees) {
    struct dirent** entries;
    int n = scandir(dir, &entries, NULL, alphasort), cases = 0;
    for (int i = 0; i < n; free(entries[i++])) {
        char path[FUZZ_PATH + 300];
        static uint8_t bytes[1 << 20];
        snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
        FILE* file = entries[i]->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!file) continue;
        size_t size = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        uint8_t* exact = (uint8_t*)malloc(size);  // so that reading behind its end is seen
        memcpy(exact, bytes, size);
        fprintf(fuzz_err, "%s\n", path);
        alarm(FUZZ_SECONDS);
        fuzz_one(parse, exact, size, frees);
        alarm(0);
        free(exact);
        cases++;
    }
    if (n >= 0) free(entries);
    return cases;
}

// Without arguments: the seeds and the kept cases, and how many there were.
static void fuzz_test(const char* program, void (*parse)(const uint8_t*, size_t), void (*seeds)(void), bool frees) {
    const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;
    char kept[FUZZ_PATH];
    snprintf(kept, sizeof(kept), "test/fuzz/corpus/%s", strncmp(name, "test_fuzz_", 10) ? name : name + 10);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO), dup2(null, STDERR_FILENO);
    __sanitizer_set_report_fd((void*)(intptr_t)fileno(fuzz_err));
    snprintf(fuzz_seeds, sizeof(fuzz_seeds), "%s.seeds", fuzz_dir);
    mkdir(fuzz_seeds, 0700);
    seeds();
    int cases = fuzz_replay(fuzz_seeds, parse, frees);
    nftw(fuzz_seeds, fuzz_empty_one, 8, FTW_DEPTH | FTW_PHYS);
    rmdir(fuzz_seeds);
    cases += fuzz_replay(kept, parse, frees);
    fprintf(fuzz_err, "%d passed, 0 failed\n", cases);
    exit(0);
}

static void fuzz_start(int argc, char** argv, void (*parse)(const uint8_t*, size_t), void (*seeds)(void), bool frees) {
    const char *base = getenv("TMPDIR"), *to = getenv("FUZZ_SEEDS");
    snprintf(fuzz_dir, sizeof(fuzz_dir), "%s/ahead-fuzz.XXXXXX", base ? base : "/tmp");
    int fd = dup(STDERR_FILENO);
    fuzz_err = fd < 0 ? stderr : fdopen(fd, "w");
    if (fuzz_err) setvbuf(fuzz_err, NULL, _IONBF, 0);
    if (!mkdtemp(fuzz_dir)) fuzz_finding("cannot make %s", fuzz_dir);
    atexit(fuzz_end);
    if (!to && argc > 1) return;
    if (!to) fuzz_test(argv[0], parse, seeds, frees);
    snprintf(fuzz_seeds, sizeof(fuzz_seeds), "%s", to);
    seeds();
    exit(0);
}

__attribute__((noreturn)) FUZZ_UNUSED static void fuzz_exit(int code) {
    (void)code;
    if (!fuzz_on) exit(code);
    longjmp(fuzz_back, 1);
}

#ifdef __cplusplus
#define FUZZ_ENTRY extern "C"
#else
#define FUZZ_ENTRY extern
#endif
FUZZ_ENTRY int LLVMFuzzerInitialize(int* argc, char*** argv);
FUZZ_ENTRY int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
FUZZ_ENTRY const char* __asan_default_options(void);
#define FUZZ_TARGET(parse, seeds, frees)                                                              \
    const char* __asan_default_options(void) { return "detect_leaks=0:allocator_may_return_null=0"; } \
    int LLVMFuzzerInitialize(int* argc, char*** argv) {                                               \
        fuzz_start(*argc, *argv, parse, seeds, frees);                                                \
        return 0;                                                                                     \
    }                                                                                                 \
    int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {                                    \
        fuzz_one(parse, data, size, frees);                                                           \
        return 0;                                                                                     \
    }

#define exit(code) fuzz_exit(code)
#define malloc(n) fuzz_malloc(n)
#define calloc(n, size) fuzz_calloc(n, size)
#define realloc(p, n) fuzz_realloc(p, n)
#define aligned_alloc(alignment, n) fuzz_aligned_alloc(alignment, n)
#define posix_memalign(p, alignment, n) fuzz_posix_memalign(p, alignment, n)
#define free(p) fuzz_free(p)
#define mmap(at, n, protection, flags, fd, offset) fuzz_mmap(at, n, protection, flags, fd, offset)
#define munmap(p, n) fuzz_munmap(p, n)
#define open(...) fuzz_open(__VA_ARGS__)
#define close(fd) fuzz_close(fd)
#define mkstemp(path) fuzz_mkstemp(path)
#define fopen(path, mode) fuzz_fopen(path, mode)
#define fclose(file) fuzz_fclose(file)
#define opendir(path) fuzz_opendir(path)
#define closedir(d) fuzz_closedir(d)
#define glob(pattern, flags, error, list) fuzz_glob(pattern, flags, error, list)
#define globfree(list) fuzz_globfree(list)
#define rename(from, to) fuzz_rename(from, to)
#define unlink(path) fuzz_unlink(path)
#define mkdir(path, mode) fuzz_mkdir(path, mode)
#define fsync(fd) 0
#define signal(number, handler) ((void)(handler))
#define system(command) fuzz_finding("runs \"%s\"", command)
#define popen(command, mode) (fuzz_finding("runs \"%s\"", command), NULL)
