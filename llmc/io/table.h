/*
Top-K tables: for every token id up to K other ids, each with a probability. Bigrams of the training text (data/build_ngram) and
nearest neighbours of the embedding (data/build_neighbours) are such tables; the objectives that spread a target read them.

    byte 0      256 little-endian int32   [0] 20250601   [1] version 1   [2] kind: 1 bigrams, 2 neighbours (3: codebooks)
                                          [3] V   [4] K   [5..6] pairs counted (low, high 32 bits)   [7] shards counted
                                          [8] CRC-32 of the whole file with this word as 0   [9..255] 0
    byte 1024   int32  ids (V,K)          -1: no entry; entries come first in a row, the most probable one first, no id twice
                fp32   probs (V,K)        a row sums to 1, or to 0 when it has no entry
                fp32   p_top (V)          share of all that followed v which the row covers; p_top * probs are shares of all
                uint64 row counts (V)     pairs that began with v; 0 in tables of neighbours

The most probable entry comes first so that a table made for K serves every smaller K: rows are cut and brought back to sum 1.
Nothing of a file is used before it was checked: the sizes in the header against the file's size, all of it against the
checksum, ids and probabilities against their ranges. Memory is allocated for the (V,K) that the caller asked for.
*/
#pragma once

#include "crc32.h"
#include "file.h"

#include <math.h>

typedef enum { TABLE_BIGRAM = 1, TABLE_NEIGHBOURS = 2, TABLE_CODEBOOK = 3 } TableKind;

enum { TABLE_MAGIC = 20250601, TABLE_VERSION = 1, TABLE_HEADER = 256, TABLE_HEADER_BYTES = 1024, TABLE_CRC_WORD = 8 };
enum { TABLE_VOCAB_MAX = 65536, TABLE_REMEDY = 256 };

typedef struct {
    int kind, V, K;        // K: entries of a row here, which may be fewer than the file has
    int32_t* ids;          // (V,K) in -1..V-1
    float* probs;          // (V,K)
    float* p_top;          // (V)
    uint64_t* row_counts;  // (V)
    uint64_t pairs;        // sum of row_counts
    int shards;
} TopTable;

static const char* table_kind_name(int kind) {
    return kind == TABLE_BIGRAM       ? "bigrams"
           : kind == TABLE_NEIGHBOURS ? "neighbours"
           : kind == TABLE_CODEBOOK   ? "codebooks"
                                      : "?";
}

static uint64_t table_bytes(uint64_t V, uint64_t K) { return TABLE_HEADER_BYTES + 8 * V * K + 12 * V; }

// out: TABLE_REMEDY chars. The end of every error sentence: the command that makes the table.
static const char* table_remedy(char* out, int kind, int V, int K) {
    if (kind == TABLE_NEIGHBOURS) {
        const char* command = "data/build_neighbours --checkpoint runs/NAME/step_00005000.ckpt";
        snprintf(out, TABLE_REMEDY, "make it with `%s --vocab_size %d --m %d --out FILE`", command, V, K);
    } else {
        const char* command = "data/build_ngram \"data/NAME_train_*.bin\"";
        snprintf(out, TABLE_REMEDY, "make it with `%s --vocab_size %d --k %d --out FILE`", command, V, K);
    }
    return out;
}

// An empty table: every id -1, everything else 0.
UNUSED static TopTable top_table_alloc(int kind, int V, int K) {
    TopTable t;
    size_t entries = (size_t)V * (size_t)K;
    t.kind = kind, t.V = V, t.K = K;
    t.ids = (int32_t*)xmalloc(entries * sizeof(int32_t));
    memset(t.ids, 0xFF, entries * sizeof(int32_t));
    t.probs = (float*)xcalloc(entries * sizeof(float));
    t.p_top = (float*)xcalloc((size_t)V * sizeof(float));
    t.row_counts = (uint64_t*)xcalloc((size_t)V * sizeof(uint64_t));
    t.pairs = 0, t.shards = 0;
    return t;
}

