/*
Codebook costs: what each token would cost in every row and in every column of the table, in nats summed over its occurrences. The
trainer collects them from the two softmaxes of a factorised vocabulary; data/build_codebook --method matching looks for a
codebook with a smaller sum.

    l_r(v,i) = sum over positions t with target v of -log P_row(i | h_t)
    l_c(v,j) = sum over positions t with target v of -log P_col(j | h_t, the row that v has now)

The file is the container of llmc/io/table.h with kind 4:

    byte 0      256 little-endian int32   [0] 20250601   [1] version 1   [2] kind 4   [3] V   [4] columns
                                          [5..6] positions summed over (low, high 32 bits)   [7] 0
                                          [8] CRC-32 of the whole file with this word as 0   [9] rows
                                          [10] codebook_crc of the codebook they were measured with   [11..255] 0
    byte 1024   fp32 l_r (V, rows)
                fp32 l_c (V, columns)     column 0 first; of the columns behind a short row's end, which have not been measured
                                          for its tokens, the mean of those that have

Costs mean nothing for another codebook than theirs, so reading them asks for it. At most CODEBOOK_COSTS_SIDE rows and columns:
2 * 65536 * 1024 values are 512 MiB; 50257 tokens in 197 x 256 take 87 MiB.
*/
#pragma once

#include "codebook.h"

enum { CODEBOOK_CRC_WORD = 10, CODEBOOK_COSTS_SIDE = 1024 };

static const float codebook_cost_max = 1e30f;  // so that sums of costs are finite

typedef struct {
    int V, rows, columns;
    float* l_r;          // (V, rows) nats, 0..codebook_cost_max
    float* l_c;          // (V, columns)
    uint64_t positions;  // summed over
    uint32_t codebook;   // codebook_crc
} CodebookCosts;

// out: TABLE_REMEDY chars
static const char* codebook_costs_remedy(char* out) {
    snprintf(out, TABLE_REMEDY, "measure the costs again with this codebook");
    return out;
}

// All costs 0, for this codebook. A table with a side that is too long ends the program.
UNUSED static CodebookCosts codebook_costs_alloc(const Codebook* b) {
    CodebookCosts c;
    if (b->rows > CODEBOOK_COSTS_SIDE || b->columns > CODEBOOK_COSTS_SIDE) {
        fail("costs of a codebook with %d rows and %d columns: expected at most %d of either; use a squarer codebook", b->rows,
             b->columns, CODEBOOK_COSTS_SIDE);
    }
    c.V = b->V, c.rows = b->rows, c.columns = b->columns, c.positions = 0, c.codebook = codebook_crc(b);
    c.l_r = (float*)xcalloc((size_t)c.V * (size_t)c.rows * sizeof(float));
    c.l_c = (float*)xcalloc((size_t)c.V * (size_t)c.columns * sizeof(float));
    return c;
}

UNUSED static void codebook_costs_free(CodebookCosts* c) {
    free(c->l_r);
    free(c->l_c);
    memset(c, 0, sizeof *c);
}

// values: (V, side)
static void codebook_costs_check(const char* path, const char* what, const float* values, int V, int side, const char* remedy) {
    for (size_t i = 0; i < (size_t)V * (size_t)side; i++) {
        if (values[i] >= 0.0f && values[i] <= codebook_cost_max) continue;
        fail("%s: damaged: token %zu costs %g in %s %zu, expected 0..%g nats; %s", path, i / (size_t)side, (double)values[i],
             what, i % (size_t)side, (double)codebook_cost_max, remedy);
    }
}

