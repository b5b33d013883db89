/*
The trainer, whole (train_gpt2.cu, its CPU variant): its flags in a dry run, which must not write or read a thing, and a
checkpoint that somebody else made, as --generate, --resume and --init_from take it.

    0 | words, one a line                                     a dry run
    1 generate, 2 resume, 3 init_from | sign | checkpoint     sign: see sign.h
*/
#include "fuzz.h"

#define VARIANT cpu_fp32
#include "train_gpt2.cu"

#include "sign.h"
#include "words.h"

enum { HEAD = 2, WORDS = 200 };

// The other precisions are programs of their own.
#define NOT_HERE(precision)                                                                                                  \
    extern "C" size_t PASTED(ahead_validation_bytes, cpu_##precision)(int, char**, int, bool, int) { return 1; }             \
    extern "C" bool PASTED(ahead_validate, cpu_##precision)(void**, int, char**, const float*, const volatile sig_atomic_t*, \
                                                            double*) {                                                       \
        fail("validation in another precision");                                                                             \
    }
NOT_HERE(bf16)
NOT_HERE(fp16)

// Of OpenMP's library: here is one thread.
extern "C" int omp_get_thread_num(void) { return 0; }
extern "C" int omp_get_num_threads(void) { return 1; }
extern "C" int omp_get_max_threads(void) { return 1; }
extern "C" int omp_get_thread_limit(void) { return 1; }
extern "C" void omp_set_num_threads(int) {}
extern "C" void omp_set_dynamic(int) {}
extern "C" void omp_set_max_active_levels(int) {}

static char small[] =
    "--arch\ngpt2\n--n_layer\n1\n--n_head\n1\n--n_embd\n8\n--vocab_size\n257\n--sequence_length\n8\n--batch_size\n1\n--"
    "device\ncpu";

static int split(char* text, char** argv) {
    int argc = 1;
    argv[0] = (char*)"train_gpt2cu";
    for (char *word = text, *stop; argc < WORDS && *word; word = stop) {
        stop = word + strcspn(word, "\n");
        if (*stop) *stop++ = 0;
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    return argc;
}

static void dry_run(const uint8_t* data, size_t size) {
    static char text[1 << 14];
    char* argv[WORDS + 8];
    if (size > sizeof(text) - 64) return;
    memcpy(text, data, size);
    text[size] = 0;
    fuzz_reads = "";
    int argc = split(text, argv);
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '@') return;  // files of flags are the target flags'
    }
    static const char* const rest[] = {"--generate", "", "--dry_run", "1", NULL};
    for (int i = 0; rest[i]; i++) argv[argc++] = (char*)rest[i];
    argv[argc] = NULL;
    ahead_train_cpu_fp32(argc, argv);
}

// A trainer of the small model with memory, as open_run leaves it before it looks for checkpoints
static Trainer* small_trainer(const char* more) {
    static char words[1024];
    static char* argv[WORDS];
    Trainer* t = (Trainer*)xcalloc(sizeof(Trainer));
    snprintf(words, sizeof(words), "%s\n%s", small, more);
    t->flags = options_table(&t->o);
    t->argv = argv, t->argc = split(words, argv);
    flags_parse(&t->flags, t->argc, argv);
    declare_run(t);
    model_allocate(&t->model, false, true);
    return t;
}

