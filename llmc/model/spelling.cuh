/*
The spelling loss: a small head of its own predicts the next M letters of the text from the same hidden rows.

    yf (N,C) --W (M 136, C), bias--> logits (rows, M 136) = (rows M, 136) --classifier, 130 live classes--> losses, gradient
    dn += gradient . W      dW, dbias      chunk by chunk of rows, as the main head

    letters (N,M)    class of letter j behind position n, -1: none (ops/spelling.cuh)
    slot LOSS_SPELLING of the losses: per position, scaled so that their mean is the mean over the letters that exist

The first letter is a function of the next token, so the best next-token distribution stays the best one: unlike targets that are
mixed into the main logits, this loss may be held to the end. M 136 C parameters, 1 % of the vocabulary's; they are of no use
after training. In a step of weight 0 nothing here runs, and the optimizer leaves the head alone.
*/
#pragma once

#include "../io/tokenizer_open.h"
#include "../ops/reduce.cuh"
#include "aux_weight.h"
#include "model.cuh"

typedef struct {
    AuxWeight weight;
    SpellingConfig config;  // letters = 0: absent
    uint8_t* table;         // (V,SPELL_ROW) on the host until it is uploaded
} Spelling;

// What the flags ask for. A wrong flag ends the program with exit code 2, a missing tokenizer with 1.
UNUSED static Spelling spelling_from_flags(const FlagTable* flags, int64_t num_iterations) {
    Spelling s;
    memset(&s, 0, sizeof(s));
    double weight = *(const double*)flag_field(flags, "spell_weight");
    aux_check_idle(flags, "spell_", weight > 0, "--spell_weight");
    if (weight == 0) return s;
    s.weight = aux_weight_from_flags(flags, "spell", weight, num_iterations);
    s.config.letters = *(const int*)flag_field(flags, "spell_letters");
    s.config.fold = flag_choice(flags, "spell_case");
    s.config.mode = flag_choice(flags, "spell_mode");
    int V = *(const int*)flag_field(flags, "vocab_size");
    if (planning.on) return s;
    const char *file = *(char*const*)flag_field(flags, "tokenizer"), *shards = *(char*const*)flag_field(flags, "input_bin");
    Tokenizer tok = tokenizer_open(file, shards, V, "--spell_weight");
    s.table = (uint8_t*)xmalloc((size_t)V * SPELL_ROW);
    spelling_table(s.table, tok.bytes, tok.start, V, tok.eot, (SpellCase)s.config.fold);
    tokenizer_free(&tok);
    return s;
}

// What the vocabulary looks like, to the device; after model_allocate.
UNUSED static void spelling_upload(Spelling* s, Model* m) {
    if (!s->table) return;
    copy_to_device(m->spelling.table, s->table, (size_t)m->config.V * SPELL_ROW);
    free(s->table);
    s->table = NULL;
}

// A line for the banner; nothing without the head.
UNUSED static void spelling_print(const Spelling* s) {
    const char *folds[] = {"as written", "in lower case", "in upper case"}, *modes[] = {"the text", "the next token"};
    if (!s->config.letters) return;
    printf("objective  the next %d letters of %s, %s, with weight %g\n", s->config.letters, modes[s->config.mode],
           folds[s->config.fold], s->weight.weight);
}

// The head's parameters. Its 6 padding rows per letter are 0 and stay 0: they get no gradient.
UNUSED static void spelling_params(Model* m) {
    const Config* c = &m->config;
    int M = c->aux.spelling.letters, rows = M * SPELL_PADDED;
    SpellingHead* s = &m->spelling;
    s->w = s->b = -1;
    if (!M) return;
    s->w = params_add_matrix(&m->table, "spell.w", rows, c->C, INIT_UNIFORM, 1.0f / sqrtf((float)c->C), true);
    s->b = params_add_vector(&m->table, "spell.b", rows, INIT_ZERO, 0.0f, c->decay_vectors);
    for (int id = s->w; id <= s->b; id++) {
        Param* p = &m->table.rows[id];
        p->group = GROUP_SPELLING;
        p->live_rows = SPELL_CLASSES, p->period = SPELL_PADDED;
    }
}

