/*
Checkpoints, as data/build_neighbours reads them (its main, unchanged), and the table that comes of them.

    control m-1 | checkpoint              control: see sign.h
*/
#include "fuzz.h"

#include "sign.h"

#define main build_neighbours
#include "data/build_neighbours.c"
#undef main

enum { HEAD = 2 };

static void parse(const uint8_t* data, size_t size) {
    static uint8_t file[SIGN_ROOM];
    char m[16];
    if (size < HEAD || size - HEAD > SIGN_ROOM) return;
    memcpy(file, data + HEAD, size - HEAD);
    size_t bytes = sign_checkpoint(file, size - HEAD, data[0]);
    const char *from = fuzz_file("a.ckpt", file, bytes), *out = fuzz_path("a.neighbours");
    snprintf(m, sizeof(m), "%d", data[1] % 9 + 1);
    char* argv[] = {(char*)"build_neighbours",
                    (char*)"--checkpoint",
                    (char*)from,
                    (char*)"--out",
                    (char*)out,
                    (char*)"--m",
                    m,
                    (char*)"--threads",
                    (char*)"1",
                    NULL};
    build_neighbours(9, argv);
}

static void seeds(void) {
    const uint8_t head[HEAD] = {SIGN_SUMS | SIGN_SIZES | SIGN_OFFSETS | SIGN_TENSORS, 1};
    float values[8 * 3];
    ParamTable t;
    RunState state = run_state_start();
    CheckpointWriter w;
    memset(&t, 0, sizeof(t));
    params_add_matrix(&t, "wte", 8, 3, INIT_ZERO, 0, false), params_add_vector(&t, "lnf.w", 3, INIT_ZERO, 0, false);
    for (int i = 0; i < 24; i++) values[i] = (float)(i * 7 % 11) - 5;
    checkpoint_writer_open(&w, fuzz_path("a.ckpt"), &t, 1, "--model d12\n--vocab_size 7\n", &state);
    for (int id = 0; id < t.count; id++) checkpoint_writer_put(&w, id, 0, values, t.rows[id].size);
    checkpoint_writer_close(&w);
    fuzz_seed("embedding", head, HEAD, fuzz_path("a.ckpt"));
    free(t.rows);
}

FUZZ_TARGET(parse, seeds, true)
