/*
Codebooks: the table of rows x columns in which a factorised vocabulary has every token id in one cell, so that a token is a row
and a column. data/build_codebook makes them; the LightRNN head reads them.

                 column 0     1     2  ..  columns - 1
    row 0           token token token ..  token            V tokens in rows = ceil(V / columns) rows; every row holds one or
    row 1           token token    -1 ..     -1            more, in cells that start at column 0 without a gap: length[r] cells
    ..

The file is the container of llmc/io/table.h with kind 3:

    byte 0      256 little-endian int32   [0] 20250601   [1] version 1   [2] kind 3   [3] V   [4] columns   [5..7] 0
                                          [8] CRC-32 of the whole file with this word as 0   [9] rows   [10..255] 0
    byte 1024   uint16 row of each token (V)
                uint16 column of each token (V)

Rows without a token and cells behind a row's end do not exist for the softmax: a distribution over rows and cells sums to 1 over
tokens. The number of rows follows from V and columns and is checked, so a table has less than 2 V cells whatever a file says.
Nothing of a file is used before it was checked. Left out: tables of fewer, longer rows than ceil(V / columns) needs.
*/
#pragma once

#include "table.h"

enum { CODEBOOK_ROWS_WORD = 9, CODEBOOK_COSTS_KIND = 4 };

typedef struct {
    int V, rows, columns;
    int32_t *row, *col;  // (V)
    int32_t* token;      // (rows, columns), -1 = empty
    int32_t* length;     // (rows): cells of a row in use, always a prefix; 1..columns
} Codebook;

// out: TABLE_REMEDY chars. The end of every error sentence: the command that makes a codebook.
UNUSED static const char* codebook_remedy(char* out, int V) {
    snprintf(out, TABLE_REMEDY, "make it with `data/build_codebook --vocab_size %d --out FILE`", V);
    return out;
}

static const char* codebook_kind_name(int kind) { return kind == CODEBOOK_COSTS_KIND ? "codebook costs" : table_kind_name(kind); }

// Columns of the squarest table: the smallest number whose square is V or more.
UNUSED static int codebook_square(int V) {
    int columns = 1;
    while ((int64_t)columns * columns < V) columns++;
    return columns;
}

UNUSED static int codebook_rows(int V, int columns) { return (V + columns - 1) / columns; }

// An empty table. columns: 1..V, 0 = codebook_square(V). Sizes out of range end the program.
UNUSED static Codebook codebook_alloc(int V, int columns) {
    Codebook b;
    if (V < 1 || V > TABLE_VOCAB_MAX || columns < 0 || columns > V) {
        fail("no codebook has %d tokens and %d columns: expected 1..%d tokens and no more columns (0: about sqrt(V))", V, columns,
             TABLE_VOCAB_MAX);
    }
    b.V = V, b.columns = columns ? columns : codebook_square(V), b.rows = codebook_rows(V, b.columns);
    size_t cells = (size_t)b.rows * (size_t)b.columns;
    b.row = (int32_t*)xcalloc((size_t)V * sizeof(int32_t));
    b.col = (int32_t*)xcalloc((size_t)V * sizeof(int32_t));
    b.length = (int32_t*)xcalloc((size_t)b.rows * sizeof(int32_t));
    b.token = (int32_t*)xmalloc(cells * sizeof(int32_t));
    memset(b.token, 0xFF, cells * sizeof(int32_t));
    return b;
}

UNUSED static void codebook_free(Codebook* b) {
    free(b->row);
    free(b->col);
    free(b->token);
    free(b->length);
    memset(b, 0, sizeof *b);
}

// Ends the program unless every token has exactly one cell and every row is a prefix that is not empty. name: for the sentence,
// a file or what the codebook came from; remedy: its end.
UNUSED static void codebook_check(const char* name, const Codebook* b, const char* remedy) {
    int held = 0;
    for (int r = 0; r < b->rows; r++) {
        const int32_t* cells = b->token + (size_t)r * (size_t)b->columns;
        int length = b->length[r];
        if (length < 1 || length > b->columns) {
            fail("%s: damaged: row %d has %d tokens, expected 1..%d; %s", name, r, length, b->columns, remedy);
        }
        for (int c = 0; c < b->columns; c++) {
            int v = cells[c];
            if (c < length && v < 0) {
                fail("%s: damaged: row %d has %d tokens, but its column %d is empty; %s", name, r, length, c, remedy);
            }
            bool right = c < length ? v < b->V && b->row[v] == r && b->col[v] == c : v == -1;
            if (!right) fail("%s: damaged: row %d, column %d holds %d, which is not there; %s", name, r, c, v, remedy);
        }
        held += length;  // at most columns more a turn, and rows * columns < 2 V
    }
    if (held != b->V) fail("%s: damaged: %d tokens in the rows, expected %d; %s", name, held, b->V, remedy);
}

