/*
What a factorised vocabulary saves: forward and backward of the dense head and of the lightrnn head with each of its decoders
(head_lightrnn.cuh, light_tables.cuh), and a whole training step, for 50257 tokens. All cases of a width take turns in one loop,
because a machine that others use changes more between two loops than the cases differ; the best times are then compared with
those of the dense head.

    head, N x C    N positions, width C: 6 N C 50257 floating-point operations with a dense head, 6 N C (R + K) with rows and
                   columns; a shared decoder's rows meet its columns once a micro-step, 6 R C (C + K), and a rank of 8 adds
                   6 N 8 (C + K)
    16 words       the same with n-grams as words (--cocont_mass exact): the 16 likeliest followers of each token, drawn from the
                   same law, are targets, too, and a position has as many items as rows they are in
    step, d6       6 layers x 384: forward, loss, backward and AdamW on 1024 positions

    sequential     per row, the table in the order of the ids: 224 rows of 225
    frequency      the most frequent tokens share the first rows: fewer rows are hit, each by more positions. As the others'

Tokens are drawn from Zipf's law, 1 / (rank + 2.7), with a fixed seed. As in a vocabulary of merges an id says how frequent its
token is, but not exactly: ids are in the order of ln(rank + 1) + a normal deviate.

A head is given in percent of the ceiling of products on its own operations, and of what arithmetic and memory allow together
(the update ceiling of bench.h): Wc is as large as a dense head's matrix, and of every row that is hit the weights are read and
the gradients read and written once, whatever few positions they serve. The ceiling is the median of tile loops run between the
cases, so that a neighbour slows down both. At 1024 positions the bytes alone take as long as the
arithmetic; the two cases of 4096 show a usual micro-batch, without the dense head, which takes ten seconds there.
*/
#include "../../llmc/model/setup.cuh"
#include "bench.h"

enum { V = 50257, COLUMNS = 225, STEP_POSITIONS = 1024, LEAST_REPEATS = 3, RANK = 8, FOLLOWERS = 16 };

typedef struct {
    const char* name;
    bool light, both;  // the head; the embedding, too
    LightDecoder decoder;
    int book, followers;
} BenchCase;
static const BenchCase HEADS[] = {{"dense", false, false, DECODER_PER_ROW, 0, 0},
                                  {"per row, sequential", true, true, DECODER_PER_ROW, 0, 0},
                                  {"per row, frequency", true, true, DECODER_PER_ROW, 1, 0},
                                  {"shared", true, true, DECODER_SHARED, 1, 0},
                                  {"rank 8", true, true, DECODER_LOWRANK, 1, 0},
                                  {"per row, 16 words", true, true, DECODER_PER_ROW, 1, FOLLOWERS},
                                  {"shared, 16 words", true, true, DECODER_SHARED, 1, FOLLOWERS},
                                  {"rank 8, 16 words", true, true, DECODER_LOWRANK, 1, FOLLOWERS}};
static const BenchCase STEPS[] = {{"dense, tied", false, false, DECODER_PER_ROW, 0, 0},
                                  {"per row, head alone", true, false, DECODER_PER_ROW, 1, 0},
                                  {"per row, both ends", true, true, DECODER_PER_ROW, 1, 0},
                                  {"shared, both ends", true, true, DECODER_SHARED, 1, 0},
                                  {"rank 8, both ends", true, true, DECODER_LOWRANK, 1, 0}};
enum { CASES = sizeof(HEADS) / sizeof(HEADS[0]), STEP_CASES = sizeof(STEPS) / sizeof(STEPS[0]) };

typedef struct {
    int* id_of;    // (V): the token of a rank
    double* sums;  // (V): probability of the ranks up to this one
} Zipf;

static const double* zipf_keys;
static int by_key(const void* a, const void* b) {
    double x = zipf_keys[*(const int*)a], y = zipf_keys[*(const int*)b];
    return (x > y) - (x < y);
}

static Zipf zipf_start(void) {
    Zipf z = {(int*)xmalloc(V * sizeof(int)), (double*)xmalloc(V * sizeof(double))};
    int* rank_of = (int*)xmalloc(V * sizeof(int));
    float* noise = (float*)xmalloc(V * sizeof(float));
    double *keys = (double*)xmalloc(V * sizeof(double)), sum = 0;
    rand_fill_normal(noise, V, 1.0f, rand_key(1, "bench_lightrnn"));
    for (int r = 0; r < V; r++) {
        z.sums[r] = sum += 1 / (r + 2.7);
        keys[r] = log(r + 1.0) + (double)noise[r], rank_of[r] = r;
    }
    zipf_keys = keys;
    qsort(rank_of, V, sizeof(int), by_key);
    for (int id = 0; id < V; id++) z.id_of[rank_of[id]] = id;
    for (int r = 0; r < V; r++) z.sums[r] /= sum;
    free(rank_of), free(noise), free(keys);
    return z;
}

