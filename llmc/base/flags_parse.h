/*
The reading half of the flag table (flags.h): command line, @files, did-you-mean.

    argv  -> tokens --+
    @file -> lines -> tokens --+--> flags_tokens --> flag_assign        one grammar, whatever the tokens come from
    text of a checkpoint ------+

A file's line is a little command line of its own, so a value never runs over a line end and an error names file and line.
Whoever made a checkpoint names no files here and does not end the program: its flags are `--name value` alone.
*/
#pragma once

#include "flags.h"

// Edits (insert, drop, change, swap neighbours) that make b of a; names are shorter than 64 characters, the rest is ignored.
static int edit_distance(const char* a, const char* b) {
    int row[3][66], m = (int)strnlen(a, 64), n = (int)strnlen(b, 64);
    int *before = row[0], *above = row[1], *now = row[2];
    for (int j = 0; j <= n; j++) above[j] = j;
    for (int i = 1; i <= m; i++) {
        now[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) best = above[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < best) best = before[j - 2] + 1;
            now[j] = best;
        }
        int* spare = before;
        before = above, above = now, now = spare;
    }
    return above[n];
}

// True when a's letters occur in b in order, from the first on: "mtp_steps" in "mtp_max_steps".
static bool is_abbreviation(const char* a, const char* b) {
    if (!*a || *a != *b) return false;
    for (; *b; b++) a += *a == *b;
    return !*a;
}

// The flag that an unknown name most likely meant, or NULL.
static const char* flags_nearest(const FlagTable* table, const char* name) {
    const char* nearest = NULL;
    int length = (int)strlen(name), limit = length / 3 < 2 ? 2 : length / 3, best = limit + 1;
    if (length < 3) limit = 1, best = 2;
    for (int i = 0; i < table->count; i++) {
        if (table->defs[i].kind == FLAG_SECTION) continue;
        int distance = edit_distance(name, table->defs[i].name);
        if (distance > limit && length >= 4 && is_abbreviation(name, table->defs[i].name)) distance = limit;
        if (distance < best) best = distance, nearest = table->defs[i].name;
    }
    return nearest;
}

// Splits a line in place into tokens, quotes and escapes resolved. Returns their number.
static int flags_split(char* line, char** tokens, int limit, FlagPlace place) {
    int count = 0;
    char* in = line;
    for (;;) {
        while (*in == ' ' || *in == '\t' || *in == '\r') in++;
        if (!*in || *in == '#') return count;
        if (count == limit) flag_error(place, "more than %d words on one line: write one flag a line", limit);
        char* out = tokens[count++] = in;
        char quote = 0;
        while (*in && (quote || !strchr(" \t\r", *in))) {
            char c = *in++;
            if (!quote && (c == '"' || c == '\'')) quote = c;
            else if (c == quote) quote = 0;
            else if (quote == '"' && c == '\\' && *in && strchr("\"\\nt", *in)) {
                c = *in++;
                *out++ = c == 'n' ? '\n' : c == 't' ? '\t' : c;
            } else *out++ = c;
        }
        if (quote) flag_error(place, "the quote %c is never closed", quote);
        bool last = !*in;  // out may stand on *in
        *out = 0;
        if (last) return count;
        in++;
    }
}

static void flags_tokens(FlagTable* table, int count, char** tokens, FlagPlace place, int depth);

// Parses text line by line. With `name` NULL positions in messages are left out.
static void flags_lines(FlagTable* table, char* text, const char* name, int depth) {
    FlagPlace place = {name, 0};
    char* tokens[64];
    while (text) {
        char* end = strchr(text, '\n');
        if (end) *end = 0;
        place.line++;
        flags_tokens(table, flags_split(text, tokens, 64, place), tokens, place, depth);
        text = end ? end + 1 : NULL;
    }
}

// Flags in a text: those at their default count as left out, so that a text which names every flag (flags.txt of a run) can be
// given again.
static void flags_of_file(FlagTable* table, char* text, const char* name, int depth) {
    unsigned char before[FLAGS_MAX];
    memcpy(before, table->set, sizeof(before));
    flags_lines(table, text, name, depth);
    for (int i = 0; i < table->count; i++) {
        if (table->set[i] && !before[i]) table->set[i] = !flag_is_default(table, i);
    }
}

