/*
Multiple choice (HellaSwag and the like): the completion that the model finds likeliest, token for token.

    row      | context ..... | completion |  0 0      every completion of every example is a row of T' tokens
    scored                   ^^^^^^^^^^^^             cross-entropy of each completion token given all before it

    acc_norm   the lowest mean over the completion's tokens is the answer: length does not matter
    acc        the lowest sum

T' is the longest row's length in the file, rounded up to 16, at most the trained length: a longer row loses the start of its
context. Ties go to the first. The batch is the training's, and so are precision and device; nothing that training uses is
changed, and the order of the sums depends on the file alone.
*/
#pragma once

#include "../io/choices.h"
#include "setup.cuh"

typedef struct {
    Choices file;
    int B, T;
    int *tokens, *device;  // (B*T + 1)
    size_t bytes;
    float* losses;  // (B*T)
    double* means;  // (rows, 2) mean and sum of each completion
} ChoiceEval;

typedef struct {
    int count, correct, correct_norm;
} ChoiceScore;

// After model_allocate: plans the shape. Errors: those of choices_open; a completion that does not fit into the sequence.
UNUSED static ChoiceEval choice_eval_open(Model* m, const char* path) {
    ChoiceEval e = {};
    e.file = choices_open(path, m->config.V);
    e.B = m->config.B, e.T = (int)round_up((size_t)e.file.longest, 16);
    if (e.T > m->config.T) e.T = m->config.T;
    if (e.file.longest_completion >= e.T) {
        fail("%s: a completion of %d tokens with a token before it does not fit into --sequence_length %d; use a longer one",
             path, e.file.longest_completion, m->config.T);
    }
    e.bytes = ((size_t)e.B * e.T + 1) * sizeof(int);
    e.tokens = (int*)xcalloc(e.bytes), e.device = (int*)device_malloc(e.bytes, "multiple choice");
    e.losses = (float*)xmalloc(e.bytes);
    e.means = (double*)xmalloc(2 * (size_t)e.file.rows * sizeof(double));
    model_plan_shape(m, e.B, e.T);
    printf("choices    %s: %d examples, %d completions of up to %d tokens with their context%s\n", path, e.file.count,
           e.file.rows, e.file.longest, e.file.longest > e.T ? "; the longest contexts lose their start" : "");
    return e;
}

UNUSED static void choice_eval_close(ChoiceEval* e) {
    choices_close(&e->file);
    device_free(e->device, e->bytes);
    free(e->tokens), free(e->losses), free(e->means);
}

// Puts context and completion k into row `row` (T); returns the position whose target is the first completion token. *end: behind
// the last such position.
static int choice_row(const ChoiceEval* e, const Choice* c, int k, int* row, int* end) {
    int length = c->context_tokens + c->tokens[k], skip = length > e->T ? length - e->T : 0;
    for (int t = 0; t < e->T; t++) {
        int at = t + skip;
        row[t] = at < c->context_tokens ? c->context[at] : at < length ? c->completion[k][at - c->context_tokens] : 0;
    }
    *end = length - skip - 1;
    return c->context_tokens - skip - 1;
}

// Sums and means of the `rows` rows in e->tokens; first, end (rows): which positions count.
static void choice_batch(Model* m, ChoiceEval* e, const int* first, const int* end, int rows, double* means) {
    copy_to_device(e->device, e->tokens, e->bytes);
    Micro micro = {e->device, NULL, e->B, e->T, false};
    model_forward(m, micro.tokens, e->B, e->T);
    head_loss(m, &micro, next_token(m, &micro), 0.0f, false);
    check_launches();
    copy_to_host(e->losses, m->losses, (size_t)e->B * e->T * sizeof(float));
    for (int b = 0; b < rows; b++) {
        double sum = 0;
        for (int t = first[b]; t < end[b]; t++) sum += e->losses[b * e->T + t];
        means[2 * b] = sum / (end[b] - first[b]), means[2 * b + 1] = sum;
    }
}

// Index of the least of x[0], x[2], ..
static int choice_least(const double* x, int count) {
    int best = 0;
    for (int k = 1; k < count; k++) {
        if (x[2 * k] < x[2 * best]) best = k;
    }
    return best;
}

UNUSED static ChoiceScore choice_eval(Model* m, ChoiceEval* e) {
    ChoiceScore score = {e->file.count, 0, 0};
    int *first = (int*)xmalloc((size_t)e->B * sizeof(int)), *end = (int*)xmalloc((size_t)e->B * sizeof(int));
    int waiting = 0;
    double* means = e->means;
    for (int i = 0; i < e->file.count; i++) {
        Choice c = choices_get(&e->file, i);
        for (int k = 0; k < c.count; k++) {
            first[waiting] = choice_row(e, &c, k, e->tokens + (size_t)waiting * e->T, &end[waiting]);
            waiting++;
            bool last = i + 1 == e->file.count && k + 1 == c.count;
            if (waiting < e->B && !last) continue;
            choice_batch(m, e, first, end, waiting, means);
            means += 2 * waiting, waiting = 0;
        }
    }
    means = e->means;
    for (int i = 0; i < e->file.count; i++) {
        Choice c = choices_get(&e->file, i);
        score.correct_norm += choice_least(means, c.count) == c.label;
        score.correct += choice_least(means + 1, c.count) == c.label;
        means += 2 * c.count;
    }
    free(first), free(end);
    return score;
}

// Console, main.log (`s:12 eval:0.295500`, llm.c's line) and metrics.jsonl. r: with step, tokens and time.
UNUSED static void choice_log(Logger* l, StepRecord* r, ChoiceScore score) {
    Text t = {0, 0, 0};
    double norm = (double)score.correct_norm / score.count, plain = (double)score.correct / score.count;
    text_add(&t, "s:%d eval:%f acc:%f", (int)r->step, norm, plain);
    logger_write(l, l->log, &t);
    text_free(&t);
    step_record_add(r, "hellaswag_acc_norm", norm), step_record_add(r, "hellaswag_acc", plain);
    logger_metrics(l, r, false);
    logger_clear(l);
    printf("step:%d/%d | multiple choice %d/%d = %.6f by mean loss, %.6f by sum\n", (int)r->step, (int)l->num_iterations,
           score.correct_norm, score.count, norm, plain);
    fflush(stdout);
}
