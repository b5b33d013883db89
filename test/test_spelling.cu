/*
The spelling loss: letters against a stream that is written out, golden cases of its head, one alphabet under other names, finite
differences, and a weight of 0, which must be the absent objective, to the bit.
*/
#include "buffer.h"
#include "child.h"
#include "gold.h"

#include "llmc/model/setup.cuh"
#include "tiny_objective.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                                                \
    STRING(input_bin, "", "")                                                                                                     \
    STRING(tokenizer, "", "")                                                                                                     \
    INT(vocab_size, 257, 2, 65536, "")                                                                                            \
    FLOAT(spell_weight, 0, 0, 1000, "")                                                                                           \
    INT(spell_letters, 4, 1, 8, "")                                                                                               \
    CHOICE(spell_case, "true", SPELL_CASES, "")                                                                                   \
    CHOICE(spell_mode, "stream", SPELL_MODES, "")                                                                                 \
    INT(spell_rampup_steps, 0, 0, 1000000000, "")                                                                                 \
    FLOAT(spell_decay_start, 1, 0, 1, "")                                                                                         \
    FLOAT(spell_decay_end, 1, 0, 1, "")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

// The vocabulary of `count` texts, the last of which ends a document.
typedef struct {
    uint8_t bytes[256];
    uint32_t start[16];
    int V;
} Words;

static Words words_of(const char* const* texts, int count) {
    Words w = {{0}, {0}, count};
    for (int v = 0; v < count; v++) {
        size_t length = strlen(texts[v]);
        memcpy(w.bytes + w.start[v], texts[v], length);
        w.start[v + 1] = w.start[v] + (uint32_t)length;
    }
    return w;
}

static uint8_t* table_on_device(const uint8_t* bytes, const uint32_t* start, int V, SpellCase fold) {
    uint8_t* host = (uint8_t*)xmalloc((size_t)V * SPELL_ROW);
    spelling_table(host, bytes, start, V, V - 1, fold);
    uint8_t* device = (uint8_t*)buffer_bytes(host, (size_t)V * SPELL_ROW);
    free(host);
    return device;
}

enum { CAT, S, A, E_ACUTE, NINE, END, WORDS };
static const char* const TEXTS[WORDS] = {" Cat", "s", "A", "\xc3\xa9", "ninebytes", "<|endoftext|>"};

// The M letters behind position 0 of `tokens` (M + 1); a letter is written as its character, '#' = 128, '$' = end, '-' = none.
static void check_letters(const int* tokens, int M, SpellCase fold, SpellMode mode, const char* want) {
    Words w = words_of(TEXTS, WORDS);
    int *letters = buffer_i(NULL, (size_t)M), host[SPELL_MAX];
    char found[SPELL_MAX + 1] = "";
    spelling_letters(letters, buffer_i(tokens, (size_t)M + 1), table_on_device(w.bytes, w.start, w.V, fold), 1, M, mode, 0);
    copy_to_host(host, letters, (size_t)M * sizeof(int));
    for (int j = 0; j < M; j++) {
        found[j] = (char)(host[j] == -1 ? '-' : host[j] == SPELL_OTHER ? '#' : host[j] == SPELL_END ? '$' : host[j]);
    }
    if (strcmp(found, want)) fail_msg("letters %s, expected %s", found, want);
}

static void known_letters(void** state) {
    (void)state;
    const int cat[9] = {A, CAT, S, E_ACUTE, END, A, S, S, S}, nine[9] = {END, NINE, A, S, S, S, S, S, S};
    const int end[9] = {CAT, END, END, A, END, CAT, S, S, S}, one[9] = {CAT, S, S, S, S, S, S, S, S};
    check_letters(cat, 5, SPELL_TRUE, SPELL_STREAM, " Cats");
    check_letters(cat, 5, SPELL_LOWER, SPELL_STREAM, " cats");
    check_letters(cat, 5, SPELL_UPPER, SPELL_STREAM, " CATS");
    check_letters(cat, 5, SPELL_TRUE, SPELL_TOKEN, " Cat-");
    check_letters(cat, 8, SPELL_TRUE, SPELL_STREAM, " Cats##$");
    check_letters(cat, 8, SPELL_UPPER, SPELL_TOKEN, " CAT----");
    check_letters(cat, 1, SPELL_TRUE, SPELL_STREAM, " ");
    check_letters(nine, 8, SPELL_TRUE, SPELL_STREAM, "ninebyte");  // longer than any M
    check_letters(nine, 8, SPELL_UPPER, SPELL_TOKEN, "NINEBYTE");
    check_letters(nine, 4, SPELL_TRUE, SPELL_TOKEN, "nine");
    check_letters(end, 8, SPELL_LOWER, SPELL_STREAM, "$$a$ cat");  // the end of a text is one symbol, whatever it is written as
    check_letters(end, 4, SPELL_LOWER, SPELL_TOKEN, "$---");
    check_letters(one, 8, SPELL_TRUE, SPELL_STREAM, "ssssssss");  // the worst case: M tokens for M letters
    check_letters(one, 8, SPELL_TRUE, SPELL_TOKEN, "s-------");
}

