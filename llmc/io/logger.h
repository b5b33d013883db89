/*
What a run says: on the console, in <output_dir>/main.log, in <output_dir>/metrics.jsonl and in <output_dir>/samples.jsonl.

    console         step:12/4768 | val loss 10.824905                        | mtp loss with look-ahead objectives
                    step:12/4768 | loss 10.824905 | train_time:3.10s | step_avg:238.46ms | lr 9.14e-05 | norm 1.0123 | tps 52310
    main.log        s:12 val:10.824905                                       ntp:, mtp:, val_ce_2:.. with look-ahead objectives
                    s:12 trn:10.824905 lr:9.140625e-05 norm:1.012300 tps:52310               mtp:, ce_2:.. with them
    metrics.jsonl   {"step":12,"tokens":6291456,"time":3100.000,"train_loss":10.824905,...}
    samples.jsonl   {"step":12,"tokens":6291456,"time":3100.000,"text":"Once upon"}          prompt and what follows
    flags.txt       the effective flags: `@<output_dir>/flags.txt` repeats the run

New fields go to the end of a line, as ` key:%f`. A value that is NAN is "not known" and left out. Each line is one write, so a
killed run has whole lines only (or one cut at the end).

Resume. A checkpoint holds `step`, the next step to run: steps below it are in the weights, all others will be run again. So
logger_open(.., resume_step = that step, ..) rewrites the files with exactly the records of steps below resume_step (temporary
file and rename), and drops an unfinished last line. The validation of step resume_step itself is repeated, not doubled.
Call logger_sync before a checkpoint is written: then records below its step are on disk whenever the checkpoint is.
A run that starts afresh in a directory with logs keeps the old ones as main.log.1 and so on.

With an empty output_dir there are no files. On a terminal a progress line is rewritten in place on stderr; never in a file.
*/
#pragma once

#include "../base/text.h"
#include "file.h"
#include "log_file.h"

#include <math.h>
#include <sys/ioctl.h>
#include <time.h>

#define JSON_LINE "{\"step\":"  // how a record begins

enum { METRICS_MAX = 32 };

typedef struct {
    const char* key;  // a plain identifier: "ce_2"
    double value;
} Metric;

typedef struct {
    int64_t step;              // from 0
    int64_t tokens;            // trained on so far: a running sum, all ranks
    double loss;               // nats: mean training loss of the step, or validation loss (plain next token)
    double mtp_loss;           // validation with look-ahead objectives: their weighted sum; NAN: none
    double mtp_weight;         // current
    double train_seconds;      // training clock so far: validation, checkpoints and samples are off it
    double tokens_per_second;  // of this step
    double lr, grad_norm;
    double peak_memory_mb;
    Metric extra[METRICS_MAX];  // at line end, in this order
    int extras;
} StepRecord;

typedef struct {
    FILE *log, *metrics, *samples;  // NULL without an output_dir; samples: before the first one, too
    char dir[4096];
    char precision[16];
    int64_t num_iterations;
    bool progress;        // stderr is a terminal
    bool pending;         // a progress line stands there
    bool write_error;     // said once
    double begin, drawn;  // wall seconds: first progress call, last drawing
    int64_t begin_step;
} Logger;

// A record with everything but the step not known.
UNUSED static StepRecord step_record(int64_t step) {
    StepRecord r;
    memset(&r, 0, sizeof(r));
    r.step = step;
    r.loss = r.mtp_loss = r.mtp_weight = r.train_seconds = r.tokens_per_second = r.lr = r.grad_norm = r.peak_memory_mb = NAN;
    return r;
}

UNUSED static void step_record_add(StepRecord* r, const char* key, double value) {
    if (r->extras == METRICS_MAX) fail("a step record holds %d extra values; raise METRICS_MAX", METRICS_MAX);
    r->extra[r->extras].key = key, r->extra[r->extras].value = value;
    r->extras++;
}

