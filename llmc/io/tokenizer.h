/*
The tokenizer: text to ids and back, GPT-2's byte-pair vocabulary or plain bytes.

    file     256 little-endian uint32   [0] 20240328  [1] version 2  [2] V  [3] eot id  [4] bytes that follow  [5] their CRC-32
             then for id 0 .. V-1       one length byte (1..255), that many bytes
    bytes    V = 257: id b is byte b, 256 is <|endoftext|>
    GPT-2    V = 50,257: id = rank of the merge, 50256 is <|endoftext|>; the longest token has 128 bytes

The format is llm.c's tokenizer file; words 4 and 5 are 0 there and then not checked. Ids are merge ranks in it, so the same file
that decodes also encodes. <|endoftext|> written in a text is text; only the tools put the id between documents.
*/
#pragma once

#include "bpe.h"
#include "crc32.h"
#include "file.h"

#define TOKENIZER_MAGIC 20240328u
#define TOKENIZER_VERSION 2u
#define EOT_TEXT "<|endoftext|>"
#define TOKENIZER_REMEDY "`data/prepare` writes it beside its shards as PREFIX_tokenizer.bin"

// Tables for encoding, from bytes, start, vocab_size and eot. False when a single byte has no id, so that some text has no ids.
UNUSED static bool tokenizer_index(Tokenizer* tok) {
    int V = tok->vocab_size;
    tok->longest = 0;
    tok->merges = false;
    for (tok->slot_count = 1024; tok->slot_count < 2 * (uint32_t)V; tok->slot_count *= 2) {}
    tok->slots = (uint32_t*)xcalloc(tok->slot_count * sizeof(uint32_t));
    for (int id = 0; id < V; id++) {
        int length = (int)(tok->start[id + 1] - tok->start[id]);
        if (id == tok->eot) continue;
        tok->longest = length > tok->longest ? length : tok->longest;
        token_insert(tok, id);
    }
    tok->merges = tok->longest > 1;
    if (tok->merges) tok->cache = (CachedPiece*)xcalloc(CACHE_SLOTS * sizeof(CachedPiece));
    for (int b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        int id = token_lookup(tok, &byte, 1, hash_bytes(&byte, 1));
        if (id == NO_TOKEN) return false;
        tok->byte_id[b] = (uint16_t)id;
    }
    return true;
}

UNUSED static void tokenizer_free(Tokenizer* tok) {
    free(tok->bytes);
    free(tok->start);
    free(tok->slots);
    free(tok->cache);
    free(tok->scratch.next);
    free(tok->scratch.previous);
    free(tok->scratch.rank);
    free(tok->scratch.heap);
    memset(tok, 0, sizeof *tok);
}

// 256 bytes and <|endoftext|>.
UNUSED static Tokenizer tokenizer_bytes(void) {
    Tokenizer tok;
    memset(&tok, 0, sizeof tok);
    tok.vocab_size = 257;
    tok.eot = 256;
    tok.bytes = (uint8_t*)xmalloc(256 + sizeof EOT_TEXT);
    tok.start = (uint32_t*)xmalloc(258 * sizeof(uint32_t));
    for (int b = 0; b <= 256; b++) {
        tok.start[b] = (uint32_t)b;
        if (b < 256) tok.bytes[b] = (uint8_t)b;
    }
    memcpy(tok.bytes + 256, EOT_TEXT, sizeof EOT_TEXT - 1);
    tok.start[257] = 256 + sizeof EOT_TEXT - 1;
    tokenizer_index(&tok);
    return tok;
}