// Fills token and length from row and col, which may hold anything, and checks.
UNUSED static void codebook_index(const char* name, Codebook* b, const char* remedy) {
    memset(b->token, 0xFF, (size_t)b->rows * (size_t)b->columns * sizeof(int32_t));
    memset(b->length, 0, (size_t)b->rows * sizeof(int32_t));
    for (int v = 0; v < b->V; v++) {
        int r = b->row[v], c = b->col[v];
        if (r < 0 || r >= b->rows || c < 0 || c >= b->columns) {
            fail("%s: damaged: token %d is in row %d, column %d, expected rows 0..%d, columns 0..%d; %s", name, v, r, c,
                 b->rows - 1, b->columns - 1, remedy);
        }
        int32_t* cell = &b->token[(size_t)r * (size_t)b->columns + (size_t)c];
        if (*cell >= 0) {
            fail("%s: damaged: tokens %d and %d are both in row %d, column %d; %s", name, *cell, v, r, c, remedy);
        }
        *cell = v;
        b->length[r]++;
    }
    codebook_check(name, b, remedy);
}

// A codebook of given cells, e.g. of a checkpoint: checked, else the program ends. row, col: (V)
UNUSED static Codebook codebook_from_cells(const char* name, int V, int columns, const int32_t* row, const int32_t* col,
                                           const char* remedy) {
    Codebook b = codebook_alloc(V, columns);
    memcpy(b.row, row, (size_t)V * sizeof(int32_t));
    memcpy(b.col, col, (size_t)V * sizeof(int32_t));
    codebook_index(name, &b, remedy);
    return b;
}

// order: (V), each id once, else the program ends; NULL = 0..V-1. Token order[i] is the i-th cell by rows, or by columns.
static Codebook codebook_ordered(int V, int columns, const int32_t* order, bool by_columns) {
    Codebook b = codebook_alloc(V, columns);
    memset(b.row, 0xFF, (size_t)V * sizeof(int32_t));
    for (int i = 0; i < V; i++) {
        int v = order ? order[i] : i;
        if (v < 0 || v >= V) fail("the order of a codebook names token %d, expected 0..%d", v, V - 1);
        if (b.row[v] >= 0) fail("the order of a codebook names token %d twice, expected each of 0..%d once", v, V - 1);
        b.row[v] = by_columns ? i % b.rows : i / b.columns;
        b.col[v] = by_columns ? i / b.rows : i % b.columns;
    }
    codebook_index("an ordered codebook", &b, "this is a bug; please report it");
    return b;
}

// Row by row: order[i] is in row i / columns, column i % columns. Only the last row may be short. order: (V)
UNUSED static Codebook codebook_from_order(int V, int columns, const int32_t* order) {
    return codebook_ordered(V, columns, order, false);
}

UNUSED static Codebook codebook_sequential(int V, int columns) { return codebook_ordered(V, columns, NULL, false); }

// Column by column: order[i] is in row i % rows, so rows differ by one token at most, and frequent tokens are spread evenly.
UNUSED static Codebook codebook_snake(int V, int columns, const int32_t* order) {
    return codebook_ordered(V, columns, order, true);
}

