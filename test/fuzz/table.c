/*
Top-K tables (llmc/io/table.h), bigrams and neighbours.

    control V K | file              control: 1 sign, 2 neighbours
*/
#include "fuzz.h"

#include "sign.h"

enum { HEAD = 3 };

static void parse(const uint8_t* data, size_t size) {
    static uint8_t file[1 << 15];
    if (size < HEAD || size - HEAD > sizeof(file)) return;
    int V = data[1] + 1, K = data[2] % 8 + 1, kind = data[0] & 2 ? TABLE_NEIGHBOURS : TABLE_BIGRAM;
    size_t bytes = size - HEAD;
    memcpy(file, data + HEAD, bytes);
    if (data[0] & 1) sign_table(file, bytes);
    TopTable t = top_table_load(fuzz_file("a.table", file, bytes), kind, V, K);
    for (int v = 0; v < V; v++) {  // what its users rely on
        double sum = 0;
        for (int j = 0; j < K; j++) {
            size_t i = (size_t)v * (size_t)K + (size_t)j;
            if (t.ids[i] < -1 || t.ids[i] >= V || !(t.probs[i] >= 0 && t.probs[i] <= 1.0001f)) fuzz_finding("a bad entry passed");
            sum += t.probs[i];
        }
        if (fabs(sum - 1) > 1e-3 && sum != 0) fuzz_finding("a row sums to %g", sum);
    }
    top_table_free(&t);
}

static void seeds(void) {
    for (int kind = TABLE_BIGRAM; kind <= TABLE_NEIGHBOURS; kind++) {
        const uint8_t head[HEAD] = {(uint8_t)(kind == TABLE_NEIGHBOURS ? 3 : 1), 4, 1};
        TopTable t = top_table_alloc(kind, 5, 2);
        for (int v = 1; v < 5; v++) {
            t.ids[2 * v] = v - 1, t.ids[2 * v + 1] = v == 4 ? -1 : v;
            t.probs[2 * v] = v == 4 ? 1 : 0.75f, t.probs[2 * v + 1] = v == 4 ? 0 : 0.25f;
            t.p_top[v] = 0.5f, t.row_counts[v] = 8, t.pairs += 8;
        }
        top_table_save(fuzz_path("a.table"), &t);
        fuzz_seed(kind == TABLE_BIGRAM ? "bigrams" : "neighbours", head, HEAD, fuzz_path("a.table"));
        top_table_free(&t);
    }
}

FUZZ_TARGET(parse, seeds, true)
