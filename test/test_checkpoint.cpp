/*
Checkpoints: what is written comes back bit for bit; every truncation, flipped byte, foreign file and other shape is refused with
its sentence; a failed or killed writer leaves the older checkpoints as they were.
*/
#include "child.h"

#include "llmc/io/checkpoint.h"

#include <sys/resource.h>

enum { STEP = 1200 };
static const char* flags_of_run = "--model d12\n--prompt \"a b\"\n";

// Five tensors whose sizes are not multiples of anything, and one large enough for several pieces.
static ParamTable make_table(int width) {
    ParamTable table;
    memset(&table, 0, sizeof(table));
    params_add_matrix(&table, "wte", 13, width, INIT_NORMAL, 0.02f, true);
    params_add_vector(&table, "h.0.ln.w", width, INIT_ONE, 0, false);
    params_add_matrix(&table, "h.0.qkv.w", 3 * width, width, INIT_NORMAL, 0.02f, true);
    params_add_vector(&table, "h.0.scale", 1, INIT_ONE, 0, false);
    int dims[3] = {2, 3, 5};
    params_add(&table, "h.0.conv", 3, dims, INIT_NORMAL, 1, true);
    return table;
}

// Value i of array a: all bit patterns may occur, NaN among them.
static float value_of(int array, size_t i) {
    uint32_t bits = (uint32_t)rand_at(77 + (uint64_t)array, i);
    float value;
    if (i == 3) bits = 0x7fc00001u;
    memcpy(&value, &bits, 4);
    return value;
}

static RunState make_state(void) {
    RunState s = run_state_start();
    s.step = STEP, s.tokens_seen = 629145600, s.adam_steps = STEP - 2, s.loss_scale_good = 17;
    s.loader[0] = 3, s.loader[1] = 98304, s.loader[2] = 1, s.loader[3] = 9600;
    s.outlier[0] = {3.25, 1e-9, 128}, s.outlier[1] = {0.5, 0.0, 3};
    s.shards = 5, s.shards_hash = 0x8000000000000001ull;
    s.loss_scale = 32768, s.sampler_state = 0xFEDCBA9876543210ull, s.train_seconds = 1234.1000000000001;
    return s;
}

static void fill(float* arena, const ParamTable* table, int array) {
    memset(arena, 0, table->size * 4);
    for (int id = 0; id < table->count; id++) {
        for (size_t i = 0; i < table->rows[id].size; i++)
            arena[table->rows[id].offset + i] = value_of(array, 1000 * (size_t)id + i);
    }
}

// Writes a checkpoint of `table` in pieces of at most `piece` values; the writer's verdict.
static bool save(const char* path, const ParamTable* table, int arrays, size_t piece, CheckpointWriter* w) {
    RunState state = make_state();
    float* arena = (float*)xmalloc(table->size * 4);
    checkpoint_writer_open(w, path, table, arrays, flags_of_run, &state);
    for (int a = 0; a < arrays; a++) {
        fill(arena, table, a);
        for (int id = 0; id < table->count; id++) {
            size_t size = table->rows[id].size;
            for (size_t at = 0; at < size; at += piece) {
                checkpoint_writer_put(w, id, a, arena + table->rows[id].offset + at, size - at < piece ? size - at : piece);
            }
        }
    }
    free(arena);
    return checkpoint_writer_close(w);
}

static void save_good(const char* path, int width) {
    ParamTable table = make_table(width);
    CheckpointWriter w;
    if (!save(path, &table, CHECKPOINT_ARRAYS, 1 << 20, &w)) fail_msg("%s", w.error);
    free(table.rows);
}

// Opens, matches and verifies; the error is in r->error. True when all of it is good.
static bool check_file(const char* path, CheckpointReader* r, const ParamTable* table, CheckpointMatch match) {
    if (!checkpoint_reader_open(r, path)) return false;
    bool good = checkpoint_reader_match(r, table, match) && checkpoint_reader_verify(r);
    checkpoint_reader_close(r);
    return good;
}

#define assert_error(r, text) \
    if (!strstr((r).error, text)) fail_msg("expected \"%s\" in the error, found \"%s\"", text, (r).error)