static void zipf_tokens(const Zipf* z, int* tokens, int n) {
    Rng rng = rng_start(2, "bench_lightrnn");
    for (int i = 0; i < n; i++) {
        double u = rng_uniform(&rng);
        int low = 0, high = V - 1;
        while (low < high) {
            int middle = (low + high) / 2;
            if (z->sums[middle] < u) low = middle + 1;
            else high = middle;
        }
        tokens[i] = z->id_of[low];
    }
}

static void open_bench(Model* m, const BenchCase* k, const Codebook* books, int L, int C, int N) {
    Config c = {};
    c.L = L, c.NH = C / 64, c.C = C, c.V = V, c.B = N / 256, c.T = 256;
    c.tied = !k->light || k->decoder == DECODER_SHARED;
    if (k->light) {
        c.head = HEAD_LIGHTRNN, c.embedding = k->both ? EMBEDDING_LIGHTRNN : EMBEDDING_DENSE, c.book = books[k->book];
        c.decoder = k->decoder, c.light_rank = k->decoder == DECODER_LOWRANK ? RANK : 0;
    }
    c.aux.table_k[0] = k->followers, c.aux.exact = k->followers > 0;
    config_arch(&c, "nocap");
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_plan_shape(m, c.B, c.T);
    model_init_weights(m, 1);
}

// The followers of every token, and a tenth of the target for them.
static void use_followers(Model* m, const Zipf* z) {
    if (!m->config.aux.exact) return;
    Smoothing s[SOFT_TABLES] = {};
    s[0].table = top_table_alloc(TABLE_BIGRAM, V, FOLLOWERS);
    zipf_tokens(z, s[0].table.ids, V * FOLLOWERS);
    for (int i = 0; i < V * FOLLOWERS; i++) s[0].table.probs[i] = 1.0f / FOLLOWERS;
    smoothing_upload(s, m);
    StepWeights weights = {};
    weights.token[0] = 1.0f, weights.table[0] = 0.1f;
    targets_start(m, weights);
}

static int rows_hit(const Codebook* book, const int* targets, int n) {
    uint8_t* hit = (uint8_t*)xcalloc((size_t)book->rows);
    int count = 0;
    for (int i = 0; i < n; i++) {
        uint8_t* row = &hit[book->row[targets[i]]];
        if (!*row) count++;
        *row = 1;
    }
    free(hit);
    return count;
}

// flops, bytes: of a head; 0 for a step. ceiling: of products, GFLOP/s, while it ran
static void say(const char* what, const char* name, Timing t, double flops, double bytes, double dense, double ceiling) {
    char share[96] = "", times[48] = "";
    double arithmetic = flops * 1e-9 / ceiling, memory = bytes * 1e-9 / bench_ceilings.update;
    if (flops > 0) {
        snprintf(share, sizeof(share), "%6.1f GFLOP/s: %4.1f %% of products, %5.1f %% of both", flops / t.best * 1e-9,
                 100 * arithmetic / t.best, 100 * (arithmetic + memory) / t.best);
    }
    if (dense > 0) snprintf(times, sizeof(times), "%6.2f times the dense speed", dense / t.best);
    printf("%-20s %-22s %9.2f ms %9.2f ms   %-28s  %s\n", what, name, t.best * 1e3, t.median * 1e3, times, share);
    fflush(stdout);
}

// Operations of a head on N positions, forward and backward, and bytes of the weights that they meet. Of the words of n-grams
// nothing is counted: their rate is that of the same work without them.
typedef struct {
    double flops, bytes;
} HeadWork;

static HeadWork head_work(const BenchCase* k, const Codebook* book, int hit, double N, double C) {
    double R = book->rows, K = book->columns, cells = k->light ? hit * K : (double)V, both = C * (R + K);
    HeadWork w = {6 * N * C * (k->light ? R + K : (double)V), 12 * cells * C};
    if (k->decoder == DECODER_SHARED) w.flops += 6 * R * C * (C + K), w.bytes = 12 * (both + C * C);
    if (k->decoder == DECODER_LOWRANK) w.flops += 6 * N * RANK * (C + K), w.bytes = 12 * (both + RANK * hit * (C + K));
    return w;
}

