/*
Files that are whole or absent, and files that say what they are.

    reading   file_map(path, remedy)          the whole file, read only; `remedy` ends the error sentence when it is missing
              bytes_as_text(out, bytes, n)    the first bytes of a wrong file, printable: a saved web page shows "<!DOCTYPE html"
    writing   new_file_open(&f, path)         writes go to path.tmp
              new_file_write(&f, data, bytes)
              new_file_commit(&f)             flush, fsync, rename over path: readers see the old file or the new one, never half
              new_file_discard()              removes path.tmp; also runs at exit, so an error on the way leaves nothing behind

One file is being written at a time. All errors leave through fail() with the path and the system's reason.
*/
#pragma once

#include "../base/check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    const uint8_t* bytes;  // (size)
    size_t size;
    bool mapped;  // false: a pipe, read into malloc'd memory
} FileMap;

typedef struct {
    FILE* stream;
    char* path;
    char* temp;  // path.tmp
} NewFile;

enum { TEXT_SHOWN = 16 };                               // bytes of a wrong file shown in an error
static const size_t file_stream_max = (size_t)1 << 32;  // bytes that a pipe may bring

// out: TEXT_SHOWN + 1 chars. Bytes that do not print become '.'.
UNUSED static const char* bytes_as_text(char* out, const void* bytes, size_t n) {
    const uint8_t* b = (const uint8_t*)bytes;
    if (n > TEXT_SHOWN) n = TEXT_SHOWN;
    for (size_t i = 0; i < n; i++) out[i] = b[i] >= 32 && b[i] < 127 ? (char)b[i] : '.';
    out[n] = '\0';
    return out;
}

// Everything a pipe or device has to say.
UNUSED static FileMap file_read_stream(const char* path, int fd) {
    FileMap map;
    size_t capacity = 1 << 20;
    uint8_t* bytes = (uint8_t*)xmalloc(capacity);
    map.size = 0;
    map.mapped = false;
    for (;;) {
        ssize_t got = read(fd, bytes + map.size, capacity - map.size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail("%s: cannot read: %s", path, strerror(errno));
        if (got == 0) break;
        map.size += (size_t)got;
        if (map.size < capacity) continue;
        if (capacity >= file_stream_max) {
            fail("%s: more than %zu MiB out of a pipe; write them to a file, and name that", path, file_stream_max >> 20);
        }
        capacity *= 2;
        bytes = (uint8_t*)realloc(bytes, capacity);
        if (!bytes) fail("%s: out of host memory at %.1f MiB", path, capacity / 1048576.0);
    }
    map.bytes = bytes;
    return map;
}

// The whole file, for one pass from front to back. remedy: what to do when it cannot be opened, e.g. "make it with `make x`".
UNUSED static FileMap file_map(const char* path, const char* remedy) {
    FileMap map;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail("%s: cannot open: %s; %s", path, strerror(errno), remedy);
    if (fstat(fd, &info)) fail("%s: cannot stat: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode)) fail("%s: is a directory, expected a file; %s", path, remedy);
    // /dev/zero never ends; a terminal or a pipe does
    if (S_ISBLK(info.st_mode) || (S_ISCHR(info.st_mode) && !isatty(fd) && strcmp(path, "/dev/stdin"))) {
        fail("%s: is a device, expected a file; %s", path, remedy);
    }
    if (!S_ISREG(info.st_mode)) {
        map = file_read_stream(path, fd);
    } else {
        map.size = (size_t)info.st_size;
        map.mapped = map.size > 0;
        map.bytes = NULL;
        if (map.mapped) {
            void* p = mmap(NULL, map.size, PROT_READ, MAP_PRIVATE, fd, 0);
            if (p == MAP_FAILED) fail("%s: cannot map %.1f MiB: %s", path, map.size / 1048576.0, strerror(errno));
            madvise(p, map.size, MADV_SEQUENTIAL);
            map.bytes = (const uint8_t*)p;
        }
    }
    close(fd);
    return map;
}

UNUSED static void file_unmap(FileMap* map) {
    if (map->mapped) munmap((void*)(uintptr_t)map->bytes, map->size);
    else free((void*)(uintptr_t)map->bytes);
    map->bytes = NULL;
    map->size = 0;
    map->mapped = false;
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing

static char new_file_pending[4096 + 8];  // path.tmp of the file being written, "" = none

// Safe in a signal handler: one system call.
UNUSED static void new_file_discard(void) {
    if (new_file_pending[0]) unlink(new_file_pending);
    new_file_pending[0] = '\0';
}

UNUSED static void new_file_open(NewFile* f, const char* path) {
    static bool registered = false;
    if (!registered) atexit(new_file_discard);
    registered = true;
    size_t length = strlen(path);
    if (length > 4096) fail("%.64s..: file name of %zu characters, at most 4096 are possible; use a shorter one", path, length);
    f->path = (char*)xmalloc(length + 1);
    f->temp = (char*)xmalloc(length + 5);
    memcpy(f->path, path, length + 1);
    memcpy(f->temp, path, length);
    memcpy(f->temp + length, ".tmp", 5);
    f->stream = fopen(f->temp, "wb");
    if (!f->stream) {
        fail("%s: cannot create: %s; make the directory (mkdir -p) or name another one", f->temp, strerror(errno));
    }
    memcpy(new_file_pending, f->temp, length + 5);
}

UNUSED static void new_file_write(NewFile* f, const void* data, size_t bytes) {
    if (fwrite(data, 1, bytes, f->stream) != bytes) {
        fail("%s: cannot write %zu bytes: %s; free some space or name another directory", f->temp, bytes, strerror(errno));
    }
}

UNUSED static void new_file_commit(NewFile* f) {
    bool bad = fflush(f->stream) != 0 || fsync(fileno(f->stream)) != 0;
    bad = fclose(f->stream) != 0 || bad;
    if (bad) fail("%s: cannot write: %s; free some space or name another directory", f->temp, strerror(errno));
    if (rename(f->temp, f->path)) fail("%s: cannot rename to %s: %s", f->temp, f->path, strerror(errno));
    new_file_pending[0] = '\0';
    free(f->path);
    free(f->temp);
    f->stream = NULL;
}
