/*
CRC-32 as zlib and PNG compute it (polynomial 0xEDB88320, reflected, inverted at both ends): python's zlib.crc32 checks our files.

Sixteen bytes per turn with sixteen tables: table[k][b] is the remainder of byte b followed by k zero bytes, so the sixteen
look-ups are independent and their xor is the new remainder. About 3 GB/s a core; byte by byte it was 0.4.
*/
#pragma once

#include "../base/check.h"

static const uint32_t (*crc32_tables(void))[256] {
    static uint32_t table[16][256];
    if (table[0][1]) return table;
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t r = b;
        for (int bit = 0; bit < 8; bit++) r = r & 1 ? r >> 1 ^ 0xEDB88320u : r >> 1;
        table[0][b] = r;
    }
    for (int k = 1; k < 16; k++) {
        for (int b = 0; b < 256; b++) table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 255];
    }
    return table;
}

// CRC of what `crc` covers followed by `bytes` more; start with 0. Not for the first call from two threads at once.
UNUSED static uint32_t crc32_add(uint32_t crc, const void* data, size_t bytes) {
    const uint32_t(*t)[256] = crc32_tables();
    const uint8_t* p = (const uint8_t*)data;
    crc = ~crc;
    for (; bytes >= 16; bytes -= 16, p += 16) {
        uint32_t w[4];
        memcpy(w, p, 16);
        w[0] ^= crc;
        crc = t[15][w[0] & 255] ^ t[14][w[0] >> 8 & 255] ^ t[13][w[0] >> 16 & 255] ^ t[12][w[0] >> 24] ^ t[11][w[1] & 255] ^
              t[10][w[1] >> 8 & 255] ^ t[9][w[1] >> 16 & 255] ^ t[8][w[1] >> 24] ^ t[7][w[2] & 255] ^ t[6][w[2] >> 8 & 255] ^
              t[5][w[2] >> 16 & 255] ^ t[4][w[2] >> 24] ^ t[3][w[3] & 255] ^ t[2][w[3] >> 8 & 255] ^ t[1][w[3] >> 16 & 255] ^
              t[0][w[3] >> 24];
    }
    for (; bytes; bytes--, p++) crc = crc >> 8 ^ t[0][(crc ^ *p) & 255];
    return ~crc;
}
