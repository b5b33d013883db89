/*
Tokenizers: the file of llmc/io/tokenizer.h and .tiktoken ranks, which then encode the rest of the input and decode it again, and
ids that nobody encoded, to a terminal (llmc/io/text_stream.h).

    control | bytes of the file (2) | file | text       control: 1 sums and counts put right
                                                                 2 ranks, not a tokenizer file
                                                                 4 the file is put behind 256 tokens of single bytes
                                                                 8 plain bytes, no file
                                                                 16 what was taken is written and read again
*/
#include "fuzz.h"

#include "llmc/io/text_stream.h"
#include "llmc/io/tokenizer.h"

enum { HEAD = 3, ROOM = 1 << 16 };

static uint8_t file[ROOM];

// The tokenizer file's body is `data` behind 256 single bytes, or alone; its header fits.
static size_t tokenizer_bytes_of(const uint8_t* data, size_t size, int control) {
    uint32_t header[256];
    size_t at = sizeof(header), V = 0;
    if (size < at) return memcpy(file, data, size), size;
    memcpy(header, data, sizeof(header));
    for (int b = 0; control & 4 && b < 256; b++) file[at++] = 1, file[at++] = (uint8_t)b;
    memcpy(file + at, data + sizeof(header), size - sizeof(header));
    size += at - sizeof(header);
    for (size_t i = sizeof(header); i < size && i + file[i] < size; i += 1 + file[i]) V++;
    if (control & 1) {
        header[0] = TOKENIZER_MAGIC, header[1] = TOKENIZER_VERSION, header[2] = (uint32_t)V;
        header[4] = (uint32_t)(size - sizeof(header)), header[5] = crc32_add(0, file + sizeof(header), header[4]);
    }
    memcpy(file, header, sizeof(header));
    return size;
}

// Ranks 0..255 of single bytes, then `data`.
static size_t ranks_of(const uint8_t* data, size_t size, int control) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t at = 0;
    for (int b = 0; control & 4 && b < 256; b++) {
        at += (size_t)sprintf((char*)file + at, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    }
    memcpy(file + at, data, size);
    return at + size;
}

static void use(Tokenizer* tok, const uint8_t* text, size_t size) {
    char* back = (char*)xmalloc(size);
    uint16_t* ids;
    size_t n = tokenizer_encode(tok, (const char*)text, size, &ids), at = 0;
    for (size_t i = 0; i < n; i++) {
        int length;
        const char* bytes = tokenizer_decode(tok, ids[i], &length);
        if (ids[i] == tok->eot || (size_t)length > size - at) fuzz_finding("text became id %d", ids[i]);
        memcpy(back + at, bytes, (size_t)length);
        at += (size_t)length;
    }
    if (at != size || (size && memcmp(back, text, size))) fuzz_finding("%zu bytes came back as %zu", size, at);
    TextStream out = {stdout, true, {0}, 0, NULL};
    for (size_t i = 0; i + 1 < size; i += 2) {
        int length, id = (text[i] | text[i + 1] << 8) % tok->vocab_size;
        const char* bytes = tokenizer_decode(tok, id, &length);
        text_stream_put(&out, bytes, (size_t)length);
    }
    text_stream_end(&out);
    free(ids);
    free(back);
}

static void parse(const uint8_t* data, size_t size) {
    if (size < HEAD || size > ROOM / 2) return;
    size_t bytes = (size_t)data[1] | (size_t)data[2] << 8, rest = size - HEAD;
    if (bytes > rest) bytes = rest;
    bool ranks = data[0] & 2;
    Tokenizer tok;
    if (data[0] & 8) {
        tok = tokenizer_bytes();
        bytes = 0;
    } else {
        size_t whole = ranks ? ranks_of(data + HEAD, bytes, data[0]) : tokenizer_bytes_of(data + HEAD, bytes, data[0]);
        const char* path = fuzz_file("a_tokenizer.bin", file, whole);
        tok = ranks ? tokenizer_from_tiktoken(path) : tokenizer_load(path);
    }
    if (data[0] & 16) tokenizer_save(&tok, fuzz_path("b.bin"));
    use(&tok, data + HEAD + bytes, rest - bytes);
    tokenizer_free(&tok);
    if (!(data[0] & 16)) return;
    tok = tokenizer_load(fuzz_path("b.bin"));
    tokenizer_free(&tok);
}

static void seeds(void) {
    static const char ranks[] = "aGU= 256\nbGw= 257\naGVsbA== 258\r\n\n",
                      text[] = "hello hell's  1234\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 \xff\xc3";
    uint8_t head[2048] = {16 | 4 | 2, sizeof(ranks) - 1, 0};
    memcpy(head + HEAD, ranks, sizeof(ranks) - 1), memcpy(head + HEAD + sizeof(ranks) - 1, text, sizeof(text) - 1);
    fuzz_seed("ranks", head, HEAD + sizeof(ranks) + sizeof(text) - 2, NULL);
    memset(head, 0, sizeof(head));
    const uint8_t body[] = "\2he\2ll\4hell\15<|endoftext|>";
    size_t bytes = 1024 + sizeof(body) - 1;
    head[0] = 1 | 4, head[1] = (uint8_t)bytes, head[2] = (uint8_t)(bytes >> 8);
    head[HEAD + 12] = 3, head[HEAD + 13] = 1;  // end of text: 259
    memcpy(head + HEAD + 1024, body, sizeof(body) - 1), memcpy(head + HEAD + bytes, text, sizeof(text) - 1);
    fuzz_seed("file", head, HEAD + bytes + sizeof(text) - 1, NULL);
    head[0] = 8;
    memcpy(head + HEAD, text, sizeof(text) - 1);
    fuzz_seed("bytes", head, HEAD + sizeof(text) - 1, NULL);
}

FUZZ_TARGET(parse, seeds, true)
