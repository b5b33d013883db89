/*
What a run reads off its step number and what it leaves behind: schedules, the loss scale, the logs byte for byte and their
continuation after a crash, results.tsv, the progress line, the plot.
*/
#include "child.h"

#include "llmc/io/logger.h"
#include "llmc/io/results.h"
#include "llmc/optim/guard.h"
#include "llmc/optim/schedule.h"

static char* read_text(const char* path) {
    static char text[65536];
    size_t size = 0;
    char* found = file_read(path, sizeof(text) - 1, &size);
    if (!found) fail_msg("cannot read %s", path);
    memcpy(text, found, size + 1);
    free(found);
    return text;
}

#define assert_near(a, b) assert_true(fabs((a) - (b)) <= 1e-15 + 1e-12 * fabs(b))

// ---------------------------------------------------------------------------------------------------------------------
static void trapezoid(void** state) {
    (void)state;
    const struct {
        int step;
        double lr;
    } rows[] = {{0, 7.03125e-6}, {127, 9e-4},    {254, 1.79296875e-3},    {255, 1.8e-3}, {256, 1.8e-3},
                {2000, 1.8e-3},  {3744, 1.8e-3}, {3745, 1.7982421875e-3}, {4256, 9e-4},  {4767, 1.7578125e-6},
                {4768, 0},       {5000, 0}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_near(learning_rate_at(SCHEDULE_TRAPEZOID, rows[i].step, 4768, 0.0018, 256, 1024, 0), rows[i].lr);
    }
    assert_near(learning_rate_at(SCHEDULE_TRAPEZOID, 4768, 4768, 0.0018, 256, 1024, 0.1), 1.8e-4);
    assert_near(learning_rate_at(SCHEDULE_TRAPEZOID, 4256, 4768, 0.0018, 256, 1024, 0.1), 0.55 * 1.8e-3);
    for (int step = 0; step < 10; step++) assert_near(learning_rate_at(SCHEDULE_TRAPEZOID, step, 10, 1e-4, 0, 0, 0), 1e-4);
    assert_near(learning_rate_at(SCHEDULE_TRAPEZOID, 6, 10, 1, 8, 8, 0), 7.0 / 8);  // ranges overlap: warmup wins
    assert_near(learning_rate_at(SCHEDULE_TRAPEZOID, 8, 10, 1, 8, 8, 0), 2.0 / 8);
}

static void other_schedules(void** state) {
    (void)state;
    assert_near(learning_rate_at(SCHEDULE_COSINE, 0, 1100, 3e-4, 100, 0, 0.1), 3e-6);
    assert_near(learning_rate_at(SCHEDULE_COSINE, 100, 1100, 3e-4, 100, 0, 0.1), 3e-4);
    assert_near(learning_rate_at(SCHEDULE_COSINE, 600, 1100, 3e-4, 100, 0, 0.1), 1.65e-4);
    assert_near(learning_rate_at(SCHEDULE_COSINE, 350, 1100, 3e-4, 100, 0, 0), 3e-4 * 0.5 * (1 + sqrt(0.5)));
    assert_near(learning_rate_at(SCHEDULE_COSINE, 1100, 1100, 3e-4, 100, 0, 0.1), 3e-5);
    assert_near(learning_rate_at(SCHEDULE_COSINE, 2000, 1100, 3e-4, 100, 0, 0.1), 3e-5);
    assert_near(learning_rate_at(SCHEDULE_LINEAR, 99, 1100, 1, 100, 0, 0.2), 1);
    assert_near(learning_rate_at(SCHEDULE_LINEAR, 600, 1100, 1, 100, 0, 0.2), 0.6);
    assert_near(learning_rate_at(SCHEDULE_LINEAR, 1100, 1100, 1, 100, 0, 0.2), 0.2);
    assert_near(learning_rate_at(SCHEDULE_CONSTANT, 49, 1000, 1, 100, 500, 0), 0.5);
    assert_near(learning_rate_at(SCHEDULE_CONSTANT, 999, 1000, 1, 100, 500, 0), 1);
    assert_near(learning_rate_at(SCHEDULE_LINEAR, 5, 5, 1, 5, 0, 0), 0);  // no step left after the warmup
}

