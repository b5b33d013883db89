/*
Breaks the N-th call of a library function in a program that it is preloaded into:

    FAULT="pwrite 20 ENOSPC" LD_PRELOAD=.../faults.so program      from the 20th pwrite on: half is written, then no space left
    FAULT="rename 2 kill"                     SIGKILL in place of the second rename (pwrite, write: after half)
    FAULT="fsync 1 sleep"                     the first fsync takes ten seconds, signals or not (nap: one)
    FAULT="any 57 kill"                       the 57th of all calls below
    FAULT="any 0 count" FAULT_COUNT=FILE      breaks nothing; at exit FILE has the number of calls

Built and used by test_survival.sh and test/long/kill.sh. The error numbers are sticky: a disk that is full stays full.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char call_name[32], what[32];
static long number, count;

static __attribute__((constructor)) void faults_read(void) {
    const char* spec = getenv("FAULT");
    if (spec) sscanf(spec, "%31s %ld %31s", call_name, &number, what);
}

static __attribute__((destructor)) void faults_count(void) {
    const char* path = getenv("FAULT_COUNT");
    FILE* f = path && !strcmp(what, "count") ? fopen(path, "w") : NULL;
    if (f) fprintf(f, "%ld\n", count);
    if (f) fclose(f);
}

static void nap(int seconds) {
    struct timespec left = {seconds, 0};
    while (nanosleep(&left, &left) && errno == EINTR) continue;
}

// The error number with which this call fails, -1: dies, 0: nothing happens to it.
static int fault(const char* name) {
    pthread_mutex_lock(&lock);
    int wanted = !strcmp(call_name, "any") || !strcmp(call_name, name);
    long n = wanted ? ++count : 0;
    pthread_mutex_unlock(&lock);
    if (!wanted || n < number) return 0;
    if (!strcmp(what, "ENOSPC")) return ENOSPC;
    if (!strcmp(what, "EROFS")) return EROFS;
    if (n != number) return 0;
    if (!strcmp(what, "sleep")) nap(10);
    if (!strcmp(what, "nap")) nap(1);
    return !strcmp(what, "kill") ? -1 : 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// What is left of a call that a fault of this kind hit.
static int broken(int kind) {
    if (kind < 0) kill(getpid(), SIGKILL);
    errno = kind;
    return -1;
}

static ssize_t half_written(int fd, const void* data, size_t bytes, off_t offset, int kind) {
    ssize_t n = offset < 0 ? REAL(write)(fd, data, bytes / 2) : REAL(pwrite)(fd, data, bytes / 2, offset);
    return n > 0 && kind > 0 ? n : broken(kind);
}

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
    int kind = fault("pwrite");
    return kind ? half_written(fd, data, bytes, offset, kind) : REAL(pwrite)(fd, data, bytes, offset);
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t offset) { return pwrite(fd, data, bytes, offset); }

ssize_t write(int fd, const void* data, size_t bytes) {
    int kind = fault("write");
    return kind ? half_written(fd, data, bytes, -1, kind) : REAL(write)(fd, data, bytes);
}

int fsync(int fd) {
    int kind = fault("fsync");
    return kind ? broken(kind) : REAL(fsync)(fd);
}

int rename(const char* from, const char* to) {
    int kind = fault("rename");
    return kind ? broken(kind) : REAL(rename)(from, to);
}

int unlink(const char* path) {
    int kind = fault("unlink");
    return kind ? broken(kind) : REAL(unlink)(path);
}

int fflush(FILE* file) {
    int kind = file && file != stdout && file != stderr ? fault("fflush") : 0;
    return kind ? broken(kind) : REAL(fflush)(file);
}

// Only files that are opened to be written
int open(const char* path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    int mode = flags & O_CREAT ? va_arg(args, int) : 0;
    va_end(args);
    int kind = flags & (O_WRONLY | O_RDWR) ? fault("open") : 0;
    return kind ? broken(kind) : REAL(open)(path, flags, mode);
}
