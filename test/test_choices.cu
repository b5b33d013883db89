/*
Multiple choice: files against their description, what is refused, and scores against every completion scored by itself, one
position at a time, from the model's probabilities.
*/
#include "buffer.h"
#include "child.h"

#include "llmc/model/choice_eval.cuh"

enum { V = 259, EXAMPLES = 11 };

// Made-up questions of 2 to 4 completions; ids (64 an example) must outlive them.
static Choice made_up(int i, uint16_t* ids) {
    Rng rng = rng_start((uint64_t)i, "choices");
    Choice c = {};
    c.count = 2 + i % 3, c.label = (int)rng_below(&rng, (uint64_t)c.count);
    c.context = ids, c.context_tokens = i == 3 ? 30 : 1 + (int)rng_below(&rng, 12);
    uint16_t* at = ids + c.context_tokens;
    for (int k = 0; k < c.count; k++) {
        c.completion[k] = at, c.tokens[k] = 1 + (int)rng_below(&rng, 7);
        at += c.tokens[k];
    }
    for (uint16_t* id = ids; id < at; id++) *id = (uint16_t)rng_below(&rng, V);
    return c;
}

static void write_choices(const char* path) {
    ChoicesWriter w;
    uint16_t ids[64];
    choices_begin(&w, path);
    for (int i = 0; i < EXAMPLES; i++) {
        Choice c = made_up(i, ids);
        assert_true(choices_append(&w, &c));
    }
    choices_end(&w);
}

static void written_and_read(void** state) {
    (void)state;
    const char* path = test_path("made.bin");
    write_choices(path);
    Choices f = choices_open(path, V);
    assert_int_equal(f.count, EXAMPLES);
    const int32_t* header = (const int32_t*)(const void*)f.map.bytes;
    assert_int_equal(header[0], 20240522), assert_int_equal(header[1], 1), assert_int_equal(header[2], EXAMPLES);
    int rows = 0, longest = 0, bytes = 0;
    for (int i = 0; i < EXAMPLES; i++) {
        uint16_t ids[64];
        Choice want = made_up(i, ids), c = choices_get(&f, i);
        assert_int_equal(c.label, want.label), assert_int_equal(c.count, want.count);
        assert_int_equal(c.context_tokens, want.context_tokens);
        assert_memory_equal(c.context, want.context, 2 * (size_t)c.context_tokens);
        const uint16_t* words = f.examples[i];
        assert_int_equal(words[0], 65535), assert_int_equal(words[2], i);
        if (words[1] > bytes) bytes = words[1];
        for (int k = 0; k < c.count; k++, rows++) {
            assert_int_equal(c.tokens[k], want.tokens[k]);
            assert_memory_equal(c.completion[k], want.completion[k], 2 * (size_t)c.tokens[k]);
            if (c.context_tokens + c.tokens[k] > longest) longest = c.context_tokens + c.tokens[k];
        }
    }
    assert_int_equal(header[3], bytes);
    assert_int_equal(f.rows, rows), assert_int_equal(f.longest, longest);
    choices_close(&f);
}

static void open_it(const void* path) { choices_open((const char*)path, V); }

// The good file with the 16-bit word at byte `at` changed, or cut off there.
static void check_refused(size_t at, int word, const char* says) {
    size_t size = 0;
    char *bytes = file_read(test_path("made.bin"), SIZE_MAX, &size), *path = text_copy(test_path("bad.bin"));
    uint16_t value = (uint16_t)word;
    if (word >= 0) memcpy(bytes + at, &value, 2);
    FILE* file = fopen(path, "wb");
    size_t wanted = word >= 0 ? size : at;
    assert_true(fwrite(bytes, 1, wanted, file) == wanted && fclose(file) == 0);
    assert_int_equal(run_child(open_it, path), 1);
    assert_says("bad.bin");
    assert_says(says);
    free(bytes), free(path);
}