static void folds_are_one_alphabet(void** state) {
    (void)state;
    for (int b = 0; b < 256; b++) {
        int lower = spelling_class(SPELL_LOWER, (uint8_t)b), upper = spelling_class(SPELL_UPPER, (uint8_t)b);
        assert_int_equal(spelling_class(SPELL_TRUE, (uint8_t)b), b < 128 ? b : SPELL_OTHER);
        for (int c = 0; c < 256; c++) {  // the same bytes are one letter
            bool same = spelling_class(SPELL_LOWER, (uint8_t)c) == lower;
            assert_int_equal(same, spelling_class(SPELL_UPPER, (uint8_t)c) == upper);
        }
        assert_int_equal(lower, b == 'A' ? 'a' : b == 'Z' ? 'z' : b > 'A' && b < 'Z' ? b + 32 : b < 128 ? b : SPELL_OTHER);
    }
}

// The weight of a letter: a mean over those that exist, whatever their number.
static void mean_over_letters(void** state) {
    (void)state;
    const int tokens[9] = {A, CAT, S, E_ACUTE, END, A, S, S, NINE};
    const float weight = 0.25f;
    Words w = words_of(TEXTS, WORDS);
    const uint8_t* table = table_on_device(w.bytes, w.start, w.V, SPELL_TRUE);
    int* ids = buffer_i(tokens, 9);
    const double counts[3] = {5 * 3, 4 + 1 + 2 + 1 + 1, 3 + 1 + 2 + 1 + 1};
    for (int i = 0; i < 3; i++) {
        float* norm = buffer_f(NULL, 2);
        spelling_norm(norm, buffer_f(&weight, 1), ids, table, 5, i == 1 ? 4 : 3, i == 0 ? SPELL_STREAM : SPELL_TOKEN, 0);
        const float* host = host_f(norm, 2);
        assert_off(host[1], 5 / counts[i], 1e-7, "positions per letter");
        assert_off(host[0], weight * 5 / counts[i], 1e-7, "weight of a letter");
    }
    const float letter_losses[6] = {1, 2, 3, 4, 0, 0}, norm[2] = {NAN, 0.5f}, before[2] = {10, 20};
    float *stored = buffer_f(NULL, 2), *added = buffer_f(before, 2);
    spelling_losses(stored, buffer_f(letter_losses, 6), buffer_f(norm, 2), 2, 3, false, 0);
    spelling_losses(added, buffer_f(letter_losses, 6), buffer_f(norm, 2), 2, 3, true, 0);
    assert_true(host_f(stored, 2)[0] == 3 && host_f(stored, 2)[1] == 2);
    assert_true(host_f(added, 2)[0] == 13 && host_f(added, 2)[1] == 22);
}

static void empty_token(const void* argument) {
    (void)argument;
    const uint32_t start[3] = {0, 0, 1};
    uint8_t table[2 * SPELL_ROW];
    spelling_table(table, (const uint8_t*)"a", start, 2, 1, SPELL_TRUE);
}
static void refuses_empty_tokens(void** state) {
    (void)state;
    assert_int_equal(run_child(empty_token, NULL), EXIT_FAIL);
    assert_says("token 0 has no bytes");
}

// ---------------------------------------------------------------------------------------------------------------------
// The head

// A model of one layer for B rows of T tokens, with a head for M letters; its weights are those of seed 5.
static void open_model(Model* m, int B, int T, int C, int V, SpellingConfig spelling) {
    Config c = {};
    c.L = 1, c.NH = C / 16, c.C = C, c.V = V, c.B = B, c.T = T, c.tied = true, c.aux.spelling = spelling;
    config_arch(&c, "nocap");
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_plan_shape(m, B, T);
    model_init_weights(m, 5);
    const float one = 1.0f;  // no loss scale: gradients are looked at as they are
    copy_to_device(&m->state->scaler.scale, &one, sizeof(one));
}

