/*
The tokenizer of a run: the file that --tokenizer names, or PREFIX_tokenizer.bin beside the first training shard, where
data/prepare puts it. Its ids must be the model's.
*/
#pragma once

#include "../base/text.h"
#include "shard.h"
#include "tokenizer.h"

#include <unistd.h>

// file: --tokenizer, "" for the default; shards: --input_bin; asks: the flag that needs it, for the sentence when there is none.
// Errors: those of tokenizer_load and shard_list; another number of ids than vocab_size.
UNUSED static Tokenizer tokenizer_open(const char* file, const char* shards, int vocab_size, const char* asks) {
    Text path = {0, 0, 0};
    if (*file) text_add(&path, "%s", file);
    else {
        glob_t found;
        if (glob(shards, 0, NULL, &found)) {
            fail("%s needs the tokenizer of the training shards, and none match \"%s\" here; add --tokenizer FILE (%s)", asks,
                 shards, TOKENIZER_REMEDY);
        }
        globfree(&found);
        ShardList list = shard_list(shards);
        const char *first = list.paths[0], *underscore = strrchr(first, '_');
        text_add(&path, "%.*s_tokenizer.bin", (int)(underscore ? underscore - first : (long)strlen(first)), first);
        shard_list_free(&list);
        if (access(path.data, R_OK)) {
            fail("%s needs the tokenizer of the training shards, but there is no %s; add --tokenizer FILE (%s)", asks, path.data,
                 TOKENIZER_REMEDY);
        }
    }
    Tokenizer tok = tokenizer_load(path.data);
    if (tok.vocab_size != vocab_size) {
        fail("%s has %d ids, but --vocab_size is %d; use --vocab_size %d, or the tokenizer of the training shards", path.data,
             tok.vocab_size, vocab_size, tok.vocab_size);
    }
    text_free(&path);
    return tok;
}
