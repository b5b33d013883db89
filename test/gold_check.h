/*
Comparison with a golden tensor: the second half of gold.h, which says the rule and includes this.
*/
#pragma once

UNUSED static double gold_tolerance(const GoldTensor* t, int precision) {
    const double floors[3] = {2e-6, 0x1p-8, 0x1p-10};
    double floor = precision != GOLD_FP32 && t->kept_fp32 ? 1e-5 : floors[precision];
    return 2 * t->error[precision] + floor;
}

UNUSED static bool gold_skipped(const Gold* g) {
    const char* only = getenv("AHEAD_CASE");
    return only && strcmp(only, g->name);
}

// Appends to a message of bounded size.
UNUSED PRINTF_LIKE(2, 3) static void gold_say(char* message, const char* format, ...) {
    size_t used = strlen(message);
    va_list args;
    va_start(args, format);
    vsnprintf(message + used, 900 - used, format, args);
    va_end(args);
}

UNUSED static void gold_say_tensor(char* message, const Gold* g, const GoldTensor* t, const char* precision) {
    gold_say(message, "case %s (%s)\n  tensor %s (", g->name, g->why, t->name);
    for (int d = 0; d < t->ndim; d++) gold_say(message, d ? ",%d" : "%d", t->dims[d]);
    gold_say(message, ") in %s", precision);
}

UNUSED static void gold_say_place(char* message, const GoldTensor* t, size_t index) {
    int place[4] = {0, 0, 0, 0};
    for (int d = t->ndim - 1; d >= 0; d--) place[d] = (int)(index % (size_t)t->dims[d]), index /= (size_t)t->dims[d];
    gold_say(message, "[");
    for (int d = 0; d < t->ndim; d++) gold_say(message, d ? ",%d" : "%d", place[d]);
    gold_say(message, "]");
}

UNUSED static void gold_say_command(char* message, const Gold* g) {
    char program[200] = "the test";
    ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (length > 0) program[length] = 0;
    gold_say(message, "\n  only this case again: AHEAD_CASE=%s %s", g->name, program);
}

// Largest rms-relative error of ours against values; infinity where NaN or infinity disagree. *worst is its index.
UNUSED static double gold_error(const float* ours, const float* values, size_t count, double* rms, size_t* worst) {
    double squares = 0, error = 0;
    size_t finite = 0;
    for (size_t i = 0; i < count; i++)
        if (isfinite(values[i])) squares += (double)values[i] * values[i], finite++;
    *rms = squares > 0 ? sqrt(squares / (double)finite) : 1;
    *worst = 0;
    for (size_t i = 0; i < count; i++) {
        double e = fabs((double)ours[i] - values[i]) / *rms;
        if (!isfinite(ours[i]) || !isfinite(values[i]))
            e = ours[i] == values[i] || (isnan(ours[i]) && isnan(values[i])) ? 0 : INFINITY;
        if (e > error) error = e, *worst = i;
    }
    return error;
}

// Compares ours (count elements of the recorded shape, any storage type widened to float) with tensor `name`.
// precision: 0 fp32, 1 bf16, 2 fp16, the numbers of PRECISION. Fails the cmocka test with what one needs to find the mistake.
UNUSED static void gold_check(const Gold* g, const char* name, const float* ours, int precision) {
    const char* names[3] = {"fp32", "bf16", "fp16"};
    const GoldTensor* t = gold_tensor(g, name);
    if (gold_skipped(g)) return;
    if (!t->has_error || !t->f32 || !strcmp(t->type, "sketch")) fail_msg("%s of case %s is not an output", name, g->name);
    double rms, allowed = gold_tolerance(t, precision);
    size_t worst, failing = 0, columns = (size_t)t->dims[t->ndim - 1], by_remainder[8] = {0}, rows = 0, last_row = SIZE_MAX;
    double error = gold_error(ours, t->f32, t->count, &rms, &worst);
    if (error <= allowed) return;
    for (size_t i = 0; i < t->count; i++) {
        bool same = ours[i] == t->f32[i] || (isnan(ours[i]) && isnan(t->f32[i]));
        if (same || fabs((double)ours[i] - t->f32[i]) <= allowed * rms) continue;
        failing++, by_remainder[i % columns % 8]++;
        if (i / columns != last_row) rows++, last_row = i / columns;
    }
    char message[900] = "";
    gold_say_tensor(message, g, t, names[precision]);
    gold_say(message, ": error %.2e of rms %.3g, allowed %.2e (2 x %.1e + floor)\n  worst at ", error, rms, allowed,
             t->error[precision]);
    gold_say_place(message, t, worst);
    gold_say(message,
             ": ours %.8g, gold %.8g, allowed difference %.3g\n  %zu of %zu elements fail in %zu of %zu rows; by last "
             "index modulo 8:",
             ours[worst], t->f32[worst], allowed * rms, failing, t->count, rows, t->count / columns);
    for (int r = 0; r < 8; r++) gold_say(message, " %zu", by_remainder[r]);
    gold_say_command(message, g);
    fail_msg("%s", message);
}

