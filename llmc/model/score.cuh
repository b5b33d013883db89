/*
--score_bin SHARDS --score_dir DIR --init_from CHECKPOINT: the loss of every token of the shards by a trained model, for a filter
that compares with them (io/reference_losses.h). The model is a checkpoint's, as --generate takes it.

    shard   x0 x1 x2 ..
            |<-------- T -------->|                      window 0 scores the tokens 1 .. T
                       |<-------- T -------->|           window 1 those behind: T + 1 .. T + stride
                                  |<-------- T -------->|
                       |<- stride ->|                    stride = T - T/2

so every token but the first T/2 of a shard is scored with T/2 tokens in sight or more. That costs two forward passes a token, two
thirds of a training step. A window that reaches over the shard's end is filled up with zeros, which nobody before them sees.
B windows run at once. Targets are written out: the last one of a window is not the first token of the next row.

A shard whose file is there already is left as it is, when that file is its, and of this model; so a run that was stopped goes on
with the first shard that is not done.
*/
#pragma once

#include "../io/log_file.h"
#include "../io/progress.h"
#include "../io/reference_losses.h"
#include "../io/stop.h"
#include "../io/tokenizer_open.h"
#include "from_checkpoint.cuh"

typedef struct {
    Model* m;
    int B, T;
    int *tokens, *device;  // (2,B*T): inputs, targets
    size_t bytes;
    float* losses;  // (B*T)
    // progress, in tokens of the shards that were not there
    int64_t done, total;
    double begin, drawn;
    bool draws;
} Scorer;

// With B windows of the model's T tokens at once; the shape must be planned.
UNUSED static Scorer score_open(Model* m, int B, int T) {
    Scorer s;
    memset(&s, 0, sizeof(s));
    s.m = m, s.B = B, s.T = T;
    s.bytes = 2 * (size_t)B * T * sizeof(int);
    s.tokens = (int*)xcalloc(s.bytes), s.device = (int*)device_malloc(s.bytes, "windows");
    s.losses = (float*)xmalloc((size_t)B * T * sizeof(float));
    s.begin = wall_seconds(), s.draws = isatty(STDERR_FILENO) != 0;
    return s;
}

UNUSED static void score_close(Scorer* s) {
    device_free(s->device, s->bytes);
    free(s->tokens), free(s->losses);
}

// Losses (B*T) of the windows from `window` on, of B; ids (ntok).
static void score_windows(Scorer* s, const uint16_t* ids, int64_t ntok, int64_t window) {
    Model* m = s->m;
    int N = s->B * s->T;
    for (int n = 0; n < N; n++) {
        int64_t at = (window + n / s->T) * (s->T - s->T / 2) + n % s->T;
        s->tokens[n] = at < ntok ? ids[at] : 0;
        s->tokens[N + n] = at + 1 < ntok ? ids[at + 1] : 0;
    }
    copy_to_device(s->device, s->tokens, s->bytes);
    Micro micro = {s->device, NULL, s->B, s->T, false};
    model_forward(m, micro.tokens, s->B, s->T);
    head_loss(m, &micro, targets_list(s->device + N, m->state->in.next.token, 1, 1, 1, 0), 0.0f, false);
    check_launches();
    copy_to_host(s->losses, m->losses, (size_t)N * sizeof(float));
}

static void score_progress(Scorer* s, const char* path) {
    char rate[32], eta[32];
    double now = wall_seconds(), seconds = now - s->begin, speed = seconds > 0 ? (double)s->done / seconds : 0;
    if (!s->draws || now - s->drawn < 0.1) return;
    s->drawn = now;
    fprintf(stderr, "\r%3d%%  %s  %s tok/s  ETA %s\033[K\r", (int)(100 * s->done / s->total), path,
            count_text(rate, sizeof(rate), speed),
            duration_text(eta, sizeof(eta), speed > 0 ? (double)(s->total - s->done) / speed : 0));
    fflush(stderr);
}

// Writes the losses of a shard. Returns their mean over all tokens but the first, NAN when there are none; -1, and no file, when
// a signal asks to stop (io/stop.h).
UNUSED static double score_shard(Scorer* s, const Shard* shard, const char* path, uint32_t model) {
    ReferenceWriter w;
    int T = s->T, stride = T - T / 2;
    int64_t ntok = (int64_t)shard->ntok, scored = ntok > 0;  // the first token has no prediction: 0
    const float none = 0.0f;
    double sum = 0;
    reference_begin(&w, path);
    reference_append(&w, &none, (size_t)scored);
    s->done += scored;
    for (int64_t window = 0; scored < ntok; window += s->B) {
        if (stop_signal) return -1;
        score_windows(s, shard->ids, ntok, window);
        int64_t before = scored;
        for (int b = 0; b < s->B && scored < ntok; b++) {
            int64_t first = (window + b) * stride + 1,
                    end = first + T < ntok ? first + T : ntok;  // tokens that window b predicts
            const float* losses = s->losses + (size_t)b * T + (scored - first);
            reference_append(&w, losses, (size_t)(end - scored));
            for (int64_t i = 0; i < end - scored; i++) sum += losses[i];
            scored = end;
        }
        s->done += scored - before;
        score_progress(s, path);
    }
    reference_end(&w, shard, model, T);
    return ntok > 1 ? sum / (double)(ntok - 1) : NAN;
}

