/*
The tokenizer of a run: the file that --tokenizer names, or PREFIX_tokenizer.bin beside the first training shard, where
data/prepare puts it. Its ids must be the model's.
*/
#pragma once

#include "../base/text.h"
#include "shard.h"
#include "tokenizer.h"

#include <unistd.h>

// Where the tokenizer of a run is, or should be. file: --tokenizer, "" for the default; shards: --input_bin. Returns whether it
// can be read; an empty path: no shard matches.
UNUSED static bool tokenizer_path(Text* path, const char* file, const char* shards) {
    glob_t found;
    text_reserve(path, 0);
    if (*file) text_add(path, "%s", file);
    else if (glob(shards, 0, NULL, &found) == 0) {
        const char *first = found.gl_pathv[0], *underscore = strrchr(first, '_');
        text_add(path, "%.*s_tokenizer.bin", (int)(underscore ? underscore - first : (long)strlen(first)), first);
        globfree(&found);
    }
    return path->size && !access(path->data, R_OK);
}

// file, shards: as above; asks: the flag that needs it, for the sentence when there is none.
// Errors: there is none; those of tokenizer_load; another number of ids than vocab_size.
UNUSED static Tokenizer tokenizer_open(const char* file, const char* shards, int vocab_size, const char* asks) {
    Text path = {0, 0, 0};
    bool there = tokenizer_path(&path, file, shards);
    if (!path.size) {
        fail("%s needs the tokenizer of the training shards, and none match \"%s\" here; add --tokenizer FILE (%s)", asks, shards,
             TOKENIZER_REMEDY);
    }
    if (!there && !*file) {
        fail("%s needs the tokenizer of the training shards, but there is no %s; add --tokenizer FILE (%s)", asks, path.data,
             TOKENIZER_REMEDY);
    }
    Tokenizer tok = tokenizer_load(path.data);
    if (tok.vocab_size != vocab_size) {
        fail("%s has %d ids, but --vocab_size is %d; use --vocab_size %d, or the tokenizer of the training shards", path.data,
             tok.vocab_size, vocab_size, tok.vocab_size);
    }
    text_free(&path);
    return tok;
}
