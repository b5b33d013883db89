/*
The token filter: which positions it keeps, golden cases of the filtered gradient, finite differences, and keep 1, which must be
the absent filter, to the bit.
*/
#include "buffer.h"
#include "child.h"
#include "gold.h"

#include "llmc/model/setup.cuh"
#include "tiny_objective.h"

// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                                                \
    FLOAT(tf_keep, 1, 0.0001, 1, "")                                                                                              \
    CHOICE(tf_rule, "topk", FILTER_RULES, "")                                                                                     \
    FLOAT(tf_threshold, 0.3, 0, 0.999, "")                                                                                        \
    STRING(tf_reference, "", "")                                                                                                  \
    CHOICE(tf_norm, "kept", "kept|all", "")                                                                                       \
    CHOICE(tf_mode, "output", "output", "")                                                                                       \
    INT(tf_start_step, 0, 0, 1000000000, "")                                                                                      \
    INT(tf_stop_step, 0, 0, 1000000000, "")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

// topk against a plain search: rank of every position, its inverse, factors; rows: keep rounded up.
static void check_topk(const float* losses, int N, int keep, int rows, float weight) {
    int *position = buffer_i(NULL, (size_t)rows), *slot = buffer_i(NULL, (size_t)N);
    float* factor = buffer_f(NULL, (size_t)rows);
    filter_topk(position, slot, factor, buffer_f(losses, (size_t)N), N, keep, rows, weight, 0);
    int *found = (int*)host_values((size_t)rows), *slots = (int*)host_values((size_t)N);
    copy_to_host(found, position, (size_t)rows * sizeof(int));
    copy_to_host(slots, slot, (size_t)N * sizeof(int));
    const float* factors = host_f(factor, (size_t)rows);
    bool* taken = (bool*)xcalloc((size_t)N);
    for (int i = 0; i < N; i++) {
        int best = -1;
        for (int n = 0; n < N; n++) {
            if (!taken[n] && (best < 0 || losses[n] > losses[best])) best = n;
        }
        taken[best] = true;
        if (slots[best] != (i < rows ? i : -1)) fail_msg("N %d: slot %d of position %d, expected %d", N, slots[best], best, i);
        if (i < rows && found[i] != best) fail_msg("N %d: position %d at rank %d, expected %d", N, found[i], i, best);
        if (i < rows) assert_true(factors[i] == (i < keep ? weight : 0.0f));
    }
    free(taken);
}

// What is ranked with a reference: the worked example, where a loss of 4 that the reference finds as hard goes and one of 0.5
// that it finds easy stays; then many ties, against a search over differences in double.
static void compares_with_a_reference(void** state) {
    (void)state;
    enum { EXACT = 256 };
    const float losses[8] = {0.1f, 2, 0.5f, 4, 1, 0, 0, 0}, reference[8] = {0, 1.5f, 0, 4, 0.25f, 1, 1, 1};
    const float excess[8] = {0.1f, 0.5f, 0.5f, 0, 0.75f, -1, -1, -1};
    float* left = buffer_f(losses, 8);
    filter_excess(left, buffer_f(reference, 8), 8, 0);
    assert_memory_equal(host_f(left, 8), excess, sizeof(excess));
    check_topk(excess, 8, 3, 3, 5.0f / 3);  // keeps 4, 1, 2; without the reference 3, 1, 4
    float a[EXACT], b[EXACT], difference[EXACT];
    Rng rng = rng_start(3, "quarters");
    for (int n = 0; n < EXACT; n++) {
        a[n] = (float)rng_below(&rng, 40) / 4, b[n] = (float)rng_below(&rng, 40) / 4;
        difference[n] = (float)((double)a[n] - (double)b[n]);
    }
    left = buffer_f(a, EXACT);
    filter_excess(left, buffer_f(b, EXACT), EXACT, 0);
    assert_memory_equal(host_f(left, EXACT), difference, sizeof(difference));
    check_topk(difference, EXACT, 100, 104, 1);
}

