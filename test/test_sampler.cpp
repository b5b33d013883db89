/*
The sampler: what is drawn how often, the cuts of top-k and top-p, and that a resumed run draws on.
*/
#include "child.h"

#include "llmc/io/sampler.h"

static void sampler_distribution(void** state) {
    (void)state;
    enum { N = 8, DRAWS = 80000 };
    const float logits[N] = {1e4f, 1e4f - 1, 1e4f - 2, 1e4f - 0.5f, -INFINITY, 1e4f - 3, 1e4f, 1e4f - 200};
    const double temperatures[] = {1, 0.5, 2};
    for (int k = 0; k < 3; k++) {
        Sampler s = sampler_start(N, 42, temperatures[k], 0, 1);
        double p[N], sum = 0, chi = 0;
        int count[N] = {0};
        for (int i = 0; i < N; i++) sum += p[i] = exp((logits[i] - 1e4) / temperatures[k]);
        for (int i = 0; i < DRAWS; i++) {
            int id = sample_logits(&s, logits, N);
            assert_in_range(id, 0, N - 1);
            count[id]++;
        }
        for (int i = 0; i < N; i++) {
            double expected = p[i] / sum * DRAWS;
            if (expected < 5) assert_true(count[i] < 5);
            else chi += (count[i] - expected) * (count[i] - expected) / expected;
        }
        assert_true(chi < 25);  // 5 degrees of freedom: 25 is exceeded once in 7000 seeds, and the seed is fixed
        assert_int_equal(count[4], 0);
        sampler_free(&s);
    }
}

static void sampler_probs_agree(void** state) {
    (void)state;
    enum { N = 300 };
    float logits[N], probs[N];
    for (int i = 0; i < N; i++) logits[i] = 3 * rand_normal(5, (uint64_t)i), probs[i] = 7 * expf(logits[i]);  // not normalised
    const double top_ps[] = {1, 0.9, 0.5};
    for (int k = 0; k < 9; k++) {
        Sampler a = sampler_start(N, 1, 0.8, k / 3 * 20, top_ps[k % 3]), b = sampler_start(N, 1, 0.8, k / 3 * 20, top_ps[k % 3]);
        for (int i = 0; i < 300; i++) assert_int_equal(sample_logits(&a, logits, N), sample_probs(&b, probs, N));
        sampler_free(&a), sampler_free(&b);
    }
}

static void sampler_cuts(void** state) {
    (void)state;
    enum { N = 50257 };
    float* logits = (float*)xmalloc(N * sizeof(float));
    for (int i = 0; i < N; i++) logits[i] = rand_normal(9, (uint64_t)i);
    logits[40000] = logits[123] = 9, logits[7] = 8.5f, logits[50256] = 8.25f;
    Sampler s = sampler_start(N, 3, 0, 0, 1);
    uint64_t before = s.rng.state;
    assert_int_equal(sample_logits(&s, logits, N), 123);  // temperature 0: the argmax, of equals the lower id
    s.temperature = 50, s.top_k = 1;
    assert_int_equal(sample_logits(&s, logits, N), 123);
    assert_true(s.rng.state == before);
    s.temperature = 1e-30, s.top_k = 0;
    logits[40000] = 8.9999f;
    for (int i = 0; i < 20; i++) assert_int_equal(sample_logits(&s, logits, N), 123);
    bool seen[4] = {false};
    s.temperature = 1e30, s.top_k = 4;
    for (int i = 0; i < 200; i++) {
        int id = sample_logits(&s, logits, N);
        assert_true(id == 123 || id == 40000 || id == 7 || id == 50256);
        seen[id == 123 ? 0 : id == 40000 ? 1 : id == 7 ? 2 : 3] = true;
    }
    assert_true(seen[0] && seen[1] && seen[2] && seen[3]);
    s.top_k = 0, s.top_p = 0.25;  // now all are equally likely: a quarter of them, lowest ids first, and hardly ever the last
    for (int i = 0; i < 100; i++) assert_in_range(sample_logits(&s, logits, N), 0, N / 4 - 2);
    s.temperature = 0.2, s.top_p = 1e-9;
    assert_int_equal(sample_logits(&s, logits, N), 123);
    s.top_p = 0.5;  // weights 1, e^-.0005, e^-2.5, e^-3.75: the first two reach one half
    for (int i = 0; i < 200; i++) {
        int id = sample_logits(&s, logits, N);
        assert_true(id == 123 || id == 40000);
    }
    logits[77] = NAN;
    assert_int_equal(sample_logits(&s, logits, N), -1);
    logits[77] = INFINITY;
    assert_int_equal(sample_logits(&s, logits, N), -1);
    for (int i = 0; i < N; i++) logits[i] = -INFINITY;
    assert_int_equal(sample_logits(&s, logits, N), -1);
    const float bad[] = {0.5f, -0.1f, 0.6f}, none[] = {0, 0, 0}, one[] = {0, 0, 1e-30f};
    assert_int_equal(sample_probs(&s, bad, 3), -1);
    assert_int_equal(sample_probs(&s, none, 3), -1);
    assert_int_equal(sample_probs(&s, one, 3), 2);
    sampler_free(&s);
    free(logits);
}

static void sampler_selection(void** state) {
    (void)state;
    SampleCandidate c[60], sorted[60];
    for (int round = 0; round < 400; round++) {
        int n = 1 + round % 60, k = 1 + round * 7 % n;
        for (int i = 0; i < n; i++) c[i].z = (double)(rand_at(round, i) % 7), c[i].id = i;  // many equals
        memcpy(sorted, c, sizeof(c));
        qsort(sorted, n, sizeof(c[0]), sample_compare);
        sample_select(c, n, k);
        qsort(c, k, sizeof(c[0]), sample_compare);
        for (int i = 0; i < k; i++) assert_int_equal(c[i].id, sorted[i].id);
    }
}

static void sampler_nucleus(void** state) {
    (void)state;
    enum { N = 500 };
    SampleCandidate c[N], sorted[N];
    for (int round = 0; round < 60; round++) {
        double total = 0, top_p = round % 20 / 20.0 + 0.01, sum = 0;
        for (int i = 0; i < N; i++) c[i].z = exp((round / 20 + 1) * rand_normal(round, i)), c[i].id = i, total += c[i].z;
        memcpy(sorted, c, sizeof(c));
        qsort(sorted, N, sizeof(c[0]), sample_compare);
        int expected = 0;
        while (sum < top_p * total) sum += sorted[expected++].z;
        assert_int_equal(sample_nucleus(c, N, total, top_p), expected);
        for (int i = 0; i < expected; i++) assert_int_equal(c[i].id, sorted[i].id);
    }
}

static void sampler_resumes(void** state) {
    (void)state;
    float logits[100];
    for (int i = 0; i < 100; i++) logits[i] = rand_normal(11, (uint64_t)i);
    Sampler a = sampler_start(100, 8, 1, 0, 1), b = sampler_start(100, 9, 1, 0, 1);
    for (int i = 0; i < 50; i++) sample_logits(&a, logits, 100);
    b.rng.state = a.rng.state;  // what a checkpoint carries
    for (int i = 0; i < 50; i++) assert_int_equal(sample_logits(&a, logits, 100), sample_logits(&b, logits, 100));
    sampler_free(&a), sampler_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampler_distribution), cmocka_unit_test(sampler_probs_agree), cmocka_unit_test(sampler_cuts),
        cmocka_unit_test(sampler_selection),    cmocka_unit_test(sampler_nucleus),     cmocka_unit_test(sampler_resumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
