/*
Golden tensors: read a recorded case, compare ours with it under the tolerance that travels with the tensor.

    file    gold 1                                                  text, one fact a line: `head test/golden/x.gold`
            case      classifier_v259
            why       V = 259 leaves a remainder of 3
            recorded  dev/reference/record.py seed 7 torch 2.15 float64
            param     N 24
            tensor    logits bf16 24 264 @0 crc 9a1b0c2d
            tensor    losses f32 24 @12672 crc 0badcafe kept_fp32 err_fp32 4.0e-08 err_bf16 4.0e-08 err_fp16 4.0e-08
            end
            newlines up to a multiple of 64 bytes, then the payload; @offsets count from there, multiples of 64
    types   f32, i32; bf16 (handed out as float); sketch: 10 f32 (sum, sum of squares, dot products with 8 vectors of signs),
            64 i32 (indices), 64 f32 (the elements there), for a tensor of the shape on the line that is too large to store

    rule    error = max |ours - gold| / rms(gold)   (rms of an all-zero tensor counts as 1)
            pass    error <= 2 * err_PRECISION + floor: err_ is what plain PyTorch loses in that precision on the same input
            floor   fp32 2e-6; bf16 2^-8 and fp16 2^-10, or 1e-5 where the tensor is kept in fp32 whatever the precision
            NaN and infinity have to agree in place and sign before anything else counts

Files are looked for in $AHEAD_GOLDEN, or test/golden below the working directory. AHEAD_CASE=name compares that case only.
*/
#pragma once

#include "harness.h"
#include "../llmc/base/rand.h"

#include <ctype.h>
#include <math.h>
#include <unistd.h>

enum { GOLD_TENSORS = 96, GOLD_PARAMS = 32, GOLD_SIGNS = 8, GOLD_SAMPLES = 64, GOLD_SUMS = 2 + GOLD_SIGNS };
enum { GOLD_SKETCH_BYTES = 4 * (GOLD_SUMS + 2 * GOLD_SAMPLES), GOLD_FP32 = 0, GOLD_BF16 = 1, GOLD_FP16 = 2 };

typedef struct {
    char name[64], type[8];
    int ndim, dims[4];
    size_t count;   // elements (of the sketched tensor, for a sketch)
    size_t offset;  // bytes from the start of the payload
    float* f32;     // values (bf16 widened); of a sketch: sums, then the sampled elements
    int32_t* i32;   // values of an i32 tensor; of a sketch: the sampled indices
    bool has_error, kept_fp32;
    double error[3];  // err_fp32, err_bf16, err_fp16
} GoldTensor;

typedef struct {
    char name[64], why[256], message[512];
    int params, tensors;
    struct {
        char name[32];
        double value;
    } param[GOLD_PARAMS];
    GoldTensor tensor[GOLD_TENSORS];
} Gold;

UNUSED static uint32_t gold_crc32(const uint8_t* bytes, size_t count) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

#define GOLD_REFUSE(...) return (snprintf(g->message, sizeof(g->message), __VA_ARGS__), false)

// One `tensor` line (what follows the word) and its payload.
UNUSED static bool gold_read_tensor(Gold* g, const char* line, const uint8_t* payload, size_t payload_bytes) {
    if (g->tensors == GOLD_TENSORS) GOLD_REFUSE("more than %d tensors", GOLD_TENSORS);
    GoldTensor* t = &g->tensor[g->tensors++];
    memset(t, 0, sizeof(*t));
    char word[64];
    int used = 0;
    if (sscanf(line, "%63s %7s%n", t->name, t->type, &used) != 2) GOLD_REFUSE("a tensor line without name and type");
    t->count = 1;
    for (line += used; sscanf(line, "%63s%n", word, &used) == 1 && isdigit((unsigned char)word[0]); line += used) {
        if (t->ndim == 4 || atoi(word) < 1 || t->count > (1u << 28) / (unsigned)atoi(word))
            GOLD_REFUSE("bad shape of %s", t->name);
        t->count *= (size_t)(t->dims[t->ndim++] = atoi(word));
    }
    unsigned crc;
    if (sscanf(line, " @%zu crc %x%n", &t->offset, &crc, &used) != 2) GOLD_REFUSE("no offset and crc of %s", t->name);
    for (line += used; sscanf(line, "%63s%n", word, &used) == 1; line += used) {
        const char* known[3] = {"err_fp32", "err_bf16", "err_fp16"};
        if (!strcmp(word, "kept_fp32")) {
            t->kept_fp32 = true;
            continue;
        }
        int p = 0, number = 0;
        while (p < 3 && strcmp(word, known[p])) p++;
        if (p == 3 || sscanf(line + used, "%lf%n", &t->error[p], &number) != 1 || !(t->error[p] >= 0))
            GOLD_REFUSE("unknown word %s at %s", word, t->name);
        t->has_error = true;
        line += number;
    }
    bool sketch = !strcmp(t->type, "sketch"), half = !strcmp(t->type, "bf16"), ints = !strcmp(t->type, "i32");
    if (!sketch && !half && !ints && strcmp(t->type, "f32")) GOLD_REFUSE("unknown type %s of %s", t->type, t->name);
    size_t bytes = sketch ? (size_t)GOLD_SKETCH_BYTES : t->count * (half ? 2 : 4);
    if (t->offset % 64 || t->offset > payload_bytes || bytes > payload_bytes - t->offset)
        GOLD_REFUSE("%s ends at byte %zu of %zu: the file is truncated", t->name, t->offset + bytes, payload_bytes);
    const uint8_t* from = payload + t->offset;
    if (gold_crc32(from, bytes) != crc) GOLD_REFUSE("wrong checksum of %s: the file is corrupt", t->name);
    if (ints || sketch) t->i32 = (int32_t*)xmalloc(bytes);
    if (!ints) t->f32 = (float*)xmalloc(half ? 2 * bytes : bytes);
    if (ints) memcpy(t->i32, from, bytes);
    if (!ints && !half) memcpy(t->f32, from, bytes);
    for (size_t i = 0; half && i < t->count; i++) {
        uint32_t bits = ((uint32_t)from[2 * i] | (uint32_t)from[2 * i + 1] << 8) << 16;
        memcpy(&t->f32[i], &bits, 4);
    }
    if (sketch) {
        memcpy(t->i32, t->f32 + GOLD_SUMS, 4 * GOLD_SAMPLES);
        memmove(t->f32 + GOLD_SUMS, t->f32 + GOLD_SUMS + GOLD_SAMPLES, 4 * GOLD_SAMPLES);
    }
    return true;
}