static void put_words(Model* m, const uint8_t* bytes, const uint32_t* start) {
    Spelling s = {};
    s.table = (uint8_t*)xmalloc((size_t)m->config.V * SPELL_ROW);
    spelling_table(s.table, bytes, start, m->config.V, m->config.V - 1, (SpellCase)m->config.aux.spelling.fold);
    spelling_upload(&s, m);
    assert_null(s.table);
}

static void put_x(floatX* device, const float* values, size_t n) {
    copy_on_device(device, buffer_x(values, n), n * sizeof(floatX), 0);
    device_sync();
}

// Weights of the head from the host, weight `strength` for the next micro-step.
static void put_head(Model* m, const float* w, const float* b, float strength) {
    const Param *pw = &m->table.rows[m->spelling.w], *pb = &m->table.rows[m->spelling.b];
    copy_to_device(m->masters + pw->offset, w, pw->size * sizeof(float));
    copy_to_device(m->masters + pb->offset, b, pb->size * sizeof(float));
    copy_to_device(&m->state->in.next.spelling, &strength, sizeof(float));
    model_weights_changed(m);
}

static double mean_loss(const Model* m, int N) {
    double sum = 0;
    const float* losses = host_f(m->losses + (size_t)LOSS_SPELLING * N, (size_t)N);
    for (int n = 0; n < N; n++) sum += losses[n];
    return sum / N;
}

// chunk: rows of logits at once, 0: all.
static void check_golden(const char* name, int chunk) {
    Gold* g = gold_open(name);
    int B = gold_int(g, "B"), T = gold_int(g, "T"), C = gold_int(g, "C"), V = gold_int(g, "V"), M = gold_int(g, "M"), N = B * T;
    Model m;
    SpellingConfig spelling = {M, gold_int(g, "token") ? SPELL_TOKEN : SPELL_STREAM, gold_int(g, "fold")};
    uint8_t bytes[256];
    const int32_t *ints = gold_ints(g, "bytes"), *start = gold_ints(g, "start");
    for (int i = 0; i < start[V]; i++) bytes[i] = (uint8_t)ints[i];
    open_model(&m, B, T, C, V, spelling);
    put_words(&m, bytes, (const uint32_t*)start);
    if (chunk) m.chunk_rows = chunk, model_plan_shape(&m, B, T);
    put_head(&m, gold_floats(g, "w"), gold_floats(g, "b"), (float)gold_param(g, "weight"));
    put_x(m.yf, gold_floats(g, "h"), (size_t)N * C);
    put_x(m.dn, gold_floats(g, "dh_before"), (size_t)N * C);
    Micro micro = {buffer_i(gold_ints(g, "tokens"), (size_t)(N + M)), NULL, B, T, false};
    spelling_loss(&m, &micro, 1.0f / (float)N);
    int* letters = (int*)host_values((size_t)N * M);
    copy_to_host(letters, m.spelling.letters, (size_t)N * M * sizeof(int));
    float loss = (float)mean_loss(&m, N);
    gold_check_ints(g, "letters", letters);
    gold_check(g, "loss", &loss, PRECISION);
    gold_check(g, "dh", host_x(m.dn, (size_t)N * C), PRECISION);
    gold_check(g, "dw", host_f(grad(&m, m.spelling.w), (size_t)M * SPELL_PADDED * C), PRECISION);
    gold_check(g, "db", host_f(grad(&m, m.spelling.b), (size_t)M * SPELL_PADDED), PRECISION);
    model_free(&m);
    gold_close(g);
}

static void golden_stream(void** state) { (void)state, check_golden("spelling_stream", 0), check_golden("spelling_stream", 16); }
static void golden_token(void** state) { (void)state, check_golden("spelling_token", 0), check_golden("spelling_token", 8); }

enum { C = 32, M = 5 };

static void random_tokens(int* tokens, int count, const char* name) {
    Rng rng = rng_start(3, name);
    for (int i = 0; i < count; i++) tokens[i] = (int)rng_below(&rng, WORDS);
}

// What a head makes of one micro-step: its loss, the gradient of yf (N,C), those of w and b.
typedef struct {
    double loss;
    const float *dh, *dw, *db;
} HeadResult;