// Reads the costs that were measured with codebook b. Every problem with the file ends the program.
UNUSED static CodebookCosts codebook_costs_load(const char* path, const Codebook* b) {
    char remedy[TABLE_REMEDY];
    int32_t header[TABLE_HEADER];
    codebook_costs_remedy(remedy);
    FileMap map = codebook_container(path, CODEBOOK_COSTS_KIND, header, remedy);
    uint64_t values = (uint64_t)header[3] * ((uint64_t)header[4] + (uint64_t)header[CODEBOOK_ROWS_WORD]);
    codebook_container_check(path, map, header, TABLE_HEADER_BYTES + 4 * values, remedy);
    if (header[3] != b->V || header[4] != b->columns || (uint32_t)header[CODEBOOK_CRC_WORD] != codebook_crc(b)) {
        fail("%s: measured with another codebook (%d tokens, %d columns, checksum %08x), expected this one (%d, %d, %08x); %s",
             path, header[3], header[4], (uint32_t)header[CODEBOOK_CRC_WORD], b->V, b->columns, codebook_crc(b), remedy);
    }
    CodebookCosts c = codebook_costs_alloc(b);
    const float* l_r = (const float*)(const void*)(map.bytes + TABLE_HEADER_BYTES);
    size_t of_rows = (size_t)c.V * (size_t)c.rows, of_columns = (size_t)c.V * (size_t)c.columns;
    memcpy(c.l_r, l_r, of_rows * sizeof(float));
    memcpy(c.l_c, l_r + of_rows, of_columns * sizeof(float));
    c.positions = (uint64_t)(uint32_t)header[5] | (uint64_t)(uint32_t)header[6] << 32;
    file_unmap(&map);
    codebook_costs_check(path, "row", c.l_r, c.V, c.rows, remedy);
    codebook_costs_check(path, "column", c.l_c, c.V, c.columns, remedy);
    return c;
}

// Ends the program if there is something at `path` that is no file of costs.
UNUSED static void codebook_costs_keep_others(const char* path) {
    int32_t header[3] = {0, 0, 0};
    struct stat info;
    if (stat(path, &info)) return;
    FILE* file = S_ISREG(info.st_mode) ? fopen(path, "rb") : NULL;
    bool ours =
        file && fread(header, sizeof header, 1, file) == 1 && header[0] == TABLE_MAGIC && header[2] == CODEBOOK_COSTS_KIND;
    if (file) fclose(file);
    if (!ours) fail("%s: exists and is not a file of codebook costs, so it is kept; name another file, or remove it", path);
}

// Writes to a file that was opened for it, and commits: it appears under its name complete. Costs out of range end the program:
// they would be refused when read.
UNUSED static void codebook_costs_write(NewFile* file, const CodebookCosts* c) {
    const char* path = file->path;
    int32_t header[TABLE_HEADER];
    size_t of_rows = (size_t)c->V * (size_t)c->rows, of_columns = (size_t)c->V * (size_t)c->columns;
    const char* remedy = "use a model from before the run went wrong";
    codebook_costs_check(path, "row", c->l_r, c->V, c->rows, remedy);
    codebook_costs_check(path, "column", c->l_c, c->V, c->columns, remedy);
    memset(header, 0, sizeof header);
    header[0] = TABLE_MAGIC, header[1] = TABLE_VERSION, header[2] = CODEBOOK_COSTS_KIND, header[3] = c->V;
    header[4] = c->columns, header[5] = (int32_t)(uint32_t)c->positions, header[6] = (int32_t)(uint32_t)(c->positions >> 32);
    header[CODEBOOK_ROWS_WORD] = c->rows, header[CODEBOOK_CRC_WORD] = (int32_t)c->codebook;
    uint32_t crc = crc32_add(0, header, sizeof header);
    crc = crc32_add(crc, c->l_r, of_rows * sizeof(float));
    header[TABLE_CRC_WORD] = (int32_t)crc32_add(crc, c->l_c, of_columns * sizeof(float));
    new_file_write(file, header, sizeof header);
    new_file_write(file, c->l_r, of_rows * sizeof(float));
    new_file_write(file, c->l_c, of_columns * sizeof(float));
    new_file_commit(file);
}

UNUSED static void codebook_costs_save(const char* path, const CodebookCosts* c) {
    NewFile file;
    new_file_open(&file, path);
    codebook_costs_write(&file, c);
}
