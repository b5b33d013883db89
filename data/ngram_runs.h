/*
Runs: sorted lists of (key, count) that were counted apart and are added up by merging. They wait in memory as long as they fit.

    blocks   r r r r r r  --- full: all of them merged ----> one file of level 0
    files    2 1 1 0 0 0  --- RUNS_MERGED of a level ------> one file of the level above           (level written)
    the end  every run left, of both kinds, merged once more, entry by entry: runs_merge

A file has no name: it is removed from its directory as soon as it is open, so that the system takes it back when the program
ends, however it ends. What is added up are whole numbers, so the result does not depend on the order or number of the runs.
*/
#pragma once

#include "ngram_sort.h"

#include "llmc/base/text.h"

#include <unistd.h>

enum { RUNS_MERGED = 16, RUN_WRITE_BYTES = 1 << 18, RUN_READ_MIN = 4096, RUN_READ_MAX = 1 << 20 };

typedef struct {
    uint8_t* bytes;  // NULL: in a file
    int fd, level;
    uint64_t size;  // bytes
} Run;

typedef struct {
    Run* runs;  // (count), the oldest first
    int count, capacity;
} RunList;

typedef struct {
    RunList blocks, files;
    uint64_t in_memory, memory_limit, written;  // bytes; written: to files, in all
    size_t read_bytes;                          // buffer for a file that is being merged
    const char* temp_dir;
} RunStore;

// Where the merge stands in one run
typedef struct {
    uint64_t key, count;  // of the entry it stands on
    const uint8_t *at, *end;
    uint8_t* buffer;  // of a file
    size_t buffer_bytes;
    uint64_t file_at, file_size;
    int fd;
} Cursor;

typedef struct {
    Cursor* cursors;
    int* heap;  // (live) cursors, the one with the smallest key on top
    int live, count;
} RunMerge;

static void run_list_add(RunList* list, Run run) {
    if (list->count == list->capacity) {
        list->capacity = 2 * list->capacity + 16;
        list->runs = (Run*)realloc(list->runs, (size_t)list->capacity * sizeof(Run));
        if (!list->runs) fail("out of host memory: %d runs", list->capacity);
    }
    list->runs[list->count++] = run;
}

