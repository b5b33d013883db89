/*
The bigrams of training text: for every token id the K ids that follow it most often, and how often.

    data/build_ngram "data/mine_train_*.bin" --k 16 --out data/mine.ngram

    shards -> blocks of pairs (x_i, x_i+1) -> sorted, counted -> runs -> merged -> rows of K -> the table (llmc/io/table.h)
              one block a thread              ngram_sort.h       ngram_runs.h

Counts are exact. A pair never spans two shards; pairs across <|endoftext|> count like any other. A row holds the K most frequent
followers, of equal ones the smaller id first, with probabilities that sum to 1 over the row; p_top says what share of all
followers they are. The file is the same bit for bit whatever the number of threads, the memory and the order of the shards.

Nothing appears under the name before it is complete, and temporary files have no name that could be left behind.
Use training shards only: the validation text must not leak into what is trained on.
*/
#include "ngram_runs.h"
#include "tool.h"

#include "llmc/io/shard.h"
#include "llmc/io/table.h"

#include <math.h>

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                              \
    SECTION("Bigrams of token shards")                                                                          \
    INT(k, 16, 1, 1024, "followers kept of every id")                                                           \
    INT(vocab_size, 50257, 1, 65536, "ids of the model that will use the table; a larger id is an error")       \
    STRING(out, "", "file to write; a table that is there is replaced")                                         \
    INT(memory, 1024, 1, 1048576, "MiB to sort and merge in; what does not fit goes to temporary files")        \
    STRING(tmp, "", "directory for temporary files (default: where --out is)")                                  \
    INT(threads, 0, 0, 64, "threads that sort (0: all processors)")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

// All shards, walked once from front to back by whoever needs the next block
typedef struct {
    char** paths;  // (count), sorted by name
    int count, capacity;
    int V;
    uint64_t tokens, pairs;  // in all shards
    int shard;               // being read
    uint64_t at, done;       // next pair of that shard; pairs given out so far
    Shard open;
} Source;

typedef struct {
    Source source;
    RunStore store;
    ToolProgress progress;
    uint64_t block;                           // pairs
    pthread_mutex_t source_lock, store_lock;  // either is taken alone
} Job;

// The row that is being filled: its best K entries so far
typedef struct {
    int K, used;
    uint64_t* counts;  // (K), the largest first
    int32_t* ids;      // (K)
    uint64_t total;    // of all entries, kept or not
    int prev;          // the row's id, -1 before the first
    uint64_t distinct, kept;
} TopRow;

static int by_name(const void* a, const void* b) { return strcmp(*(char* const*)a, *(char* const*)b); }

// Adds the shards that match; each is opened once to check it.
static void source_add(Source* s, const char* pattern) {
    ShardList list = shard_list(pattern);
    if (s->count + list.count > s->capacity) {
        s->capacity = 2 * (s->count + list.count);
        s->paths = (char**)realloc(s->paths, (size_t)s->capacity * sizeof(char*));
        if (!s->paths) fail("out of host memory: %d file names", s->capacity);
    }
    for (int i = 0; i < list.count; i++) {
        s->paths[s->count++] = text_copy(list.paths[i]);
        s->tokens += list.ntok[i];
        s->pairs += list.ntok[i] > 0 ? list.ntok[i] - 1 : 0;
    }
    shard_list_free(&list);
}

static void source_check(Source* s) {
    qsort(s->paths, (size_t)s->count, sizeof(char*), by_name);
    for (int i = 0; i < s->count; i++) {
        const char* name = strrchr(s->paths[i], '/') ? strrchr(s->paths[i], '/') + 1 : s->paths[i];
        if (i > 0 && !strcmp(s->paths[i], s->paths[i - 1])) {
            usage_error("%s is named twice: its pairs would count double; name every shard once", s->paths[i]);
        }
        if (!strncmp(name, "val_", 4) || strstr(name, "_val_")) {
            fprintf(stderr, "warning: %s looks like validation text; use training shards only\n", name);
        }
    }
    if (s->pairs == 0) fail("%s: no pair of tokens in the %d shards named; name shards that hold some", s->paths[0], s->count);
}

__attribute__((noreturn)) static void source_bad_id(const Source* s, uint64_t from) {
    while (s->open.ids[from] < s->V) from++;
    fail("%s: token %llu is id %d, expected ids below --vocab_size %d; raise it, or use shards of the model's tokenizer",
         s->open.path, (unsigned long long)from, s->open.ids[from], s->V);
}

