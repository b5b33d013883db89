/*
How tokens enter and leave the network, from the flags: a dense embedding or head, or one over the cells of a table (embed.cuh,
head_lightrnn.cuh, light_tables.cuh). The codebook says which cell each token has.

    --head lightrnn --embedding lightrnn     together: --tie_embedding light
    --lightrnn_decoder per_row               column weights of the head: each row has its own
                       shared                one vector a row and one a column: the embedding's, when that is lightrnn, too
                                             (--tie_embedding none keeps them apart)
                       lowrank               shared columns, and --lightrnn_rank directions of each row's own
    --table_size 0                           columns; 0: the square root of the vocabulary, rounded up
    --codebook FILE                          cells; empty: tokens in order, row by row
*/
#pragma once

#include "../base/flags.h"
#include "../base/planning.h"
#include "config.h"

#define HEAD_CHOICES "dense|lightrnn"               // in the order of HeadKind and EmbeddingKind
#define LIGHTRNN_DECODERS "per_row|shared|lowrank"  // in the order of LightDecoder

// Fills c->decoder and c->light_rank; c->head, c->embedding and c->book must be set.
static void decoder_from_flags(const FlagTable* flags, Config* c) {
    int rank = *(const int*)flag_field(flags, "lightrnn_rank");
    c->decoder = (LightDecoder)flag_choice(flags, "lightrnn_decoder");
    if (c->head != HEAD_LIGHTRNN && flag_was_set(flags, "lightrnn_decoder")) {
        usage_error("--lightrnn_decoder has no effect without --head lightrnn; add it");
    }
    if (c->decoder != DECODER_LOWRANK && flag_was_set(flags, "lightrnn_rank")) {
        usage_error("--lightrnn_rank has no effect without --lightrnn_decoder lowrank; add it");
    }
    if (c->decoder != DECODER_LOWRANK) return;
    if (rank < 1) usage_error("--lightrnn_decoder lowrank needs --lightrnn_rank of 1 or more, such as --lightrnn_rank 8");
    if (rank > c->book.columns) {
        usage_error("--lightrnn_rank %d is more than the %d columns of the table; use fewer, or --lightrnn_decoder per_row", rank,
                    c->book.columns);
    }
    c->light_rank = rank;
}

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
    if (!light) {
        decoder_from_flags(flags, c);
        return;
    }
    if (!strcmp(tie, "full") && flag_was_set(flags, "tie_embedding")) {
        usage_error("--tie_embedding full shares one dense matrix, which a lightrnn head or embedding is not; use none or light");
    }
    c->tied = false;
    if (columns > c->V) {
        usage_error("--table_size %d is more columns than there are tokens; use at most the vocabulary, %d", columns, c->V);
    }
    bool loads = *path && !planning.on;  // a dry run takes the sizes of a square table
    c->book = loads ? codebook_load(path, c->V) : codebook_sequential(c->V, columns);
    if (loads && columns && columns != c->book.columns) {
        usage_error("--table_size %d, but %s has %d columns; leave --table_size out", columns, path, c->book.columns);
    }
    decoder_from_flags(flags, c);
    bool both_light = c->head == HEAD_LIGHTRNN && c->embedding == EMBEDDING_LIGHTRNN;
    c->tied = both_light && c->decoder == DECODER_SHARED && strcmp(tie, "none");
}

// Of a lightrnn head: parameters that it does not share with the embedding, and multiplications times two of a position forward.
static void decoder_cost(const Config* c, double* parameters, double* flops) {
    double C = c->C, R = c->book.rows, K = c->book.columns, rank = c->light_rank, both = C * (R + K);
    *flops = 2 * both;
    if (c->decoder == DECODER_PER_ROW) *parameters = (C + 1) * (R + R * K);
    if (c->decoder == DECODER_SHARED) *parameters = C * C + (c->tied ? 0 : both);
    if (c->decoder == DECODER_LOWRANK) {
        *parameters = both + R + R * K + rank * R * (C + K);
        *flops += 2 * rank * (C + K);
    }
}

// A line for the banner. Nothing for a dense head and embedding.
UNUSED static void vocabulary_print(const Config* c) {
    const Codebook* b = &c->book;
    double C = c->C, R = b->rows, K = b->columns, V = c->V, parameters = 0, flops = 0;
    if (c->head == HEAD_DENSE && c->embedding == EMBEDDING_DENSE) return;
    printf("table      %d rows of up to %d columns:", b->rows, b->columns);
    if (c->embedding == EMBEDDING_LIGHTRNN) printf(" embedding %.2fM parameters", C * (R + K) / 1e6);
    if (c->head == HEAD_LIGHTRNN) {
        decoder_cost(c, &parameters, &flops);
        const char *comma = c->embedding == EMBEDDING_LIGHTRNN ? "," : "", *more = c->tied ? " more" : "";
        printf("%s head %.2fM%s parameters, %.3f MFLOP a token forward", comma, parameters / 1e6, more, flops / 1e6);
        if (c->decoder == DECODER_SHARED) printf(" and %.0f a step", 2 * R * C * (C + K) / 1e6);
        printf(" where a dense one has %.2fM and %.1f", C * V / 1e6, 2 * C * V / 1e6);
    }
    printf("\n");
}
