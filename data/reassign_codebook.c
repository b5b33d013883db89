/*
A checkpoint for another codebook: between two rounds of training a factorised vocabulary (llmc/io/codebook.h), tokens move to
the cells of the new table and take their weights along.

    ./train_gpt2cu .. --output_dir runs/a --resume 1 --codebook_costs a.costs                         what tokens cost where
    data/build_codebook --method matching --codebook a.codebook --costs a.costs --out b.codebook      a better table
    data/reassign_codebook --checkpoint runs/a/step_00005000.ckpt --codebook b.codebook --out runs/b
    ./train_gpt2cu .. --output_dir runs/b --resume 1 --codebook b.codebook --num_iterations ..        goes on from there

    tensor              moves
    head.column.w, .b   a token's weights go to its new cell. Inside its row so do its moments: the model computes what it did,
                        and its next step is the same. In another row the moments start from 0: they meet other columns
    head.row.w, .b      stay: a row keeps its weights, whatever tokens it has
    wte.row, .column    one column map for all rows: columns move with their moments, exactly. Else the nearest tables: least
                        squares over tokens of old vector - row - column; where tokens changed, moments start from 0
    cells               the new codebook          all others: stay

The flags in the checkpoint name the new codebook, the step and the loader's place are the old ones, and DIR gets nothing else.
*/
#include "tool.h"

#include "llmc/io/checkpoint.h"
#include "llmc/io/codebook.h"
#include "llmc/io/log_file.h"

enum { FIT_ROUNDS = 100 };

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                         \
    SECTION("A checkpoint for another codebook")                                                           \
    STRING(checkpoint, "", "checkpoint of a run with a lightrnn head or embedding")                        \
    STRING(codebook, "", "file of data/build_codebook: the new cells of all tokens, in a table of the same shape")   \
    STRING(out, "", "output directory of the run that goes on; it must not have checkpoints")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

typedef struct {
    CheckpointReader r;
    Codebook from, to;
    int moved, new_rows;              // tokens in another cell, tokens in another row
    bool columns_only;                // every token keeps its row, and column_from says the rest
    int32_t* column_from;             // (columns): the old column of all tokens in a new column
    uint8_t *row_kept, *column_kept;  // (rows), (columns): the same tokens as before
    float *row, *column;              // (rows,C), (columns,C): the fitted embedding, NULL: none is needed
} Move;

static int find_tensor(const CheckpointReader* r, const char* name) {
    for (uint32_t i = 0; i < r->header.tensors; i++) {
        if (!strcmp(r->rows[i].name, name)) return (int)i;
    }
    return -1;
}

// All of an array of a tensor, the caller's.
static float* read_tensor(CheckpointReader* r, int at, int array) {
    float* values = (float*)xmalloc((size_t)r->rows[at].elements * sizeof(float));
    if (!checkpoint_row_get(r, at, array, values, (size_t)r->rows[at].elements)) fail("%s", r->error);
    return values;
}

// Tensors of the head that have cells, and the shape that they must have for this codebook.
static void check_tensors(const Move* m) {
    const CheckpointReader* r = &m->r;
    int R = m->to.rows, K = m->to.columns, cells = R * (int)round_up((size_t)K, 8);
    for (uint32_t i = 0; i < r->header.tensors; i++) {
        const CheckpointRow* t = &r->rows[i];
        bool columns = !strcmp(t->name, "head.column.w") || !strcmp(t->name, "head.column.b");
        bool rows = !strcmp(t->name, "head.row.w") || !strcmp(t->name, "head.row.b");
        int expected = columns ? cells : !strcmp(t->name, "wte.row") ? R : !strcmp(t->name, "wte.column") ? K : t->dims[0];
        if (!strncmp(t->name, "head.", 5) && !columns && !rows) {
            fail(
                "%s: its head has a tensor %s: only heads with column weights for each row can be reassigned (--lightrnn_decoder "
                "per_row)",
                r->path, t->name);
        }
        int embedding = find_tensor(r, "wte.row");
        if (!strncmp(t->name, "wte.", 4) && embedding >= 0 && (t->ndim != 2 || t->dims[1] != r->rows[embedding].dims[1])) {
            fail("%s: damaged: the rows and columns of its embedding are not of one width; use another checkpoint", r->path);
        }
        if (t->dims[0] == expected) continue;
        fail(
            "%s: %s has %d rows, expected %d for a codebook of %d rows and %d columns; make one of the shape it was trained with",
            r->path, t->name, t->dims[0], expected, R, K);
    }
}