static void crc_vectors(void** state) {
    (void)state;
    assert_int_equal(crc32_add(0, "123456789", 9), 0xCBF43926u);
    assert_int_equal(crc32_add(0, "", 0), 0);
    uint8_t bytes[1000];
    for (int i = 0; i < 1000; i++) bytes[i] = (uint8_t)rand_at(1, (uint64_t)i);
    uint32_t whole = crc32_add(0, bytes, 1000), plain = ~0u;
    for (int i = 0; i < 1000; i++) {
        plain ^= bytes[i];
        for (int b = 0; b < 8; b++) plain = plain & 1 ? plain >> 1 ^ 0xEDB88320u : plain >> 1;
    }
    assert_int_equal(whole, ~plain);
    for (size_t cut = 0; cut <= 64; cut++) assert_int_equal(crc32_add(crc32_add(0, bytes, cut), bytes + cut, 1000 - cut), whole);
}

static void round_trip(void** state) {
    (void)state;
    const size_t pieces[] = {1, 7, 16, 100000};
    ParamTable table = make_table(9);
    float *expected = (float*)xmalloc(table.size * 4), *found = (float*)xcalloc(table.size * 4);
    for (int k = 0; k < 16; k++) {
        CheckpointWriter w;
        CheckpointReader r;
        const char* path = test_path("round.ckpt");
        if (!save(path, &table, CHECKPOINT_ARRAYS, pieces[k / 4], &w)) fail_msg("%s", w.error);
        if (!checkpoint_reader_open(&r, path) || !checkpoint_reader_match(&r, &table, MATCH_EXACT)) fail_msg("%s", r.error);
        assert_string_equal(r.flags, flags_of_run);
        RunState s = make_state();
        assert_memory_equal(&r.state, &s, sizeof(s));  // best_val is INFINITY
        for (int a = 0; a < CHECKPOINT_ARRAYS; a++) {
            fill(expected, &table, a);
            for (int id = 0; id < table.count; id++) {
                size_t size = table.rows[id].size, piece = pieces[k % 4];
                for (size_t at = 0; at < size; at += piece) {
                    size_t n = size - at < piece ? size - at : piece;
                    if (!checkpoint_reader_get(&r, id, a, found + table.rows[id].offset + at, n)) fail_msg("%s", r.error);
                }
            }
            assert_memory_equal(found, expected, table.size * 4);
        }
        checkpoint_reader_close(&r);
        assert_int_equal(access(test_path("round.ckpt.tmp"), F_OK), -1);
    }
    free(expected), free(found), free(table.rows);
}

static void run_state_lines(void** state) {
    (void)state;
    RunState s = make_state(), t = run_state_start();
    Text text = {0, 0, 0};
    run_state_text(&s, &text);
    assert_null(run_state_parse(&t, text.data));
    assert_memory_equal(&s, &t, sizeof(s));
    assert_string_equal(run_state_parse(&t, "step=5\ntokens_seen=x\n"), "tokens_seen");
    assert_string_equal(run_state_parse(&t, "xstep=5\n"), "step");
    assert_string_equal(run_state_parse(&t, "step=5"), "step");  // cut off
    const char* wrong[][2] = {{"step=-1", "step"},
                              {"step=4294967301", "step"},
                              {"step=99999999999999999999", "step"},
                              {"loss_scale=0", "loss_scale"},
                              {"loss_scale=nan", "loss_scale"},
                              {"train_seconds=inf", "train_seconds"}};
    for (auto& line : wrong) {  // a value out of range, before the good ones
        Text lie = {0, 0, 0};
        text_add(&lie, "%s\n%s", line[0], text.data);
        assert_string_equal(run_state_parse(&t, lie.data), line[1]);
        text_free(&lie);
    }
    text_add(&text, "of_a_later_version=1\n");
    assert_null(run_state_parse(&t, text.data));
    *strstr(text.data, "shards=") = 'x', *strstr(text.data, "shards_hash=") = 'x';  // an older version wrote neither
    assert_null(run_state_parse(&t, text.data));
    assert_int_equal(t.shards, 0);
    assert_int_equal(t.shards_hash, 0);
    text_free(&text);
}

