/*
Errors, the one way they leave the program.

    usage_error("--batch_size is %d: use a value in 1..1024", b);   exit 2: the command line is wrong
    fail("%s: no such file; make it with `make quickstart`", path);  exit 1: the world is wrong

Both print one sentence that names the thing, what was expected, what was found and the fix. User errors never reach an assert.
CUDA_CHECK wraps every CUDA runtime call: it adds file and line, because such an error is a bug or a broken machine.
*/
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNUSED __attribute__((unused))  // header-only functions that a program may not call
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

enum { EXIT_FAIL = 1, EXIT_USAGE = 2, EXIT_NONFINITE = 3 };

// Prints "error: <message>" on stderr. A progress line may be pending on the terminal, hence the leading newline there.
UNUSED static void say_error(const char* format, va_list args) {
    fflush(stdout);
    fprintf(stderr, "error: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
}

UNUSED PRINTF_LIKE(1, 2) __attribute__((noreturn)) static void fail(const char* format, ...) {
    va_list args;
    va_start(args, format);
    say_error(format, args);
    va_end(args);
    exit(EXIT_FAIL);
}

UNUSED PRINTF_LIKE(1, 2) __attribute__((noreturn)) static void usage_error(const char* format, ...) {
    va_list args;
    va_start(args, format);
    say_error(format, args);
    va_end(args);
    exit(EXIT_USAGE);
}

// malloc that never returns NULL: host memory for tables and buffers, freed with free().
UNUSED static void* xmalloc(size_t bytes) {
    void* p = malloc(bytes ? bytes : 1);
    if (!p) fail("out of host memory: %.1f MiB asked for", bytes / 1048576.0);
    return p;
}

UNUSED static void* xcalloc(size_t bytes) {
    void* p = calloc(bytes ? bytes : 1, 1);
    if (!p) fail("out of host memory: %.1f MiB asked for", bytes / 1048576.0);
    return p;
}

// Smallest multiple of `unit` that is >= x.
UNUSED static size_t round_up(size_t x, size_t unit) { return (x + unit - 1) / unit * unit; }