static void keeps_the_largest(void** state) {
    const float vector[8] = {0.1f, 2, 0.5f, 4, 1, 0, 0, 0}, equal[8] = {7, 7, 7, 7, 7, 7, 7, 7};
    check_topk(vector, 8, 3, 8, 5.0f / 3);
    check_topk(equal, 8, 3, 3, 1);  // of equal losses the first ones
    const int sizes[] = {8, 24, 64, 1000, 2048};
    for (int i = 0; i < 5; i++) {
        int N = sizes[i];
        float* losses = normal_values("losses", (size_t)N, 2.0f);
        for (int n = 0; n < N; n++) losses[n] = n % 3 ? fabsf(losses[n]) : floorf(fabsf(losses[n]));  // many are equal
        for (int keep = 1; keep <= N; keep += N / 4) check_topk(losses, N, keep, keep + 7 < N ? (keep + 7) / 8 * 8 : N, 0.5f);
        check_topk(losses, N, N, N, 1);
        assert_int_equal(release_buffers(state), 0);
    }
}

// The worked example, its five losses repeated to fill rows of 8: kept positions, and the loss that they make.
static void known_choices(void** state) {
    (void)state;
    enum { B = 3, T = 8 };  // instead of the tiny model's
    const float losses[B * T] = {0.1f, 2, 0.5f, 4, 1, 0.1f, 0.1f, 0.1f, 3, 3, 3, 3, 3, 3, 3, 3, 9, 9, 9, 9, 9, 9, 9, 9.5f};
    const bool kept[B * T] = {0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    for (int mean = 0; mean < 2; mean++) {
        float *factor = buffer_f(NULL, B * T), *counts = buffer_f(NULL, B);
        filter_minmax(factor, counts, buffer_f(losses, B * T), B, T, 0.3f, mean, 0);
        const float* found = host_f(factor, B * T);
        double sum = 0;
        for (int n = 0; n < B * T; n++) {
            assert_true(found[n] == (kept[n] ? mean ? B * T / 3.0f : 1.0f : 0.0f));
            sum += (double)found[n] * losses[n] / (B * T);
        }
        assert_off(sum, (2 + 4 + 9.5) / (mean ? 3 : B * T), 1e-6, "loss");
    }
    const float five[5] = {0.1f, 2, 0.5f, 4, 1};
    for (int mean = 0; mean < 2; mean++) {
        float *factor = buffer_f(NULL, 5), *counts = buffer_f(NULL, 1);
        filter_minmax(factor, counts, buffer_f(five, 5), 1, 5, 0.3f, mean, 0);
        const float* found = host_f(factor, 5);
        double sum = 0;
        for (int n = 0; n < 5; n++) {
            assert_true((found[n] != 0) == (n == 1 || n == 3));
            sum += (double)found[n] * five[n] / 5;
        }
        assert_off(sum, mean ? 3.0 : 1.2, 1e-6, "loss of the example");
    }
}

// A micro-batch whose losses are all equal has no position that stands out: no factor, and nothing that is not a number.
static void keeps_nothing_of_equal_losses(void** state) {
    (void)state;
    const float equal[16] = {2, 2, 2, 2, 2, 2, 2, 2, 5, 5, 5, 5, 5, 5, 5, 5};
    float* factor = buffer_f(NULL, 16);
    filter_minmax(factor, buffer_f(NULL, 2), buffer_f(equal, 16), 2, 8, 0.0f, true, 0);
    for (int n = 0; n < 16; n++) assert_true(host_f(factor, 16)[n] == 0);
}

static void rows_go_and_come_back(void** state) {
    (void)state;
    enum { N = 19, C = 24, ROWS = 5 };
    const int position[ROWS] = {18, 0, 7, 3, 12};
    int slot[N];
    for (int n = 0; n < N; n++) slot[n] = -1;
    for (int i = 0; i < ROWS; i++) slot[position[i]] = i;
    const float* values = normal_values("rows", N * C, 1.0f);
    floatX *packed = buffer_x(NULL, ROWS * C), *back = buffer_x(NULL, N * C);
    gather_rows(packed, buffer_x(values, N * C), buffer_i(position, ROWS), ROWS, C, 0);
    spread_rows(back, packed, buffer_i(slot, N), N, C, 0);
    const float* found = host_x(back, N * C);
    for (int i = 0; i < N * C; i++) assert_true(found[i] == (slot[i / C] < 0 ? 0 : values[i]));
}

static void slots_add(void** state) {
    (void)state;
    enum { N = 10, STRIDE = 12, SLOTS = 4 };
    float before[SLOTS * STRIDE], fresh[SLOTS * STRIDE];
    for (int i = 0; i < SLOTS * STRIDE; i++) before[i] = (float)i, fresh[i] = 100.0f * (float)i;
    for (int add = 0; add < 2; add++) {
        float* losses = buffer_f(before, SLOTS * STRIDE);
        add_losses(losses, buffer_f(fresh, SLOTS * STRIDE), 1 << 0 | 1 << 3, STRIDE, N, add, 0);
        const float* found = host_f(losses, SLOTS * STRIDE);
        for (int i = 0; i < SLOTS * STRIDE; i++) {
            bool in_use = (i / STRIDE == 0 || i / STRIDE == 3) && i % STRIDE < N;
            assert_true(found[i] == (in_use ? fresh[i] + (add ? before[i] : 0) : before[i]));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The head with a filter

static AuxConfig filter_config(FilterRule rule, double keep, bool mean_of_kept) {
    AuxConfig aux = {};
    aux.filter.on = true, aux.filter.rule = rule, aux.filter.keep = keep, aux.filter.mean_of_kept = mean_of_kept;
    aux.filter.threshold = 0.3f;
    return aux;
}

static void put_x(floatX* device, const float* values, size_t n) {
    copy_on_device(device, buffer_x(values, n), n * sizeof(floatX), 0);
    device_sync();
}

// Factor of every position of the micro-step that the model has filtered last (N).
static float* factors_of(const Model* m, int N) {
    const FilterConfig* f = &m->config.aux.filter;
    int rows = filter_rows(f, N);
    float *factor = host_f(m->filter.factor, (size_t)rows), *all = host_values((size_t)N);
    if (f->rule == FILTER_MINMAX) return factor;
    int* slot = (int*)host_values((size_t)N);
    copy_to_host(slot, m->filter.slot, (size_t)N * sizeof(int));
    for (int n = 0; n < N; n++) all[n] = slot[n] < 0 ? 0.0f : factor[slot[n]];
    return all;
}

static void check_golden(const char* name) {
    Gold* g = gold_open(name);
    int B = gold_int(g, "B"), T = gold_int(g, "T"), N = B * T, C = gold_int(g, "C"), K = gold_int(g, "K"), Vp = gold_int(g, "Vp");
    Config c = {};
    c.L = 1, c.NH = 1, c.C = C, c.V = gold_int(g, "V"), c.B = B, c.T = T, c.tied = true;
    c.aux = filter_config((FilterRule)gold_int(g, "minmax"), gold_param(g, "keep"), !gold_int(g, "all"));
    config_arch(&c, "nocap");
    Model m = {};
    model_declare(&m, c, true);
    model_allocate(&m, false, true);
    model_plan_shape(&m, B, T);
    const float one = 1.0f;
    copy_to_device(&m.state->scaler.scale, &one, sizeof(one));
    copy_to_device(m.masters + m.table.rows[m.wte].offset, gold_floats(g, "w"), (size_t)Vp * C * sizeof(float));
    model_weights_changed(&m);
    put_x(m.yf, gold_floats(g, "h"), (size_t)N * C);
    StepWeights weights = {};
    memcpy(weights.token, gold_floats(g, "weights"), (size_t)K * sizeof(float));
    weights.filter = 1;
    targets_start(&m, weights);
    Micro micro = {buffer_i(gold_ints(g, "tokens"), (size_t)(N + K)), NULL, B, T, false};
    head_loss(&m, &micro, training_targets(&m, &micro), (float)(gold_param(g, "strength") / N), true);
    const float* factors = factors_of(&m, N);
    int32_t kept[64];
    for (int n = 0; n < N; n++) kept[n] = factors[n] != 0;
    gold_check_ints(g, "kept", kept);
    gold_check(g, "losses", host_f(m.losses, (size_t)K * N), PRECISION);
    gold_check(g, "dh", host_x(m.dn, (size_t)N * C), PRECISION);
    gold_check(g, "dw", host_f(grad(&m, m.wte), (size_t)Vp * C), PRECISION);
    model_free(&m);
    gold_close(g);
}

static void golden_filters(void** state) {
    const char* const names[] = {"filter_topk", "filter_topk_all", "filter_minmax"};
    for (int i = 0; i < 3; i++) check_golden(names[i]), assert_int_equal(release_buffers(state), 0);
}

enum { C = 64, K = 3, ENTRIES = 4 };

// n-grams for the tiny model: some rows are empty, and only the first 5 positions of a sequence are smoothed.
static void put_table(Model* m) {
    int ids[V * ENTRIES];
    float probs[V * ENTRIES];
    for (int v = 0; v < V; v++) {
        for (int j = 0; j < ENTRIES; j++) {
            ids[v * ENTRIES + j] = v % 4 == 0 ? -1 : (v * 5 + 11 * j) % V;
            probs[v * ENTRIES + j] = v % 4 == 0 ? 0.0f : 0.4f - 0.1f * (float)j;
        }
    }
    SoftTable* t = &m->tables[0];
    memset(t, 0, sizeof(*t));
    t->ids = buffer_i(ids, V * ENTRIES), t->probs = buffer_f(probs, V * ENTRIES), t->alpha = &m->state->in.next.table[0];
    t->gamma = 1.5f, t->K = ENTRIES, t->loss_slot = LOSS_NGRAM, t->first = 5, t->T = T;
}

static void open_filtered(Model* m, const AuxConfig* aux, StepWeights* weights) {
    open_tiny(m, "gpt2", aux);
    m->chunk_rows = 8;  // several chunks
    model_plan_shape(m, B, T);
    const float one = 1.0f;
    copy_to_device(&m->state->scaler.scale, &one, sizeof(one));
    put_table(m);
    memset(weights, 0, sizeof(*weights));
    weights->token[0] = 1.0f, weights->token[1] = 0.5f, weights->token[2] = 0.25f, weights->table[0] = 0.3f,
    weights->filter = 1.0f;
    targets_start(m, *weights);
}

// The filtered gradient is that of all positions with weights of their own, 0 for those that are left out; losses are those of
// all. With further tokens, and with n-grams that look at the position.
static void is_a_weight_per_position(void** state) {
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    const AuxConfig configs[] = {filter_config(FILTER_TOPK, 0.6, true), filter_config(FILTER_TOPK, 0.2, false),
                                 filter_config(FILTER_TOPK, 1, true), filter_config(FILTER_MINMAX, 1, true),
                                 filter_config(FILTER_MINMAX, 1, false)};
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        Model m;
        StepWeights weights;
        open_filtered(&m, &configs[i], &weights);
        size_t size = m.table.rows[m.wte].size;
        float strength = 8.0f / N, list[N * K];
        Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
        model_forward(&m, micro.tokens, B, T);
        Targets targets = training_targets(&m, &micro);
        head_loss(&m, &micro, targets, strength, true);
        const float *losses = host_f(m.losses, STEP_LOSSES * N), *dn = host_x(m.dn, N * C), *dw = host_f(grad(&m, m.wte), size);
        const float* factors = factors_of(&m, N);
        int kept = 0;
        for (int n = 0; n < N; n++) {
            kept += factors[n] != 0;
            for (int k = 0; k < K; k++) list[n * K + k] = weights.token[k] * factors[n];
        }
        if (configs[i].filter.rule == FILTER_TOPK) assert_int_equal(kept, (int)ceil(configs[i].filter.keep * N - 1e-9));
        else assert_in_range(kept, 2, N - 1);
        for (int n = 0; n < N; n++) {
            float expected = configs[i].filter.mean_of_kept ? (float)N / (float)kept : 1.0f;
            if (factors[n] != 0) assert_off(factors[n], expected, 1e-6, "factor");
        }
        targets.weights = buffer_f(list, N * K), targets.weight_stride = K;
        dense_loss(&m, &micro, targets, strength, true);
        const float *all = host_f(m.losses, STEP_LOSSES * N), *dn2 = host_x(m.dn, N * C), *dw2 = host_f(grad(&m, m.wte), size);
        assert_memory_equal(losses, all, K * N * sizeof(float));
        assert_memory_equal(losses + LOSS_NGRAM * N, all + LOSS_NGRAM * N, N * sizeof(float));
        for (int j = 0; j < N * C; j++) {
            if (factors[j / C] == 0) assert_true(dn[j] == 0);
            assert_off(dn[j], dn2[j], 2e-6 + 4 * STORE_ERROR * fabs(dn2[j]), "gradient of yf, element %d", j);
        }
        for (size_t j = 0; j < size; j++) assert_off(dw[j], dw2[j], 1e-5 + 4 * STORE_ERROR * fabs(dw2[j]), "weight %d", (int)j);
        model_free(&m);
        assert_int_equal(release_buffers(state), 0);
    }
}

// The same micro-batch twice in one step: losses and the head's gradient add up, the choice is made anew from this one's losses.
static void micro_steps_add(void** state) {
    (void)state;
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    AuxConfig aux = filter_config(FILTER_TOPK, 0.6, true);
    Model m;
    StepWeights weights;
    open_filtered(&m, &aux, &weights);
    size_t size = m.table.rows[m.wte].size;
    Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
    model_forward(&m, micro.tokens, B, T);
    head_loss(&m, &micro, training_targets(&m, &micro), 1.0f / N, true);
    const float *losses = host_f(m.losses, STEP_LOSSES * N), *dw = host_f(grad(&m, m.wte), size), *dn = host_x(m.dn, N * C);
    micro.accumulate = true;
    head_loss(&m, &micro, training_targets(&m, &micro), 1.0f / N, true);
    const float *twice = host_f(m.losses, STEP_LOSSES * N), *dw2 = host_f(grad(&m, m.wte), size);
    for (int i = 0; i < K * N; i++) assert_true(twice[i] == 2 * losses[i]);
    for (int n = 0; n < N; n++) assert_true(twice[LOSS_NGRAM * N + n] == 2 * losses[LOSS_NGRAM * N + n]);
    for (size_t i = 0; i < size; i++) assert_off(dw2[i], 2 * dw[i], 1e-6 + 1e-5 * fabs(dw[i]), "weight %d", (int)i);
    assert_memory_equal(dn, host_x(m.dn, N * C), N * C * sizeof(float));
    model_free(&m);
}

// ---------------------------------------------------------------------------------------------------------------------
// In training

// A filter that is not at work in a step is none; when it is, the losses of that step are those of all positions as before.
static void off_is_absent(void** state) {
    (void)state;
    AuxConfig aux = filter_config(FILTER_TOPK, 0.6, true);
    StepWeights weights[STEPS + 1] = {};
    Model m;
    for (int i = 0; i <= STEPS; i++) weights[i].token[0] = 1.0f;
    open_tiny(&m, "nocap", NULL);
    Trace absent = trace_steps(&m, weights, 0);
    model_free(&m);
    open_tiny(&m, "nocap", &aux);
    Trace off = trace_steps(&m, weights, 0);
    model_free(&m);
    assert_memory_equal(absent.values, off.values, absent.bytes);
    weights[2].filter = 1.0f;
    open_tiny(&m, "nocap", &aux);
    Trace later = trace_steps(&m, weights, 0);
    model_free(&m);
    const char *a = (const char*)absent.values, *b = (const char*)later.values;
    size_t step = absent.step_bytes;
    assert_memory_equal(a, b, 2 * step + N * sizeof(float));
    assert_memory_not_equal(a + 2 * step, b + 2 * step, step);
    free(absent.values), free(off.values), free(later.values);
}

// Against losses of 0, excess is topk, to the bit; against others it is not; losses are those of all positions all the same.
static void zero_reference_is_topk(void** state) {
    (void)state;
    StepWeights weights[STEPS + 1] = {};
    Trace traces[3];
    float zero[N] = {}, some[N];
    for (int n = 0; n < N; n++) some[n] = (float)(n * 5 % 7);
    for (int i = 0; i <= STEPS; i++) weights[i].token[0] = 1.0f, weights[i].token[1] = 0.5f, weights[i].filter = 1.0f;
    for (int i = 0; i < 3; i++) {
        AuxConfig aux = filter_config(i ? FILTER_EXCESS : FILTER_TOPK, 0.6, true);
        Model m;
        open_tiny(&m, "nocap", &aux);
        tiny_reference = i ? buffer_f(i == 1 ? zero : some, N) : NULL;
        traces[i] = trace_steps(&m, weights, 0);
        tiny_reference = NULL;
        model_free(&m);
    }
    assert_memory_equal(traces[0].values, traces[1].values, traces[0].bytes);
    assert_memory_equal(traces[0].values, traces[2].values, N * sizeof(float));
    assert_memory_not_equal(traces[0].values, traces[2].values, traces[0].step_bytes);
    for (int i = 0; i < 3; i++) free(traces[i].values);
}

// Which positions a micro-step of the model keeps: those whose loss is farthest above the reference's, by a search in double.
static void keeps_the_excess(void** state) {
    (void)state;
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    AuxConfig aux = filter_config(FILTER_EXCESS, 0.4, true);
    Model m;
    StepWeights weights;
    open_filtered(&m, &aux, &weights);
    Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false, NULL};
    model_forward(&m, micro.tokens, B, T);
    head_loss(&m, &micro, measured_targets(&m, &micro, 1), 0.0f, false);
    float reference[N], *losses = host_f(m.losses, N);
    for (int n = 0; n < N; n++) reference[n] = n % 4 ? losses[n] + (float)((n * 7) % 32) / 32 - 0.5f : losses[n];  // ties at 0
    micro.reference = buffer_f(reference, N);
    model_micro_step(&m, &micro, 1);
    assert_memory_equal(host_f(m.losses, N), losses, N * sizeof(float));
    const float* factors = factors_of(&m, N);
    int kept = 0;
    for (int n = 0; n < N; n++) {
        int above = 0;
        double mine = (double)(losses[n] - reference[n]);
        for (int i = 0; i < N; i++) {
            above += (double)(losses[i] - reference[i]) > mine || ((double)(losses[i] - reference[i]) == mine && i < n);
        }
        kept += factors[n] != 0;
        if ((factors[n] != 0) != (above < filter_keep(&aux.filter, N))) fail_msg("position %d: %d are above it", n, above);
    }
    assert_int_equal(kept, filter_keep(&aux.filter, N));
    model_free(&m);
}

// The filtered loss of the positions that were kept in the micro-step that is being differentiated.
static double kept_loss(Model* m, const Micro* micro) {
    double sum = 0;
    const float* factors = factors_of(m, N);
    model_forward(m, micro->tokens, B, T);
    head_loss(m, micro, training_targets(m, micro), 0.0f, false);
    const float* losses = host_f(m->losses, 2 * N);
    for (int i = 0; i < 2 * N; i++) sum += (double)m->targets.token[i / N] * losses[i] * factors[i % N] / N;
    return sum;
}

static void finite_differences(void** state) {
    if (!slopes_mean_something()) skip();
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    for (int rule = 0; rule < 2; rule++) {
        AuxConfig aux = filter_config((FilterRule)rule, rule ? 1 : 0.4, true);
        StepWeights weights = {};
        Model m;
        open_tiny(&m, rule ? "nocap" : "gpt2", &aux);
        weights.token[0] = 1.0f, weights.token[1] = 0.5f, weights.filter = 1.0f;
        targets_start(&m, weights);
        Micro micro = {buffer_i(tokens, TOKENS), buffer_i(order, N), B, T, false};
        check_slopes(&m, &micro, kept_loss);
        model_free(&m);
        assert_int_equal(release_buffers(state), 0);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Flags

static void parse_in_child(const void* line) {
    Options options;
    FlagTable flags = options_table(&options);
    char* copy = text_copy((const char*)line);
    flags_lines(&flags, copy, "test", 0);
    TokenFilter f = filter_from_flags(&flags, 100);
    printf("on %d rule %d keep %g kept %d at", f.config.on, f.config.rule, f.config.keep, f.config.mean_of_kept);
    for (int step = 0; step < 40; step += 10) printf(" %d", filter_at(&f, step));
    printf(" reads %s", f.reference ? f.reference : "nothing");
}

static void flags_mean_something(void** state) {
    (void)state;
    const struct {
        const char* line;
        int code;
        const char* says;
    } cases[] = {
        {"", 0, "on 0 rule 0 keep 1 kept 1 at 0 0 0 0"},
        {"--tf_keep 1 --tf_norm all --tf_start_step 3", 0, "on 0 rule 0 keep 1 kept 0 at 0 0 0 0"},
        {"--tf_keep 0.6", 0, "on 1 rule 0 keep 0.6 kept 1 at 1 1 1 1"},
        {"--tf_keep 0.6 --tf_start_step 10 --tf_stop_step 20 --tf_norm all", 0, "on 1 rule 0 keep 0.6 kept 0 at 0 1 0 0"},
        {"--tf_rule minmax --tf_threshold 0.5 --tf_start_step 11", 0, "on 1 rule 1 keep 1 kept 1 at 0 0 1 1"},
        {"--tf_norm all", EXIT_USAGE, "--tf_norm has no effect without --tf_keep"},
        {"--tf_stop_step 5", EXIT_USAGE, "--tf_stop_step has no effect without --tf_keep"},
        {"--tf_keep 0.6 --tf_threshold 0.5", EXIT_USAGE, "--tf_threshold has no effect with --tf_rule topk"},
        {"--tf_keep 0.6 --tf_rule minmax", EXIT_USAGE, "--tf_keep has no effect with --tf_rule minmax"},
        {"--tf_keep 0.6 --tf_start_step 7 --tf_stop_step 7", EXIT_USAGE, "--tf_stop_step 7 is not after --tf_start_step 7"},
        {"--tf_keep 0", EXIT_USAGE, "tf_keep"},
        {"--tf_keep 0.5 --tf_mode deep", EXIT_USAGE, "expected one of output"},
        {"--tf_rule excess --tf_keep 0.6 --tf_reference d", 0, "on 1 rule 2 keep 0.6 kept 1 at 1 1 1 1 reads d"},
        {"--tf_rule excess --tf_keep 1 --tf_reference d", 0, "on 0 rule 2 keep 1 kept 1 at 0 0 0 0 reads nothing"},
        {"--tf_rule excess --tf_reference d", EXIT_USAGE, "has no effect without --tf_keep"},
        {"--tf_rule excess --tf_keep 0.6", EXIT_USAGE, "add --tf_reference DIR"},
        {"--tf_keep 0.6 --tf_reference d", EXIT_USAGE, "--tf_reference has no effect with --tf_rule topk; add --tf_rule excess"},
        {"--tf_rule minmax --tf_reference d", EXIT_USAGE, "--tf_reference has no effect with --tf_rule minmax"},
        {"--tf_rule excess --tf_reference d --tf_keep 0.5 --tf_threshold 0.5", EXIT_USAGE,
         "no effect with --tf_rule excess; add"},
        {"--tf_rule best", EXIT_USAGE, "expected one of topk, minmax, excess"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int code = run_child(parse_in_child, cases[i].line);
        if (code != cases[i].code)
            fail_msg("%s: exit code %d, expected %d; it said %s", cases[i].line, code, cases[i].code, child_output);
        assert_says(cases[i].says);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        // clang-format off
        TEST(keeps_the_largest), TEST(known_choices), TEST(keeps_nothing_of_equal_losses), TEST(rows_go_and_come_back),
        TEST(slots_add), TEST(golden_filters), TEST(flags_mean_something), TEST(compares_with_a_reference),
#ifndef EMU_CHECK  // whole models: their kernels are above
        TEST(is_a_weight_per_position), TEST(micro_steps_add), TEST(off_is_absent), TEST(finite_differences),
        TEST(zero_reference_is_topk), TEST(keeps_the_excess),
#endif
        // clang-format on
    };
    return cmocka_run_group_tests_name("token filter " PRECISION_NAME, tests, NULL, NULL);
}