// The codebook of the checkpoint; `to` gives its shape.
static Codebook stored_codebook(CheckpointReader* r, const Codebook* to) {
    int at = find_tensor(r, "cells");
    if (at < 0) fail("%s: has no tensor cells: it was not trained with a lightrnn head or embedding; name another", r->path);
    if (r->rows[at].ndim != 2 || r->rows[at].dims[0] != 2 || r->rows[at].dims[1] != to->V) {
        fail("%s: has cells for %d tokens, but the codebook is for %d; name the codebook of its vocabulary", r->path,
             r->rows[at].dims[1], to->V);
    }
    float* cells = read_tensor(r, at, CHECKPOINT_MASTERS);
    int32_t* places = (int32_t*)xmalloc(2 * (size_t)to->V * sizeof(int32_t));
    for (int i = 0; i < 2 * to->V; i++) places[i] = cells[i] >= 0 && cells[i] < 65536 ? (int32_t)cells[i] : -1;
    const char* remedy = "make a codebook of the shape that the checkpoint was trained with";
    Codebook b = codebook_from_cells(r->path, to->V, to->columns, places, places + to->V, remedy);
    free(cells);
    free(places);
    return b;
}

// What moves, and whether rows and columns keep their tokens.
static void compare_books(Move* m) {
    const Codebook *a = &m->from, *b = &m->to;
    m->column_from = (int32_t*)xmalloc((size_t)b->columns * sizeof(int32_t));
    m->row_kept = (uint8_t*)xmalloc((size_t)b->rows);
    m->column_kept = (uint8_t*)xmalloc((size_t)b->columns);
    memset(m->column_from, 0xFF, (size_t)b->columns * sizeof(int32_t));
    memset(m->row_kept, 1, (size_t)b->rows);
    memset(m->column_kept, 1, (size_t)b->columns);
    uint8_t* used = (uint8_t*)xcalloc((size_t)b->columns);
    m->columns_only = true;
    for (int v = 0; v < b->V; v++) {
        int32_t* from = &m->column_from[b->col[v]];
        bool row = a->row[v] != b->row[v], column = a->col[v] != b->col[v];
        m->moved += row || column, m->new_rows += row;
        if (row) m->row_kept[a->row[v]] = m->row_kept[b->row[v]] = 0;
        if (row || column) m->column_kept[a->col[v]] = m->column_kept[b->col[v]] = 0;
        if (row || (*from >= 0 && *from != a->col[v]) || (*from < 0 && used[a->col[v]])) m->columns_only = false;
        *from = a->col[v], used[a->col[v]] = 1;
    }
    free(used);
}

// The line `mean` (C) over the tokens of a row or a column of their old vector minus what the other table gives them.
static void fit_line(const Move* m, const float* old_row, const float* old_column, const float* other, bool row, int C,
                     float* table) {
    const Codebook *a = &m->from, *b = &m->to;
    int lines = row ? b->rows : b->columns;
    double* sums = (double*)xcalloc((size_t)lines * (size_t)C * sizeof(double));
    int* counts = (int*)xcalloc((size_t)lines * sizeof(int));
    for (int v = 0; v < b->V; v++) {
        int line = row ? b->row[v] : b->col[v], crossing = row ? b->col[v] : b->row[v];
        const float *x = old_row + (size_t)a->row[v] * (size_t)C, *y = old_column + (size_t)a->col[v] * (size_t)C;
        const float* z = other + (size_t)crossing * (size_t)C;
        double* sum = sums + (size_t)line * (size_t)C;
        counts[line]++;
        for (int c = 0; c < C; c++) sum[c] += (double)x[c] + (double)y[c] - (double)z[c];
    }
    for (int l = 0; l < lines; l++) {
        for (int c = 0; c < C && counts[l]; c++)
            table[(size_t)l * (size_t)C + (size_t)c] = (float)(sums[(size_t)l * (size_t)C + (size_t)c] / counts[l]);
    }
    free(sums);
    free(counts);
}

