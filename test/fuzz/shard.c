/*
Token shards (llmc/io/shard.h) and what walks them: the loader, from the start and from a place that a checkpoint names, and the
bytes of validation text.

    control B T look_ahead | shard, position (8 each) | file              control: 1 the header says how many tokens there are
*/
#include "fuzz.h"

#include "llmc/io/text_bytes.h"

enum { HEAD = 4 + 2 * 8, VOCAB = 300 };

static void parse(const uint8_t* data, size_t size) {
    static uint8_t file[1 << 16];
    DataLoader dl;
    LoaderState place;
    if (size < HEAD || size - HEAD > sizeof(file)) return;
    int B = data[1] % 5, T = data[2] % 33, look_ahead = data[3] % 10;
    uint64_t shard, position;
    memcpy(&shard, data + 4, 8), memcpy(&position, data + 12, 8);
    size_t bytes = size - HEAD;
    memcpy(file, data + HEAD, bytes);
    if (data[0] & 1 && bytes >= SHARD_HEADER_BYTES) {
        int32_t header[3] = {SHARD_MAGIC, SHARD_VERSION, (int32_t)((bytes - SHARD_HEADER_BYTES) / 2)};
        memcpy(file, header, sizeof(header));
    }
    fuzz_file("text_000000.bin", file, bytes);
    fuzz_file("text_000001.bin", file, bytes);
    loader_open(&dl, fuzz_path("text_*.bin"), B, T, look_ahead, 0, 1, VOCAB, false);
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++) {
        const Batch* batch = loader_next(&dl);
        for (int n = 0; n < B * T; n++) sum += (uint64_t)(batch->tokens[batch->order[n]] + batch->tokens[n + look_ahead]);
    }
    memset(&place, 0, sizeof(place));
    place.shard = (uint32_t)shard, place.position = position;
    shard_list_same(&dl.shards, "text", (int64_t)(shard >> 60), shard_list_hash(&dl.shards, 2));
    loader_restore(&dl, place);
    loader_check(&dl);
    sum += (uint64_t)loader_next(&dl)->tokens[0] + loader_epoch_batches(&dl);
    loader_close(&dl);
    Tokenizer tok = tokenizer_bytes();
    sum += (uint64_t)targets_bytes(&tok, fuzz_path("text_*.bin"), 1, 8, 64, VOCAB);
    tokenizer_free(&tok);
    if (sum == 1) fputs("", stdout);
}

static void seeds(void) {
    uint16_t ids[400];
    uint8_t head[HEAD] = {0, 2, 8, 1};
    for (int i = 0; i < 400; i++) ids[i] = (uint16_t)(i * 7 % 257);
    shard_write(fuzz_path("a.bin"), ids, 400);
    fuzz_seed("plain", head, HEAD, fuzz_path("a.bin"));
    head[0] = 1, head[12] = 128;
    fuzz_seed("resumed", head, HEAD, fuzz_path("a.bin"));
    ids[200] = 65535;
    shard_write(fuzz_path("b.bin"), ids, 300);
    fuzz_seed("bad_id", head, HEAD, fuzz_path("b.bin"));
}

FUZZ_TARGET(parse, seeds, true)
