/*
The writing half of the flag table (flags.h): help, the effective set as an @file, as JSON, and the difference of two sets.
*/
#pragma once

#include "flags.h"

// Adds a string the way an @file wants it: bare when it can be, else in double quotes.
static void text_add_quoted(Text* t, const char* s) {
    bool bare = *s && !strpbrk(s, " \t\r\n\"'\\#");
    if (bare) {
        text_add(t, "%s", s);
        return;
    }
    text_add_char(t, '"');
    for (; *s; s++) {
        if (*s == '\n') text_add(t, "\\n");
        else if (*s == '\t') text_add(t, "\\t");
        else if (*s == '"' || *s == '\\') text_add(t, "\\%c", *s);
        else text_add_char(t, *s);
    }
    text_add_char(t, '"');
}

// Adds the value of flag i; strings raw.
static void flag_add_value(Text* t, const FlagTable* table, int i) {
    const void* field = (const char*)table->values + table->defs[i].offset;
    switch (table->defs[i].kind) {
        case FLAG_INT: text_add(t, "%d", *(const int*)field); break;
        case FLAG_LONG: text_add(t, "%lld", (long long)*(const int64_t*)field); break;
        case FLAG_FLOAT: text_add_number(t, *(const double*)field); break;
        case FLAG_SWITCH: text_add(t, "%d", *(const bool*)field); break;
        case FLAG_STRING:
        case FLAG_CHOICE: text_add(t, "%s", *(char* const*)field); break;
        case FLAG_SECTION: break;
    }
}

static bool flag_is_default(const FlagTable* table, int i) {
    const FlagDef* d = &table->defs[i];
    if (d->kind == FLAG_FLOAT) return *(const double*)((const char*)table->values + d->offset) == strtod(d->text, NULL);
    Text value = {0, 0, 0};
    text_reserve(&value, 0);
    value.data[0] = 0;
    flag_add_value(&value, table, i);
    bool same = !strcmp(value.data, d->text);
    text_free(&value);
    return same;
}

static void flag_add_line(Text* t, const FlagTable* table, int i, char end) {
    Text value = {0, 0, 0};
    text_reserve(&value, 0);
    value.data[0] = 0;
    flag_add_value(&value, table, i);
    bool flag_like = !strncmp(value.data, "--", 2);  // would be taken for the next flag
    text_add(t, "--%s%c", table->defs[i].name, flag_like ? '=' : ' ');
    text_add_quoted(t, value.data);
    text_add_char(t, end);
    text_free(&value);
}

// Adds the whole effective set, one `--name value` a line; flags_parse_text and @file read it back to the same values.
UNUSED static void flags_text(const FlagTable* table, Text* t) {
    for (int i = 0; i < table->count; i++) {
        if (table->defs[i].kind != FLAG_SECTION) flag_add_line(t, table, i, '\n');
    }
}

// Adds the flags that differ from their defaults, on one line: the banner's and results.tsv's short form.
UNUSED static void flags_changed(const FlagTable* table, Text* t) {
    text_reserve(t, 0);
    size_t start = t->size;
    for (int i = 0; i < table->count; i++) {
        if (table->defs[i].kind != FLAG_SECTION && !flag_is_default(table, i)) flag_add_line(t, table, i, ' ');
    }
    if (t->size > start) t->size--;
    t->data[t->size] = 0;
}

// Adds {"batch_size":4,...}: numbers as numbers, switches as true or false, the rest as strings.
UNUSED static void flags_json(const FlagTable* table, Text* t) {
    const char* comma = "{";
    for (int i = 0; i < table->count; i++) {
        const FlagDef* d = &table->defs[i];
        if (d->kind == FLAG_SECTION) continue;
        text_add(t, "%s\"%s\":", comma, d->name);
        comma = ",";
        const void* field = (const char*)table->values + d->offset;
        if (d->kind == FLAG_SWITCH) text_add(t, "%s", *(const bool*)field ? "true" : "false");
        else if (d->kind == FLAG_STRING || d->kind == FLAG_CHOICE) text_add_json(t, *(char* const*)field);
        else flag_add_value(t, table, i);
    }
    text_add(t, "%s}", *comma == '{' ? "{" : "");
}

// Adds "--name OLD -> NEW" lines for the flags in which two sets of the same table differ; returns their number.
UNUSED static int flags_diff(const FlagTable* old_set, const FlagTable* new_set, Text* t) {
    int differences = 0;
    for (int i = 0; i < old_set->count; i++) {
        if (old_set->defs[i].kind == FLAG_SECTION) continue;
        Text a = {0, 0, 0}, b = {0, 0, 0};
        flag_add_line(&a, old_set, i, 0);
        flag_add_line(&b, new_set, i, 0);
        if (strcmp(a.data, b.data)) {
            text_add(t, "%s -> %s\n", a.data, b.data + strlen(old_set->defs[i].name) + 3);
            differences++;
        }
        text_free(&a);
        text_free(&b);
    }
    return differences;
}

// Prints `help` from column FLAGS_HELP_COLUMN on, broken at spaces; the cursor stands at `column`.
static void flags_help_wrap(FILE* out, const char* help, int column) {
    if (column >= FLAGS_HELP_COLUMN) fprintf(out, "\n"), column = 0;
    while (*help) {
        int length = (int)strlen(help), room = FLAGS_HELP_WIDTH - FLAGS_HELP_COLUMN;
        if (length > room) {
            for (length = room; length > 0 && help[length] != ' '; length--) continue;
            if (length == 0) length = (int)strcspn(help, " ");
        }
        fprintf(out, "%*s%.*s\n", FLAGS_HELP_COLUMN - column, "", length, help);
        help += length;
        help += strspn(help, " ");
        column = 0;
    }
}

// The page of --help: sections, then per flag its form, its help, its default and its range or choices.
UNUSED static void flags_help(const FlagTable* table, FILE* out) {
    const char* forms[] = {"", " N", " N", " X", "", " TEXT", " NAME"};
    fprintf(out, "usage: %s [@file] [--flag value] ...\n\n", table->program);
    fprintf(out, "  @file reads flags from a file, one a line, # starts a comment; later flags win.\n");
    fprintf(out, "  A switch is --name, --name 1 or --name 0.  --help prints this page.\n");
    for (int i = 0; i < table->count; i++) {
        const FlagDef* d = &table->defs[i];
        if (d->kind == FLAG_SECTION) {
            fprintf(out, "\n%s\n", d->name);
            continue;
        }
        Text t = {0, 0, 0};
        char expects[1024];
        text_add(&t, "%s (default ", d->help);
        if (d->kind == FLAG_SWITCH) text_add(&t, "%s", strcmp(d->text, "0") ? "on" : "off");
        else if (d->kind == FLAG_STRING) text_add(&t, *d->text ? "\"%s\"" : "none", d->text);
        else text_add(&t, "%s; %s", d->text, flag_expects(d, expects, sizeof(expects)));
        text_add(&t, ")");
        int column = fprintf(out, "  --%s%s ", d->name, forms[d->kind]);
        flags_help_wrap(out, t.data, column);
        text_free(&t);
    }
}
