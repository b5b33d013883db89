/*
A dry run's plan against the run: memory byte for byte, operations one for one, bytes as the counting build counts them on a GPU
(budget/lines.h; memory there: budget/plan.h), the time model by hand.

    counted          by
    memory           mmap and aligned_alloc
    products         the calls; and, where no tile is padded, every multiply-add of the tiles
    attention        every block product; masked halves count whole, which is why blocks of 64 on the diagonal are taken off
*/
#include "child.h"

#define VARIANT plan
#include "llmc/base/device.cuh"

#include <sys/mman.h>

static size_t counted_bytes;
static double counted_products, counted_tiles, counted_attention;

static void* counted_mmap(void* at, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (flags & MAP_ANONYMOUS) counted_bytes += bytes;  // others are shards
    return mmap(at, bytes, protection, flags, file, offset);
}
static void* counted_aligned_alloc(size_t alignment, size_t bytes) {
    counted_bytes += bytes;
    return aligned_alloc(alignment, bytes);
}
#define mmap counted_mmap
#define aligned_alloc counted_aligned_alloc

#define tile_multiply real_tile_multiply
#include "llmc/ops/gemm_cpu_tiles.h"
#undef tile_multiply
static void tile_multiply(TileKind kind, int kc, const float* a, const float* b, float* tile, bool add) {
    TileShape shape = TILE_SHAPES[kind];
#pragma omp atomic
    counted_tiles += 2.0 * kc * shape.mr * shape.nr;
    real_tile_multiply(kind, kc, a, b, tile, add);
}

#define gemm_multiply real_gemm_multiply
#include "llmc/ops/gemm_cpu.h"
#undef gemm_multiply
static void gemm_multiply(Gemm* g, const GemmCall* c, stream_t stream) {
#pragma omp atomic
    counted_products += planning.walks ? 0.0 : 2.0 * c->rows * c->in * c->out;
    real_gemm_multiply(g, c, stream);
}

#define attn_product real_attn_product
#include "llmc/ops/attention_cpu_tiles.h"
#undef attn_product
template <bool ADD, bool TRANSPOSED>
static void attn_product(float* c, int ldc, const float* a, int lda, const float* b, int ldb, int rows, int columns, int terms,
                         AttnSkip skip) {
#pragma omp atomic
    counted_attention += 2.0 * rows * columns * terms;
    real_attn_product<ADD, TRANSPOSED>(c, ldc, a, lda, b, ldb, rows, columns, terms, skip);
}

#include "train_gpt2.cu"

#include "budget/lines.h"
#include "quiet.h"

// The variants that validate in another precision are not linked.
#define NO_SIBLING(p)                                                                                                      \
    extern "C" bool SIBLING(ahead_validate, p)(void**, int, char**, const float*, const volatile sig_atomic_t*, double*) { \
        fail("no sibling here");                                                                                           \
    }                                                                                                                      \
    extern "C" size_t SIBLING(ahead_validation_bytes, p)(int argc, char** argv, int B, bool gpu, int sm_major) {           \
        return ahead_validation_bytes_plan(argc, argv, B, gpu, sm_major);                                                  \
    }
NO_SIBLING(fp32)
NO_SIBLING(bf16)
NO_SIBLING(fp16)

enum { SHARD_TOKENS = 8192, MAX_WORDS = 96 };
#define SIZE " --n_layer 3 --n_head 2 --n_embd 96 --vocab_size 300 --sequence_length 128 --batch_size 3"

static const char* text_of(const char* format, const char* word) {
    static char text[1024];
    snprintf(text, sizeof(text), format, word);
    return text;
}

// Losses of 1 for all tokens of the shard.
static void write_losses(void) {
    ReferenceWriter w;
    Shard shard = shard_open(test_path("s_000000.bin"));
    float* ones = (float*)xmalloc(SHARD_TOKENS * sizeof(float));
    for (int i = 0; i < SHARD_TOKENS; i++) ones[i] = 1;
    reference_begin(&w, test_path("s_000000.losses"));
    reference_append(&w, ones, SHARD_TOKENS);
    reference_end(&w, &shard, 1, 64);
    shard_close(&shard), free(ones);
}

