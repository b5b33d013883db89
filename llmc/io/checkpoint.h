/*
A checkpoint: one file, whole or absent, that continues a run bit for bit.

    0        header (64)            magic, version, counts, sizes, checksums; written last
    64       flags                  the effective flags, an @file in itself
             run state              key=value lines (run_state.h)
             zeros to a multiple of 64
             rows (128 each)        per tensor: name, shape, and per array its offset and CRC-32
    payload  masters of tensor 0 | zeros to 64 | masters of tensor 1 | ..  then all m, then all v     fp32, little endian

`arrays` is 3 (masters, m, v) or 1 (weights only: --init_from, export). Tensors are stored by name, without the padding between
them, so a later layout of the arena reads older files. All bytes are under a checksum: the first 60 by header_crc, 64..payload
by meta_crc, every tensor with its trailing zeros by the row's crc.

    writing   checkpoint_writer_open   path.tmp, beside the final name
              checkpoint_writer_put    one tensor of one array, in one piece or several: a small pinned buffer is enough
              checkpoint_writer_close  header, fsync, rename, fsync of the directory
    reading   checkpoint_reader_open   sizes, versions, checksum of all but the payload
              checkpoint_reader_match  its tensors against this run's table
              checkpoint_reader_get    one tensor of one array, in one piece or several; the last one checks the CRC
              checkpoint_reader_close

Every function returns true, or false with one sentence in `error`: a full disk need not end a run that has an older checkpoint.
A failed writer has removed its temporary file. Tried and dropped: mapping the file to write it (a full disk is then a SIGBUS).
*/
#pragma once

#include "../base/params.h"
#include "crc32.h"
#include "file.h"
#include "run_state.h"

enum { CHECKPOINT_MASTERS, CHECKPOINT_M, CHECKPOINT_V, CHECKPOINT_ARRAYS };
enum { CHECKPOINT_VERSION = 1, CHECKPOINT_ALIGN = 64, CHECKPOINT_TENSORS_MAX = 1 << 16, CHECKPOINT_TEXT_MAX = 1 << 20 };
#define CHECKPOINT_MAGIC 0x31504B4344414841ull  // "AHADCKP1" in the file

typedef struct {
    uint64_t magic;
    uint32_t version, tensors, arrays, flags_bytes, state_bytes, meta_crc;
    uint64_t file_bytes, payload;
    uint32_t unused[3], header_crc;
} CheckpointHeader;

typedef struct {
    char name[48];
    int32_t ndim, dims[PARAM_DIMS];
    uint64_t elements;
    uint64_t offset[CHECKPOINT_ARRAYS];  // bytes from the start of the file
    uint32_t crc[CHECKPOINT_ARRAYS], unused[5];
} CheckpointRow;

// How a file's tensors may differ from a model's
typedef enum {
    MATCH_EXACT,    // not at all: to resume
    MATCH_WITHIN,   // the file may hold more (heads that only training needs): to sample, to validate, to export
    MATCH_PARTIAL,  // and the model may have more, which keeps its initial values: to start a larger model from a smaller one
} CheckpointMatch;

typedef char checkpoint_layout_check[sizeof(CheckpointHeader) == 64 && sizeof(CheckpointRow) == 128 ? 1 : -1];

enum { CHECKPOINT_ERROR = 1024 };

typedef struct {
    int fd;
    char *path, *temp;
    uint8_t* head;  // the file up to the payload
    size_t head_bytes;
    CheckpointRow* rows;  // inside head
    int tensors, arrays;
    uint64_t* done;  // (tensors, arrays) elements put so far
    bool failed;
    char error[CHECKPOINT_ERROR];
} CheckpointWriter;

typedef struct {
    int fd;
    char* path;
    uint8_t* head;
    CheckpointHeader header;
    const CheckpointRow* rows;  // inside head
    char* flags;                // text for flags_parse_text
    RunState state;
    int* row_of;     // (parameters of the table given to match) row of a parameter id, -1: not in the file
    uint64_t* done;  // (tensors, arrays) elements got so far
    uint32_t* crc;   // (tensors, arrays) of those
    char error[CHECKPOINT_ERROR];
} CheckpointReader;