static void truncated(void** state) {
    (void)state;
    ParamTable table = make_table(4);
    CheckpointReader r;
    save_good(test_path("whole.ckpt"), 4);
    size_t size;
    char* bytes = file_read(test_path("whole.ckpt"), 1 << 24, &size);
    if (!check_file(test_path("whole.ckpt"), &r, &table, MATCH_EXACT)) fail_msg("%s", r.error);
    for (size_t cut = 0; cut < size; cut += cut < 256 || size - cut < 80 ? 1 : 13) {
        FILE* file = fopen(test_path("cut.ckpt"), "wb");
        fwrite(bytes, 1, cut, file);
        fclose(file);
        assert_false(check_file(test_path("cut.ckpt"), &r, &table, MATCH_EXACT));
        assert_error(r, "cut.ckpt: truncated: ");
    }
    FILE* file = fopen(test_path("cut.ckpt"), "wb");  // one byte too many
    fwrite(bytes, 1, size, file);
    fputc(0, file);
    fclose(file);
    assert_false(check_file(test_path("cut.ckpt"), &r, &table, MATCH_EXACT));
    free(bytes), free(table.rows);
}

static void flipped_bytes(void** state) {
    (void)state;
    ParamTable table = make_table(4);
    CheckpointReader r;
    save_good(test_path("flip.ckpt"), 4);
    size_t size;
    char* bytes = file_read(test_path("flip.ckpt"), 1 << 24, &size);
    FILE* file = fopen(test_path("flip.ckpt"), "r+b");
    setvbuf(file, NULL, _IONBF, 0);
    for (size_t at = 0; at < size; at++) {  // every byte of the file
        fseek(file, (long)at, SEEK_SET);
        fputc(bytes[at] ^ 1 << at % 8, file);
        if (check_file(test_path("flip.ckpt"), &r, &table, MATCH_EXACT))
            fail_msg("byte %zu of %zu flipped and not noticed", at, size);
        fseek(file, (long)at, SEEK_SET);
        fputc(bytes[at], file);
    }
    fclose(file);
    if (!check_file(test_path("flip.ckpt"), &r, &table, MATCH_EXACT)) fail_msg("%s", r.error);
    free(bytes), free(table.rows);
}

static void foreign_files(void** state) {
    (void)state;
    ParamTable table = make_table(4);
    CheckpointReader r;
    char page[200];
    snprintf(page, sizeof(page), "<!DOCTYPE html>%150s", "");
    write_text(test_path("page.ckpt"), page);
    assert_false(check_file(test_path("page.ckpt"), &r, &table, MATCH_EXACT));
    assert_error(r, "not a checkpoint of this program: expected it to start with \"AHADCKP1\", found \"<!DOCTYPE html> \"");
    assert_false(check_file(test_path("none.ckpt"), &r, &table, MATCH_EXACT));
    assert_error(r, "none.ckpt: cannot open: No such file or directory");
    assert_false(check_file(test_dir(), &r, &table, MATCH_EXACT));
    assert_error(r, "not a file, expected a checkpoint");
    free(table.rows);
}