static Trainer* trainer(const char* flags) {
    char line[2048], **argv = (char**)xcalloc(MAX_WORDS * sizeof(char*));
    int argc = 1;
    argv[0] = (char*)"train_gpt2cu";
    snprintf(line, sizeof(line), "%s --input_bin %s --input_val_bin %s", flags, test_path("s_*.bin"), test_path("s_*.bin"));
    if (strstr(flags, "--use_cocont"))
        snprintf(line + strlen(line), sizeof(line) - strlen(line), " --ngram_path %s", test_path("ngrams"));
    for (char* word = strtok(text_copy(line), " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    Trainer* t = (Trainer*)xcalloc(sizeof(Trainer));
    t->flags = options_table(&t->o);
    t->argc = argc, t->argv = argv;
    flags_parse(&t->flags, argc, argv);
    return t;
}

static PlannedRun planned(Trainer* t) {
    bool own_val = !strcmp(t->o.val_precision, PRECISION_NAME);
    return (PlannedRun){t->model.config, &t->flags, &t->objective, t->has_val, own_val, t->val_T, sibling_bytes, t};
}

static void close_trainer(Trainer* t) {
    feed_close(&t->train);
    if (t->has_val && !strcmp(t->o.val_precision, PRECISION_NAME)) feed_close(&t->val);
    model_free(&t->model);
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

static void check_memory(const char* flags) {
    int before = quiet(-1);
    Trainer* t = trainer(flags);
    size_t start = counted_bytes;
    open_run(t);
    size_t found = counted_bytes - start + 2 * loader_buffer_bytes(&t->train.loader);  // batches are where the loader made them
    if (t->has_val) found += 2 * loader_buffer_bytes(&t->val.loader);
    size_t opened = counted_bytes;
    micro_step(t, 0);
    size_t later = counted_bytes - opened;
    PlannedRun run = planned(t);
    MemoryPlan plan = plan_memory(&run, t->o.batch_size, 8);
    size_t sum = 0;
    for (int k = 0; k < MEMORY_KINDS; k++) sum += plan.bytes[k];
    close_trainer(t);
    quiet(before);
    if (plan.total != found) fail_msg("%s: planned %zu bytes, allocated %zu", flags, plan.total, found);
    if (later) fail_msg("%s: a micro-step allocates %zu bytes", flags, later);
    if (sum != found) fail_msg("%s: the categories add up to %zu bytes, allocated %zu", flags, sum, found);
}
// A factorised vocabulary: sizes that only the data know are planned for the worst.
static void memory_of_rows_and_columns(void** state) {
    (void)state;
    static const char* const decoders[] = {"", " --lightrnn_decoder shared", " --lightrnn_decoder lowrank --lightrnn_rank 3",
                                           " --lightrnn_decoder shared --tie_embedding none --head lightrnn"};
    static const char* const objectives[] = {
        "", " --mtp_enabled --mtp_max_steps 3", " --use_cocont --ngram_k 8",
        " --mtp_enabled --mtp_max_steps 4 --use_cocont --ngram_k 8 --cocont_mass exact",
        " --use_cocont --ngram_k 5 --cocont_mass exact --val_loss_every 1 --val_batch_size 2 --val_tokens 512 "
        "--val_sequence_length 64 --val_precision " PRECISION_NAME};
    char flags[512];
    for (int d = 0; d < 4; d++) {
        for (int o = 0; o < 5; o++) {
            snprintf(flags, sizeof(flags), "%s%s%s --threads 2" SIZE, d < 3 ? "--tie_embedding light" : "", decoders[d],
                     objectives[o]);
            check_memory(flags);
        }
    }
}

static void memory_is_what_the_run_allocates(void** state) {
    (void)state;
    check_memory("--arch gpt2" SIZE);
    check_memory("--arch nocap --recompute gelu --tie_embedding none" SIZE);
    check_memory("--arch gpt2 --recompute block --mtp_enabled --mtp_heads proj --consist_weight 0.1" SIZE);
    check_memory(
        "--arch nocap --mtp_enabled --mtp_max_steps 3 --mtp_heads linear --val_loss_every 1 --val_batch_size 2 "
        "--val_tokens 512 --val_sequence_length 64 --val_precision " PRECISION_NAME SIZE);
    check_memory("--arch nocap --tf_keep 0.5 --embedding lightrnn" SIZE);
    check_memory("--tie_embedding light --threads 2" SIZE);
    check_memory(text_of("--arch nocap --tf_keep 0.5 --tf_rule excess --tf_reference %s --mtp_enabled" SIZE, test_dir()));
}

// What the arenas hold, by hand: 3 fp32 arrays and the storage of an element more, or masters twice.
static void categories(void** state) {
    (void)state;
    int before = quiet(-1);
    Trainer* t = trainer("--arch nocap" SIZE);
    declare_run(t);
    PlannedRun run = planned(t);
    MemoryPlan plan = plan_memory(&run, 3, 8), more = plan_memory(&run, 6, 8);
    quiet(before);
    size_t guard = ARENA_GUARD, n = t->model.table.size, rows = 3 * 128, X = sizeof(floatX);
    assert_int_equal(plan.bytes[MEMORY_MASTERS], 4 * n + guard);
    assert_int_equal(plan.bytes[MEMORY_GRADS], 4 * n + guard);
    assert_int_equal(plan.bytes[MEMORY_WEIGHTS], X == 4 ? guard : 2 * n + guard);
    assert_int_equal(plan.bytes[MEMORY_MOMENTS], 8 * n + round_up(n / 256, 256) + 3 * guard);
    assert_int_equal(plan.bytes[MEMORY_LOGITS], rows * 384 * X + guard);
    assert_int_equal(more.bytes[MEMORY_MASTERS], plan.bytes[MEMORY_MASTERS]);
    assert_true(more.bytes[MEMORY_ACTIVATIONS] > 1.8 * plan.bytes[MEMORY_ACTIVATIONS]);
    assert_int_equal(plan.bytes[MEMORY_VALIDATION], 0);
}

static void the_largest_batch_fits_and_one_more_does_not(void** state) {
    (void)state;
    int before = quiet(-1);
    Trainer* t = trainer("--arch nocap" SIZE);
    declare_run(t);
    PlannedRun run = planned(t);
    size_t limits[] = {plan_memory(&run, 1, 8).total, plan_memory(&run, 7, 8).total, plan_memory(&run, 300, 8).total + 1};
    int batch[3], none = plan_largest_batch(&run, limits[0] - 1, 8);
    for (int i = 0; i < 3; i++) batch[i] = plan_largest_batch(&run, limits[i], 8);
    quiet(before);
    assert_int_equal(none, 0);
    for (int i = 0; i < 3; i++) {
        assert_true(plan_memory(&run, batch[i], 8).total <= limits[i]);
        assert_true(plan_memory(&run, batch[i] + 1, 8).total > limits[i]);
    }
    assert_int_equal(batch[0], 1);
    assert_int_equal(batch[1], 7);
    assert_int_equal(batch[2], 300);
}

// ---------------------------------------------------------------------------------------------------------------------
// Work

static double planned_flops(WorkKind kind) {
    double sum = 0;
    for (int i = 0; i < planning.count; i++)
        sum += planning.work[i].kind == kind ? planning.work[i].flops * planning.work[i].times : 0;
    return sum;
}

// Trains two steps, the second of which has all weights. rest: of the products, as a share, that the plan may have too many.
static void check_flops(const char* flags, bool tiles, double rest) {
    int before = quiet(-1);
    Trainer* t = trainer(flags);
    const Config* c = &t->model.config;
    open_run(t);
    t->model.targets = plan_weights(&t->objective, t->o.num_iterations);
    targets_start(&t->model, t->model.targets);
    counted_products = counted_tiles = counted_attention = 0;
    for (int a = 0; a < t->o.grad_accumulation_steps; a++) micro_step(t, a);
    double products = counted_products, in_tiles = counted_tiles, attention = counted_attention;
    PlannedRun run = planned(t);
    planning.on = true;
    plan_walk(&run);
    planning.on = false;
    double plan = planned_flops(WORK_PRODUCT), plan_attention = planned_flops(WORK_ATTENTION);
    // a head's triangle of T (T + 1) / 2 pairs, in blocks of 64: the diagonal's have 64 * 63 / 2 pairs too many
    double pairs = (double)c->T * (c->T + 1) / 2, blocks = c->T / 64, rounding = blocks * 64 * 63 / 2;
    close_trainer(t);
    quiet(before);
    if (c->T % 64 == 0) attention *= pairs / (pairs + rounding);
    if (fabs(attention - plan_attention) > 1e-9 * attention)
        fail_msg("%s: attention: planned %.0f, counted %.0f", flags, plan_attention, attention);
    if (tiles && plan != in_tiles) fail_msg("%s: products: planned %.0f, multiplied and added %.0f", flags, plan, in_tiles);
    if (plan < products || plan > products * (1 + rest))
        fail_msg("%s: products: planned %.0f, counted %.0f", flags, plan, products);
}

static void operations_are_what_the_run_does(void** state) {
    (void)state;
    omp_set_num_threads(2);
    check_flops("--arch gpt2 --grad_accumulation_steps 2" SIZE, true, 0);
    check_flops("--arch nocap --recompute gelu" SIZE, true, 0);
    check_flops("--arch gpt2 --recompute block" SIZE, true, 0);
    check_flops("--arch nocap --vocab_size 260 --mtp_enabled --mtp_max_steps 4" SIZE, true, 0);
    check_flops("--arch nocap --mtp_enabled --mtp_max_steps 3 --mtp_heads linear" SIZE, true, 0);
    check_flops("--arch gpt2 --mtp_enabled --mtp_max_steps 3 --mtp_heads proj --consist_weight 0.1 --consist_teacher_grad" SIZE,
                false, 0);
    check_flops("--arch gpt2 --mtp_enabled --mtp_weights 1,0.5:0/1" SIZE, true, 0);
    check_flops("--arch nocap --tf_keep 0.5" SIZE, false, 0);
    check_flops("--arch nocap --tf_rule minmax" SIZE, true, 0);
    check_flops(text_of("--arch nocap --tf_keep 0.5 --tf_rule excess --tf_reference %s" SIZE, test_dir()), false, 0);
    check_flops("--arch nocap --tie_embedding none --batch_size 9" SIZE, false, 0);
    check_flops("--arch nocap --tie_embedding light" SIZE, false, 0);
    check_flops("--arch nocap --tie_embedding light --mtp_enabled --mtp_max_steps 3" SIZE, false, 0.2);  // targets share rows
    check_flops("--arch nocap --tie_embedding light --use_cocont --ngram_k 3 --cocont_mass exact" SIZE, false, 0.5);
    check_flops("--arch nocap --tie_embedding light --lightrnn_decoder shared --use_cocont --ngram_k 3 --cocont_mass exact" SIZE,
                false, 0);
}

// A weight that rises from 0, and one that only the second half of the run has, are planned.
static void parts_of_any_step_have_weight(void** state) {
    (void)state;
    int before = quiet(-1);
    Trainer* t =
        trainer("--mtp_enabled --mtp_max_steps 3 --mtp_weights 1/1,0:0.5,0.25 --spell_weight 0.1 --spell_rampup_steps 5" SIZE);
    planning.on = true;
    declare_run(t);
    planning.on = false;
    StepWeights w = plan_weights(&t->objective, t->o.num_iterations), first = objective_weights(&t->objective, 0);
    quiet(before);
    assert_true(w.token[0] == 1 && w.token[1] > 0 && w.token[2] > 0 && w.token[3] == 0 && w.spelling > 0 && w.filter == 0);
    assert_true(first.token[1] == 0 && first.spelling == 0);
}

// More threads than heads: a head is split, and its backward pass makes 7 products instead of 5.
static void attention_of_few_heads(void** state) {
    (void)state;
    omp_set_num_threads(4);
    check_flops("--arch gpt2 --n_layer 1 --n_head 2 --n_embd 96 --vocab_size 300 --sequence_length 128 --batch_size 1", false, 0);
    omp_set_num_threads(2);
}

// d12 as a GPU would run it: operations by hand, bytes of kernels as test_budget counts them.
static WorkKind kind_of_kernel(const char* kernel) {
    return !strncmp(kernel, "norm", 4)                             ? WORK_NORM
           : !strncmp(kernel, "rope", 4)                           ? WORK_ROPE
           : !strncmp(kernel, "gelu", 4)                           ? WORK_GELU
           : !strncmp(kernel, "column", 6)                         ? WORK_BIAS
           : strstr(kernel, "backward_kernel") && kernel[0] != 'a' ? WORK_EMBEDDING
                                                                   : WORK_OTHER;
}
static void check_d12(const char* arch) {
    int before = quiet(-1);
    char flags[200];
    snprintf(flags, sizeof(flags),
             "--arch %s --sequence_length 1024 --batch_size 16 --grad_accumulation_steps 4 --deterministic 0", arch);
    Trainer* t = trainer(flags);
    planning.on = planning.gpu = true;
    declare_run(t);
    PlannedRun run = planned(t);
    plan_walk(&run);
    size_t workspace = plan_memory(&run, 16, 8).bytes[MEMORY_WORKSPACE];
    planning.on = planning.gpu = false;
    quiet(before);
    double tokens = 4 * 16 * 1024, C = 768, L = 12, Vp = 50304, T = 1024, X = sizeof(floatX);
    double bytes[WORK_KINDS] = {0}, lines[WORK_KINDS] = {0};
    int backward = PRECISION == PRECISION_FP32 ? 7 : 5;
    for (int i = 0; i < planning.count; i++) bytes[planning.work[i].kind] += planning.work[i].bytes * planning.work[i].times;
    assert_true(planned_flops(WORK_PRODUCT) == tokens * 6 * (12 * C * C * L + C * Vp));
    assert_true(planned_flops(WORK_ATTENTION) == tokens * L * (2 + backward) * C * (T + 1));
    assert_true(bytes[WORK_CLASSIFIER] == tokens * 2 * Vp * X);
    assert_true(bytes[WORK_OPTIMIZER] == (double)t->model.table.size * (X == 4 ? 32 : 34));
    if (PRECISION == PRECISION_FP32) return;
    assert_int_equal(workspace, ((size_t)32 << 20) + 8 * 16 * 1024 * 768 + 4 * 16 * 12 * 1024);
    for (const Line* l = lines_of(arch); l->kernel; l++)
        lines[kind_of_kernel(l->kernel)] += tokens * C * (l->layer * L + l->ends);
    for (int k = WORK_NORM; k < WORK_OTHER; k++) {
        if (bytes[k] != lines[k]) fail_msg("%s, kind %d: planned %.0f bytes, counted %.0f", arch, k, bytes[k], lines[k]);
    }
}
static void d12_on_a_gpu(void** state) {
    (void)state;
    check_d12("nocap");
    check_d12("gpt2");
}

// Factors once, the result once, or twice when it is added to; in fp32 where it is fp32. A GPU's GELU is a kernel behind the
// product.
static void bytes_of_a_product(void** state) {
    (void)state;
    double X = sizeof(floatX), R = 16, in = 24, out = 40;
    floatX z;
    GemmCall c = {GEMM_FORWARD, 16, 24, 40, true, true, NULL, NULL, NULL, NULL, 1.0f, 0, false, false, NULL};
    planning.walks = true, planning.count = 0;
    gemm_count(&c);
    c.kind = GEMM_DINPUT, c.result_is_float = c.accumulate = false;
    gemm_count(&c);
    c.kind = GEMM_DWEIGHT, c.result_is_float = true;
    gemm_count(&c);
    c.kind = GEMM_FORWARD, c.result_is_float = false, c.gelu_forward = true, c.z = &z;
    gemm_count(&c);
    planning.gpu = true;
    gemm_count(&c);
    planning.gpu = planning.walks = false;
    double expected[] = {(R * in + in * out) * X + R * out * 8, (R * in + in * out + R * out) * X,
                         (R * in + R * out) * X + in * out * 4, (R * in + in * out + 2 * R * out) * X,
                         (R * in + in * out + R * out) * X,     2 * R * out * X};
    assert_int_equal(planning.count, 6);
    for (int i = 0; i < 6; i++) {
        assert_true(planning.work[i].bytes == expected[i]);
        assert_true(planning.work[i].flops == (i < 5 ? 2 * R * in * out : 0));
    }
}

// max(operations, bytes), at the rates and shares of the table.
static void seconds_by_hand(void** state) {
    (void)state;
    DeviceRates d = {"x", "", 8, 24, 1000, 100, 50, 10, 0.5, 0.25, 0.8, false, ""};
    bool fp32 = PRECISION == PRECISION_FP32;
    double rate = fp32 ? 10e12 : 100e12;
    Work product = {SECTION_MLP, WORK_PRODUCT, 1e12, 1e6, 1}, attention = {SECTION_MIXER, WORK_ATTENTION, 1e12, 1e6, 1};
    Work moved = {SECTION_MIXER, WORK_NORM, 0, 8e9, 1}, bound = {SECTION_HEAD, WORK_PRODUCT, 1e9, 16e9, 3};
    assert_float_equal(work_seconds(&product, &d, false), 1e12 / (rate * 0.5), 1e-12);
    assert_float_equal(work_seconds(&attention, &d, false), 1e12 / (rate * 0.25), 1e-12);
    assert_float_equal(work_seconds(&attention, &d, true), 1e12 / (rate * 0.25), 1e-12);
    assert_float_equal(work_seconds(&product, &d, true), 1e12 / ((fp32 ? 50e12 : 100e12) * 0.5), 1e-12);
    assert_float_equal(work_seconds(&moved, &d, false), 0.01, 1e-12);
    assert_float_equal(work_seconds(&bound, &d, false), 0.02, 1e-12);
}

static void sums_have_all_the_work(void** state) {
    (void)state;
    Work work[] = {{SECTION_HEAD, WORK_PRODUCT, 100e12, 0, 2},
                   {SECTION_AUXILIARY, WORK_PRODUCT, 1, 2, 1},
                   {SECTION_MLP_BACKWARD, WORK_PRODUCT, 3, 5, 1},
                   {SECTION_HEAD, WORK_CLASSIFIER, 0, 7, 4},
                   {SECTION_MIXER, WORK_ATTENTION, 11, 13, 1}};
    DeviceRates d = {"x", "", 8, 24, 1000, 100, 100, 100, 1, 1, 1, false, ""};
    PlannedDevices devices = {{&d}, 1};
    WorkSum sums[LINES + 1];
    Planning kept = planning;
    planning.work = work, planning.count = 5;
    sum_work(sums, &devices, false);
    planning = kept;
    assert_true(sums[LINE_HEAD].flops == 200e12 && sums[LINE_AUXILIARY].flops == 1 && sums[LINE_TRUNK].flops == 3);
    assert_true(sums[LINE_KINDS + WORK_CLASSIFIER].bytes == 28 && sums[LINE_KINDS + WORK_ATTENTION].bytes == 13);
    assert_true(sums[LINES].flops == 200e12 + 15 && sums[LINES].bytes == 48);
    assert_float_equal(sums[LINES].seconds[0], 2, 1e-6);
    for (int i = 0; i < LINES; i++) assert_true(i == LINE_KINDS + WORK_PRODUCT || *line_name(i));
}

int main(int argc, char** argv) {
    static uint16_t ids[SHARD_TOKENS];
    for (int i = 1; i < argc; i++) cmocka_set_test_filter(argv[i]);
    for (int i = 0; i < SHARD_TOKENS; i++) ids[i] = (uint16_t)(i * i % 251);
    shard_write(test_path("s_000000.bin"), ids, SHARD_TOKENS);
    TopTable t = top_table_alloc(TABLE_BIGRAM, 300, 8);
    for (int i = 0; i < 300 * 8; i++) t.ids[i] = (i / 8 * 13 + i % 8 * 29 + 1) % 300, t.probs[i] = 0.125f;
    for (int i = 0; i < 300; i++) t.p_top[i] = 1;
    top_table_save(test_path("ngrams"), &t);
    write_losses();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_what_the_run_allocates),
        cmocka_unit_test(memory_of_rows_and_columns),
        cmocka_unit_test(categories),
        cmocka_unit_test(the_largest_batch_fits_and_one_more_does_not),
        cmocka_unit_test(operations_are_what_the_run_does),
        cmocka_unit_test(attention_of_few_heads),
        cmocka_unit_test(parts_of_any_step_have_weight),
        cmocka_unit_test(d12_on_a_gpu),
        cmocka_unit_test(seconds_by_hand),
        cmocka_unit_test(bytes_of_a_product),
        cmocka_unit_test(sums_have_all_the_work),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, test_dir_remove);
}
