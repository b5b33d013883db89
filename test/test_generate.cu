/*
What generated text is made with: characters that tokens cut in two, and tokens of a lightrnn head without its whole distribution.
That head runs on the CPU only, and so does this.
*/
#include "buffer.h"

#include "llmc/model/generate.cuh"
#include "llmc/model/setup.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// Characters

// What is written of `text` in pieces of `step` bytes: after each piece, whole characters only.
static char* streamed(const char* text, size_t length, size_t step, bool clean) {
    char* written = NULL;
    size_t size = 0;
    TextStream s = {open_memstream(&written, &size), clean, {0}, 0, NULL};
    for (size_t i = 0; i < length; i += step) {
        text_stream_put(&s, text + i, i + step < length ? step : length - i);
        for (size_t at = 0; at < size;) {
            uint32_t code;
            size_t n = utf8_decode((const uint8_t*)written + at, size - at, &code);
            if (clean) assert_true(n > 1 || (uint8_t)written[at] < 0x80);
            at += n;
        }
    }
    text_stream_end(&s);
    fclose(s.out);
    assert_int_equal(strlen(written), size);
    return written;
}

static void check_stream(const char* text, const char* clean) {
    for (size_t step = 1; step <= 5; step++) {
        for (int c = 0; c < 2; c++) {
            char* written = streamed(text, strlen(text), step, c);
            assert_string_equal(written, c ? clean : text);
            free(written);
        }
    }
}

