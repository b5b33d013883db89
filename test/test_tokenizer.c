/*
The tokenizer: where GPT-2's pattern cuts, which bytes merge, what the files hold, and that decoding gives every byte back.

The cuts below are what a regular expression engine with Unicode properties makes of the pattern; | stands between the pieces.
*/
#include "child.h"

#include "llmc/io/tokenizer.h"

static const char* const cuts[] = {
    "It|'s| | 5| o|'|clock|!|\n\n",
    "we|'ll| they|'ve| I|'m| he|'d| you|'re| can|'t| '|S| '|LL",
    "a| | b|  | c",
    " leading",
    "trailing|  ",
    "\n|\n|x",
    "\r\n\t| x",
    "x|\n \n| y",
    "!'|s",
    "'s|'s|'t",
    "''|s",
    "'| s",
    "'",
    "'|r",
    "'|v| e",
    "don|'t|!?...",
    "abc|123|def",
    "3|.|14",
    "_|x|_|1|_",
    "  ",
    "\t",
    "a|\302\240|b",  // no-break space: white space, but not the blank of a word
    "a|\302\240|\302\240|b",
    "\343\200\200|\346\274\242\345\255\227\343\201\213\343\201\252",  // ideographic space, kanji, kana
    "a|\342\200\203| b",                                              // em space
    " |\342\200\203|b",
    "\034\035| x",                                    // file separator: no white space
    "a|\342\200\213|b",                               // zero-width space: no white space
    "e|\314\201|e|\314\201",                          // combining accents: no letters
    "\303\237|\302\262\302\275\342\205\247\331\243",  // sharp s; superscript, fraction, Roman, Arabic digits
    "12\302\262",
    "\316\251\316\274\316\255\316\263\316\261",  // Greek
    "\320\277\321\200\320\270\320\262\320\265\321\202| \320\274\320\270\321\200",
    "\355\225\234\352\265\255\354\226\264| \352\270\200",  // Hangul
    "\340\244\250\340\244\256\340\244\270|\340\245\215|\340\244\244|\340\245\207",
    "\360\237\230\200| \360\237\230\200\360\237\230\200",  // smileys
    "\360\237\221\250\342\200\215\360\237\221\251\342\200\215\360\237\221\247!",
    "\360\235\224\230\360\235\224\253\360\235\224\246| \360\220\215\210|\360\220\204\207",  // beyond 16 bits: letters, a number
    "\302\252\302\272",
    "\357\273\277|abc",                              // byte order mark
    "\342\200\224|don|\342\200\231|t|\342\200\224",  // typographic apostrophe: no contraction
    "\357\254\200| \357\254\201",                    // ligatures
    "a|\302\205|b",
    "\342\200\250|\342\200\251|z",
    "\304\260i|\314\207",
    "\355\236\243|\356\200\200",  // last Hangul syllable, private use
    "caf|\351| x",                // from here on not UTF-8: Latin-1
    "a|\300\257|b",               // overlong slash
    "a|\355\240\200|b",           // surrogate
    "a|\364\220\200\200|b",       // above U+10FFFF
    "a|\342\202| b",              // cut short
    "a|\342\202",
    "a|\200\200!",
};

static void test_cuts(void** state) {
    (void)state;
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        char text[128], cut[128];
        size_t length = 0, at = 0, out = 0;
        for (const char* p = cuts[i]; *p; p++) {
            if (*p != '|') text[length++] = *p;
        }
        while (at < length) {
            size_t n = pretoken_length((const uint8_t*)text + at, length - at);
            assert_in_range(n, 1, length - at);
            if (out) cut[out++] = '|';
            memcpy(cut + out, text + at, n);
            out += n;
            at += n;
        }
        cut[out] = '\0';
        assert_string_equal(cut, cuts[i]);
    }
}

