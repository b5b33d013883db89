/*
--init_from FILE: a run that starts from the weights of another one, at step 0 and with a fresh optimizer. FILE is a checkpoint of
a run, or one of scripts/import_hf and scripts/import_llmc, which hold weights only.

    file    | wte | wpe | h.0.ln1.w | .. | lnf.b | mtp.2.w |            found by name, shapes must be equal, but
    model   | wte | wpe | h.0.ln1.w | .. | lnf.b | spell.w | spell.b |

        wpe                         the model takes the first --sequence_length rows of it
        spell, mtp: heads that only training needs (Param.group) may be in one of the two alone: they are left, or start anew

The model of the file must be the model of the run, also where no shape tells (heads, GELU, positions): the Model flags stored in
it are compared one by one, sizes as numbers and what the tensors show by the tensors. A new Model flag is compared unless it is
named below. Tried and dropped: taking the flags from the file (the line of a run would no longer say what it trains).
*/
#pragma once

#include "../base/flags.h"
#include "../io/checkpoint.h"
#include "setup.cuh"

// Model flags that need not be equal as text: sizes, which the Config and the shapes tell, and what tensors tell.
static bool init_flag_may_differ(const char* name) {
    static const char* names[] = {"model",         "n_layer", "n_head",    "n_embd",     "sequence_length",
                                  "tie_embedding", "head",    "embedding", "table_size", "codebook"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(names[i], name)) return true;
    }
    return false;
}

// `file` and `run` are the flags of both, L, NH and C of the file's model. A difference ends the program.
static void init_check_flags(const char* path, const FlagTable* file, const FlagTable* run, const Config* of_file,
                             const Config* c) {
    const char* section = "";
    for (int i = 0; i < run->count; i++) {
        const FlagDef* d = &run->defs[i];
        if (d->kind == FLAG_SECTION) section = d->name;
        if (d->kind == FLAG_SECTION || strcmp(section, "Model") || init_flag_may_differ(d->name)) continue;
        Text found = {0, 0, 0}, expected = {0, 0, 0};
        flag_add_line(&found, file, i, 0);
        flag_add_line(&expected, run, i, 0);
        if (strcmp(found.data, expected.data)) {
            fail("--init_from %s: its model was made with %s, this run has %s; add %s, or start from another file", path,
                 found.data, expected.data, found.data);
        }
        text_free(&found), text_free(&expected);
    }
    if (of_file->L != c->L || of_file->NH != c->NH || of_file->C != c->C) {
        fail(
            "--init_from %s: its model has %d layers, %d heads, width %d, this run's %d, %d, %d; add --n_layer %d --n_head %d "
            "--n_embd %d",
            path, of_file->L, of_file->NH, of_file->C, c->L, c->NH, c->C, of_file->L, of_file->NH, of_file->C);
    }
}

static bool init_training_only(const char* name) { return !strncmp(name, "mtp.", 4) || !strncmp(name, "spell.", 6); }

// Row of the file that holds parameter `id`; -1: it has none, and need not.
static int init_row(const Model* m, const CheckpointReader* r, const char* path, int id) {
    const Param* p = &m->table.rows[id];
    for (uint32_t i = 0; i < r->header.tensors; i++) {
        const CheckpointRow* row = &r->rows[i];
        if (strcmp(row->name, p->name)) continue;
        if (row->ndim == p->ndim && !memcmp(row->dims, p->dims, sizeof(p->dims))) return (int)i;
        if (id == m->wpe && row->ndim == 2 && row->dims[1] == p->dims[1]) {
            if (row->dims[0] > p->dims[0]) return (int)i;
            fail("--init_from %s: it has positions for %d tokens, --sequence_length is %d; use --sequence_length %d or less",
                 path, row->dims[0], p->dims[0], row->dims[0]);
        }
        char expected[64], found[64];
        fail(
            "--init_from %s: its %s is %s, this run expects %s; start with the model flags stored in it (head -c 4000 shows "
            "them)",
            path, p->name, checkpoint_shape(found, sizeof(found), row->ndim, row->dims),
            checkpoint_shape(expected, sizeof(expected), p->ndim, p->dims));
    }
    if (p->group) return -1;
    fail(
        "--init_from %s: it has no tensor %s, which this run's model has; start with the model flags stored in it (head -c 4000 "
        "shows "
        "them)",
        path, p->name);
}

// Masters of `m`, whose weights were initialised, from the file `path` that r has open. `file`: the flags stored in it, `run`:
// those of the run, of_file: L, NH and C of the file's model. Prints a line. Another model, a damaged file: exit code 1.
UNUSED static void init_from_file(Model* m, CheckpointReader* r, const char* path, const FlagTable* file, const FlagTable* run,
                                  const Config* of_file) {
    Text left = {0, 0, 0}, fresh = {0, 0, 0};
    init_check_flags(path, file, run, of_file, &m->config);
    for (uint32_t i = 0; i < r->header.tensors; i++) {
        const char* name = r->rows[i].name;
        if (params_find(&m->table, name) >= 0) continue;
        if (!init_training_only(name)) {
            fail(
                "--init_from %s: it has a tensor %s, this run's model has none; start with the model flags stored in it (head -c "
                "4000 "
                "shows them)",
                path, name);
        }
        text_add(&left, "%s%s", left.size ? " " : "; left out: ", name);
    }
    for (int id = 0; id < m->table.count; id++) {
        const Param* p = &m->table.rows[id];
        int row = init_row(m, r, path, id);
        if (row < 0) {
            text_add(&fresh, "%s%s", fresh.size ? " " : "; at random: ", p->name);
            continue;
        }
        float* host = (float*)xmalloc(r->rows[row].elements * sizeof(float));
        if (!checkpoint_row_get(r, row, CHECKPOINT_MASTERS, host, r->rows[row].elements)) fail("%s", r->error);
        copy_to_device(m->masters + p->offset, host, p->size * sizeof(float));
        free(host);
    }
    cells_check(m, path);
    model_weights_changed(m);
    printf("weights    of %s, after %lld steps of its run%s%s\n", path, (long long)r->state.step, left.size ? left.data : "",
           fresh.size ? fresh.data : "");
    text_free(&left), text_free(&fresh);
}
