/*
What a factorised vocabulary saves: forward and backward of the dense head and of the lightrnn head (head_lightrnn.cuh), and a
whole training step with either, for 50257 tokens. All cases of a width take turns in one loop, because a machine that others
use changes more between two loops than the cases differ; the best times are then compared with those of the dense head.

    head, N x C    N positions, width C: 6 N C 50257 floating-point operations with a dense head, 6 N C (R + K) with rows and
                   columns
    step, d6       6 layers x 384: forward, loss, backward and AdamW on 1024 positions

    sequential     the table in the order of the ids: 224 rows of 225
    frequency      the most frequent tokens share the first rows: fewer rows are hit, each by more positions

Tokens are drawn from Zipf's law, 1 / (rank + 2.7), with a fixed seed. As in a vocabulary of merges an id says how frequent its
token is, but not exactly: ids are in the order of ln(rank + 1) + a normal deviate.

A head is given in percent of the ceiling of products on its own operations, and of what arithmetic and memory allow together
(the update ceiling of bench.h): Wc is as large as a dense head's matrix, and of every row that is hit the weights are read and
the gradients read and written once, whatever few positions they serve. The ceiling is the median of tile loops run between the
cases, so that a neighbour slows down both. At 1024 positions the bytes alone take as long as the arithmetic.
*/
#include "../../llmc/model/setup.cuh"
#include "bench.h"

enum { V = 50257, COLUMNS = 225, STEP_POSITIONS = 1024, CASES = 3, LEAST_REPEATS = 3 };

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

static void open_bench(Model* m, Config c, int B, int T) {
    c.V = V, c.B = B, c.T = T;
    config_arch(&c, "nocap");
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_plan_shape(m, B, T);
    model_init_weights(m, 1);
}

// The same weights with another codebook of the same shape.
static void use_book(Model* m, const Codebook* book) {
    if (m->config.head != HEAD_LIGHTRNN) return;
    m->config.book = *book;
    cells_upload(m);
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
    char share[96] = "";
    double arithmetic = flops * 1e-9 / ceiling, memory = bytes * 1e-9 / bench_ceilings.update;
    if (flops > 0) {
        snprintf(share, sizeof(share), "%6.1f GFLOP/s: %4.1f %% of products, %5.1f %% of both", flops / t.best * 1e-9,
                 100 * arithmetic / t.best, 100 * (arithmetic + memory) / t.best);
    }
    printf("%-20s %-22s %9.2f ms %9.2f ms   %6.2f times the dense speed  %s\n", what, name, t.best * 1e3, t.median * 1e3,
           dense / t.best, share);
    fflush(stdout);
}

static const char* const CASE_NAMES[CASES] = {"dense", "lightrnn, sequential", "lightrnn, frequency"};

// A head alone: dense and both tables in turn.
static void bench_head(const Zipf* z, const Codebook* books, int N, int C, int repeats) {
    static double seconds[CASES][BENCH_MAX_REPEATS], rates[CASES * BENCH_MAX_REPEATS];
    Model models[2];
    int B = N / 256, *tokens = (int*)xmalloc((size_t)(N + 1) * sizeof(int));
    zipf_tokens(z, tokens, N + 1);
    for (int i = 0; i < 2; i++) {
        Config c = {};
        c.L = 1, c.NH = C / 64, c.C = C, c.tied = !i;
        if (i) c.head = HEAD_LIGHTRNN, c.embedding = EMBEDDING_LIGHTRNN, c.book = books[0];
        open_bench(&models[i], c, B, 256);
        for (size_t k = 0; k < (size_t)N * C; k++) from_float(&models[i].yf[k], 0.001f * (float)(k * 7919 % 2001) - 1.0f);
    }
    Micro micro = {tokens, NULL, B, 256, true};
    for (int i = -1; i < repeats; i++) {
        for (int k = 0; k < CASES; k++) {
            Model* m = &models[k > 0];
            use_book(m, &books[k > 1]);
            double start = bench_now();
            head_loss(m, &micro, training_targets(m, &micro), 1.0f / (float)N, true);
            if (i < 0) continue;
            seconds[k][i] = bench_now() - start;
            rates[i * CASES + k] = bench_multiply();
        }
    }
    char what[32];
    snprintf(what, sizeof(what), "head, %d x %d", N, C);
    double dense = 0, ceiling = bench_timing(rates, CASES * repeats).median;
    for (int k = 0; k < CASES; k++) {
        Timing t = bench_timing(seconds[k], repeats);
        const Codebook* book = &books[k > 1];
        if (!k) dense = t.best;
        double cells = k ? (double)rows_hit(book, tokens + 1, N) * book->columns : (double)V;
        say(what, CASE_NAMES[k], t, 6.0 * N * C * (k ? book->rows + book->columns : V), 12 * cells * C, dense, ceiling);
    }
    for (int i = 0; i < 2; i++) model_free(&models[i]);
    free(tokens);
}

