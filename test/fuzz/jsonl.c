/*
JSON lines, read by data/make_choices (its main, unchanged), and the multiple-choice file that comes of them. The input is the
file.
*/
#include "fuzz.h"

#define main make_choices
#include "data/make_choices.c"
#undef main

static void parse(const uint8_t* data, size_t size) {
    char *in = (char*)fuzz_file("a.jsonl", data, size), *out = (char*)fuzz_path("a.bin");
    char* argv[] = {(char*)"make_choices", (char*)"--out", out, in, NULL};
    make_choices(4, argv);
    Choices f = choices_open(out, 257);  // it reads what it wrote
    choices_close(&f);
}

static void seeds(void) {
    static const char text[] =
        "{\"ind\": 4, \"ctx\": \"a \\u00e9 \\ud83d\\ude00\\n\\\"b\\\"\", \"endings\": [\"c\", \"d e\"], \"label\": 1, \"x\": "
        "[{\"y\": null}, -1.5e3, true]}\n"
        "\n"
        "{\"label\":\"0\",\"endings\":[\"\",\"\\\\\",\"z\"],\"ctx\":\"\\ud83d q\"}\r\n";
    fuzz_seed("two", text, sizeof(text) - 1, NULL);
}

FUZZ_TARGET(parse, seeds, true)
