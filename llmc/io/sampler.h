/*
One token from a row of logits or probabilities: temperature, then top_k, then top_p, then a draw.

    candidates   (z, id) of every finite logit, maximum subtracted      weight = exp((z - max) / temperature), in double
    top_k        keeps the k largest (ties: the lower id stays)         by selection, not by sorting 50257 values
    top_p        keeps the shortest prefix of the sorted rest whose share reaches p; only candidates that can be in it are sorted:
                 those below (1 - p) / n of the mass sum to less than 1 - p, so the prefix is complete without them
    draw         walks the cumulated weights; a weight of 0 is never drawn

temperature 0 is the argmax, and so is top_k 1; neither uses the generator. The generator is one 64-bit number
(rand.h) that travels in checkpoints, so the samples of a resumed run are those of an uninterrupted one.
*/
#pragma once

#include "../base/rand.h"

typedef struct {
    double z;  // logit; later its weight
    int id;
} SampleCandidate;

typedef struct {
    Rng rng;
    double temperature;        // 0 = argmax
    int top_k;                 // 0 = all
    double top_p;              // 1 = all
    SampleCandidate* scratch;  // (n)
    int n;
} Sampler;

// A sampler for rows of n values. The flags' ranges: temperature >= 0, top_k >= 0, 0 < top_p <= 1.
UNUSED static Sampler sampler_start(int n, uint64_t seed, double temperature, int top_k, double top_p) {
    Sampler s;
    s.rng = rng_start(seed, "sampler");
    s.temperature = temperature, s.top_k = top_k, s.top_p = top_p, s.n = n;
    s.scratch = (SampleCandidate*)xmalloc((size_t)n * sizeof(SampleCandidate));
    return s;
}

UNUSED static void sampler_free(Sampler* s) {
    free(s->scratch);
    s->scratch = NULL;
}

// Order of rank: larger z first, then the lower id. qsort's signature.
static int sample_compare(const void* a, const void* b) {
    const SampleCandidate *x = (const SampleCandidate*)a, *y = (const SampleCandidate*)b;
    if (x->z != y->z) return x->z > y->z ? -1 : 1;
    return x->id - y->id;
}

// Moves the k first in rank to the front, in any order: quickselect around the middle element.
static void sample_select(SampleCandidate* c, int n, int k) {
    int low = 0, high = n - 1;
    while (low < high) {
        SampleCandidate pivot = c[low + (high - low) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (sample_compare(&c[i], &pivot) < 0) i++;
            while (sample_compare(&c[j], &pivot) > 0) j--;
            if (i > j) break;
            SampleCandidate swap = c[i];
            c[i++] = c[j], c[j--] = swap;
        }
        if (k - 1 <= j) high = j;
        else if (k - 1 >= i) low = i;
        else return;
    }
}

// Number of candidates (weights of sum `total`) left by top_p; they are sorted to the front.
static int sample_nucleus(SampleCandidate* c, int n, double total, double top_p) {
    int kept = 0;
    double least = (1 - top_p) * total / n, sum = 0;
    for (int i = 0; i < n; i++) {
        if (c[i].z >= least) c[kept++] = c[i];
    }
    qsort(c, (size_t)kept, sizeof(*c), sample_compare);
    for (int i = 0; i < kept; i++) {
        sum += c[i].z;
        if (sum >= top_p * total) return i + 1;
    }
    return kept;
}

// Draws from s->scratch[0..n-1] holding logits.
static int sample_draw(Sampler* s, int n) {
    SampleCandidate* c = s->scratch;
    if (n == 0) return -1;
    int best = 0;
    for (int i = 1; i < n; i++) {
        if (c[i].z > c[best].z) best = i;
    }
    if (s->temperature <= 0 || s->top_k == 1) return c[best].id;
    double max = c[best].z, total = 0;
    if (s->top_k > 0 && s->top_k < n) {
        sample_select(c, n, s->top_k);
        n = s->top_k;
    }
    for (int i = 0; i < n; i++) {
        c[i].z = exp((c[i].z - max) / s->temperature);
        total += c[i].z;
    }
    if (s->top_p < 1) {
        n = sample_nucleus(c, n, total, s->top_p);
        total = 0;
        for (int i = 0; i < n; i++) total += c[i].z;
    }
    double u = (double)(rng_next(&s->rng) >> 11) * 0x1p-53 * total, sum = 0;
    int last = 0;  // u < total, yet rounding may leave the sum a hair below u
    for (int i = 0; i < n; i++) {
        sum += c[i].z;
        if (c[i].z > 0) last = i;
        if (u < sum) return c[i].id;
    }
    return c[last].id;
}

// Token drawn from logits (n), n <= s->n. -inf excludes a token. -1: a NaN or +inf is in the row, or nothing is left.
UNUSED static int sample_logits(Sampler* s, const float* logits, int n) {
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY) return -1;
        if (logits[i] == -INFINITY) continue;
        s->scratch[count].z = logits[i], s->scratch[count].id = i;
        count++;
    }
    return sample_draw(s, count);
}

// The same from non-negative probabilities (n); they need not sum to 1. -1: a NaN, negative or infinite one is in the row.
UNUSED static int sample_probs(Sampler* s, const float* probs, int n) {
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (!(probs[i] >= 0) || probs[i] == INFINITY) return -1;
        if (probs[i] == 0) continue;
        s->scratch[count].z = log((double)probs[i]), s->scratch[count].id = i;
        count++;
    }
    return sample_draw(s, count);
}
