/*
The reading half of checkpoint.h. Nothing of a file is used before it was checked: sizes against the file's size, the directory
against its checksum, names and shapes against this run's parameter table, and each tensor against its CRC when it has been read.
Tensors lie one behind the other, as they are written, and each has a name of its own: a directory that calls the same megabyte a
thousand tensors would make whoever copies it write gigabytes, and a name that stands twice pass a check that looks at the first.
*/
#pragma once

#include "checkpoint.h"

// Leaves "<path>: <message>" in r->error and returns false.
PRINTF_LIKE(2, 3) static bool reader_fail(CheckpointReader* r, const char* format, ...) {
    int n = snprintf(r->error, sizeof(r->error), "%s: ", r->path);
    va_list args;
    va_start(args, format);
    if (n > 0 && n < CHECKPOINT_ERROR) vsnprintf(r->error + n, sizeof(r->error) - (size_t)n, format, args);
    va_end(args);
    return false;
}

// Frees the reader; `r->error` and `r->state` stay readable.
UNUSED static void checkpoint_reader_close(CheckpointReader* r) {
    if (r->fd >= 0) close(r->fd);
    free(r->path);
    free(r->head);
    free(r->flags);
    free(r->row_of);
    free(r->done);
    free(r->crc);
    r->path = r->flags = NULL, r->head = NULL, r->rows = NULL, r->row_of = NULL, r->done = NULL, r->crc = NULL, r->fd = -1;
}

static bool checkpoint_header_check(CheckpointReader* r, uint64_t size) {
    const CheckpointHeader* h = &r->header;
    char shown[TEXT_SHOWN + 1];
    unsigned long long found = size, wanted = h->file_bytes;
    if (size < sizeof(*h)) return reader_fail(r, "truncated: %llu bytes, a checkpoint has at least 64; use another", found);
    if (h->magic != CHECKPOINT_MAGIC) {
        return reader_fail(r, "not a checkpoint of this program: expected it to start with \"AHADCKP1\", found \"%s\"",
                           bytes_as_text(shown, h, sizeof(*h)));
    }
    if (h->header_crc != crc32_add(0, h, offsetof(CheckpointHeader, header_crc))) {
        return reader_fail(r, "damaged: the checksum of its header is wrong; use another one");
    }
    if (h->version != CHECKPOINT_VERSION) {
        return reader_fail(r, "checkpoint format %u, this program reads format %d; use the program that wrote it", h->version,
                           CHECKPOINT_VERSION);
    }
    if (size != wanted) return reader_fail(r, "truncated: expected %llu bytes, found %llu; use another one", wanted, found);
    uint64_t text = sizeof(*h) + (uint64_t)h->flags_bytes + h->state_bytes;
    uint64_t payload = round_up(text, CHECKPOINT_ALIGN) + (uint64_t)h->tensors * sizeof(CheckpointRow);
    bool sane = h->tensors <= CHECKPOINT_TENSORS_MAX && h->flags_bytes <= CHECKPOINT_TEXT_MAX &&
                h->state_bytes <= CHECKPOINT_TEXT_MAX && (h->arrays == 1 || h->arrays == CHECKPOINT_ARRAYS) &&
                h->payload == payload && payload <= size;
    return sane || reader_fail(r, "damaged: the counts in its header contradict each other; use another one");
}

// A name of printable characters, and a shape that makes `elements`.
static bool checkpoint_row_check(const CheckpointRow* row, uint64_t file_bytes) {
    size_t length = strnlen(row->name, sizeof(row->name));
    bool good =
        length > 0 && length < sizeof(row->name) && row->ndim >= 1 && row->ndim <= PARAM_DIMS && row->elements <= file_bytes / 4;
    for (size_t i = 0; good && i < length; i++) good = row->name[i] > ' ' && row->name[i] <= '~';
    uint64_t elements = 1;
    for (int d = 0; good && d < PARAM_DIMS; d++) {
        good = row->dims[d] >= 1 && (d < row->ndim || row->dims[d] == 1) &&
               elements <= row->elements / (uint64_t)row->dims[d];  // so that the product cannot wrap
        if (good) elements *= (uint64_t)row->dims[d];
    }
    return good && elements == row->elements;
}

static int checkpoint_by_name(const void* a, const void* b) {
    return strcmp((*(const CheckpointRow* const*)a)->name, (*(const CheckpointRow* const*)b)->name);
}

