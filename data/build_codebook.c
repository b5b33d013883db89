/*
Codebooks for a factorised vocabulary: which row and which column every token id gets (llmc/io/codebook.h).

    data/build_codebook --method sequential --out data/mine.codebook                      id order; needs nothing else
    data/build_codebook "data/mine_train_*.bin" --method freq --out data/mine.codebook    frequent tokens share the first rows
    data/build_codebook "data/mine_train_*.bin" --method snake --out data/mine.codebook   every row gets frequent and rare tokens
    data/build_codebook --method matching --codebook OLD --costs FILE --out NEW           from a model trained with OLD

    sequential   token v          row v / columns, column v % columns
    freq         rank i           row i / columns, column i % columns      rank by count in the shards, ties by id
    snake        rank i           row i % rows,    column i / rows
    matching     the least sum of costs, as far as it is found: data/codebook_match.h; rows keep the lengths they have in OLD

With shards it says how the training tokens spread over the rows, for every method: work and memory of the head follow that.
Use training shards only: the validation text must not leak into what is trained on.
*/
#include "codebook_match.h"

#include "llmc/io/shard.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                              \
    SECTION("Codebook of a factorised vocabulary")                                                              \
    CHOICE(method, "sequential", "sequential|freq|snake|matching", "how tokens get their rows and columns")     \
    INT(columns, 0, 0, 65536, "columns of the table (0: the smallest number whose square is vocab_size)")       \
    INT(vocab_size, 50257, 1, 65536, "ids of the model that will use the codebook")                             \
    STRING(out, "", "file to write; a codebook that is there is replaced")                                      \
    STRING(codebook, "", "matching: the codebook to start from, with which the costs were measured")            \
    STRING(costs, "", "matching: file with the costs of tokens in rows and columns")                            \
    INT(rounds, 8, 1, 100, "matching: times that tokens are sent to rows, then to columns; the best is kept")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

typedef struct {
    char** paths;  // (shards), sorted by name
    int shards;
    uint64_t* counts;  // (V)
    uint64_t tokens;   // sum of counts
} Counts;

typedef struct {
    uint64_t count;
    int32_t id;
} Ranked;

static int by_name(const void* a, const void* b) { return strcmp(*(char* const*)a, *(char* const*)b); }

// All shards that the patterns name, each once.
static void counts_find(Counts* c, char** patterns, int count) {
    for (int p = 0; p < count; p++) {
        ShardList list = shard_list(patterns[p]);
        c->paths = (char**)realloc(c->paths, (size_t)(c->shards + list.count) * sizeof(char*));
        if (!c->paths) fail("out of host memory: %d file names", c->shards + list.count);
        for (int i = 0; i < list.count; i++) {
            c->paths[c->shards++] = text_copy(list.paths[i]);
            c->tokens += list.ntok[i];
        }
        shard_list_free(&list);
    }
    qsort(c->paths, (size_t)c->shards, sizeof(char*), by_name);
    for (int i = 0; i < c->shards; i++) {
        const char* name = strrchr(c->paths[i], '/') ? strrchr(c->paths[i], '/') + 1 : c->paths[i];
        if (i > 0 && !strcmp(c->paths[i], c->paths[i - 1])) {
            usage_error("%s is named twice: its tokens would count double; name every shard once", c->paths[i]);
        }
        if (!strncmp(name, "val_", 4) || strstr(name, "_val_")) {
            fprintf(stderr, "warning: %s looks like validation text; use training shards only\n", name);
        }
    }
    if (c->tokens == 0) fail("%s: no token in the %d shards named; name shards that hold some", c->paths[0], c->shards);
}