static void test_classes(void** state) {
    (void)state;
    int letters = 0, numbers = 0, spaces = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        int kind = char_class(c);
        letters += kind == CLASS_LETTER;
        numbers += kind == CLASS_NUMBER;
        spaces += kind == CLASS_SPACE;
    }
    assert_int_equal(letters, 141028);  // Unicode 16.0
    assert_int_equal(numbers, 1911);
    assert_int_equal(spaces, 25);
    uint32_t c = 0;
    const uint8_t euro[] = "\342\202\254", surrogate[] = "\355\240\200", overlong[] = "\340\200\257";
    assert_int_equal(utf8_decode(euro, 3, &c), 3);
    assert_int_equal(c, 0x20ac);
    assert_int_equal(utf8_decode(euro, 2, &c), 1);
    assert_int_equal(c, 0xfffd);
    assert_int_equal(utf8_decode(surrogate, 3, &c), 1);
    assert_int_equal(utf8_decode(overlong, 3, &c), 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Merging, with a small vocabulary: the 256 bytes in falling order, then these merges.
static const char* const merges[] = {"lo", "low",  "er",       " low", "an", "na",     "ban",
                                     "aa", "aaaa", "\303\251", "est",  "st", " lower", "xyz"};
enum { MERGES = sizeof merges / sizeof merges[0], SMALL_V = 256 + MERGES + 1 };

static int merge_id(const char* bytes) {
    for (int i = 0; i < MERGES; i++) {
        if (!strcmp(merges[i], bytes)) return 256 + i;
    }
    return 255 - (uint8_t)bytes[0];
}

static void add_rank(FILE* f, const uint8_t* s, size_t n, int rank) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t b = (uint32_t)s[i] << 16 | (i + 1 < n ? (uint32_t)s[i + 1] << 8 : 0) | (i + 2 < n ? s[i + 2] : 0u);
        char four[5] = {digits[b >> 18], digits[b >> 12 & 63], digits[b >> 6 & 63], digits[b & 63], '\0'};
        if (i + 1 >= n) four[2] = '=';
        if (i + 2 >= n) four[3] = '=';
        fputs(four, f);
    }
    fprintf(f, " %d\n", rank);
}

// Writes the small vocabulary as a ranks file; the token of rank `without` is left out (-1: none), `extra` lines follow.
static const char* write_ranks(int without, const char* extra) {
    const char* path = test_path("small.tiktoken");
    FILE* f = fopen(path, "wb");
    assert_non_null(f);
    for (int i = MERGES - 1; i >= 0; i--) {
        if (256 + i != without) add_rank(f, (const uint8_t*)merges[i], strlen(merges[i]), 256 + i);
    }
    for (int b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        if (255 - b != without) add_rank(f, &byte, 1, 255 - b);
    }
    fputs(extra, f);
    assert_int_equal(fclose(f), 0);
    return path;
}

// Encodes text and compares with pieces separated by blanks ("_" stands for a blank inside a piece).
static void assert_encodes(Tokenizer* tok, const char* text, const char* expected) {
    uint16_t* ids;
    char copy[256], *save = NULL;
    size_t count = tokenizer_encode(tok, text, strlen(text), &ids), i = 0;
    snprintf(copy, sizeof copy, "%s", expected);
    for (char* piece = strtok_r(copy, " ", &save); piece; piece = strtok_r(NULL, " ", &save), i++) {
        for (char* p = piece; *p; p++) *p = *p == '_' ? ' ' : *p;
        assert_true(i < count);
        assert_int_equal(ids[i], merge_id(piece));
    }
    assert_int_equal(i, count);
    free(ids);
}

static void test_merging(void** state) {
    (void)state;
    Tokenizer tok = tokenizer_from_tiktoken(write_ranks(-1, ""));
    assert_int_equal(tok.vocab_size, SMALL_V);
    assert_int_equal(tok.eot, SMALL_V - 1);
    for (int b = 0; b < 256; b++) assert_int_equal(tok.byte_id[b], 255 - b);
    for (int again = 0; again < 2; again++) {  // the second time from the cache
        assert_encodes(&tok, "low", "low");
        assert_encodes(&tok, "lower lower", "low er _lower");
        assert_encodes(&tok, "banana", "ban an a");  // "an" has a lower rank than "na", and with it "ban" is reached
        assert_encodes(&tok, "nana", "n an a");
        assert_encodes(&tok, "aaaaaaa", "aaaa aa a");  // leftmost first
        assert_encodes(&tok, "aaaaaaaaaaa", "aaaa aaaa aa a");
        assert_encodes(&tok, "lowest", "low est");
        assert_encodes(&tok, "xyz", "xyz");  // a token that merging does not reach counts when it is the whole piece
        assert_encodes(&tok, "xyza", "x y z a");
        assert_encodes(&tok, "caf\303\251", "c a f \303\251");
        assert_encodes(&tok, "\303", "\303");
        assert_encodes(&tok, "<|endoftext|>", "< | e n d o f t e x t | >");
        assert_encodes(&tok, "", "");
    }
    tokenizer_free(&tok);
}

