/*
What a table of flags (llmc/base/flags.h) tells the fuzzer: every flag's name and every choice is a word.
*/
#pragma once

#include "llmc/base/flags.h"

FUZZ_UNUSED static void fuzz_flag_words(const FlagDef* defs, int count) {
    for (int i = 0; i < count; i++) {
        if (defs[i].kind == FLAG_SECTION) continue;
        fuzz_word("--", defs[i].name, 64);
        const char* choices = defs[i].choices;
        for (int n; (n = (int)strcspn(choices, "|")) > 0; choices += n + (choices[n] == '|')) fuzz_word("", choices, n);
    }
}
