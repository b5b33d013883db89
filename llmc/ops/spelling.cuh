/*
The letters that follow a position: targets of the spelling loss (model/spelling.cuh), made from the tokens ahead.

    table    per token 16 bytes: classes of its first 8 letters, .., how many of them there are    (V,16) bytes, 0.8 MB for GPT-2

             letter 0 1 2 3 4 5 6 7 | unused 8..14 | 15: count 1..8

    tokens   x[n] |" Cat"    |"s"|".."      letters ahead of x[n], M = 5:    stream   ␣ C a t s
                                                                             token    ␣ C a t -      (-1: no letter)

A letter is a byte below 128 as its class, folded to one case on request; every byte from 128 on is class 128, and the end of a
text, one letter long, is class 129. Token by token is enough to write the letters of a position, since M of them are never more
than M tokens away: no letter array of the batch, no prefix sum over it.

A lower-case and an upper-case fold make the same parts of the alphabet and so the same problem; only the names of its classes
differ. The true case is finer.
*/
#pragma once

#include "../base/math.cuh"

enum { SPELL_OTHER = 128, SPELL_END = 129, SPELL_CLASSES = 130 };
enum { SPELL_PADDED = 136 };                // columns per letter in the logits: the next multiple of 8
enum { SPELL_MAX = 8 };                     // letters ahead, and so tokens ahead: what every batch brings along (LOOK_AHEAD_MAX)
enum { SPELL_ROW = 16, SPELL_COUNT = 15 };  // bytes of a table row; where the count is
typedef enum { SPELL_TRUE, SPELL_LOWER, SPELL_UPPER } SpellCase;  // in the order of SPELL_CASES
typedef enum { SPELL_STREAM, SPELL_TOKEN } SpellMode;             // in the order of SPELL_MODES
#define SPELL_CASES "true|lower|upper"
#define SPELL_MODES "stream|token"

// Class of one byte.
UNUSED static int spelling_class(SpellCase fold, uint8_t byte) {
    if (byte >= 128) return SPELL_OTHER;
    if (fold == SPELL_LOWER && byte >= 'A' && byte <= 'Z') return byte + ('a' - 'A');
    if (fold == SPELL_UPPER && byte >= 'a' && byte <= 'z') return byte - ('a' - 'A');
    return byte;
}

// Fills table (V,SPELL_ROW) on the host. Token v is bytes[start[v] .. start[v + 1]), at least one of them; eot: the token that
// ends a text.
UNUSED static void spelling_table(uint8_t* table, const uint8_t* bytes, const uint32_t* start, int V, int eot, SpellCase fold) {
    memset(table, 0, (size_t)V * SPELL_ROW);
    for (int v = 0; v < V; v++) {
        uint8_t* row = table + (size_t)v * SPELL_ROW;
        const uint8_t* token = bytes + start[v];
        int count = (int)(start[v + 1] - start[v]);
        if (count < 1) fail("token %d has no bytes, so it cannot be spelled; use the tokenizer of the training shards", v);
        count = v == eot ? 1 : count < SPELL_MAX ? count : SPELL_MAX;
        for (int j = 0; j < count; j++) row[j] = (uint8_t)(v == eot ? SPELL_END : spelling_class(fold, token[j]));
        row[SPELL_COUNT] = (uint8_t)count;
    }
}

KERNEL spelling_letters_kernel(int* RESTRICT letters, const int* RESTRICT tokens, const uint8_t* RESTRICT table, int N, int M,
                               SpellMode mode) {
    FOR_EACH(n, (size_t)N) {
        int* mine = letters + n * M;
        int j = 0;
        for (int k = 1; j < M && (k == 1 || mode == SPELL_STREAM); k++) {
            const uint8_t* row = table + (size_t)tokens[n + k] * SPELL_ROW;
            for (int i = 0; i < row[SPELL_COUNT] && j < M; i++) mine[j++] = row[i];
        }
        while (j < M) mine[j++] = -1;
    }
}

// letters (N,M): classes of the M letters behind each position, -1 where there is none. tokens (N + M), M in 1..SPELL_MAX.
UNUSED static void spelling_letters(int* letters, const int* tokens, const uint8_t* table, int N, int M, SpellMode mode,
                                    stream_t stream) {
    (void)stream;
    LAUNCH(spelling_letters_kernel, (N + 127) / 128, 128, stream)(letters, tokens, table, N, M, mode);
}

KERNEL spelling_norm_kernel(float* RESTRICT norm, const float* weight, const int* RESTRICT tokens, const uint8_t* RESTRICT table,
                            int N, int M, SpellMode mode) {
    FOR_ROWS(once, 1) {
        int mine = 0;
        FOR_LANES(n, N) {
            int count = mode == SPELL_STREAM ? M : table[(size_t)tokens[n + 1] * SPELL_ROW + SPELL_COUNT];
            mine += count < M ? count : M;
        }
        float letters = team_sum((float)mine);  // exact: below 2^24
        if (FIRST_LANE) norm[1] = (float)N / letters, norm[0] = *weight * norm[1];
    }
}

// A mean over the letters that exist, of which there are more or fewer in each micro-batch: norm[1] = N / letters turns a mean
// over N positions of their sums into it, norm[0] is that times *weight. No number of it is known to the host.
UNUSED static void spelling_norm(float* norm, const float* weight, const int* tokens, const uint8_t* table, int N, int M,
                                 SpellMode mode, stream_t stream) {
    (void)stream;
    if ((int64_t)N * M >= 1 << 24) fail("spelling: %d positions of %d letters; lower --batch_size", N, M);
    LAUNCH(spelling_norm_kernel, 1, 1024, stream)(norm, weight, tokens, table, N, M, mode);
}

KERNEL spelling_losses_kernel(float* RESTRICT losses, const float* RESTRICT letter_losses, const float* norm, int rows, int M,
                              bool accumulate) {
    FOR_EACH(n, (size_t)rows) {
        float sum = 0.0f;
        for (int j = 0; j < M; j++) sum += letter_losses[n * M + j];
        losses[n] = (accumulate ? losses[n] : 0.0f) + sum * norm[1];
    }
}

// losses (rows) = or += a position's letter_losses (rows,M), so that their mean over positions is the mean over letters.
UNUSED static void spelling_losses(float* losses, const float* letter_losses, const float* norm, int rows, int M, bool accumulate,
                                   stream_t stream) {
    (void)stream;
    LAUNCH(spelling_losses_kernel, (rows + 127) / 128, 128, stream)(losses, letter_losses, norm, rows, M, accumulate);
}