// The next pairs as keys, at most n of them. Returns their number, 0 at the end of the last shard.
static size_t source_next(Source* s, uint32_t* keys, size_t n) {
    size_t filled = 0;
    while (filled < n && s->shard < s->count) {
        if (!s->open.ids) s->open = shard_open(s->paths[s->shard]);
        uint64_t pairs = s->open.ntok > 0 ? s->open.ntok - 1 : 0, left = pairs - s->at;
        size_t part = left < n - filled ? (size_t)left : n - filled;
        const uint16_t* ids = s->open.ids + s->at;
        uint16_t largest = s->open.ntok > 0 ? ids[part] : 0;
        for (size_t i = 0; i < part; i++) {
            keys[filled + i] = (uint32_t)ids[i] << 16 | ids[i + 1];
            largest = largest > ids[i] ? largest : ids[i];
        }
        if (largest >= s->V) source_bad_id(s, s->at);
        filled += part;
        s->at += part;
        if (s->at < pairs) continue;
        shard_close(&s->open);
        s->shard++;
        s->at = 0;
    }
    s->done += filled;
    return filled;
}

static uint32_t* key_buffer(uint64_t block) {
    size_t huge = (size_t)2 << 20, bytes = (size_t)block * sizeof(uint32_t) + SORT_SPARE;
    void* p = NULL;
    if (posix_memalign(&p, bytes < huge ? 64 : huge, bytes)) {
        fail("out of host memory: %.1f MiB to sort in; lower --memory", (double)bytes / 1048576.0);
    }
    if (bytes >= huge) madvise(p, bytes, MADV_HUGEPAGE);  // a sort writes to 256 places in turn; a refusal only costs speed
    return (uint32_t*)p;
}

// One thread: block after block becomes a run.
static void* sort_blocks(void* argument) {
    Job* job = (Job*)argument;
    uint32_t *keys = key_buffer(job->block), *scratch = key_buffer(job->block);
    for (;;) {
        pthread_mutex_lock(&job->source_lock);
        size_t n = source_next(&job->source, keys, (size_t)job->block);
        tool_progress_show(&job->progress, (double)job->source.done);
        pthread_mutex_unlock(&job->source_lock);
        if (n == 0) break;
        sort_keys(keys, scratch, n);
        size_t size = encode_keys(keys, n, (uint8_t*)scratch);
        pthread_mutex_lock(&job->store_lock);
        runs_add(&job->store, (uint8_t*)scratch, size);
        pthread_mutex_unlock(&job->store_lock);
    }
    free(keys);
    free(scratch);
    return NULL;
}

// Moves the finished row into the table and empties it.
static void row_finish(TopRow* r, TopTable* t) {
    uint64_t kept = 0;
    if (r->prev < 0) return;
    for (int j = 0; j < r->used; j++) kept += r->counts[j];
    for (int j = 0; j < r->used; j++) {
        size_t at = (size_t)r->prev * (size_t)t->K + (size_t)j;
        t->ids[at] = r->ids[j];
        t->probs[at] = (float)((double)r->counts[j] / (double)kept);
    }
    t->p_top[r->prev] = (float)((double)kept / (double)r->total);
    t->row_counts[r->prev] = r->total;
    t->pairs += r->total;
    r->kept += kept;
    r->total = 0;
    r->used = 0;
}

// Ids come in order, so among equal counts the smaller id stays in front.
static void row_add(TopRow* r, int32_t id, uint64_t count) {
    r->total += count;
    r->distinct++;
    if (r->used == r->K && count <= r->counts[r->K - 1]) return;
    int j = r->used < r->K ? r->used++ : r->K - 1;
    for (; j > 0 && r->counts[j - 1] < count; j--) {
        r->counts[j] = r->counts[j - 1];
        r->ids[j] = r->ids[j - 1];
    }
    r->counts[j] = count;
    r->ids[j] = id;
}

// Merges all runs into the rows of the table.
static TopRow fill_table(Job* job, TopTable* table) {
    TopRow row = {table->K, 0, NULL, NULL, 0, -1, 0, 0};
    uint32_t key;
    uint64_t count;
    row.counts = (uint64_t*)xmalloc((size_t)table->K * sizeof(uint64_t));
    row.ids = (int32_t*)xmalloc((size_t)table->K * sizeof(int32_t));
    job->progress = tool_progress_start("ids", 1, job->source.V, "merging");
    RunMerge merge = runs_merge(&job->store);
    while (merge_next(&merge, &key, &count)) {
        int prev = (int)(key >> 16);
        if (prev != row.prev) {
            row_finish(&row, table);
            row.prev = prev;
            tool_progress_show(&job->progress, prev);
        }
        row_add(&row, (int32_t)(key & 65535), count);
    }
    row_finish(&row, table);
    merge_free(&merge);
    free(row.counts);
    free(row.ids);
    return row;
}

