/*
ahead.c: trains GPT-2 on one GPU, or on the CPU, from one source.

This file is compiled once per (device, precision) and every variant is linked into the one binary; --device and --precision
choose at start. Reading order: the flag table, train(), then llmc/model/trunk.cuh for the network itself.
*/
#include "llmc/base/flags.h"
#include "llmc/base/step_clock.cuh"
#include "llmc/io/checkpoint_dir.h"
#include "llmc/io/checkpoint_read.h"
#include "llmc/io/feed.cuh"
#include "llmc/io/logger.h"
#include "llmc/io/profile_report.h"
#include "llmc/io/results.h"
#include "llmc/io/sampler.h"
#include "llmc/io/stop.h"
#include "llmc/io/text_bytes.h"
#include "llmc/io/tokenizer_open.h"
#include "llmc/model/choice_eval.cuh"
#include "llmc/model/codebook_measure.cuh"
#include "llmc/model/from_checkpoint.cuh"
#include "llmc/model/generate.cuh"
#include "llmc/model/init_from.cuh"
#include "llmc/model/nonfinite.cuh"
#include "llmc/model/plan_print.cuh"
#include "llmc/model/score.cuh"
#include "llmc/model/setup.cuh"
#include "llmc/model/validation.cuh"
#include "llmc/model/vocabulary.h"
#include "llmc/optim/schedule.h"

#include <sys/resource.h>

