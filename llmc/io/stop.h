/*
Signals that ask a run to stop: SIGTERM (kill, a batch system), SIGINT (Ctrl-C), SIGHUP (the terminal is gone).

    first signal     noted, nothing else. The run looks between micro-steps, validation batches and sampled tokens, gives up what
                     it is at, saves a checkpoint and leaves with 128 + the signal's number: 143, 130, 129
    another, later   stops at once, as if there were no handler. The same event often comes twice, from a batch system and from
                     the script above, so a signal within half a second of the first is taken for the first one's echo

A signal that the parent ignores (nohup; Ctrl-C for a background job of a script) stays ignored. Before stop_listen, while a run
loads, and after it has written all, signals end the program in the usual way: nothing would be lost.
SIGXFSZ is ignored, so that a file that grows too large for `ulimit -f` is a failed write with a sentence, as on a full disk.
Tried and dropped: finishing the step. A step of many micro-steps can outlast the grace period of a batch system.
*/
#pragma once

#include "../base/check.h"

#include <signal.h>
#include <time.h>

#define STOP_ECHO_SECONDS 0.5

static volatile sig_atomic_t stop_signal;  // 0: none yet
static struct timespec stop_time;          // of it

// Asynchronous: a flag, clock_gettime, signal and raise are all it may and does use.
static void stop_handler(int signal_number) {
    struct timespec now;
    int error = errno;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double since = (double)(now.tv_sec - stop_time.tv_sec) + 1e-9 * (double)(now.tv_nsec - stop_time.tv_nsec);
    if (!stop_signal) {
        stop_time = now;
        stop_signal = signal_number;
    } else if (since > STOP_ECHO_SECONDS) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);  // takes effect when the handler returns
    }
    errno = error;
}

// From here on signals are noted.
UNUSED static void stop_listen(void) {
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction action, old;
    memset(&action, 0, sizeof(action));
    action.sa_handler = stop_handler;
    action.sa_flags = SA_RESTART;
    for (int i = 0; i < 3; i++) sigaddset(&action.sa_mask, signals[i]);
    for (int i = 0; i < 3; i++) {
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN) continue;
        sigaction(signals[i], &action, NULL);
    }
    signal(SIGXFSZ, SIG_IGN);
}

UNUSED static const char* stop_name(void) {
    return stop_signal == SIGTERM ? "SIGTERM" : stop_signal == SIGINT ? "SIGINT (Ctrl-C)" : "SIGHUP";
}

// Ends the program; its last line says what is there and how to go on. dir: "" = nothing could be saved.
UNUSED __attribute__((noreturn)) static void stop_leave(const char* dir, int64_t step, int64_t steps, bool resumes) {
    printf("stopped by %s at step %lld of %lld; ", stop_name(), (long long)step, (long long)steps);
    if (!*dir) printf("nothing is saved without --output_dir\n");
    else {
        const char* how = resumes ? "the same command goes on" : "the same command with --resume auto goes on";
        printf("%s/step_%08lld.ckpt is saved: %s\n", dir, (long long)step, how);
    }
    fflush(stdout);
    exit(128 + stop_signal);
}