static HeadResult run_head(SpellCase fold, const float* w, const float* b, const float* h, const int* tokens, int micro_steps) {
    Model m;
    Words words = words_of(TEXTS, WORDS);
    SpellingConfig spelling = {M, SPELL_STREAM, fold};
    open_model(&m, B, T, C, WORDS, spelling);
    put_words(&m, words.bytes, words.start);
    put_head(&m, w, b, 8.0f);
    const float* zeros = (const float*)memset(host_values(N * C), 0, N * C * sizeof(float));
    for (int a = 0; a < micro_steps; a++) {
        put_x(m.yf, h, N * C);
        put_x(m.dn, zeros, N * C);
        Micro micro = {buffer_i(tokens, N + M), NULL, B, T, a > 0};
        spelling_loss(&m, &micro, 1.0f / (float)(N * micro_steps));
    }
    HeadResult r = {mean_loss(&m, N) / micro_steps, host_x(m.dn, N * C), host_f(grad(&m, m.spelling.w), M * SPELL_PADDED * C),
                    host_f(grad(&m, m.spelling.b), M * SPELL_PADDED)};
    model_free(&m);
    return r;
}

// Lower and upper case are one problem: with the rows of 'a'..'z' and 'A'..'Z' exchanged, losses and gradients are the same.
static void cases_are_one_problem(void** state) {
    (void)state;
    enum { ROWS = M * SPELL_PADDED };
    const float *w = normal_values("w", ROWS * C, 0.3f), *b = normal_values("b", ROWS, 1.0f),
                *h = normal_values("h", N * C, 1.0f);
    float *w2 = host_values(ROWS * C), *b2 = host_values(ROWS);
    int tokens[N + M], other[ROWS];
    random_tokens(tokens, N + M, "cases");
    for (int r = 0; r < ROWS; r++) {
        int c = r % SPELL_PADDED;
        other[r] = c >= 'a' && c <= 'z' ? r - 32 : c >= 'A' && c <= 'Z' ? r + 32 : r;
        memcpy(w2 + r * C, w + other[r] * C, C * sizeof(float));
        b2[r] = b[other[r]];
    }
    HeadResult lower = run_head(SPELL_LOWER, w, b, h, tokens, 1), upper = run_head(SPELL_UPPER, w2, b2, h, tokens, 1);
    HeadResult truth = run_head(SPELL_TRUE, w, b, h, tokens, 1);
    const double last = 4e-6 + 4 * STORE_ERROR;  // sums in another order
    assert_off(lower.loss, upper.loss, 1e-6 * lower.loss, "loss");
    assert_true(fabs(truth.loss - lower.loss) > 1e-3);
    for (int i = 0; i < N * C; i++) assert_off(lower.dh[i], upper.dh[i], last, "gradient of yf, element %d", i);
    for (int r = 0; r < ROWS; r++) {
        assert_off(lower.db[other[r]], upper.db[r], last, "bias %d", r);
        for (int i = 0; i < C; i++) assert_off(lower.dw[other[r] * C + i], upper.dw[r * C + i], last, "weight %d,%d", r, i);
        if (r % SPELL_PADDED < SPELL_CLASSES) continue;
        assert_true(upper.db[r] == 0 && upper.dw[r * C] == 0 && upper.dw[r * C + C - 1] == 0);  // padding
    }
}

// The same micro-batch twice is that micro-batch: losses and gradients of the head add up over micro-steps.
static void micro_steps_add(void** state) {
    (void)state;
    enum { ROWS = M * SPELL_PADDED };
    const float *w = normal_values("w", ROWS * C, 0.3f), *b = normal_values("b", ROWS, 1.0f),
                *h = normal_values("h", N * C, 1.0f);
    int tokens[N + M];
    random_tokens(tokens, N + M, "micro");
    HeadResult one = run_head(SPELL_TRUE, w, b, h, tokens, 1), two = run_head(SPELL_TRUE, w, b, h, tokens, 2);
    assert_off(two.loss, one.loss, 1e-6 * one.loss, "loss");
    for (int i = 0; i < ROWS * C; i++) assert_off(two.dw[i], one.dw[i], 1e-6 + 2 * STORE_ERROR * fabs(one.dw[i]), "weight %d", i);
    for (int i = 0; i < ROWS; i++) assert_off(two.db[i], one.db[i], 1e-6 + 2 * STORE_ERROR * fabs(one.db[i]), "bias %d", i);
}

// ---------------------------------------------------------------------------------------------------------------------
// In training