// ---------------------------------------------------------------------------------------------------------------------
// The flag table: name, default, range, help. Parser, --help, banner, checkpoint and log are derived from it.
// clang-format off
#define OPTIONS(SECTION, INT, LONG, FLOAT, SWITCH, STRING, CHOICE)                                                                \
    SECTION("Data")                                                                                                               \
    STRING(input_bin, "data/fineweb10B/fineweb_train_*.bin", "training shards: a glob, quoted")                                   \
    STRING(input_val_bin, "data/fineweb10B/fineweb_val_*.bin", "validation shards: a glob, quoted; empty = never validate")       \
    STRING(tokenizer, "", "tokenizer file for samples and spelling; empty = PREFIX_tokenizer.bin beside the first training shard") \
    SECTION("Model")                                                                                                              \
    CHOICE(arch, "gpt2", "gpt2|nocap", "the trunk: OpenAI's GPT-2, or the NoCap baseline (RoPE, RMSNorm, no biases)")             \
    CHOICE(model, "d12", "d12|d24|d36|d48", "size: 124M, 353M, 772M, 1.5B parameters")                                            \
    INT(n_layer, 0, 0, 256, "layers; 0 = of --model")                                                                             \
    INT(n_head, 0, 0, 256, "heads; 0 = of --model")                                                                               \
    INT(n_embd, 0, 0, 8192, "width; 0 = of --model")                                                                              \
    INT(vocab_size, 50257, 2, 65536, "token ids; logits are padded to a multiple of 128")                                         \
    INT(sequence_length, 64, 1, 65536, "tokens per sequence (T)")                                                                 \
    CHOICE(tie_embedding, "full", "full|none|light", "the head shares the embedding, has its own matrix, or both are lightrnn")   \
    CHOICE(head, "dense", HEAD_CHOICES, "logits of every token, or of the rows and columns of a table of tokens")                  \
    CHOICE(embedding, "dense", HEAD_CHOICES, "a vector for every token, or for the rows and columns of a table of tokens")         \
    INT(table_size, 0, 0, 65536, "columns of that table; 0 = the square root of the vocabulary")                                  \
    STRING(codebook, "", "which cell each token has, a file of data/build_codebook; empty = in order, row by row")                 \
    CHOICE(lightrnn_decoder, "per_row", LIGHTRNN_DECODERS, "column weights of a lightrnn head: each row has its own, all share "   \
           "one set (and the embedding's tables, unless --tie_embedding none), or share one and differ in a low rank")            \
    INT(lightrnn_rank, 0, 0, 256, "directions of each row in --lightrnn_decoder lowrank; try 8")                                  \
    SECTION("Training")                                                                                                           \
    INT(batch_size, 4, 1, 1048576, "sequences per micro-step (B)")                                                                \
    INT(grad_accumulation_steps, 1, 1, 1048576, "micro-steps per step")                                                           \
    INT(num_iterations, 10, 0, 1000000000, "steps")                                                                               \
    FLOAT(learning_rate, 1e-4, 0, 100, "peak learning rate")                                                                      \
    CHOICE(lr_schedule, "trapezoid", SCHEDULE_CHOICES, "shape of the learning rate over the run")                                 \
    INT(warmup_iters, 0, 0, 1000000000, "steps of linear warmup")                                                                 \
    INT(warmdown_iters, 0, 0, 1000000000, "trapezoid: steps of the linear descent at the end")                                    \
    FLOAT(final_lr_frac, 0, 0, 1, "learning rate at the end as a share of the peak (trapezoid, cosine, linear)")                  \
    FLOAT(weight_decay, 0, 0, 10, "decoupled weight decay")                                                                       \
    FLOAT(beta1, 0.9, 0, 0.999999, "AdamW: decay of the first moment")                                                            \
    FLOAT(beta2, 0.95, 0, 0.999999, "AdamW: decay of the second moment")                                                          \
    FLOAT(adam_eps, 1e-8, 0, 1, "AdamW: epsilon")                                                                                 \
    FLOAT(grad_clip, 0, 0, 1e9, "largest global gradient norm; 0 = no clipping")                                                  \
    FLOAT(skip_loss_z, 0, 0, 1e9, "skip a step whose loss lies this many standard deviations above its running mean; 0 = none")   \
    FLOAT(skip_grad_z, 0, 0, 1e9, "the same of the gradient norm; both watch for 128 steps first; 0 = none")                      \
    CHOICE(nonfinite, "stop", "stop|skip", "a step whose loss or gradient is not finite: stop with exit code 3, or skip it")      \
    LONG(seed, 42, 0, INT64_MAX, "seed of the initial weights and of the samples")                                                \
    STRING(init_from, "", "checkpoint whose weights a new run starts from (any run's, or of scripts/import_hf); empty = random")     \
    SECTION("Objective: multi-token prediction")                                                                                  \
    SWITCH(mtp_enabled, 0, "score the logits against tokens further ahead, too")                                                  \
    INT(mtp_max_steps, 2, 2, 8, "the farthest token: 2 = the next one and the one after it")                                      \
    FLOAT(mtp_weight, 0.1, 0, 1000, "weight of the further tokens; the next token has weight 1")                                  \
    INT(mtp_rampup_steps, 64, 0, 1000000000, "steps in which the weight rises from 0")                                            \
    CHOICE(mtp_agg, "mean", MTP_AGG_CHOICES, "their losses make one: mean, sum, or sum times gamma^(k-1), k tokens ahead")        \
    FLOAT(mtp_gamma, 0.5, 0, 1, "the gamma of --mtp_agg geo")                                                                     \
    FLOAT(mtp_decay_start, 1, 0, 1, "share of the run after which the weight falls; 1 = never, but it costs val loss at the end")   \
    FLOAT(mtp_decay_end, 1, 0, 1, "share of the run at which it is 0")                                                            \
    CHOICE(mtp_heads, "shared", MTP_HEADS_CHOICES, "logits of the further tokens: the next token's, a matrix for each, or a small " \
           "block before the next token's matrix")                                                                                \
    STRING(mtp_weights, "", "all weights, instead: STAGE/STAGE/.. are equal parts of the run, each w1,w2,.. or start:end of the "  \
           "tokens 1, 2, .. ahead; 1,0.5,0.25:0/1,0.5:0/1 anneals three tokens to one")                                           \
    SECTION("Objective: consistency of separate heads")                                                                           \
    FLOAT(consist_weight, 0, 0, 1000, "weight of KL between the next token's head and the head that saw less; 0 = none")          \
    INT(consist_k, 2, 2, 8, "the head: k tokens ahead; it is compared with the next token's k - 1 positions later")               \
    FLOAT(consist_temp, 1, 0.01, 100, "temperature of both distributions")                                                        \
    SWITCH(consist_teacher_grad, 0, "let the next token's head give way, too")                                                    \
    INT(consist_rampup_steps, 0, 0, 1000000000, "steps in which the weight rises from 0")                                         \
    FLOAT(consist_decay_start, 1, 0, 1, "share of the run after which the weight falls; 1 = never; reported to help early only")  \
    FLOAT(consist_decay_end, 1, 0, 1, "share of the run at which it is 0")                                                        \
    SECTION("Objective: n-gram smoothing")                                                                                        \
    SWITCH(use_cocont, 0, "give a share of the next token's target to what follows the input token in the training text")         \
    FLOAT(cocont_alpha, 0.1, 0, 1, "that share")                                                                                  \
    STRING(ngram_path, "", "table of data/build_ngram")                                                                           \
    INT(ngram_k, 16, 1, 32, "likeliest followers that are used")                                                                  \
    CHOICE(cocont_mode, "topk", "topk|cc", "the followers alone, or CoCoNT's estimator: with the target, right in expectation")   \
    CHOICE(cocont_mass, "rows", "rows|exact", "of a lightrnn head: the followers' rows alone, or the followers as words")         \
    FLOAT(cocont_gamma, 1.5, 1.000001, 1000, "the gamma of --cocont_mode cc")                                                     \
    STRING(cocont_positions, "all", "all, or first:N: only the first N positions of a sequence")                                  \
    INT(cocont_rampup_steps, 0, 0, 1000000000, "steps in which the share rises from 0")                                           \
    FLOAT(cocont_decay_start, 1, 0, 1, "share of the run after which alpha falls; 1 = never, but it costs val loss at the end")    \
    FLOAT(cocont_decay_end, 1, 0, 1, "share of the run at which it is 0")                                                         \
    SECTION("Objective: soft cross-entropy")                                                                                      \
    FLOAT(soft_ce_beta, 0, 0, 1, "share of the next token's target that goes to tokens with similar embeddings; 0 = none")        \
    STRING(soft_ce_table, "", "table of data/build_neighbours")                                                                   \
    INT(soft_ce_topm, 8, 1, 24, "neighbours that are used")                                                                       \
    INT(soft_ce_rampup_steps, 0, 0, 1000000000, "steps in which the share rises from 0")                                          \
    FLOAT(soft_ce_decay_start, 1, 0, 1, "share of the run after which beta falls; 1 = never, but it costs val loss at the end")    \
    FLOAT(soft_ce_decay_end, 1, 0, 1, "share of the run at which it is 0")                                                        \
    SECTION("Objective: spelling")                                                                                                \
    FLOAT(spell_weight, 0, 0, 1000, "weight of the loss of a head that spells what follows, letter by letter; 0 = none, try 0.1") \
    INT(spell_letters, 4, 1, 8, "letters that it predicts")                                                                       \
    CHOICE(spell_case, "true", SPELL_CASES, "letters as they are, or all in one case (lower and upper are the same problem)")     \
    CHOICE(spell_mode, "stream", SPELL_MODES, "letters of the text that follows, or of the next token alone")                     \
    INT(spell_rampup_steps, 0, 0, 1000000000, "steps in which the weight rises from 0")                                           \
    FLOAT(spell_decay_start, 1, 0, 1, "share of the run after which the weight falls; 1 = never")                                 \
    FLOAT(spell_decay_end, 1, 0, 1, "share of the run at which it is 0")                                                          \
    SECTION("Token filter")                                                                                                       \
    FLOAT(tf_keep, 1, 0.0001, 1, "share of the positions, those of largest loss, that get a gradient; 1 = all, try 0.6")          \
    CHOICE(tf_rule, "topk", FILTER_RULES, "the largest losses of a micro-batch, those that are high within their sequence, or "   \
           "those farthest above a reference model's")                                                                            \
    FLOAT(tf_threshold, 0.3, 0, 0.999, "of --tf_rule minmax: kept is what is higher than this share of the sequence's range")     \
    STRING(tf_reference, "", "of --tf_rule excess: folder with the losses of the training shards, which --score_bin writes")      \
    STRING(score_bin, "", "do not train: write the losses of all tokens of these shards (a glob, quoted) by --init_from's model") \
    STRING(score_dir, "", "of --score_bin: folder that gets a file for each shard; one that is there is not written again")       \
    CHOICE(tf_norm, "kept", "kept|all", "the loss is a mean over the kept positions, or their sum over the number of all")        \
    CHOICE(tf_mode, "output", "output", "what is left out: output = the gradient of the logits, so the filtered loss's is exact") \
    INT(tf_start_step, 0, 0, 1000000000, "first step that is filtered")                                                           \
    INT(tf_stop_step, 0, 0, 1000000000, "first step that is not any more; 0 = never, but it costs val loss at the end")           \
    SECTION("Machine")                                                                                                            \
    CHOICE(device, "auto", "auto|cuda|cpu", "where to train; auto = the GPU when one answers")                                    \
    CHOICE(precision, "auto", "auto|bf16|fp16|fp32", "storage of activations; auto = bf16 on a GPU, fp32 on the CPU")             \
    CHOICE(recompute, "none", "none|gelu|block", "make GELU outputs or whole blocks again in the backward pass, to save memory")  \
    SWITCH(tf32, 0, "GPU, fp32: allow TF32 products")                                                                             \
    SWITCH(deterministic, 1, "GPU: the same bits in every run (bit-exact resume), though faster ways are known")                  \
    INT(threads, 0, 0, 512, "CPU threads; 0 = all cores")                                                                         \
    SWITCH(dry_run, 0, "print parameters, memory, work and expected time of this run, and end; needs neither a GPU nor data")     \
    CHOICE(gpu, "auto", GPU_CHOICES, "of --dry_run: the device; auto = every GPU, or the CPU with --device cpu")                  \
    SWITCH(profile, 0, "print at the end how long each part of the run took; on a GPU, NVTX ranges, too")                          \
    SECTION("Validation")                                                                                                         \
    INT(val_loss_every, 0, 0, 1000000000, "validate every so many steps and at the end; 0 = never")                               \
    INT(val_batch_size, 16, 1, 1048576, "sequences per validation batch")                                                         \
    LONG(val_tokens, 1048576, 1, INT64_MAX, "tokens per validation, from the start of the first shard; a multiple of a batch")    \
    INT(val_sequence_length, 0, 0, 65536, "tokens per validation sequence; 0 = --sequence_length")                                \
    CHOICE(val_precision, "fp32", "fp32|bf16|fp16", "precision of validation; fp32 reads the fp32 masters")                       \
    STRING(hellaswag_bin, "", "multiple-choice file of data/make_choices or llm.c, in the training precision")                    \
    INT(hellaswag_every, 0, 0, 1000000000, "answer it every so many steps and at the end; 0 = never")                             \
    FLOAT(target_val_loss, 0, 0, 100, "stop when the validation loss is this low; 0 = never")                                     \
    SECTION("Output")                                                                                                             \
    STRING(output_dir, "", "directory for logs and checkpoints; empty = none are written")                                        \
    INT(log_every, 1, 1, 1000000000, "steps between training lines on the console")                                               \
    INT(save_every, 5000, 0, 1000000000, "steps between checkpoints; one more is written at the end; 0 = none")                   \
    INT(keep_checkpoints, 2, 0, 1000000, "newest checkpoints that are kept; 0 = all")                                             \
    CHOICE(resume, "0", "0|1|auto", "continue from the newest checkpoint in --output_dir: no, yes, if there is one")              \
    STRING(results, "", "append one line per finished run to this table; empty = results.tsv in --output_dir's parent")           \
    STRING(codebook_costs, "", "train nothing: measure what every token costs in every row and column, write that file (--resume 1)")\
    LONG(codebook_costs_tokens, 1048576, 1, INT64_MAX, "tokens of training text to measure on")                                   \
    SECTION("Samples")                                                                                                            \
    INT(sample_every, 0, 0, 1000000000, "steps between samples, and one at the end; 0 = none")                                    \
    INT(sample_tokens, 64, 1, 65536, "tokens per sample")                                                                         \
    STRING(generate, "", "do not train: continue --prompt with the model of this checkpoint, or of the newest one in this folder") \
    STRING(prompt, "", "text that samples continue; empty = a document start")                                                    \
    FLOAT(temperature, 0.8, 0, 100, "of sampling; 0 = always the likeliest token")                                                \
    INT(top_k, 0, 0, 1000000, "sample among the k likeliest tokens; 0 = all")                                                     \
    FLOAT(top_p, 1, 0.000001, 1, "sample among the likeliest tokens that have this much probability together")
