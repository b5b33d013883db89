/*
results.tsv: one line per finished run, so that a sweep is a table. Tab separated, header written once, flags last because they
are long; appended under a lock, so runs that end at the same moment do not mix. A line that a killed run left unfinished, or a
full disk, is taken away again. A run killed after its line was written has nothing left to train when it is resumed: `again`
says so, and then a line with its output_dir, steps and val_loss is not written twice.
*/
#pragma once

#include "../base/text.h"

#include <fcntl.h>
#include <math.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RESULTS_HEADER                                                                                           \
    "date\tcommit\tseed\tdevice\tprecision\tparameters\tsteps\ttokens\ttrain_seconds\tval_loss\tbest_val_loss\t" \
    "peak_memory_mb\toutput_dir\tflags\n"

typedef struct {
    const char* commit;  // "" = not known
    int64_t seed;
    const char* device;     // "NVIDIA A100", "cpu, 8 threads"
    const char* precision;  // "bf16"
    int64_t parameters, steps, tokens;
    double train_seconds;            // validation off the clock
    double val_loss, best_val_loss;  // nats; NAN = never validated
    double peak_memory_mb;           // NAN = not known
    const char *output_dir, *flags;  // flags: from flags_text, the whole effective set
    bool again;                      // resumed, and there was no step left to run
} RunResult;

enum { RESULTS_STEPS = 6, RESULTS_VAL_LOSS = 9, RESULTS_OUTPUT_DIR = 12 };  // columns, from 0

// A field must not hold a tab or a line end: both become a space.
static void results_field(Text* t, const char* s, char end) {
    for (; *s; s++) {
        bool last_newline = *s == '\n' && !s[1];
        if (!last_newline) text_add_char(t, *s == '\t' || *s == '\n' || *s == '\r' ? ' ' : *s);
    }
    text_add_char(t, end);
}

static void results_number(Text* t, int decimals, double x) {
    if (isnan(x)) text_add(t, "-\t");
    else text_add(t, "%.*f\t", decimals, x);
}

// All bytes at the end of the file, or none.
static bool results_write(int fd, const char* data, size_t bytes) {
    struct stat before;
    if (fstat(fd, &before)) return false;
    ssize_t n = write(fd, data, bytes);
    if (n >= 0 && (size_t)n == bytes) return true;
    if (n >= 0) errno = ENOSPC;  // what a short write to a file means
    int error = errno;
    if (ftruncate(fd, before.st_size)) error = errno;
    errno = error;
    return false;
}

// Column `column` of a line; *length: its bytes.
static const char* results_column(const char* line, int column, size_t* length) {
    for (; column > 0 && *line && *line != '\n'; line++) column -= *line == '\t';
    *length = strcspn(line, "\t\n");
    return line;
}

static bool results_same_column(const char* a, const char* b, int column) {
    size_t n, m;
    const char *x = results_column(a, column, &n), *y = results_column(b, column, &m);
    return n == m && !memcmp(x, y, n);
}

// Removes an unfinished last line; *has: a line of the same run with the same result is there.
static bool results_look(const char* path, int fd, const char* line, bool* has) {
    size_t size = 0;
    char* text = file_read(path, SIZE_MAX, &size);
    if (!text) return false;
    size_t whole = size;
    while (whole > 0 && text[whole - 1] != '\n') whole--;
    bool good = whole == size || ftruncate(fd, (off_t)whole) == 0;
    text[whole] = 0;
    *has = false;
    for (char* l = text; l < text + whole; l = (char*)memchr(l, '\n', (size_t)(text + whole - l)) + 1) {
        *has = *has || (results_same_column(l, line, RESULTS_STEPS) && results_same_column(l, line, RESULTS_VAL_LOSS) &&
                        results_same_column(l, line, RESULTS_OUTPUT_DIR));
    }
    free(text);
    return good;
}

// Appends one line to `path`. The run is over and its logs are written, so a failure is a warning: prints it, returns false.
UNUSED static bool results_append(const char* path, const RunResult* r) {
    Text t = {0, 0, 0};
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &utc);
    text_add(&t, "%s\t", date);
    results_field(&t, *r->commit ? r->commit : "-", '\t');
    text_add(&t, "%lld\t", (long long)r->seed);
    results_field(&t, r->device, '\t');
    results_field(&t, r->precision, '\t');
    text_add(&t, "%lld\t%lld\t%lld\t", (long long)r->parameters, (long long)r->steps, (long long)r->tokens);
    results_number(&t, 1, r->train_seconds);
    results_number(&t, 6, r->val_loss);
    results_number(&t, 6, r->best_val_loss);
    results_number(&t, 1, r->peak_memory_mb);
    results_field(&t, *r->output_dir ? r->output_dir : "-", '\t');
    results_field(&t, r->flags, '\n');

    char found[sizeof(RESULTS_HEADER)] = "";
    struct stat info;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    bool has = false;
    bool good = fd >= 0 && flock(fd, LOCK_EX) == 0 && fstat(fd, &info) == 0;
    if (good && S_ISREG(info.st_mode)) good = results_look(path, fd, t.data, &has) && fstat(fd, &info) == 0;
    if (good && info.st_size == 0) good = results_write(fd, RESULTS_HEADER, strlen(RESULTS_HEADER));
    good = good && pread(fd, found, strlen(RESULTS_HEADER), 0) >= 0;
    bool same = good && !strcmp(found, RESULTS_HEADER);
    if (same && !(r->again && has)) good = results_write(fd, t.data, t.size);
    if (!good) fprintf(stderr, "warning: %s: cannot append this run: %s\n", path, strerror(errno));
    else if (!same) fprintf(stderr, "warning: %s has other columns than this program writes: move it away\n", path);
    if (fd >= 0) close(fd);  // releases the lock
    text_free(&t);
    return good && same;
}
