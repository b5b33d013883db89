/*
The fused classifier against recorded tensors and against a double loop: class counts that leave every kind of remainder, one to
64 targets that coincide or are absent, extreme and broken logits, the views and flags it is called with.
*/
#include "buffer.h"
#include "child.h"
#include "gold.h"

#include "llmc/ops/classifier.cuh"

enum { LIST_MAX = 64 };

// A problem and its results. ids and weights are (N,K) here; the kernel may be given another view of the same list.
typedef struct {
    int N, V, Vp, K;
    const float *logits, *weights;  // (N,Vp) as stored in floatX, (N,K): host
    const int* ids;                 // (N,K): host
    float scale, loss_scale;
} Problem;

typedef struct {
    floatX* logits;  // (N,Vp): dlogits with gradient
    float* losses;   // (K,N)
} Result;

static Targets list_view(const Problem* p) {
    size_t n = (size_t)p->N * p->K;
    return targets_list(buffer_i(p->ids, n), buffer_f(p->weights, n), p->K, p->K, 1, p->K);
}

// losses_before (K,N): added to; NULL: losses are stored over NaN.
static Result run(const Problem* p, Targets targets, bool gradient, const float* losses_before) {
    Result r = {buffer_x(p->logits, (size_t)p->N * p->Vp), buffer_f(losses_before, (size_t)p->K * p->N)};
    classifier(r.logits, r.losses, p->N, targets, p->scale, buffer_f(&p->loss_scale, 1), p->N, p->V, p->Vp, gradient,
               losses_before != NULL, 0);
    return r;
}

// Logits ~ 3 normal, padded columns NaN: they must not count, and must not survive. ids: a fifth absent, neighbours often equal;
// row 0 all absent, row 1 all the last class. Weights in (-1,1), some 0.
static Problem make(int N, int V, int Vp, int K) {
    float *logits = normal_values("logits", (size_t)N * Vp, 3.0f), *weights = host_values((size_t)N * K);
    int* ids = (int*)host_values((size_t)N * K);
    Rng rng = rng_start((uint64_t)V * 100 + (uint64_t)K, "classifier");
    for (int r = 0; r < N; r++) {
        for (int v = V; v < Vp; v++) logits[(size_t)r * Vp + v] = NAN;
        for (int k = 0; k < K; k++) {
            int i = r * K + k;
            ids[i] = rng_below(&rng, 5) == 0            ? -1
                     : k > 0 && rng_below(&rng, 3) == 0 ? ids[i - 1]
                                                        : (int)rng_below(&rng, (uint64_t)V);
            weights[i] = rng_below(&rng, 8) == 0 ? 0.0f : 2.0f * rng_uniform(&rng) - 1.0f;
            if (r < 2) ids[i] = r ? V - 1 : -1;
        }
    }
    return (Problem){N, V, Vp, K, logits, weights, ids, 0.25f, 64.0f};
}

// Gradients and losses of row r against the definition. CHAIN: what a sum of exponentials loses per term if it is one long chain
// (a DEBUG build); with vectors it loses a small part of that.
static const double CHAIN = 2e-9;
static void check_row(const Problem* p, const float* dlogits, const float* losses, int r) {
    const float *z = p->logits + (size_t)r * p->Vp, *dz = dlogits + (size_t)r * p->Vp;
    const int* ids = p->ids + (size_t)r * p->K;
    const float* weights = p->weights + (size_t)r * p->K;
    double max = -INFINITY, sum = 0, W = 0, size = 0, total = 0, magnitude = 0, dscale = (double)p->scale * p->loss_scale;
    for (int v = 0; v < p->V; v++) max = fmax(max, z[v]);
    for (int v = 0; v < p->V; v++) sum += exp(z[v] - max);
    double lse = max + log(sum);
    for (int k = 0; k < p->K; k++) {
        bool present = ids[k] >= 0;
        double want = present ? lse - z[ids[k]] : 0;
        if (present) W += weights[k], size += fabs(weights[k]);
        double allowed = present ? 4e-6 + CHAIN * p->V + 2.5e-7 * (fabs(lse) + fabs(z[ids[k]])) : 0;
        assert_off(losses[(size_t)k * p->N + r], want, allowed, "V %d, row %d: loss of entry %d (id %d)", p->V, r, k, ids[k]);
    }
    for (int v = 0; v < p->V; v++) {
        double here = 0, prob = exp(z[v] - lse), own = 0;
        for (int k = 0; k < p->K; k++) {
            if (ids[k] == v) here += weights[k], own += fabs(weights[k]);
        }
        double want = dscale * (W * prob - here), allowed = dscale * ((5e-6 + CHAIN * p->V) * size * prob + 3e-7 * own);
        assert_close(dz[v], want, allowed, "V %d, K %d, row %d: gradient of class %d", p->V, p->K, r, v);
        total += dz[v], magnitude += fabs(dz[v]);
    }
    assert_off(total, 0, 2 * STORE_ERROR * magnitude + STORE_FLOOR * p->V + (5e-6 + CHAIN * p->V) * dscale * size,
               "V %d, row %d: sum of gradients", p->V, r);
    for (int v = p->V; v < p->Vp; v++) assert_true(dz[v] == 0.0f);
}