// clang-format on
DEFINE_OPTIONS(OPTIONS)

#define PASTE(a, b) a##_##b
#define PASTED(a, b) PASTE(a, b)
#if GPU_EXECUTION
#define DEVICE_NAME "cuda"
#define SIBLING(what, precision) PASTED(what, cuda_##precision)
#else
#define DEVICE_NAME "cpu"
#define SIBLING(what, precision) PASTED(what, cpu_##precision)
#endif

typedef struct {
    Options o;
    FlagTable flags;
    int argc;
    char** argv;
    Model model;
    Feed train, val;
    void* evaluator;  // validation in another precision (the sibling variant's), or NULL
    Logger log;
    Objective objective;
    RunState run;
    Sampler sampler;
    Tokenizer tokenizer;
    bool has_tokenizer, has_val;
    int64_t val_bytes;  // of text that validation scores, 0: not known
    ChoiceEval choices;
    bool measures;           // the codebook, instead of training
    int val_rows, val_T;     // rows of a validation batch that run at once; their length
    StepClock clock;         // runs only while training does
    double val_loss;         // the last one, NAN before the first
    LoaderState step_start;  // where the step that is running began to read
    StepState* mirror;       // host copy of the device's step state (page-locked on a GPU)
    int64_t pending;         // step whose state is on its way to the mirror, -1: none
    int64_t saved, first;    // step of the newest checkpoint, -1: none; step that this process ran first
} Trainer;

// ---------------------------------------------------------------------------------------------------------------------
// Configuration

static Config config_from_options(const Options* o) {
    Config c = {};
    const ModelSize* size = model_size(o->model);
    c.L = o->n_layer ? o->n_layer : size->L;
    c.NH = o->n_head ? o->n_head : size->NH;
    c.C = o->n_embd ? o->n_embd : size->C;
    c.V = o->vocab_size;
    c.B = o->batch_size;
    c.T = o->sequence_length;
    c.tied = !strcmp(o->tie_embedding, "full");
    c.recompute = !strcmp(o->recompute, "none")   ? RECOMPUTE_NONE
                  : !strcmp(o->recompute, "gelu") ? RECOMPUTE_GELU
                                                  : RECOMPUTE_BLOCK;
    config_arch(&c, o->arch);
    config_check(&c, planning.gpu);
    return c;
}

static int64_t tokens_per_step(const Options* o) {
    return (int64_t)o->batch_size * o->sequence_length * o->grad_accumulation_steps;
}

static void check_options(const Options* o) {
    int T_val = o->val_sequence_length ? o->val_sequence_length : o->sequence_length;
    int64_t batch = (int64_t)o->val_batch_size * T_val;
    if (T_val > o->sequence_length) {
        usage_error("--val_sequence_length %d is longer than --sequence_length %d; use at most that", T_val, o->sequence_length);
    }
    if (o->val_loss_every && o->val_tokens % batch) {
        int works = o->val_batch_size;
        while (works > 1 && o->val_tokens % ((int64_t)works * T_val)) works--;
        usage_error(
            "--val_tokens %lld is not a multiple of a validation batch of %lld tokens (%d x %d); use --val_batch_size %d%s",
            (long long)o->val_tokens, (long long)batch, o->val_batch_size, T_val, works,
            o->val_tokens % ((int64_t)works * T_val) ? " and a --val_tokens that --val_sequence_length divides" : "");
    }
    if (strcmp(o->resume, "0") && !*o->output_dir)
        usage_error("--resume %s needs --output_dir, where the checkpoints are", o->resume);
    if (planning.gpu && (o->sequence_length % 8 || T_val % 8)) {
        usage_error("--sequence_length %d: on a GPU it must be a multiple of 8; use %d", o->sequence_length,
                    (int)round_up((size_t)o->sequence_length, 8));
    }
    if ((o->hellaswag_every > 0) != (*o->hellaswag_bin != 0)) {
        usage_error("--hellaswag_%s has no effect without --hellaswag_%s; add it", *o->hellaswag_bin ? "bin" : "every",
                    *o->hellaswag_bin ? "every" : "bin");
    }
    if (o->sample_every && *o->tokenizer == 0 && *o->input_bin == 0) usage_error("--sample_every needs --tokenizer FILE");
}

// ---------------------------------------------------------------------------------------------------------------------
// Validation in another precision: the sibling variant's, on this trainer's masters

