/*
Soft targets from a table: a share alpha of the main target's weight goes to a row of likely alternatives (ops/targets.cuh).

    n-grams       --use_cocont, --ngram_path: what follows the input token in the training text (data/build_ngram)
    neighbours    --soft_ce_beta, --soft_ce_table: tokens whose embeddings are close to the target's (data/build_neighbours)

    target of a position   (1 - alpha - beta) e_y + alpha q_ngram + beta q_neighbours     y: the next token; later ones stay

The table's rows are (V,K) ids and probabilities on the device, uploaded once. Validation never sees them. One distribution cannot
be right for two targets: with alpha held to the end the best model's next-token loss is worse by up to -ln(1 - alpha) nats, so
alpha should be 0 by the end of a run (--cocont_decay_start).
*/
#pragma once

#include "../io/table.h"
#include "aux_weight.h"
#include "model.cuh"

typedef struct {
    AuxWeight alpha;
    TopTable table;  // K = 0: absent
    bool corrected;  // --cocont_mode cc
    bool exact;      // --cocont_mass exact
    double gamma;
    int first;  // positions of a sequence that are smoothed; 0: all
} Smoothing;

// The table of a file; of a dry run only its size.
static TopTable smoothing_table(const char* path, TableKind kind, int V, int K) {
    TopTable sizes = {};
    sizes.V = V, sizes.K = K;
    return planning.on ? sizes : top_table_load(path, kind, V, K);
}

static const char* flag_text(const FlagTable* flags, const char* name) { return *(char* const*)flag_field(flags, name); }

// Fills s[0], the n-grams. A wrong flag ends the program with exit code 2, a wrong file with 1.
static void ngrams_from_flags(Smoothing* s, const FlagTable* flags, int64_t num_iterations) {
    bool enabled = *(const bool*)flag_field(flags, "use_cocont");
    aux_check_idle(flags, "cocont_", enabled, "--use_cocont");
    aux_check_idle(flags, "ngram_", enabled, "--use_cocont");
    if (!enabled) return;
    const char *path = flag_text(flags, "ngram_path"), *positions = flag_text(flags, "cocont_positions");
    if (!*path) {
        usage_error("--use_cocont needs --ngram_path FILE; make it with `data/build_ngram \"%s\" --out FILE`",
                    flag_text(flags, "input_bin"));
    }
    s->corrected = !strcmp(flag_text(flags, "cocont_mode"), "cc");
    s->exact = !strcmp(flag_text(flags, "cocont_mass"), "exact");
    s->gamma = *(const double*)flag_field(flags, "cocont_gamma");
    if (!s->corrected && flag_was_set(flags, "cocont_gamma")) {
        usage_error("--cocont_gamma has no effect with --cocont_mode topk; add --cocont_mode cc");
    }
    if (strcmp(positions, "all")) {
        char rest;
        if (sscanf(positions, "first:%9d%c", &s->first, &rest) != 1 || s->first < 1) {
            usage_error("--cocont_positions is \"%s\": expected all, or first:N with N of 1 or more, such as first:4", positions);
        }
    }
    s->alpha = aux_weight_from_flags(flags, "cocont", *(const double*)flag_field(flags, "cocont_alpha"), num_iterations);
    if (s->alpha.weight == 0) return;
    int K = *(const int*)flag_field(flags, "ngram_k");
    s->table = smoothing_table(path, TABLE_BIGRAM, *(const int*)flag_field(flags, "vocab_size"), K);
}

// Fills s[1], the neighbours.
static void neighbours_from_flags(Smoothing* s, const FlagTable* flags, int64_t num_iterations) {
    double beta = *(const double*)flag_field(flags, "soft_ce_beta");
    const char* path = flag_text(flags, "soft_ce_table");
    aux_check_idle(flags, "soft_ce_", beta > 0, "--soft_ce_beta");
    if (beta == 0) return;
    if (!*path) {
        usage_error(
            "--soft_ce_beta needs --soft_ce_table FILE; make it with `data/build_neighbours --checkpoint FILE --out FILE`");
    }
    s->alpha = aux_weight_from_flags(flags, "soft_ce", beta, num_iterations);
    int K = *(const int*)flag_field(flags, "soft_ce_topm");
    s->table = smoothing_table(path, TABLE_NEIGHBOURS, *(const int*)flag_field(flags, "vocab_size"), K);
}

// s (SOFT_TABLES), from the flags.
UNUSED static void smoothing_from_flags(Smoothing* s, const FlagTable* flags, int64_t num_iterations) {
    double alpha = *(const bool*)flag_field(flags, "use_cocont") ? *(const double*)flag_field(flags, "cocont_alpha") : 0;
    double beta = *(const double*)flag_field(flags, "soft_ce_beta");
    if (alpha + beta > 1) {
        usage_error("--cocont_alpha %g and --soft_ce_beta %g take more than the whole target; let their sum be at most 1", alpha,
                    beta);
    }
    memset(s, 0, SOFT_TABLES * sizeof(*s));
    ngrams_from_flags(&s[0], flags, num_iterations);
    neighbours_from_flags(&s[1], flags, num_iterations);
}

// Declares the tables' memory; the sizes are in config.aux.
UNUSED static void smoothing_plan_activations(Model* m) {
    for (int i = 0; i < SOFT_TABLES; i++) {
        size_t K = (size_t)m->config.aux.table_k[i], rows = m->training && K ? (size_t)m->config.V : 0;
        arena_add(&m->activations, i ? "neighbour ids" : "n-gram ids", &m->table_ids[i], rows * K * sizeof(int));
        arena_add(&m->activations, i ? "neighbour probs" : "n-gram probs", &m->table_probs[i], rows * K * sizeof(float));
        arena_add(&m->activations, i ? "neighbour cover" : "n-gram cover", &m->table_covered[i], rows * sizeof(float));
    }
}

// A table over tokens becomes one over the rows of a codebook. Entries of one row stay apart: entries that coincide add.
static void smoothing_by_rows(TopTable* t, const Codebook* book) {
    for (size_t i = 0; i < (size_t)t->V * (size_t)t->K; i++) t->ids[i] = t->ids[i] < 0 ? -1 : book->row[t->ids[i]];
}

// Copies the tables to the device and tells the model of them; after model_allocate.
UNUSED static void smoothing_upload(Smoothing* s, Model* m) {
    for (int i = 0; i < SOFT_TABLES; i++) {
        const TopTable* t = &s[i].table;
        size_t rows = (size_t)t->V, entries = rows * (size_t)t->K;
        if (!t->K) continue;
        if (m->config.head == HEAD_LIGHTRNN && !m->config.aux.exact) smoothing_by_rows(&s[i].table, &m->config.book);
        copy_to_device(m->table_ids[i], t->ids, entries * sizeof(int));
        copy_to_device(m->table_probs[i], t->probs, entries * sizeof(float));
        copy_to_device(m->table_covered[i], t->p_top, rows * sizeof(float));
        SoftTable on_device = {m->table_ids[i],
                               m->table_probs[i],
                               s[i].corrected ? m->table_covered[i] : NULL,
                               NULL,
                               &m->state->in.next.table[i],
                               (float)s[i].gamma,
                               t->K,
                               LOSS_NGRAM + i,
                               s[i].first,
                               m->config.T};
        m->tables[i] = on_device;
        top_table_free(&s[i].table);
    }
}
