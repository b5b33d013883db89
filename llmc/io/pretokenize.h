/*
GPT-2 cuts text into pieces before it merges bytes. The pattern, first alternative that matches wins:

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

    "It's  5 o'clock!\n\n"   It|'s| | 5| o|'|clock|!|\n\n

written out by hand: at any position the next code point decides, and nothing is taken back but the last blank of a run of white
space, which belongs to the word that follows it. A cut depends on the text after its start only.

Text is UTF-8. Bytes that are not (stray, overlong, surrogates, above U+10FFFF) count as one symbol each, neither letter nor
number nor space. That is the class of U+FFFD, so the cuts are those of a reader that replaces them; but the bytes stay, and
decoding gives them back.
*/
#pragma once

#include "../base/check.h"
#include "unicode.h"

enum { CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE };

// Length in bytes (>= 1) of the first code point of s (n >= 1 bytes), and the code point; U+FFFD and length 1 for a bad byte.
UNUSED static inline size_t utf8_decode(const uint8_t* s, size_t n, uint32_t* code) {
    uint32_t c = s[0];
    *code = c;
    if (c < 0x80) return 1;
    size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    *code = 0xfffd;
    if (c < 0xc2 || c > 0xf4 || n < length) return 1;
    c &= 0x3fu >> (length - 1);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) return 1;
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (length == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) return 1;
    if (length == 4 && (c < 0x10000 || c > 0x10ffff)) return 1;
    *code = c;
    return length;
}

UNUSED static bool in_ranges(uint32_t c, const uint32_t (*ranges)[2], size_t count) {
    size_t low = 0, high = count;  // ranges before `low` end below c, ranges from `high` on start above c
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c < ranges[middle][0]) high = middle;
        else if (c > ranges[middle][1]) low = middle + 1;
        else return true;
    }
    return false;
}

UNUSED static inline int char_class(uint32_t c) {
    if (c < 0x80) {
        if ((c | 32) - 'a' < 26) return CLASS_LETTER;
        if (c - '0' < 10) return CLASS_NUMBER;
        return c == ' ' || c - 9 < 5 ? CLASS_SPACE : CLASS_OTHER;
    }
    if (in_ranges(c, UNICODE_LETTERS, sizeof UNICODE_LETTERS / sizeof UNICODE_LETTERS[0])) return CLASS_LETTER;
    if (in_ranges(c, UNICODE_NUMBERS, sizeof UNICODE_NUMBERS / sizeof UNICODE_NUMBERS[0])) return CLASS_NUMBER;
    if (in_ranges(c, UNICODE_SPACES, sizeof UNICODE_SPACES / sizeof UNICODE_SPACES[0])) return CLASS_SPACE;
    return CLASS_OTHER;
}

// Length of 's 't 're 've 'm 'll 'd at s, lower case only; 0 when there is none.
UNUSED static inline size_t contraction(const uint8_t* s, size_t n) {
    if (n < 2 || s[0] != '\'') return 0;
    if (s[1] == 's' || s[1] == 't' || s[1] == 'm' || s[1] == 'd') return 2;
    if (n < 3) return 0;
    return (s[1] == 'r' && s[2] == 'e') || (s[1] == 'v' && s[2] == 'e') || (s[1] == 'l' && s[2] == 'l') ? 3 : 0;
}

// Bytes (>= 1) of the first piece of s, n >= 1 bytes up to the end of the text.
UNUSED static size_t pretoken_length(const uint8_t* s, size_t n) {
    uint32_t c;
    size_t end = contraction(s, n);
    if (end) return end;
    size_t start = s[0] == ' ' && n > 1 ? 1 : 0;  // the blank that a word, number or sign takes along
    end = start + utf8_decode(s + start, n - start, &c);
    int kind = char_class(c);
    if (kind != CLASS_SPACE) {
        while (end < n) {
            size_t length = utf8_decode(s + end, n - end, &c);
            if (char_class(c) != kind) break;
            end += length;
        }
        return end;
    }
    size_t last = 0;  // start of the last blank of the run
    for (end = 0; end < n;) {
        size_t length = utf8_decode(s + end, n - end, &c);
        if (char_class(c) != CLASS_SPACE) return last > 0 ? last : end;
        last = end;
        end += length;
    }
    return end;  // up to the end of the text
}