static void objective_weights(void** state) {
    (void)state;
    const int steps[] = {0, 1, 16, 31, 32, 33, 100000};
    const double weights[] = {0, 0.0109375, 0.175, 0.3390625, 0.35, 0.35, 0.35};
    for (int i = 0; i < 7; i++) assert_near(0.35 * ramp(steps[i], 32), weights[i]);
    assert_true(ramp(0, 0) == 1);
    assert_true(decay_factor(0.5, 1, 1) == 1 && decay_factor(1, 1, 1) == 1);  // the defaults never decay
    assert_true(decay_factor(0.4, 0.5, 0.75) == 1 && decay_factor(0.5, 0.5, 0.75) == 1);
    assert_near(decay_factor(0.625, 0.5, 0.75), 0.5);
    assert_true(decay_factor(0.75, 0.5, 0.75) == 0 && decay_factor(1, 0.5, 0.75) == 0);
    assert_true(decay_factor(0.49, 0.5, 0.5) == 1 && decay_factor(0.5, 0.5, 0.5) == 0);
}

static void loss_scale(void** state) {
    (void)state;
    const bool finite[] = {true, true, true, false, true, true};
    const float scales[] = {65536, 131072, 131072, 65536, 65536, 131072};
    LossScale s = loss_scale_start();
    assert_true(s.scale == 65536);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(loss_scale_update(&s, finite[i], 2), finite[i]);
        assert_true(s.scale == scales[i]);
    }
    s = loss_scale_start();
    for (int i = 0; i < 1999; i++) loss_scale_update(&s, true, LOSS_SCALE_INTERVAL);
    assert_true(s.scale == 65536);
    loss_scale_update(&s, true, LOSS_SCALE_INTERVAL);
    assert_true(s.scale == 131072 && s.good_steps == 0);
    for (int i = 0; i < 100; i++) loss_scale_update(&s, true, 1);
    assert_true(s.scale == LOSS_SCALE_MAX);
    for (int i = 0; i < 24; i++) {
        assert_false(loss_scale_exhausted(&s, false));
        loss_scale_update(&s, false, 2000);
    }
    assert_true(s.scale == 1 && loss_scale_exhausted(&s, false) && !loss_scale_exhausted(&s, true));
    loss_scale_update(&s, false, 2000);
    assert_true(s.scale == 1);
}

// ---------------------------------------------------------------------------------------------------------------------
static StepRecord train_record(int step) {
    StepRecord r = step_record(step);
    r.loss = 10.5 - step, r.tokens = 524288 * (step + 1), r.train_seconds = 1.5 * (step + 1), r.tokens_per_second = 349525.33;
    r.lr = 7.03125e-6 * (step + 1), r.grad_norm = 1.25, r.peak_memory_mb = 1234.5;
    return r;
}

static StepRecord val_record(int step) {
    StepRecord r = step_record(step);
    r.loss = 10.9748 - step, r.tokens = 524288 * step, r.train_seconds = 1.5 * step, r.peak_memory_mb = 1234.5;
    return r;
}

// Runs steps first..last-1 the way the trainer does: validation and a sample at even steps, then the step.
static void log_steps(Logger* l, int first, int last) {
    for (int step = first; step < last; step++) {
        StepRecord v = val_record(step), t = train_record(step);
        if (step % 2 == 0) logger_val(l, &v), logger_sample(l, &v, "a \"word\"\n\tand \xC3\xA9");
        logger_train(l, &t, true);
    }
}

static void log_one_run(const void* dir) {
    Logger l;
    logger_open(&l, (const char*)dir, -1, 4768, "bf16", "--model d12\n");
    StepRecord r = val_record(0);
    logger_val(&l, &r);
    r.mtp_loss = 11.75, r.mtp_weight = 0.35;
    step_record_add(&r, "ce_2", 11.25);
    step_record_add(&r, "absent", NAN);
    logger_val(&l, &r);
    r = train_record(0);
    logger_train(&l, &r, true);
    step_record_add(&r, "ce_2", 11.25);
    logger_train(&l, &r, false);
    r = step_record(1);
    r.loss = INFINITY, r.train_seconds = 3;
    logger_train(&l, &r, true);
    logger_progress(&l, &r);
    logger_sync(&l);
    logger_close(&l, 1234.5);
}