typedef struct {
    Options o;
    FlagTable flags;
    Model model;
    Feed val;
} Evaluator;

// From the flags, with training batches of B sequences (0: as the flags say), up to the point where memory is allocated. Returns
// the tokens ahead that it measures.
static int evaluator_declare(Evaluator* e, int argc, char** argv, int B) {
    e->flags = options_table(&e->o);
    flags_parse(&e->flags, argc, argv);
    if (B) e->o.batch_size = B;
    Config c = config_from_options(&e->o);
    vocabulary_from_flags(&e->flags, &c);
    Objective objective = objective_open(&e->flags, e->o.num_iterations);
    objective_configure(&objective, &c);
    c.B = validation_rows(e->o.val_batch_size, e->o.batch_size);
    model_declare(&e->model, c, false);
    return objective_offsets(&objective);
}

// Bytes of device memory that ahead_validate takes for a plan (base/planning.h), without its batches.
extern "C" size_t PASTED(ahead_validation_bytes, VARIANT)(int argc, char** argv, int B, bool gpu, int sm_major) {
    Evaluator* e = (Evaluator*)xcalloc(sizeof(Evaluator));
    planning.on = true, planning.gpu = gpu;
    evaluator_declare(e, argc, argv, B);
    int T = e->o.val_sequence_length ? e->o.val_sequence_length : e->o.sequence_length;
    size_t bytes = memory_of_model(&e->model, T, sm_major).total;
    free(e->model.table.rows);
    flags_free(&e->flags);
    free(e);
    return bytes;
}

// Validation in this variant's precision for a trainer in another: the model has the trainer's fp32 masters (device memory) and
// its own activations, one layer's worth. *handle is NULL at the first call, which opens everything and measures nothing.
extern "C" bool PASTED(ahead_validate, VARIANT)(void** handle, int argc, char** argv, const float* masters,
                                                const volatile sig_atomic_t* stop, double* means) {
    Evaluator* e = (Evaluator*)*handle;
    int T;
    if (!e) {
        *handle = e = (Evaluator*)xcalloc(sizeof(Evaluator));
        int offsets = evaluator_declare(e, argc, argv, 0);
        T = e->o.val_sequence_length ? e->o.val_sequence_length : e->o.sequence_length;
        Arena* arenas[] = {&e->model.parameters, &e->model.activations};
        arenas_must_fit(arenas, 2, model_workspace_bytes(&e->model, T, 9));
        e->model.masters = (float*)masters;
        model_allocate(&e->model, false, false);
        model_plan_shape(&e->model, e->model.config.B, T);
        open_validation(&e->val, e->o.input_val_bin, e->o.val_batch_size, T, offsets, e->o.vocab_size, e->o.val_tokens);
        return true;
    }
    T = e->val.loader.T;
    model_weights_changed(&e->model);
    return validate(&e->model, &e->val, e->model.config.B, T, e->o.val_tokens, stop, means);
}
typedef bool SiblingValidate(void**, int, char**, const float*, const volatile sig_atomic_t*, double*);
extern "C" SiblingValidate SIBLING(ahead_validate, fp32);
extern "C" SiblingValidate SIBLING(ahead_validate, bf16);
extern "C" SiblingValidate SIBLING(ahead_validate, fp16);

extern "C" size_t SIBLING(ahead_validation_bytes, fp32)(int, char**, int, bool, int);
extern "C" size_t SIBLING(ahead_validation_bytes, bf16)(int, char**, int, bool, int);
extern "C" size_t SIBLING(ahead_validation_bytes, fp16)(int, char**, int, bool, int);

static size_t sibling_bytes(void* trainer, int B, int sm_major) {
    const Trainer* t = (const Trainer*)trainer;
    const char* p = t->o.val_precision;
    if (!strcmp(p, "fp32")) return SIBLING(ahead_validation_bytes, fp32)(t->argc, t->argv, B, planning.gpu, sm_major);
    if (!strcmp(p, "bf16")) return SIBLING(ahead_validation_bytes, bf16)(t->argc, t->argv, B, planning.gpu, sm_major);
    return SIBLING(ahead_validation_bytes, fp16)(t->argc, t->argv, B, planning.gpu, sm_major);
}

static bool sibling_validate(Trainer* t, double* means) {
    const char* p = t->o.val_precision;
    void** e = &t->evaluator;
    const float* masters = t->model.masters;
    if (!strcmp(p, "fp32")) return SIBLING(ahead_validate, fp32)(e, t->argc, t->argv, masters, &stop_signal, means);
    if (!strcmp(p, "bf16")) return SIBLING(ahead_validate, bf16)(e, t->argc, t->argv, masters, &stop_signal, means);
    return SIBLING(ahead_validate, fp16)(e, t->argc, t->argv, masters, &stop_signal, means);
}

static const char* device_text(void) {
    static char text[320];
#if GPU_EXECUTION
    cudaDeviceProp p;
    CUDA_CHECK(cudaGetDeviceProperties(&p, 0));
    snprintf(text, sizeof(text), "%s", p.name);
#else
    snprintf(text, sizeof(text), "cpu, %d threads", omp_get_max_threads());
#endif
    if (planning.on) return planning.gpu ? "none: a plan for GPUs" : "none: a plan for the CPU";
    return text;
}

static double peak_memory_mb(void) {
#if GPU_EXECUTION
    size_t available = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&available, &total));
    return (total - available) / 1048576.0;
#else
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024.0;
#endif
}

static StepRecord record_between_steps(const Trainer* t, int64_t step) {
    StepRecord r = step_record(step);
    r.tokens = t->run.tokens_seen, r.train_seconds = t->run.train_seconds;
    return r;
}

// False when a signal asks to stop: then nothing was logged.
static bool run_validation(Trainer* t, int64_t step) {
    device_sync();
    Section outer = section_begin(SECTION_VALIDATION);
    bool own = !strcmp(t->o.val_precision, PRECISION_NAME);
    double means[STEP_TOKENS];
    bool whole = own ? validate(&t->model, &t->val, t->val_rows, t->val_T, t->o.val_tokens, &stop_signal, means)
                     : sibling_validate(t, means);
    step_clock_start(&t->clock);
    if (!whole) return false;
    t->val_loss = means[0];
    if (t->val_loss < t->run.best_val) t->run.best_val = t->val_loss;
    StepRecord r = record_between_steps(t, step);
    objective_log_validation(&t->objective, step, means, &r);
    if (t->val_bytes) step_record_add(&r, "val_bpb", bits_per_byte(means[0], t->o.val_tokens, t->val_bytes));
    r.peak_memory_mb = peak_memory_mb();
    logger_val(&t->log, &r);
    section_end(outer);
    step_clock_start(&t->clock);
    return true;
}

static void run_choices(Trainer* t, int64_t step) {
    device_sync();
    StepRecord r = record_between_steps(t, step);
    choice_log(&t->log, &r, choice_eval(&t->model, &t->choices));
    step_clock_start(&t->clock);
}

