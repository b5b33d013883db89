/*
Text from a model: prompt to ids, one token after another (decode.cuh), drawn (io/sampler.h) and written as it comes.

    <|endoftext|> prompt -> row of yf -> head_draw -> id -> bytes -> stream       until <|endoftext|>, or `tokens` of them
                                 ^-----------------------'

The distribution is always that of the model: of the last T tokens, T the trained length.
*/
#pragma once

#include "../io/logger.h"
#include "../io/stop.h"
#include "../io/text_stream.h"
#include "../io/tokenizer.h"
#include "decode.cuh"
#include "from_checkpoint.cuh"
#include "light_sample.cuh"

// Flags that mean something with --generate.
UNUSED static const TrainedUse generate_use = {"generate",
                                               "generate",
                                               {"generate", "prompt", "sample_tokens", "temperature", "top_k", "top_p",
                                                "tokenizer", "seed", "device", "precision", "threads", "tf32"}};

typedef struct {
    int prompt, tokens;              // tokens of the prompt with its document start; made
    int cropped;                     // of those made: with less than all of the text before them in sight
    double prompt_seconds, seconds;  // until the first token is drawn; for the others
    bool ended;                      // by <|endoftext|>
} Generated;

// Token after row n of yf, by the sampler's rules; -1: the distribution is not finite. probs (V): scratch.
UNUSED static int head_draw(Model* m, int n, Sampler* s, float* probs) {
    if (m->config.head == HEAD_LIGHTRNN && light_draws(s)) return light_draw(m, n, s);
    head_probs(m, n, probs);
    return sample_probs(s, probs, m->config.V);
}

// Writes the prompt and up to `tokens` more tokens to the stream; fewer when a signal asks to stop (io/stop.h).
UNUSED static Generated generate(Model* m, Sampler* sampler, Tokenizer* tok, const char* prompt, int tokens, TextStream* out) {
    Generated g = {};
    TokenBuffer ids = {};
    size_t at = 0, length = strlen(prompt);
    int* first = NULL;
    tokenizer_encode_some(tok, prompt, length, &at, SIZE_MAX, &ids);
    g.prompt = (int)ids.count + 1;
    first = (int*)xmalloc((size_t)g.prompt * sizeof(int));
    first[0] = tok->eot;
    for (size_t i = 0; i < ids.count; i++) first[i + 1] = ids.ids[i];
    Decoder d = decode_open(m, first, g.prompt, g.prompt + tokens);
    float* probs = (float*)xmalloc((size_t)m->config.V * sizeof(float));
    text_stream_put(out, prompt, length);
    double start = wall_seconds();
    while (g.tokens < tokens && !stop_signal) {
        int cropped = d.count > m->config.T, id = head_draw(m, decode_row(&d), sampler, probs), bytes = 0;
        if (g.tokens == 0) g.prompt_seconds = wall_seconds() - start;
        if (id < 0) fail("the model's distribution is not finite: nothing can be drawn from it; use an earlier checkpoint");
        if (id == tok->eot) g.ended = true;
        if (g.ended) break;
        const char* text = tokenizer_decode(tok, id, &bytes);
        text_stream_put(out, text, (size_t)bytes);
        decode_add(&d, id);
        g.tokens++, g.cropped += cropped;
    }
    g.seconds = wall_seconds() - start - g.prompt_seconds;
    text_stream_end(out);
    decode_close(&d);
    free(first), free(ids.ids), free(probs);
    return g;
}

// One line, or two, about it.
UNUSED static void generate_report(const Generated* g, int T, FILE* out) {
    double rate = g->tokens > 1 && g->seconds > 0 ? (g->tokens - 1 + g->ended) / g->seconds : 0;
    fprintf(out, "%d tokens%s, %.1f tokens/s; the first after %.3f s, a prompt of %d tokens\n", g->tokens,
            g->ended ? " to the end of the text" : "", rate, g->prompt_seconds, g->prompt);
    if (!g->cropped) return;
    fprintf(out, "the last %d of them saw the %d tokens before them only, the length of the training; each took a whole pass\n",
            g->cropped, T);
}
