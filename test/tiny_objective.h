/*
A tiny model and its training, for the tests of objectives: five steps from the same start (weight 0 must be the absent objective,
to the bit), and the slope of the trained loss along each tensor's gradient. Needs buffer.h and llmc/model/setup.cuh.
*/
#pragma once

enum { B = 2, T = 16, N = B * T, V = 259, STEPS = 5, LOOK_AHEAD = 8, TOKENS = N * STEPS + LOOK_AHEAD };

// arch gpt2 or nocap; aux: what the objective needs of the model, NULL: nothing.
UNUSED static void open_tiny(Model* m, const char* arch, const AuxConfig* aux) {
    Config c = {};
    c.L = 2, c.NH = 4, c.C = 64, c.V = V, c.B = B, c.T = T, c.tied = true;
    if (aux) c.aux = *aux;
    config_arch(&c, arch);
    memset(m, 0, sizeof(*m));
    model_declare(m, c, true);
    model_allocate(m, false, true);
    model_plan_shape(m, B, T);
    model_init_weights(m, 7);
}

// tokens (TOKENS), and per step the order that the loader would give (N * STEPS).
UNUSED static void make_batches(int* tokens, int* order) {
    Rng rng = rng_start(12, "tokens");
    for (int i = 0; i < TOKENS; i++) tokens[i] = (int)rng_below(&rng, V);
    for (int step = 0; step < STEPS; step++) {
        for (int v = 0, at = 0; v < V; v++) {
            for (int n = 0; n < N; n++) {
                if (tokens[step * N + n] == v) order[step * N + at++] = n;
            }
        }
    }
}

// Reference losses (N) of every step's positions, for a filter that compares with them.
static const float* tiny_reference;

// What five steps left behind, laid out one after the other: per step N losses of the next token and the gradients of `size`
// parameters, then the masters.
typedef struct {
    float* values;
    size_t size, step_bytes, bytes;
} Trace;

// weights: of the steps 0 .. STEPS. The gradients and masters of only the first `size` parameters are kept, 0: all.
UNUSED static Trace trace_steps(Model* m, const StepWeights* weights, size_t size) {
    int tokens[TOKENS], order[N * STEPS];
    make_batches(tokens, order);
    int *ids = buffer_i(tokens, TOKENS), *orders = buffer_i(order, N * STEPS);
    if (!size) size = m->table.size;
    Trace t = {NULL, size, (N + size) * sizeof(float), (STEPS * (N + size) + size) * sizeof(float)};
    float* out = t.values = (float*)xmalloc(t.bytes);
    targets_start(m, weights[0]);
    StepInputs in = {};
    in.lr = 3e-3f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.scale_loss = PRECISION == PRECISION_FP16;
    in.weight_decay = 0.1f;
    objective_loss_factors(m, 1, in.loss_factor);
    for (int step = 0; step < STEPS; step++) {
        Micro micro = {ids + step * N, orders + step * N, B, T, false, tiny_reference};
        model_micro_step(m, &micro, 1);
        copy_to_host(out, m->losses, N * sizeof(float)), out += N;
        copy_to_host(out, m->grads, size * sizeof(float)), out += size;
        model_update(m, in, weights[step + 1]);
    }
    copy_to_host(out, m->masters, size * sizeof(float));
    return t;
}

// Central differences of what loss(m, micro) returns along each tensor's own gradient, where the slope is its norm. fp32 only.
UNUSED static void check_slopes(Model* m, const Micro* micro, double (*loss)(Model* m, const Micro* micro)) {
    model_micro_step(m, micro, 1);
    for (int id = 0; id < m->table.count; id++) {
        const Param* p = &m->table.rows[id];
        size_t bytes = p->size * sizeof(float);
        float *g = host_f(grad(m, id), p->size), *w = host_f(m->masters + p->offset, p->size), *moved = host_values(p->size);
        double norm = 0, slope = 0, h = 0.02;
        for (size_t i = 0; i < p->size; i++) norm += (double)g[i] * g[i];
        norm = sqrt(norm);
        if (norm < 1e-3) continue;
        for (int sign = 1; sign >= -1; sign -= 2) {
            for (size_t i = 0; i < p->size; i++) moved[i] = (float)(w[i] + sign * h * g[i] / norm);
            copy_to_device(m->masters + p->offset, moved, bytes);
            slope += sign * loss(m, micro) / (2 * h);
        }
        copy_to_device(m->masters + p->offset, w, bytes);
        assert_off(slope, norm, 0.01 * norm + 3e-4, "%s: slope against gradient", p->name);
    }
}

// False, with the reason printed, where finite differences mean nothing: cmocka's skip() is the caller's.
UNUSED static bool slopes_mean_something(void) {
    if (PRECISION != PRECISION_FP32) printf("skipped: finite differences: %s storage rounds them away\n", PRECISION_NAME);
    return PRECISION == PRECISION_FP32;
}