// The same for integers, exactly.
UNUSED static void gold_check_ints(const Gold* g, const char* name, const int32_t* ours) {
    const GoldTensor* t = gold_tensor(g, name);
    for (size_t i = 0; i < t->count && !gold_skipped(g); i++) {
        if (ours[i] == t->i32[i]) continue;
        char message[900] = "";
        gold_say_tensor(message, g, t, "i32");
        gold_say(message, ": first difference at ");
        gold_say_place(message, t, i);
        gold_say(message, ": ours %d, gold %d", ours[i], t->i32[i]);
        gold_say_command(message, g);
        fail_msg("%s", message);
    }
}

// sums[0] sum, [1] sum of squares, [2 + j] dot product with sign vector j: sign of element i is bit j of rand_at(key, i).
UNUSED static void gold_sketch(const float* x, size_t count, double* sums) {
    uint64_t key = rand_key(0, "sketch");
    for (int j = 0; j < GOLD_SUMS; j++) sums[j] = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = rand_at(key, i);
        sums[0] += x[i], sums[1] += (double)x[i] * x[i];
        for (int j = 0; j < GOLD_SIGNS; j++) sums[2 + j] += bits >> j & 1 ? x[i] : -x[i];
    }
}

// Compares ours (the whole tensor of the recorded shape) with a sketch. error = the largest of: sum and dot products, off by
// so many rms * sqrt(count); sum of squares, relative; sampled elements, off by so many rms.
UNUSED static void gold_check_sketch(const Gold* g, const char* name, const float* ours, int precision) {
    const char* names[3] = {"fp32", "bf16", "fp16"};
    const GoldTensor* t = gold_tensor(g, name);
    if (gold_skipped(g)) return;
    if (strcmp(t->type, "sketch")) fail_msg("%s of case %s is not a sketch", name, g->name);
    double sums[GOLD_SUMS], rms = sqrt(t->f32[1] / (double)t->count), allowed = gold_tolerance(t, precision), error = 0;
    if (rms == 0) rms = 1;
    gold_sketch(ours, t->count, sums);
    char what[64] = "", message[900] = "";
    size_t worst = t->count;
    double mine = 0, theirs = 0;
    for (int j = 0; j < GOLD_SUMS; j++) {
        double scale = j == 1 ? rms * rms * (double)t->count : rms * sqrt((double)t->count);
        double e = fabs(sums[j] - t->f32[j]) / scale;
        if (e <= error) continue;  // NaN passes on to the report
        error = isfinite(e) ? e : INFINITY, mine = sums[j], theirs = t->f32[j];
        if (j < 2) snprintf(what, sizeof(what), "%s", j ? "sum of squares" : "sum");
        else snprintf(what, sizeof(what), "dot product with sign vector %d", j - 2);
    }
    size_t failing = 0, samples = t->count < GOLD_SAMPLES ? t->count : (size_t)GOLD_SAMPLES;
    for (size_t k = 0; k < samples; k++) {
        size_t i = (size_t)t->i32[k];
        double e = fabs((double)ours[i] - t->f32[GOLD_SUMS + k]) / rms;
        failing += !(e <= allowed);
        if (e <= error) continue;
        error = isfinite(e) ? e : INFINITY, worst = i, mine = ours[i], theirs = t->f32[GOLD_SUMS + k];
    }
    if (error <= allowed) return;
    gold_say_tensor(message, g, t, names[precision]);
    gold_say(message, ", sketched: error %.2e of rms %.3g, allowed %.2e (2 x %.1e + floor)\n  worst: ", error, rms, allowed,
             t->error[precision]);
    if (worst < t->count) gold_say_place(message, t, worst);
    else gold_say(message, "%s", what);
    gold_say(message, ": ours %.8g, gold %.8g; %zu of %zu sampled elements fail", mine, theirs, failing, samples);
    gold_say_command(message, g);
    fail_msg("%s", message);
}