// rms over tokens and channels of (old vector - new row - new column), and of the old vectors
static double fit_distance(const Move* m, const float* old_row, const float* old_column, int C, double* size) {
    const Codebook *a = &m->from, *b = &m->to;
    double squares = 0, all = 0;
    for (int v = 0; v < b->V; v++) {
        for (int c = 0; c < C; c++) {
            size_t i = (size_t)c;
            double x = (double)old_row[(size_t)a->row[v] * (size_t)C + i] + (double)old_column[(size_t)a->col[v] * (size_t)C + i];
            double y = (double)m->row[(size_t)b->row[v] * (size_t)C + i] + (double)m->column[(size_t)b->col[v] * (size_t)C + i];
            squares += (x - y) * (x - y), all += x * x;
        }
    }
    *size = sqrt(all / ((double)b->V * C));
    return sqrt(squares / ((double)b->V * C));
}

// The embedding's two tables for the new cells, where no map of the columns gives them.
static void fit_embedding(Move* m) {
    int row = find_tensor(&m->r, "wte.row"), column = find_tensor(&m->r, "wte.column");
    if (row < 0 || column < 0 || m->columns_only) return;
    int C = m->r.rows[row].dims[1];
    float *old_row = read_tensor(&m->r, row, CHECKPOINT_MASTERS), *old_column = read_tensor(&m->r, column, CHECKPOINT_MASTERS);
    m->row = read_tensor(&m->r, row, CHECKPOINT_MASTERS), m->column = read_tensor(&m->r, column, CHECKPOINT_MASTERS);
    double size, distance = 0, before = INFINITY;
    for (int i = 0; i < FIT_ROUNDS && (i == 0 || distance < before); i++) {
        if (i > 0) before = distance;
        fit_line(m, old_row, old_column, m->column, true, C, m->row);
        fit_line(m, old_row, old_column, m->row, false, C, m->column);
        distance = fit_distance(m, old_row, old_column, C, &size);
    }
    printf("embedding: no row and column sum to all old vectors; the nearest are %.3g away, of %.3g (rms)\n", distance, size);
    free(old_row);
    free(old_column);
}

// The values (elements of tensor `at`) of one array, as the new codebook wants them. The caller's.
static float* moved_tensor(Move* m, int at, int array) {
    CheckpointReader* r = &m->r;
    const CheckpointRow* t = &r->rows[at];
    size_t n = (size_t)t->elements, C = n / (size_t)t->dims[0];
    float* old = read_tensor(r, at, array);
    bool columns = !strcmp(t->name, "wte.column"), masters = array == CHECKPOINT_MASTERS;
    if (!strcmp(t->name, "cells")) {
        for (int v = 0; v < m->to.V; v++) {
            old[v] = masters ? (float)m->to.row[v] : 0, old[m->to.V + v] = masters ? (float)m->to.col[v] : 0;
        }
    } else if (!strncmp(t->name, "head.column.", 12)) {
        float* values = (float*)xcalloc(n * sizeof(float));
        size_t Kp = round_up((size_t)m->to.columns, 8);
        for (int v = 0; v < m->to.V; v++) {
            size_t from = (size_t)m->from.row[v] * Kp + (size_t)m->from.col[v],
                   to = (size_t)m->to.row[v] * Kp + (size_t)m->to.col[v];
            if (masters || m->from.row[v] == m->to.row[v]) memcpy(values + to * C, old + from * C, C * sizeof(float));
        }
        free(old);
        return values;
    } else if (columns || !strcmp(t->name, "wte.row")) {
        const float* fitted = columns ? m->column : m->row;
        const uint8_t* kept = columns ? m->column_kept : m->row_kept;
        float* values = (float*)xmalloc(n * sizeof(float));
        memcpy(values, old, n * sizeof(float));
        for (size_t i = 0; i < (size_t)t->dims[0]; i++) {
            if (m->columns_only && columns && m->column_from[i] >= 0) {
                memcpy(values + i * C, old + (size_t)m->column_from[i] * C, C * sizeof(float));
            } else if (fitted && masters) memcpy(values + i * C, fitted + i * C, C * sizeof(float));
            else if (fitted && !kept[i]) memset(values + i * C, 0, C * sizeof(float));
        }
        free(old);
        return values;
    }
    return old;
}

