/*
Files of a run that a later run reads: main.log and metrics.jsonl when it is resumed (llmc/io/log_file.h), results.tsv
(llmc/io/results.h), and names of checkpoints in its directory (llmc/io/checkpoint_dir.h).

    control | step (2) | text              control: 1 metrics.jsonl, 2 results.tsv, 4 the text is a name
*/
#include "fuzz.h"

#include "llmc/io/checkpoint_dir.h"
#include "llmc/io/log_file.h"
#include "llmc/io/results.h"

enum { HEAD = 3 };

static void names(const uint8_t* data, size_t size) {
    char name[256];
    int64_t* steps;
    size_t n = size < sizeof(name) - 1 ? size : sizeof(name) - 1;
    memcpy(name, data, n);
    name[n] = 0;
    if (strchr(name, '/') || !*name || !strcmp(name, ".") || !strcmp(name, "..")) return;
    fuzz_file(name, "", 0);
    fuzz_file("step_00000007.ckpt", "", 0);
    char* latest = checkpoint_latest(fuzz_dir);
    if (latest) fuzz_finding("%s is taken for a checkpoint", latest);
    checkpoint_prune(fuzz_dir, 1, 0, 7);
    free((checkpoint_list(fuzz_dir, &steps), steps));
    if (access(fuzz_path("step_00000007.ckpt"), F_OK)) fuzz_finding("the checkpoint just written was removed");
}

static void parse(const uint8_t* data, size_t size) {
    if (size < HEAD) return;
    int step = data[1] | data[2] << 8;
    const uint8_t* text = data + HEAD;
    if (data[0] & 4) {
        names(text, size - HEAD);
    } else if (data[0] & 2) {
        RunResult r = {"", 1, "cpu", "fp32", 10, step, 20, 1.5, 2.5, 2.5, NAN, "runs/a", "--seed 1\n", true};
        fuzz_file("results.tsv", text, size - HEAD);
        results_append(fuzz_path("results.tsv"), &r);
    } else {
        const char* name = data[0] & 1 ? "metrics.jsonl" : "main.log";
        fuzz_file(name, text, size - HEAD);
        log_file_begin(fuzz_dir, name, data[0] & 1 ? "{\"step\":" : "s:", step);
        FILE* log = log_file_open(fuzz_dir, name);
        fputs("end\n", log);
        fclose(log);
    }
}

static void seeds(void) {
    static const char log[] = {"\0\2\0s:0 trn:5.5\nnot a record\ns:1 trn:5.25\ns:2 val:5.0\ns:3 trn"};
    static const char metrics[] = {"\1\1\0{\"step\":0,\"loss\":5.5}\n{\"step\":1,\"loss\":5.25}\n"};
    uint8_t results[1024] = {2, 7, 0};
    size_t n = HEAD + strlen(RESULTS_HEADER);
    memcpy(results + HEAD, RESULTS_HEADER, n - HEAD);
    n += (size_t)sprintf((char*)results + n, "d\t-\t1\tcpu\tfp32\t10\t7\t20\t1.5\t2.500000\t2.500000\t-\truns/a\t--seed 1\nhalf");
    fuzz_seed("log", log, sizeof(log) - 1, NULL);
    fuzz_seed("metrics", metrics, sizeof(metrics) - 1, NULL);
    fuzz_seed("results", results, n, NULL);
    fuzz_seed("name", "\4\0\0step_00000012.ckpt.tmp", 26, NULL);
}

FUZZ_TARGET(parse, seeds, true)
