/*
Text that appears token by token. A token may end inside a UTF-8 character; its bytes are held back until the rest has come, so
that a terminal, or whoever reads the pipe, never gets half of one.

    tokens    "caf" "\xC3"       "\xA9!"
    written   "caf" (held: C3)   "é!"

`clean` is for terminals: control characters but newline and tab become ?, bytes that are no UTF-8 become U+FFFD, because the
output of a half-trained byte model would otherwise steer the terminal. Without it every byte passes as it is. `copy` gets the
same bytes.
*/
#pragma once

#include "../base/text.h"
#include "pretokenize.h"

typedef struct {
    FILE* out;
    bool clean;
    uint8_t held[4];
    int count;
    Text* copy;  // or NULL
} TextStream;

// Whether the n bytes at s are the beginning of a longer UTF-8 character.
UNUSED static bool utf8_unfinished(const uint8_t* s, int n) {
    uint8_t c = s[0];
    if (c < 0xc2 || c > 0xf4) return false;
    int length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (n >= length) return false;
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < n; i++, low = 0x80, high = 0xbf) {
        if (s[i] < low || s[i] > high) return false;
    }
    return true;
}

static void text_stream_emit(TextStream* s, const char* bytes, int n) {
    fwrite(bytes, 1, (size_t)n, s->out);
    for (int i = 0; i < n && s->copy; i++) text_add_char(s->copy, bytes[i]);
}

// Writes the first character, or bad byte, that is held.
static void text_stream_write(TextStream* s) {
    uint32_t code;
    int length = (int)utf8_decode(s->held, (size_t)s->count, &code);
    bool bad = length == 1 && s->held[0] >= 0x80,
         control = (code < 32 && code != '\n' && code != '\t') || (code >= 127 && code < 160);
    if (s->clean && bad) text_stream_emit(s, "\xEF\xBF\xBD", 3);
    else if (s->clean && control) text_stream_emit(s, "?", 1);
    else text_stream_emit(s, (const char*)s->held, length);
    s->count -= length;
    memmove(s->held, s->held + length, (size_t)s->count);
}

// The n bytes of a token; what can be shown is flushed.
UNUSED static void text_stream_put(TextStream* s, const char* bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        s->held[s->count++] = (uint8_t)bytes[i];
        while (s->count && !utf8_unfinished(s->held, s->count)) text_stream_write(s);
    }
    fflush(s->out);
}

// The text is over: what is still held was no character.
UNUSED static void text_stream_end(TextStream* s) {
    while (s->count) text_stream_write(s);
    fflush(s->out);
}