// ---------------------------------------------------------------------------------------------------------------------
// Samples

// False when a signal asked to stop: the sample is not whole.
static bool run_sample(Trainer* t, int64_t step) {
    Text text = {};
    TextStream out = {stdout, true, {0}, 0, &text};
    device_sync();
    StepRecord r = record_between_steps(t, step);
    Section outer = section_begin(SECTION_SAMPLE);
    logger_clear(&t->log);
    printf("sample at step %lld: ", (long long)step);
    generate(&t->model, &t->sampler, &t->tokenizer, t->o.prompt, t->o.sample_tokens, &out);
    printf("\n");
    if (!stop_signal) logger_sample(&t->log, &r, text.data ? text.data : "");
    text_free(&text);
    section_end(outer);
    step_clock_start(&t->clock);
    return !stop_signal;
}

// Opens a checkpoint to use its model: its flags are now in `flags` and o, its sizes in c. The batch is the run's, too.
static CheckpointReader trained_config(FlagTable* flags, Options* o, const char* path, const TrainedUse* use, Config* c) {
    Options run_options;
    FlagTable run = options_table(&run_options);
    CheckpointReader r = trained_open(flags, &run, path, use);
    if (!flag_was_set(flags, "batch_size")) o->batch_size = run_options.batch_size;
    *c = config_from_options(o);
    if (GPU_EXECUTION && c->T % 8)
        fail("%s: trained with --sequence_length %d, which a GPU takes in eights; add --device cpu", r.path, c->T);
    trained_vocabulary(&r, flags, c);
    return r;
}

// --score_bin: no training, losses of tokens by the model of --init_from.
static int score_tokens(FlagTable* flags, Options* o) {
    Model m = {};
    Config c;
    CheckpointReader r = trained_config(flags, o, o->init_from, &score_use, &c);
    score_same_tokenizer(o->tokenizer, o->input_bin, o->score_bin);
    model_declare(&m, c, false);
    trained_load(&m, &r, o->tf32);
    model_plan_shape(&m, c.B, c.T);
    printf("model      %s: step %lld, %.2fM parameters; %d windows of %d tokens at once\n", r.path, (long long)r.state.step,
           params_live(&m.table) / 1e6, c.B, c.T);
    score_shards(&m, c.B, c.T, o->score_bin, o->score_dir, r.header.meta_crc);
    return 0;
}

// --generate: no training, text from a checkpoint. Text alone goes to stdout.
static int generate_text(FlagTable* flags, Options* o) {
    Model m = {};
    Config c;
    CheckpointReader r = trained_config(flags, o, o->generate, &generate_use, &c);
    c.B = 1, c.decode = true;
    Tokenizer tokenizer = tokenizer_open(o->tokenizer, o->input_bin, o->vocab_size, "--generate");
    model_declare(&m, c, false);
    trained_load(&m, &r, o->tf32);
    model_plan_shape(&m, 1, c.T);
    decode_plan(&m);
    fprintf(stderr, "%s: step %lld, %.2fM parameters; %s, %s\n", r.path, (long long)r.state.step, params_live(&m.table) / 1e6,
            device_text(), PRECISION_NAME);
    TextStream out = {stdout, isatty(STDOUT_FILENO) != 0, {0}, 0, NULL};
    Sampler sampler = sampler_start(c.V, (uint64_t)o->seed, o->temperature, o->top_k, o->top_p);
    Generated made = generate(&m, &sampler, &tokenizer, o->prompt, o->sample_tokens, &out);
    printf("\n");
    fflush(stdout);
    generate_report(&made, c.T, stderr);
    return 0;
}

static void open_tokenizer(Trainer* t) {
    if (!t->o.sample_every) return;
    t->tokenizer = tokenizer_open(t->o.tokenizer, t->o.input_bin, t->o.vocab_size, "--sample_every");
    t->has_tokenizer = true;
    t->sampler = sampler_start(t->o.vocab_size, (uint64_t)t->o.seed, t->o.temperature, t->o.top_k, t->o.top_p);
}

// ---------------------------------------------------------------------------------------------------------------------
// Checkpoints

static void save_checkpoint(Trainer* t) {
    Model* m = &t->model;
    device_sync();
    Section outer = section_begin(SECTION_CHECKPOINT);
    StepState s;
    copy_to_host(&s, m->state, sizeof(s));
    LoaderState l = loader_state(&t->train.loader);
    t->run.loader[0] = l.shard, t->run.loader[1] = (int64_t)l.position;
    t->run.loader[2] = (int64_t)l.epoch, t->run.loader[3] = (int64_t)l.batches;
    t->run.shards = t->train.loader.shards.count;
    t->run.shards_hash = shard_list_hash(&t->train.loader.shards, t->train.loader.shards.count);
    t->run.adam_steps = s.steps;
    t->run.loss_scale = s.scaler.scale, t->run.loss_scale_good = s.scaler.good_steps;
    for (int k = 0; k < OUTLIERS; k++) {
        t->run.outlier[k].mean = s.outliers[k].mean, t->run.outlier[k].variance = s.outliers[k].variance;
        t->run.outlier[k].count = s.outliers[k].count;
    }
    t->run.sampler_state = t->sampler.rng.state;
    logger_sync(&t->log);
    Text flags = {0, 0, 0};
    flags_text(&t->flags, &flags);
    char* path = checkpoint_path(t->o.output_dir, t->run.step);
    CheckpointWriter w;
    checkpoint_writer_open(&w, path, &m->table, CHECKPOINT_ARRAYS, flags.data, &t->run);
    float* arrays[CHECKPOINT_ARRAYS] = {m->masters, m->m, m->v};
    float* host = GPU_EXECUTION ? (float*)xmalloc(m->table.size * sizeof(float)) : NULL;
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++) {
        if (host) copy_to_host(host, arrays[a], m->table.size * sizeof(float));
        for (int id = 0; id < m->table.count; id++) {
            const Param* p = &m->table.rows[id];
            checkpoint_writer_put(&w, id, a, (host ? host : arrays[a]) + p->offset, p->size);
        }
    }
    free(host);
    if (checkpoint_writer_close(&w)) checkpoint_prune(t->o.output_dir, t->o.keep_checkpoints, 0, t->run.step);
    else fail("%s", w.error);
    t->saved = t->run.step;
    free(path);
    text_free(&flags);
    section_end(outer);
    step_clock_start(&t->clock);
}

