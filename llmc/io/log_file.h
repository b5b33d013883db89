/*
Log files of one line a record, each starting with its step: made, continued after a crash, or set aside. See logger.h for the
rule of what a resumed run keeps.
*/
#pragma once

#include "../base/text.h"
#include "file.h"

// mkdir -p. 0, or -1 with errno set.
UNUSED static int make_directories(const char* path) {
    char* p = text_copy(path);
    int result = 0;
    for (char* c = p + 1; result == 0; c++) {
        if (*c != '/' && *c) continue;
        char end = *c;
        *c = 0;
        if (mkdir(p, 0777) && errno != EEXIST) result = -1;
        *c = end;
        if (!end) break;
    }
    struct stat info;
    if (result == 0 && (stat(p, &info) || !S_ISDIR(info.st_mode))) {
        errno = ENOTDIR;
        result = -1;
    }
    int error = errno;
    free(p);
    errno = error;
    return result;
}

// Rewrites the file with the whole lines that belong to steps below resume_step; lines without `prefix` and a number stay.
static void log_file_keep(const char* path, const char* prefix, int64_t resume_step) {
    size_t size = 0, length = strlen(prefix);
    char* text = file_read(path, SIZE_MAX, &size);
    if (!text && errno == ENOENT) return;
    if (!text) fail("%s: cannot read: %s; make it readable or name another --output_dir", path, strerror(errno));
    NewFile file;
    new_file_open(&file, path);
    char* line = text;
    for (;;) {
        char* end = (char*)memchr(line, '\n', (size_t)(text + size - line));
        if (!end) break;  // what follows is empty or cut off
        bool record = !strncmp(line, prefix, length) && line[length] >= '0' && line[length] <= '9';
        bool kept = !record || strtoll(line + length, NULL, 10) < resume_step;
        if (kept) new_file_write(&file, line, (size_t)(end + 1 - line));
        line = end + 1;
    }
    new_file_commit(&file);
    free(text);
}

// Renames a log with content to the first free of <path>.1, <path>.2, ..
static void log_file_set_aside(const char* path) {
    struct stat info;
    if (stat(path, &info) || info.st_size == 0) return;
    Text aside = {0, 0, 0};
    int n = 1;
    do {
        aside.size = 0;
        text_add(&aside, "%s.%d", path, n++);
    } while (access(aside.data, F_OK) == 0);
    if (rename(path, aside.data)) fail("%s: cannot rename it to %s: %s", path, aside.data, strerror(errno));
    printf("kept the log of an earlier run as %s\n", aside.data);
    text_free(&aside);
}

// What a run finds as <dir>/<name> when it begins. resume_step < 0: a fresh run, an old log is set aside.
UNUSED static void log_file_begin(const char* dir, const char* name, const char* prefix, int64_t resume_step) {
    Text path = {0, 0, 0};
    text_add(&path, "%s/%s", dir, name);
    if (resume_step >= 0) log_file_keep(path.data, prefix, resume_step);
    else log_file_set_aside(path.data);
    text_free(&path);
}

// <dir>/<name> opened for appending.
UNUSED static FILE* log_file_open(const char* dir, const char* name) {
    Text path = {0, 0, 0};
    text_add(&path, "%s/%s", dir, name);
    FILE* file = fopen(path.data, "a");
    if (!file) fail("%s: cannot write: %s; name another --output_dir", path.data, strerror(errno));
    text_free(&path);
    return file;
}
