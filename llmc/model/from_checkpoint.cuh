/*
A model to use, not to train, from a checkpoint alone: its sizes and switches are the flags that the file holds, its codebook is
the file's tensor "cells", its weights are the masters. Nothing is typed again, and no file of the training run is needed beside
it but the tokenizer.

    Options o; FlagTable flags = options_table(&o); flags_parse(&flags, ..)
    CheckpointReader r = trained_open(&flags, &run, o.generate, &use)     `flags` now has the data and model flags of that run
    Config c = ..; trained_vocabulary(&r, &flags, &c)         instead of vocabulary_from_flags
    model_declare(&m, c, false); trained_load(&m, &r)         allocates, too
*/
#pragma once

#include "../io/checkpoint_dir.h"
#include "../io/checkpoint_read.h"
#include "setup.cuh"
#include "vocabulary.h"

// Sections of the flag table whose flags are the run's.
static bool trained_keeps(const char* section) { return !strcmp(section, "Data") || !strcmp(section, "Model"); }

// What uses the model: the flag that asks for it, the one that names the checkpoint, and all that mean something beside it.
typedef struct {
    const char *asks, *from, *takes[16];  // the last: NULL
} TrainedUse;

static bool trained_takes(const TrainedUse* use, const char* name) {
    int i = 0;
    while (use->takes[i] && strcmp(use->takes[i], name)) i++;
    return use->takes[i] != NULL;
}

// Copies the flags of the sections that are the run's from its text, but not over what the user gave. A flag that has no effect
// beside a checkpoint: exit code 2.
static void trained_flags(FlagTable* flags, FlagTable* run, const TrainedUse* use, const char* text, const char* path) {
    const char* section = "";
    for (int i = 0; i < flags->count; i++) {
        const FlagDef* d = &flags->defs[i];
        if (d->kind == FLAG_SECTION) section = d->name;
        else if (flags->set[i] && !trained_takes(use, d->name)) {
            usage_error("--%s has no effect with --%s, which takes the model as its checkpoint has it; leave it out", d->name,
                        use->asks);
        }
    }
    flags_parse_text(run, text, path);
    for (int i = 0; i < flags->count; i++) {
        const FlagDef* d = &flags->defs[i];
        Text value = {0, 0, 0};
        if (d->kind == FLAG_SECTION) section = d->name;
        if (d->kind == FLAG_SECTION || !trained_keeps(section) || flags->set[i]) continue;
        text_reserve(&value, 0);
        flag_add_value(&value, run, i);
        flag_assign_by_name(flags, d->name, value.data);
        text_free(&value);
    }
}

// Opens the checkpoint `path`, or the newest one in the directory `path`. run: a second table of the same flags, freed here.
UNUSED static CheckpointReader trained_open(FlagTable* flags, FlagTable* run, const char* path, const TrainedUse* use) {
    CheckpointReader r;
    struct stat info;
    if (stat(path, &info)) {
        fail("--%s %s: %s; name a checkpoint (step_*.ckpt), or the --output_dir of a run that has one", use->from, path,
             strerror(errno));
    }
    char* file = S_ISDIR(info.st_mode) ? checkpoint_latest(path) : text_copy(path);
    if (!file) {
        fail("--%s %s: no usable checkpoint in this directory; a run leaves one there with --save_every above 0", use->from,
             path);
    }
    if (!checkpoint_reader_open(&r, file)) fail("%s", r.error);
    trained_flags(flags, run, use, r.flags, file);
    flags_free(run);
    free(file);
    return r;
}

static int trained_find(const CheckpointReader* r, const char* name) {
    for (uint32_t i = 0; i < r->header.tensors; i++) {
        if (!strcmp(r->rows[i].name, name)) return (int)i;
    }
    return -1;
}

// Columns of the table whose cells fill `rows` rows up to column `widest`: the least that fit the tensors over its columns.
static int trained_columns(const CheckpointReader* r, int V, int rows, int widest) {
    int embedding = trained_find(r, "wte.column"), head = trained_find(r, "head.column.b");
    for (int columns = widest; columns <= V; columns++) {
        bool fits = codebook_rows(V, columns) == rows;
        if (embedding >= 0) fits = fits && r->rows[embedding].dims[0] == columns;
        if (head >= 0) fits = fits && r->rows[head].dims[0] == rows * (int)round_up((size_t)columns, 8);
        if (fits) return columns;
    }
    fail("%s: damaged: its cells and its tensors are of different tables; use another one", r->path);
}

// vocabulary_from_flags with the codebook of the checkpoint. c->V must be set.
UNUSED static void trained_vocabulary(CheckpointReader* r, FlagTable* flags, Config* c) {
    int row = trained_find(r, "cells"), V = c->V, rows = 0, columns = 0;
    if (row < 0) {
        vocabulary_from_flags(flags, c);
        return;
    }
    if (r->rows[row].elements != 2 * (uint64_t)V) fail("%s: damaged: cells of another vocabulary; use another one", r->path);
    float* cells = (float*)xmalloc(2 * (size_t)V * sizeof(float));
    int32_t* at = (int32_t*)xmalloc(2 * (size_t)V * sizeof(int32_t));
    if (!checkpoint_row_get(r, row, CHECKPOINT_MASTERS, cells, 2 * (size_t)V)) fail("%s", r->error);
    for (int v = 0; v < 2 * V; v++) {
        at[v] = cells[v] >= 0 && cells[v] < (float)V ? (int32_t)cells[v] : V;
        int* most = v < V ? &rows : &columns;
        if (at[v] + 1 > *most) *most = at[v] + 1;
    }
    char text[16];
    snprintf(text, sizeof(text), "%d", trained_columns(r, V, rows, columns));
    flag_assign_by_name(flags, "codebook", "");
    flag_assign_by_name(flags, "table_size", text);
    vocabulary_from_flags(flags, c);
    codebook_free(&c->book);
    c->book = codebook_from_cells(r->path, V, atoi(text), at, at + V, "use another checkpoint");
    free(cells), free(at);
}

// Memory and weights. m: declared without training. Errors: no memory; tensors that are not the model's; a wrong checksum.
UNUSED static void trained_load(Model* m, CheckpointReader* r, bool allow_tf32) {
    Arena* arenas[] = {&m->parameters, &m->activations};
    size_t bytes = m->table.size * sizeof(float);
    if (!checkpoint_reader_match(r, &m->table, MATCH_WITHIN)) fail("%s", r->error);
    arenas_must_fit(arenas, 2, bytes);
    float* host = (float*)xcalloc(bytes);
    for (int id = 0; id < m->table.count; id++) {
        const Param* p = &m->table.rows[id];
        if (!checkpoint_reader_get(r, id, CHECKPOINT_MASTERS, host + p->offset, p->size)) fail("%s", r->error);
    }
    m->masters = (float*)device_malloc(bytes, "weights");
    copy_to_device(m->masters, host, bytes);
    free(host);
    model_allocate(m, allow_tf32, true);
    model_weights_changed(m);
}
