/*
Reference losses: what a reference model makes of every token of a shard. --score_bin writes them (model/score.cuh), and the token
filter's --tf_rule excess compares a run's own losses with them.

    shard    PATH/train_000003.bin      | header | id 0 | id 1 | ..
    losses   DIR/train_000003.losses    | header | l 0  | l 1  | ..        l i = -ln p(id i | the tokens before it), in nats

    byte 0      256 little-endian int32   [0] 20240521   [1] version 1   [2] ntok, the shard's
                                          [3] CRC-32 of the shard's ids   [4] CRC-32 of the losses (2 ntok bytes each)
                                          [5] CRC-32 that names the model   [6] T, the tokens that it saw at once   [7..255] 0
    byte 1024   ntok little-endian IEEE halves, 0 or more; l 0 is 0, since nothing stands before it

A half has 11 bits: a loss of 8 to 16 nats is off by 0.004 at most. The ids' checksum ties a file to the tokens of its shard, not
to its name: data may move, and a list of shards that all have the same length cannot be mixed up. All of it is checked before a
run begins, which reads every shard and its losses once (3 GB/s a core).
*/
#pragma once

#include "crc32.h"
#include "shard.h"

#define REFERENCE_MAGIC 20240521
#define REFERENCE_VERSION 1
#define REFERENCE_REMEDY "write it with --score_bin SHARDS --score_dir DIR --init_from CHECKPOINT"
#define REFERENCE_MOST 65504.0f  // the largest half
enum { REFERENCE_IDS_CRC = 3, REFERENCE_LOSSES_CRC = 4, REFERENCE_MODEL = 5, REFERENCE_T = 6 };

typedef struct {
    const char* path;
    const uint16_t* losses;  // (ntok) halves
    int32_t header[SHARD_HEADER];
    FileMap map;
} ReferenceLosses;

// x in 0 .. REFERENCE_MOST, to nearest even; and back.
UNUSED static inline uint16_t half_of_loss(float x) {
    uint32_t u, tiny;
    float shifted = x + 0.5f;  // the adder rounds at 2^-24, where halves below 2^-14 end
    memcpy(&u, &x, 4), memcpy(&tiny, &shifted, 4);
    return (uint16_t)(u < 0x38800000u ? tiny - 0x3f000000u : (u - 0x38000000u + 0xfffu + (u >> 13 & 1)) >> 13);
}
UNUSED static inline float loss_of_half(uint16_t half) {
    uint32_t u = (uint32_t)half << 13;
    float x;
    memcpy(&x, &u, 4);
    return x * 0x1p112f;
}

// DIR/NAME.losses for the shard PATH/NAME.bin, the caller's to free.
UNUSED static char* reference_path(const char* dir, const char* shard) {
    const char *slash = strrchr(shard, '/'), *name = slash ? slash + 1 : shard, *dot = strrchr(name, '.');
    size_t length = dot ? (size_t)(dot - name) : strlen(name), bytes = strlen(dir) + length + sizeof("/.losses");
    char* path = (char*)xmalloc(bytes);
    snprintf(path, bytes, "%s/%.*s.losses", dir, (int)length, name);
    return path;
}

// path must outlive it. Errors: not such a file, another version, cut short.
UNUSED static ReferenceLosses reference_open(const char* path) {
    ReferenceLosses r;
    char text[TEXT_SHOWN + 1];
    r.path = path, r.map = file_map(path, REFERENCE_REMEDY);
    size_t size = r.map.size;
    memset(r.header, 0, sizeof r.header);
    if (size) memcpy(r.header, r.map.bytes, size < sizeof r.header ? size : sizeof r.header);
    if (size < 4 || r.header[0] != REFERENCE_MAGIC) {
        fail("%s: no reference losses: expected magic %d, found %d (the file starts \"%s\"); " REFERENCE_REMEDY, path,
             REFERENCE_MAGIC, r.header[0], bytes_as_text(text, r.map.bytes, size));
    }
    if (size >= sizeof r.header && r.header[1] != REFERENCE_VERSION) {
        fail("%s: reference losses of version %d, expected %d; delete it and " REFERENCE_REMEDY, path, r.header[1],
             REFERENCE_VERSION);
    }
    uint64_t expected = SHARD_HEADER_BYTES + 2 * (uint64_t)(uint32_t)r.header[2];
    if (r.header[2] < 0 || size != expected) {
        fail("%s: %s: its header says %d tokens, so %llu bytes, found %zu; delete it and " REFERENCE_REMEDY, path,
             size < expected ? "truncated" : "wrong length", r.header[2], (unsigned long long)expected, size);
    }
    r.losses = (const uint16_t*)(const void*)(r.map.bytes + SHARD_HEADER_BYTES);
    return r;
}

UNUSED static void reference_close(ReferenceLosses* r) {
    file_unmap(&r->map);
    r->losses = NULL;
}