// Headers and directories that lie under valid checksums.
static void forged(void** state) {
    (void)state;
    ParamTable table = make_table(4);
    CheckpointReader r;
    size_t size;
    save_good(test_path("forged.ckpt"), 4);
    char* bytes = file_read(test_path("forged.ckpt"), 1 << 24, &size);
    char* copy = (char*)xmalloc(size);
    for (int lie = 0; lie < 19; lie++) {
        memcpy(copy, bytes, size);
        CheckpointHeader* h = (CheckpointHeader*)copy;
        CheckpointRow* row = (CheckpointRow*)(copy + h->payload - h->tensors * sizeof(CheckpointRow)) + 2;
        switch (lie) {
            case 0: h->version = 2; break;
            case 1: h->tensors = 0xffffffffu; break;
            case 2: h->arrays = 2; break;
            case 3: h->flags_bytes = 0xfffffff0u; break;
            case 4: h->payload = 1ull << 63; break;
            case 5: h->state_bytes += 64; break;
            case 6: row->dims[0] = -12; break;
            case 7: row->dims[0] = 1 << 30, row->dims[1] = 1 << 30, row->dims[2] = 16; break;
            case 8: row->elements = 1ull << 62; break;
            case 9: row->offset[2] = 1ull << 63; break;
            case 10: row->offset[0] = 0; break;
            case 11: row->offset[1] = size - 64; break;
            case 12: row->ndim = 4; break;
            case 13: memset(row->name, 'x', sizeof(row->name)); break;
            case 14: row->offset[0] = row[-1].offset[0]; break;  // two tensors in one place
            case 15: row->name[0] = 27; break;                   // what a terminal takes for a command
            case 16: row->dims[row->ndim] = 2, row->elements *= 2; break;
            case 17: memcpy(row->name, row[-1].name, sizeof(row->name)); break;
            case 18: h->arrays = 1; break;
        }
        if (h->payload <= size) h->meta_crc = crc32_add(0, copy + sizeof(*h), h->payload - sizeof(*h));
        h->header_crc = crc32_add(0, h, offsetof(CheckpointHeader, header_crc));
        FILE* file = fopen(test_path("forged.ckpt"), "wb");
        fwrite(copy, 1, size, file);
        fclose(file);
        if (check_file(test_path("forged.ckpt"), &r, &table, MATCH_EXACT)) fail_msg("lie %d was believed", lie);
        const char* found_out = lie < 6     ? "damaged: the counts in its header contradict each other"
                                : lie == 17 ? "damaged: it has two tensors "
                                : lie == 18 ? "damaged: its tensors do not end where the file does"
                                            : "damaged: row 2 of its directory";
        assert_error(r, lie == 0 ? "checkpoint format 2, this program reads format 1" : found_out);
    }
    free(bytes), free(copy), free(table.rows);
}

static void other_models(void** state) {
    (void)state;
    ParamTable same = make_table(4), wide = make_table(5), more = make_table(4), less = make_table(4);
    CheckpointReader r;
    params_add_vector(&more, "head.w", 3, INIT_ONE, 0, false);
    less.count--;
    save_good(test_path("model.ckpt"), 4);
    assert_false(check_file(test_path("model.ckpt"), &r, &wide, MATCH_EXACT));
    assert_error(r,
                 "model.ckpt: checkpoint of another shape: wte is (13, 4), this run expects (13, 5); start with the model flags");
    assert_false(check_file(test_path("model.ckpt"), &r, &wide, MATCH_PARTIAL));
    assert_false(check_file(test_path("model.ckpt"), &r, &more, MATCH_EXACT));
    assert_error(r, "checkpoint of another model: it has no tensor head.w");
    assert_false(check_file(test_path("model.ckpt"), &r, &less, MATCH_EXACT));
    assert_error(r, "checkpoint of another model: this run has no tensor h.0.conv");
    assert_true(check_file(test_path("model.ckpt"), &r, &less, MATCH_PARTIAL));
    assert_true(check_file(test_path("model.ckpt"), &r, &less, MATCH_WITHIN));
    assert_false(check_file(test_path("model.ckpt"), &r, &more, MATCH_WITHIN));
    assert_error(r, "checkpoint of another model: it has no tensor head.w");
    assert_true(checkpoint_reader_open(&r, test_path("model.ckpt")) && checkpoint_reader_match(&r, &more, MATCH_PARTIAL));
    assert_int_equal(r.row_of[5], -1);
    assert_int_equal(r.row_of[4], 4);
    checkpoint_reader_close(&r);
    ParamTable turned = make_table(4);  // as many elements
    turned.rows[4].dims[0] = 3, turned.rows[4].dims[1] = 2;
    assert_false(check_file(test_path("model.ckpt"), &r, &turned, MATCH_EXACT));
    assert_error(r, "checkpoint of another shape: h.0.conv is (2, 3, 5), this run expects (3, 2, 5)");
    free(turned.rows);

    Param swap = same.rows[0];  // another order of the same tensors is the same model
    same.rows[0] = same.rows[2], same.rows[2] = swap;
    assert_true(checkpoint_reader_open(&r, test_path("model.ckpt")) && checkpoint_reader_match(&r, &same, MATCH_EXACT));
    float found[52];
    assert_true(checkpoint_reader_get(&r, 2, 0, found, 52));
    for (size_t i = 0; i < 52; i++) {
        float expected = value_of(0, i);
        assert_memory_equal(&found[i], &expected, 4);
    }
    checkpoint_reader_close(&r);
    free(same.rows), free(wide.rows), free(more.rows), free(less.rows);
}