// Frees the last `n` runs.
static void run_list_drop(RunList* list, int n) {
    for (; n > 0; n--) {
        Run* run = &list->runs[--list->count];
        if (run->bytes) free(run->bytes);
        else close(run->fd);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Merging

// Steps to the next entry; false at the end.
static bool cursor_next(Cursor* c) {
    uint64_t left = c->file_size - c->file_at, distance;
    if (c->end - c->at < ENTRY_BYTES && left > 0) {
        size_t kept = (size_t)(c->end - c->at), room = c->buffer_bytes - kept;
        memmove(c->buffer, c->at, kept);
        if (room > left) room = (size_t)left;
        for (size_t got = 0; got < room;) {
            ssize_t n = pread(c->fd, c->buffer + kept + got, room - got, (off_t)(c->file_at + got));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail("cannot read back a temporary file: %s", n < 0 ? strerror(errno) : "it has become shorter");
            got += (size_t)n;
        }
        c->file_at += room;
        c->at = c->buffer;
        c->end = c->buffer + kept + room;
    }
    if (c->at == c->end) return false;
    c->at = entry_get(c->at, &distance, &c->count);
    c->key += distance;
    return true;
}

// Lets the top of the heap sink to its place.
static inline void merge_sink(RunMerge* m) {
    int top = m->heap[0], at = 0;
    uint64_t key = m->cursors[top].key;
    for (;;) {
        int child = 2 * at + 1;
        if (child >= m->live) break;
        if (child + 1 < m->live && m->cursors[m->heap[child + 1]].key < m->cursors[m->heap[child]].key) child++;
        if (m->cursors[m->heap[child]].key >= key) break;
        m->heap[at] = m->heap[child];
        at = child;
    }
    m->heap[at] = top;
}

static void merge_add(RunMerge* m, const Run* run, size_t read_bytes) {
    int id = m->count++;
    Cursor* c = &m->cursors[id];
    memset(c, 0, sizeof *c);
    if (run->bytes) {
        c->at = run->bytes;
        c->end = run->bytes + run->size;
    } else {
        c->buffer = (uint8_t*)xmalloc(read_bytes);
        c->buffer_bytes = read_bytes;
        c->at = c->end = c->buffer;
        c->fd = run->fd;
        c->file_size = run->size;
    }
    if (!cursor_next(c)) return;
    int at = m->live++;  // rises to its place
    for (; at > 0 && m->cursors[m->heap[(at - 1) / 2]].key > c->key; at = (at - 1) / 2) m->heap[at] = m->heap[(at - 1) / 2];
    m->heap[at] = id;
}

// Starts a merge of the last `n` runs of a list, and of those of another list that may be NULL.
static RunMerge merge_start(const RunList* list, int n, const RunList* more, size_t read_bytes) {
    RunMerge m;
    int all = n + (more ? more->count : 0);
    m.cursors = (Cursor*)xmalloc((size_t)all * sizeof(Cursor));
    m.heap = (int*)xmalloc((size_t)all * sizeof(int));
    m.live = m.count = 0;
    for (int i = list->count - n; i < list->count; i++) merge_add(&m, &list->runs[i], read_bytes);
    for (int i = 0; more && i < more->count; i++) merge_add(&m, &more->runs[i], read_bytes);
    return m;
}

// The next key in order with its counts added up; false at the end.
static bool merge_next(RunMerge* m, uint32_t* key, uint64_t* count) {
    if (m->live == 0) return false;
    uint64_t sum = 0, here = m->cursors[m->heap[0]].key;
    while (m->live > 0 && m->cursors[m->heap[0]].key == here) {
        Cursor* c = &m->cursors[m->heap[0]];
        sum += c->count;
        if (!cursor_next(c)) m->heap[0] = m->heap[--m->live];
        merge_sink(m);
    }
    *key = (uint32_t)here;
    *count = sum;
    return true;
}

static void merge_free(RunMerge* m) {
    for (int i = 0; i < m->count; i++) free(m->cursors[i].buffer);
    free(m->cursors);
    free(m->heap);
}

// ---------------------------------------------------------------------------------------------------------------------
// Files

static int temp_file(const char* directory) {
    Text path = {0, 0, 0};
    text_add(&path, "%s/build_ngram.XXXXXX", directory);
    int fd = mkstemp(path.data);
    if (fd < 0) fail("%s: cannot create a temporary file: %s; name another directory with --tmp", directory, strerror(errno));
    unlink(path.data);
    text_free(&path);
    return fd;
}

static void temp_write(RunStore* store, int fd, const uint8_t* bytes, size_t n) {
    store->written += n;
    while (n > 0) {
        ssize_t part = write(fd, bytes, n);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) {
            fail("%s: cannot write a temporary file: %s; name a directory with more space with --tmp, or raise --memory",
                 store->temp_dir, part < 0 ? strerror(errno) : "no space");
        }
        bytes += part;
        n -= (size_t)part;
    }
}

// Merges the last `n` runs of a list into a file, which they make room for.
static Run runs_to_file(RunStore* store, RunList* list, int n, int level) {
    Run run = {NULL, temp_file(store->temp_dir), level, 0};
    RunMerge merge = merge_start(list, n, NULL, store->read_bytes);
    uint8_t* buffer = (uint8_t*)xmalloc(RUN_WRITE_BYTES + ENTRY_BYTES);
    uint8_t* p = buffer;
    uint32_t key, before = 0;
    uint64_t count;
    while (merge_next(&merge, &key, &count)) {
        p = entry_put(p, key - before, count);
        before = key;
        if (p - buffer < RUN_WRITE_BYTES) continue;
        temp_write(store, run.fd, buffer, (size_t)(p - buffer));
        run.size += (uint64_t)(p - buffer);
        p = buffer;
    }
    temp_write(store, run.fd, buffer, (size_t)(p - buffer));
    run.size += (uint64_t)(p - buffer);
    free(buffer);
    merge_free(&merge);
    run_list_drop(list, n);
    return run;
}

// Adds the run of a block: its bytes (size) are copied.
static void runs_add(RunStore* store, const uint8_t* bytes, size_t size) {
    RunList* files = &store->files;
    uint64_t need = size + sizeof(Run);
    if (store->in_memory + need > store->memory_limit && store->blocks.count > 0) {
        run_list_add(files, runs_to_file(store, &store->blocks, store->blocks.count, 0));
        store->in_memory = 0;
        for (;;) {
            int level = files->runs[files->count - 1].level, same = 0;
            while (same < files->count && files->runs[files->count - 1 - same].level == level) same++;
            if (same < RUNS_MERGED) break;
            run_list_add(files, runs_to_file(store, files, same, level + 1));
        }
    }
    Run run = {(uint8_t*)xmalloc(size), -1, 0, size};
    memcpy(run.bytes, bytes, size);
    run_list_add(&store->blocks, run);
    store->in_memory += need;
}

// memory: bytes for runs; buffers to read files back come from an eighth of it.
static RunStore runs_start(uint64_t memory, const char* temp_dir) {
    RunStore store;
    memset(&store, 0, sizeof store);
    store.temp_dir = temp_dir;
    store.read_bytes = (size_t)(memory / 8 / RUNS_MERGED);
    if (store.read_bytes < RUN_READ_MIN) store.read_bytes = RUN_READ_MIN;
    if (store.read_bytes > RUN_READ_MAX) store.read_bytes = RUN_READ_MAX;
    store.memory_limit = memory - memory / 8;
    return store;
}

// Every run there is, merged: merge_next gives the entries.
static RunMerge runs_merge(RunStore* store) {
    return merge_start(&store->files, store->files.count, &store->blocks, store->read_bytes);
}

static void runs_free(RunStore* store) {
    run_list_drop(&store->files, store->files.count);
    run_list_drop(&store->blocks, store->blocks.count);
    free(store->files.runs);
    free(store->blocks.runs);
}
