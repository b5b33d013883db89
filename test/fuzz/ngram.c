/*
Token shards, as data/build_ngram counts them (its main, unchanged), in so little memory that it merges, and the table that comes
of them, compared with counts made the simple way.

    K-1 vocabulary-1 | ids
*/
#include "fuzz.h"

#include "llmc/io/table.h"

#define main build_ngram
#include "data/build_ngram.c"
#undef main

enum { HEAD = 2 };

static void parse(const uint8_t* data, size_t size) {
    static uint64_t counts[256];
    char k[16], vocab[16];
    if (size < HEAD) return;
    int K = data[0] % 8 + 1, V = data[1] + 1;
    size_t n = (size - HEAD) / 2;
    uint16_t* ids = (uint16_t*)xmalloc(size);
    memcpy(ids, data + HEAD, 2 * n);
    if (K > V) K = V;
    shard_write(fuzz_path("text_000000.bin"), ids, n);
    const char *out = fuzz_path("a.ngram"), *from = fuzz_path("text_*.bin");
    snprintf(k, sizeof(k), "%d", K), snprintf(vocab, sizeof(vocab), "%d", V);
    char* argv[] = {(char*)"build_ngram",
                    (char*)from,
                    (char*)"--k",
                    k,
                    (char*)"--vocab_size",
                    vocab,
                    (char*)"--out",
                    (char*)out,
                    (char*)"--memory",
                    (char*)"1",
                    (char*)"--threads",
                    (char*)"1",
                    NULL};
    build_ngram(12, argv);
    TopTable t = top_table_load(out, TABLE_BIGRAM, V, K);
    memset(counts, 0, sizeof(counts));
    for (size_t i = 0; i + 1 < n; i++) counts[ids[i]]++;
    for (int v = 0; v < V; v++) {
        if (counts[v] != t.row_counts[v]) fuzz_finding("id %d begins %llu pairs", v, (unsigned long long)t.row_counts[v]);
    }
    top_table_free(&t);
    free(ids);
}

static void seeds(void) {
    uint8_t in[HEAD + 64] = {2, 9};
    for (int i = 0; i < 32; i++) in[HEAD + 2 * i] = (uint8_t)(i * i % 10);
    fuzz_seed("ids", in, sizeof(in), NULL);
}

FUZZ_TARGET(parse, seeds, true)