static void log_formats(void** state) {
    (void)state;
    const char* console =
        "step:0/4768 | val loss 10.974800\n"
        "step:0/4768 | val loss 10.974800 | mtp loss 11.750000\n"
        "step:0/4768 | loss 10.500000 | train_time:1.50s | step_avg:1500.00ms | lr 7.03e-06 | norm 1.2500 | tps 349525\n"
        "step:1/4768 | loss inf | train_time:3.00s | step_avg:1500.00ms\n"
        "peak memory consumption: 1234 MiB\n";
    assert_int_equal(run_child(log_one_run, test_path("a/deep/run")), 0);
    assert_string_equal(child_output, console);
    assert_string_equal(read_text(test_path("a/deep/run/main.log")),
                        "s:0 val:10.974800\n"
                        "s:0 val:10.974800 ntp:10.974800 mtp:11.750000 ce_2:11.250000\n"
                        "s:0 trn:10.500000 lr:7.031250e-06 norm:1.250000 tps:349525\n"
                        "s:0 trn:10.500000 lr:7.031250e-06 norm:1.250000 tps:349525 ce_2:11.250000\n"
                        "s:1 trn:inf\n");
    assert_string_equal(
        read_text(test_path("a/deep/run/metrics.jsonl")),
        "{\"step\":0,\"tokens\":0,\"time\":0.000,\"val_loss\":10.974800,\"val_ntp_loss\":10.974800,\"peak_memory_mb\":1234.5,"
        "\"precision\":\"bf16\"}\n"
        "{\"step\":0,\"tokens\":0,\"time\":0.000,\"val_loss\":10.974800,\"val_ntp_loss\":10.974800,\"val_mtp_loss\":11.750000,"
        "\"mtp_weight\":0.35,\"peak_memory_mb\":1234.5,\"ce_2\":11.25,\"precision\":\"bf16\"}\n"
        "{\"step\":0,\"tokens\":524288,\"time\":1500.000,\"train_loss\":10.500000,\"lr\":7.03125e-06,\"grad_norm\":1.25,"
        "\"tokens_per_sec\":349525.3,\"peak_memory_mb\":1234.5,\"precision\":\"bf16\"}\n"
        "{\"step\":0,\"tokens\":524288,\"time\":1500.000,\"train_loss\":10.500000,\"lr\":7.03125e-06,\"grad_norm\":1.25,"
        "\"tokens_per_sec\":349525.3,\"peak_memory_mb\":1234.5,\"ce_2\":11.25,\"precision\":\"bf16\"}\n"
        "{\"step\":1,\"tokens\":0,\"time\":3000.000,\"train_loss\":null,\"precision\":\"bf16\"}\n");
    assert_string_equal(read_text(test_path("a/deep/run/flags.txt")), "--model d12\n");
    assert_int_equal(run_child(log_one_run, ""), 0);  // no output_dir: the same console, no file
    assert_string_equal(child_output, console);
}

typedef struct {
    const char* dir;
    int saved, crash;  // checkpoint of step `saved`, killed after step `crash`; crash = 10 is the end of the run
} Crash;

static void crash_and_resume(const void* argument) {
    const Crash* c = (const Crash*)argument;
    Logger l;
    logger_open(&l, c->dir, 0, 10, "fp32", NULL);
    log_steps(&l, 0, c->crash);
    fputs("s:1", l.log);  // cut in the middle of "s:10 ..": must not pass for step 1
    fputs("{\"step\":1", l.metrics);
    if (l.samples) fputs("{\"step\":1", l.samples);
    logger_close(&l, NAN);
    logger_open(&l, c->dir, c->saved, 10, "fp32", NULL);
    log_steps(&l, c->saved, 10);
    StepRecord last = val_record(10);
    logger_val(&l, &last);
    logger_close(&l, NAN);
}

static const char* read_log(const char* run, int which) {
    static const char* const files[3] = {"main.log", "metrics.jsonl", "samples.jsonl"};
    char name[64];
    snprintf(name, sizeof(name), "%s/%s", run, files[which]);
    return read_text(test_path(name));
}