// counts (V): how often each id occurs. Ids of V or more end the program.
static void counts_add_all(Counts* c, int V) {
    ToolProgress progress = tool_progress_start("M tokens", 1e6, (double)c->tokens, "counting");
    uint64_t* all = (uint64_t*)xcalloc(65536 * sizeof(uint64_t));  // of every id that a shard can hold
    uint64_t done = 0;
    for (int s = 0; s < c->shards; s++) {
        Shard shard = shard_open(c->paths[s]);
        for (uint64_t i = 0; i < shard.ntok; i++) {
            all[shard.ids[i]]++;
            if (i % (1 << 20) == 0) tool_progress_show(&progress, (double)(done + i));
        }
        done += shard.ntok;
        for (int id = V; id < 65536; id++) {
            if (all[id] == 0) continue;
            fail("%s: holds id %d, expected ids below --vocab_size %d; raise it, or use shards of the model's tokenizer",
                 c->paths[s], id, V);
        }
        shard_close(&shard);
    }
    tool_progress_clear(&progress);
    c->counts = all;
}

static int by_count(const void* a, const void* b) {
    const Ranked *x = (const Ranked*)a, *y = (const Ranked*)b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

// Ids (V), the most frequent first, of equal ones the smaller id first. The caller's.
static int32_t* frequency_order(const uint64_t* counts, int V) {
    Ranked* ranked = (Ranked*)xmalloc((size_t)V * sizeof(Ranked));
    int32_t* order = (int32_t*)xmalloc((size_t)V * sizeof(int32_t));
    for (int v = 0; v < V; v++) ranked[v].count = counts[v], ranked[v].id = v;
    qsort(ranked, (size_t)V, sizeof(Ranked), by_count);
    for (int v = 0; v < V; v++) order[v] = ranked[v].id;
    free(ranked);
    return order;
}

// How the training tokens spread over the rows.
static void say_shares(const Codebook* b, const Counts* c) {
    Ranked* rows = (Ranked*)xcalloc((size_t)b->rows * sizeof(Ranked));
    uint64_t held = 0;
    int half = 0;
    for (int r = 0; r < b->rows; r++) rows[r].id = r;
    for (int v = 0; v < b->V; v++) rows[b->row[v]].count += c->counts[v];
    qsort(rows, (size_t)b->rows, sizeof(Ranked), by_count);
    while (2 * held < c->tokens) held += rows[half++].count;
    double percent = 100.0 / (double)c->tokens;
    printf(
        "%llu tokens in %d shards: row %d has the most, %.2f %% of them (an even share is %.2f %%); half of them are in %d of %d "
        "rows; "
        "row %d has the fewest, %.4f %%\n",
        (unsigned long long)c->tokens, c->shards, rows[0].id, percent * (double)rows[0].count, 100.0 / b->rows, half, b->rows,
        rows[b->rows - 1].id, percent * (double)rows[b->rows - 1].count);
    free(rows);
}

static void say_cost(const char* when, MatchCost cost, uint64_t positions) {
    double sum = cost.rows + cost.columns;
    printf("%s: objective %.10g (rows %.10g, columns %.10g)", when, sum, cost.rows, cost.columns);
    if (positions) printf(", %.6f nats a token", sum / (double)positions);
    printf("\n");
    fflush(stdout);
}

static Codebook matched_codebook(const Options* o) {
    double start = tool_seconds();
    Codebook old = codebook_load(o->codebook, o->vocab_size), book;
    CodebookCosts costs = codebook_costs_load(o->costs, &old);
    say_cost("before", match_cost(&old, &costs), costs.positions);
    Match m = match_codebook(&old, &costs, o->rounds, stdout);
    say_cost("after", m.cost, costs.positions);
    double sum = match_sum(m.cost), gap = sum > m.bound ? sum - m.bound : 0;
    printf("no codebook of this shape is below %.10g: this one is within %.10g (%.2f %%) of the best\n", m.bound, gap,
           sum > 0 ? 100 * gap / sum : 0);
    printf("%d of %d tokens moved, %d of them to another row; %.1f s\n", m.moved, old.V, m.new_rows, tool_seconds() - start);
    book = codebook_from_cells("the matched codebook", old.V, old.columns, m.book.row, m.book.col, "");
    match_free(&m);
    codebook_costs_free(&costs);
    codebook_free(&old);
    return book;
}

// Bigrams, neighbours and costs have a codebook's magic, but are not to be written over.
static void keep_other_kinds(const char* path) {
    int32_t header[3] = {0, 0, TABLE_CODEBOOK};
    tool_keep_other_files(path, TABLE_MAGIC, "a codebook");
    FILE* file = fopen(path, "rb");
    if (!file) return;
    if (fread(header, sizeof header, 1, file) != 1) header[2] = TABLE_CODEBOOK;  // a stump
    fclose(file);
    if (header[2] == TABLE_CODEBOOK) return;
    fail("%s: exists and is a file of %s, so it is kept; name another file with --out, or remove it", path,
         codebook_kind_name(header[2]));
}

// Flags that do not go together; shards: words on the command line.
static void check_usage(const FlagTable* flags, const Options* o, const char* program, int shards) {
    bool matching = !strcmp(o->method, "matching"), counted = !strcmp(o->method, "freq") || !strcmp(o->method, "snake");
    if (!*o->out) usage_error("--out is missing: name the file to write, e.g. --out data/mine.codebook");
    if (counted && shards == 0) {
        usage_error("--method %s counts tokens, but no shards are named: %s \"data/mine_train_*.bin\" --method %s --out %s",
                    o->method, program, o->method, o->out);
    }
    if (matching && (!*o->codebook || !*o->costs)) {
        usage_error(
            "--method matching improves a codebook: name it with --codebook, and the costs measured with it with --costs");
    }
    const char* only[] = {"codebook", "costs", "rounds"};
    for (int i = 0; i < 3; i++) {
        if (matching || !flag_was_set(flags, only[i])) continue;
        usage_error("--%s is for --method matching, but the method is %s; leave it out", only[i], o->method);
    }
    if (matching && flag_was_set(flags, "columns")) {
        usage_error("--columns is given, but --method matching keeps those of %s; leave it out", o->codebook);
    }
    if (o->columns > o->vocab_size) {
        usage_error("--columns is %d, but there are only %d ids (--vocab_size); lower it", o->columns, o->vocab_size);
    }
}

int main(int argc, char** argv) {
    Options o;
    FlagTable flags = options_table(&o);
    Counts counts = {NULL, 0, NULL, 0};
    Codebook book;
    char** patterns = (char**)xmalloc((size_t)argc * sizeof(char*));
    tool_help(&flags, argc, argv, "[\"SHARDS_*.bin\"...] [--method freq] --out FILE",
              "Gives every token id a row and a column of a table, for models with a factorised vocabulary.");
    int words = tool_take_words(&flags, &argc, argv, patterns);
    flags_parse(&flags, argc, argv);
    check_usage(&flags, &o, argv[0], words);
    keep_other_kinds(o.out);
    tool_catch_signals();
    if (words > 0) counts_find(&counts, patterns, words);
    NewFile file;
    new_file_open(&file, o.out);  // now: a directory that is missing is told before the work
    if (words > 0) counts_add_all(&counts, o.vocab_size);

    int32_t* order = words > 0 ? frequency_order(counts.counts, o.vocab_size) : NULL;
    if (!strcmp(o.method, "matching")) book = matched_codebook(&o);
    else if (!strcmp(o.method, "freq")) book = codebook_from_order(o.vocab_size, o.columns, order);
    else if (!strcmp(o.method, "snake")) book = codebook_snake(o.vocab_size, o.columns, order);
    else book = codebook_sequential(o.vocab_size, o.columns);
    codebook_write(&file, &book);
    printf("%s: %d ids in %d rows of %d columns, the last row has %d\n", o.out, book.V, book.rows, book.columns,
           book.length[book.rows - 1]);
    if (words > 0) say_shares(&book, &counts);

    for (int i = 0; i < counts.shards; i++) free(counts.paths[i]);
    free(counts.paths);
    free(counts.counts);
    free(order);
    free(patterns);
    codebook_free(&book);
    flags_free(&flags);
    return 0;
}
