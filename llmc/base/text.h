/*
Growable text and whole-file reading: what the flag table, the checkpoint header and the logger build their strings with.

    Text t = {0, 0, 0};
    text_add(&t, "--%s %d\n", name, value);   // t.data is a C string, never NULL after the first add
    text_free(&t);

Tried and dropped: fixed buffers with snprintf. A glob or a prompt of any length then needs a second code path for "cut off".
*/
#pragma once

#include "check.h"

typedef struct {
    char* data;             // C string of `size` characters and a 0
    size_t size, capacity;  // bytes
} Text;

UNUSED static void text_reserve(Text* t, size_t more) {
    if (t->size + more + 1 <= t->capacity) return;
    t->capacity = 2 * t->capacity + more + 64;
    t->data = (char*)realloc(t->data, t->capacity);
    if (!t->data) fail("out of host memory: %zu bytes of text asked for", t->capacity);
    t->data[t->size] = 0;
}

UNUSED PRINTF_LIKE(2, 3) static void text_add(Text* t, const char* format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    if (length < 0) fail("a text of more than 2 GiB: use a shorter one");
    text_reserve(t, (size_t)length);
    vsnprintf(t->data + t->size, (size_t)length + 1, format, again);
    t->size += (size_t)length;
    va_end(again);
    va_end(args);
}

UNUSED static void text_add_char(Text* t, char c) {
    text_reserve(t, 1);
    t->data[t->size++] = c;
    t->data[t->size] = 0;
}

UNUSED static void text_free(Text* t) {
    free(t->data);
    t->data = NULL;
    t->size = t->capacity = 0;
}

UNUSED static char* text_copy(const char* s) {
    size_t bytes = strlen(s) + 1;
    return (char*)memcpy(xmalloc(bytes), s, bytes);
}

// Adds s as a JSON string with its quotes. Bytes above 127 pass through: our strings are UTF-8 or somebody else's file names.
UNUSED static void text_add_json(Text* t, const char* s) {
    text_add_char(t, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') text_add(t, "\\%c", c);
        else if (c < 32 || c == 127) text_add(t, "\\u%04x", c);
        else text_add_char(t, (char)c);
    }
    text_add_char(t, '"');
}

// Adds x with the fewest digits that read back as the same double: 0.1 stays "0.1", nothing is lost.
UNUSED static void text_add_number(Text* t, double x) {
    char digits[40];
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof(digits), "%.*g", precision, x);
        if (strtod(digits, NULL) == x) break;
    }
    text_add(t, "%s", digits);
}

// Reads a whole file of at most `limit` bytes into a new 0-terminated buffer (free it); NULL with errno set when it cannot.
UNUSED static char* file_read(const char* path, size_t limit, size_t* size) {
    FILE* file = fopen(path, "rb");
    if (!file) return NULL;
    Text t = {0, 0, 0};
    text_reserve(&t, 0);
    int error = 0;
    while (!error) {
        text_reserve(&t, 65536);
        errno = 0;  // fread of a folder sets EISDIR
        size_t n = fread(t.data + t.size, 1, 65536, file);
        t.size += n;
        t.data[t.size] = 0;
        if (n == 0) {
            if (ferror(file)) error = errno ? errno : EIO;
            break;
        }
        if (t.size > limit) error = EFBIG;
    }
    fclose(file);
    if (error) {
        text_free(&t);
        errno = error;
        return NULL;
    }
    if (size) *size = t.size;
    return t.data;
}
