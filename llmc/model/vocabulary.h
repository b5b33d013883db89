/*
How tokens enter and leave the network, from the flags: a dense embedding or head, or one over the cells of a table (embed.cuh,
head_lightrnn.cuh). The codebook says which cell each token has.

    --head lightrnn --embedding lightrnn     together: --tie_embedding light. Neither shares a matrix with the other.
    --table_size 0                           columns; 0: the square root of the vocabulary, rounded up
    --codebook FILE                          cells; empty: tokens in order, row by row
*/
#pragma once

#include "../base/flags.h"
#include "config.h"

#define HEAD_CHOICES "dense|lightrnn"  // in the order of HeadKind and EmbeddingKind
#define LIGHTRNN_DECODERS "per_row"

// Fills c->head, c->embedding, c->tied and c->book; c->V must be set. A contradiction ends the program with exit code 2.
UNUSED static void vocabulary_from_flags(const FlagTable* flags, Config* c) {
    const char *tie = *(char*const*)flag_field(flags, "tie_embedding"), *path = *(char*const*)flag_field(flags, "codebook");
    int columns = *(const int*)flag_field(flags, "table_size");
    bool both = !strcmp(tie, "light");
    c->head = (HeadKind)flag_choice(flags, "head");
    c->embedding = (EmbeddingKind)flag_choice(flags, "embedding");
    if (both) {
        const char* dense = c->head == HEAD_DENSE && flag_was_set(flags, "head")                  ? "head"
                            : c->embedding == EMBEDDING_DENSE && flag_was_set(flags, "embedding") ? "embedding"
                                                                                                  : NULL;
        if (dense) {
            usage_error(
                "--tie_embedding light makes the head and the embedding lightrnn, but --%s is dense; leave one of them out",
                dense);
        }
        c->head = HEAD_LIGHTRNN, c->embedding = EMBEDDING_LIGHTRNN;
    }
    bool light = c->head == HEAD_LIGHTRNN || c->embedding == EMBEDDING_LIGHTRNN;
    if (!light && (columns || *path)) {
        usage_error("--%s has no effect without --head lightrnn or --embedding lightrnn; add one of them",
                    columns ? "table_size" : "codebook");
    }
    if (!light) return;
    if (!strcmp(tie, "full") && flag_was_set(flags, "tie_embedding")) {
        usage_error("--tie_embedding full shares one dense matrix, which a lightrnn head or embedding is not; use none or light");
    }
    c->tied = false;
    if (columns > c->V) {
        usage_error("--table_size %d is more columns than there are tokens; use at most the vocabulary, %d", columns, c->V);
    }
    c->book = *path ? codebook_load(path, c->V) : codebook_sequential(c->V, columns);
    if (*path && columns && columns != c->book.columns) {
        usage_error("--table_size %d, but %s has %d columns; leave --table_size out", columns, path, c->book.columns);
    }
}

// A line for the banner. Nothing for a dense head and embedding.
UNUSED static void vocabulary_print(const Config* c) {
    const Codebook* b = &c->book;
    if (c->head == HEAD_DENSE && c->embedding == EMBEDDING_DENSE) return;
    double cells = (double)b->rows * b->columns, C = c->C;
    printf("table      %d rows of up to %d columns:", b->rows, b->columns);
    if (c->embedding == EMBEDDING_LIGHTRNN) printf(" embedding %.2fM parameters", C * (b->rows + b->columns) / 1e6);
    if (c->head == HEAD_LIGHTRNN) {
        printf("%s head %.2fM parameters, %.3f MFLOP a token forward where a dense one has %.2fM and %.1f",
               c->embedding == EMBEDDING_LIGHTRNN ? "," : "", ((C + 1) * (cells + b->rows)) / 1e6,
               2 * C * (b->rows + b->columns) / 1e6, C * c->V / 1e6, 2 * C * c->V / 1e6);
    }
    printf("\n");
}