static void flags_file(FlagTable* table, const char* path, FlagPlace place, int depth) {
    if (!*path) flag_error(place, "\"@\" needs a file name: @scripts/presets/NAME.txt");
    if (depth >= FLAGS_NESTING) flag_error(place, "@%s: files of flags name each other more than %d deep", path, FLAGS_NESTING);
    if (table->files++ >= FLAGS_FILES) flag_error(place, "@%s: more than %d files of flags; name fewer", path, FLAGS_FILES);
    Text full = {0, 0, 0};
    const char* slash = place.file ? strrchr(place.file, '/') : NULL;
    if (slash && path[0] != '/') text_add(&full, "%.*s", (int)(slash + 1 - place.file), place.file);
    text_add(&full, "%s", path);
    size_t size = 0;
    char* text = file_read(full.data, 1 << 20, &size);
    if (!text) flag_error(place, "@%s: cannot read this file of flags: %s", full.data, strerror(errno));
    if (strlen(text) != size) flag_error(place, "@%s: not a text file of flags (it holds a zero byte)", full.data);
    flags_of_file(table, text, full.data, depth + 1);
    free(text);
    text_free(&full);
}

__attribute__((noreturn)) static void flags_unknown(const FlagTable* table, const char* token, FlagPlace place) {
    int length = (int)strcspn(token, "=");
    Text name = {0, 0, 0};
    text_add(&name, "%.*s", length, token);
    const char* nearest = flags_nearest(table, name.data + strspn(name.data, "-"));
    if (nearest) flag_error(place, "unknown flag %s: did you mean --%s? (--help lists all flags)", name.data, nearest);
    flag_error(place, "unknown flag %s (--help lists all flags)", name.data);
}

UNUSED static void flags_help(const FlagTable* table, FILE* out);

static void flags_tokens(FlagTable* table, int count, char** tokens, FlagPlace place, int depth) {
    for (int k = 0; k < count; k++) {
        char* token = tokens[k];
        if (depth > FLAGS_NESTING && strncmp(token, "--", 2)) {
            flag_error(place, "unexpected \"%s\": flags that a program has stored are --flag value alone", token);
        }
        if (depth <= FLAGS_NESTING && (!strcmp(token, "--help") || !strcmp(token, "-h"))) {
            flags_help(table, stdout);
            exit(0);
        }
        if (token[0] == '@') {
            flags_file(table, token + 1, place, depth);
            continue;
        }
        if (token[0] != '-') {
            const char* fix = "arguments are --flag value or @file (quote a value that holds spaces or *)";
            flag_error(place, "unexpected \"%s\": %s", token, fix);
        }
        if (strncmp(token, "--", 2)) flags_unknown(table, token, place);
        const char* equals = strchr(token, '=');
        char name[64];  // cut off when longer: then it is no flag of ours
        snprintf(name, sizeof(name), "%.*s", equals ? (int)(equals - token - 2) : 63, token + 2);
        int i = flags_find(table, name);
        if (i < 0) flags_unknown(table, token, place);
        const FlagDef* d = &table->defs[i];
        const char* next = k + 1 < count ? tokens[k + 1] : NULL;
        const char* value = equals ? equals + 1 : next;
        if (d->kind == FLAG_SWITCH && !equals) {
            bool given = next && (!strcmp(next, "0") || !strcmp(next, "1"));
            if (!given) value = "1";
            k += given;
        } else if (!equals) {
            bool flag_follows = next && !strncmp(next, "--", 2) && next[2];
            char expects[1024];
            if (!next || flag_follows) {
                flag_error(place, "--%s needs a value: expected %s", d->name, flag_expects(d, expects, sizeof(expects)));
            }
            k++;
        }
        flag_assign(table, i, value, place);
        table->set[i] = 1;
    }
}

// Reads the command line. Any mistake ends the program with exit code 2 and one sentence; --help prints and exits with 0.
UNUSED static void flags_parse(FlagTable* table, int argc, char** argv) {
    FlagPlace place = {NULL, 0};
    if (argc > 0) table->program = argv[0];
    flags_tokens(table, argc - 1, argv + 1, place, 0);
}

// Reads what flags_text wrote (the flags inside a checkpoint); `name` is what messages call it.
UNUSED static void flags_parse_text(FlagTable* table, const char* text, const char* name) {
    char* copy = text_copy(text);
    flags_of_file(table, copy, name, FLAGS_STORED);
    free(copy);
}
