/*
JSON lines to a multiple-choice file (llmc/io/choices.h): what --hellaswag_bin reads.

    data/make_choices --tokenizer r50k_base.tiktoken --out data/hellaswag_val.bin hellaswag_val.jsonl

    {"ctx": "A man is sitting on a roof. he", "endings": ["starts pulling up roofing.", ..], "label": 3, ..}     a line an example

A completion is a space and the ending, as in llm.c. Other members are ignored. A line that is not that is named; nothing is
written then. Tokens must be those of the training shards: the same --tokenizer that data/prepare had, or its
PREFIX_tokenizer.bin.
*/
#include "tool.h"

#include "llmc/io/choices.h"
#include "llmc/io/tokenizer.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                                     \
    SECTION("Multiple choice")                                                                                         \
    STRING(tokenizer, "bytes", "a .tiktoken ranks file, a tokenizer .bin file, or `bytes`")                            \
    STRING(out, "", "file to write; a multiple-choice file that is there is replaced")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

enum { MOST_BYTES = UINT16_MAX / 2 * TOKEN_BYTES_MAX };  // of an example whose lengths fit into 16 bits

typedef struct {
    const char *at, *end;  // of a line
    const char* path;
    int line;
} Json;

typedef struct {
    Text ctx, endings[CHOICES_MAX];
    int count, label;  // -1: not seen yet
    bool has_ctx;
} Example;

__attribute__((noreturn)) static void json_fail(const Json* j, const char* what) {
    fail("%s: line %d: %s; expected {\"ctx\": TEXT, \"endings\": [TEXT, ..], \"label\": N} on every line", j->path, j->line,
         what);
}

static char json_peek(Json* j) {
    while (j->at < j->end && strchr(" \t\r", *j->at)) j->at++;
    return j->at < j->end ? *j->at : '\0';
}

static bool json_take(Json* j, char c) {
    if (json_peek(j) != c) return false;
    j->at++;
    return true;
}

static void json_need(Json* j, char c) {
    char what[32];
    snprintf(what, sizeof what, "no %c where one belongs", c);
    if (!json_take(j, c)) json_fail(j, what);
}

static uint32_t json_hex(Json* j) {
    uint32_t code = 0;
    for (int i = 0; i < 4; i++) {
        char c = j->at < j->end ? *j->at++ : '\0';
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) json_fail(j, "\\u without four hexadecimal digits");
        code = code << 4 | (uint32_t)digit;
    }
    return code;
}