UNUSED static void spelling_plan_activations(Model* m) {
    const Config* c = &m->config;
    size_t N = (size_t)c->B * c->T, M = (size_t)c->aux.spelling.letters, chunk = (size_t)m->chunk_rows, F = sizeof(float);
    SpellingHead* s = &m->spelling;
    Arena* a = &m->activations;
    if (!M || !m->training) return;
    arena_add(a, "spelling table", &s->table, (size_t)c->V * SPELL_ROW);
    arena_add(a, "spelling letters", &s->letters, N * M * sizeof(int));
    arena_add(a, "spelling norm", &s->norm, 2 * F);
    arena_add(a, "spelling logits", &s->logits, chunk * M * SPELL_PADDED * sizeof(floatX));
    arena_add(a, "spelling losses", &s->letter_losses, chunk * M * F);
    arena_add(a, "spelling sums", &s->column_scratch, (size_t)device_teams(COLUMN_TEAMS) * M * SPELL_PADDED * F);
}

// For the training shape only: validation and samples do not spell.
UNUSED static void spelling_plan_shape(Model* m, int B, int T) {
    const Config* c = &m->config;
    int N = B * T, out = c->aux.spelling.letters * SPELL_PADDED, chunks[2] = {m->chunk_rows, N % m->chunk_rows};
    bool fp32 = sizeof(floatX) == sizeof(float);
    if (!out || !m->training || B != c->B || T != c->T) return;
    for (int i = 0; i < 2; i++) {
        if (!chunks[i] || chunks[i] > N) continue;
        gemm_plan(&m->gemm, GEMM_FORWARD, chunks[i], c->C, out, fp32, true, false);
        gemm_plan(&m->gemm, GEMM_DINPUT, chunks[i], c->C, out, fp32, false, true);
        gemm_plan(&m->gemm, GEMM_DWEIGHT, chunks[i], c->C, out, true, false, false);
        gemm_plan(&m->gemm, GEMM_DWEIGHT, chunks[i], c->C, out, true, false, true);
    }
}

// Adds the gradient of yf to dn, and stores or adds those of the head. micro->tokens has M tokens behind its N. scale:
// 1 / (N * micro-steps), as for the main head.
UNUSED static void spelling_loss(Model* m, const Micro* micro, float scale) {
    const Config* c = &m->config;
    SpellingHead* s = &m->spelling;
    int N = micro->B * micro->T, M = c->aux.spelling.letters, C = c->C, out = M * SPELL_PADDED;
    SpellMode mode = (SpellMode)c->aux.spelling.mode;
    float* losses = m->losses + (size_t)LOSS_SPELLING * c->B * c->T;
    const floatX *w = weight(m, s->w), *bias = weight(m, s->b);
    spelling_letters(s->letters, micro->tokens, s->table, N, M, mode, m->stream);
    spelling_norm(s->norm, &m->state->in.next.spelling, micro->tokens, s->table, N, M, mode, m->stream);
    for (int row = 0; row < N; row += m->chunk_rows) {
        int rows = N - row < m->chunk_rows ? N - row : m->chunk_rows;
        bool add = micro->accumulate || row > 0;
        const floatX* h = m->yf + (size_t)row * C;
        Targets targets = targets_list(s->letters + (size_t)row * M, s->norm, 1, 1, 0, 0);
        matmul_forward(&m->gemm, s->logits, h, w, bias, rows, C, out, 1.0f, false, m->stream);
        classifier(s->logits, s->letter_losses, 0, targets, scale, &m->state->scaler.scale, rows * M, SPELL_CLASSES, SPELL_PADDED,
                   true, false, m->stream);
        spelling_losses(losses + row, s->letter_losses, s->norm, rows, M, micro->accumulate, m->stream);
        matmul_dinput_add(&m->gemm, m->dn + (size_t)row * C, s->logits, w, rows, C, out, 1.0f, m->stream);
        matmul_dweight(&m->gemm, grad(m, s->w), s->logits, h, rows, C, out, 1.0f, add, m->stream);
        column_sum(grad(m, s->b), s->logits, s->column_scratch, rows, out, add, m->stream);
    }
}