static void resume_keeps_each_line_once(void** state) {
    (void)state;
    static char whole[3][4096];
    Crash none = {test_path("once"), 0, 0};
    assert_int_equal(run_child(crash_and_resume, &none), 0);
    for (int f = 0; f < 3; f++) strcpy(whole[f], read_log("once", f));
    const char* sample =
        "{\"step\":0,\"tokens\":0,\"time\":0.000,\"text\":\"a \\\"word\\\"\\u000a\\u0009and \xC3\xA9\"}\n{\"step\":2,";
    assert_memory_equal(whole[2], sample, strlen(sample));
    for (int crash = 0; crash <= 10; crash++) {
        for (int saved = 0; saved <= crash; saved += 3) {
            Crash c = {test_path("again"), saved, crash};
            assert_int_equal(run_child(crash_and_resume, &c), 0);
            for (int f = 0; f < 3; f++) assert_string_equal(read_log("again", f), whole[f]);
        }
    }
    Logger l;
    write_text(test_path("again/main.log"), "# a note\ns:5 trn:1.000000\ns:7 val:1.000000\ns:8 trn:1.000000\n");
    logger_open(&l, test_path("again"), 8, 10, "fp32", NULL);
    logger_close(&l, NAN);
    assert_string_equal(read_text(test_path("again/main.log")), "# a note\ns:5 trn:1.000000\ns:7 val:1.000000\n");
}

static void fresh_run_keeps_old_logs(void** state) {
    (void)state;
    write_text(test_path("old.log"), "first\n");
    log_file_set_aside(test_path("old.log"));
    write_text(test_path("old.log"), "second\n");
    log_file_set_aside(test_path("old.log"));
    log_file_set_aside(test_path("old.log"));  // nothing there
    assert_string_equal(read_text(test_path("old.log.1")), "first\n");
    assert_string_equal(read_text(test_path("old.log.2")), "second\n");
    assert_int_equal(access(test_path("old.log"), F_OK), -1);
}

static void open_and_close(const void* dir) {
    Logger l;
    logger_open(&l, (const char*)dir, -1, 10, "fp32", NULL);
    logger_close(&l, NAN);
}

static void unwritable_output_dir(void** state) {
    (void)state;
    write_text(test_path("plain_file"), "x");
    assert_int_equal(run_child(open_and_close, test_path("plain_file/run")), 1);
    assert_says("error: --output_dir ");
    assert_says("plain_file/run: cannot create this directory: Not a directory; name another one\n");
    assert_int_equal(run_child(open_and_close, test_path("plain_file")), 1);
    assert_says("cannot create this directory: Not a directory");
    mkdir(test_path("taken"), 0777);
    mkdir(test_path("taken/main.log"), 0777);
    mkdir(test_path("taken/main.log/x"), 0777);
    assert_int_equal(run_child(open_and_close, test_path("taken")), 0);  // set aside like a file
    assert_int_equal(make_directories(test_path("d1//d2/")), 0);
    assert_int_equal(make_directories(test_path("d1/d2")), 0);
}

static void progress_line(void** state) {
    (void)state;
    Text t = {0, 0, 0};
    char b[32];
    progress_text(&t, 2003, 4768, 1003, 1500, 3.8124, 52310);
    assert_string_equal(t.data, "[========>           ]  42%  step 2003/4768  loss 3.8124  52.3k tok/s  ETA 1h09m");
    t.size = 0;
    progress_text(&t, 10, 10, 0, 5, 2, NAN);
    assert_string_equal(t.data, "[====================] 100%  step 10/10  loss 2.0000  ETA 0s");
    text_free(&t);
    assert_string_equal(duration_text(b, sizeof(b), 59.4), "59s");
    assert_string_equal(duration_text(b, sizeof(b), 200), "3m20s");
    assert_string_equal(duration_text(b, sizeof(b), 183600), "2d03h");
    assert_string_equal(count_text(b, sizeof(b), 999), "999");
    assert_string_equal(count_text(b, sizeof(b), 1.2e6), "1.20M");
}

// ---------------------------------------------------------------------------------------------------------------------
static RunResult a_result(void) {
    RunResult r;
    memset(&r, 0, sizeof(r));
    r.commit = "", r.seed = 42, r.device = "cpu,\t2 threads", r.precision = "fp32", r.parameters = 124475904, r.steps = 4768;
    r.tokens = 2499805184, r.train_seconds = 12.34, r.val_loss = 3.28, r.best_val_loss = 3.28, r.peak_memory_mb = NAN;
    r.output_dir = "runs/a", r.flags = "--model d12\n--seed 42\n";
    return r;
}

static void append_twenty(const void* path) {
    RunResult r = a_result();
    for (int i = 0; i < 20; i++) results_append((const char*)path, &r);
}