static void refused(void** state) {
    (void)state;
    write_choices(test_path("made.bin"));
    size_t size = 0;
    char* bytes = file_read(test_path("made.bin"), SIZE_MAX, &size);
    int first_bytes = ((const uint16_t*)(const void*)(bytes + 1024))[1];
    free(bytes);
    check_refused(0, 7, "not a multiple-choice file: expected magic 20240522");
    check_refused(4, 2, "expected magic 20240522 version 1");
    check_refused(500, -1, "not a multiple-choice file");
    check_refused(8, EXAMPLES + 1, "ends inside an example");
    check_refused(8, EXAMPLES - 1, "bytes behind its 10 examples");
    check_refused(8, 0, "0 examples");
    check_refused(1024, 7, "example 0 of 11: an example does not start with 65535");
    check_refused(1026, 7, "length of an example is impossible");
    check_refused(1026, 60000, "length of an example is impossible");
    check_refused(1026, first_bytes + 2, "example 0 of 11: the length of an example does not fit its parts");
    check_refused(1030, 2, "a label that is one of them");
    check_refused(1032, 1, "2 to 16 completions");
    check_refused(1032, 17, "2 to 16 completions");
    check_refused(1034, 0, "at least one token of each part");
    check_refused(1034, 60000, "at least one token of each part");
    check_refused(1036, V, "an id is not in the vocabulary");
    check_refused(size - 1, -1, "example 10 of 11");
}

// Mean and sum of -log P of completion k, each token from a forward pass of the last tokens before it that fit.
static void by_brute_force(Model* m, const Choice* c, int k, int fits, double* mean, double* sum) {
    int row[128], length = 0, T = m->config.T;
    float probs[V];
    for (int i = 0; i < c->context_tokens; i++) row[length++] = c->context[i];
    for (int i = 0; i < c->tokens[k]; i++) row[length++] = c->completion[k][i];
    int skip = length > fits ? length - fits : 0, padded[64] = {0};
    for (int i = skip; i < length; i++) padded[i - skip] = row[i];
    *sum = 0;
    model_forward(m, buffer_i(padded, (size_t)T), 1, T);
    for (int i = 0; i < c->tokens[k]; i++) {
        int at = c->context_tokens + i - skip;
        head_probs(m, at - 1, probs);
        *sum -= log((double)probs[padded[at]]);
    }
    *mean = *sum / c->tokens[k];
}

// Both heads, batches that do not divide the rows, and a context that is cut.
static void scores(void** state) {
    (void)state;
    write_choices(test_path("made.bin"));
    for (int a = 0; a < 2; a++) {
        Model m = {};
        Config c = {};
        c.L = 2, c.NH = 2, c.C = 32, c.V = V, c.B = 3, c.T = 24, c.tied = !a;
        if (a) c.head = HEAD_LIGHTRNN, c.book = codebook_sequential(V, 0);
        config_arch(&c, a ? "nocap" : "gpt2");
        model_declare(&m, c, true);
        model_allocate(&m, false, true);
        model_init_weights(&m, 3);
        for (int id = 0; id < m.table.count; id++) {  // so that completions differ
            const Param* p = &m.table.rows[id];
            for (size_t i = 0; p->init == INIT_NORMAL && i < p->size; i++) m.masters[p->offset + i] *= 6;
        }
        model_weights_changed(&m);
        ChoiceEval e = choice_eval_open(&m, test_path("made.bin"));
        assert_int_equal(e.T, 24);
        ChoiceScore score = choice_eval(&m, &e), again = choice_eval(&m, &e);
        assert_memory_equal(&score, &again, sizeof(score));
        int correct = 0, correct_norm = 0, differ = 0;
        const double* ours = e.means;
        for (int i = 0; i < EXAMPLES; i++) {
            double mean[16], sum[16];
            Choice question = choices_get(&e.file, i);
            int best = 0, best_norm = 0;
            for (int k = 0; k < question.count; k++, ours += 2) {
                by_brute_force(&m, &question, k, e.T, &mean[k], &sum[k]);
                assert_off(ours[0], mean[k], 1e-5 * (1 + mean[k]) + 2 * STORE_ERROR * mean[k], "example %d, mean of %d", i, k);
                assert_off(ours[1], sum[k], 1e-5 * (1 + sum[k]) + 2 * STORE_ERROR * sum[k], "example %d, sum of %d", i, k);
                if (sum[k] < sum[best]) best = k;
                if (mean[k] < mean[best_norm]) best_norm = k;
            }
            correct += best == question.label, correct_norm += best_norm == question.label, differ += best != best_norm;
        }
        assert_true(differ > 0);
        assert_int_equal(score.count, EXAMPLES);
        if (PRECISION == PRECISION_FP32) {
            assert_int_equal(score.correct, correct), assert_int_equal(score.correct_norm, correct_norm);
            assert_true(correct_norm > 0 && correct_norm < EXAMPLES);
        }
        choice_eval_close(&e);
        model_free(&m);
        if (a) codebook_free(&c.book);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(written_and_read), TEST(refused), TEST(scores)};
    return cmocka_run_group_tests_name("choices " PRECISION_NAME, tests, NULL, test_dir_remove);
}
