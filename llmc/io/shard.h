/*
Token shards: the files that training reads. The format is llm.c's, so FineWeb shards made for it work unchanged.

    byte 0      256 little-endian int32   [0] 20240520   [1] version 1   [2] ntok   [3..255] 0
    byte 1024   ntok little-endian uint16 token ids      the file ends at 1024 + 2 * ntok

A shard is memory-mapped: opening costs nothing, the page cache is shared by all ranks of a machine, and the kernel reads ahead
because the access is declared sequential. A glob names a list of shards, in the order of their names.

Errors: no match, unreadable, not a shard, wrong version, wrong length. Each names the file, what was found, and the way out.
*/
#pragma once

#include "file.h"

#include <glob.h>

#define SHARD_MAGIC 20240520
#define SHARD_VERSION 1
#define SHARD_REMEDY "make one with `make quickstart`, or from your own text with `data/prepare` (data/README.md)"
enum { SHARD_HEADER = 256, SHARD_HEADER_BYTES = 1024 };

typedef struct {
    const char* path;
    const uint16_t* ids;  // (ntok)
    uint64_t ntok;
    FileMap map;
} Shard;

typedef struct {
    char** paths;    // (count), sorted by name
    uint64_t* ntok;  // (count)
    int count;
} ShardList;

// path must outlive the shard.
UNUSED static Shard shard_open(const char* path) {
    Shard shard;
    char text[TEXT_SHOWN + 1];
    int32_t header[SHARD_HEADER];
    shard.path = path;
    shard.map = file_map(path, SHARD_REMEDY);
    size_t size = shard.map.size;
    memset(header, 0, sizeof header);
    if (size) memcpy(header, shard.map.bytes, size < sizeof header ? size : sizeof header);
    if (size < 4 || header[0] != SHARD_MAGIC) {
        fail("%s: not a token shard: expected magic %d, found %d (the file starts \"%s\"); %s", path, SHARD_MAGIC, header[0],
             bytes_as_text(text, shard.map.bytes, size), SHARD_REMEDY);
    }
    if (size < SHARD_HEADER_BYTES) {
        fail("%s: truncated: a shard has a header of %d bytes, found %zu; download or make it again", path, SHARD_HEADER_BYTES,
             size);
    }
    if (header[1] != SHARD_VERSION) {
        fail("%s: shard version %d, expected %d (uint16 ids); make it again with `data/prepare`", path, header[1], SHARD_VERSION);
    }
    shard.ntok = (uint64_t)(header[2] < 0 ? 0 : header[2]);
    uint64_t expected = SHARD_HEADER_BYTES + 2 * shard.ntok;
    if (header[2] < 0 || size != expected) {
        fail("%s: %s: its header says %d tokens, so %llu bytes, found %zu; download or make it again", path,
             size < expected ? "truncated" : "wrong length", header[2], (unsigned long long)expected, size);
    }
    shard.ids = (const uint16_t*)(const void*)(shard.map.bytes + SHARD_HEADER_BYTES);
    return shard;
}

UNUSED static void shard_close(Shard* shard) {
    file_unmap(&shard->map);
    shard->ids = NULL;
    shard->ntok = 0;
}

// All shards that match, sorted by name, each opened once to check it and to learn its length.
UNUSED static ShardList shard_list(const char* pattern) {
    ShardList list;
    glob_t found;
    int status = glob(pattern, 0, NULL, &found);
    if (status == GLOB_NOMATCH || (status == 0 && found.gl_pathc == 0)) fail("no file matches \"%s\"; %s", pattern, SHARD_REMEDY);
    if (status)
        fail("cannot list \"%s\": %s", pattern, status == GLOB_NOSPACE ? "out of host memory" : "a directory is not readable");
    list.count = (int)found.gl_pathc;
    list.paths = (char**)xmalloc((size_t)list.count * sizeof(char*));
    list.ntok = (uint64_t*)xmalloc((size_t)list.count * sizeof(uint64_t));
    for (int i = 0; i < list.count; i++) {
        size_t bytes = strlen(found.gl_pathv[i]) + 1;
        list.paths[i] = (char*)xmalloc(bytes);
        memcpy(list.paths[i], found.gl_pathv[i], bytes);
        Shard shard = shard_open(list.paths[i]);
        list.ntok[i] = shard.ntok;
        shard_close(&shard);
    }
    globfree(&found);
    return list;
}

