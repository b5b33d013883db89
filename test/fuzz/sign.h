/*
Sums and sizes put right, as whoever makes a malicious file would: a fuzzer does not guess a checksum.

    sign_table        a container of llmc/io/table.h: CRC-32
    sign_checkpoint   llmc/io/checkpoint.h: magic, sizes, room for the tensors, all CRCs, as `control` asks
*/
#pragma once

#include "llmc/io/checkpoint.h"
#include "llmc/io/table.h"

FUZZ_UNUSED static void sign_table(uint8_t* bytes, size_t size) {
    if (size < TABLE_HEADER_BYTES) return;
    memset(bytes + 4 * TABLE_CRC_WORD, 0, 4);
    uint32_t crc = crc32_add(0, bytes, size);
    memcpy(bytes + 4 * TABLE_CRC_WORD, &crc, 4);
}

enum { SIGN_SUMS = 1, SIGN_SIZES = 2, SIGN_OFFSETS = 4, SIGN_TENSORS = 8, SIGN_ROOM = 1 << 18 };

// size bytes of a checkpoint, in a buffer of SIGN_ROOM. Returns how many there are then: with SIGN_SIZES the file has room for
// its tensors where they lie (SIGN_OFFSETS: one behind the other), with what `size` bytes do not have being zero.
FUZZ_UNUSED static size_t sign_checkpoint(uint8_t* bytes, size_t size, int control) {
    CheckpointHeader h;
    if (size < sizeof(h)) return size;
    memcpy(&h, bytes, sizeof(h));
    h.magic = CHECKPOINT_MAGIC, h.version = CHECKPOINT_VERSION;
    uint64_t text = sizeof(h) + (uint64_t)h.flags_bytes + h.state_bytes, rows_at = round_up(text, CHECKPOINT_ALIGN);
    uint64_t payload = rows_at + (uint64_t)h.tensors * sizeof(CheckpointRow), end = payload;
    bool whole = payload <= size && h.arrays <= CHECKPOINT_ARRAYS;
    if (control & SIGN_SIZES) h.payload = payload, h.file_bytes = size;
    for (uint32_t a = 0; whole && (control & SIGN_SIZES) && a < h.arrays; a++) {
        for (uint32_t i = 0; i < h.tensors; i++) {
            CheckpointRow row;
            memcpy(&row, bytes + rows_at + i * sizeof(row), sizeof(row));
            if (control & SIGN_OFFSETS) row.offset[a] = end;
            uint64_t bytes_of = row.elements < SIGN_ROOM ? checkpoint_array_bytes(row.elements) : 0;
            if (row.offset[a] < SIGN_ROOM && row.offset[a] + bytes_of > end) end = row.offset[a] + bytes_of;
            memcpy(bytes + rows_at + i * sizeof(row), &row, sizeof(row));
        }
    }
    if (whole && (control & SIGN_SIZES) && end <= SIGN_ROOM) {
        if (end > size) memset(bytes + size, 0, end - size);
        h.file_bytes = size = end;
    }
    for (uint32_t a = 0; whole && (control & SIGN_TENSORS) && a < h.arrays; a++) {
        for (uint32_t i = 0; i < h.tensors; i++) {
            CheckpointRow row;
            memcpy(&row, bytes + rows_at + i * sizeof(row), sizeof(row));
            if (row.elements >= SIGN_ROOM || row.offset[a] > size) continue;
            size_t bytes_of = checkpoint_array_bytes(row.elements);
            if (bytes_of <= size - row.offset[a]) row.crc[a] = crc32_add(0, bytes + row.offset[a], bytes_of);
            memcpy(bytes + rows_at + i * sizeof(row), &row, sizeof(row));
        }
    }
    if ((control & SIGN_SUMS) && h.payload >= sizeof(h) && h.payload <= size) {
        h.meta_crc = crc32_add(0, bytes + sizeof(h), h.payload - sizeof(h));
    }
    if (control & SIGN_SUMS) h.header_crc = crc32_add(0, &h, offsetof(CheckpointHeader, header_crc));
    memcpy(bytes, &h, sizeof(h));
    return size;
}
