/*
Checkpoints (llmc/io/checkpoint_read.h): opened, verified, matched with a table, read in pieces, taken as a run's newest one. It
may name no other file.

    control chunk | file              control: see sign.h
*/
#include "fuzz.h"

#include "sign.h"

#include "llmc/io/checkpoint_dir.h"

enum { HEAD = 2 };

static ParamTable small_table(void) {
    ParamTable t;
    memset(&t, 0, sizeof(t));
    params_add_matrix(&t, "wte", 5, 3, INIT_ZERO, 0, false);
    params_add_vector(&t, "lnf.w", 3, INIT_ZERO, 0, false);
    return t;
}

static void read_all(CheckpointReader* r, const ParamTable* table, size_t chunk) {
    for (int id = 0; id < table->count; id++) {
        if (r->row_of[id] < 0) continue;
        size_t left = table->rows[id].size;
        while (left) {
            float values[300];
            size_t n = left < chunk ? left : chunk;
            if (!checkpoint_reader_get(r, id, CHECKPOINT_MASTERS, values, n)) return;
            left -= n;
        }
    }
}

// What a reader that was opened promises to those who use it
static void check_promises(const CheckpointReader* r, size_t size) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < r->header.tensors; i++) {
        bytes += r->header.arrays * r->rows[i].elements * 4;
        for (uint32_t j = 0; j < i; j++) {
            if (!strcmp(r->rows[i].name, r->rows[j].name)) fuzz_finding("two tensors are called %s", r->rows[i].name);
        }
    }
    if (bytes > size) fuzz_finding("%llu bytes of tensors in a file of %zu", (unsigned long long)bytes, size);
    const RunState* s = &r->state;
    if (s->step < 0 || s->loader[0] < 0 || s->loader[1] < 0 || s->adam_steps < 0 || !(s->loss_scale > 0)) {
        fuzz_finding("an impossible state passed");
    }
}

static void parse(const uint8_t* data, size_t size) {
    static uint8_t file[SIGN_ROOM];
    fuzz_reads = "step_00000003.ckpt";
    if (size < HEAD || size - HEAD > SIGN_ROOM) return;
    memcpy(file, data + HEAD, size - HEAD);
    size_t bytes = sign_checkpoint(file, size - HEAD, data[0]);
    const char* path = fuzz_file(fuzz_reads, file, bytes);
    CheckpointReader r;
    for (int match = MATCH_EXACT; match <= MATCH_PARTIAL; match++) {
        if (!checkpoint_reader_open(&r, path)) return;
        check_promises(&r, bytes);
        ParamTable table = small_table();
        if (checkpoint_reader_match(&r, &table, (CheckpointMatch)match)) read_all(&r, &table, (size_t)data[1] + 1);
        free(table.rows);
        checkpoint_reader_close(&r);
    }
    char* latest = checkpoint_latest(fuzz_dir);
    checkpoint_prune(fuzz_dir, 1, 0, r.state.step);
    free(latest);
}

static void seeds(void) {
    ParamTable table = small_table();
    RunState state = run_state_start();
    const uint8_t head[HEAD] = {SIGN_SUMS | SIGN_SIZES | SIGN_OFFSETS | SIGN_TENSORS, 4}, raw[HEAD] = {0, 255};
    const float values[15] = {1, 2, 3, 4};
    state.step = 3;
    for (int arrays = 1; arrays <= CHECKPOINT_ARRAYS; arrays += 2) {
        CheckpointWriter w;
        checkpoint_writer_open(&w, fuzz_path("a.ckpt"), &table, arrays, "--vocab_size 5\n", &state);
        for (int a = 0; a < arrays; a++) {
            for (int id = 0; id < table.count; id++) checkpoint_writer_put(&w, id, a, values, table.rows[id].size);
        }
        checkpoint_writer_close(&w);
        fuzz_seed(arrays == 1 ? "weights" : "run", arrays == 1 ? raw : head, HEAD, fuzz_path("a.ckpt"));
    }
    free(table.rows);
}

FUZZ_TARGET(parse, seeds, true)
