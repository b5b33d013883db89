/*
A factorised vocabulary on the emulated card. Included by test_budget.cu behind the checks of a step.
*/
#pragma once

#include "plan.h"

static void write_ngrams(void) {
    TopTable t = top_table_alloc(TABLE_BIGRAM, 257, 5);
    for (int i = 0; i < 257 * 5; i++) t.ids[i] = (i / 5 * 13 + i % 5 * 29 + 1) % 257, t.probs[i] = 0.2f;
    for (int i = 0; i < 257; i++) t.p_top[i] = 1;
    top_table_save(test_path("ngrams"), &t);
}

// No size is read back, no plan is made on the way, and every micro-step is launched like the one before, whatever its tokens.
static void rows_and_columns_are_quiet(void** state) {
    (void)state;
    static const char* const decoders[] = {"", " --lightrnn_decoder shared", " --lightrnn_decoder lowrank --lightrnn_rank 3"};
    static const char* const objectives[] = {
        "", " --mtp_enabled --mtp_max_steps 3 --mtp_rampup_steps 0 --use_cocont --ngram_k 5 --cocont_mass exact --ngram_path "};
    for (int d = 0; d < 3; d++) {
        for (int o = 0; o < 2; o++) {
            char flags[700];
            snprintf(flags, sizeof(flags),
                     "--n_layer 1 " TINY " --arch nocap --tie_embedding light --grad_accumulation_steps 3%s%s%s", decoders[d],
                     objectives[o], o ? test_path("ngrams") : "");
            check_planned_memory(flags);
            Run r = run_open(flags, 0);
            run_steps(&r, 2);
            for (int s = 0; s < r.steps; s++) {
                for (int a = 0; a < r.micros; a++) {
                    int from = r.micro[s][a], to = r.micro[s][a + 1];
                    check_quiet(&r, flags, from, to, s + a > 0);
                    check_upload(&r, from, to);
                    if (a > 1) check_same(&r, flags, r.micro[s][1], r.micro[s][2], from, to, NULL);
                    check_same(&r, flags, r.micro[0][a], r.micro[0][a + 1], from, to, NULL);
                }
            }
            if (table)
                printf("%s\n    kernels %d, products %d of a micro-step\n", flags,
                       count_kind(&r, r.micro[0][1], r.micro[0][2], EMU_KERNEL),
                       count_kind(&r, r.micro[0][1], r.micro[0][2], EMU_PRODUCT));
            run_close(&r);
        }
    }
}
