/*
The live line on a terminal, rewritten in place on stderr at most ten times a second and cut to the terminal's width:

    [========>           ]  42%  step 2003/4768  loss 3.8124  52.3k tok/s  ETA 1h07m

The estimate is wall time per step since this process began, times the steps left: it includes validation and checkpoints.
*/
#pragma once

#include "logger.h"

// "45s", "3m20s", "1h07m", "2d03h"
UNUSED static const char* duration_text(char* out, size_t size, double seconds) {
    long long s = seconds > 0 ? (long long)(seconds + 0.5) : 0;
    if (s < 60) snprintf(out, size, "%llds", s);
    else if (s < 3600) snprintf(out, size, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400) snprintf(out, size, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else snprintf(out, size, "%lldd%02lldh", s / 86400, s / 3600 % 24);
    return out;
}

// "52.3k", "1.20M"
UNUSED static const char* count_text(char* out, size_t size, double x) {
    if (x < 1e3) snprintf(out, size, "%.0f", x);
    else if (x < 1e6) snprintf(out, size, "%.1fk", x / 1e3);
    else if (x < 1e9) snprintf(out, size, "%.2fM", x / 1e6);
    else snprintf(out, size, "%.2fB", x / 1e9);
    return out;
}

// The line for `done` steps of which the first `begin_step` were run by an earlier process; elapsed: wall seconds since then.
static void progress_text(Text* t, int64_t done, int64_t total, int64_t begin_step, double elapsed, double loss, double tps) {
    enum { BAR = 20 };
    char bar[BAR + 1], eta[32], rate[32];
    double share = total > 0 ? (double)done / (double)total : 1;
    int full = (int)(share * BAR);
    for (int i = 0; i < BAR; i++) bar[i] = i < full ? '=' : i == full ? '>' : ' ';
    bar[BAR] = 0;
    text_add(t, "[%s] %3d%%  step %lld/%lld  loss %.4f", bar, (int)(100 * share), (long long)done, (long long)total, loss);
    if (!isnan(tps)) text_add(t, "  %s tok/s", count_text(rate, sizeof(rate), tps));
    if (done <= begin_step) return;
    double left = elapsed / (double)(done - begin_step) * (double)(total - done);
    text_add(t, "  ETA %s", duration_text(eta, sizeof(eta), left));
}

// Draws the line for the step just finished. Costs nothing off a terminal.
UNUSED static void logger_progress(Logger* l, const StepRecord* r) {
    if (!l->progress) return;
    double now = wall_seconds();
    if (l->begin == 0) l->begin = now, l->begin_step = r->step + 1;  // the first step pays for warm-up: it does not count
    if (now - l->drawn < 0.1) return;
    l->drawn = now;
    struct winsize window;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
    Text t = {0, 0, 0};
    progress_text(&t, r->step + 1, l->num_iterations, l->begin_step, now - l->begin, r->loss, r->tokens_per_second);
    fprintf(stderr, "\r%.*s\033[K\r", columns > 1 ? columns - 1 : 0, t.data);
    fflush(stderr);
    l->pending = true;
    text_free(&t);
}
