/*
Runs a function in a child process and catches what it prints and how it ends: for code that leaves through exit().
On a GPU, which a forked process cannot use, what CUDA registered in the parent to run at the end does not run in the child.

    int rc = run_child(function, argument);      exit code, or -signal
    child_output                                 stdout and stderr together
    assert_says("did you mean")                  child_output contains it

A temporary folder for files: test_dir() gives its path (made on first use), removed by test_dir_remove().
*/
#pragma once

#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char child_output[65536];

#ifdef __CUDACC__
static void leave_child(int status, void* unused) {
    (void)unused;
    fflush(NULL);
    _exit(status);
}
#endif

__attribute__((unused)) static int run_child(void (*function)(const void*), const void* argument) {
    int ends[2], status = 0;
    fflush(stdout);
    fflush(stderr);
    if (pipe(ends)) fail_msg("pipe failed");
    pid_t pid = fork();
    if (pid == 0) {
#ifdef __CUDACC__
        on_exit(leave_child, NULL);  // the first to run of all that is registered
#endif
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        function(argument);
        exit(0);
    }
    close(ends[1]);
    size_t size = 0;
    for (ssize_t n = 1; n > 0; size += n > 0 ? (size_t)n : 0) {
        n = read(ends[0], child_output + size, sizeof(child_output) - 1 - size);
    }
    child_output[size] = 0;
    close(ends[0]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#define assert_says(text) \
    if (!strstr(child_output, text)) fail_msg("expected \"%s\" in the output, found \"%s\"", text, child_output)

static char test_dir_path[512];

__attribute__((unused)) static const char* test_dir(void) {
    if (test_dir_path[0]) return test_dir_path;
    const char* base = getenv("TMPDIR");
    snprintf(test_dir_path, sizeof(test_dir_path), "%s/ahead-io.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(test_dir_path)) fail_msg("cannot make a temporary folder %s", test_dir_path);
    return test_dir_path;
}

// Path of `name` in the temporary folder; valid until eight more calls.
__attribute__((unused)) static const char* test_path(const char* name) {
    static char paths[8][768];
    static int turn;
    char* path = paths[turn++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", test_dir(), name);
    return path;
}

// Ends the process with what a program's main returns for the words of a line; @ stands for the temporary folder, % for @ (a file
// of flags).
__attribute__((unused, noreturn)) static void run_line(int (*program_main)(int, char**), const char* name, const char* line) {
    char words[2048], *argv[32] = {(char*)name}, *save = NULL;
    int argc = 1;
    size_t n = 0;
    for (const char* p = line; *p; p++) {
        if (*p == '@') n += (size_t)snprintf(words + n, sizeof words - n, "%s", test_dir());
        else words[n++] = *p == '%' ? '@' : *p;
    }
    words[n] = '\0';
    for (char* word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save)) argv[argc++] = word;
    argv[argc] = NULL;
    exit(program_main(argc, argv));
}

__attribute__((unused)) static void write_text(const char* path, const char* text) {
    FILE* file = fopen(path, "wb");
    if (!file || fwrite(text, 1, strlen(text), file) != strlen(text) || fclose(file)) fail_msg("cannot write %s", path);
}

__attribute__((unused)) static int test_dir_remove(void** state) {
    char command[600];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf '%s'", test_dir());
    test_dir_path[0] = 0;
    return system(command);
}