static void weights_only(void** state) {
    (void)state;
    ParamTable table = make_table(4);
    CheckpointWriter w;
    CheckpointReader r;
    float found[52];
    assert_true(save(test_path("weights.ckpt"), &table, 1, 100, &w));
    assert_true(checkpoint_reader_open(&r, test_path("weights.ckpt")) && checkpoint_reader_match(&r, &table, MATCH_EXACT));
    assert_true(checkpoint_reader_get(&r, 0, CHECKPOINT_MASTERS, found, 52));
    assert_false(checkpoint_reader_get(&r, 0, CHECKPOINT_M, found, 52));
    assert_error(r, "weights.ckpt: holds weights only, no optimizer state");
    checkpoint_reader_close(&r);
    free(table.rows);
}

static void save_step(const char* dir, int step) {
    char* path = checkpoint_path(dir, step);
    save_good(path, 4);
    free(path);
}

static void print_latest(const void* dir) {
    char* path = checkpoint_latest((const char*)dir);
    printf("latest: %s\n", path ? strrchr(path, '/') + 1 : "none");
    free(path);
}

static void latest_skips_damage(void** state) {
    (void)state;
    const char* dir = test_path("latest");
    mkdir(dir, 0777);
    assert_int_equal(run_child(print_latest, dir), 0);
    assert_string_equal(child_output, "latest: none\n");
    run_child(print_latest, test_path("no_such_dir"));
    assert_string_equal(child_output, "latest: none\n");
    for (int step = 10; step <= 30; step += 10) save_step(dir, step);
    write_text(test_path("latest/step_00000040.ckpt.tmp"), "half of it");
    write_text(test_path("latest/step_40.ckpt"), "short name");
    write_text(test_path("latest/step_0000004x.ckpt"), "not a number");
    run_child(print_latest, dir);
    assert_string_equal(child_output, "latest: step_00000030.ckpt\n");
    char* path = checkpoint_path(dir, 30);
    FILE* file = fopen(path, "r+b");
    fseek(file, -300, SEEK_END);
    fputc(getc(file) ^ 1, file);
    fclose(file);
    run_child(print_latest, dir);
    assert_says("step_00000030.ckpt: damaged: the checksum of tensor ");
    assert_says("latest: step_00000020.ckpt\n");
    assert_int_equal(truncate(path, 1000), 0);
    run_child(print_latest, dir);
    assert_says("warning: ");
    assert_says("step_00000030.ckpt: truncated: expected ");
    assert_says("warning: trying the checkpoint before it\n");
    assert_says("latest: step_00000020.ckpt\n");
    free(path);
    for (int step = 10; step <= 20; step += 10) {
        path = checkpoint_path(dir, step);
        write_text(path, "");
        free(path);
    }
    run_child(print_latest, dir);
    assert_says("warning: no older checkpoint is left\n");
    assert_says("latest: none\n");
}

// The steps in dir as text, newest first.
static const char* steps_in(const char* dir) {
    static char text[256];
    int64_t* steps;
    int count = checkpoint_list(dir, &steps), n = 0;
    text[0] = 0;
    for (int i = 0; i < count; i++) n += snprintf(text + n, sizeof(text) - (size_t)n, i ? " %d" : "%d", (int)steps[i]);
    free(steps);
    return text;
}

