/*
The embedding seam: from tokens to the residual stream, and the gradient of the tables.

    dense      x[n] = wte[token] (+ wpe)                 looked up by the first norm (ops/norm.cuh)
    lightrnn   x[n] = rows[r] + columns[c] (+ wpe)       (r,c): the token's cell in the codebook; a kernel of its own

A table that the head does not share is only ever added to: the optimizer clears its gradient after use. Of one that it shares
(dense, or both of light_shared.cuh), the head stores the gradient first.

The codebook is a tensor, too: "cells" (2,V), rows and columns as numbers, which no step changes: no gradient, no decay. So every
checkpoint has it, and one that was trained with other cells is refused.
*/
#pragma once

#include "model.cuh"

static const Lookup no_lookup = {NULL, NULL, NULL, 1, 0};

UNUSED static void embed_params(Model* m) {
    const Config* c = &m->config;
    ParamTable* t = &m->table;
    m->wte = m->light.rows = m->light.columns = m->light.cells = -1;
    if (c->head == HEAD_LIGHTRNN || c->embedding == EMBEDDING_LIGHTRNN) {
        m->light.cells = params_add_matrix(t, "cells", 2, c->V, INIT_ZERO, 0.0f, false);
        t->rows[m->light.cells].live_rows = 0;
    }
    if (c->embedding == EMBEDDING_DENSE) {
        m->wte = config_matrix(t, c, "wte", c->Vp, c->C, false);
        t->rows[m->wte].live_rows = c->V;
        t->rows[m->wte].scatter = !c->tied;
        return;
    }
    int R = c->book.rows, K = c->book.columns, unit = c->tied ? 8 : 1;  // a head's products need multiples of 8
    m->light.rows = params_add_matrix(t, "wte.row", (int)round_up((size_t)R, unit), c->C, INIT_NORMAL, 0.02f, true);
    m->light.columns = params_add_matrix(t, "wte.column", (int)round_up((size_t)K, unit), c->C, INIT_NORMAL, 0.02f, true);
    t->rows[m->light.rows].live_rows = R, t->rows[m->light.columns].live_rows = K;
    t->rows[m->light.rows].scatter = t->rows[m->light.columns].scatter = !c->tied;
}

// The codebook on the device, for the embedding or the head, and the scratch of the gradient's order.
UNUSED static void embed_plan_activations(Model* m) {
    const Config* c = &m->config;
    size_t N = (size_t)c->B * c->T, I = sizeof(int),
           most = (size_t)(c->book.rows > c->book.columns ? c->book.rows : c->book.columns);
    bool cells = c->head == HEAD_LIGHTRNN || c->embedding == EMBEDDING_LIGHTRNN;
    bool sorts = c->embedding == EMBEDDING_LIGHTRNN && m->training;
    arena_add(&m->activations, "token rows", &m->light.row_of, cells ? (size_t)c->V * I : 0);
    arena_add(&m->activations, "token columns", &m->light.column_of, cells ? (size_t)c->V * I : 0);
    arena_add(&m->activations, "cell order", &m->light.sort, sorts ? (2 * N + most + 1) * I : 0);
}

// cells (2,V) on the host
static float* cells_values(const Codebook* b) {
    float* cells = (float*)xmalloc(2 * (size_t)b->V * sizeof(float));
    for (int v = 0; v < b->V; v++) cells[v] = (float)b->row[v], cells[b->V + v] = (float)b->col[v];
    return cells;
}

// Of a new model.
UNUSED static void cells_init(Model* m) {
    if (m->light.cells < 0) return;
    const Param* p = &m->table.rows[m->light.cells];
    float* cells = cells_values(&m->config.book);
    copy_to_device(m->masters + p->offset, cells, p->size * sizeof(float));
    free(cells);
}

// Of a model that was read from the file `path`: the program ends when it was trained with another codebook.
UNUSED static void cells_check(const Model* m, const char* path) {
    if (m->light.cells < 0) return;
    const Param* p = &m->table.rows[m->light.cells];
    float *cells = cells_values(&m->config.book), *found = (float*)xmalloc(p->size * sizeof(float));
    copy_to_host(found, m->masters + p->offset, p->size * sizeof(float));
    for (int v = 0; v < m->config.V; v++) {
        int other = v + m->config.V;
        if (cells[v] == found[v] && cells[other] == found[other]) continue;
        fail("%s: token %d is in row %g, column %g, but in row %g, column %g of the codebook now; use --codebook as that run did",
             path, v, (double)found[v], (double)found[other], (double)cells[v], (double)cells[other]);
    }
    free(cells), free(found);
}

UNUSED static void cells_upload(Model* m) {
    const Codebook* b = &m->config.book;
    if (!m->light.row_of) return;
    copy_to_device(m->light.row_of, b->row, (size_t)b->V * sizeof(int));
    copy_to_device(m->light.column_of, b->col, (size_t)b->V * sizeof(int));
}

// What the first norm has to look up; the lightrnn embedding has filled x (N,C) by then. A step after cached tokens is rows of
// one token (T = 1), all at the cache's position.
UNUSED static Lookup embed_forward(Model* m, const int* tokens, int B, int T) {
    const floatX* wpe = weight(m, m->wpe);
    if (wpe && m->cache.mode == CACHE_STEP) wpe += (size_t)m->cache.position * m->config.C;
    if (m->config.embedding == EMBEDDING_DENSE) return (Lookup){tokens, weight(m, m->wte), wpe, T, 0};
    TableEmbedding e = {m->light.row_of, m->light.column_of, weight(m, m->light.rows), weight(m, m->light.columns), wpe, T, 0};
    table_embedding(m->x, tokens, e, B * T, m->config.C, m->stream);
    return no_lookup;
}

// Gradients of the tables, from dres (N,C).
UNUSED static void embed_backward(Model* m, const Micro* micro) {
    const Config* c = &m->config;
    LightRnn* l = &m->light;
    int N = micro->B * micro->T, C = c->C;
    if (m->wte >= 0) embedding_backward(grad(m, m->wte), m->dres, micro->tokens, micro->order, N, C, m->stream);
    if (l->rows >= 0) {
        table_embedding_backward(grad(m, l->rows), m->dres, micro->tokens, l->row_of, l->sort, N, c->book.rows, C, m->stream);
        table_embedding_backward(grad(m, l->columns), m->dres, micro->tokens, l->column_of, l->sort, N, c->book.columns, C,
                                 m->stream);
    }
    if (m->wpe >= 0) position_backward(grad(m, m->wpe), m->dres, micro->B, micro->T, C, micro->accumulate, m->stream);
}