// A head alone: cases begin .. end - 1 in turn. Times are compared with the dense head if that is among them.
static void bench_head(const Zipf* z, const Codebook* books, int N, int C, int begin, int end, int repeats) {
    static double seconds[CASES][BENCH_MAX_REPEATS], rates[CASES * BENCH_MAX_REPEATS];
    Model models[CASES];
    int measured = 0;
    int* tokens = (int*)xmalloc((size_t)(N + 1) * sizeof(int));
    zipf_tokens(z, tokens, N + 1);
    for (int k = begin; k < end; k++) {
        open_bench(&models[k], &HEADS[k], books, 1, C, N);
        use_followers(&models[k], z);
        for (size_t i = 0; i < (size_t)N * C; i++) from_float(&models[k].yf[i], 0.001f * (float)(i * 7919 % 2001) - 1.0f);
    }
    Micro micro = {tokens, NULL, N / 256, 256, true};
    for (int i = -1; i < repeats; i++) {
        for (int k = begin; k < end; k++) {
            Model* m = &models[k];
            double start = bench_now();
            head_loss(m, &micro, training_targets(m, &micro), 1.0f / (float)N, true);
            if (i < 0) continue;
            seconds[k][i] = bench_now() - start;
            rates[measured++] = bench_multiply();
        }
    }
    char what[32];
    snprintf(what, sizeof(what), "head, %d x %d", N, C);
    double dense = 0, ceiling = bench_timing(rates, measured).median;
    for (int k = begin; k < end; k++) {
        Timing t = bench_timing(seconds[k], repeats);
        const Codebook* book = &books[HEADS[k].book];
        if (!k) dense = t.best;
        HeadWork w = head_work(&HEADS[k], book, rows_hit(book, tokens + 1, N), N, C);
        say(what, HEADS[k].name, t, w.flops, w.bytes, dense, ceiling);
        model_free(&models[k]);
    }
    free(tokens);
}

// Whole steps. The lightrnn head with a dense embedding has more parameters than the tied dense model.
static void bench_steps(const Zipf* z, const Codebook* books, int repeats) {
    static double seconds[STEP_CASES][BENCH_MAX_REPEATS];
    enum { N = STEP_POSITIONS };
    Model models[STEP_CASES];
    int tokens[N + 1], order[N], at = 0;
    zipf_tokens(z, tokens, N + 1);
    for (int v = 0; v < V; v++) {
        for (int n = 0; n < N; n++) {
            if (tokens[n] == v) order[at++] = n;
        }
    }
    for (int k = 0; k < STEP_CASES; k++) open_bench(&models[k], &STEPS[k], books, 6, 384, N);
    Micro micro = {tokens, order, N / 256, 256, false};
    StepInputs in = {};
    in.lr = 1e-4f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f;
    for (int k = 0; k < STEP_LOSSES; k++) in.loss_factor[k] = 1.0f / N;
    StepWeights weights = {};
    weights.token[0] = 1.0f;
    for (int i = -1; i < repeats; i++) {
        for (int k = 0; k < STEP_CASES; k++) {
            double start = bench_now();
            model_micro_step(&models[k], &micro, 1);
            model_update(&models[k], in, weights);
            if (i >= 0) seconds[k][i] = bench_now() - start;
        }
    }
    double dense = 0;
    for (int k = 0; k < STEP_CASES; k++) {
        Timing t = bench_timing(seconds[k], repeats);
        if (!k) dense = t.best;
        say("step, d6", STEPS[k].name, t, 0, 0, dense, 1);
        model_free(&models[k]);
    }
}

int main(int argc, char** argv) {
    int repeats = argc > 1 ? atoi(argv[1]) : LEAST_REPEATS;
    if (repeats < LEAST_REPEATS || repeats > BENCH_MAX_REPEATS) usage_error("repeats: %d..%d", LEAST_REPEATS, BENCH_MAX_REPEATS);
    bench_begin("factorised vocabulary");
    Zipf z = zipf_start();
    Codebook books[2] = {codebook_sequential(V, COLUMNS), codebook_from_order(V, COLUMNS, z.id_of)};
    static const int widths[] = {256, 384, 768};
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) bench_head(&z, books, 1024, widths[i], 0, CASES, repeats);
    bench_head(&z, books, 4096, 768, 1, 3, repeats);
    bench_steps(&z, books, repeats);
    free(z.id_of), free(z.sums);
    codebook_free(&books[0]), codebook_free(&books[1]);
    return 0;
}
