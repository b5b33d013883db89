/*
Text files to token shards, and the tokenizer file that goes with them.

    data/prepare --tokenizer r50k_base.tiktoken --out data/mine a.txt b.txt

    a.txt, b.txt  ->  ids of a, <|endoftext|>, ids of b  ->  data/mine_000000.bin, data/mine_000001.bin, ..   --shard_tokens each
                                                             data/mine_tokenizer.bin

Each file is one document; <|endoftext|> stands exactly between documents, not at the ends. A document may run over a shard's end.
Shards appear under their names complete or not at all (llmc/io/file.h). The tokenizer file is written last: where it is, the
shards are too. With --force the old files of the prefix go first, so that a shorter new set leaves none for the glob to find.

Left out: threads. One makes 150 MB of prose a second into ids (llmc/io/bpe.h), about what a disk delivers.
*/
#include "llmc/io/shard.h"
#include "llmc/io/tokenizer.h"
#include "tool.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                                        \
    SECTION("Text to token shards")                                                                                       \
    STRING(tokenizer, "bytes", "a .tiktoken ranks file (r50k_base.tiktoken: GPT-2), a tokenizer .bin file, or `bytes`")    \
    STRING(out, "", "prefix of the files to write: PREFIX_000000.bin .. and PREFIX_tokenizer.bin")                        \
    LONG(shard_tokens, 100000000, 1, 2147483647, "tokens in a shard; the last one has what is left")                      \
    SWITCH(force, 0, "replace the shards of this prefix")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

enum { TOKENS_AT_ONCE = 1 << 16 };

typedef struct {
    const char* prefix;
    uint64_t shard_tokens;
    ShardWriter writer;
    bool writing;
    int shards;       // finished
    uint64_t tokens;  // in finished shards and the one being written
} Output;

static Tokenizer choose_tokenizer(const char* name) {
    size_t length = strlen(name);
    if (!strcmp(name, "bytes")) return tokenizer_bytes();
    if (length > 4 && !strcmp(name + length - 4, ".bin")) return tokenizer_load(name);
    return tokenizer_from_tiktoken(name);
}

// Refuses to replace shards, or with force removes them.
static void clear_old(const char* prefix, bool force) {
    Text pattern = {0, 0, 0}, tokenizer = {0, 0, 0};
    glob_t found;
    text_add(&pattern, "%s_[0-9][0-9][0-9][0-9][0-9][0-9].bin", prefix);
    if (glob(pattern.data, 0, NULL, &found) == 0) {
        if (!force) {
            fail(
                "%s: exists already, with %zu shards of this prefix; name another prefix with --out, or replace them with "
                "--force",
                found.gl_pathv[0], (size_t)found.gl_pathc);
        }
        for (size_t i = 0; i < found.gl_pathc; i++) {
            if (unlink(found.gl_pathv[i])) fail("%s: cannot remove: %s", found.gl_pathv[i], strerror(errno));
        }
        text_add(&tokenizer, "%s_tokenizer.bin", prefix);
        unlink(tokenizer.data);
        text_free(&tokenizer);
    }
    globfree(&found);
    text_free(&pattern);
}

static void finish_shard(Output* out) {
    Text path = {0, 0, 0};
    if (!out->writing) return;
    shard_end(&out->writer);
    text_add(&path, "%s_%06d.bin", out->prefix, out->shards);
    printf("%s: %llu tokens, %.1f MB\n", path.data, (unsigned long long)out->writer.ntok,
           1e-6 * (double)(SHARD_HEADER_BYTES + 2 * out->writer.ntok));
    fflush(stdout);
    text_free(&path);
    out->writing = false;
    out->shards++;
}

static void put_tokens(Output* out, const uint16_t* ids, size_t n) {
    while (n > 0) {
        if (!out->writing) {
            Text path = {0, 0, 0};
            text_add(&path, "%s_%06d.bin", out->prefix, out->shards);
            shard_begin(&out->writer, path.data);
            text_free(&path);
            out->writing = true;
        }
        uint64_t room = out->shard_tokens - out->writer.ntok;
        size_t part = n < room ? n : (size_t)room;
        shard_append(&out->writer, ids, part);
        out->tokens += part;
        ids += part;
        n -= part;
        if (part == room) finish_shard(out);
    }
}

