/*
Checkpoints, as data/reassign_codebook reads them (its main, unchanged): tensors that must fit each other and a codebook.

    control V-1 columns | checkpoint              control: see sign.h
*/
#include "fuzz.h"

#include "sign.h"

#define main reassign_codebook
#include "data/reassign_codebook.c"
#undef main

enum { HEAD = 3 };

static void parse(const uint8_t* data, size_t size) {
    static uint8_t file[SIGN_ROOM];
    if (size < HEAD || size - HEAD > SIGN_ROOM) return;
    int V = data[1] + 1, columns = data[2] % (V + 1);
    memcpy(file, data + HEAD, size - HEAD);
    size_t bytes = sign_checkpoint(file, size - HEAD, data[0]);
    const char *from = fuzz_file("a.ckpt", file, bytes), *book = fuzz_path("b.codebook"), *out = fuzz_path("out");
    Codebook b = codebook_snake(V, columns, NULL);
    codebook_save(book, &b);
    codebook_free(&b);
    char* argv[] = {(char*)"reassign_codebook",
                    (char*)"--checkpoint",
                    (char*)from,
                    (char*)"--codebook",
                    (char*)book,
                    (char*)"--out",
                    (char*)out,
                    NULL};
    reassign_codebook(7, argv);
}

// A lightrnn model's head and embedding for 7 tokens in 3 columns
static void seeds(void) {
    static float values[3 * 8 * 4];
    const uint8_t head[HEAD] = {SIGN_SUMS | SIGN_SIZES | SIGN_OFFSETS | SIGN_TENSORS, 6, 3};
    Codebook b = codebook_sequential(7, 3);
    ParamTable t;
    RunState state = run_state_start();
    CheckpointWriter w;
    memset(&t, 0, sizeof(t));
    params_add_matrix(&t, "wte.row", 3, 4, INIT_ZERO, 0, false), params_add_matrix(&t, "wte.column", 3, 4, INIT_ZERO, 0, false);
    params_add_matrix(&t, "head.row.w", 3, 4, INIT_ZERO, 0, false), params_add_vector(&t, "head.row.b", 3, INIT_ZERO, 0, false);
    params_add_matrix(&t, "head.column.w", 24, 4, INIT_ZERO, 0, false);
    params_add_matrix(&t, "cells", 2, 7, INIT_ZERO, 0, false);
    checkpoint_writer_open(&w, fuzz_path("a.ckpt"), &t, 1, "--vocab_size 7\n--codebook a.codebook\n", &state);
    for (int id = 0; id < t.count; id++) {
        for (int v = 0; v < 7 && id == t.count - 1; v++) values[v] = (float)b.row[v], values[7 + v] = (float)b.col[v];
        checkpoint_writer_put(&w, id, 0, values, t.rows[id].size);
    }
    checkpoint_writer_close(&w);
    fuzz_seed("lightrnn", head, HEAD, fuzz_path("a.ckpt"));
    free(t.rows);
    codebook_free(&b);
}

FUZZ_TARGET(parse, seeds, true)
