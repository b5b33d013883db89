/*
One counted run: the trainer as it is, on the emulated card, with its device memory named. run_open opens it, run_steps trains,
run_close leaves the notes in the Run.

    notes   | opening .. | micro-step 0 | micro-step 1 | .. | optimizer step | micro-step 0 | ..
                         ^ a micro-step begins behind the launch before its upload; the optimizer step before norm_kernel

What a kernel moves is the sum over regions of its reads and writes, but

    tables      (weights of norms, biases, RoPE angles, token ids, step state, per-row numbers) count their first read only:
                lanes and rows that look again find them in a cache
    partials    per-launch scratch (column sums, partial norms): they do not grow with the rows
    ids         rows of the embedding gradient, one for each distinct token;   positions: rows of wpe's gradient
*/
#pragma once

#include "train_gpt2.cu"

#include "test/child.h"
#include "test/quiet.h"

enum { RUN_STEPS = 4, RUN_MICROS = 4 };

typedef struct {
    Trainer* t;
    const EmuNote* notes;
    int micro[RUN_STEPS][RUN_MICROS + 1], update[RUN_STEPS], end[RUN_STEPS];  // first note of each; end: behind the last
    int opened, steps, micros;
    int B, T, L, C, N, Vp, chunks;
} Run;

// Bytes of one call, or of many: see above. stats: tables and per-row numbers.
typedef struct {
    double rows, stats, partials, ids, positions;
    int calls;
} Moved;

static const char* const TABLES[] = {"vectors", "rope cos", "rope sin", "tokens",    "step state", "rstd1", "rstd2",
                                     "rstdf",   "lse",      "losses",   "d vectors", "unit flags", NULL};
static const char* const PARTIALS[] = {"column sums", "norm partials", "attention workspace", NULL};

static bool among(const char* name, const char* const* list) {
    while (*list && strcmp(*list, name)) list++;
    return *list != NULL;
}

static void add_traffic(Moved* sum, const EmuNote* n) {
    sum->calls++;
    for (int r = 0; n->traffic && r < emu_budget.regions; r++) {
        const uint64_t* b = n->traffic[r].bytes;
        const char* name = emu_budget.region[r];
        bool table = among(name, TABLES);
        double bytes = (double)b[0] + (double)(b[3] + b[4]) + (table ? 0 : (double)(b[1] + b[2]));
        if (table) sum->stats += bytes;
        else if (among(name, PARTIALS)) sum->partials += bytes;
        else if (!strcmp(name, "d wte") && strncmp(n->name, "adamw", 5) && strncmp(n->name, "norm", 4)) sum->ids += bytes;
        else if (!strcmp(name, "d wpe") && strncmp(n->name, "adamw", 5) && strncmp(n->name, "norm", 4)) sum->positions += bytes;
        else sum->rows += bytes;
    }
}

// True if the note is a launch of the kernel (its name without template arguments begins like this).
static bool is_kernel(const EmuNote* n, const char* kernel) {
    return n->kind == EMU_KERNEL && !strncmp(n->name + (*n->name == '('), kernel, strlen(kernel));
}
static Moved moved(const Run* r, int from, int to, const char* kernel) {
    Moved sum = {0, 0, 0, 0, 0, 0};
    for (int i = from; i < to; i++) {
        if (is_kernel(&r->notes[i], kernel)) add_traffic(&sum, &r->notes[i]);
    }
    return sum;
}
static int count_kind(const Run* r, int from, int to, EmuKind kind) {
    int count = 0;
    for (int i = from; i < to; i++) count += r->notes[i].kind == kind;
    return count;
}

// ---------------------------------------------------------------------------------------------------------------------
// Opening