// All tokens of one document.
static void put_document(Tokenizer* tok, FileMap text, Output* out, ToolProgress* progress, uint64_t* done) {
    TokenBuffer ids = {NULL, 0, 0};
    uint16_t eot = (uint16_t)tok->eot;
    if (out->tokens > 0) put_tokens(out, &eot, 1);
    for (size_t at = 0; at < text.size;) {
        size_t before = at;
        ids.count = 0;
        tokenizer_encode_some(tok, (const char*)text.bytes, text.size, &at, TOKENS_AT_ONCE, &ids);
        *done += at - before;
        if (out->writing && out->writer.ntok + ids.count >= out->shard_tokens) tool_progress_clear(progress);
        put_tokens(out, ids.ids, ids.count);
        tool_progress_show(progress, (double)*done);
    }
    free(ids.ids);
}

// Every text is opened before the first token is made: a misspelt name is told at once. Returns the bytes of all regular files.
static uint64_t check_texts(char** texts, int count) {
    uint64_t total = 0;
    for (int i = 0; i < count; i++) {
        struct stat info;
        if (stat(texts[i], &info)) fail("%s: cannot open: %s; name text files that exist", texts[i], strerror(errno));
        if (S_ISDIR(info.st_mode)) fail("%s: is a directory; name the text files in it (%s/*.txt)", texts[i], texts[i]);
        if (access(texts[i], R_OK)) fail("%s: cannot read: %s; change its permissions (chmod +r)", texts[i], strerror(errno));
        total += S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
    }
    return total;
}

int main(int argc, char** argv) {
    Options o;
    FlagTable flags = options_table(&o);
    char** texts = (char**)xmalloc((size_t)argc * sizeof(char*));
    tool_help(&flags, argc, argv, "--tokenizer FILE.tiktoken|bytes --out PREFIX TEXT...",
              "Turns text files (- is standard input) into token shards.");
    int count = tool_take_words(&flags, &argc, argv, texts);
    for (int i = 0; i < count; i++) {
        if (!strcmp(texts[i], "-")) texts[i] = (char*)"/dev/stdin";
    }
    flags_parse(&flags, argc, argv);
    if (!*o.out) usage_error("--out is missing: name the prefix of the files to write, e.g. --out data/mine");
    if (count == 0) usage_error("no text file is named: %s --tokenizer %s --out %s TEXT...", argv[0], o.tokenizer, o.out);

    ToolProgress progress = tool_progress_start("MB", 1e6, (double)check_texts(texts, count), "");
    uint64_t done = 0;
    Tokenizer tok = choose_tokenizer(o.tokenizer);
    clear_old(o.out, o.force);
    tool_catch_signals();
    Output out;
    memset(&out, 0, sizeof out);
    out.prefix = o.out;
    out.shard_tokens = (uint64_t)o.shard_tokens;
    for (int i = 0; i < count; i++) {
        FileMap text = file_map(texts[i], "name text files that exist");
        if (text.size == 0) fprintf(stderr, "%s: empty, left out\n", texts[i]);
        else progress.what = texts[i], put_document(&tok, text, &out, &progress, &done);
        file_unmap(&text);
    }
    tool_progress_clear(&progress);
    if (out.tokens == 0) fail("%s: no text in the %d files named; name files that hold some", texts[0], count);
    finish_shard(&out);

    Text path = {0, 0, 0};
    text_add(&path, "%s_tokenizer.bin", o.out);
    tokenizer_save(&tok, path.data);
    double spent = tool_seconds() - progress.start;
    printf("%s: %d ids; %d texts, %.1f MB -> %llu tokens (%.2f bytes each) in %.1f s (%.1f MB/s)\n", path.data, tok.vocab_size,
           count, 1e-6 * (double)done, (unsigned long long)out.tokens, (double)done / (double)out.tokens, spent,
           1e-6 * (double)done / (spent > 1e-3 ? spent : 1e-3));
    text_free(&path);
    tokenizer_free(&tok);
    flags_free(&flags);
    free(texts);
    return 0;
}