static double wall_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Opens the logs before any training; a directory that cannot be written ends the program with one sentence. resume_step: the
// step of the checkpoint, -1 for a fresh run. flags: text for flags.txt, or NULL. precision: "bf16" etc., for metrics.jsonl.
UNUSED static void logger_open(Logger* l, const char* output_dir, int64_t resume_step, int64_t num_iterations,
                               const char* precision, const char* flags) {
    memset(l, 0, sizeof(*l));
    l->num_iterations = num_iterations;
    const char* term = getenv("TERM");
    l->progress = isatty(STDERR_FILENO) && term && strcmp(term, "dumb");
    snprintf(l->precision, sizeof(l->precision), "%s", precision);
    if (!*output_dir) return;
    if (strlen(output_dir) >= sizeof(l->dir) - 64) fail("--output_dir %.64s..: name too long; use another one", output_dir);
    snprintf(l->dir, sizeof(l->dir), "%s", output_dir);
    if (make_directories(output_dir)) {
        fail("--output_dir %s: cannot create this directory: %s; name another one", output_dir, strerror(errno));
    }
    log_file_begin(l->dir, "main.log", "s:", resume_step);
    log_file_begin(l->dir, "metrics.jsonl", JSON_LINE, resume_step);
    log_file_begin(l->dir, "samples.jsonl", JSON_LINE, resume_step);
    l->log = log_file_open(l->dir, "main.log");
    l->metrics = log_file_open(l->dir, "metrics.jsonl");
    if (!flags) return;
    Text path = {0, 0, 0};
    NewFile file;
    text_add(&path, "%s/flags.txt", l->dir);
    new_file_open(&file, path.data);
    new_file_write(&file, flags, strlen(flags));
    new_file_commit(&file);
    text_free(&path);
}

// Removes the progress line, so that something else can be printed.
UNUSED static void logger_clear(Logger* l) {
    if (l->pending) fputs("\r\033[K", stderr);
    l->pending = false;
}

// Files get the line at once; a full disk is said once and does not end the run.
static void logger_write(Logger* l, FILE* file, Text* line) {
    if (!file) return;
    text_add_char(line, '\n');
    bool good = fwrite(line->data, 1, line->size, file) == line->size;
    good = fflush(file) == 0 && good;
    if (good || l->write_error) return;
    logger_clear(l);
    fprintf(stderr, "warning: %s: cannot write the logs: %s; the run goes on without them\n", l->dir, strerror(errno));
    l->write_error = true;
}

static void json_number(Text* t, const char* key, int decimals, double x) {
    if (isnan(x)) return;
    if (isinf(x)) text_add(t, ",\"%s\":null", key);  // JSON has no infinity
    else if (decimals < 0) text_add(t, ",\"%s\":%.9g", key, x);
    else text_add(t, ",\"%s\":%.*f", key, decimals, x);
}

static Text json_begin(const StepRecord* r) {
    Text t = {0, 0, 0};
    text_add(&t, JSON_LINE "%lld,\"tokens\":%lld", (long long)r->step, (long long)r->tokens);
    json_number(&t, "time", 3, 1000 * r->train_seconds);
    return t;
}

static void logger_metrics(Logger* l, const StepRecord* r, bool validation) {
    if (!l->metrics) return;
    Text t = json_begin(r);
    if (validation) {
        json_number(&t, "val_loss", 6, r->loss);
        json_number(&t, "val_ntp_loss", 6, r->loss);
        json_number(&t, "val_mtp_loss", 6, r->mtp_loss);
    } else {
        json_number(&t, "train_loss", 6, r->loss);
        json_number(&t, "lr", -1, r->lr);
        json_number(&t, "grad_norm", -1, r->grad_norm);
        json_number(&t, "tokens_per_sec", 1, r->tokens_per_second);
    }
    json_number(&t, "mtp_weight", -1, r->mtp_weight);
    json_number(&t, "peak_memory_mb", 1, r->peak_memory_mb);
    for (int i = 0; i < r->extras; i++) json_number(&t, r->extra[i].key, -1, r->extra[i].value);
    text_add(&t, ",\"precision\":");
    text_add_json(&t, l->precision);
    text_add_char(&t, '}');
    logger_write(l, l->metrics, &t);
    text_free(&t);
}

