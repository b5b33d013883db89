/*
Bits per byte: a loss that does not depend on the tokenizer.

    val_bpb = nats of all validation targets / ln 2 / bytes of text that they spell        <|endoftext|> spells none

The bytes are those of the tokenizer's tokens, counted once before training over the targets that validation scores: the tokenizer
is the one that --tokenizer names or that lies beside the training shards; where there is none, there is no val_bpb.
*/
#pragma once

#include "dataloader.h"
#include "tokenizer_open.h"

#include <math.h>

// Bytes of the first `tokens` targets in batches of B x T; 0 when one of them has an id that the tokenizer does not have.
UNUSED static int64_t targets_bytes(const Tokenizer* tok, const char* shards, int B, int T, int64_t tokens, int vocab_size) {
    DataLoader dl;
    int64_t bytes = 0;
    bool known = true;
    loader_open(&dl, shards, B, T, 1, 0, 1, vocab_size, false);
    for (int64_t done = 0; known && done < tokens; done += (int64_t)B * T) {
        const Batch* batch = loader_next(&dl);
        for (int n = 1; n <= B * T; n++) {
            int id = batch->tokens[n];
            known = known && id < tok->vocab_size;
            if (known && id != tok->eot) bytes += tok->start[id + 1] - tok->start[id];
        }
    }
    loader_close(&dl);
    return known ? bytes : 0;
}

// The same with the run's tokenizer (--tokenizer, --input_bin); 0 when there is no such file.
UNUSED static int64_t validation_bytes(const char* file, const char* input_bin, const char* shards, int B, int T, int64_t tokens,
                                       int vocab_size) {
    Text path = {0, 0, 0};
    int64_t bytes = 0;
    if (tokenizer_path(&path, file, input_bin)) {
        Tokenizer tok = tokenizer_load(path.data);
        bytes = targets_bytes(&tok, shards, B, T, tokens, vocab_size);
        tokenizer_free(&tok);
    }
    text_free(&path);
    return bytes;
}

// mean: nats a token over `tokens` targets of `bytes` bytes. NAN when the bytes are not known.
UNUSED static double bits_per_byte(double mean, int64_t tokens, int64_t bytes) {
    return bytes ? mean * (double)tokens / log(2.0) / (double)bytes : NAN;
}