// Continues from the newest checkpoint when the flags ask for it. Returns its step, or -1 for a fresh start.
static int64_t resume_from_checkpoint(Trainer* t) {
    Model* m = &t->model;
    if (!*t->o.output_dir) return -1;
    int64_t* steps = NULL;
    int count = checkpoint_list(t->o.output_dir, &steps);
    free(steps);
    if (!strcmp(t->o.resume, "0")) {
        if (count)
            fail(
                "--output_dir %s already holds checkpoints of a run; add --resume auto to continue it, or name another directory",
                t->o.output_dir);
        return -1;
    }
    char* path = checkpoint_latest(t->o.output_dir);
    if (!path && !strcmp(t->o.resume, "1"))
        fail("--resume 1: no usable checkpoint in %s; use --resume auto to start afresh", t->o.output_dir);
    if (!path && count)
        fail("--resume auto: none of the %d checkpoints in %s can be read; move them away to start afresh", count,
             t->o.output_dir);
    if (!path) return -1;
    CheckpointReader r;
    if (!checkpoint_reader_open(&r, path) || !checkpoint_reader_match(&r, &m->table, MATCH_EXACT)) fail("%s", r.error);
    float* arrays[CHECKPOINT_ARRAYS] = {m->masters, m->m, m->v};
    float* host = (float*)xcalloc(m->table.size * sizeof(float));
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++) {
        for (int id = 0; id < m->table.count; id++) {
            const Param* p = &m->table.rows[id];
            if (!checkpoint_reader_get(&r, id, a, host + p->offset, p->size)) fail("%s", r.error);
        }
        copy_to_device(arrays[a], host, m->table.size * sizeof(float));
    }
    free(host);
    cells_check(m, path);
    t->run = r.state;
    Options old_options;
    FlagTable old_flags = options_table(&old_options);
    flags_parse_text(&old_flags, r.flags, path);
    if (!strcmp(old_options.input_bin, t->o.input_bin)) {
        shard_list_same(&t->train.loader.shards, t->o.input_bin, t->run.shards, t->run.shards_hash);
    }
    LoaderState l = {(uint32_t)t->run.loader[0], 0, (uint64_t)t->run.loader[1], (uint64_t)t->run.loader[2],
                     (uint64_t)t->run.loader[3]};
    loader_restore(&t->train.loader, l);
    StepState s = {};
    s.steps = (int)t->run.adam_steps;
    s.scaler.scale = (float)t->run.loss_scale, s.scaler.good_steps = (int)t->run.loss_scale_good;
    for (int k = 0; k < OUTLIERS; k++) {
        s.outliers[k].mean = (float)t->run.outlier[k].mean, s.outliers[k].variance = (float)t->run.outlier[k].variance;
        s.outliers[k].count = (int)t->run.outlier[k].count;
    }
    copy_to_device(m->state, &s, sizeof(s));
    t->sampler.rng.state = t->run.sampler_state;
    model_weights_changed(m);
    Text changes = {0, 0, 0};
    int changed = flags_diff(&old_flags, &t->flags, &changes);
    printf("resuming %s at step %lld%s%s\n%s", path, (long long)t->run.step,
           *t->o.init_from ? ", which leaves --init_from unread" : "", changed ? "; flags that changed:" : "",
           changed ? changes.data : "");
    text_free(&changes);
    flags_free(&old_flags);
    checkpoint_reader_close(&r);
    free(path);
    return t->run.step;
}

// A new run: random weights, or those of --init_from.
static void start_weights(Trainer* t) {
    const char* path = t->o.init_from;
    CheckpointReader r;
    model_init_weights(&t->model, (uint64_t)t->o.seed);
    if (!*path) return;
    if (!checkpoint_reader_open(&r, path)) fail("--init_from %s", r.error);
    Options of_file;
    FlagTable flags = options_table(&of_file);
    flags_parse_text(&flags, r.flags, path);
    Config c = config_from_options(&of_file);
    init_from_file(&t->model, &r, path, &flags, &t->flags, &c);
    flags_free(&flags);
    checkpoint_reader_close(&r);
}

// ---------------------------------------------------------------------------------------------------------------------
// One step

static void micro_step(Trainer* t, int a) {
    Section outer = section_begin(SECTION_DATA);
    feed_next(&t->train, t->model.stream);
    section_end(outer);
    Micro micro = {t->train.tokens, t->train.order, t->o.batch_size, t->o.sequence_length, a > 0, t->train.reference};
    model_micro_step(&t->model, &micro, t->o.grad_accumulation_steps);
}

// A step was not finite, and the device has changed nothing since. Runs it again, micro-step by micro-step, until the culprit
// shows, then ends the program.
static void stop_nonfinite(Trainer* t, int64_t step) {
    Model* m = &t->model;
    NonFinite found = {};
    int a = 0, last = t->o.grad_accumulation_steps - 1;
    logger_clear(&t->log);
    loader_restore(&t->train.loader, t->step_start);
    objective_start(&t->objective, m, step);
    for (;; a++) {
        micro_step(t, a);
        device_sync();
        found = nonfinite_find(m, targets_slots(m), targets_idle(m));
        if (found.name || a == last) break;
    }
    size_t tokens = (size_t)m->config.B * m->config.T + t->train.loader.look_ahead;
    nonfinite_stop(&found, step, a, t->o.output_dir, t->train.tokens, tokens);
}

// Logs the step whose state has reached the host.
static void report_step(Trainer* t) {
    if (t->pending < 0) return;
    int64_t step = t->pending;
    t->pending = -1;
    double seconds = step_clock_read(&t->clock);
    if (profile.on) profile_collect();
    const StepState* s = t->mirror;
    t->run.train_seconds += seconds;
    if (s->hopeless && !strcmp(t->o.nonfinite, "stop")) stop_nonfinite(t, step);
    StepRecord r = step_record(step);
    r.tokens = t->run.tokens_seen;
    r.lr = s->in.lr;
    r.grad_norm = s->grad_norm;
    r.train_seconds = t->run.train_seconds;
    r.tokens_per_second = (double)tokens_per_step(&t->o) / seconds;
    if (PRECISION == PRECISION_FP16) step_record_add(&r, "loss_scale", s->scaler.scale);
    if (t->o.skip_loss_z > 0) step_record_add(&r, "loss_z", s->outliers[OUTLIER_LOSS].z);
    if (t->o.skip_grad_z > 0) step_record_add(&r, "norm_z", s->outliers[OUTLIER_NORM].z);
    if (s->skip) step_record_add(&r, "skipped", 1);
    objective_log_step(&t->objective, step, s->losses, &r);
    bool last = step + 1 == t->o.num_iterations;
    logger_train(&t->log, &r, step % t->o.log_every == 0 || last);
    if (!last) logger_progress(&t->log, &r);
}

