/*
Where a run spends its time: sections of the program, each opened and closed by two lines.

    Section outer = section_begin(SECTION_HEAD);      profile_start(stream);    from here on time counts
    ..                                                profile_collect();        GPU: now and then, where the host waits anyway
    section_end(outer);                               profile_stop();           profile.seconds, .entries

At every moment one section is current: one inside another takes its time out of the outer one, so that the sections add up to the
whole. Validation, samples and checkpoints are whole: what they call does not count as something else.

    OTHER | DATA | EMBED | MIXER | ATTENTION | MIXER | MLP | .. | HEAD | AUXILIARY | MLP_BACKWARD | .. | OPTIMIZER | OTHER

    CPU   a clock is read where the section changes
    GPU   an event is recorded there, in the stream; the time between two events is the stream's, waiting for the host included.
          NVTX ranges with the same names, for Nsight. Nothing waits: profile_collect reads the events that have passed.

Without profile_start a change of section is a store of one number: nothing is timed, recorded or announced. A step with events in
it must not be captured as a graph.
*/
#pragma once

#include "precision.cuh"

#include <time.h>

#if defined(__CUDACC__) && !defined(AHEAD_EMU) && __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define PROFILE_NVTX 1
#else
#define PROFILE_NVTX 0
#endif

typedef enum {
    SECTION_OTHER,
    SECTION_DATA,
    SECTION_EMBED,
    SECTION_MIXER,
    SECTION_ATTENTION,
    SECTION_MLP,
    SECTION_HEAD,       // forward and backward in one
    SECTION_AUXILIARY,  // the same
    SECTION_MLP_BACKWARD,
    SECTION_MIXER_BACKWARD,
    SECTION_ATTENTION_BACKWARD,
    SECTION_EMBED_BACKWARD,
    SECTION_OPTIMIZER,
    SECTION_VALIDATION,  // from here on: whole, whatever is called inside
    SECTION_SAMPLE,
    SECTION_CHECKPOINT,
    SECTIONS
} Section;

typedef struct {
    const char *key, *title;  // in metrics.jsonl and NVTX; on the console
} SectionName;

UNUSED static const SectionName SECTION_NAMES[SECTIONS] = {{"profile_other", "logs, and all else"},
                                                           {"profile_data", "waiting for data"},
                                                           {"profile_embed", "embedding, last norm"},
                                                           {"profile_mixer", "mixer: norm, projections"},
                                                           {"profile_attention", "attention"},
                                                           {"profile_mlp", "mlp, its norm"},
                                                           {"profile_head", "head: logits, loss, gradient"},
                                                           {"profile_auxiliary", "further heads"},
                                                           {"profile_mlp_backward", "mlp backward"},
                                                           {"profile_mixer_backward", "mixer backward"},
                                                           {"profile_attention_backward", "attention backward"},
                                                           {"profile_embed_backward", "embedding, last norm backward"},
                                                           {"profile_optimizer", "optimizer"},
                                                           {"profile_validation", "validation"},
                                                           {"profile_sample", "samples"},
                                                           {"profile_checkpoint", "checkpoints"}};

typedef struct {
    bool on;
    Section section;  // current, on or off
    double seconds[SECTIONS];
    int64_t entries[SECTIONS];
    double begin, since;  // CPU: wall time of profile_start, of the last change
#if GPU_EXECUTION
    cudaStream_t stream;
    cudaEvent_t *events, *spare;  // | count recorded, in order | idle - count free |
    Section* of;                  // of[i] begins with events[i]
    int count, idle, capacity;
#endif
} Profile;

UNUSED static Profile profile;

UNUSED static double profile_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if GPU_EXECUTION
static void profile_check(cudaError_t error) {
    if (error != cudaSuccess) fail("--profile: an event: %s; leave --profile out", cudaGetErrorString(error));
}

// One more free event.
static void profile_new_event(Profile* p) {
    if (p->idle == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 1024;
        p->events = (cudaEvent_t*)realloc(p->events, (size_t)p->capacity * sizeof(*p->events));
        p->spare = (cudaEvent_t*)realloc(p->spare, (size_t)p->capacity * sizeof(*p->spare));
        p->of = (Section*)realloc(p->of, (size_t)p->capacity * sizeof(*p->of));
        if (!p->events || !p->spare || !p->of) fail("out of host memory for --profile");
    }
    profile_check(cudaEventCreate(&p->events[p->idle++]));
}
#endif

// s is current from now on.
static void profile_mark(Section s) {
    Profile* p = &profile;
#if GPU_EXECUTION
    if (p->count == p->idle) profile_new_event(p);
    profile_check(cudaEventRecord(p->events[p->count], p->stream));
    p->of[p->count++] = s;
#else
    double now = profile_clock();
    p->seconds[p->section] += now - p->since;
    p->since = now;
#endif
#if PROFILE_NVTX
    nvtxRangePop();
    nvtxRangePushA(SECTION_NAMES[s].key);
#endif
    p->section = s;
}

static inline void section_change(Section s) {
    if (s == profile.section) return;
    if (profile.on) profile_mark(s);
    profile.section = s;
}

// Opens s, inside what is open; hand what it returns to section_end.
UNUSED static inline Section section_begin(Section s) {
    Section outer = profile.section;
    if (outer >= SECTION_VALIDATION) return outer;
    if (profile.on) profile.entries[s]++;
    section_change(s);
    return outer;
}
UNUSED static inline void section_end(Section outer) { section_change(outer); }

// Adds up what the stream has passed; does not wait.
UNUSED static void profile_collect(void) {
#if GPU_EXECUTION
    Profile* p = &profile;
    int done = 0;
    float ms = 0;
    while (done + 1 < p->count && cudaEventElapsedTime(&ms, p->events[done], p->events[done + 1]) == cudaSuccess) {
        p->seconds[p->of[done++]] += 1e-3 * (double)ms;
    }
    (void)cudaGetLastError();  // "not ready" would be taken for a failed launch
    memcpy(p->spare, p->events, (size_t)done * sizeof(*p->events));
    memmove(p->events, p->events + done, (size_t)(p->idle - done) * sizeof(*p->events));
    memcpy(p->events + p->idle - done, p->spare, (size_t)done * sizeof(*p->events));
    memmove(p->of, p->of + done, (size_t)(p->count - done) * sizeof(*p->of));
    p->count -= done;
#endif
}

// Starts in OTHER. GPU: times the work of p_stream, a stream.
#if GPU_EXECUTION
UNUSED static void profile_start(cudaStream_t stream) {
    profile.stream = stream;
#else
UNUSED static void profile_start(int stream) {
    (void)stream;
#endif
    profile.on = true;
    profile.section = SECTION_OTHER;
    profile.begin = profile.since = profile_clock();
#if PROFILE_NVTX
    nvtxRangePushA(SECTION_NAMES[SECTION_OTHER].key);
#endif
    profile_mark(SECTION_OTHER);
}

// Everything up to now is in profile.seconds. GPU: waits for the stream.
UNUSED static void profile_stop(void) {
    profile_mark(SECTION_OTHER);
#if GPU_EXECUTION
    profile_check(cudaStreamSynchronize(profile.stream));
    profile_collect();
#endif
#if PROFILE_NVTX
    nvtxRangePop();
#endif
    profile.on = false;
}