// A number that tells codebooks apart: what belongs to one (costs, weights) can say to which.
UNUSED static uint32_t codebook_crc(const Codebook* b) {
    const int32_t sizes[3] = {b->V, b->rows, b->columns};
    uint32_t crc = crc32_add(0, sizes, sizeof sizes);
    crc = crc32_add(crc, b->row, (size_t)b->V * sizeof(int32_t));
    return crc32_add(crc, b->col, (size_t)b->V * sizeof(int32_t));
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading

// Opens a container of kind 3 or 4 and checks what both have: magic, version, kind, shape. header: (TABLE_HEADER)
static FileMap codebook_container(const char* path, int kind, int32_t* header, const char* remedy) {
    char text[TEXT_SHOWN + 1];
    const size_t whole = TABLE_HEADER_BYTES;
    FileMap map = file_map(path, remedy);
    memset(header, 0, whole);
    if (map.size) memcpy(header, map.bytes, map.size < whole ? map.size : whole);
    if (map.size < 4 || header[0] != TABLE_MAGIC) {
        fail("%s: not a file of %s: expected magic %d, found %d (the file starts \"%s\"); %s", path, codebook_kind_name(kind),
             TABLE_MAGIC, header[0], bytes_as_text(text, map.bytes, map.size), remedy);
    }
    if (map.size < whole) {
        fail("%s: truncated: expected a header of %zu bytes, found %zu bytes; %s", path, whole, map.size, remedy);
    }
    if (header[1] != TABLE_VERSION) fail("%s: version %d, expected %d; %s", path, header[1], TABLE_VERSION, remedy);
    if (header[2] != kind) {
        fail("%s: a file of %s (kind %d), expected %s (kind %d); %s", path, codebook_kind_name(header[2]), header[2],
             codebook_kind_name(kind), kind, remedy);
    }
    int V = header[3], columns = header[4], rows = header[CODEBOOK_ROWS_WORD];
    if (V < 1 || V > TABLE_VOCAB_MAX || columns < 1 || columns > V || rows != codebook_rows(V, columns)) {
        fail(
            "%s: damaged: its header says %d tokens in %d rows of %d columns, expected 1..%d tokens, no more columns, and "
            "rows = tokens / columns rounded up; %s",
            path, V, rows, columns, TABLE_VOCAB_MAX, remedy);
    }
    return map;
}

// The length against the shape in the header, then all of it against the checksum.
static void codebook_container_check(const char* path, FileMap map, int32_t* header, uint64_t wanted, const char* remedy) {
    if (map.size != wanted) {
        fail("%s: %s: its header says %d tokens in %d rows of %d columns, so %llu bytes, found %zu; %s", path,
             map.size < wanted ? "truncated" : "wrong length", header[3], header[CODEBOOK_ROWS_WORD], header[4],
             (unsigned long long)wanted, map.size, remedy);
    }
    uint32_t stored = (uint32_t)header[TABLE_CRC_WORD];
    header[TABLE_CRC_WORD] = 0;
    uint32_t crc = crc32_add(0, header, TABLE_HEADER_BYTES);
    crc = crc32_add(crc, map.bytes + TABLE_HEADER_BYTES, map.size - TABLE_HEADER_BYTES);
    if (crc != stored) fail("%s: damaged: expected checksum %08x, found %08x; %s", path, stored, crc, remedy);
}

// Reads the codebook of V tokens in `path`. Every problem with the file ends the program.
UNUSED static Codebook codebook_load(const char* path, int V) {
    char remedy[TABLE_REMEDY];
    int32_t header[TABLE_HEADER];
    codebook_remedy(remedy, V);
    FileMap map = codebook_container(path, TABLE_CODEBOOK, header, remedy);
    codebook_container_check(path, map, header, TABLE_HEADER_BYTES + 4 * (uint64_t)header[3], remedy);
    if (header[3] != V) fail("%s: made for %d tokens, expected %d (--vocab_size); %s", path, header[3], V, remedy);
    Codebook b = codebook_alloc(V, header[4]);
    const uint16_t* cells = (const uint16_t*)(const void*)(map.bytes + TABLE_HEADER_BYTES);
    for (int v = 0; v < V; v++) b.row[v] = cells[v], b.col[v] = cells[V + v];
    codebook_index(path, &b, remedy);
    file_unmap(&map);
    return b;
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing

// Writes to a file that was opened for it, and commits: it appears under its name complete.
UNUSED static void codebook_write(NewFile* file, const Codebook* b) {
    int32_t header[TABLE_HEADER];
    size_t V = (size_t)b->V;
    uint16_t* cells = (uint16_t*)xmalloc(2 * V * sizeof(uint16_t));
    for (size_t v = 0; v < V; v++) cells[v] = (uint16_t)b->row[v], cells[V + v] = (uint16_t)b->col[v];
    memset(header, 0, sizeof header);
    header[0] = TABLE_MAGIC, header[1] = TABLE_VERSION, header[2] = TABLE_CODEBOOK, header[3] = b->V, header[4] = b->columns;
    header[CODEBOOK_ROWS_WORD] = b->rows;
    uint32_t crc = crc32_add(0, header, sizeof header);
    header[TABLE_CRC_WORD] = (int32_t)crc32_add(crc, cells, 2 * V * sizeof(uint16_t));
    new_file_write(file, header, sizeof header);
    new_file_write(file, cells, 2 * V * sizeof(uint16_t));
    new_file_commit(file);
    free(cells);
}

UNUSED static void codebook_save(const char* path, const Codebook* b) {
    NewFile file;
    new_file_open(&file, path);
    codebook_write(&file, b);
}