// The stored flags with another --codebook. The caller's.
static char* flags_with_codebook(const char* flags, const char* path) {
    Text t = {0, 0, 0};
    for (const char *line = flags, *end; *line; line = *end ? end + 1 : end) {
        end = strchr(line, '\n');
        if (!end) end = line + strlen(line);
        if (strncmp(line, "--codebook ", 11)) text_add(&t, "%.*s\n", (int)(end - line), line);
    }
    text_add(&t, "--codebook ");
    text_add_quoted(&t, path);
    text_add_char(&t, '\n');
    return t.data;
}

static void write_checkpoint(Move* m, const Options* o, const char* path) {
    CheckpointWriter w;
    ParamTable table;
    char* flags = flags_with_codebook(m->r.flags, o->codebook);
    int arrays = (int)m->r.header.arrays;
    memset(&table, 0, sizeof table);
    for (uint32_t i = 0; i < m->r.header.tensors; i++) {
        const CheckpointRow* t = &m->r.rows[i];
        params_add(&table, t->name, t->ndim, t->dims, INIT_ZERO, 0, false);
    }
    if (!checkpoint_writer_open(&w, path, &table, arrays, flags, &m->r.state)) fail("%s", w.error);
    for (int a = 0; a < arrays; a++) {
        for (int i = 0; i < table.count; i++) {
            float* values = moved_tensor(m, i, a);
            if (!checkpoint_writer_put(&w, i, a, values, table.rows[i].size)) fail("%s", w.error);
            free(values);
        }
    }
    if (!checkpoint_writer_close(&w)) fail("%s", w.error);
    free(table.rows);
    free(flags);
}

int main(int argc, char** argv) {
    Options o;
    Move m;
    FlagTable flags = options_table(&o);
    memset(&m, 0, sizeof m);
    tool_help(&flags, argc, argv, "--checkpoint FILE.ckpt --codebook FILE --out DIR",
              "Moves the weights of a factorised vocabulary to the cells of another codebook.");
    flags_parse(&flags, argc, argv);
    if (!*o.checkpoint) usage_error("--checkpoint is missing: name one, e.g. --checkpoint runs/a/step_00005000.ckpt");
    if (!*o.codebook) usage_error("--codebook is missing: name the new one, a file of data/build_codebook");
    if (!*o.out) usage_error("--out is missing: name the output directory of the run that goes on, e.g. --out runs/b");
    int64_t* steps;
    if (checkpoint_list(o.out, &steps)) fail("%s: already has checkpoints; name a new directory with --out", o.out);
    free(steps);
    if (!checkpoint_reader_open(&m.r, o.checkpoint)) fail("%s", m.r.error);
    int cells = find_tensor(&m.r, "cells"), V = cells < 0 ? 0 : m.r.rows[cells].dims[1];
    if (cells < 0) fail("%s: was not trained with a lightrnn head or embedding: it has no tensor cells", o.checkpoint);
    m.to = codebook_load(o.codebook, V);
    check_tensors(&m);
    m.from = stored_codebook(&m.r, &m.to);
    compare_books(&m);
    fit_embedding(&m);
    if (make_directories(o.out)) fail("--out %s: cannot create this directory: %s; name another one", o.out, strerror(errno));
    char* path = checkpoint_path(o.out, m.r.state.step);
    write_checkpoint(&m, &o, path);
    printf("%s: %d of %d tokens moved with their weights, %d of them to another row, where their moments start from 0\n", path,
           m.moved, V, m.new_rows);
    free(path);
    free(m.column_from), free(m.row_kept), free(m.column_kept), free(m.row), free(m.column);
    codebook_free(&m.from);
    codebook_free(&m.to);
    checkpoint_reader_close(&m.r);
    flags_free(&flags);
    return 0;
}