UNUSED static void top_table_free(TopTable* t) {
    free(t->ids);
    free(t->probs);
    free(t->p_top);
    free(t->row_counts);
    memset(t, 0, sizeof *t);
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading

// The header against the file's size and against what is wanted. header: (TABLE_HEADER)
static void table_header_check(const char* path, const int32_t* header, FileMap map, int kind, int V, int K) {
    char text[TEXT_SHOWN + 1], remedy[TABLE_REMEDY];
    table_remedy(remedy, kind, V, K);
    if (map.size < 4 || header[0] != TABLE_MAGIC) {
        fail("%s: not a table of %s: expected magic %d, found %d (the file starts \"%s\"); %s", path, table_kind_name(kind),
             TABLE_MAGIC, header[0], bytes_as_text(text, map.bytes, map.size), remedy);
    }
    if (map.size < TABLE_HEADER_BYTES) {
        fail("%s: truncated: a table has a header of %d bytes, found %zu bytes; %s", path, TABLE_HEADER_BYTES, map.size, remedy);
    }
    if (header[1] != TABLE_VERSION) {
        fail("%s: table version %d, expected %d; %s", path, header[1], TABLE_VERSION, remedy);
    }
    if (header[2] != kind) {
        fail("%s: a table of %s (kind %d), expected %s (kind %d); %s", path, table_kind_name(header[2]), header[2],
             table_kind_name(kind), kind, remedy);
    }
    if (header[3] < 1 || header[3] > TABLE_VOCAB_MAX || header[4] < 1 || header[4] > header[3]) {
        fail("%s: damaged: its header says %d ids and %d entries each, expected 1..%d ids and no more entries; %s", path,
             header[3], header[4], TABLE_VOCAB_MAX, remedy);
    }
    unsigned long long wanted = table_bytes((uint64_t)header[3], (uint64_t)header[4]);
    if (map.size != wanted) {
        fail("%s: %s: its header says %d ids with %d entries each, so %llu bytes, found %zu; %s", path,
             map.size < wanted ? "truncated" : "wrong length", header[3], header[4], wanted, map.size, remedy);
    }
    if (header[3] != V) {
        fail("%s: made for %d ids, expected %d (--vocab_size); %s", path, header[3], V, remedy);
    }
    if (header[4] < K) {
        fail("%s: has %d entries for each id, expected %d or more; ask for %d, or %s", path, header[4], K, header[4], remedy);
    }
}

// Row v of a file with `entries` of them. seen: (V), seen[id] == v + 1 once id occurred in row v. Fails on what is impossible.
static void table_row_check(const char* path, const TopTable* t, int v, const int32_t* ids, const float* probs, int entries,
                            int32_t* seen, const char* remedy) {
    double sum = 0;
    for (int j = 0; j < entries; j++) {
        if (ids[j] < -1 || ids[j] >= t->V) {
            fail("%s: damaged: entry %d of id %d is id %d, expected -1..%d; %s", path, j, v, ids[j], t->V - 1, remedy);
        }
        if (!(probs[j] >= 0.0f && probs[j] <= 1.0f) || (ids[j] < 0 && probs[j] != 0.0f)) {
            fail("%s: damaged: entry %d of id %d has probability %g, expected %s; %s", path, j, v, (double)probs[j],
                 ids[j] < 0 ? "0 as it is empty" : "0..1", remedy);
        }
        bool ordered = j == 0 || (probs[j] <= probs[j - 1] && (ids[j] < 0 || ids[j - 1] >= 0));
        bool twice = ids[j] >= 0 && seen[ids[j]] == v + 1;
        if (!ordered || twice) {
            fail("%s: damaged: the entries of id %d are not in order of probability, each id once; %s", path, v, remedy);
        }
        if (ids[j] >= 0) seen[ids[j]] = v + 1;
        sum += (double)probs[j];
    }
    bool empty = ids[0] < 0;
    if (!empty && fabs(sum - 1.0) > 1e-4) {
        fail("%s: damaged: the probabilities of id %d sum to %g, expected 1; %s", path, v, sum, remedy);
    }
    if (!(t->p_top[v] >= 0.0f && t->p_top[v] <= 1.0f) || (t->p_top[v] == 0.0f) != empty) {
        fail("%s: damaged: the entries of id %d cover a share of %g, expected %s; %s", path, v, (double)t->p_top[v],
             empty ? "0 as there are none" : "more than 0 and at most 1", remedy);
    }
}

// The first K entries of the file's row become row v, with sum 1.
static void table_row_take(TopTable* t, int v, const int32_t* ids, const float* probs, int entries) {
    size_t row = (size_t)v * (size_t)t->K;
    double kept = 0;
    for (int j = 0; j < t->K; j++) kept += (double)probs[j];
    if (entries == t->K || kept == 0.0) kept = 1;  // a whole row keeps its bits
    for (int j = 0; j < t->K; j++) {
        t->ids[row + (size_t)j] = ids[j];
        t->probs[row + (size_t)j] = (float)((double)probs[j] / kept);
    }
    if (kept < 1) t->p_top[v] = (float)((double)t->p_top[v] * kept);
}

// Reads a table of this kind for V ids with at least K entries each, and keeps K. Every problem with the file ends the program.
UNUSED static TopTable top_table_load(const char* path, int kind, int V, int K) {
    char remedy[TABLE_REMEDY];
    int32_t header[TABLE_HEADER];
    FileMap map = file_map(path, table_remedy(remedy, kind, V, K));
    memset(header, 0, sizeof header);
    if (map.size) memcpy(header, map.bytes, map.size < sizeof header ? map.size : sizeof header);
    table_header_check(path, header, map, kind, V, K);
    uint32_t stored = (uint32_t)header[TABLE_CRC_WORD];
    header[TABLE_CRC_WORD] = 0;
    uint32_t crc = crc32_add(0, header, sizeof header);
    crc = crc32_add(crc, map.bytes + TABLE_HEADER_BYTES, map.size - TABLE_HEADER_BYTES);
    if (crc != stored) fail("%s: damaged: expected checksum %08x, found %08x; %s", path, stored, crc, remedy);

    TopTable t = top_table_alloc(kind, V, K);
    int entries = header[4];
    const int32_t* ids = (const int32_t*)(const void*)(map.bytes + TABLE_HEADER_BYTES);
    const float* probs = (const float*)(const void*)(ids + (size_t)V * (size_t)entries);
    const float* p_top = probs + (size_t)V * (size_t)entries;
    int32_t* seen = (int32_t*)xcalloc((size_t)V * sizeof(int32_t));
    memcpy(t.p_top, p_top, (size_t)V * sizeof(float));
    memcpy(t.row_counts, p_top + V, (size_t)V * sizeof(uint64_t));  // not aligned when V is odd
    t.pairs = (uint64_t)(uint32_t)header[5] | (uint64_t)(uint32_t)header[6] << 32;
    t.shards = header[7];
    uint64_t pairs = 0;
    for (int v = 0; v < V; v++) {
        size_t row = (size_t)v * (size_t)entries;
        table_row_check(path, &t, v, ids + row, probs + row, entries, seen, remedy);
        table_row_take(&t, v, ids + row, probs + row, entries);
        pairs += t.row_counts[v];
    }
    if (pairs != t.pairs) {
        fail("%s: damaged: its header says %llu pairs, its rows have %llu; %s", path, (unsigned long long)t.pairs,
             (unsigned long long)pairs, remedy);
    }
    free(seen);
    file_unmap(&map);
    return t;
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing

// Writes the table to a file that was opened for it, and commits: it appears under its name complete.
UNUSED static void top_table_write(NewFile* file, const TopTable* t) {
    int32_t header[TABLE_HEADER];
    size_t entries = (size_t)t->V * (size_t)t->K, V = (size_t)t->V;
    memset(header, 0, sizeof header);
    header[0] = TABLE_MAGIC, header[1] = TABLE_VERSION, header[2] = t->kind, header[3] = t->V, header[4] = t->K;
    header[5] = (int32_t)(uint32_t)t->pairs, header[6] = (int32_t)(uint32_t)(t->pairs >> 32), header[7] = t->shards;
    uint32_t crc = crc32_add(0, header, sizeof header);
    crc = crc32_add(crc, t->ids, entries * sizeof(int32_t));
    crc = crc32_add(crc, t->probs, entries * sizeof(float));
    crc = crc32_add(crc, t->p_top, V * sizeof(float));
    crc = crc32_add(crc, t->row_counts, V * sizeof(uint64_t));
    header[TABLE_CRC_WORD] = (int32_t)crc;
    new_file_write(file, header, sizeof header);
    new_file_write(file, t->ids, entries * sizeof(int32_t));
    new_file_write(file, t->probs, entries * sizeof(float));
    new_file_write(file, t->p_top, V * sizeof(float));
    new_file_write(file, t->row_counts, V * sizeof(uint64_t));
    new_file_commit(file);
}

UNUSED static void top_table_save(const char* path, const TopTable* t) {
    NewFile file;
    new_file_open(&file, path);
    top_table_write(&file, t);
}