static void characters(void** state) {
    (void)state;
    const char* good = "caf\u00e9 \u6f22\u5b57 \U0001F600\n\tend";
    check_stream(good, good);
    check_stream(
        "a\x1b[2J\x7f"
        "b\u0085",
        "a?[2J?b?");                                                                   // control characters of both kinds
    check_stream("\x80x\xC3(\xE2\x82", "\uFFFDx\uFFFD(\uFFFD\uFFFD");                  // stray, broken off, unfinished at the end
    check_stream("\xED\xA0\x80\xF5\xC0\xAF", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");  // surrogate, too large, overlong
    TextStream s = {tmpfile(), false, {0}, 0, NULL};
    text_stream_put(&s, "a\xE6\xBC", 3);
    assert_int_equal(ftell(s.out), 1);  // the two bytes wait for the third
    text_stream_put(&s, "\xA2", 1);
    assert_int_equal(ftell(s.out), 4);
    fclose(s.out);
}

// ---------------------------------------------------------------------------------------------------------------------
// Tokens of a lightrnn head

enum { C = 16 };

// Tokens dealt to rows in turn: cells are not in the order of ids, the last rows are shorter.
static Codebook snake_book(int V, int columns) { return codebook_snake(V, columns, NULL); }

static void open_light(Model* m, Codebook book, uint64_t seed, float scale) {
    Config c = {};
    c.L = 1, c.NH = 2, c.C = C, c.V = book.V, c.B = 1, c.T = 8;
    c.head = HEAD_LIGHTRNN, c.book = book;
    config_arch(&c, "nocap");
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_init_weights(m, seed);
    char name[32];
    for (int id = m->light.row_w; id <= m->light.col_b; id++) {
        snprintf(name, sizeof(name), "%d of %d", id, (int)seed);
        const float* values = normal_values(name, m->table.rows[id].size, scale);
        copy_to_device(m->masters + m->table.rows[id].offset, values, m->table.rows[id].size * sizeof(float));
    }
    model_weights_changed(m);
    const float* h = normal_values("hidden", 8 * C, 1);
    for (int i = 0; i < 8 * C; i++) from_float(&m->yf[i], h[i]);
}

static void close_light(Model* m) {
    Codebook book = m->config.book;
    model_free(m);
    codebook_free(&book);
}

// Branch and bound against all V probabilities: flat and peaked distributions, tables in order and not, and fewer rows than all
// are looked into when the distribution is peaked.
static void likeliest_token(void** state) {
    (void)state;
    int rows = 0, visited = 0;
    for (int seed = 1; seed <= 24; seed++) {
        Model m;
        int V = 100 + 37 * seed;
        float probs[1024], scale = seed % 3 == 0 ? 0.02f : seed % 3 == 1 ? 0.3f : 1.0f;
        open_light(&m, seed % 2 ? codebook_sequential(V, 0) : snake_book(V, 0), (uint64_t)seed, scale);
        Sampler s = sampler_start(V, 1, 0, 0, 1), one = sampler_start(V, 1, 3, 1, 0.5);
        for (int n = 0; n < 8; n++) {
            int seen = 0;
            head_probs(&m, n, probs);
            int want = sample_probs(&s, probs, V), ours = light_argmax(&m, n, &seen);
            assert_int_equal(ours, want);
            assert_int_equal(head_draw(&m, n, &s, NULL), want);
            assert_int_equal(head_draw(&m, n, &one, NULL), want);
            if (scale == 1.0f) rows += m.config.book.rows, visited += seen;
        }
        sampler_free(&s), sampler_free(&one);
        close_light(&m);
    }
    print_message("peaked distributions: %d of %d rows were looked into\n", visited, rows);
    assert_true(visited < rows / 3);
}

// Two tokens of equal probability: the lower id, though its row comes later.
static void ties(void** state) {
    (void)state;
    Model m;
    open_light(&m, codebook_sequential(9, 3), 1, 0);
    assert_int_equal(light_argmax(&m, 0, NULL), 0);
    float bias[8] = {0, 0, 1, 0};
    copy_to_device(m.masters + m.table.rows[m.light.row_b].offset, bias, sizeof(bias));
    model_weights_changed(&m);
    assert_int_equal(light_argmax(&m, 0, NULL), 6);
    close_light(&m);
}

// The table of three by three whose likeliest token is not in the likeliest row: worked out by hand.
static void not_in_the_first_row(void** state) {
    (void)state;
    Model m;
    int seen = 0;
    open_light(&m, codebook_sequential(7, 3), 1, 0);
    float wr[8 * C] = {0}, br[8] = {0, 0.1f, -0.1f}, wc[3 * 8 * C] = {0};
    const float rows[6] = {0.5f, -0.1f, 0, 0.3f, 0.2f, 0.2f};
    for (int r = 0; r < 3; r++) {
        for (int i = 0; i < 2; i++) wr[r * C + i] = rows[r * 2 + i];
        for (int c = 0; c < 3; c++) {
            for (int i = 0; i < 2; i++) wc[(r * 8 + c) * C + i] = 0.1f * (float)(r + 1) * (float)(i + 1 - c);
        }
    }
    copy_to_device(m.masters + m.table.rows[m.light.row_w].offset, wr, sizeof(wr));
    copy_to_device(m.masters + m.table.rows[m.light.row_b].offset, br, sizeof(br));
    copy_to_device(m.masters + m.table.rows[m.light.col_w].offset, wc, sizeof(wc));
    model_weights_changed(&m);
    memset(m.yf, 0, C * sizeof(floatX));
    from_float(&m.yf[0], 1), from_float(&m.yf[1], -2);
    assert_int_equal(light_argmax(&m, 0, &seen), 6);
    assert_int_equal(seen, 2);
    close_light(&m);
}

// Every draw lies where its number falls among all V probabilities in the order of the cells, and takes one number.
static void drawn_tokens(void** state) {
    (void)state;
    enum { V = 211, DRAWS = 400 };
    for (int seed = 1; seed <= 4; seed++) {
        Model m;
        float probs[V];
        open_light(&m, seed % 2 ? codebook_sequential(V, 0) : snake_book(V, 20), (uint64_t)seed, 0.5f);
        Sampler s = sampler_start(V, (uint64_t)seed, 1, 0, 1);
        const Codebook* book = &m.config.book;
        for (int i = 0; i < DRAWS; i++) {
            Rng twin = s.rng;
            double u = (double)(rng_next(&twin) >> 11) * 0x1p-53, sum = 0;
            int n = i % 8, id = head_draw(&m, n, &s, NULL);
            assert_true(id >= 0 && s.rng.state == twin.state);
            head_probs(&m, n, probs);
            for (int cell = 0; cell < book->row[id] * book->columns + book->col[id]; cell++) {
                if (book->token[cell] >= 0) sum += probs[book->token[cell]];
            }
            assert_true(u > sum - 1e-6 && u < sum + probs[id] + 1e-6);
        }
        sampler_free(&s);
        close_light(&m);
    }
}

// Other settings take the whole distribution; a head that is not finite draws nothing.
static void other_settings(void** state) {
    (void)state;
    Model m;
    float probs[50];
    open_light(&m, codebook_sequential(50, 0), 3, 0.5f);
    const double settings[3][3] = {{0.7, 0, 1}, {1, 5, 1}, {1, 0, 0.6}};
    for (int i = 0; i < 3; i++) {
        Sampler a = sampler_start(50, 9, settings[i][0], (int)settings[i][1], settings[i][2]), b = a;
        b.scratch = (SampleCandidate*)xmalloc(50 * sizeof(SampleCandidate));
        for (int n = 0; n < 8; n++) {
            head_probs(&m, n, probs);
            int want = sample_probs(&b, probs, 50);
            assert_int_equal(head_draw(&m, n, &a, probs), want);
        }
        sampler_free(&a), sampler_free(&b);
    }
    Sampler s = sampler_start(50, 9, 1, 0, 1);
    from_float(&m.yf[3], NAN);
    assert_int_equal(light_argmax(&m, 0, NULL), -1);
    assert_int_equal(head_draw(&m, 0, &s, NULL), -1);
    sampler_free(&s);
    close_light(&m);
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(characters),           TEST(likeliest_token), TEST(ties),
                                       TEST(not_in_the_first_row), TEST(drawn_tokens),    TEST(other_settings)};
    return cmocka_run_group_tests_name("generate " PRECISION_NAME, tests, NULL, NULL);
}