// A tiny model that spells, V tokens of one to four bytes.
static void open_speller(Model* m) {
    uint8_t bytes[4 * V];
    uint32_t start[V + 1] = {0};
    for (int v = 0; v < V; v++) {
        start[v + 1] = start[v] + 1 + (uint32_t)v % 4;
        for (uint32_t i = start[v]; i < start[v + 1]; i++) bytes[i] = (uint8_t)((uint32_t)v * 7 + i);
    }
    AuxConfig aux = {};
    aux.spelling.letters = 3, aux.spelling.mode = SPELL_TOKEN, aux.spelling.fold = SPELL_LOWER;
    open_tiny(m, "nocap", &aux);
    put_words(m, bytes, start);
}

static void weights_of_steps(StepWeights* weights, const float* spelling) {
    memset(weights, 0, (STEPS + 1) * sizeof(*weights));
    for (int i = 0; i <= STEPS; i++) weights[i].token[0] = 1.0f, weights[i].spelling = spelling[i];
}

// The spelling head's masters, gradients left alone.
static float* head_masters(const Model* m) {
    const Param *w = &m->table.rows[m->spelling.w], *b = &m->table.rows[m->spelling.b];
    return host_f(m->masters + w->offset, b->offset + b->size - w->offset);
}

// A head that rests leaves no trace in the model, and keeps its own weights: no decay, no moments.
static void weight_zero_is_absent(void** state) {
    (void)state;
    const float none[STEPS + 1] = {0}, later[STEPS + 1] = {0, 0, 1, 0, 0, 0};
    StepWeights weights[STEPS + 1];
    Model m;
    weights_of_steps(weights, none);
    open_tiny(&m, "nocap", NULL);
    Trace absent = trace_steps(&m, weights, 0);
    model_free(&m);
    open_speller(&m);
    size_t head = m.table.rows[m.spelling.b].offset + m.table.rows[m.spelling.b].size - absent.size;
    assert_int_equal(m.table.rows[m.spelling.w].offset, absent.size);
    const float* before = head_masters(&m);
    float* nan = host_values(head);  // nothing may so much as multiply by them
    for (size_t i = 0; i < head; i++) nan[i] = NAN;
    copy_to_device(m.masters + absent.size, nan, head * sizeof(float));
    model_weights_changed(&m);
    Trace resting = trace_steps(&m, weights, absent.size);
    assert_memory_equal(absent.values, resting.values, absent.bytes);
    assert_memory_equal(nan, head_masters(&m), head * sizeof(float));
    model_free(&m);
    open_speller(&m);
    weights_of_steps(weights, later);
    Trace other = trace_steps(&m, weights, absent.size);  // two steps are the same, the third is not
    assert_memory_equal(absent.values, other.values, 2 * absent.step_bytes);
    assert_memory_not_equal((char*)absent.values + 2 * absent.step_bytes, (char*)other.values + 2 * absent.step_bytes,
                            absent.step_bytes);
    StepState s;
    copy_to_host(&s, m.state, sizeof(s));
    assert_true(s.losses[LOSS_SPELLING] == 0 && s.skipped == 0);  // of the last step, which has none
    const float *after = head_masters(&m), *moments = host_f(m.m + absent.size, head);
    double moved = 0, largest = 0;
    for (size_t i = 0; i < head; i++)
        moved = fmax(moved, fabs((double)after[i] - before[i])), largest = fmax(largest, fabs(moments[i]));
    assert_true(moved > 1e-3 && moved < 2 * 3e-3 && largest > 0);  // one step, and the moments of that one step
    model_free(&m);
    free(absent.values), free(resting.values), free(other.values);
}

static double total_loss(Model* m, const Micro* micro) {
    Micro again = *micro;
    again.accumulate = true;  // the head's gradients are looked at later: add nothing to them
    float zeros[N] = {0};
    copy_to_device(m->losses + (size_t)LOSS_SPELLING * N, zeros, sizeof(zeros));
    model_forward(m, micro->tokens, B, T);
    head_loss(m, micro, training_targets(m, micro), 0.0f, false);
    spelling_loss(m, &again, 0.0f);
    double sum = m->targets.spelling * mean_loss(m, N);
    const float* losses = host_f(m->losses, N);
    for (int n = 0; n < N; n++) sum += losses[n] / N;
    return sum;
}

