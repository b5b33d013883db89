/*
Multi-token prediction on shared logits: how much the token k steps ahead counts, at every step of a run. The same logits that
predict the next token are also scored against the tokens 2..K ahead; that is a weight per offset and no parameter.

    loss = sum over k of c_k CE(z, token k ahead)        c_1 .. c_K are what this file computes

From flags: c_1 = 1 and c_k = w share_k with w(step) = mtp_weight * ramp(step) * decay(step). The ramp makes w(0) = 0.
    --mtp_agg mean   share_k = 1 / (K - 1)               the mean of the further losses
    --mtp_agg sum    share_k = 1
    --mtp_agg geo    share_k = gamma^(k - 1)             gamma, gamma^2, ..
Or written out, --mtp_weights LIST:
    LIST   = STAGE / STAGE / ..      equal parts of the run, at most MTP_STAGES
    STAGE  = WEIGHT , WEIGHT , ..    of the tokens 1, 2, .. ahead; offsets that a stage leaves out have weight 0 in it
    WEIGHT = number  or  start:end   end: reached, along a line, where the stage ends
    1,0.5,0.25:0/1,0.5:0/1           three thirds: two look-aheads, then one, then none; each is let down to 0 before it goes

Weights are a function of the step and the flags alone: nothing of them is in a checkpoint, and a resumed run has the same ones.
One distribution cannot be right for two tokens: with w held to the end the best model's next-token loss is worse by up to
ln(1 + w) nats. So a weight should be 0 by the end of a run.

Tried and dropped: one weight that the ramp overwrites (it then never reaches the flag's value: base and current are two things);
weights of 0 kept in the list (a logit of -infinity would make a loss that does not count infinite, and the step be skipped).
*/
#pragma once

#include "../base/flags.h"
#include "../optim/schedule.h"

enum { MTP_MAX = 8, MTP_STAGES = 16, MTP_WEIGHT_MAX = 1000 };
typedef enum { MTP_MEAN, MTP_SUM, MTP_GEO } MtpAgg;  // in the order of MTP_AGG_CHOICES
#define MTP_AGG_CHOICES "mean|sum|geo"

typedef struct {
    int count;                            // weights that are written; the others are 0
    float first[MTP_MAX], last[MTP_MAX];  // at the stage's start and end; index k - 1 for the token k ahead
} MtpStage;

typedef struct {
    int K;          // farthest token; 1: plain next-token prediction
    double weight;  // the flag's, never changed
    double shares[MTP_MAX];
    int64_t rampup, num_iterations;  // steps
    double decay_start, decay_end;   // fractions of the run
    int stages;                      // 0: from the flags; else --mtp_weights
    MtpStage stage[MTP_STAGES];
} Mtp;

// ---------------------------------------------------------------------------------------------------------------------
// Weights at a step

// w of the flags at `step`, or the sum of the further weights of a list: what the log calls mtp_weight.
UNUSED static double mtp_weight_at(const Mtp* m, int64_t step);

// Fills w (MTP_MAX) with the weights of the tokens 1, 2, .. ahead at `step`. Returns how many count: zeros at the end do not, so
// an objective without weight is the absent one, to the bit.
UNUSED static int mtp_weights_at(const Mtp* m, int64_t step, float* w) {
    memset(w, 0, MTP_MAX * sizeof(float));
    w[0] = 1.0f;
    if (m->stages) {
        int64_t N = m->num_iterations, stage = N > 0 ? step * m->stages / N : m->stages;
        if (stage > m->stages - 1) stage = m->stages - 1;
        double along = N > 0 ? clamp_unit((double)(step * m->stages - stage * N) / (double)N) : 1;
        const MtpStage* s = &m->stage[stage];
        for (int k = 0; k < m->K; k++) w[k] = (float)(s->first[k] + ((double)s->last[k] - s->first[k]) * along);
    } else {
        double current = mtp_weight_at(m, step);
        for (int k = 1; k < m->K; k++) w[k] = (float)(current * m->shares[k]);
    }
    int count = m->K;
    while (count > 1 && w[count - 1] == 0.0f) count--;
    return count;
}

