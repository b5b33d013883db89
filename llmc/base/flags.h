/*
The flag table: each flag is written once, in the program's X-macro; fields, parser, --help, did-you-mean, banner, checkpoint
and log all come from that row.

    #define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                          field
        SECTION("Data")
        STRING(input_bin, "data/train_*.bin", "shards to train on (glob, quote it)")            char*
        INT(batch_size, 4, 1, 65536, "sequences per micro-step")                                int       default, low, high
        LONG(val_tokens, 1048576, 1, 1000000000000, "tokens per validation")                    int64_t
        FLOAT(learning_rate, 1e-4, 0, 10, "peak learning rate")                                 double
        SWITCH(mtp_enabled, 0, "look more than one token ahead")                                bool
        CHOICE(model, "d12", "d12|d24|d36|d48", "model size")                                   char*
    DEFINE_OPTIONS(OPTIONS)

    int main(int argc, char** argv) {
        Options o;
        FlagTable flags = options_table(&o);     // every field now holds its default
        flags_parse(&flags, argc, argv);         // exits with 2 and one sentence when the line is wrong, with 0 after --help

Grammar: `--name value`, `--name=value`, a switch alone or with 0 or 1, `@file`. In a file: flags line by line, `#` starts a
comment, "..." with \" \\ \n \t and '...' quote; a nested @file is looked up beside the file that names it. Later flags win.

    FlagTable.defs    | section | flag | flag | section | flag ...     rows in the order written; sections are rows too
    FlagTable.set     |    .    |  0   |  1   |    .    |  0  ...      1 = given by the user, 0 = still the default
*/
#pragma once

#include "text.h"

enum { FLAGS_MAX = 256, FLAGS_HELP_WIDTH = 110, FLAGS_HELP_COLUMN = 34 };
// @files: how deep they name each other, how many in all, and the depth of flags that a program has stored, which name none
enum { FLAGS_NESTING = 8, FLAGS_FILES = 100, FLAGS_STORED = 1000 };

typedef enum { FLAG_SECTION, FLAG_INT, FLAG_LONG, FLAG_FLOAT, FLAG_SWITCH, FLAG_STRING, FLAG_CHOICE } FlagKind;

typedef struct {
    const char* name;  // the section's title in a FLAG_SECTION row
    FlagKind kind;
    size_t offset;        // of the field in Options
    const char* text;     // default, as a user would write it
    int64_t least, most;  // FLAG_INT, FLAG_LONG, both ends included
    double low, high;     // FLAG_FLOAT, both ends included
    const char* choices;  // FLAG_CHOICE: "a|b|c"
    const char* help;
} FlagDef;

typedef struct {
    const FlagDef* defs;
    int count;
    void* values;  // the Options struct
    unsigned char set[FLAGS_MAX];
    int files;            // @files read so far
    const char* program;  // argv[0], for the usage line
} FlagTable;

typedef struct {
    const char* file;  // NULL: the command line
    int line;          // from 1
} FlagPlace;

