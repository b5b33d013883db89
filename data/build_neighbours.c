/*
The nearest neighbours of every token in the embedding of a trained model: what a softer target spreads its weight over.

    data/build_neighbours --checkpoint runs/mine/step_00005000.ckpt --m 8 --out data/mine.neighbours

    wte (Vp,C) of the checkpoint, its first V rows -> cosines after the mean is taken off (neighbours.h)
    -> for every id the M nearest others, weights a = softmax(cosine / tau) -> the table (llmc/io/table.h), p_top = 1

Takes 2 * V * V * C arithmetic operations: for GPT-2 124M's embedding half a minute to a minute on two cores.
*/
#include "neighbours.h"

#include "llmc/io/checkpoint.h"
#include "llmc/io/table.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                              \
    SECTION("Nearest neighbours of the embedding")                                                              \
    STRING(checkpoint, "", "checkpoint of the trainer to read the embedding from")                              \
    STRING(out, "", "file to write; a table that is there is replaced")                                         \
    INT(m, 8, 1, 256, "neighbours kept of every id")                                                            \
    FLOAT(tau, 0.2, 0.001, 100, "temperature: weights are softmax(cosine / tau)")                               \
    INT(vocab_size, 0, 0, 65536, "ids that are tokens, not padding (0: what the checkpoint was trained with)")  \
    INT(threads, 0, 0, 64, "threads that compare (0: all processors)")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

// The value of --vocab_size in the flags of a checkpoint, 0 if it has none.
static int stored_vocab_size(const char* flags) {
    const char* name = "--vocab_size ";
    for (const char *line = flags, *end; *line; line = *end ? end + 1 : end) {
        end = line + strcspn(line, "\n");
        if (strncmp(line, name, strlen(name))) continue;
        long V = strtol(line + strlen(name), NULL, 10);
        return V >= 0 && V <= TABLE_VOCAB_MAX ? (int)V : 0;
    }
    return 0;
}

// The embedding of a checkpoint: (V,C), the caller's. *V: how many rows are wanted, or 0; afterwards how many there are.
static float* embedding_load(const char* path, int* V, int* C) {
    CheckpointReader r;
    int at = -1;
    if (!checkpoint_reader_open(&r, path)) fail("%s", r.error);
    for (uint32_t i = 0; i < r.header.tensors; i++) {
        if (!strcmp(r.rows[i].name, "wte")) at = (int)i;
    }
    if (at < 0 || r.rows[at].ndim != 2)
        fail("%s: has no embedding \"wte\" of one row for each id; name another checkpoint", path);
    const int* dims = r.rows[at].dims;
    bool asked = *V > 0;
    if (!asked) *V = stored_vocab_size(r.flags);
    if (*V < 2 || *V > dims[0] || *V > TABLE_VOCAB_MAX) {
        fail("%s: its embedding has %d rows, expected at least 2 and at least %s %d; use another --vocab_size", path, dims[0],
             asked ? "--vocab_size" : "its own vocabulary of", *V);
    }
    *C = dims[1];
    float* wte = (float*)xmalloc((size_t)r.rows[at].elements * sizeof(float));
    if (!checkpoint_row_get(&r, at, CHECKPOINT_MASTERS, wte, (size_t)r.rows[at].elements)) fail("%s", r.error);
    for (size_t i = 0; i < (size_t)*V * (size_t)*C; i++) {
        if (isfinite(wte[i])) continue;
        fail("%s: the embedding of id %zu is not finite; use a checkpoint from before the run went wrong", path, i / (size_t)*C);
    }
    checkpoint_reader_close(&r);
    return wte;
}

// Weights in place of cosines. Returns the number of ids that have neighbours.
static int fill_table(const Neighbours* n, double tau, TopTable* t) {
    int filled = 0;
    for (int v = 0; v < n->V; v++) {
        size_t row = (size_t)v * (size_t)n->M;
        int m = 0;
        while (m < n->M && n->ids[row + (size_t)m] >= 0) m++;
        if (m == 0) continue;
        memcpy(t->ids + row, n->ids + row, (size_t)m * sizeof(int32_t));
        neighbour_weights(n->sims + row, m, tau, t->probs + row);
        t->p_top[v] = 1.0f;
        filled++;
    }
    return filled;
}

int main(int argc, char** argv) {
    Options o;
    FlagTable flags = options_table(&o);
    tool_help(&flags, argc, argv, "--checkpoint FILE.ckpt --out FILE",
              "Finds the nearest neighbours of every token in the embedding of a trained model.");
    flags_parse(&flags, argc, argv);
    if (!*o.checkpoint) usage_error("--checkpoint is missing: name one, e.g. --checkpoint runs/mine/step_00005000.ckpt");
    if (!*o.out) usage_error("--out is missing: name the file to write, e.g. --out data/mine.neighbours");

    double start = tool_seconds();
    int V = o.vocab_size, C = 0, threads = tool_threads(o.threads);
    float* wte = embedding_load(o.checkpoint, &V, &C);
    if (o.m >= V) usage_error("--m is %d, but an id has only %d others; lower it", o.m, V - 1);
    tool_keep_other_files(o.out, TABLE_MAGIC, "a table");
    tool_catch_signals();
    NewFile file;
    new_file_open(&file, o.out);  // now: a directory that is missing is told before the work

    Neighbours n = neighbours_find(wte, V, C, o.m, threads);
    TopTable table = top_table_alloc(TABLE_NEIGHBOURS, V, o.m);
    int filled = fill_table(&n, o.tau, &table);
    if (filled == 0) fail("%s: all rows of its embedding are the same; use a checkpoint of a trained model", o.checkpoint);
    top_table_write(&file, &table);
    double spent = tool_seconds() - start;
    printf("%s: %d neighbours for %d of %d ids, %d channels, tau %g; %.1f s with %d threads (%.0f GFLOP/s)\n", o.out, o.m, filled,
           V, C, o.tau, spent, threads, 2e-9 * V * V * C / (spent > 1e-3 ? spent : 1e-3));
    neighbours_free(&n);
    top_table_free(&table);
    free(wte);
    flags_free(&flags);
    return 0;
}