static void logger_extras(Text* t, const StepRecord* r) {
    for (int i = 0; i < r->extras; i++) {
        if (!isnan(r->extra[i].value)) text_add(t, " %s:%f", r->extra[i].key, r->extra[i].value);
    }
}

// One validation: console, main.log, metrics.jsonl.
UNUSED static void logger_val(Logger* l, const StepRecord* r) {
    Text t = {0, 0, 0};
    text_add(&t, "s:%d val:%f", (int)r->step, r->loss);
    if (!isnan(r->mtp_loss)) text_add(&t, " ntp:%f mtp:%f", r->loss, r->mtp_loss);
    logger_extras(&t, r);
    logger_write(l, l->log, &t);
    text_free(&t);
    logger_metrics(l, r, true);
    logger_clear(l);
    printf("step:%d/%d | val loss %.6f", (int)r->step, (int)l->num_iterations, r->loss);
    if (!isnan(r->mtp_loss)) printf(" | mtp loss %.6f", r->mtp_loss);
    printf("\n");
    fflush(stdout);
}

// One optimizer step. The files get every step; the console line only with `console`, and the progress line moves otherwise.
UNUSED static void logger_train(Logger* l, const StepRecord* r, bool console) {
    Text t = {0, 0, 0};
    text_add(&t, "s:%d trn:%f", (int)r->step, r->loss);
    if (!isnan(r->lr)) text_add(&t, " lr:%e", r->lr);
    if (!isnan(r->grad_norm)) text_add(&t, " norm:%f", r->grad_norm);
    if (!isnan(r->tokens_per_second)) text_add(&t, " tps:%.0f", r->tokens_per_second);
    logger_extras(&t, r);
    logger_write(l, l->log, &t);
    text_free(&t);
    logger_metrics(l, r, false);
    if (!console) return;
    logger_clear(l);
    printf("step:%d/%d | loss %.6f | train_time:%.2fs | step_avg:%.2fms", (int)r->step, (int)l->num_iterations, r->loss,
           r->train_seconds, 1000 * r->train_seconds / (double)(r->step + 1));
    if (!isnan(r->lr)) printf(" | lr %.2e", r->lr);
    if (!isnan(r->grad_norm)) printf(" | norm %.4f", r->grad_norm);
    if (!isnan(r->tokens_per_second)) printf(" | tps %.0f", r->tokens_per_second);
    printf("\n");
    fflush(stdout);
}

// A line of metrics.jsonl alone: what the record has beside its step.
UNUSED static void logger_values(Logger* l, const StepRecord* r) { logger_metrics(l, r, false); }

// A whole sample, in UTF-8, for samples.jsonl; whoever drew it has shown it.
UNUSED static void logger_sample(Logger* l, const StepRecord* r, const char* text) {
    if (!l->metrics) return;
    if (!l->samples) l->samples = log_file_open(l->dir, "samples.jsonl");
    Text t = json_begin(r);
    text_add(&t, ",\"text\":");
    text_add_json(&t, text);
    text_add_char(&t, '}');
    logger_write(l, l->samples, &t);
    text_free(&t);
}

// Everything logged so far is on disk when this returns. Before each checkpoint.
UNUSED static void logger_sync(Logger* l) {
    if (l->log) fsync(fileno(l->log));
    if (l->metrics) fsync(fileno(l->metrics));
    if (l->samples) fsync(fileno(l->samples));
}

// The run is over: its last console line, and the files are closed. peak_memory_mb NAN: not known, no line.
UNUSED static void logger_close(Logger* l, double peak_memory_mb) {
    logger_clear(l);
    if (!isnan(peak_memory_mb)) printf("peak memory consumption: %d MiB\n", (int)peak_memory_mb);
    if (l->log) fclose(l->log);
    if (l->metrics) fclose(l->metrics);
    if (l->samples) fclose(l->samples);
    l->log = l->metrics = l->samples = NULL;
}

#include "progress.h"