static void results_table(void** state) {
    (void)state;
    const char* path = test_path("results.tsv");
    RunResult r = a_result();
    assert_true(results_append(path, &r));
    char* line = strchr(read_text(path), '\n') + 1;
    assert_memory_equal(read_text(path), RESULTS_HEADER, strlen(RESULTS_HEADER));
    assert_string_equal(line + 20,
                        "\t-\t42\tcpu, 2 threads\tfp32\t124475904\t4768\t2499805184\t12.3\t3.280000\t3.280000\t-\truns/a\t"
                        "--model d12 --seed 42\n");
    for (int i = 0; i < 4; i++) {  // four runs end at once
        if (fork() == 0) append_twenty(test_path("crowd.tsv")), _exit(0);
    }
    while (wait(NULL) > 0) continue;
    int lock = open(test_path("locked.tsv"), O_RDWR | O_CREAT, 0666);
    flock(lock, LOCK_EX);
    if (fork() == 0) close(lock), append_twenty(test_path("locked.tsv")), _exit(0);
    usleep(100000);
    assert_string_equal(read_text(test_path("locked.tsv")), "");  // it waits for the lock
    close(lock);
    while (wait(NULL) > 0) continue;
    assert_memory_equal(read_text(test_path("locked.tsv")), "date", 4);
    int lines = 0, headers = 0;
    for (char* at = read_text(test_path("crowd.tsv")); *at; at = strchr(at, '\n') + 1)
        lines++, headers += !strncmp(at, "date", 4);
    assert_int_equal(lines, 81);
    assert_int_equal(headers, 1);
    write_text(test_path("mine.tsv"), "my\tcolumns\n1\t2\n");
    run_child(append_twenty, test_path("mine.tsv"));
    assert_says("mine.tsv has other columns than this program writes: move it away");
    assert_string_equal(read_text(test_path("mine.tsv")), "my\tcolumns\n1\t2\n");
    run_child(append_twenty, test_path("no_dir/results.tsv"));
    assert_says("warning: ");
    assert_says("no_dir/results.tsv: cannot append this run: No such file or directory\n");
}

static void shell(const void* command) { exit(system((const char*)command) ? 1 : 0); }

static int curve(const char* arguments) {
    char command[4096];
    snprintf(command, sizeof(command), "cd '%s' && awk -f \"$OLDPWD/scripts/curve.awk\" %s", test_dir(), arguments);
    return run_child(shell, command);
}

static void curves(void** state) {
    (void)state;
    if (access("scripts/curve.awk", R_OK)) skip();  // run from another directory
    write_text(test_path("c.log"),
               "s:0 val:5.500000\ns:0 trn:5.000000 lr:1e-3\nnoise\ns:1 trn:3.000000\ns:2 trn:1.000000\ns:3 val:1.500000\n");
    assert_int_equal(curve("-v svg=c.svg -v title='a < b' -v refs='unigram=3.25' c.log"), 0);
    assert_string_equal(child_output, "train 5.0000 \xe2\x96\x88\xe2\x96\x86\xe2\x96\x81 1.0000\n");
    const char* svg = read_text(test_path("c.svg"));
    assert_non_null(strstr(svg, "a &lt; b"));
    assert_non_null(strstr(svg, "unigram 3.25"));
    assert_non_null(strstr(svg, "</svg>"));
    assert_null(strstr(svg, "nan"));
    assert_int_equal(curve("c.log"), 0);
    write_text(test_path("one.log"), "s:0 trn:5.000000\n");
    assert_int_equal(curve("-v svg=c.svg one.log c.log"), 0);
    write_text(test_path("empty.log"), "nothing here\n");
    assert_int_equal(curve("empty.log"), 1);
    assert_says("empty.log: holds no loss: expected lines like");
    assert_int_equal(curve("-v refs=x c.log"), 1);
    assert_says("\"x\" is not label=number");
    assert_int_equal(curve(""), 1);
    assert_says("no log named");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trapezoid),
        cmocka_unit_test(other_schedules),
        cmocka_unit_test(objective_weights),
        cmocka_unit_test(loss_scale),
        cmocka_unit_test(log_formats),
        cmocka_unit_test(resume_keeps_each_line_once),
        cmocka_unit_test(fresh_run_keeps_old_logs),
        cmocka_unit_test(unwritable_output_dir),
        cmocka_unit_test(progress_line),
        cmocka_unit_test(results_table),
        cmocka_unit_test(curves),
    };
    return cmocka_run_group_tests(tests, NULL, test_dir_remove);
}