static void add_utf8(Text* t, uint32_t c) {
    if (c < 0x80) {
        text_add_char(t, (char)c);
    } else if (c < 0x800) {
        text_add_char(t, (char)(0xc0 | c >> 6)), text_add_char(t, (char)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        text_add_char(t, (char)(0xe0 | c >> 12)), text_add_char(t, (char)(0x80 | (c >> 6 & 63)));
        text_add_char(t, (char)(0x80 | (c & 63)));
    } else {
        text_add_char(t, (char)(0xf0 | c >> 18)), text_add_char(t, (char)(0x80 | (c >> 12 & 63)));
        text_add_char(t, (char)(0x80 | (c >> 6 & 63))), text_add_char(t, (char)(0x80 | (c & 63)));
    }
}

// Adds a string's text, escapes resolved; a half surrogate pair becomes U+FFFD.
static void json_string(Json* j, Text* t) {
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    text_reserve(t, 0);
    json_need(j, '"');
    while (j->at < j->end && *j->at != '"') {
        char c = *j->at++;
        if (c != '\\') {
            text_add_char(t, c);
            continue;
        }
        c = j->at < j->end ? *j->at++ : '\0';
        const char* escape = c ? strchr(escapes, c) : NULL;
        if (escape) text_add_char(t, meant[escape - escapes]);
        else if (c != 'u') json_fail(j, "an unknown escape in a string");
        if (escape) continue;
        uint32_t code = json_hex(j);
        bool high = code >= 0xd800 && code < 0xdc00, half = code >= 0xd800 && code < 0xe000;
        if (high && j->end - j->at >= 6 && j->at[0] == '\\' && j->at[1] == 'u') {
            const char* before = j->at;
            j->at += 2;
            uint32_t low = json_hex(j);
            if (low >= 0xdc00 && low < 0xe000) code = 0x10000 + ((code & 0x3ff) << 10 | (low & 0x3ff)), half = false;
            else j->at = before;
        }
        add_utf8(t, half ? 0xfffd : code);
    }
    json_need(j, '"');
}

// Any value, ignored.
static void json_skip(Json* j, int depth) {
    char c = json_peek(j);
    Text ignored = {0, 0, 0};
    if (depth > 64) json_fail(j, "values more than 64 deep");
    if (c == '"') {
        json_string(j, &ignored);
        text_free(&ignored);
    } else if (c == '[' || c == '{') {
        char close = c == '[' ? ']' : '}';
        j->at++;
        if (json_take(j, close)) return;
        do {
            json_skip(j, depth + 1);
            if (c == '{') json_need(j, ':'), json_skip(j, depth + 1);
        } while (json_take(j, ','));
        json_need(j, close);
    } else {
        size_t n = strcspn(j->at, ",]} \t\r\n");
        if (n == 0 || j->at + n > j->end) json_fail(j, "a value is missing");
        j->at += n;
    }
}

static void json_label(Json* j, Example* e) {
    Text text = {0, 0, 0};
    if (json_peek(j) == '"') json_string(j, &text);
    else {
        const char* start = j->at;
        json_skip(j, 0);
        text_add(&text, "%.*s", (int)(j->at - start), start);
    }
    if (text.size == 0 || text.size > 2 || strspn(text.data, "0123456789") != text.size) {
        json_fail(j, "\"label\" is not the number of an ending (files without answers cannot be scored)");
    }
    e->label = atoi(text.data);
    text_free(&text);
}

static void json_endings(Json* j, Example* e) {
    json_need(j, '[');
    do {
        if (e->count == CHOICES_MAX) json_fail(j, "more than 16 endings");
        text_add_char(&e->endings[e->count], ' ');
        json_string(j, &e->endings[e->count++]);
    } while (json_take(j, ','));
    json_need(j, ']');
}

static void json_example(Json* j, Example* e) {
    json_need(j, '{');
    do {
        Text key = {0, 0, 0};
        json_string(j, &key);
        json_need(j, ':');
        if (!strcmp(key.data, "ctx") && !e->has_ctx) json_string(j, &e->ctx), e->has_ctx = true;
        else if (!strcmp(key.data, "endings") && !e->count) json_endings(j, e);
        else if (!strcmp(key.data, "label")) json_label(j, e);
        else json_skip(j, 0);
        text_free(&key);
    } while (json_take(j, ','));
    json_need(j, '}');
    if (json_peek(j)) json_fail(j, "something follows the object");
    if (!e->has_ctx || e->ctx.size == 0) json_fail(j, "\"ctx\" is missing or empty");
    if (e->count < 2) json_fail(j, "fewer than 2 \"endings\"");
    if (e->label < 0 || e->label >= e->count) json_fail(j, "\"label\" is missing or not the number of an ending");
}

static void put_example(ChoicesWriter* w, const Json* j, Tokenizer* tok, Example* e) {
    uint16_t* ids[CHOICES_MAX + 1];
    size_t all = e->ctx.size;
    Choice c;
    for (int k = 0; k < e->count; k++) all += e->endings[k].size;
    if (all > MOST_BYTES) json_fail(j, "more than 8 MB of text in one example, which the format has no room for");
    memset(&c, 0, sizeof c);
    c.label = e->label, c.count = e->count;
    c.context_tokens = (int)tokenizer_encode(tok, e->ctx.data, e->ctx.size, &ids[CHOICES_MAX]);
    c.context = ids[CHOICES_MAX];
    for (int k = 0; k < e->count; k++) {
        c.tokens[k] = (int)tokenizer_encode(tok, e->endings[k].data, e->endings[k].size, &ids[k]);
        c.completion[k] = ids[k];
    }
    if (!choices_append(w, &c)) json_fail(j, "more than 32,000 tokens in one example, which the format has no room for");
    for (int k = 0; k < e->count; k++) free(ids[k]), text_free(&e->endings[k]);
    free(ids[CHOICES_MAX]);
    text_free(&e->ctx);
}

static void put_file(ChoicesWriter* w, const char* path, Tokenizer* tok) {
    size_t size = 0;
    char* text = file_read(path, SIZE_MAX, &size);
    if (!text) fail("%s: cannot read: %s; name a file of JSON lines", path, strerror(errno));
    Json j = {text, text, path, 0};
    for (char* line = text; line < text + size;) {
        char* newline = (char*)memchr(line, '\n', (size_t)(text + size - line));
        j.at = line, j.end = newline ? newline : text + size;
        j.line++;
        line = newline ? newline + 1 : text + size;
        if (!json_peek(&j)) continue;
        Example e;
        memset(&e, 0, sizeof e);
        e.label = -1;
        json_example(&j, &e);
        put_example(w, &j, tok, &e);
    }
    free(text);
}

int main(int argc, char** argv) {
    Options o;
    FlagTable flags = options_table(&o);
    tool_help(&flags, argc, argv, "--tokenizer FILE --out FILE JSONL...", "Multiple-choice questions for --hellaswag_bin.");
    char** words = (char**)xmalloc((size_t)(argc + 1) * sizeof(char*));
    int count = tool_take_words(&flags, &argc, argv, words);
    flags_parse(&flags, argc, argv);
    if (!*o.out) usage_error("--out is missing: name the file to write, e.g. --out data/hellaswag_val.bin");
    if (count == 0) usage_error("no JSON lines named: %s --tokenizer FILE --out FILE JSONL...", argv[0]);
    tool_keep_other_files(o.out, CHOICES_MAGIC, "a multiple-choice file");
    size_t length = strlen(o.tokenizer);
    bool bin = length > 4 && !strcmp(o.tokenizer + length - 4, ".bin");
    Tokenizer tok = !strcmp(o.tokenizer, "bytes") ? tokenizer_bytes()
                    : bin                         ? tokenizer_load(o.tokenizer)
                                                  : tokenizer_from_tiktoken(o.tokenizer);
    ChoicesWriter w;
    tool_catch_signals();
    choices_begin(&w, o.out);
    for (int i = 0; i < count; i++) put_file(&w, words[i], &tok);
    if (w.count == 0) fail("%s: no example in it; expected JSON lines", words[0]);
    choices_end(&w);
    printf("%s: %d examples\n", o.out, w.count);
    tokenizer_free(&tok);
    free(words);
    flags_free(&flags);
    return 0;
}