UNUSED static bool gold_parse(Gold* g, uint8_t* bytes, size_t size) {
    bytes[size] = 0;  // the text holds no zero byte: the search ends in the payload at the latest
    const char* end = strstr((const char*)bytes, "\nend\n");
    if (size < 7 || memcmp(bytes, "gold 1\n", 7) || !end) GOLD_REFUSE("not a golden file, or a truncated one");
    size_t start = round_up((size_t)(end + 5 - (const char*)bytes), 64);
    if (start > size) GOLD_REFUSE("the file is truncated behind its header");
    for (char *line = (char*)bytes + 7, *next; line <= end; line = next) {
        next = (char*)memchr(line, '\n', (size_t)(end + 1 - line)) + 1;
        next[-1] = 0;
        int used = 0;
        if (sscanf(line, "case %63s", g->name) == 1 || sscanf(line, "why %255[^\n]", g->why) == 1) continue;
        if (!strncmp(line, "recorded ", 9)) continue;
        if (!strncmp(line, "param ", 6)) {
            int p = g->params++;
            if (p == GOLD_PARAMS || sscanf(line, "param %31s %lf", g->param[p].name, &g->param[p].value) != 2)
                GOLD_REFUSE("bad line: %.80s", line);
        } else if (sscanf(line, "tensor %n", &used), used) {
            if (!gold_read_tensor(g, line + used, bytes + start, size - start)) return false;
        } else {
            GOLD_REFUSE("bad line: %.80s", line);
        }
    }
    if (!g->name[0] || !g->why[0] || !g->tensors) GOLD_REFUSE("no case, no reason or no tensor");
    return true;
}

UNUSED static void gold_close(Gold* g) {
    for (int i = 0; g && i < g->tensors; i++) free(g->tensor[i].f32), free(g->tensor[i].i32);
    free(g);
}

// Reads a file. On false g->message says what is wrong with it; free with gold_close in both cases.
UNUSED static bool gold_read(Gold* g, const char* path) {
    FILE* file = fopen(path, "rb");
    if (!file) GOLD_REFUSE("%s; tests run from the project root, or set AHEAD_GOLDEN", strerror(errno));
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t* bytes = (uint8_t*)xmalloc(size + 1);
    bool ok = fread(bytes, 1, size, file) == size && gold_parse(g, bytes, size);
    fclose(file);
    free(bytes);
    return ok;
}

// The case called `name`; fails the test if it cannot be read.
UNUSED static Gold* gold_open(const char* name) {
    Gold* g = (Gold*)xcalloc(sizeof(Gold));
    const char* folder = getenv("AHEAD_GOLDEN");
    char path[512];
    snprintf(path, sizeof(path), "%s/%s.gold", folder ? folder : "test/golden", name);
    if (!gold_read(g, path)) fail_msg("%s: %s", path, g->message);
    return g;
}

UNUSED static double gold_param(const Gold* g, const char* name) {
    for (int i = 0; i < g->params; i++)
        if (!strcmp(g->param[i].name, name)) return g->param[i].value;
    fail_msg("case %s has no parameter %s", g->name, name);
    return 0;
}

UNUSED static int gold_int(const Gold* g, const char* name) { return (int)gold_param(g, name); }

UNUSED static const GoldTensor* gold_find(const Gold* g, const char* name) {  // NULL if there is none
    for (int i = 0; i < g->tensors; i++)
        if (!strcmp(g->tensor[i].name, name)) return &g->tensor[i];
    return NULL;
}

UNUSED static const GoldTensor* gold_tensor(const Gold* g, const char* name) {
    const GoldTensor* t = gold_find(g, name);
    if (!t) fail_msg("case %s has no tensor %s", g->name, name);
    return t;
}

UNUSED static float* gold_floats(const Gold* g, const char* name) { return gold_tensor(g, name)->f32; }
UNUSED static int32_t* gold_ints(const Gold* g, const char* name) { return gold_tensor(g, name)->i32; }

#include "gold_check.h"
