/*
Multiple-choice files (llmc/io/choices.h): what --hellaswag_bin reads.

    vocabulary - 1 (2) | file
*/
#include "fuzz.h"

#include "llmc/io/choices.h"

enum { HEAD = 2 };

static void parse(const uint8_t* data, size_t size) {
    if (size < HEAD) return;
    int V = (data[0] | data[1] << 8) + 1, rows = 0;
    Choices f = choices_open(fuzz_file("a.bin", data + HEAD, size - HEAD), V);
    for (int i = 0; i < f.count; i++) {
        Choice c = choices_get(&f, i);
        if (c.label < 0 || c.label >= c.count || c.count > CHOICES_MAX) fuzz_finding("example %d: label %d", i, c.label);
        for (int k = 0; k < c.count; k++, rows++) {
            if (c.context_tokens + c.tokens[k] > f.longest || c.tokens[k] > f.longest_completion) fuzz_finding("too long");
            for (int t = 0; t < c.tokens[k]; t++) {
                if (c.completion[k][t] >= V) fuzz_finding("id %d", c.completion[k][t]);
            }
        }
        for (int t = 0; t < c.context_tokens; t++) {
            if (c.context[t] >= V) fuzz_finding("id %d", c.context[t]);
        }
    }
    if (rows != f.rows) fuzz_finding("%d completions, counted as %d", rows, f.rows);
    choices_close(&f);
}

static void seeds(void) {
    static const uint16_t ids[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const uint8_t head[HEAD] = {255, 0};
    ChoicesWriter w;
    choices_begin(&w, fuzz_path("a.bin"));
    for (int i = 0; i < 3; i++) {
        Choice c;
        memset(&c, 0, sizeof(c));
        c.label = i, c.count = 3 + i, c.context = ids, c.context_tokens = 2 + i;
        for (int k = 0; k < c.count; k++) c.completion[k] = ids + k, c.tokens[k] = 1 + (i + k) % 3;
        choices_append(&w, &c);
    }
    choices_end(&w);
    fuzz_seed("three", head, HEAD, fuzz_path("a.bin"));
}

FUZZ_TARGET(parse, seeds, true)