// The same answer as the definition, scan and join, on random pieces of few letters; also longer than the cache takes.
static void test_merging_by_definition(void** state) {
    (void)state;
    Tokenizer tok = tokenizer_from_tiktoken(write_ranks(-1, ""));
    uint32_t random = 1;
    for (int round = 0; round < 3000; round++) {
        uint8_t text[64];
        size_t n = 1 + round % 60, parts = n, start[65];
        for (size_t i = 0; i < n; i++) {
            random = random * 1664525u + 1013904223u;
            text[i] = (uint8_t) "aanblowerst"[(random >> 16) % 11];
        }
        for (size_t i = 0; i <= n; i++) start[i] = i;
        bool whole = token_lookup(&tok, text, n, hash_bytes(text, n)) != NO_TOKEN;
        while (parts > 1) {
            size_t best = parts;
            int best_rank = SMALL_V;
            for (size_t i = 0; i + 2 <= parts; i++) {
                size_t length = start[i + 2] - start[i];
                int rank = token_lookup(&tok, text + start[i], length, hash_bytes(text + start[i], length));
                if (rank != NO_TOKEN && rank < best_rank) best_rank = rank, best = i;
            }
            if (best == parts) break;
            for (size_t i = best + 1; i < parts; i++) start[i] = start[i + 1];
            parts--;
        }
        uint16_t* ids;
        size_t count = tokenizer_encode(&tok, (const char*)text, n, &ids), at = 0;
        if (!whole) assert_int_equal(count, parts);
        for (size_t i = 0; i < count; i++) {
            int length;
            const char* bytes = tokenizer_decode(&tok, ids[i], &length);
            if (!whole) assert_int_equal(length, start[i + 1] - start[i]);
            assert_memory_equal(bytes, text + at, length);
            at += (size_t)length;
        }
        assert_int_equal(at, n);
        free(ids);
    }
    tokenizer_free(&tok);
}

static void assert_round_trip(Tokenizer* tok) {
    uint8_t text[4096];
    uint32_t random = 7;
    for (size_t i = 0; i < sizeof text; i++) {
        random = random * 1664525u + 1013904223u;
        text[i] = i < 2048 ? (uint8_t)(random >> 24) : (uint8_t) "low er'san \n\303\251"[(random >> 16) % 15];
    }
    uint16_t* ids;
    size_t count = tokenizer_encode(tok, (const char*)text, sizeof text, &ids), at = 0;
    for (size_t i = 0; i < count; i++) {
        int length;
        const char* bytes = tokenizer_decode(tok, ids[i], &length);
        assert_true(at + (size_t)length <= sizeof text);
        assert_memory_equal(bytes, text + at, length);
        at += (size_t)length;
    }
    assert_int_equal(at, sizeof text);
    // in small portions: the same ids
    TokenBuffer some = {NULL, 0, 0};
    at = 0;
    for (size_t enough = 1; at < sizeof text; enough += 3)
        tokenizer_encode_some(tok, (const char*)text, sizeof text, &at, enough, &some);
    assert_int_equal(some.count, count);
    assert_memory_equal(some.ids, ids, count * sizeof(uint16_t));
    free(some.ids);
    free(ids);
}

static void test_round_trip(void** state) {
    (void)state;
    Tokenizer made[2] = {tokenizer_bytes(), tokenizer_from_tiktoken(write_ranks(-1, ""))};
    for (int i = 0; i < 2; i++) {
        const char* path = test_path("tokenizer.bin");
        tokenizer_save(&made[i], path);
        Tokenizer loaded = tokenizer_load(path);
        assert_int_equal(loaded.vocab_size, i ? SMALL_V : 257);
        assert_int_equal(loaded.eot, loaded.vocab_size - 1);
        assert_memory_equal(loaded.start, made[i].start, (size_t)(loaded.vocab_size + 1) * sizeof(uint32_t));
        assert_memory_equal(loaded.bytes, made[i].bytes, loaded.start[loaded.vocab_size]);
        assert_round_trip(&made[i]);
        assert_round_trip(&loaded);
        int length;
        const char* eot = tokenizer_decode(&loaded, loaded.eot, &length);
        assert_int_equal(length, 13);
        assert_memory_equal(eot, "<|endoftext|>", 13);
        tokenizer_free(&loaded);
        tokenizer_free(&made[i]);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors

static void load_file(const void* path) {
    Tokenizer tok = tokenizer_load((const char*)path);
    tokenizer_free(&tok);
}
static void load_ranks(const void* path) {
    Tokenizer tok = tokenizer_from_tiktoken((const char*)path);
    tokenizer_free(&tok);
}
static void decode_257(const void* unused) {
    (void)unused;
    int length;
    Tokenizer tok = tokenizer_bytes();
    tokenizer_decode(&tok, 257, &length);
}

// The byte tokenizer's file with one byte at `at` changed by `change`, cut or lengthened to `size`.
static int load_changed(size_t at, int change, size_t size) {
    static uint8_t bytes[4096];
    const char* path = test_path("changed.bin");
    Tokenizer tok = tokenizer_bytes();
    tokenizer_save(&tok, path);
    tokenizer_free(&tok);
    FILE* f = fopen(path, "rb");
    assert_non_null(f);
    size_t whole = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_int_equal(whole, 1024 + 256 * 2 + 14);
    bytes[at] = (uint8_t)(bytes[at] + change);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size ? size : whole, f), size ? size : whole);
    fclose(f);
    return run_child(load_file, path);
}