static void prune(void** state) {
    (void)state;
    const char* dir = test_path("prune");
    mkdir(dir, 0777);
    for (int step = 10; step <= 60; step += 10) save_step(dir, step);
    write_text(test_path("prune/step_00000070.ckpt.tmp"), "half");
    write_text(test_path("prune/notes.txt"), "mine");
    checkpoint_prune(dir, 0, 0, 60);
    assert_string_equal(steps_in(dir), "60 50 40 30 20 10");
    checkpoint_prune(dir, 4, 0, 60);
    assert_string_equal(steps_in(dir), "60 50 40 30");
    checkpoint_prune(dir, 2, 30, 60);
    assert_string_equal(steps_in(dir), "60 50 30");
    checkpoint_prune(dir, 1, 0, 50);  // the one just written stays even where another run left a newer one
    assert_string_equal(steps_in(dir), "60 50");
    checkpoint_prune(dir, 9, 0, 60);
    assert_string_equal(steps_in(dir), "60 50");
    assert_int_equal(access(test_path("prune/step_00000070.ckpt.tmp"), F_OK), -1);
    assert_int_equal(access(test_path("prune/notes.txt"), F_OK), 0);
}

static void save_on_full_disk(const void* path) {
    ParamTable table = make_table(64);
    CheckpointWriter w;
    struct rlimit limit = {20000, 20000};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    bool good = save((const char*)path, &table, CHECKPOINT_ARRAYS, 500, &w);
    printf("%d %s\n", good, w.error);
}

static void save_and_die(const void* path) {
    ParamTable table = make_table(64);
    CheckpointWriter w;
    RunState state = make_state();
    float value[64] = {0};
    checkpoint_writer_open(&w, (const char*)path, &table, CHECKPOINT_ARRAYS, flags_of_run, &state);
    checkpoint_writer_put(&w, 1, 0, value, 64);
    kill(getpid(), SIGKILL);
}

static void save_nothing(const void* path) {
    ParamTable table = make_table(4);
    RunState state = make_state();
    CheckpointWriter w;
    checkpoint_writer_open(&w, (const char*)path, &table, 1, "", &state);
    checkpoint_writer_close(&w);
}

static void failing_writers(void** state) {
    (void)state;
    assert_int_equal(run_child(save_nothing, test_path("nothing.ckpt")), EXIT_FAIL);
    assert_says("checkpoint: wte is incomplete");
    ParamTable table = make_table(4);
    CheckpointWriter w;
    const char* dir = test_path("fails");
    assert_false(save(test_path("no_dir/step_00000010.ckpt"), &table, 3, 100, &w));
    assert_error(w, "step_00000010.ckpt: cannot create its temporary file: No such file or directory; free some space or name");
    mkdir(dir, 0777);
    save_step(dir, 10);
    char *old_path = checkpoint_path(dir, 10), *path = checkpoint_path(dir, 20);
    assert_int_equal(run_child(save_on_full_disk, path), 0);
    assert_says("step_00000020.ckpt: cannot write: File too large; free some space or name another --output_dir");
    assert_string_equal(steps_in(dir), "10");
    assert_int_equal(access(test_path("fails/step_00000020.ckpt.tmp"), F_OK), -1);
    assert_int_equal(run_child(save_on_full_disk, old_path), 0);  // the same name: the old file stays whole
    assert_int_equal(run_child(save_and_die, path), -SIGKILL);
    assert_int_equal(access(test_path("fails/step_00000020.ckpt.tmp"), F_OK), 0);
    run_child(print_latest, dir);
    assert_string_equal(child_output, "latest: step_00000010.ckpt\n");
    save_step(dir, 20);  // over the rest of the killed one
    run_child(print_latest, dir);
    assert_string_equal(child_output, "latest: step_00000020.ckpt\n");
    free(path), free(old_path), free(table.rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_vectors),     cmocka_unit_test(round_trip),
        cmocka_unit_test(run_state_lines), cmocka_unit_test(truncated),
        cmocka_unit_test(flipped_bytes),   cmocka_unit_test(foreign_files),
        cmocka_unit_test(forged),          cmocka_unit_test(other_models),
        cmocka_unit_test(weights_only),    cmocka_unit_test(latest_skips_damage),
        cmocka_unit_test(prune),           cmocka_unit_test(failing_writers),
    };
    return cmocka_run_group_tests(tests, NULL, test_dir_remove);
}
