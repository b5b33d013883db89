/*
What is in token shards: tokens, distinct ids, the largest id, and the unigram entropy in nats: the loss of a model that knows
how often each token occurs and nothing else. A trained model must come out well below it.

    data/shard_stats data/quickstart/val_0*.bin
    1 shard, 204812 tokens, 61 distinct ids, largest id 122, unigram entropy 2.8541 nats

All shards named are counted together. ln(distinct ids) is the entropy's upper bound.
*/
#include "llmc/io/shard.h"

#include <math.h>

enum { ID_COUNT = 65536 };  // ids are uint16

// H = -sum p ln p over the ids that occur, in nats. counts: (ID_COUNT)
static double unigram_entropy(const uint64_t* counts, uint64_t total) {
    double sum = 0;
    for (int id = 0; id < ID_COUNT; id++) {
        if (counts[id]) sum -= (double)counts[id] / (double)total * log((double)counts[id] / (double)total);
    }
    return sum;
}

int main(int argc, char** argv) {
    if (argc < 2 || !strcmp(argv[1], "--help")) {
        fprintf(argc < 2 ? stderr : stdout, "usage: %s SHARD.bin ...\n", argv[0]);
        return argc < 2 ? EXIT_USAGE : 0;
    }
    uint64_t* counts = (uint64_t*)xcalloc(ID_COUNT * sizeof(uint64_t));
    uint64_t total = 0;
    for (int i = 1; i < argc; i++) {
        Shard shard = shard_open(argv[i]);
        for (uint64_t n = 0; n < shard.ntok; n++) counts[shard.ids[n]]++;
        total += shard.ntok;
        shard_close(&shard);
    }
    int distinct = 0, largest = 0;
    for (int id = 0; id < ID_COUNT; id++) {
        if (!counts[id]) continue;
        distinct++;
        largest = id;
    }
    printf("%d shard%s, %llu tokens, %d distinct ids, largest id %d, unigram entropy %.4f nats\n", argc - 1, argc == 2 ? "" : "s",
           (unsigned long long)total, distinct, largest, total ? unigram_entropy(counts, total) : 0.0);
    free(counts);
    return 0;
}
