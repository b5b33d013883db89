/*
The parameter table: one row per tensor, added by the file that owns the tensor. Everything else is a loop over it:
initialisation, optimizer, gradient norm, checkpoint, export, the memory table, the tests. Nothing knows a tensor by position;
the owner keeps the id that params_add returned.

    masters  fp32   | wte ........ |pad| h.0.attn.qkv.w ....... |pad| ...     one arena each, the same offsets in all five
    grads    fp32   | wte ........ |pad| h.0.attn.qkv.w ....... |pad| ...
    m, v     fp32   | ...
    weights  floatX | ...     what the GEMMs read; in the fp32 build it is `masters` itself

Offsets are multiples of 256 elements, a "unit": one byte of flags per unit tells the optimizer what to do with it, one warp
handles one unit in 128-bit loads, every tensor starts 512-byte aligned in bf16, and
the zero padding between tensors stays zero through the optimizer (a zero gradient moves nothing, decay of zero is zero).
*/
#pragma once

#include "check.h"
#include "rand.h"

typedef enum { INIT_ZERO, INIT_ONE, INIT_NORMAL, INIT_UNIFORM } InitKind;

enum { PARAM_UNIT = 256, PARAM_DIMS = 3 };  // elements per unit; largest number of dimensions

typedef struct {
    char name[64];         // the name in checkpoints, messages and dev/reference
    int dims[PARAM_DIMS];  // row-major shape, unused dimensions are 1
    int ndim;
    size_t size;    // elements
    size_t offset;  // elements from the start of each arena
    InitKind init;
    float init_scale;  // standard deviation of INIT_NORMAL, bound of INIT_UNIFORM
    int live_rows;     // rows of the first dimension that are initialised; the rest is padding and stays zero
    int period;        // the first dimension is groups of so many rows, each with its live_rows; all rows: one group
    bool decay;        // weight decay applies
    int group;         // 0: trained in every step; else the part of the objective that it belongs to, and rests with (0..15)
    bool scatter;      // its gradient is only ever added to (untied embedding): the optimizer clears it after use
} Param;

typedef struct {
    Param* rows;
    int count, capacity;
    size_t size;  // elements of one arena, padding included
} ParamTable;

// Adds a tensor and returns its id. live_rows defaults to all rows, decay to the caller's choice in `decay`.
UNUSED static int params_add(ParamTable* table, const char* name, int ndim, const int* dims, InitKind init, float init_scale,
                             bool decay) {
    if (table->count == table->capacity) {
        table->capacity = table->capacity ? 2 * table->capacity : 64;
        table->rows = (Param*)realloc(table->rows, (size_t)table->capacity * sizeof(Param));
        if (!table->rows) fail("out of host memory for the parameter table");
    }
    Param* p = &table->rows[table->count];
    memset(p, 0, sizeof(*p));
    snprintf(p->name, sizeof(p->name), "%s", name);
    p->ndim = ndim;
    p->size = 1;
    for (int i = 0; i < PARAM_DIMS; i++) {
        p->dims[i] = i < ndim ? dims[i] : 1;
        p->size *= (size_t)p->dims[i];
    }
    p->offset = table->size;
    p->init = init;
    p->init_scale = init_scale;
    p->live_rows = p->period = p->dims[0];
    p->decay = decay;
    table->size = round_up(table->size + p->size, PARAM_UNIT);
    return table->count++;
}

UNUSED static int params_add_matrix(ParamTable* table, const char* name, int rows, int columns, InitKind init, float scale,
                                    bool decay) {
    int dims[2] = {rows, columns};
    return params_add(table, name, 2, dims, init, scale, decay);
}

UNUSED static int params_add_vector(ParamTable* table, const char* name, int size, InitKind init, float scale, bool decay) {
    return params_add(table, name, 1, &size, init, scale, decay);
}

// Id of the tensor called `name`, or -1.
UNUSED static int params_find(const ParamTable* table, const char* name) {
    for (int i = 0; i < table->count; i++) {
        if (!strcmp(table->rows[i].name, name)) return i;
    }
    return -1;
}

// Elements of a tensor that are weights: its padding rows left out.
UNUSED static size_t param_live(const Param* p) { return p->size / (size_t)p->period * (size_t)p->live_rows; }

// The same of all tensors.
UNUSED static size_t params_live(const ParamTable* table) {
    size_t live = 0;
    for (int i = 0; i < table->count; i++) {
        live += param_live(&table->rows[i]);
    }
    return live;
}

// Fills host memory `masters` (table->size floats, zeroed by the caller) from the seed. Each tensor draws from its own
// counter-based stream keyed by its name, so adding or removing a tensor leaves the others as they were.
UNUSED static void params_init(const ParamTable* table, float* masters, uint64_t seed) {
    for (int id = 0; id < table->count; id++) {
        const Param* p = &table->rows[id];
        float* w = masters + p->offset;
        size_t row = p->size / (size_t)p->dims[0], live = p->period == p->dims[0] ? param_live(p) : p->size;
        uint64_t key = rand_key(seed, p->name);
        if (p->init == INIT_NORMAL) rand_fill_normal(w, live, p->init_scale, key);
        if (p->init == INIT_UNIFORM) rand_fill_uniform(w, live, p->init_scale, key);
        for (size_t i = 0; p->init == INIT_ONE && i < live; i++) w[i] = 1.0f;
        for (int r = 0; p->period < p->dims[0] && r < p->dims[0]; r++) {
            if (r % p->period >= p->live_rows) memset(w + (size_t)r * row, 0, row * sizeof(float));
        }
    }
}