static size_t checkpoint_array_bytes(uint64_t elements) { return round_up((size_t)elements * 4, CHECKPOINT_ALIGN); }

// "(50304, 768)"
static const char* checkpoint_shape(char* out, size_t size, int ndim, const int* dims) {
    size_t n = 0;
    for (int i = 0; i < ndim && n < size; i++) n += (size_t)snprintf(out + n, size - n, "%s%d", i ? ", " : "(", dims[i]);
    if (n < size) snprintf(out + n, size - n, ")");
    return out;
}

// Removes the temporary file and keeps the sentence.
static bool checkpoint_writer_fail(CheckpointWriter* w, const char* doing) {
    if (!w->failed) {
        const char* fix = "free some space or name another --output_dir (earlier checkpoints are whole)";
        snprintf(w->error, sizeof(w->error), "%s: cannot %s: %s; %s", w->path, doing, strerror(errno), fix);
    }
    w->failed = true;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temp);
    }
    w->fd = -1;
    return false;
}

static bool checkpoint_pwrite(int fd, const void* data, size_t bytes, uint64_t offset) {
    const char* p = (const char*)data;
    while (bytes) {
        ssize_t n = pwrite(fd, p, bytes < (1u << 30) ? bytes : 1u << 30, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n, offset += (uint64_t)n, bytes -= (size_t)n;
    }
    return true;
}

static bool checkpoint_pread(int fd, void* data, size_t bytes, uint64_t offset) {
    char* p = (char*)data;
    while (bytes) {
        ssize_t n = pread(fd, p, bytes < (1u << 30) ? bytes : 1u << 30, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = EIO;  // shorter than it was at open
        if (n <= 0) return false;
        p += n, offset += (uint64_t)n, bytes -= (size_t)n;
    }
    return true;
}

// Starts `path` (see checkpoint_path) with `arrays` arrays of every tensor of the table. The directory must exist.
UNUSED static bool checkpoint_writer_open(CheckpointWriter* w, const char* path, const ParamTable* table, int arrays,
                                          const char* flags, const RunState* state) {
    memset(w, 0, sizeof(*w));
    Text text = {0, 0, 0}, temp = {0, 0, 0};
    run_state_text(state, &text);
    text_add(&temp, "%s.tmp", path);
    w->path = text_copy(path), w->temp = temp.data;
    w->tensors = table->count, w->arrays = arrays;
    w->done = (uint64_t*)xcalloc((size_t)table->count * (size_t)arrays * sizeof(uint64_t));

    size_t flags_bytes = strlen(flags), rows_at = round_up(sizeof(CheckpointHeader) + flags_bytes + text.size, CHECKPOINT_ALIGN);
    w->head_bytes = rows_at + (size_t)table->count * sizeof(CheckpointRow);
    w->head = (uint8_t*)xcalloc(w->head_bytes);
    w->rows = (CheckpointRow*)(w->head + rows_at);
    memcpy(w->head + sizeof(CheckpointHeader), flags, flags_bytes);
    memcpy(w->head + sizeof(CheckpointHeader) + flags_bytes, text.data, text.size);
    CheckpointHeader* h = (CheckpointHeader*)w->head;
    h->magic = CHECKPOINT_MAGIC, h->version = CHECKPOINT_VERSION;
    h->tensors = (uint32_t)table->count, h->arrays = (uint32_t)arrays;
    h->flags_bytes = (uint32_t)flags_bytes, h->state_bytes = (uint32_t)text.size;
    h->payload = w->head_bytes;
    uint64_t offset = h->payload;
    for (int a = 0; a < arrays; a++) {
        for (int i = 0; i < table->count; i++) {
            w->rows[i].offset[a] = offset;
            offset += checkpoint_array_bytes(table->rows[i].size);
        }
    }
    h->file_bytes = offset;
    for (int i = 0; i < table->count; i++) {
        CheckpointRow* row = &w->rows[i];
        memcpy(row->name, table->rows[i].name, sizeof(row->name));
        row->ndim = table->rows[i].ndim, row->elements = table->rows[i].size;
        for (int d = 0; d < PARAM_DIMS; d++) row->dims[d] = table->rows[i].dims[d];
    }
    text_free(&text);
    w->fd = open(w->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return w->fd >= 0 || checkpoint_writer_fail(w, "create its temporary file");
}

// Appends `count` fp32 values to array `array` of parameter `id`; after Param.size values it is complete.
UNUSED static bool checkpoint_writer_put(CheckpointWriter* w, int id, int array, const float* data, size_t count) {
    if (w->failed) return false;
    CheckpointRow* row = &w->rows[id];
    uint64_t* done = &w->done[id * w->arrays + array];
    if (*done + count > row->elements) fail("checkpoint: %s was given more values than it has", row->name);
    w->rows[id].crc[array] = crc32_add(row->crc[array], data, count * 4);
    if (!checkpoint_pwrite(w->fd, data, count * 4, row->offset[array] + *done * 4)) return checkpoint_writer_fail(w, "write");
    *done += count;
    if (*done < row->elements) return true;
    static const uint8_t zeros[CHECKPOINT_ALIGN] = {0};
    size_t bytes = (size_t)row->elements * 4, padding = checkpoint_array_bytes(row->elements) - bytes;
    row->crc[array] = crc32_add(row->crc[array], zeros, padding);
    return checkpoint_pwrite(w->fd, zeros, padding, row->offset[array] + bytes) || checkpoint_writer_fail(w, "write");
}

// The entry of a renamed file lives in its directory, which has to reach the disk as well.
static bool checkpoint_sync_directory(const char* path) {
    char* directory = text_copy(path);
    char* slash = strrchr(directory, '/');
    if (slash == directory) slash[1] = 0;
    else if (slash) *slash = 0;
    int fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    bool good = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL || errno == EROFS);  // some file systems cannot sync a directory
    int error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    return good;
}

// Gives up what was written so far; also frees a failed writer.
UNUSED static void checkpoint_writer_discard(CheckpointWriter* w) {
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temp);
    }
    free(w->path);
    free(w->temp);
    free(w->head);
    free(w->done);
    w->path = w->temp = NULL, w->head = NULL, w->done = NULL, w->fd = -1, w->failed = true;
}