// Whole steps. The lightrnn head with a dense embedding has more parameters than the tied dense model.
static void bench_steps(const Zipf* z, const Codebook* book, int repeats) {
    static double seconds[CASES][BENCH_MAX_REPEATS];
    static const char* const names[CASES] = {"dense, tied", "lightrnn head", "lightrnn, both ends"};
    enum { N = STEP_POSITIONS };
    Model models[CASES];
    int tokens[N + 1], order[N], at = 0;
    zipf_tokens(z, tokens, N + 1);
    for (int v = 0; v < V; v++) {
        for (int n = 0; n < N; n++) {
            if (tokens[n] == v) order[at++] = n;
        }
    }
    for (int k = 0; k < CASES; k++) {
        Config c = {};
        c.L = 6, c.NH = 6, c.C = 384, c.tied = !k;
        if (k) c.head = HEAD_LIGHTRNN, c.book = *book;
        if (k > 1) c.embedding = EMBEDDING_LIGHTRNN;
        open_bench(&models[k], c, N / 256, 256);
    }
    Micro micro = {tokens, order, N / 256, 256, false};
    StepInputs in = {};
    in.lr = 1e-4f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f;
    for (int k = 0; k < STEP_LOSSES; k++) in.loss_factor[k] = 1.0f / N;
    StepWeights weights = {};
    weights.token[0] = 1.0f;
    for (int i = -1; i < repeats; i++) {
        for (int k = 0; k < CASES; k++) {
            double start = bench_now();
            model_micro_step(&models[k], &micro, 1);
            model_update(&models[k], in, weights);
            if (i >= 0) seconds[k][i] = bench_now() - start;
        }
    }
    double dense = 0;
    for (int k = 0; k < CASES; k++) {
        Timing t = bench_timing(seconds[k], repeats);
        if (!k) dense = t.best;
        say("step, d6", names[k], t, 0, 0, dense, 1);
        model_free(&models[k]);
    }
}

int main(int argc, char** argv) {
    int repeats = argc > 1 ? atoi(argv[1]) : 7;
    if (repeats < LEAST_REPEATS || repeats > BENCH_MAX_REPEATS) usage_error("repeats: %d..%d", LEAST_REPEATS, BENCH_MAX_REPEATS);
    bench_begin("factorised vocabulary");
    Zipf z = zipf_start();
    Codebook books[2] = {codebook_sequential(V, COLUMNS), codebook_from_order(V, COLUMNS, z.id_of)};
    static const int widths[] = {256, 384, 768, 1024};
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) bench_head(&z, books, 1024, widths[i], repeats);
    bench_head(&z, books, 4096, 768, LEAST_REPEATS);
    bench_steps(&z, &books[1], repeats);
    free(z.id_of), free(z.sums);
    codebook_free(&books[0]), codebook_free(&books[1]);
    return 0;
}