// Are they the losses of this shard's tokens, and whole? If not, the program ends.
UNUSED static void reference_check(const ReferenceLosses* r, const Shard* shard) {
    size_t bytes = 2 * (size_t)shard->ntok;
    if ((uint64_t)r->header[2] != shard->ntok) {
        fail("%s: losses of %d tokens, but %s has %llu; it is of another shard: name the folder of these shards' losses, or %s",
             r->path, r->header[2], shard->path, (unsigned long long)shard->ntok, REFERENCE_REMEDY);
    }
    if (crc32_add(0, shard->ids, bytes) != (uint32_t)r->header[REFERENCE_IDS_CRC]) {
        fail("%s: losses of other tokens than those of %s; name the folder of these shards' losses, or " REFERENCE_REMEDY,
             r->path, shard->path);
    }
    unsigned most = 0;
    for (uint64_t i = 0; i < shard->ntok; i++) most = r->losses[i] > most ? r->losses[i] : most;
    if (crc32_add(0, r->losses, bytes) != (uint32_t)r->header[REFERENCE_LOSSES_CRC]) {
        fail("%s: damaged: the checksum of its losses is wrong; delete it and " REFERENCE_REMEDY, r->path);
    }
    if (most > half_of_loss(REFERENCE_MOST)) {
        fail("%s: a loss in it is negative or not finite; delete it and " REFERENCE_REMEDY, r->path);
    }
}

// Files of the losses of every shard of the list, in its order, all checked, and of one model. They are the caller's to free.
UNUSED static char** reference_list(const char* dir, const ShardList* shards) {
    char** paths = (char**)xmalloc((size_t)shards->count * sizeof(char*));
    int32_t model = 0, T = 0;
    for (int i = 0; i < shards->count; i++) {
        paths[i] = reference_path(dir, shards->paths[i]);
        ReferenceLosses r = reference_open(paths[i]);
        Shard shard = shard_open(shards->paths[i]);
        reference_check(&r, &shard);
        if (i == 0) model = r.header[REFERENCE_MODEL], T = r.header[REFERENCE_T];
        if (r.header[REFERENCE_MODEL] != model || r.header[REFERENCE_T] != T) {
            fail("%s and %s: losses of two models, which do not compare; score all shards with the same --init_from", paths[0],
                 paths[i]);
        }
        shard_close(&shard);
        reference_close(&r);
    }
    return paths;
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing: begin, append as often as needed, end. The file appears under its name only at the end.

typedef struct {
    NewFile file;
    uint64_t ntok;
    uint32_t crc;
} ReferenceWriter;

// path: of a file that is not there.
UNUSED static void reference_begin(ReferenceWriter* w, const char* path) {
    int32_t header[SHARD_HEADER];
    memset(header, 0, sizeof header);
    if (!access(path, F_OK)) fail("%s: is there already; it is not overwritten: move it away, or name another folder", path);
    new_file_open(&w->file, path);
    new_file_write(&w->file, header, sizeof header);  // rewritten by reference_end, which knows the checksums
    w->ntok = 0, w->crc = 0;
}

// losses (n) in nats. One that is not a number, or beyond REFERENCE_MOST, ends the program; below 0 by rounding is 0.
UNUSED static void reference_append(ReferenceWriter* w, const float* losses, size_t n) {
    uint16_t halves[512];
    for (size_t i = 0; i < n; i += 512) {
        size_t some = n - i < 512 ? n - i : 512;
        for (size_t j = 0; j < some; j++) {
            float loss = losses[i + j];
            if (!(loss <= REFERENCE_MOST)) {
                fail("%s: the loss of token %llu is %g: nothing compares with that; use another checkpoint", w->file.path,
                     (unsigned long long)(w->ntok + j), loss);
            }
            halves[j] = loss > 0 ? half_of_loss(loss) : 0;
        }
        new_file_write(&w->file, halves, some * sizeof(uint16_t));
        w->crc = crc32_add(w->crc, halves, some * sizeof(uint16_t));
        w->ntok += some;
    }
}

// The losses of all tokens of `shard`, by the model of that CRC with T tokens at once.
UNUSED static void reference_end(ReferenceWriter* w, const Shard* shard, uint32_t model, int T) {
    int32_t header[SHARD_HEADER];
    memset(header, 0, sizeof header);
    header[0] = REFERENCE_MAGIC, header[1] = REFERENCE_VERSION, header[2] = (int32_t)w->ntok;
    header[REFERENCE_IDS_CRC] = (int32_t)crc32_add(0, shard->ids, 2 * (size_t)shard->ntok);
    header[REFERENCE_LOSSES_CRC] = (int32_t)w->crc;
    header[REFERENCE_MODEL] = (int32_t)model, header[REFERENCE_T] = T;
    if (fseek(w->file.stream, 0, SEEK_SET)) fail("%s: cannot seek: %s", w->file.temp, strerror(errno));
    new_file_write(&w->file, header, sizeof header);
    new_file_commit(&w->file);
}
