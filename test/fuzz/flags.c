/*
Flags: words of a command line, @files that name each other, the flags that a checkpoint holds (llmc/base/flags.h), and what reads
a flag's text: --mtp_weights. What was taken is written as flags.txt and must read back as it was.

    words, one a line | \1 | file "a" | \1 | file "b" | \1 | file "c" ..      the last one is also read as a checkpoint's flags
*/
#include "fuzz.h"

#include "llmc/base/flags.h"
#include "llmc/model/mtp.h"
#include "words.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)      \
    SECTION("One of each")                                              \
    INT(batch_size, 4, 1, 65536, "an int")                              \
    INT(n_head, 0, -5, INT32_MAX, "an int without an upper end")        \
    LONG(val_tokens, 1048576, 1, INT64_MAX, "a long")                   \
    FLOAT(learning_rate, 1e-4, 0, 10, "a number")                       \
    FLOAT(tau, 1, -1e9, 1e30, "a number without an upper end")          \
    SWITCH(mtp_enabled, 0, "a switch")                                  \
    STRING(mtp_weights, "", "a list")                                   \
    STRING(input_bin, "data/*.bin", "a text")                           \
    CHOICE(model, "d12", "d12|d24|d36", "a name")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

static void check_same(FlagTable* flags, const char* name) {
    Options again;
    Text text = {0, 0, 0}, difference = {0, 0, 0}, json = {0, 0, 0}, changed = {0, 0, 0};
    FlagTable other = options_table(&again);
    flags_text(flags, &text), flags_json(flags, &json), flags_changed(flags, &changed);
    flags_parse_text(&other, text.data, name);
    if (flags_diff(flags, &other, &difference)) fuzz_finding("flags.txt reads back otherwise: %s", difference.data);
    text_free(&text), text_free(&difference), text_free(&json), text_free(&changed);
    flags_free(&other);
}

static void parse(const uint8_t* data, size_t size) {
    static char input[1 << 15];
    char *argv[64] = {(char*)"program"}, name[2] = "a", first[FUZZ_PATH + 80];
    if (size >= sizeof(input)) return;
    int argc = 1;
    memcpy(input, data, size);
    input[size] = 0;
    char *end = input + strlen(input), *part = strchr(input, 1), *last = NULL;
    while (part) {
        char *text = part + 1, *next = strchr(text, 1);
        size_t n = (size_t)((next ? next : end) - text);
        *part = 0;
        fuzz_file(name, text, next ? n : (size_t)(input + size - text));  // the last one with its zero bytes
        if (name[0]++ == 'z') return;
        last = text, part = next;
    }
    for (char *word = input, *stop; argc < 63 && *word; word = stop) {
        stop = word + strcspn(word, "\n");
        if (*stop) *stop++ = 0;
        if (argc == 1 && word[0] == '@') snprintf(first, sizeof(first), "@%s/%s", fuzz_dir, word + 1), word = first;
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    Options o;
    FlagTable flags = options_table(&o);
    flags_parse(&flags, argc, argv);
    check_same(&flags, "flags.txt");
    if (last) {
        fuzz_reads = "";  // these flags name no file
        flags_parse_text(&flags, last, "a.ckpt");
        check_same(&flags, "flags.txt");
        fuzz_reads = NULL;
    }
    Mtp m;
    Text problem = {0, 0, 0}, meant = {0, 0, 0};
    memset(&m, 0, sizeof(m));
    m.K = MTP_MAX, m.num_iterations = 10;
    float w[MTP_MAX];
    if (!mtp_parse(&m, o.mtp_weights, &problem)) mtp_suggest(o.mtp_weights, &meant);
    else mtp_weights_at(&m, 3, w);
    text_free(&problem), text_free(&meant);
    flags_free(&flags);
}

static void one(const uint8_t* data, size_t size) {
    fuzz_reads = NULL;
    parse(data, size);
}

static void seeds(void) {
    fuzz_flag_words(option_defs, (int)(sizeof(option_defs) / sizeof(option_defs[0])));
    static const char words[] = "--batch_size\n8\n--model=d24\n--mtp_enabled\n--mtp_weights\n1,0.5,0.25:0/1,0.5:0/1";
    static const char files[] =
        "@a\n--tau\n-1.5e3\1@b # and b\n--input_bin \"a \\\"b\\\\ \\n\\t\"\n\1--n_head -3 --mtp_enabled 0\n--val_tokens 7";
    static const char wrong[] = "--batchsize\n8\n--help\1--mtp_weights [1->0;1,2]\n";
    fuzz_seed("words", words, sizeof(words) - 1, NULL);
    fuzz_seed("files", files, sizeof(files) - 1, NULL);
    fuzz_seed("wrong", wrong, sizeof(wrong) - 1, NULL);
}

FUZZ_TARGET(one, seeds, true)