static void check(const Problem* p) {
    Targets targets = list_view(p);
    Result r = run(p, targets, true, NULL);
    const float *dlogits = host_x(r.logits, (size_t)p->N * p->Vp), *losses = host_f(r.losses, (size_t)p->K * p->N);
    for (int n = 0; n < p->N; n++) check_row(p, dlogits, losses, n);
    // without gradient: the logits stay as they were, the losses are the same
    Result only = run(p, targets, false, NULL);
    assert_true(same_bits(only.losses, r.losses, p->K * p->N));
    assert_true(same_bits(only.logits, buffer_x(p->logits, (size_t)p->N * p->Vp), (size_t)p->N * p->Vp));
    // accumulated: added to what was there, the gradient as before
    const float* before = normal_values("losses", (size_t)p->K * p->N, 10.0f);
    Result more = run(p, targets, true, before);
    const float* sums = host_f(more.losses, (size_t)p->K * p->N);
    for (int i = 0; i < p->K * p->N; i++) {
        const float* z = p->logits + (size_t)(i % p->N) * p->Vp;
        double largest = 0;  // lse and the logit are rounded at the size of the logits
        for (int v = 0; v < p->V; v++) largest = isfinite(z[v]) ? fmax(largest, fabs(z[v])) : largest;
        double allowed = 4e-6 * (1 + fabs(before[i]) + fabs(losses[i])) + 2.5e-7 * largest;
        assert_off(sums[i], (double)before[i] + losses[i], allowed, "V %d: accumulated loss %d", p->V, i);
    }
    assert_true(same_bits(more.logits, r.logits, (size_t)p->N * p->Vp));
}

// ---------------------------------------------------------------------------------------------------------------------
static void check_golden(const char* name) {
    Gold* g = gold_open(name);
    Problem p = {gold_int(g, "N"),
                 gold_int(g, "V"),
                 gold_int(g, "Vp"),
                 gold_int(g, "K"),
                 gold_floats(g, "logits"),
                 gold_floats(g, "weights"),
                 gold_ints(g, "ids"),
                 1.0f,
                 1.0f};
    Result r = run(&p, list_view(&p), true, NULL);
    const float* losses = host_f(r.losses, (size_t)p.N * p.K);
    float *entries = host_values((size_t)p.N * p.K), *sums = host_values((size_t)p.N);
    for (int n = 0; n < p.N; n++) {
        double sum = 0;
        for (int k = 0; k < p.K; k++) {
            entries[n * p.K + k] = losses[k * p.N + n];
            if (p.ids[n * p.K + k] >= 0) sum += (double)p.weights[n * p.K + k] * losses[k * p.N + n];
        }
        sums[n] = (float)sum;
    }
    gold_check(g, "entries", entries, PRECISION);
    gold_check(g, "losses", sums, PRECISION);
    gold_check(g, "dlogits", host_x(r.logits, (size_t)p.N * p.Vp), PRECISION);
    gold_close(g);
}

static void golden_classifier(void** state) {
    const char* names[] = {"v1_k1",   "v7_k2",   "v8_k3", "v9_k8", "v17_k2", "v225_k3",
                           "v259_k1", "v259_k8", "huge",  "equal", "vector", "dominating"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char name[64];
        snprintf(name, sizeof(name), "classifier_%s", names[i]);
        check_golden(name);
    }
}

static void class_counts(void** state) {
    const int counts[] = {1, 7, 8, 9, 17, 225, 259};
    for (int i = 0; i < 7; i++) {
        for (int K = 1; K <= 8; K++) {
            int V = counts[i], Vp = (V + 7) / 8 * 8 + (K % 3) * 8;  // also whole packs of padding
            Problem p = make(7, V, Vp, K);
            check(&p);
            assert_int_equal(release_buffers(state), 0);
        }
    }
    const int wide[][3] = {{2, 50264, 1}, {3, 50304, 4}, {2, 50432, 8}, {3, 264, LIST_MAX}};  // N, Vp, K
    for (int i = 0; i < 4; i++) {
        Problem p = make(wide[i][0], wide[i][1] > 264 ? 50257 : 259, wide[i][1], wide[i][2]);
        check(&p);
        assert_int_equal(release_buffers(state), 0);
    }
}

