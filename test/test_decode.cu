// One token's attention over cached keys and values, and how they come into the cache, against the definition.
#include "buffer.h"

#include "llmc/ops/attention_decode.cuh"

// out (NH,D) of the row at `position` in double; kv (2,NH,T,D), qkv (3,NH,D) on the host
static double attention_exact(const float* kv, const float* qkv, int position, int T, int NH, int D, int h, int d) {
    double score[64], max = -INFINITY, sum = 0, out = 0;
    for (int t = 0; t <= position; t++) {
        const float* k = t < position ? kv + ((size_t)h * T + t) * D : qkv + (size_t)(NH + h) * D;
        score[t] = 0;
        for (int i = 0; i < D; i++) score[t] += (double)qkv[(size_t)h * D + i] * k[i];
        score[t] /= sqrt((double)D);
        max = fmax(max, score[t]);
    }
    for (int t = 0; t <= position; t++) {
        const float* v = t < position ? kv + ((size_t)(NH + h) * T + t) * D : qkv + (size_t)(2 * NH + h) * D;
        sum += exp(score[t] - max), out += exp(score[t] - max) * v[d];
    }
    return out / sum;
}

// Heads of a power of two and not, at the first, a middle and the last position; what the cache holds behind stays.
static void decode_attention(void** state) {
    (void)state;
    enum { T = 40 };
    const int heads[3][2] = {{4, 64}, {3, 48}, {2, 128}}, positions[3] = {0, 17, T - 1};
    for (int a = 0; a < 9; a++) {
        int NH = heads[a / 3][0], D = heads[a / 3][1], position = positions[a % 3], n = 2 * NH * T * D;
        const float *kv = normal_values("kv", (size_t)n, 1), *qkv = normal_values("qkv", (size_t)(3 * NH * D), 2);
        floatX *cache = buffer_x(kv, (size_t)n), *out = buffer_x(NULL, (size_t)(NH * D));
        float* scores = buffer_f(NULL, (size_t)(NH * T));
        attention_decode(out, scores, cache, buffer_x(qkv, (size_t)(3 * NH * D)), position, T, NH, D, 0);
        const float *ours = host_x(out, (size_t)(NH * D)), *after = host_x(cache, (size_t)n);
        for (int i = 0; i < NH * D; i++) {
            double want = attention_exact(kv, qkv, position, T, NH, D, i / D, i % D);
            assert_close(ours[i], want, 1e-5, "%d heads of %d, position %d, element %d", NH, D, position, i);
        }
        for (int i = 0; i < n; i++) {
            int t = i / D % T, head = i / D / T;
            assert_true(after[i] == (t == position ? qkv[(NH + head) * D + i % D] : kv[i]));
        }
    }
}

static void filled_cache(void** state) {
    (void)state;
    enum { T = 24, N = 16, NH = 3, D = 16, ALL = 2 * NH * T * D };
    const float *qkv = normal_values("rows", N * 3 * NH * D, 1), *before = normal_values("before", ALL, 1);
    floatX* kv = buffer_x(before, ALL);
    cache_fill(kv, buffer_x(qkv, N * 3 * NH * D), N, T, NH, D, 0);
    const float* after = host_x(kv, ALL);
    for (int i = 0; i < ALL; i++) {
        int t = i / D % T, head = i / D / T;
        assert_true(after[i] == (t < N ? qkv[((size_t)t * 3 * NH + NH + head) * D + i % D] : before[i]));
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(decode_attention), TEST(filled_cache)};
    return cmocka_run_group_tests_name("decode " PRECISION_NAME, tests, NULL, NULL);
}