// Directory of a file, for its temporary neighbours.
static char* directory_of(const char* path) {
    const char* slash = strrchr(path, '/');
    Text t = {0, 0, 0};
    text_add(&t, "%.*s", slash == path ? 1 : slash ? (int)(slash - path) : 1, slash ? path : ".");
    return t.data;
}

// Splits the memory: half to sort in, half for runs; no more than the text needs.
static void job_start(Job* job, int memory, int threads, const char* temp_dir) {
    uint64_t bytes = (uint64_t)memory << 20, fair = job->source.pairs / (uint64_t)threads + 1;
    job->block = bytes / 2 / (uint64_t)threads / (2 * sizeof(uint32_t));
    if (job->block > fair) job->block = fair;
    if (job->block > UINT32_MAX) job->block = UINT32_MAX;
    job->store = runs_start(bytes / 2, temp_dir);
    job->progress = tool_progress_start("M tokens", 1e6, (double)job->source.pairs, "counting");
    pthread_mutex_init(&job->source_lock, NULL);
    pthread_mutex_init(&job->store_lock, NULL);
}

int main(int argc, char** argv) {
    Options o;
    FlagTable flags = options_table(&o);
    char** patterns = (char**)xmalloc((size_t)argc * sizeof(char*));
    Job job;
    memset(&job, 0, sizeof job);
    tool_help(&flags, argc, argv, "\"SHARDS_*.bin\"... --out FILE",
              "Counts which token follows which in training shards and keeps the most frequent followers of each.");
    int count = tool_take_words(&flags, &argc, argv, patterns);
    flags_parse(&flags, argc, argv);
    if (!*o.out) usage_error("--out is missing: name the file to write, e.g. --out data/mine.ngram");
    if (count == 0) usage_error("no shards are named: %s \"data/mine_train_*.bin\" --out %s", argv[0], o.out);
    if (o.k > o.vocab_size) usage_error("--k is %d, but there are only %d ids; lower it", o.k, o.vocab_size);

    double start = tool_seconds();
    job.source.V = o.vocab_size;
    for (int i = 0; i < count; i++) source_add(&job.source, patterns[i]);
    source_check(&job.source);
    tool_keep_other_files(o.out, TABLE_MAGIC, "a table");
    tool_catch_signals();
    NewFile file;
    new_file_open(&file, o.out);  // now: a directory that is missing is told before the work
    char* temp_dir = *o.tmp ? text_copy(o.tmp) : directory_of(o.out);
    close(temp_file(temp_dir));

    int threads = tool_threads(o.threads);
    job_start(&job, o.memory, threads, temp_dir);
    tool_run_threads(threads, sort_blocks, &job);
    tool_progress_clear(&job.progress);
    double sorted = tool_seconds();
    TopTable table = top_table_alloc(TABLE_BIGRAM, o.vocab_size, o.k);
    TopRow row = fill_table(&job, &table);
    tool_progress_clear(&job.progress);
    table.shards = job.source.count;
    if (table.pairs != job.source.pairs)
        fail("counted %llu pairs of %llu: this is a bug; please report it", (unsigned long long)table.pairs,
             (unsigned long long)job.source.pairs);
    top_table_write(&file, &table);

    double end = tool_seconds(), tokens = (double)job.source.tokens;
    printf("%s: %llu tokens in %d shards, %llu pairs, %llu of them distinct; the first %d of each id cover %.1f %%\n", o.out,
           (unsigned long long)job.source.tokens, table.shards, (unsigned long long)table.pairs, (unsigned long long)row.distinct,
           o.k, 100.0 * (double)row.kept / (double)table.pairs);
    printf("%.1f s (%.1f M tokens/s): %.1f sorting with %d threads, %.1f merging; %.1f MB through temporary files\n", end - start,
           1e-6 * tokens / (end - start > 1e-3 ? end - start : 1e-3), sorted - start, threads, end - sorted,
           1e-6 * (double)job.store.written);
    runs_free(&job.store);
    top_table_free(&table);
    for (int i = 0; i < job.source.count; i++) free(job.source.paths[i]);
    free(job.source.paths);
    free(temp_dir);
    free(patterns);
    flags_free(&flags);
    return 0;
}