// An entry of weight 0 moves no gradient: same bits as an absent one, and as a list without it.
static void weight_zero_is_absent(void** state) {
    enum { N = 9, V = 259, VP = 264, K = 3 };
    (void)state;
    Problem p = make(N, V, VP, K), absent = p, shorter = p;
    int *ids = (int*)host_values(N * K), *gone = (int*)host_values(N * K), *first = (int*)host_values(N);
    float *weights = host_values(N * K), *first_weights = host_values(N);
    for (int i = 0; i < N * K; i++) {
        ids[i] = i % 7 * 31, weights[i] = i % K ? 0.0f : p.weights[i];
        gone[i] = i % K ? -1 : ids[i];
        if (i % K == 0) first[i / K] = ids[i], first_weights[i / K] = weights[i];
    }
    p.ids = ids, p.weights = absent.weights = weights;
    absent.ids = gone;
    shorter.ids = first, shorter.weights = first_weights, shorter.K = 1;
    Result zero = run(&p, list_view(&p), true, NULL), none = run(&absent, list_view(&absent), true, NULL);
    Result alone = run(&shorter, list_view(&shorter), true, NULL);
    assert_true(same_bits(zero.logits, none.logits, N * VP));
    assert_true(same_bits(zero.logits, alone.logits, N * VP));
    assert_true(same_bits(zero.losses, none.losses, N));
    assert_true(same_bits(zero.losses, alone.losses, N));
    const float *measured = host_f(zero.losses, N * K), *nothing = host_f(none.losses, N * K);
    for (int i = N; i < N * K; i++) assert_true(measured[i] > 0 && nothing[i] == 0);  // a weight of 0 is still measured
}

// Entries that coincide are one entry with the sum of their weights.
static void coinciding_entries_add(void** state) {
    enum { V = 9, VP = 16 };
    (void)state;
    Problem p = make(1, V, VP, 4), q = p;
    const int many[4] = {3, 5, 3, 3}, two[2] = {3, 5};
    const float weights[4] = {0.5f, 1.0f, 0.25f, 0.125f}, sums[2] = {0.875f, 1.0f};
    p.ids = many, p.weights = weights, q.ids = two, q.weights = sums, q.K = 2;
    Result a = run(&p, list_view(&p), true, NULL), b = run(&q, list_view(&q), true, NULL);
    assert_true(same_bits(a.logits, b.logits, VP));
}

// Shifted tokens are a view, and rows of a chunk start inside it: the same bits as the list written out.
static void shifted_view(void** state) {
    enum { N = 23, K = 4, V = 259, VP = 264, CHUNK = 10 };
    (void)state;
    Problem p = make(N, V, VP, K);
    int *tokens = (int*)host_values(N + K), *ids = (int*)host_values(N * K);
    float* weights = host_values(N * K);
    const float shared[K] = {1.0f, 0.1f, 0.05f, 0.2f};
    Rng rng = rng_start(1, "view");
    for (int i = 0; i < N + K; i++) tokens[i] = (int)rng_below(&rng, V);
    for (int i = 0; i < N * K; i++) ids[i] = tokens[i / K + i % K + 1], weights[i] = shared[i % K];
    p.ids = ids, p.weights = weights;
    Result list = run(&p, list_view(&p), true, NULL);
    Targets view = targets_list(buffer_i(tokens, N + K) + 1, buffer_f(shared, K), K, 1, 1, 0);
    Result viewed = run(&p, view, true, NULL);
    assert_true(same_bits(list.logits, viewed.logits, N * VP));
    assert_true(same_bits(list.losses, viewed.losses, N * K));
    floatX* chunk = buffer_x(NULL, CHUNK * VP);
    float *losses = buffer_f(NULL, N * K), *scale = buffer_f(&p.loss_scale, 1);
    for (int row = 0; row < N; row += CHUNK) {
        int rows = N - row < CHUNK ? N - row : CHUNK;
        floatX* logits = buffer_x(p.logits + row * VP, (size_t)rows * VP);
        copy_on_device(chunk, logits, (size_t)rows * VP * sizeof(floatX), 0);
        classifier(chunk, losses + row, N, targets_from(view, row), p.scale, scale, rows, V, VP, true, false, 0);
        assert_true(same_bits(chunk, list.logits + row * VP, rows * VP));
    }
    assert_true(same_bits(losses, list.losses, N * K));
}

