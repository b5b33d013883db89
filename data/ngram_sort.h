/*
Counting the pairs of one block of text: sort, then count neighbours.

    tokens   a b c a b ..        keys   (a<<16|b) (b<<16|c) (c<<16|a) (a<<16|b) ..    one uint32 for a pair
    sort     four passes over 8 bits each, from the lowest up, between two buffers
    encode   equal keys become one entry, its key written as the distance to the entry before:

    run      varint(2 * distance + (count > 1))  [varint(count) if count > 1]  ..     seven bits a byte, low ones first

An entry of English text takes 2.5 bytes, so a block's run is some 30 times smaller than its keys.

Tried and dropped: three passes of 11 bits (2048 places to write to: 9 ns a key, four passes take 6 to 7), a hash table of
counts (waits for memory at every pair), a dense
table (8 bytes for each of V * V pairs: 20 GB for GPT-2's vocabulary, at random places).
*/
#pragma once

#include "llmc/base/check.h"

enum { SORT_BITS = 8, SORT_BUCKETS = 1 << SORT_BITS, SORT_PASSES = 4, SORT_SPARE = 64, ENTRY_BYTES = 20 };

static inline uint8_t* varint_put(uint8_t* p, uint64_t x) {
    for (; x >= 128; x >>= 7) *p++ = (uint8_t)(x | 128);
    *p++ = (uint8_t)x;
    return p;
}

static inline const uint8_t* varint_get(const uint8_t* p, uint64_t* x) {
    uint64_t sum = *p & 127;
    for (int shift = 7; *p++ & 128; shift += 7) sum |= (uint64_t)(*p & 127) << shift;
    *x = sum;
    return p;
}

// Adds an entry of at most ENTRY_BYTES; distance: from the key before it in the run (from 0 for the first).
static inline uint8_t* entry_put(uint8_t* p, uint64_t distance, uint64_t count) {
    p = varint_put(p, 2 * distance + (count > 1));
    return count > 1 ? varint_put(p, count) : p;
}

static inline const uint8_t* entry_get(const uint8_t* p, uint64_t* distance, uint64_t* count) {
    uint64_t word;
    p = varint_get(p, &word);
    *distance = word >> 1;
    *count = 1;
    return word & 1 ? varint_get(p, count) : p;
}

static void sort_pass(const uint32_t* from, uint32_t* to, size_t n, uint32_t* counts, int shift) {
    uint32_t place = 0;
    for (int b = 0; b < SORT_BUCKETS; b++) {
        uint32_t here = counts[b];
        counts[b] = place;
        place += here;
    }
    for (size_t i = 0; i < n; i++) to[counts[from[i] >> shift & (SORT_BUCKETS - 1)]++] = from[i];
}

// Sorts keys (n), n < 2^32; other (n) is scratch.
static void sort_keys(uint32_t* keys, uint32_t* other, size_t n) {
    uint32_t counts[SORT_PASSES][SORT_BUCKETS];
    memset(counts, 0, sizeof counts);
    for (size_t i = 0; i < n; i++) {
        for (int pass = 0; pass < SORT_PASSES; pass++) counts[pass][keys[i] >> pass * SORT_BITS & (SORT_BUCKETS - 1)]++;
    }
    for (int pass = 0; pass < SORT_PASSES; pass += 2) {
        sort_pass(keys, other, n, counts[pass], pass * SORT_BITS);
        sort_pass(other, keys, n, counts[pass + 1], (pass + 1) * SORT_BITS);
    }
}

// Writes the run of sorted keys (n) to out and returns its bytes: at most 4 * n + SORT_SPARE. For an entry takes 4 bytes or
// fewer per key it stands for, but where it lies 2^27 or more from the one before: then it may take 5, and there is room in
// 32 bits for 31 of those.
static size_t encode_keys(const uint32_t* keys, size_t n, uint8_t* out) {
    uint8_t* p = out;
    uint32_t before = 0;
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && keys[j] == keys[i];) j++;
        p = entry_put(p, keys[i] - before, j - i);
        before = keys[i];
    }
    return (size_t)(p - out);
}