UNUSED static double mtp_weight_at(const Mtp* m, int64_t step) {
    if (m->stages) {
        float w[MTP_MAX];
        double sum = 0;
        int count = mtp_weights_at(m, step, w);
        for (int k = 1; k < count; k++) sum += w[k];
        return sum;
    }
    double progress = m->num_iterations > 0 ? (double)step / (double)m->num_iterations : 1;
    return m->weight * ramp(step, m->rampup) * decay_factor(progress, m->decay_start, m->decay_end);
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading --mtp_weights

static bool mtp_read_number(const char** at, float* value) {
    size_t length = strspn(*at, "+-.eE0123456789");  // keeps inf, nan and hexadecimal out
    char* end = NULL;
    double x = strtod(*at, &end);
    if (length == 0 || end != *at + length || !(x >= 0 && x <= MTP_WEIGHT_MAX)) return false;
    *value = (float)x;
    *at = end;
    return true;
}

// Reads a list into m->stage and m->stages. False, with one clause in `problem`, when it is not one.
UNUSED static bool mtp_parse(Mtp* m, const char* list, Text* problem) {
    m->stages = 0;
    for (const char* at = list;; at++) {
        if (m->stages == MTP_STAGES) return text_add(problem, "more than %d stages", MTP_STAGES), false;
        MtpStage* s = &m->stage[m->stages++];
        memset(s, 0, sizeof(*s));
        for (;; at++) {
            int length = (int)strcspn(at, ",/"), k = s->count;
            if (k == MTP_MAX) return text_add(problem, "stage %d has more than %d weights", m->stages, MTP_MAX), false;
            const char* p = at;
            bool good = mtp_read_number(&p, &s->first[k]);
            s->last[k] = s->first[k];
            if (good && *p == ':') p++, good = mtp_read_number(&p, &s->last[k]);
            if (!good || p != at + length) {
                text_add(problem, "\"%.*s\", weight %d of stage %d, is not a number in 0..%d or two of them as start:end", length,
                         at, k + 1, m->stages, MTP_WEIGHT_MAX);
                return false;
            }
            s->count++;
            at = p;
            if (*at != ',') break;
        }
        if (s->first[0] <= 0 || s->last[0] <= 0) {
            text_add(problem, "the first weight of stage %d, the next token's, is 0 but must be greater", m->stages);
            return false;
        }
        if (!*at) return true;
    }
}

// What the writer of a wrong list may have meant: other people's signs replaced by ours. Empty when that is no list either.
static void mtp_suggest(const char* list, Text* meant) {
    Text t = {0, 0, 0}, ignored = {0, 0, 0};
    Mtp scratch;
    text_reserve(&t, 0);
    for (const char* p = list; *p; p++) {
        char before = t.size ? t.data[t.size - 1] : 0;
        if (p[0] == '-' && p[1] == '>') text_add_char(&t, ':'), p++;
        else if (p[0] == '.' && p[1] == '.') text_add_char(&t, ':'), p++;
        else if (*p == ';' || *p == '|') text_add_char(&t, '/');
        else if (strchr("])", *p) && p[1] == ',') text_add_char(&t, '/'), p++;
        else if (*p == ' ' && before >= '0' && before <= '9' && p[1] >= '.' && p[1] <= '9') text_add_char(&t, ',');
        else if (!strchr("[]() ", *p)) text_add_char(&t, *p);
    }
    if (t.size && strchr(",/;", t.data[t.size - 1])) t.data[--t.size] = 0;
    if (mtp_parse(&scratch, t.data, &ignored)) text_add(meant, "%s", t.data);
    text_free(&t);
    text_free(&ignored);
}

// ---------------------------------------------------------------------------------------------------------------------
// From the flags

// Reads and checks --mtp_weights against K; any mistake ends the program with exit code 2.
static void mtp_read_list(Mtp* m, const char* list) {
    Text problem = {0, 0, 0}, meant = {0, 0, 0};
    if (!mtp_parse(m, list, &problem)) {
        mtp_suggest(list, &meant);
        usage_error("--mtp_weights %s: %s; %s%s%s", list, problem.data, meant.size ? "did you mean " : "write for example ",
                    meant.size ? meant.data : "1,0.5,0.25:0/1,0.5:0/1",
                    meant.size ? "?" : " (commas between offsets, / between parts of the run)");
    }
    int longest = 0;
    for (int i = 0; i < m->stages; i++) longest = m->stage[i].count > longest ? m->stage[i].count : longest;
    if (longest == 1) usage_error("--mtp_weights %s weighs the next token alone; add a weight for the token after it", list);
    if (longest != m->K) {
        usage_error("--mtp_weights %s looks %d tokens ahead, but --mtp_max_steps is %d; use --mtp_max_steps %d", list, longest,
                    m->K, longest);
    }
}

// A flag that would have no effect is a mistake that is said, not one that a run hides. Off by `--mtp_enabled 0` is meant.
static void mtp_check_idle(const FlagTable* flags, bool enabled, bool list) {
    for (int i = 0; i < flags->count; i++) {
        const char* name = flags->defs[i].name;
        if (flags->defs[i].kind == FLAG_SECTION || strncmp(name, "mtp_", 4) || flag_is_default(flags, i)) continue;
        if (!enabled && !flag_was_set(flags, "mtp_enabled")) {
            usage_error("--%s has no effect without --mtp_enabled; add it, or --mtp_enabled 0 if it is meant to be off", name);
        }
        bool shapes = strcmp(name, "mtp_enabled") && strcmp(name, "mtp_max_steps") && strcmp(name, "mtp_heads") &&
                      strcmp(name, "mtp_weights");
        if (enabled && list && shapes) {
            usage_error("--%s has no effect with --mtp_weights, which has every weight in it; leave one of the two out", name);
        }
        if (enabled && !strcmp(name, "mtp_gamma") && flag_choice(flags, "mtp_agg") != MTP_GEO) {
            usage_error("--mtp_gamma has no effect with --mtp_agg %s; add --mtp_agg geo",
                        *(char* const*)flag_field(flags, "mtp_agg"));
        }
    }
}

// The schedule that the flags ask for; a contradiction ends the program with exit code 2. num_iterations: steps of the run.
UNUSED static Mtp mtp_from_flags(const FlagTable* flags, int64_t num_iterations) {
    Mtp m;
    memset(&m, 0, sizeof(m));
    const char* list = *(char* const*)flag_field(flags, "mtp_weights");
    bool enabled = *(const bool*)flag_field(flags, "mtp_enabled");
    mtp_check_idle(flags, enabled, *list != 0);
    m.K = 1;
    m.num_iterations = num_iterations;
    if (!enabled) return m;
    m.K = *(const int*)flag_field(flags, "mtp_max_steps");
    m.weight = *(const double*)flag_field(flags, "mtp_weight");
    m.rampup = *(const int*)flag_field(flags, "mtp_rampup_steps");
    m.decay_start = *(const double*)flag_field(flags, "mtp_decay_start");
    m.decay_end = *(const double*)flag_field(flags, "mtp_decay_end");
    double gamma = *(const double*)flag_field(flags, "mtp_gamma");
    MtpAgg agg = (MtpAgg)flag_choice(flags, "mtp_agg");
    for (int k = 1; k < m.K; k++) m.shares[k] = agg == MTP_MEAN ? 1.0 / (m.K - 1) : agg == MTP_SUM ? 1 : pow(gamma, k);
    if (*list) mtp_read_list(&m, list);
    if (m.decay_start > m.decay_end) {
        usage_error("--mtp_decay_start %g comes after --mtp_decay_end %g; use --mtp_decay_start %g or less", m.decay_start,
                    m.decay_end, m.decay_end);
    }
    return m;
}