// Value of a base64 digit, -1 for anything else.
UNUSED static int base64_digit(int c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// Decodes up to the first byte that is no digit; out: room for TOKEN_BYTES_MAX. Returns the bytes made, -1 when they are too many
// or the padding is wrong; *used: text consumed, padding included.
UNUSED static int base64_decode(const uint8_t* s, size_t n, uint8_t* out, size_t* used) {
    uint32_t bits = 0;
    int held = 0, made = 0;
    size_t i = 0;
    for (; i < n && base64_digit(s[i]) >= 0; i++) {
        bits = bits << 6 | (uint32_t)base64_digit(s[i]);
        held += 6;
        if (held < 8) continue;
        if (made == TOKEN_BYTES_MAX) return -1;
        held -= 8;
        out[made++] = (uint8_t)(bits >> held);
    }
    while (i < n && s[i] == '=') i++;
    *used = i;
    return i % 4 == 0 ? made : -1;
}

// A ranks file: one line `base64(token bytes) rank` per token, ranks 0 .. V-2 in any order; <|endoftext|> becomes V-1.
// Errors: a line that is not that, a rank twice or missing, a token over 255 bytes, a byte without a token.
UNUSED static Tokenizer tokenizer_from_tiktoken(const char* path) {
    Tokenizer tok;
    char text[TEXT_SHOWN + 1];
    memset(&tok, 0, sizeof tok);
    FileMap map = file_map(path, "for GPT-2's ids get r50k_base.tiktoken, or use `--tokenizer bytes`, which needs no file");
    uint8_t* bytes = (uint8_t*)xmalloc(map.size);                     // of all tokens, in the file's order
    uint32_t* place = (uint32_t*)xmalloc(VOCAB_MAX * sizeof *place);  // by rank: where they start there
    uint8_t* length = (uint8_t*)xcalloc(VOCAB_MAX);                   // by rank; 0: not seen
    uint8_t token[TOKEN_BYTES_MAX];
    int count = 0, line = 0;
    size_t total = 0, used = 0;
    for (size_t at = 0; at < map.size;) {
        const uint8_t* newline = (const uint8_t*)memchr(map.bytes + at, '\n', map.size - at);
        size_t end = newline ? (size_t)(newline - map.bytes) : map.size, next = newline ? end + 1 : end;
        line++;
        if (end > at && map.bytes[end - 1] == '\r') end--;
        if (end == at) {
            at = next;
            continue;
        }
        int made = base64_decode(map.bytes + at, end - at, token, &used);
        long rank = 0;
        size_t digits = at + used + 1;
        bool good = made > 0 && digits < end && map.bytes[at + used] == ' ';
        for (; good && digits < end; digits++) {
            good = map.bytes[digits] >= '0' && map.bytes[digits] <= '9' && rank < VOCAB_MAX;
            rank = rank * 10 + (map.bytes[digits] - '0');
        }
        if (!good) {
            fail("%s: line %d is not `base64 rank` with a token of 1..255 bytes (it starts \"%s\"); use a .tiktoken ranks file",
                 path, line, bytes_as_text(text, map.bytes + at, end - at));
        }
        if (rank >= VOCAB_MAX - 1)
            fail("%s: line %d: rank %ld, but shards hold ids up to %d; use a smaller vocabulary", path, line, rank,
                 VOCAB_MAX - 1);
        if (length[rank]) fail("%s: line %d: rank %ld for the second time; use an unbroken .tiktoken file", path, line, rank);
        memcpy(bytes + total, token, (size_t)made);
        place[rank] = (uint32_t)total;
        length[rank] = (uint8_t)made;
        total += (size_t)made;
        count++;
        at = next;
    }
    tok.vocab_size = count + 1;
    tok.eot = count;
    tok.bytes = (uint8_t*)xmalloc(total + sizeof EOT_TEXT);
    tok.start = (uint32_t*)xmalloc(((size_t)count + 2) * sizeof(uint32_t));
    tok.start[0] = 0;
    for (int id = 0; id < count; id++) {
        if (!length[id]) fail("%s: %d ranks, but rank %d is missing; use an unbroken .tiktoken file", path, count, id);
        memcpy(tok.bytes + tok.start[id], bytes + place[id], length[id]);
        tok.start[id + 1] = tok.start[id] + length[id];
    }
    memcpy(tok.bytes + tok.start[count], EOT_TEXT, sizeof EOT_TEXT - 1);
    tok.start[count + 1] = tok.start[count] + (uint32_t)sizeof EOT_TEXT - 1;
    free(bytes);
    free(place);
    free(length);
    file_unmap(&map);
    if (!tokenizer_index(&tok))
        fail("%s: not every single byte has a rank, so some text has no ids; use a byte-level vocabulary", path);
    return tok;
}

UNUSED static void tokenizer_save(const Tokenizer* tok, const char* path) {
    uint32_t header[256];
    size_t V = (size_t)tok->vocab_size, body_bytes = V + tok->start[V], at = 0;
    uint8_t* body = (uint8_t*)xmalloc(body_bytes);
    for (size_t id = 0; id < V; id++) {
        size_t n = tok->start[id + 1] - tok->start[id];
        body[at++] = (uint8_t)n;
        memcpy(body + at, tok->bytes + tok->start[id], n);
        at += n;
    }
    memset(header, 0, sizeof header);
    header[0] = TOKENIZER_MAGIC;
    header[1] = TOKENIZER_VERSION;
    header[2] = (uint32_t)V;
    header[3] = (uint32_t)tok->eot;
    header[4] = (uint32_t)body_bytes;
    header[5] = crc32_add(0, body, body_bytes);
    NewFile f;
    new_file_open(&f, path);
    new_file_write(&f, header, sizeof header);
    new_file_write(&f, body, body_bytes);
    new_file_commit(&f);
    free(body);
}

// Errors: missing, not a tokenizer file, another version, counts that do not fit the file, a bad checksum, a byte without an id.
UNUSED static Tokenizer tokenizer_load(const char* path) {
    Tokenizer tok;
    uint32_t header[256];
    char text[TEXT_SHOWN + 1];
    memset(&tok, 0, sizeof tok);
    memset(header, 0, sizeof header);
    FileMap map = file_map(path, TOKENIZER_REMEDY);
    if (map.size) memcpy(header, map.bytes, map.size < sizeof header ? map.size : sizeof header);
    if (header[0] != TOKENIZER_MAGIC) {
        fail("%s: not a tokenizer file: expected magic %u, found %u (the file starts \"%s\"); %s", path, TOKENIZER_MAGIC,
             header[0], bytes_as_text(text, map.bytes, map.size), TOKENIZER_REMEDY);
    }
    if (header[1] != TOKENIZER_VERSION)
        fail("%s: tokenizer version %u, expected %u; %s", path, header[1], TOKENIZER_VERSION, TOKENIZER_REMEDY);
    uint32_t V = header[2];
    if (V < 2 || V > VOCAB_MAX || header[3] >= V) {
        fail("%s: %u ids with end-of-text %u, expected 2..%d ids and end-of-text below them; %s", path, V, header[3], VOCAB_MAX,
             TOKENIZER_REMEDY);
    }
    size_t body_bytes = map.size < sizeof header ? 0 : map.size - sizeof header;
    const uint8_t* body = map.bytes + sizeof header;
    if (body_bytes > (size_t)V * (1 + TOKEN_BYTES_MAX)) {
        fail("%s: %zu bytes, which are too many for its %u ids; %s", path, map.size, V, TOKENIZER_REMEDY);
    }
    tok.vocab_size = (int)V;
    tok.eot = (int)header[3];
    tok.bytes = (uint8_t*)xmalloc(body_bytes);
    tok.start = (uint32_t*)xmalloc((V + 1) * sizeof(uint32_t));
    tok.start[0] = 0;
    size_t at = 0;
    for (uint32_t id = 0; id < V; id++) {
        size_t n = at < body_bytes ? body[at] : 0;
        if (n == 0 || at + 1 + n > body_bytes) {
            fail("%s: truncated: token %u of %u is not complete in a file of %zu bytes; %s", path, id, V, map.size,
                 TOKENIZER_REMEDY);
        }
        memcpy(tok.bytes + tok.start[id], body + at + 1, n);
        tok.start[id + 1] = tok.start[id] + (uint32_t)n;
        at += 1 + n;
    }
    if (at != body_bytes || (header[4] && header[4] != at)) {
        fail("%s: %zu bytes of tokens, expected %zu for its %u ids; %s", path, body_bytes, at, V, TOKENIZER_REMEDY);
    }
    if (header[4] && header[5] != crc32_add(0, body, body_bytes))
        fail("%s: the checksum does not fit: the file is damaged; %s", path, TOKENIZER_REMEDY);
    file_unmap(&map);
    if (!tokenizer_index(&tok)) fail("%s: not every single byte has an id, so some text has no ids; %s", path, TOKENIZER_REMEDY);
    return tok;
}

// ---------------------------------------------------------------------------------------------------------------------

// Appends ids of text[*at ..] to out until the text ends or out holds at least `enough`; *at advances to where it stopped,
// which is a cut: the next call continues as if there had been none.
UNUSED static void tokenizer_encode_some(Tokenizer* tok, const char* text, size_t length, size_t* at, size_t enough,
                                         TokenBuffer* out) {
    const uint8_t* s = (const uint8_t*)text;
    while (*at < length && out->count < enough) {
        if (tok->merges) {
            size_t n = pretoken_length(s + *at, length - *at);
            bpe_piece(tok, s + *at, n, out);
            *at += n;
        } else {
            token_reserve(out, 1);
            out->ids[out->count++] = tok->byte_id[s[(*at)++]];
        }
    }
}

// All ids of a text of `length` bytes, in *ids (free() it; NULL when there are none). Returns how many.
UNUSED static size_t tokenizer_encode(Tokenizer* tok, const char* text, size_t length, uint16_t** ids) {
    TokenBuffer out;
    size_t at = 0;
    memset(&out, 0, sizeof out);
    tokenizer_encode_some(tok, text, length, &at, SIZE_MAX, &out);
    *ids = out.ids;
    return out.count;
}

// The bytes of an id, not 0-terminated, valid as long as the tokenizer. One token may be a part of a UTF-8 character.
UNUSED static const char* tokenizer_decode(const Tokenizer* tok, int id, int* length) {
    if (id < 0 || id >= tok->vocab_size)
        fail("token id %d, but the tokenizer has the ids 0..%d; use the one of the training shards", id, tok->vocab_size - 1);
    *length = (int)(tok->start[id + 1] - tok->start[id]);
    return (const char*)tok->bytes + tok->start[id];
}
