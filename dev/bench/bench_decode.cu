/*
Text generation on the CPU: the hidden row and the distribution of one token after another, with cached keys and values and
without, from an empty text to the trained length.

    build/bench/decode [SHAPE]      SHAPE: d12, d6; d6 when absent
*/
#include "../../llmc/model/decode.cuh"
#include "../../llmc/model/setup.cuh"
#include "bench.h"

typedef struct {
    const char *name, *arch;
    int L, NH, C, V, T;
} Shape;

static const Shape SHAPES[] = {{"d12", "gpt2", 12, 12, 768, 50257, 256}, {"d6", "nocap", 6, 6, 384, 50257, 256}};

// Seconds of `count` tokens; without a cache only every `stride`-th is computed, and counted so often.
static double generate_seconds(Model* m, int count, int stride, float* probs) {
    int first = 1;
    double seconds = 0;
    Decoder d = decode_open(m, &first, 1, count);
    for (int n = 1; n <= count; n++) {
        double start = bench_now();
        if (n % stride == 0) head_probs(m, decode_row(&d), probs);
        seconds += n % stride == 0 ? stride * (bench_now() - start) : 0;
        if (n < count) decode_add(&d, n * 31 % m->config.V);
    }
    decode_close(&d);
    return seconds;
}

int main(int argc, char** argv) {
    const char* wanted = argc > 1 ? argv[1] : "d6";
    for (size_t i = 0; i < sizeof(SHAPES) / sizeof(SHAPES[0]); i++) {
        const Shape* s = &SHAPES[i];
        if (strcmp(s->name, wanted)) continue;
        Config c = {};
        c.L = s->L, c.NH = s->NH, c.C = s->C, c.V = s->V, c.B = 1, c.T = s->T, c.tied = true, c.decode = true;
        config_arch(&c, s->arch);
        Model m = {};
        model_declare(&m, c, true);
        model_allocate(&m, false, true);
        model_init_weights(&m, 1);
        float* probs = (float*)xmalloc((size_t)s->V * sizeof(float));
        floatX* kv = m.cache.kv;
        double cached = generate_seconds(&m, s->T, 1, probs), again = generate_seconds(&m, s->T, 1, probs);
        m.cache.kv = NULL;
        double whole = generate_seconds(&m, s->T, 8, probs);
        m.cache.kv = kv;
        cached = again < cached ? again : cached;
        printf("%s, %s, %d tokens: %.1f tokens/s cached, %.1f without: %.1f times\n", s->name, s->arch, s->T, s->T / cached,
               s->T / whole, whole / cached);
        free(probs);
        model_free(&m);
    }
    return 0;
}
