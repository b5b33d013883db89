/*
What a model is: sizes, and the few switches in which the two trunks differ.

    arch     norm        positions  biases  GELU  residual                       init                             weight decay
    gpt2     LayerNorm   wpe        yes     tanh  x + f(x)                       N(0, 0.02), outputs / sqrt(2L)   matrices
    nocap    RMSNorm     RoPE       no      erf   x + attn / sqrt(2L), x + mlp   U(+-1/sqrt(fan_in))              everything

gpt2 is OpenAI's GPT-2; nocap is the baseline of the NoCap benchmark. Sizes d12 to d48 are the four GPT-2 ones.
*/
#pragma once

#include "../base/params.h"
#include "../io/codebook.h"

#include <math.h>

enum { MAX_LAYERS = 256, VOCAB_PAD = 128 };
typedef enum { RECOMPUTE_NONE, RECOMPUTE_GELU, RECOMPUTE_BLOCK } Recompute;
typedef enum { MIXER_ATTENTION } MixerKind;
typedef enum { HEAD_DENSE, HEAD_LIGHTRNN } HeadKind;                             // in the order of --head
typedef enum { EMBEDDING_DENSE, EMBEDDING_LIGHTRNN } EmbeddingKind;              // in the order of --embedding
typedef enum { DECODER_PER_ROW, DECODER_SHARED, DECODER_LOWRANK } LightDecoder;  // in the order of --lightrnn_decoder

enum { GROUP_SPELLING = 8 };  // of parameters that rest in a step without spelling loss

typedef struct {
    int letters;     // ahead, 0: no spelling head
    int mode, fold;  // SpellMode and SpellCase of ops/spelling.cuh
} SpellingConfig;

typedef struct {
    bool on;
    int rule;           // FilterRule of ops/filter.cuh
    double keep;        // share of the positions that topk keeps
    float threshold;    // of minmax
    bool mean_of_kept;  // the loss is a mean over the kept positions, not over all
} FilterConfig;

typedef enum { AHEAD_SHARED, AHEAD_LINEAR, AHEAD_PROJ } AheadKind;  // heads of the tokens 2 .. K ahead

typedef struct {
    AheadKind kind;
    int K;          // farthest token
    int consist_k;  // the head that is drawn to the next token's (ahead.h); 0: none
    float consist_temp;
    bool consist_teacher_grad;
} AheadConfig;

// What the objective of the run needs of the model (objective.cuh fills it in from the flags).
typedef struct {
    SpellingConfig spelling;
    FilterConfig filter;
    AheadConfig ahead;
    int table_k[2];  // entries of a row of the n-gram and of the neighbour table; 0: none
    bool exact;      // a lightrnn head has the n-grams as words: their rows and their columns
} AuxConfig;

typedef struct {
    int L, NH, C;  // layers, heads, width
    int V, Vp;     // vocabulary, and with padding rows
    int B, T;      // largest micro-batch, longest sequence
    bool layernorm, learned_positions, bias, decay_vectors, uniform_init;
    int gelu;          // GELU_TANH or GELU_ERF
    float attn_scale;  // factor on the attention branch
    bool tied;         // the head shares wte, or its rows and columns
    Recompute recompute;
    MixerKind mixer;
    HeadKind head;
    EmbeddingKind embedding;
    bool decode;           // with a cache of keys and values, so that text is generated token by token
    LightDecoder decoder;  // of a lightrnn head
    int light_rank;        // of DECODER_LOWRANK
    Codebook book;  // the cells of all tokens, for a lightrnn head or embedding (lightrnn.h); its memory is not the model's
    AuxConfig aux;
} Config;

// Most targets of a position that the buffers of a lightrnn head are for: tokens ahead; and with n-grams that are words.
UNUSED static int light_targets(const Config* c) {
    return c->aux.ahead.kind == AHEAD_SHARED && c->aux.ahead.K > 1 ? c->aux.ahead.K : 1;
}
UNUSED static int light_entries(const Config* c) { return light_targets(c) + (c->aux.exact ? c->aux.table_k[0] : 0); }

typedef struct {
    const char* name;
    int L, NH, C;
} ModelSize;

// The size called name ("d12"); NULL when there is none.
UNUSED static const ModelSize* model_size(const char* name) {
    static const ModelSize sizes[] = {{"d12", 12, 12, 768}, {"d24", 24, 16, 1024}, {"d36", 36, 20, 1280}, {"d48", 48, 25, 1600}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (!strcmp(sizes[i].name, name)) return &sizes[i];
    }
    return NULL;
}

// Sets the switches of the trunk; sizes must be set before. gelu kinds: 0 tanh, 1 erf (ops/activation.cuh).
UNUSED static void config_arch(Config* c, const char* arch) {
    bool gpt2 = !strcmp(arch, "gpt2");
    c->layernorm = c->learned_positions = c->bias = gpt2;
    c->decay_vectors = c->uniform_init = !gpt2;
    c->gelu = gpt2 ? 0 : 1;
    c->attn_scale = gpt2 ? 1.0f : 1.0f / sqrtf(2.0f * (float)c->L);
    c->Vp = (int)round_up((size_t)c->V, VOCAB_PAD);
}

// Refuses sizes that the kernels cannot run, as a usage error.
UNUSED static void config_check(const Config* c, bool gpu) {
    int D = c->NH ? c->C / c->NH : 0, unit = gpu ? 16 : 8;
    if (c->C % c->NH)
        usage_error("--n_embd %d is not a multiple of --n_head %d; use for example --n_embd %d", c->C, c->NH, 64 * c->NH);
    if (D % unit || D > 128) {
        usage_error(
            "--n_embd %d with --n_head %d gives heads of %d; use a head size that is a multiple of %d up to 128, such as 64",
            c->C, c->NH, D, unit);
    }
    if (c->L > MAX_LAYERS) usage_error("--n_layer %d: at most %d", c->L, MAX_LAYERS);
}

// A weight matrix (out, in) with the trunk's init; `residual`: it writes into the residual stream.
UNUSED static int config_matrix(ParamTable* t, const Config* c, const char* name, int out, int in, bool residual) {
    float scale = c->uniform_init ? 1.0f / sqrtf((float)in) : residual ? 0.02f / sqrtf(2.0f * (float)c->L) : 0.02f;
    return params_add_matrix(t, name, out, in, c->uniform_init ? INIT_UNIFORM : INIT_NORMAL, scale, true);
}

// A bias or norm vector, or -1 when `wanted` is false.
UNUSED static int config_vector(ParamTable* t, const Config* c, bool wanted, const char* name, int size, InitKind init) {
    return wanted ? params_add_vector(t, name, size, init, 0.0f, c->decay_vectors) : -1;
}

// "h.<layer>.<what>" into a static buffer that the next call reuses.
UNUSED static const char* layer_name(int layer, const char* what) {
    static char name[64];
    snprintf(name, sizeof(name), "h.%d.%s", layer, what);
    return name;
}