static bool checkpoint_rows_check(CheckpointReader* r) {
    const CheckpointHeader* h = &r->header;
    uint64_t at = h->payload;
    for (uint32_t i = 0; i < h->tensors; i++) {
        if (checkpoint_row_check(&r->rows[i], h->file_bytes)) continue;
        return reader_fail(r, "damaged: row %u of its directory is impossible; use another", i);
    }
    for (uint32_t a = 0; a < h->arrays; a++) {
        for (uint32_t i = 0; i < h->tensors; i++) {
            if (r->rows[i].offset[a] != at)
                return reader_fail(r, "damaged: row %u of its directory is impossible; use another", i);
            at += checkpoint_array_bytes(r->rows[i].elements);
        }
    }
    if (at != h->file_bytes) return reader_fail(r, "damaged: its tensors do not end where the file does; use another");
    const CheckpointRow** sorted = (const CheckpointRow**)xmalloc((size_t)h->tensors * sizeof(*sorted));
    for (uint32_t i = 0; i < h->tensors; i++) sorted[i] = &r->rows[i];
    qsort(sorted, h->tensors, sizeof(*sorted), checkpoint_by_name);
    const char* twice = NULL;
    for (uint32_t i = 1; i < h->tensors; i++) twice = checkpoint_by_name(&sorted[i - 1], &sorted[i]) ? twice : sorted[i]->name;
    free(sorted);
    return !twice || reader_fail(r, "damaged: it has two tensors %s; use another", twice);
}

static bool checkpoint_reader_load(CheckpointReader* r) {
    r->fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe of that name: no waiting for a writer
    struct stat info;
    if (r->fd < 0 || fstat(r->fd, &info)) return reader_fail(r, "cannot open: %s", strerror(errno));
    if (!S_ISREG(info.st_mode)) return reader_fail(r, "not a file, expected a checkpoint");
    uint64_t size = (uint64_t)info.st_size;
    size_t head = size < sizeof(r->header) ? (size_t)size : sizeof(r->header);
    if (!checkpoint_pread(r->fd, &r->header, head, 0)) return reader_fail(r, "cannot read: %s", strerror(errno));
    if (!checkpoint_header_check(r, size)) return false;

    const CheckpointHeader* h = &r->header;
    r->head = (uint8_t*)xmalloc(h->payload);
    if (!checkpoint_pread(r->fd, r->head, h->payload, 0)) {
        return reader_fail(r, "cannot read: %s", strerror(errno));
    }
    if (h->meta_crc != crc32_add(0, r->head + sizeof(*h), h->payload - sizeof(*h))) {
        return reader_fail(r, "damaged: the checksum of its directory is wrong; use another one");
    }
    const char* text = (const char*)r->head + sizeof(*h);
    r->flags = (char*)xcalloc((size_t)h->flags_bytes + 1);
    memcpy(r->flags, text, h->flags_bytes);
    if (strlen(r->flags) != h->flags_bytes) return reader_fail(r, "damaged: its flags hold a zero byte; use another one");
    char* state = (char*)xcalloc((size_t)h->state_bytes + 1);
    memcpy(state, text + h->flags_bytes, h->state_bytes);
    const char* missing = run_state_parse(&r->state, state);
    free(state);
    if (missing) return reader_fail(r, "its run state has no readable \"%s\"; use another one", missing);
    r->rows = (const CheckpointRow*)(r->head + h->payload - (size_t)h->tensors * sizeof(CheckpointRow));
    r->done = (uint64_t*)xcalloc((size_t)h->tensors * h->arrays * sizeof(uint64_t));
    r->crc = (uint32_t*)xcalloc((size_t)h->tensors * h->arrays * sizeof(uint32_t));
    return checkpoint_rows_check(r);
}

// Opens a checkpoint: afterwards r->flags, r->state and r->rows are valid. Frees itself when it returns false.
UNUSED static bool checkpoint_reader_open(CheckpointReader* r, const char* path) {
    memset(r, 0, sizeof(*r));
    r->path = text_copy(path);
    r->fd = -1;
    if (checkpoint_reader_load(r)) return true;
    checkpoint_reader_close(r);
    return false;
}