static void test_broken_files(void** state) {
    (void)state;
    assert_int_equal(load_changed(0, 0, 0), 0);
    assert_int_equal(load_changed(0, 1, 0), EXIT_FAIL);
    assert_says("not a tokenizer file: expected magic 20240328, found 20240329");
    assert_says("data/prepare");
    assert_int_equal(load_changed(4, -1, 0), EXIT_FAIL);
    assert_says("tokenizer version 1, expected 2");
    assert_int_equal(load_changed(8, 1, 0), EXIT_FAIL);  // 258 ids
    assert_says("truncated: token 257 of 258");
    assert_int_equal(load_changed(8, 0, 1100), EXIT_FAIL);
    assert_says("truncated: token 38 of 257");
    assert_int_equal(load_changed(8, 0, 100), EXIT_FAIL);
    assert_says("truncated");
    assert_int_equal(load_changed(12, 1, 0), EXIT_FAIL);  // eot 257
    assert_says("257 ids with end-of-text 257");
    assert_int_equal(load_changed(11, 1, 0), EXIT_FAIL);  // 16 million ids
    assert_says("expected 2..65536 ids");
    assert_int_equal(load_changed(8, 0, 1024 + 526 + 1), EXIT_FAIL);
    assert_says("527 bytes of tokens, expected 526");
    assert_int_equal(load_changed(1027, 1, 0), EXIT_FAIL);  // byte 1 becomes 2
    assert_says("the checksum does not fit");
    assert_int_equal(run_child(load_file, test_path("none.bin")), EXIT_FAIL);
    assert_says("none.bin: cannot open");
    assert_int_equal(run_child(decode_257, NULL), EXIT_FAIL);
    assert_says("token id 257, but the tokenizer has the ids 0..256");
}

// A file without length and checksum (as other programs write it) is read; a byte without an id is then found by itself.
static void test_without_checksum(void** state) {
    (void)state;
    for (int missing = 0; missing < 2; missing++) {
        const char* path = test_path("plain.bin");
        FILE* f = fopen(path, "wb");
        uint32_t header[256] = {TOKENIZER_MAGIC, 2, 257, 256};
        assert_non_null(f);
        fwrite(header, 1, sizeof header, f);
        for (int b = 0; b < 256; b++) fputc(1, f), fputc(missing && b == 77 ? 76 : b, f);
        fputc(3, f), fputs("end", f);
        fclose(f);
        assert_int_equal(run_child(load_file, path), missing ? EXIT_FAIL : 0);
        if (missing) assert_says("not every single byte has an id");
    }
}

static void test_broken_ranks(void** state) {
    (void)state;
    assert_int_equal(run_child(load_ranks, write_ranks(-1, "\n\r\n")), 0);
    assert_int_equal(run_child(load_ranks, write_ranks(260, "")), EXIT_FAIL);
    assert_says("269 ranks, but rank 260 is missing");
    assert_int_equal(run_child(load_ranks, write_ranks(255 - 'q', "")), EXIT_FAIL);
    assert_says("rank 142 is missing");
    assert_int_equal(run_child(load_ranks, write_ranks(255 - 'q', "cXE= 142")), EXIT_FAIL);
    assert_says("not every single byte has a rank");
    assert_int_equal(run_child(load_ranks, write_ranks(-1, "cXE= 260\n")), EXIT_FAIL);
    assert_says("line 271: rank 260 for the second time");
    assert_int_equal(run_child(load_ranks, write_ranks(-1, "cXE= 65535\n")), EXIT_FAIL);
    assert_says("shards hold ids up to 65535");
    const char* const wrong[] = {"cXE=\n", "cXE= \n", "cXE= 12x\n", "cXE 300\n", " 300\n", "cX*E 300\n", "#version: 0.2\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(run_child(load_ranks, write_ranks(-1, wrong[i])), EXIT_FAIL);
        assert_says("line 271 is not `base64 rank`");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_merging),
        cmocka_unit_test(test_merging_by_definition),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_without_checksum),
        cmocka_unit_test(test_broken_ranks),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, test_dir_remove);
}