// ---------------------------------------------------------------------------------------------------------------------
static void extreme_logits(void** state) {
    const int counts[] = {1, 8, 17, 259, 50257};
    for (int i = 0; i < 5; i++) {
        int V = counts[i], Vp = (V + 7) / 8 * 8;
        Problem p = make(5, V, Vp, 2);
        float* z = (float*)p.logits;
        int* ids = (int*)p.ids;
        for (int v = 0; v < V; v++) {
            z[v] = 3.0f;                                  // all equal
            z[Vp + v] = v == V / 2 ? 9984.0f : -9984.0f;  // one wins, and it is the target
            z[2 * Vp + v] = v == 0 ? 9984.0f : -9984.0f;  // one wins, and it is not
            z[3 * Vp + v] = -9984.0f;
            z[4 * Vp + v] = v % 3 == 1 ? -INFINITY : 1.0f;  // a class that is ruled out
        }
        for (int n = 0; n < 5; n++) ids[2 * n] = n == 1 ? V / 2 : n == 4 ? 0 : V - 1, ids[2 * n + 1] = -1;
        check(&p);
        Result r = run(&p, list_view(&p), true, NULL);
        const float* losses = host_f(r.losses, 10);
        assert_off(losses[0], log(V), 4e-6 + CHAIN * V, "V %d, equal logits", V);
        assert_true(losses[1] == 0.0f);
        assert_int_equal(release_buffers(state), 0);
    }
}

// What is not a number must reach the loss and the gradient of its row, wherever it stands, and no other row.
static void broken_logits(void** state) {
    const float broken[] = {NAN, -NAN, INFINITY, -INFINITY};
    const int counts[] = {1, 9, 259, 50257};
    for (int i = 0; i < 16; i++) {
        int V = counts[i / 4], Vp = (V + 7) / 8 * 8;
        for (int place = 0; place < 3; place++) {
            Problem p = make(3, V, Vp, 1);
            float* z = (float*)p.logits;
            int at = place == 0 ? 0 : place == 1 ? V / 2 : V - 1, ids[3] = {0, 0, 0};
            float weights[3] = {1.0f, 1.0f, 1.0f};
            bool ruled_out = i % 4 == 3;  // -infinity is broken only where everything depends on it
            if (ruled_out) ids[1] = at;
            z[Vp + at] = broken[i % 4];
            p.ids = ids, p.weights = weights;
            Result r = run(&p, list_view(&p), true, NULL);
            const float *losses = host_f(r.losses, 3), *dz = host_x(r.logits, (size_t)3 * Vp);
            if (isfinite(losses[1]))
                fail_msg("V %d: a logit of %f at %d gives the finite loss %f", V, broken[i % 4], at, losses[1]);
            assert_true(isfinite(losses[0]) && isfinite(losses[2]));
            if (!ruled_out) assert_false(isfinite(dz[Vp + at]));
            for (int v = 0; v < V; v++) assert_true(isfinite(dz[v]) && isfinite(dz[2 * Vp + v]));
            assert_int_equal(release_buffers(state), 0);
        }
    }
}

static void threads_agree(void** state) {
    enum { N = 13, V = 259, VP = 264, K = 3 };
    (void)state;
    Problem p = make(N, V, VP, K);
    int threads = device_teams(1);
    device_threads(1);
    Result one = run(&p, list_view(&p), true, NULL);
    for (int many = 2; many <= 20; many += many == 2 ? 1 : 3) {  // the emulation's 2 is forward, 3 reverse, others random
        device_threads(many);
        Result r = run(&p, list_view(&p), true, NULL);
        assert_true(same_bits(one.logits, r.logits, N * VP));
        assert_true(same_bits(one.losses, r.losses, N * K));
    }
    device_threads(threads);
}

static void too_many(const void* argument) {
    (void)argument;
    Targets targets = targets_list(NULL, NULL, MAX_TARGETS + 1, 1, 1, 0);
    classifier(NULL, NULL, 1, targets, 1.0f, NULL, 1, 8, 8, true, false, 0);
}
static void refuses_long_lists(void** state) {
    (void)state;
    assert_int_equal(run_child(too_many, NULL), EXIT_FAIL);
    assert_says("65 targets per position: at most 64");
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(golden_classifier),      TEST(class_counts),  TEST(weight_zero_is_absent),
        TEST(coinciding_entries_add), TEST(shifted_view),  TEST(extreme_logits),
        TEST(broken_logits),          TEST(threads_agree), TEST(refuses_long_lists),
    };
    return cmocka_run_group_tests_name("classifier " PRECISION_NAME, tests, NULL, NULL);
}