// False when a signal asks to stop between two micro-steps: then it is as if the step had not begun.
static bool train_step(Trainer* t, int64_t step) {
    Model* m = &t->model;
    const Options* o = &t->o;
    LoaderState start = loader_state(&t->train.loader);
    for (int a = 0; a < o->grad_accumulation_steps; a++) {
        if (stop_signal) {
            loader_restore(&t->train.loader, start);
            return false;
        }
        micro_step(t, a);
    }
    if (GPU_EXECUTION) report_step(t);  // of the step before: the device has work queued while the host writes logs
    t->step_start = start;
    StepInputs in = {};
    in.lr = (float)learning_rate_at((ScheduleKind)flag_choice(&t->flags, "lr_schedule"), step, o->num_iterations,
                                    o->learning_rate, o->warmup_iters, o->warmdown_iters, o->final_lr_frac);
    in.beta1 = (float)o->beta1, in.beta2 = (float)o->beta2, in.eps = (float)o->adam_eps;
    in.weight_decay = (float)o->weight_decay, in.grad_clip = (float)o->grad_clip;
    in.skip_z[OUTLIER_LOSS] = (float)o->skip_loss_z, in.skip_z[OUTLIER_NORM] = (float)o->skip_grad_z;
    in.scale_loss = PRECISION == PRECISION_FP16;
    in.halt = !strcmp(o->nonfinite, "stop");
    objective_loss_factors(m, o->grad_accumulation_steps, in.loss_factor);
    model_update(m, in, objective_weights(&t->objective, step + 1));
#if GPU_EXECUTION
    CUDA_CHECK(cudaMemcpyAsync(t->mirror, m->state, sizeof(StepState), cudaMemcpyDeviceToHost, m->stream));
#else
    *t->mirror = *m->state;
#endif
    step_clock_mark(&t->clock);
    t->pending = step;
    t->run.step = step + 1;
    t->run.tokens_seen += tokens_per_step(o);
    if (!GPU_EXECUTION) report_step(t);
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// The run

static void print_banner(const Trainer* t) {
    const Model* m = &t->model;
    const Config* c = &m->config;
    Text changed = {0, 0, 0};
    flags_changed(&t->flags, &changed);
    printf("flags      %s\n", changed.data);
    printf("device     %s, %s\n", device_text(), PRECISION_NAME);
    printf("model      %s: %d layers, %d heads, %d wide, vocabulary %d (%d padded), %.2fM parameters\n", t->o.arch, c->L, c->NH,
           c->C, c->V, c->Vp, params_live(&m->table) / 1e6);
    printf("batch      %d x %d x %d = %lld tokens a step, %lld in all\n", t->o.batch_size, t->o.sequence_length,
           t->o.grad_accumulation_steps, (long long)tokens_per_step(&t->o),
           (long long)tokens_per_step(&t->o) * t->o.num_iterations);
    const Arena* arenas[] = {&m->parameters, &m->gradients, &m->optimizer, &m->activations};
    size_t total = 0;
    for (int i = 0; i < 4; i++) total += arenas[i]->bytes;
    vocabulary_print(c);
    objective_print(&t->objective);
    if (!planning.on) printf("memory     %.1f MiB, of which\n", total / 1048576.0);
    for (int i = 0; i < 4 && !planning.on; i++) arena_print(arenas[i], total);
    fflush(stdout);
    text_free(&changed);
}

// What the flags ask for, printed, without memory and without data.
static void declare_run(Trainer* t) {
    const Options* o = &t->o;
    check_options(o);
    Config c = config_from_options(o);
    vocabulary_from_flags(&t->flags, &c);
    c.decode = o->sample_every > 0;
    t->measures = codebook_measure_wanted(&t->flags, &c);
    t->objective = objective_open(&t->flags, o->num_iterations);
    objective_configure(&t->objective, &c);
    t->has_val = o->val_loss_every > 0;
    t->val_T = o->val_sequence_length ? o->val_sequence_length : o->sequence_length;
    t->val_rows = validation_rows(o->val_batch_size, o->batch_size);
    t->model.attention.deterministic = o->deterministic;
    model_declare(&t->model, c, true);
    print_banner(t);
}

// --dry_run, in the CPU variant of the run's precision, whatever the device.
static void plan_run(Trainer* t) {
    planning.on = true, planning.gpu = plan_for_gpu(&t->flags);
    declare_run(t);
    bool own_val = !strcmp(t->o.val_precision, PRECISION_NAME);
    PlannedRun run = {t->model.config, &t->flags, &t->objective, t->has_val, own_val, t->val_T, sibling_bytes, t};
    plan_print(&run);
}

static void open_run(Trainer* t) {
    const Options* o = &t->o;
    Model* m = &t->model;
    declare_run(t);
    int look_ahead = objective_look_ahead(&t->objective);
    Arena* arenas[] = {&m->parameters, &m->gradients, &m->optimizer, &m->activations};
    arenas_must_fit(arenas, 4, model_workspace_bytes(m, m->config.T, 9));
    if (t->objective.filter.reference)
        printf("reference  %s: is checked against all shards\n", t->objective.filter.reference), fflush(stdout);
    feed_open(&t->train, o->input_bin, t->objective.filter.reference, o->batch_size, o->sequence_length, look_ahead,
              o->vocab_size, true);
    bool own_val = !strcmp(o->val_precision, PRECISION_NAME);
    if (t->has_val && own_val) {
        open_validation(&t->val, o->input_val_bin, o->val_batch_size, t->val_T, objective_offsets(&t->objective), o->vocab_size,
                        o->val_tokens);
    }
    open_tokenizer(t);
    model_allocate(m, o->tf32, o->deterministic);
    objective_upload(&t->objective, m);
    model_plan_shape(m, o->batch_size, o->sequence_length);
    if (t->has_val && own_val) model_plan_shape(m, t->val_rows, t->val_T);
    if (o->sample_every && GPU_EXECUTION) model_plan_shape(m, 1, o->sequence_length);
    if (o->sample_every) decode_plan(m);
    if (o->hellaswag_every) t->choices = choice_eval_open(m, o->hellaswag_bin);
    if (t->has_val) {
        t->val_bytes = validation_bytes(o->tokenizer, o->input_bin, o->input_val_bin, o->val_batch_size, t->val_T, o->val_tokens,
                                        o->vocab_size);
    }
    t->run = run_state_start();
    int64_t resumed = resume_from_checkpoint(t);
    if (t->measures) return;  // and the run's logs stay as they are
    if (resumed < 0) start_weights(t);
    objective_start(&t->objective, m, t->run.step);
    if (t->has_val && !own_val) sibling_validate(t, NULL);  // opens it
    loader_check(&t->train.loader);
    Text flags = {0, 0, 0};
    flags_text(&t->flags, &flags);
    logger_open(&t->log, o->output_dir, resumed, o->num_iterations, PRECISION_NAME, flags.data);
    text_free(&flags);
#if GPU_EXECUTION
    CUDA_CHECK(cudaMallocHost((void**)&t->mirror, sizeof(StepState)));
#else
    t->mirror = (StepState*)xcalloc(sizeof(StepState));
#endif
    step_clock_open(&t->clock, m->stream);
    t->pending = -1;
    t->saved = resumed;
    t->val_loss = NAN;
}

static void close_run(Trainer* t) {
    const Options* o = &t->o;
    double peak = peak_memory_mb();
    logger_close(&t->log, peak);
    if (!*o->output_dir) return;
    Text path = {0, 0, 0}, flags = {0, 0, 0};
    const char* slash = strrchr(o->output_dir, '/');
    if (*o->results) text_add(&path, "%s", o->results);
    else text_add(&path, "%.*sresults.tsv", slash ? (int)(slash - o->output_dir) + 1 : 0, o->output_dir);
    flags_text(&t->flags, &flags);
    const char* commit = getenv("AHEAD_COMMIT");
    RunResult r = {commit ? commit : "",
                   o->seed,
                   device_text(),
                   PRECISION_NAME,
                   (int64_t)params_live(&t->model.table),
                   t->run.step,
                   t->run.tokens_seen,
                   t->run.train_seconds,
                   t->val_loss,
                   isinf(t->run.best_val) ? NAN : t->run.best_val,
                   peak,
                   o->output_dir,
                   flags.data,
                   t->saved == t->run.step && t->first == t->run.step};
    results_append(path.data, &r);
    text_free(&path);
    text_free(&flags);
}

// A signal came. What step run.step had begun is run again by whoever goes on, its samples from `sampler_state` on.
static void stop_run(Trainer* t, uint64_t sampler_state) {
    report_step(t);
    t->sampler.rng.state = sampler_state;
    if (*t->o.output_dir && t->saved != t->run.step) save_checkpoint(t);
    logger_clear(&t->log);
    stop_leave(t->o.output_dir, t->run.step, t->o.num_iterations, strcmp(t->o.resume, "0"));
}

static void train(Trainer* t) {
    const Options* o = &t->o;
    int64_t first = t->first = t->run.step;  // 0, or where the checkpoint stands that this run continues
    stop_listen();
    if (o->profile) profile_start(t->model.stream);
    step_clock_start(&t->clock);
    for (int64_t step = first;; step++) {
        bool last = step >= o->num_iterations;
        bool val_due = t->has_val && (step % o->val_loss_every == 0 || last);
        bool sample_due = o->sample_every && ((step > 0 && step % o->sample_every == 0) || last);
        bool saves = *o->output_dir && o->save_every && step > first, save_due = saves && (step % o->save_every == 0 || last);
        bool choices_due = o->hellaswag_every && (step % o->hellaswag_every == 0 || last);
        if (val_due || choices_due || sample_due || save_due || last) report_step(t);
        if (save_due) save_checkpoint(t);
        uint64_t sampler_state = t->sampler.rng.state;
        bool whole = !val_due || run_validation(t, step);
        if (whole && choices_due) run_choices(t, step);
        whole = whole && (!sample_due || run_sample(t, step));
        if (!whole) stop_run(t, sampler_state);
        if (val_due && o->target_val_loss > 0 && t->val_loss <= o->target_val_loss) {
            printf("target reached: val loss %.6f <= %.6f after %lld steps, %lld tokens, %.1f s of training\n", t->val_loss,
                   o->target_val_loss, (long long)step, (long long)t->run.tokens_seen, t->run.train_seconds);
            if (saves && !save_due) save_checkpoint(t);
            break;
        }
        if (last) break;
        if (!train_step(t, step)) stop_run(t, sampler_state);
    }
    if (!o->profile) return;
    profile_stop();
    StepRecord r = step_record(t->run.step);
    r.tokens = t->run.tokens_seen;
    profile_report(&t->log, &r, &profile, t->run.step - first);
}

// Trains as the command line says. Returns the exit code.
extern "C" int PASTED(ahead_train, VARIANT)(int argc, char** argv) {
    Trainer* t = (Trainer*)xcalloc(sizeof(Trainer));
    t->flags = options_table(&t->o);
    flags_parse(&t->flags, argc, argv);
    t->argc = argc, t->argv = argv;
    if (t->o.threads) device_threads(t->o.threads);
    if (*t->o.generate) return generate_text(&t->flags, &t->o);
    if (score_wanted(&t->flags)) return score_tokens(&t->flags, &t->o);
    if (t->o.dry_run) return plan_run(t), 0;
    flag_assign_by_name(&t->flags, "device", DEVICE_NAME);
    flag_assign_by_name(&t->flags, "precision", PRECISION_NAME);
    open_run(t);
    if (t->measures) {
        codebook_measure(&t->model, t->o.codebook_costs, t->o.input_bin, t->o.codebook_costs_tokens);
        return 0;
    }
    train(t);
    close_run(t);
    if (ARENA_GUARD > 0) arena_check(&t->model.activations);
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// Which variant runs

#if GPU_EXECUTION
// 1 when a GPU that this program can use answers; else 0 and one clause that says why in `why`.
extern "C" int PASTED(ahead_device, VARIANT)(char* why, size_t size) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        snprintf(why, size, "%s", error == cudaSuccess ? "there is none" : cudaGetErrorString(error));
        return 0;
    }
    cudaDeviceProp p;
    CUDA_CHECK(cudaGetDeviceProperties(&p, 0));
    snprintf(why, size, "%s is sm_%d%d, sm_80 or newer is needed", p.name, p.major, p.minor);
    return p.major >= 8;
}
#endif