static void finite_differences(void** state) {
    (void)state;
    if (!slopes_mean_something()) skip();
    int tokens[TOKENS], order[N * STEPS];
    StepWeights weights = {};
    Model m;
    make_batches(tokens, order);
    open_speller(&m);
    weights.token[0] = 1.0f, weights.spelling = 2.0f;
    targets_start(&m, weights);
    Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
    check_slopes(&m, &micro, total_loss);
    const float *dw = host_f(grad(&m, m.spelling.w), 3 * SPELL_PADDED * 64),
                *db = host_f(grad(&m, m.spelling.b), 3 * SPELL_PADDED);
    double sizes[2] = {0, 0};
    for (int i = 0; i < 3 * SPELL_PADDED * 64; i++) sizes[0] += (double)dw[i] * dw[i];
    for (int i = 0; i < 3 * SPELL_PADDED; i++) sizes[1] += (double)db[i] * db[i];
    assert_true(sizes[0] > 1e-4 && sizes[1] > 1e-4);  // large enough to have been checked
    model_free(&m);
}

// Initial weights: every letter has 130 live rows, the 6 behind them are zero, and they are no parameters.
static void padding_rows(void** state) {
    (void)state;
    Model m;
    open_speller(&m);
    const float* w = head_masters(&m);
    for (int r = 0; r < 3 * SPELL_PADDED; r++) {
        double size = 0;
        for (int i = 0; i < 64; i++) size += fabs(w[r * 64 + i]), assert_true(fabs(w[r * 64 + i]) <= 0.125);
        assert_true((size > 0) == (r % SPELL_PADDED < SPELL_CLASSES));
    }
    assert_int_equal(param_live(&m.table.rows[m.spelling.w]), 3 * 130 * 64);
    assert_int_equal(param_live(&m.table.rows[m.spelling.b]), 3 * 130);
    model_free(&m);
}

// ---------------------------------------------------------------------------------------------------------------------
// Flags

static void parse_in_child(const void* line) {
    Options options;
    FlagTable flags = options_table(&options);
    char* copy = text_copy((const char*)line);
    flags_lines(&flags, copy, "test", 0);
    Spelling s = spelling_from_flags(&flags, 100);
    printf("letters %d fold %d mode %d weight %g", s.config.letters, s.config.fold, s.config.mode, aux_weight_at(&s.weight, 50));
}

static void flags_mean_something(void** state) {
    (void)state;
    Tokenizer tok = tokenizer_bytes();
    tokenizer_save(&tok, test_path("letters.bin"));
    char good[400], vocabulary[400];
    const char *path = test_path("letters.bin"), *rest = "--spell_letters 8 --spell_case upper --spell_mode token";
    snprintf(good, sizeof(good), "--spell_weight 0.5 --tokenizer %s %s --spell_decay_start 0 --spell_rampup_steps 100", path,
             rest);
    snprintf(vocabulary, sizeof(vocabulary), "--spell_weight 0.5 --tokenizer %s --vocab_size 300", path);
    const struct {
        const char* line;
        int code;
        const char* says;
    } cases[] = {
        {"", 0, "letters 0 fold 0 mode 0 weight 0"},
        {"--spell_weight 0 --spell_letters 5", 0, "letters 0"},
        {good, 0, "letters 8 fold 2 mode 1 weight 0.125"},
        {"--spell_letters 5", EXIT_USAGE, "--spell_letters has no effect without --spell_weight"},
        {"--spell_case lower", EXIT_USAGE, "--spell_case has no effect without --spell_weight"},
        {"--spell_weight 1 --spell_decay_end 0.5", EXIT_USAGE, "--spell_decay_start 1 comes after --spell_decay_end 0.5"},
        {"--spell_weight 1 --spell_letters 9", EXIT_USAGE, "expected a whole number in 1..8"},
        {"--spell_weight 1 --tokenizer nowhere/t.bin", EXIT_FAIL, "nowhere/t.bin"},
        {vocabulary, EXIT_FAIL, "has 257 ids, but --vocab_size is 300"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int code = run_child(parse_in_child, cases[i].line);
        if (code != cases[i].code)
            fail_msg("%s: exit code %d, expected %d; it said %s", cases[i].line, code, cases[i].code, child_output);
        assert_says(cases[i].says);
    }
    tokenizer_free(&tok);
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(known_letters),         TEST(folds_are_one_alphabet), TEST(mean_over_letters),
        TEST(refuses_empty_tokens),  TEST(golden_stream),          TEST(golden_token),
        TEST(cases_are_one_problem), TEST(padding_rows),           TEST(flags_mean_something),
#ifndef EMU_CHECK  // whole models: their kernels are above
        TEST(micro_steps_add),       TEST(weight_zero_is_absent),  TEST(finite_differences),
#endif
    };
    return cmocka_run_group_tests_name("spelling " PRECISION_NAME, tests, NULL, test_dir_remove);
}