static void name_arena(const Arena* a) {
    for (int i = 0; i < a->count; i++) {
        if (*a->slices[i].slot) emu_region(a->slices[i].name, *a->slices[i].slot, a->slices[i].bytes);
    }
}
static void name_memory(Trainer* t) {
    Model* m = &t->model;
    name_arena(&m->parameters), name_arena(&m->gradients), name_arena(&m->optimizer), name_arena(&m->activations);
    for (int id = 0; id < m->table.count; id++) {
        const Param* p = &m->table.rows[id];
        const char *of_weight = "matrices", *of_grad = "grads";
        if (id == m->wte) of_weight = "wte", of_grad = "d wte";
        else if (id == m->wpe) of_weight = "wpe", of_grad = "d wpe";
        else if (p->ndim == 1) of_weight = "vectors", of_grad = "d vectors";
        emu_region(of_weight, m->weights + p->offset, p->size * sizeof(floatX));
        emu_region(of_grad, m->grads + p->offset, p->size * sizeof(float));
    }
    for (int i = 0; i < 2; i++) emu_region("tokens", t->train.device[i], t->train.bytes);
    emu_region("attention workspace", m->attention.workspace, m->attention.workspace_bytes);
    emu_budget.alias = t->train.device[1], emu_budget.target = t->train.device[0], emu_budget.alias_bytes = t->train.bytes;
}

static Trainer* trainer(const char* flags) {
    static char line[2048];
    Trainer* t = (Trainer*)xcalloc(sizeof(Trainer));
    char** argv = (char**)xcalloc(128 * sizeof(char*));
    int argc = 1;
    argv[0] = (char*)"train_gpt2cu";
    snprintf(line, sizeof(line), "%s --device cuda --precision bf16 --input_bin %s", flags, test_path("s_*.bin"));
    for (char* word = strtok(text_copy(line), " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    t->flags = options_table(&t->o);
    flags_parse(&t->flags, argc, argv);
    t->argc = argc, t->argv = argv;
    return t;
}

// chunks: pieces of the head; 0 = as the trainer decides.
static Run run_open(const char* flags, int chunks) {
    Run r = {};
    int before = quiet(-1);
    emu_budget.count = 0, emu_budget.on = false;
    r.t = trainer(flags);
    open_run(r.t);
    Model* m = &r.t->model;
    const Config* c = &m->config;
    r.B = c->B, r.T = c->T, r.L = c->L, r.C = c->C, r.N = c->B * c->T, r.Vp = c->Vp;
    if (chunks) {
        m->chunk_rows = (int)round_up((size_t)((r.N + chunks - 1) / chunks), 8);
        model_plan_shape(m, r.B, r.T);
    }
    r.chunks = (r.N + m->chunk_rows - 1) / m->chunk_rows;
    name_memory(r.t);
    quiet(before);
    emu_budget.on = true;
    r.notes = emu_budget.notes;
    r.opened = emu_budget.count;
    return r;
}

// ---------------------------------------------------------------------------------------------------------------------
// Training

// First note behind the launch or product before note i.
static int behind_launch(const Run* r, int i, int from) {
    while (i > from && r->notes[i - 1].kind != EMU_KERNEL && r->notes[i - 1].kind != EMU_PRODUCT) i--;
    return i;
}
static void split_step(Run* r, int step, int from, int to) {
    int micros = 0;
    r->update[step] = r->end[step] = to;
    for (int i = from; i < to; i++) {
        const EmuNote* n = &r->notes[i];
        if (n->kind == EMU_COPY && n->direction == cudaMemcpyHostToDevice) {
            if (micros == RUN_MICROS) fail("a step with more than %d uploads", RUN_MICROS);
            r->micro[step][micros++] = behind_launch(r, i, from);
        }
        if (is_kernel(n, "norm_kernel")) r->update[step] = behind_launch(r, i, from);
    }
    r->micro[step][micros] = r->update[step];
    r->micros = micros;
}

static void run_steps(Run* r, int steps) {
    int before = quiet(-1);
    for (int s = 0; s < steps; s++) {
        int from = emu_budget.count;
        train_step(r->t, s);
        split_step(r, s, from, emu_budget.count);
    }
    r->steps = steps;
    int count = emu_budget.count;
    device_sync();  // what is still queued runs, too
    emu_budget.count = count;
    quiet(before);
}
// Micro-steps alone: no optimizer.
static void run_micros(Run* r, int micros) {
    int from = emu_budget.count;
    for (int a = 0; a < micros; a++) micro_step(r->t, a);
    split_step(r, 0, from, emu_budget.count);
    r->steps = 1;
    int count = emu_budget.count;
    device_sync();
    emu_budget.count = count;
}

static void run_close(Run* r) {
    feed_close(&r->t->train);
    model_free(&r->t->model);
    for (int i = 0; i < emu_budget.count; i++) free(emu_budget.notes[i].traffic);
    emu_budget.count = 0;
    r->t = NULL;
}