#ifdef AHEAD_MAIN
extern "C" {
int ahead_train_cpu_bf16(int, char**);
int ahead_train_cpu_fp16(int, char**);
int ahead_train_cuda_fp32(int, char**);
int ahead_train_cuda_bf16(int, char**);
int ahead_train_cuda_fp16(int, char**);
int ahead_device_cuda_fp32(char*, size_t);
}

// Chooses the device and the precision and says why in one line.
int main(int argc, char** argv) {
    Options o;
    FlagTable flags = options_table(&o);
    flags_parse(&flags, argc, argv);
    char why[320] = "this build has no CUDA variants; `make` adds them where nvcc is";
    bool cuda = false, plans_gpu = plan_for_gpu(&flags);
#if AHEAD_WITH_CUDA
    if (!o.dry_run && strcmp(o.device, "cpu")) cuda = ahead_device_cuda_fp32(why, sizeof(why));
#endif
    if (!strcmp(o.device, "cuda") && !cuda && !o.dry_run)
        fail("--device cuda: no usable GPU (%s); use --device cpu or --device auto", why);
    const char* what = *o.score_bin ? "scoring" : "training";
    const char* precision = strcmp(o.precision, "auto") ? o.precision : cuda || plans_gpu ? "bf16" : "fp32";
    if (*o.generate) {  // says so itself, on stderr
    } else if (o.dry_run) printf("a dry run in %s: nothing is trained, read or written\n", precision);
    else if (cuda) printf("%s on the GPU in %s\n", what, precision);
    else if (!strcmp(o.device, "cpu")) printf("%s on the CPU in %s, as asked\n", what, precision);
    else printf("%s on the CPU in %s: no usable GPU (%s)\n", what, precision, why);
    bool bf16 = !strcmp(precision, "bf16"), fp16 = !strcmp(precision, "fp16");
    flags_free(&flags);  // and with them what precision may point to
#if AHEAD_WITH_CUDA
    if (cuda)
        return bf16   ? ahead_train_cuda_bf16(argc, argv)
               : fp16 ? ahead_train_cuda_fp16(argc, argv)
                      : ahead_train_cuda_fp32(argc, argv);
#endif
    return bf16 ? ahead_train_cpu_bf16(argc, argv) : fp16 ? ahead_train_cpu_fp16(argc, argv) : ahead_train_cpu_fp32(argc, argv);
}
#endif