// Is the shard's file there? Of other tokens, of another model, or damaged: the program ends.
static bool score_is_done(const Shard* shard, const char* path, uint32_t model, int T) {
    if (access(path, F_OK)) return false;
    ReferenceLosses r = reference_open(path);
    reference_check(&r, shard);
    if ((uint32_t)r.header[REFERENCE_MODEL] != model || r.header[REFERENCE_T] != T) {
        fail("%s: losses by another model than --init_from; name another --score_dir, or delete it", path);
    }
    reference_close(&r);
    return true;
}

static void score_check_ids(const Shard* shard, int V) {
    for (uint64_t i = 0; i < shard->ntok; i++) {
        if (shard->ids[i] < V) continue;
        fail("%s: token %llu has id %d, but the model of --init_from has %d ids; score shards of its tokenizer", shard->path,
             (unsigned long long)i, shard->ids[i], V);
    }
}

// Every shard that matches and is not done yet, after a look at all of them. model: CRC-32 that names the weights.
UNUSED static void score_shards(Model* m, int B, int T, const char* pattern, const char* dir, uint32_t model) {
    ShardList shards = shard_list(pattern);
    Scorer s = score_open(m, B, T);
    char** paths = (char**)xcalloc((size_t)shards.count * sizeof(char*));
    int there = 0;
    if (make_directories(dir)) fail("--score_dir %s: cannot be made: %s", dir, strerror(errno));
    for (int i = 0; i < shards.count; i++) {
        Shard shard = shard_open(shards.paths[i]);
        char* path = reference_path(dir, shards.paths[i]);
        score_check_ids(&shard, m->config.V);
        if (score_is_done(&shard, path, model, T)) free(path), there++;
        else paths[i] = path, s.total += (int64_t)shard.ntok;
        shard_close(&shard);
    }
    if (there) printf("%d of %d shards are scored already\n", there, shards.count);
    fflush(stdout);
    stop_listen();
    s.begin = wall_seconds();
    for (int i = 0; i < shards.count; i++) {
        char rate[32], eta[32];
        if (!paths[i]) continue;
        Shard shard = shard_open(shards.paths[i]);
        double mean = score_shard(&s, &shard, paths[i], model), speed = (double)s.done / (wall_seconds() - s.begin);
        if (s.draws) fprintf(stderr, "\033[K");
        if (stop_signal) {
            printf("stopped by %s: %d of %d shards are scored; the same command goes on\n", stop_name(), there, shards.count);
            fflush(stdout);
            exit(128 + stop_signal);
        }
        printf("%s: %lld tokens, %.6f nats a token; %s tok/s", paths[i], (long long)shard.ntok, mean,
               count_text(rate, sizeof(rate), speed));
        if (++there == shards.count) printf("\n");
        else printf(", ETA %s\n", duration_text(eta, sizeof(eta), speed > 0 ? (double)(s.total - s.done) / speed : 0));
        fflush(stdout);
        free(paths[i]);
        shard_close(&shard);
    }
    free(paths);
    shard_list_free(&shards);
    score_close(&s);
}

// Ends the program when the tokenizer beside the shards is another one than the model's (--tokenizer, or beside the text that it
// was trained on). Where one of the two is not there, a line says so.
UNUSED static void score_same_tokenizer(const char* file, const char* trained_on, const char* shards) {
    Text of_model = {0, 0, 0}, of_shards = {0, 0, 0};
    bool known = tokenizer_path(&of_model, file, trained_on), there = tokenizer_path(&of_shards, "", shards);
    if (known && there) {
        FileMap a = file_map(of_model.data, TOKENIZER_REMEDY), b = file_map(of_shards.data, TOKENIZER_REMEDY);
        if (a.size != b.size || memcmp(a.bytes, b.bytes, a.size)) {
            fail("%s: is not %s, the tokenizer of the model of --init_from; score shards of that tokenizer", of_shards.data,
                 of_model.data);
        }
        file_unmap(&a), file_unmap(&b);
    } else {
        const char* what = known ? "shards" : "model";
        printf("tokenizer  of the %s: not found, so only the range of the ids is checked\n", what);
    }
    text_free(&of_model), text_free(&of_shards);
}

// Flags that mean something with --score_bin, beside the checkpoint.
UNUSED static const TrainedUse score_use = {
    "score_bin",
    "init_from",
    {"score_bin", "score_dir", "init_from", "batch_size", "tokenizer", "device", "precision", "threads", "tf32"}};

// From the flags: whether the program scores instead of training. A contradiction ends it with exit code 2.
UNUSED static bool score_wanted(const FlagTable* flags) {
    bool bin = **(char*const*)flag_field(flags, "score_bin") != 0, dir = **(char*const*)flag_field(flags, "score_dir") != 0;
    if (dir && !bin) usage_error("--score_dir has no effect without --score_bin; add the shards that are scored");
    if (bin && !dir) usage_error("--score_bin needs --score_dir, the folder that the losses go to");
    if (bin && !**(char* const*)flag_field(flags, "init_from")) {
        usage_error("--score_bin needs --init_from, the checkpoint whose model scores the tokens");
    }
    return bin;
}