// Finds every parameter of `table` in the file by name and compares shapes. With MATCH_PARTIAL a parameter may be absent: its
// r->row_of[id] is -1.
UNUSED static bool checkpoint_reader_match(CheckpointReader* r, const ParamTable* table, CheckpointMatch match) {
    const char* fix = "start with the model flags stored in it (head -c 4000 shows them) or name another --output_dir";
    r->row_of = (int*)xmalloc((size_t)table->count * sizeof(int));
    int matched = 0;
    for (int id = 0; id < table->count; id++) {
        const Param* p = &table->rows[id];
        int at = -1;
        for (uint32_t i = 0; i < r->header.tensors && at < 0; i++) {
            if (!strcmp(r->rows[i].name, p->name)) at = (int)i;
        }
        r->row_of[id] = at;
        matched += at >= 0;
        if (at < 0 && match == MATCH_PARTIAL) continue;
        if (at < 0) return reader_fail(r, "checkpoint of another model: it has no tensor %s; %s", p->name, fix);
        const CheckpointRow* row = &r->rows[at];
        char expected[64], found[64];
        if (row->ndim == p->ndim && !memcmp(row->dims, p->dims, sizeof(p->dims))) continue;
        return reader_fail(r, "checkpoint of another shape: %s is %s, this run expects %s; %s", p->name,
                           checkpoint_shape(found, sizeof(found), row->ndim, row->dims),
                           checkpoint_shape(expected, sizeof(expected), p->ndim, p->dims), fix);
    }
    for (uint32_t i = 0; i < r->header.tensors && match == MATCH_EXACT && matched < (int)r->header.tensors; i++) {
        if (params_find(table, r->rows[i].name) >= 0) continue;
        return reader_fail(r, "checkpoint of another model: this run has no tensor %s; %s", r->rows[i].name, fix);
    }
    return true;
}

// The next `count` values of one array of row `row`; with the last of them the checksum must fit.
static bool checkpoint_row_get(CheckpointReader* r, int row, int array, float* data, size_t count) {
    const CheckpointRow* t = &r->rows[row];
    size_t at = (size_t)row * r->header.arrays + (size_t)array;
    if (r->done[at] + count > t->elements) fail("checkpoint: %s was asked for more values than it has", t->name);
    if (!checkpoint_pread(r->fd, data, count * 4, t->offset[array] + r->done[at] * 4)) {
        return reader_fail(r, "cannot read %s: %s", t->name, strerror(errno));
    }
    r->crc[at] = crc32_add(r->crc[at], data, count * 4);
    r->done[at] += count;
    if (r->done[at] < t->elements) return true;
    uint8_t zeros[CHECKPOINT_ALIGN];
    size_t bytes = (size_t)t->elements * 4, padding = checkpoint_array_bytes(t->elements) - bytes;
    if (!checkpoint_pread(r->fd, zeros, padding, t->offset[array] + bytes)) {
        return reader_fail(r, "cannot read %s: %s", t->name, strerror(errno));
    }
    uint32_t crc = crc32_add(r->crc[at], zeros, padding);
    r->done[at] = 0, r->crc[at] = 0;  // it may be read again
    if (crc == t->crc[array]) return true;
    return reader_fail(r, "damaged: the checksum of tensor %s is wrong; use another one", t->name);
}

// The next `count` fp32 values of array `array` of parameter `id` (after match), from its first value on.
UNUSED static bool checkpoint_reader_get(CheckpointReader* r, int id, int array, float* data, size_t count) {
    if (array >= (int)r->header.arrays) {
        return reader_fail(r, "holds weights only, no optimizer state: use it with --init_from, not to resume");
    }
    return checkpoint_row_get(r, r->row_of[id], array, data, count);
}

// Reads the whole payload once and checks every CRC.
UNUSED static bool checkpoint_reader_verify(CheckpointReader* r) {
    enum { CHUNK = 1 << 18 };  // values: 1 MiB stays in the cache between read and checksum
    float* chunk = (float*)xmalloc(CHUNK * sizeof(float));
    bool good = true;
    for (uint32_t a = 0; a < r->header.arrays; a++) {
        for (uint32_t i = 0; good && i < r->header.tensors; i++) {
            uint64_t left = r->rows[i].elements;
            while (good && left) {
                size_t count = left < (uint64_t)CHUNK ? (size_t)left : (size_t)CHUNK;
                good = checkpoint_row_get(r, (int)i, (int)a, chunk, count);
                left -= count;
            }
        }
    }
    free(chunk);
    return good;
}
