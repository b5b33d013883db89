/*
Codebooks (llmc/io/codebook.h) and the costs that belong to one (llmc/io/codebook_costs.h).

    control V-1 | bytes of the codebook (2) | codebook | costs              control: 1 sign both, 2 the costs are of this codebook
*/
#include "fuzz.h"

#include "sign.h"

#include "llmc/io/codebook_costs.h"

enum { HEAD = 4, ROOM = 1 << 15 };

static void parse(const uint8_t* data, size_t size) {
    static uint8_t book_file[ROOM], costs_file[ROOM];
    if (size < HEAD) return;
    size_t bytes = (size_t)data[2] | (size_t)data[3] << 8, rest = size - HEAD;
    if (bytes > rest) bytes = rest;
    if (bytes > ROOM || rest - bytes > ROOM) return;
    memcpy(book_file, data + HEAD, bytes), memcpy(costs_file, data + HEAD + bytes, rest - bytes);
    if (data[0] & 1) sign_table(book_file, bytes);
    Codebook b = codebook_load(fuzz_file("a.codebook", book_file, bytes), data[1] + 1);
    codebook_check("a codebook that was read", &b, "");
    uint32_t crc = codebook_crc(&b);
    if (data[0] & 2 && rest - bytes >= TABLE_HEADER_BYTES) memcpy(costs_file + 4 * CODEBOOK_CRC_WORD, &crc, 4);
    if (data[0] & 1) sign_table(costs_file, rest - bytes);
    CodebookCosts c = codebook_costs_load(fuzz_file("a.costs", costs_file, rest - bytes), &b);
    double sum = 0;
    for (int i = 0; i < c.V * c.rows; i++) sum += c.l_r[i];
    for (int i = 0; i < c.V * c.columns; i++) sum += c.l_c[i];
    if (!isfinite(sum)) fuzz_finding("costs sum to %g", sum);
    codebook_costs_keep_others(fuzz_path("a.costs"));
    codebook_costs_save(fuzz_path("b.costs"), &c);
    codebook_costs_free(&c);
    codebook_free(&b);
}

static void seeds(void) {
    Codebook b = codebook_sequential(7, 3);
    CodebookCosts c = codebook_costs_alloc(&b);
    uint8_t whole[8192] = {3, 6};
    codebook_save(fuzz_path("a.codebook"), &b);
    codebook_costs_save(fuzz_path("a.costs"), &c);
    size_t at = HEAD;
    for (int i = 0; i < 2; i++) {
        FILE* f = fopen(fuzz_path(i ? "a.costs" : "a.codebook"), "rb");
        at += fread(whole + at, 1, sizeof(whole) - at, f);
        if (!i) whole[2] = (uint8_t)(at - HEAD), whole[3] = (uint8_t)((at - HEAD) >> 8);
        fclose(f);
    }
    fuzz_seed("codebook_and_costs", whole, at, NULL);
    codebook_costs_free(&c);
    codebook_free(&b);
}

FUZZ_TARGET(parse, seeds, true)