#define FLAG_NO_FIELD(title)
#define FLAG_INT_FIELD(name, text, low, high, help) int name;
#define FLAG_LONG_FIELD(name, text, low, high, help) int64_t name;
#define FLAG_FLOAT_FIELD(name, text, low, high, help) double name;
#define FLAG_SWITCH_FIELD(name, text, help) bool name;
#define FLAG_STRING_FIELD(name, text, help) char* name;
#define FLAG_CHOICE_FIELD(name, text, choices, help) char* name;
#define FLAG_SECTION_ROW(title) {title, FLAG_SECTION, 0, "", 0, 0, 0, 0, "", ""},
#define FLAG_INT_ROW(name, text, low, high, help) {#name, FLAG_INT, offsetof(Options, name), #text, low, high, 0, 0, "", help},
#define FLAG_LONG_ROW(name, text, low, high, help) {#name, FLAG_LONG, offsetof(Options, name), #text, low, high, 0, 0, "", help},
#define FLAG_FLOAT_ROW(name, text, low, high, help) \
    {#name, FLAG_FLOAT, offsetof(Options, name), #text, 0, 0, low, high, "", help},
#define FLAG_SWITCH_ROW(name, text, help) {#name, FLAG_SWITCH, offsetof(Options, name), #text, 0, 0, 0, 0, "", help},
#define FLAG_STRING_ROW(name, text, help) {#name, FLAG_STRING, offsetof(Options, name), text, 0, 0, 0, 0, "", help},
#define FLAG_CHOICE_ROW(name, text, choices, help) {#name, FLAG_CHOICE, offsetof(Options, name), text, 0, 0, 0, 0, choices, help},

// Makes `Options`, `option_defs` and `options_table(Options*)`, which fills in the defaults.
#define DEFINE_OPTIONS(TABLE)                                                                                                   \
    typedef struct {                                                                                                            \
        TABLE(FLAG_NO_FIELD, FLAG_INT_FIELD, FLAG_LONG_FIELD, FLAG_FLOAT_FIELD, FLAG_SWITCH_FIELD, FLAG_STRING_FIELD,           \
              FLAG_CHOICE_FIELD)                                                                                                \
    } Options;                                                                                                                  \
    static const FlagDef option_defs[] = {TABLE(FLAG_SECTION_ROW, FLAG_INT_ROW, FLAG_LONG_ROW, FLAG_FLOAT_ROW, FLAG_SWITCH_ROW, \
                                                FLAG_STRING_ROW, FLAG_CHOICE_ROW)};                                             \
    UNUSED static FlagTable options_table(Options* options) {                                                                   \
        memset(options, 0, sizeof(*options));                                                                                   \
        return flags_defaults(option_defs, (int)(sizeof(option_defs) / sizeof(option_defs[0])), options);                       \
    }

UNUSED PRINTF_LIKE(2, 3) __attribute__((noreturn)) static void flag_error(FlagPlace place, const char* format, ...) {
    Text t = {0, 0, 0};
    va_list args;
    va_start(args, format);
    text_reserve(&t, 2000);
    vsnprintf(t.data, 2000, format, args);
    va_end(args);
    if (place.file) usage_error("%s:%d: %s", place.file, place.line, t.data);
    usage_error("%s", t.data);
}

UNUSED static int flags_find(const FlagTable* table, const char* name) {
    for (int i = 0; i < table->count; i++) {
        if (table->defs[i].kind != FLAG_SECTION && !strcmp(table->defs[i].name, name)) return i;
    }
    return -1;
}

static int flags_known(const FlagTable* table, const char* name) {
    int i = flags_find(table, name);
    if (i < 0) fail("the program asks for a flag --%s that its table does not have", name);
    return i;
}

// What the user may write, for messages and help: "a whole number in 1..65536".
static const char* flag_expects(const FlagDef* d, char* out, size_t size) {
    const char* kind = d->kind == FLAG_FLOAT ? "a number" : "a whole number";
    bool capped = d->kind == FLAG_INT ? d->most < INT32_MAX : d->kind == FLAG_LONG ? d->most < INT64_MAX : d->high < 1e30;
    long long least = (long long)d->least, most = (long long)d->most;
    switch (d->kind) {
        case FLAG_INT:
        case FLAG_LONG:
            if (capped) snprintf(out, size, "%s in %lld..%lld", kind, least, most);
            else if (least <= INT32_MIN) snprintf(out, size, "%s", kind);
            else snprintf(out, size, "%s, %lld or more", kind, least);
            break;
        case FLAG_FLOAT:
            if (capped) snprintf(out, size, "%s in %g..%g", kind, d->low, d->high);
            else snprintf(out, size, "%s, %g or more", kind, d->low);
            break;
        case FLAG_SWITCH: snprintf(out, size, "0 or 1"); break;
        case FLAG_CHOICE: {
            size_t n = (size_t)snprintf(out, size, "one of ");
            for (const char* c = d->choices; *c && n + 3 < size; c++) {
                if (*c == '|') out[n++] = ',', out[n++] = ' ';
                else out[n++] = *c;
            }
            out[n < size ? n : size - 1] = 0;
            break;
        }
        default: snprintf(out, size, "text"); break;
    }
    return out;
}

// Place of `value` in the list "a|b|c", or -1.
static int choice_index(const char* choices, const char* value) {
    size_t length = strlen(value);
    for (int i = 0; *choices; i++) {
        size_t n = strcspn(choices, "|");
        if (n == length && !strncmp(choices, value, n)) return i;
        choices += n + (choices[n] == '|');
    }
    return -1;
}

// Reads `value` into field i; a wrong one ends the program with exit code 2.
static void flag_assign(FlagTable* table, int i, const char* value, FlagPlace place) {
    const FlagDef* d = &table->defs[i];
    void* field = (char*)table->values + d->offset;
    char expects[1024], *end = NULL;
    flag_expects(d, expects, sizeof(expects));
    if (d->kind == FLAG_INT || d->kind == FLAG_LONG) {
        errno = 0;
        long long x = strtoll(value, &end, 10);
        if (end == value || *end || strspn(value, "+-0123456789") != strlen(value)) {
            flag_error(place, "--%s is \"%s\": expected %s", d->name, value, expects);
        }
        if (errno == ERANGE || x < d->least || x > d->most) flag_error(place, "--%s is %s: expected %s", d->name, value, expects);
        if (d->kind == FLAG_INT) *(int*)field = (int)x;
        else *(int64_t*)field = (int64_t)x;
    } else if (d->kind == FLAG_FLOAT) {
        double x = strtod(value, &end);  // the character set keeps inf, nan and hexadecimal out
        if (end == value || *end || strspn(value, "+-.eE0123456789") != strlen(value)) {
            flag_error(place, "--%s is \"%s\": expected %s", d->name, value, expects);
        }
        if (!(x >= d->low && x <= d->high)) flag_error(place, "--%s is %s: expected %s", d->name, value, expects);
        *(double*)field = x;
    } else if (d->kind == FLAG_SWITCH) {
        if (strcmp(value, "0") && strcmp(value, "1")) flag_error(place, "--%s is \"%s\": expected 0 or 1", d->name, value);
        *(bool*)field = value[0] == '1';
    } else {
        if (d->kind == FLAG_CHOICE && choice_index(d->choices, value) < 0) {
            flag_error(place, "--%s is \"%s\": expected %s", d->name, value, expects);
        }
        char* copy = text_copy(value);  // before the free: value may be the field itself
        free(*(char**)field);
        *(char**)field = copy;
    }
}

// A table over `values` (zeroed by the caller) with every field at its default. options_table calls it.
UNUSED static FlagTable flags_defaults(const FlagDef* defs, int count, void* values) {
    FlagTable table;
    memset(&table, 0, sizeof(table));
    if (count > FLAGS_MAX) fail("the flag table has %d rows, more than FLAGS_MAX = %d", count, FLAGS_MAX);
    table.defs = defs, table.count = count, table.values = values, table.program = "program";
    for (int i = 0; i < count; i++) {
        FlagPlace place = {"the default of the flag table, row", i + 1};
        if (defs[i].kind != FLAG_SECTION) flag_assign(&table, i, defs[i].text, place);
    }
    return table;
}

// True when the user gave this flag, on the command line, in a file or by flags_parse_text.
UNUSED static bool flag_was_set(const FlagTable* table, const char* name) { return table->set[flags_known(table, name)] != 0; }

// A flag's field in Options, for code that stands below the program's Options type: int*, int64_t*, double*, bool* or char**.
UNUSED static const void* flag_field(const FlagTable* table, const char* name) {
    return (const char*)table->values + table->defs[flags_known(table, name)].offset;
}

// Place of a CHOICE flag's value in its list, for a switch over an enum in the same order.
UNUSED static int flag_choice(const FlagTable* table, const char* name) {
    const FlagDef* d = &table->defs[flags_known(table, name)];
    return choice_index(d->choices, *(char**)((char*)table->values + d->offset));
}

// The program's own decision ("auto" became "cpu"): checked like a user's value, not marked as set.
UNUSED static void flag_assign_by_name(FlagTable* table, const char* name, const char* value) {
    FlagPlace nowhere = {NULL, 0};
    flag_assign(table, flags_known(table, name), value, nowhere);
}

UNUSED static void flags_free(FlagTable* table) {
    for (int i = 0; i < table->count; i++) {
        char** field = (char**)((char*)table->values + table->defs[i].offset);
        if (table->defs[i].kind != FLAG_STRING && table->defs[i].kind != FLAG_CHOICE) continue;
        free(*field);
        *field = NULL;
    }
}

#include "flags_print.h"
#include "flags_parse.h"