// Makes the file visible under its name and frees the writer. `w->error` stays readable.
UNUSED static bool checkpoint_writer_close(CheckpointWriter* w) {
    for (int i = 0; !w->failed && i < w->tensors * w->arrays; i++) {
        if (w->done[i] != w->rows[i / w->arrays].elements) fail("checkpoint: %s is incomplete", w->rows[i / w->arrays].name);
    }
    if (!w->failed) {
        CheckpointHeader* h = (CheckpointHeader*)w->head;
        h->meta_crc = crc32_add(0, w->head + sizeof(*h), w->head_bytes - sizeof(*h));
        h->header_crc = crc32_add(0, h, offsetof(CheckpointHeader, header_crc));
        if (!checkpoint_pwrite(w->fd, w->head, w->head_bytes, 0) || fsync(w->fd)) checkpoint_writer_fail(w, "write");
    }
    if (!w->failed) {
        int fd = w->fd;
        w->fd = -1;
        if (close(fd) || rename(w->temp, w->path)) {
            checkpoint_writer_fail(w, "finish");
            unlink(w->temp);
        } else if (!checkpoint_sync_directory(w->path)) checkpoint_writer_fail(w, "sync its directory");
    }
    bool good = !w->failed;
    checkpoint_writer_discard(w);
    return good;
}

#include "checkpoint_read.h"
#include "checkpoint_dir.h"
