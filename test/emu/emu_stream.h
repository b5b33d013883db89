/*
Streams: work is queued and runs only when the host waits for something (a synchronisation, a blocking copy, cudaFree, an event
query). Then one of the streams that can go on is picked at random, one piece at a time, until what is waited for has happened:
a missing wait between streams shows with one of the seeds, and work that nobody waited for has not happened.

    stream   first -> .. -> last         a piece runs when its stream's earlier ones are done, and
    wait     cudaStreamWaitEvent         when the event's latest record before the call has run
    default  stream 0                    waits for the earlier work of all blocking streams, and they for it (legacy rule)
*/
#pragma once

struct CUevent_st {
    uint64_t recorded, done;  // numbers of the record queued last, and of the one that ran last
    double seconds;
};
struct EmuWork {
    struct EmuWork* next;
    void (*run)(struct EmuWork*);  // NULL: only waits
    uint64_t number;
    CUevent_st* event;  // to record, or (run NULL) to wait for
    uint64_t version;
};
struct CUstream_st {
    EmuWork *first, *last;
    bool blocking;
    CUstream_st* next;
};
typedef CUstream_st* cudaStream_t;
typedef CUevent_st* cudaEvent_t;

static CUstream_st emu_default_stream = {NULL, NULL, true, NULL};
static struct {
    uint64_t number, seed;
    bool seeded;
    int synchronisations;
} emu_queue;

EMU CUstream_st* emu_stream(cudaStream_t stream) { return stream ? stream : &emu_default_stream; }

EMU void emu_enqueue(cudaStream_t stream, EmuWork* work) {
    CUstream_st* s = emu_stream(stream);
    work->number = ++emu_queue.number;
    if (s->last) s->last->next = work;
    else s->first = work;
    s->last = work;
}

EMU bool emu_can_run(const CUstream_st* s) {
    const EmuWork* w = s->first;
    if (!w || (!w->run && w->event->done < w->version)) return false;
    for (const CUstream_st* o = &emu_default_stream; o; o = o->next) {
        bool ordered = (s == &emu_default_stream && o->blocking) || (o == &emu_default_stream && s->blocking);
        if (o != s && ordered && o->first && o->first->number < w->number) return false;
    }
    return true;
}

// Runs one piece of work, of stream `first` if that can go on; false if none can run.
EMU bool emu_run_one(CUstream_st* first) {
    CUstream_st* ready[64];
    int count = 0;
    if (!emu_queue.seeded) {
        const char* seed = getenv("EMU_STREAMS");
        emu_queue.seed = seed ? strtoull(seed, NULL, 10) : 1, emu_queue.seeded = true;
    }
    for (CUstream_st* s = &emu_default_stream; s && count < 64; s = s->next) {
        if (emu_can_run(s)) ready[count++] = s;
    }
    if (!count) return false;
    CUstream_st* s = first && emu_can_run(first) ? first : ready[count == 1 ? 0 : emu_random(&emu_queue.seed) % (uint64_t)count];
    EmuWork* w = s->first;
    s->first = w->next;
    if (!w->next) s->last = NULL;
    if (w->run) w->run(w);
    free(w);
    return true;
}

EMU bool emu_nothing_left(const CUstream_st* stream) {  // NULL: in no stream
    if (stream) return !stream->first;
    for (const CUstream_st* s = &emu_default_stream; s; s = s->next) {
        if (s->first) return false;
    }
    return true;
}

// Runs until the stream (NULL: every stream) is empty, or, with an event, until its latest record has run.
// first: a stream that goes before the others.
EMU void emu_run_until(const CUstream_st* stream, const CUevent_st* event, CUstream_st* first = NULL) {
    emu_queue.synchronisations++;
    if (event ? event->done >= event->recorded : emu_nothing_left(stream)) return;
    emu_memory_open(true);
    emu_catch_crashes(true);
    while (event ? event->done < event->recorded : !emu_nothing_left(stream)) {
        if (!emu_run_one(first)) emu_fail("streams wait for events that can never come");
    }
    emu_catch_crashes(false);
    emu_memory_open(false);
}

// ---------------------------------------------------------------------------------------------------------------------
// Events
EMU void emu_record(EmuWork* w) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    w->event->done = w->version, w->event->seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
EMU void emu_queue_event(cudaStream_t stream, CUevent_st* event, bool record) {
    EmuWork* w = (EmuWork*)calloc(1, sizeof(EmuWork));
    w->event = event;
    if (record) w->run = emu_record, w->version = event->recorded = emu_queue.number + 1;
    else w->version = event->recorded;
    emu_enqueue(stream, w);
}

// ---------------------------------------------------------------------------------------------------------------------
// Copies and fills
typedef struct {
    EmuWork work;
    void* to;
    const void* from;
    size_t bytes;
    int value;  // of a fill
    void* staged;
} EmuCopy;

EMU void emu_run_copy(EmuWork* work) {
    EmuCopy* c = (EmuCopy*)work;
    memmove(c->to, c->from, c->bytes);
    free(c->staged);
}
EMU void emu_run_fill(EmuWork* work) {
    EmuCopy* c = (EmuCopy*)work;
    memset(c->to, c->value, c->bytes);
}
// stage: the source is pageable host memory, which CUDA reads before the call returns.
EMU void emu_queue_copy(cudaStream_t stream, void* to, const void* from, size_t bytes, bool stage) {
    EmuCopy* c = (EmuCopy*)calloc(1, sizeof(EmuCopy));
    c->work.run = emu_run_copy, c->to = to, c->from = from, c->bytes = bytes;
    if (stage) c->from = c->staged = memcpy(malloc(bytes + 1), from, bytes);
    emu_enqueue(stream, &c->work);
}
EMU void emu_queue_fill(cudaStream_t stream, void* to, int value, size_t bytes) {
    EmuCopy* c = (EmuCopy*)calloc(1, sizeof(EmuCopy));
    c->work.run = emu_run_fill, c->to = to, c->value = value, c->bytes = bytes;
    emu_enqueue(stream, &c->work);
}