static void checkpoint(const uint8_t* data, size_t size, int how) {
    static uint8_t file[SIGN_ROOM];
    static uint16_t ids[400];
    Text more = {};
    if (size < 1 || size - 1 > SIGN_ROOM) return;
    memcpy(file, data + 1, size - 1);
    size_t bytes = sign_checkpoint(file, size - 1, data[0]);
    const char* path = fuzz_file("step_00000000.ckpt", file, bytes);
    if (how == 1) {
        Tokenizer tok = tokenizer_bytes();
        tokenizer_save(&tok, fuzz_path("a_tokenizer.bin"));
        text_add(&more, "--generate\n%s\n--tokenizer\n%s\n--prompt\nab\n--sample_tokens\n3", path, fuzz_path("a_tokenizer.bin"));
        char* argv[WORDS];
        int argc = split(more.data, argv);
        ahead_train_cpu_fp32(argc, argv);
    } else if (how == 2) {
        fuzz_reads = "step_00000000.ckpt";
        text_add(&more, "--output_dir\n%s\n--resume\n1", fuzz_dir);
        Trainer* t = small_trainer(more.data);
        fuzz_reads = NULL;
        shard_write(fuzz_path("a.bin"), ids, 400);
        loader_open(&t->train.loader, fuzz_path("a.bin"), 1, 8, 1, 0, 1, 257, false);
        resume_from_checkpoint(t);
        objective_start(&t->objective, &t->model, t->run.step);
        loader_next(&t->train.loader);
        logger_open(&t->log, fuzz_dir, t->run.step, t->o.num_iterations, PRECISION_NAME, "");
    } else {
        fuzz_reads = "step_00000000.ckpt";
        text_add(&more, "--init_from\n%s", path);
        start_weights(small_trainer(more.data));
    }
}

static void parse(const uint8_t* data, size_t size) {
    memset(&planning, 0, sizeof(planning));
    planning.times = 1;
    profile.on = false;
    fuzz_reads = NULL;
    new_file_discard();
    if (size < HEAD) return;
    if (data[0] % 4 == 0) dry_run(data + 1, size - 1);
    else checkpoint(data + 1, size - 1, data[0] % 4);
}

// A checkpoint of the small model: zeros, but for the cells of a factorised vocabulary. Returns where its tensors begin.
static long write_small(const char* path, const char* more, int arrays) {
    Trainer* t = small_trainer(more);
    const Codebook* b = &t->model.config.book;
    RunState state = run_state_start();
    Text flags = {};
    CheckpointWriter w;
    float* values = (float*)xcalloc(t->model.table.size * sizeof(float));
    flags_text(&t->flags, &flags);
    checkpoint_writer_open(&w, path, &t->model.table, arrays, flags.data, &state);
    long payload = (long)w.head_bytes;
    for (int a = 0; a < arrays; a++) {
        for (int id = 0; id < t->model.table.count; id++) {
            const Param* p = &t->model.table.rows[id];
            bool cells = a == 0 && !strcmp(p->name, "cells");
            for (int v = 0; cells && v < b->V; v++) values[v] = (float)b->row[v], values[b->V + v] = (float)b->col[v];
            checkpoint_writer_put(&w, id, a, values, p->size);
            memset(values, 0, p->size * sizeof(float));
        }
    }
    checkpoint_writer_close(&w);
    return payload;
}

// Three are the head of a checkpoint, to which sign_checkpoint adds its tensors.
static void seeds(void) {
    fuzz_flag_words(option_defs, (int)(sizeof(option_defs) / sizeof(option_defs[0])));
    static const char words[] = {"\0--mtp_enabled\n--mtp_max_steps\n3\n--n_layer\n2\n--n_embd=128\n--n_head=2\n--gpu\na100"},
                      light[] = {"\0--head\nlightrnn\n--embedding\nlightrnn\n--table_size\n100\n--spell_weight\n0.1"},
                      heads[] = {"\0--mtp_enabled\n--mtp_heads\nproj\n--consist_weight\n0.1\n--recompute\nblock"};
    fuzz_seed("flags", words, sizeof(words) - 1, NULL);
    fuzz_seed("flags_lightrnn", light, sizeof(light) - 1, NULL);
    fuzz_seed("flags_heads", heads, sizeof(heads) - 1, NULL);
    const char *names[] = {"", "generate", "resume", "init_from", "lightrnn"}, *path = fuzz_path("a.ckpt");
    for (int how = 1; how <= 4; how++) {
        uint8_t head[HEAD] = {(uint8_t)(how == 4 ? 1 : how), SIGN_SUMS | SIGN_SIZES | SIGN_OFFSETS | SIGN_TENSORS};
        long payload = write_small(path, how == 4 ? "--tie_embedding\nlight" : "", how == 4 ? 1 : CHECKPOINT_ARRAYS);
        if (how < 4 && truncate(path, payload)) fuzz_finding("cannot cut a file");
        fuzz_seed(names[how], head, HEAD, path);
    }
}

FUZZ_TARGET(parse, seeds, false)
