/*
Multiple-choice files: a context, some completions, and which one is right. The format is llm.c's, so its HellaSwag files work
unchanged.

    byte 0      256 little-endian int32   [0] 20240522  [1] version 1  [2] examples  [3] bytes of the longest example  [4..255] 0
    byte 1024   per example, uint16:      65535 | bytes of the example, these two words included | index | label | completions
                                          | n, n context tokens | then for each completion: n, n tokens

llm.c writes four completions; here 2 to 16 are read. Nothing is used before it was checked: every count against the file's
length, labels against the completions, ids against the vocabulary. data/make_choices writes such files from JSON lines.
*/
#pragma once

#include "file.h"

enum { CHOICES_MAGIC = 20240522, CHOICES_VERSION = 1, CHOICES_START = 65535, CHOICES_MAX = 16, CHOICES_HEADER_BYTES = 1024 };
#define CHOICES_REMEDY "make one with `data/make_choices` (data/README.md)"

typedef struct {
    int label, count;  // completions
    int context_tokens, tokens[CHOICES_MAX];
    const uint16_t *context, *completion[CHOICES_MAX];
} Choice;

typedef struct {
    const char* path;
    FileMap map;
    int count, rows, longest;   // examples; completions in all; tokens of the longest context with a completion
    int longest_completion;     // tokens
    const uint16_t** examples;  // (count)
} Choices;

// The example that starts at `at`, before `end`; NULL, with a clause in *why, when it is not one.
static const uint16_t* choice_read(Choice* c, const uint16_t* at, const uint16_t* end, int vocab_size, const char** why) {
    const uint16_t* start = at;
    *why = "it ends inside an example";
    if (end - at < 6) return NULL;
    *why = "an example does not start with 65535";
    if (at[0] != CHOICES_START) return NULL;
    *why = "the length of an example is impossible";
    if (at[1] % 2 || at[1] / 2 > end - start || at[1] / 2 < 6) return NULL;
    const uint16_t* stop = start + at[1] / 2;
    c->label = at[3], c->count = at[4];
    *why = "an example needs 2 to 16 completions, a label that is one of them, and at least one token of each part";
    if (c->count < 2 || c->count > CHOICES_MAX || c->label >= c->count) return NULL;
    at += 5;
    for (int k = -1; k < c->count; k++) {
        int n = at < stop ? *at++ : 0;
        if (n == 0 || n > stop - at) return NULL;
        if (k < 0) c->context = at, c->context_tokens = n;
        else c->completion[k] = at, c->tokens[k] = n;
        for (int i = 0; i < n; i++) {
            if (at[i] < vocab_size) continue;
            *why = "an id is not in the vocabulary; its tokenizer is another one";
            return NULL;
        }
        at += n;
    }
    *why = "the length of an example does not fit its parts";
    return at == stop ? stop : NULL;
}

// The whole file, checked. path must outlive it. Errors: missing, another format, damaged, ids >= vocab_size.
UNUSED static Choices choices_open(const char* path, int vocab_size) {
    Choices f = {};
    char text[TEXT_SHOWN + 1];
    int32_t header[4] = {0};
    f.path = path, f.map = file_map(path, CHOICES_REMEDY);
    if (f.map.size) memcpy(header, f.map.bytes, f.map.size < sizeof(header) ? f.map.size : sizeof(header));
    if (header[0] != CHOICES_MAGIC || header[1] != CHOICES_VERSION || f.map.size < CHOICES_HEADER_BYTES) {
        fail("%s: not a multiple-choice file: expected magic %d version %d, found %d and %d (the file starts \"%s\"); %s", path,
             CHOICES_MAGIC, CHOICES_VERSION, header[0], header[1], bytes_as_text(text, f.map.bytes, f.map.size), CHOICES_REMEDY);
    }
    size_t words = (f.map.size - CHOICES_HEADER_BYTES) / 2;
    const uint16_t *at = (const uint16_t*)(const void*)(f.map.bytes + CHOICES_HEADER_BYTES), *end = at + words;
    const char* why = "";
    if (header[2] < 1 || header[2] > INT32_MAX / CHOICES_MAX || (size_t)header[2] > words)
        fail("%s: %d examples in %zu bytes; %s", path, header[2], f.map.size, CHOICES_REMEDY);
    f.count = header[2];
    f.examples = (const uint16_t**)xmalloc((size_t)f.count * sizeof(*f.examples));
    for (int i = 0; i < f.count; i++) {
        Choice c;
        f.examples[i] = at;
        at = choice_read(&c, at, end, vocab_size, &why);
        if (!at) fail("%s: example %d of %d: %s; %s", path, i, f.count, why, CHOICES_REMEDY);
        for (int k = 0; k < c.count; k++) {
            if (c.tokens[k] > f.longest_completion) f.longest_completion = c.tokens[k];
            if (c.context_tokens + c.tokens[k] > f.longest) f.longest = c.context_tokens + c.tokens[k];
        }
        f.rows += c.count;
    }
    if (at != end || f.map.size % 2)
        fail("%s: %zu bytes behind its %d examples; %s", path, (size_t)(end - at) * 2, f.count, CHOICES_REMEDY);
    return f;
}

UNUSED static Choice choices_get(const Choices* f, int i) {
    Choice c = {};
    const char* why;
    const uint16_t* end = (const uint16_t*)(const void*)(f->map.bytes + f->map.size / 2 * 2);
    choice_read(&c, f->examples[i], end, CHOICES_START + 1, &why);
    return c;
}

UNUSED static void choices_close(Choices* f) {
    file_unmap(&f->map);
    free(f->examples);
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing

typedef struct {
    NewFile file;
    int count;
    size_t longest;  // bytes
} ChoicesWriter;

UNUSED static void choices_begin(ChoicesWriter* w, const char* path) {
    static const uint8_t zeros[CHOICES_HEADER_BYTES] = {0};
    new_file_open(&w->file, path);
    new_file_write(&w->file, zeros, sizeof(zeros));
    w->count = 0, w->longest = 0;
}

// Appends an example; false when it is too long for the format's 16-bit lengths.
UNUSED static bool choices_append(ChoicesWriter* w, const Choice* c) {
    size_t words = 6 + (size_t)c->context_tokens;
    for (int k = 0; k < c->count; k++) words += 1 + (size_t)c->tokens[k];
    if (2 * words > UINT16_MAX) return false;
    uint16_t head[6] = {CHOICES_START,      (uint16_t)(2 * words), (uint16_t)w->count,
                        (uint16_t)c->label, (uint16_t)c->count,    (uint16_t)c->context_tokens};
    new_file_write(&w->file, head, sizeof(head));
    new_file_write(&w->file, c->context, 2 * (size_t)c->context_tokens);
    for (int k = 0; k < c->count; k++) {
        uint16_t n = (uint16_t)c->tokens[k];
        new_file_write(&w->file, &n, sizeof(n));
        new_file_write(&w->file, c->completion[k], 2 * (size_t)n);
    }
    if (2 * words > w->longest) w->longest = 2 * words;
    w->count++;
    return true;
}

UNUSED static void choices_end(ChoicesWriter* w) {
    int32_t header[4] = {CHOICES_MAGIC, CHOICES_VERSION, w->count, (int32_t)w->longest};
    if (fseek(w->file.stream, 0, SEEK_SET)) fail("%s: cannot seek: %s", w->file.temp, strerror(errno));
    new_file_write(&w->file, header, sizeof(header));
    new_file_commit(&w->file);
}
