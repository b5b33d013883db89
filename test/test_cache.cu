/*
One token after another with cached keys and values: the hidden rows of the whole model against forward passes without a cache, at
every position, in the trunk of either kind, and beyond the trained length.
*/
#include "buffer.h"

#include "llmc/model/decode.cuh"
#include "llmc/model/setup.cuh"

enum { T = 16, C = 64, V = 259, COUNT = 20 };  // tokens: more than the trained length

static void open_decoding(Model* m, const char* arch, bool training, bool light) {
    Config c = {};
    c.L = 3, c.NH = 4, c.C = C, c.V = V, c.B = 1, c.T = T, c.tied = !light;
    c.decode = true;
    if (light) c.embedding = EMBEDDING_LIGHTRNN, c.book = codebook_sequential(V, 0);
    config_arch(&c, arch);
    memset(m, 0, sizeof(*m));
    model_declare(m, c, training);
    if (!training) {
        float* zeros = host_values(m->table.size);
        memset(zeros, 0, m->table.size * sizeof(float));
        m->masters = buffer_f(zeros, m->table.size);
    }
    model_allocate(m, false, true);
    model_plan_shape(m, 1, T);
    decode_plan(m);
    model_init_weights(m, 7);
}

// Hidden rows (COUNT,C) after each of the tokens
static float* hidden_rows(Model* m, const int* tokens, bool cached) {
    floatX* kv = m->cache.kv;
    if (!cached) m->cache.kv = NULL;
    Decoder d = decode_open(m, tokens, 1, COUNT);
    float* rows = host_values(COUNT * C);
    for (int n = 0; n < COUNT; n++) {
        if (n) decode_add(&d, tokens[n]);
        int row = decode_row(&d);
        device_sync();
        memcpy(rows + n * C, host_x(m->yf + (size_t)row * C, C), C * sizeof(float));
    }
    assert_int_equal(d.passes, cached ? COUNT - T + 1 : COUNT);
    assert_int_equal(d.steps, cached ? T - 1 : 0);
    assert_int_equal(m->cache.mode, CACHE_OFF);
    decode_close(&d);
    m->cache.kv = kv;
    return rows;
}

static void close_decoding(Model* m) {
    bool light = m->config.embedding == EMBEDDING_LIGHTRNN;
    Codebook book = m->config.book;
    device_sync();
    if (ARENA_GUARD > 0) arena_check(&m->activations);
    model_free(m);
    if (light) codebook_free(&book);
}

// The rows have values of about 1. What bf16 loses in a layer, a row of 64 sees several times.
static void check_rows(const char* what, const float* ours, const float* want) {
    double allowed = PRECISION == PRECISION_FP32 ? 2e-5 : 8 * STORE_ERROR;
    for (int i = 0; i < COUNT * C; i++) {
        assert_off(ours[i], want[i], allowed * (1 + fabs(want[i])), "%s, token %d, element %d", what, i / C, i % C);
    }
}

static void cached_rows(void** state) {
    (void)state;
    static const char* const archs[] = {"gpt2", "nocap", "gpt2"};
    int tokens[COUNT];
    Rng rng = rng_start(5, "tokens");
    for (int i = 0; i < COUNT; i++) tokens[i] = (int)rng_below(&rng, V);
    for (int a = 0; a < 3; a++) {
        Model m;
        open_decoding(&m, archs[a], a == 0, a == 2);
        int planned = m.gemm.plans_made;
        const float *whole = hidden_rows(&m, tokens, false), *cached = hidden_rows(&m, tokens, true);
        assert_int_equal(m.gemm.plans_made, planned);
        check_rows(archs[a], cached, whole);
        // behind the trained length both are the same passes
        assert_memory_equal(cached + T * C, whole + T * C, (COUNT - T) * C * sizeof(float));
        // and the window is the last T tokens
        model_forward(&m, buffer_i(tokens + COUNT - T, T), 1, T);
        assert_memory_equal(host_x(m.yf + (size_t)(T - 1) * C, C), whole + (COUNT - 1) * C, C * sizeof(float));
        close_decoding(&m);
    }
}

// A prompt fills the cache in one pass, and the step after it sees all of it.
static void prompt_first(void** state) {
    (void)state;
    int tokens[13];
    Rng rng = rng_start(6, "tokens");
    for (int i = 0; i < 13; i++) tokens[i] = (int)rng_below(&rng, V);
    Model m;
    open_decoding(&m, "nocap", false, false);
    Decoder d = decode_open(&m, tokens, 12, 13);
    decode_row(&d);
    decode_add(&d, tokens[12]);
    assert_int_equal(decode_row(&d), 0);
    assert_int_equal(d.passes, 1);
    float ours[C];
    memcpy(ours, host_x(m.yf, C), sizeof(ours));
    decode_close(&d);
    int padded[T] = {0};
    memcpy(padded, tokens, sizeof(tokens));
    model_forward(&m, buffer_i(padded, T), 1, T);
    const float* want = host_x(m.yf + (size_t)12 * C, C);
    double allowed = PRECISION == PRECISION_FP32 ? 2e-5 : 8 * STORE_ERROR;
    for (int i = 0; i < C; i++) assert_off(ours[i], want[i], allowed * (1 + fabs(want[i])), "after a prompt, element %d", i);
    close_decoding(&m);
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(cached_rows), TEST(prompt_first)};
    return cmocka_run_group_tests_name("cache " PRECISION_NAME, tests, NULL, NULL);
}