// What the first `count` shards of the list are: names without directories, so that data may move, and lengths. A resumed run
// reads on where it stood only if the list still begins with the shards of that time.
UNUSED static uint64_t shard_list_hash(const ShardList* list, int count) {
    uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a
    for (int i = 0; i < count && i < list->count; i++) {
        const char* slash = strrchr(list->paths[i], '/');
        for (const char* c = slash ? slash + 1 : list->paths[i]; *c; c++) hash = (hash ^ (uint8_t)*c) * 0x100000001b3ull;
        for (int byte = 0; byte < 8; byte++) hash = (hash ^ (list->ntok[i] >> (8 * byte) & 255)) * 0x100000001b3ull;
    }
    return hash;
}

// Ends a run that would go on in other data: count and hash are of the checkpoint, 0 shards: it does not know.
UNUSED static void shard_list_same(const ShardList* list, const char* pattern, int64_t count, uint64_t hash) {
    if (count == 0 || (count <= list->count && shard_list_hash(list, (int)count) == hash)) return;
    fail(
        "cannot resume: the checkpoint was written with %lld token shards of \"%s\", and the %d that match now do not begin with "
        "those (a name or a length differs); bring them back, or name other data with --input_bin",
        (long long)count, pattern, list->count);
}

// While a run goes on: is the file as long as it was? (Reading behind the new end of a mapped file would be a SIGBUS.) One that
// was deleted can still be read where it is mapped.
UNUSED static bool shard_intact(const char* path, uint64_t ntok, bool mapped) {
    struct stat info;
    if (stat(path, &info)) return mapped;
    return (uint64_t)info.st_size == SHARD_HEADER_BYTES + 2 * ntok;
}

UNUSED static void shard_list_free(ShardList* list) {
    for (int i = 0; i < list->count; i++) free(list->paths[i]);
    free(list->paths);
    free(list->ntok);
    list->paths = NULL;
    list->ntok = NULL;
    list->count = 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing: begin, append as often as needed, end. The file appears under its name only at the end.

typedef struct {
    NewFile file;
    uint64_t ntok;
} ShardWriter;

UNUSED static void shard_begin(ShardWriter* w, const char* path) {
    int32_t header[SHARD_HEADER];
    memset(header, 0, sizeof header);
    new_file_open(&w->file, path);
    new_file_write(&w->file, header, sizeof header);  // rewritten by shard_end, which knows ntok
    w->ntok = 0;
}

UNUSED static void shard_append(ShardWriter* w, const uint16_t* ids, size_t n) {
    if (w->ntok + n > INT32_MAX) fail("%s: a shard holds at most %d tokens; lower --shard_tokens", w->file.path, INT32_MAX);
    new_file_write(&w->file, ids, n * sizeof(uint16_t));
    w->ntok += n;
}

UNUSED static void shard_end(ShardWriter* w) {
    int32_t header[SHARD_HEADER];
    memset(header, 0, sizeof header);
    header[0] = SHARD_MAGIC;
    header[1] = SHARD_VERSION;
    header[2] = (int32_t)w->ntok;
    if (fseek(w->file.stream, 0, SEEK_SET)) fail("%s: cannot seek: %s", w->file.temp, strerror(errno));
    new_file_write(&w->file, header, sizeof header);
    new_file_commit(&w->file);
}

UNUSED static void shard_write(const char* path, const uint16_t* ids, size_t ntok) {
    ShardWriter w;
    shard_begin(&w, path);
    shard_append(&w, ids, ntok);
    shard_end(&w);
}
