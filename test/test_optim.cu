/*
The optimizer step against recorded tensors and a double loop, and what it promises around it: steps that are skipped leave no
trace, padding stays zero, the low-precision copy is the rounded master. And the recorded learning-rate schedules.
*/
#include "buffer.h"
#include "gold.h"

#include "llmc/optim/adamw.cuh"
#include "llmc/optim/schedule.h"

enum { LOSSES = 37 };
static const bool HAS_COPY = PRECISION != PRECISION_FP32;

typedef struct {
    ParamTable table;
    float *masters, *grads, *m, *v, *partial, *losses;  // the arenas; losses (2,LOSSES)
    floatX* weights;                                    // fp32: masters itself
    uint8_t* flags;
    StepState* state;
} Optim;

static StepInputs plain_inputs(void) {
    StepInputs in = {};
    in.lr = 0.01f, in.beta1 = 0.9f, in.beta2 = 0.95f, in.eps = 1e-8f, in.weight_decay = 0.1f;
    in.loss_slots = 3, in.loss_factor[0] = 1.0f / LOSSES, in.loss_factor[1] = 2.0f / LOSSES;
    return in;
}

// Five tensors of odd sizes: decayed with padding rows, not decayed, scattered, decayed over many units, a single element.
static ParamTable mixed_table(void) {
    ParamTable t = {};
    int wte = params_add_matrix(&t, "wte", 40, 24, INIT_NORMAL, 0.02f, true);
    t.rows[wte].live_rows = 37;
    params_add_vector(&t, "norm.w", 77, INIT_ONE, 0, false);
    int scattered = params_add_matrix(&t, "scattered", 33, 8, INIT_NORMAL, 0.5f, true);
    t.rows[scattered].scatter = true;
    params_add_matrix(&t, "fc.w", 101, 64, INIT_UNIFORM, 0.125f, true);
    params_add_vector(&t, "one", 1, INIT_NORMAL, 1.0f, false);
    return t;
}

// masters: host values of the arena, NULL: initialised from the seed.
static Optim optim_open(ParamTable table, const float* masters, float scale) {
    Optim o = {};
    size_t size = table.size;
    float *zero = host_values(size), *w = host_values(size), losses[2 * LOSSES];
    memset(zero, 0, size * sizeof(float));
    memset(w, 0, size * sizeof(float));
    if (masters) memcpy(w, masters, size * sizeof(float));
    else params_init(&table, w, 1);
    for (int i = 0; i < 2 * LOSSES; i++) losses[i] = (float)i;
    uint8_t* flags = (uint8_t*)host_values(size / PARAM_UNIT);
    unit_flags_fill(&table, flags);
    StepState state = {};
    state.scaler = loss_scale_start();
    state.scaler.scale = scale;
    o.table = table;
    o.masters = buffer_f(w, size), o.grads = buffer_f(zero, size), o.m = buffer_f(zero, size), o.v = buffer_f(zero, size);
    o.weights = HAS_COPY ? buffer_x(w, size) : (floatX*)o.masters;
    o.partial = buffer_f(NULL, NORM_TEAMS), o.losses = buffer_f(losses, 2 * LOSSES);
    o.flags = (uint8_t*)buffer_bytes(flags, size / PARAM_UNIT);
    o.state = (StepState*)buffer_bytes(&state, sizeof(state));
    return o;
}

static StepState optim_step(Optim* o, StepInputs in, const float* grads) {  // grads (table.size): host
    StepState state;
    if (grads) copy_to_device(o->grads, grads, o->table.size * sizeof(float));
    adamw_step(&o->table, o->masters, o->weights, o->grads, o->m, o->v, o->flags, o->partial, o->state, in, o->losses, LOSSES, 0);
    device_sync();
    copy_to_host(&state, o->state, sizeof(state));
    return state;
}

// Gradients of every live element; padding between tensors and padding rows are zero.
static float* random_grads(const ParamTable* t, const char* name, float scale) {
    float* g = host_values(t->size);
    memset(g, 0, t->size * sizeof(float));
    for (int id = 0; id < t->count; id++) {
        const Param* p = &t->rows[id];
        rand_fill_normal(g + p->offset, p->size / (size_t)p->dims[0] * (size_t)p->live_rows, scale,
                         rand_key(7, name) + (uint64_t)id);
    }
    return g;
}

static void assert_same_optim(const Optim* a, const Optim* b) {
    size_t size = a->table.size;
    assert_true(same_bits(a->masters, b->masters, size));
    assert_true(same_bits(a->weights, b->weights, size));
    assert_true(same_bits(a->m, b->m, size));
    assert_true(same_bits(a->v, b->v, size));
}

static Optim optim_copy(const Optim* o) {  // of what a skipped step must not touch
    Optim c = *o;
    size_t size = o->table.size;
    c.masters = buffer_f(host_f(o->masters, size), size);
    c.m = buffer_f(host_f(o->m, size), size), c.v = buffer_f(host_f(o->v, size), size);
    c.weights = HAS_COPY ? buffer_x(host_x(o->weights, size), size) : (floatX*)c.masters;
    return c;
}

static void assert_copy_is_rounded_masters(const Optim* o) {
    assert_true(same_bits(o->weights, buffer_x(host_f(o->masters, o->table.size), o->table.size), o->table.size));
}

// ---------------------------------------------------------------------------------------------------------------------
// Recorded tensors
static void golden_adamw(void** state) {
    const char* names[] = {"adamw", "adamw_clip", "adamw_vector"};
    for (int i = 0; i < 3; i++) {
        Gold* g = gold_open(names[i]);
        int n = gold_int(g, "n"), steps = gold_int(g, "steps");
        ParamTable t = {};
        params_add_vector(&t, "w", n, INIT_ZERO, 0, true);
        float *w = host_values(t.size), *grads = host_values(t.size), *after = host_values((size_t)steps * n), norms[8];
        memset(w, 0, t.size * sizeof(float));
        memset(grads, 0, t.size * sizeof(float));
        memcpy(w, gold_floats(g, "w"), n * sizeof(float));
        Optim o = optim_open(t, w, 1.0f);
        for (int step = 0; step < steps; step++) {
            StepInputs in = plain_inputs();
            in.lr = gold_floats(g, "lr")[step];
            in.beta1 = (float)gold_param(g, "beta1"), in.beta2 = (float)gold_param(g, "beta2"),
            in.eps = (float)gold_param(g, "eps");
            in.weight_decay = (float)gold_param(g, "weight_decay"), in.grad_clip = (float)gold_param(g, "grad_clip");
            memcpy(grads, gold_floats(g, "grads") + step * n, n * sizeof(float));
            norms[step] = optim_step(&o, in, grads).grad_norm;
            memcpy(after + step * n, host_f(o.masters, n), n * sizeof(float));
        }
        gold_check(g, "w_after", after, PRECISION);
        gold_check(g, "m_after", host_f(o.m, n), PRECISION);
        gold_check(g, "v_after", host_f(o.v, n), PRECISION);
        gold_check(g, "norms", norms, PRECISION);
        if (i == 2) {  // the worked example
            const double want[] = {0.998020000036, 0.9973572914};
            for (int k = 0; k < 2; k++) assert_off(after[k], want[k], 1.2e-7, "step %d", k);
            assert_off(host_f(o.m, 1)[0], 0.02, 6e-9, "m");
            assert_off(host_f(o.v, 1)[0], 0.015, 5e-9, "v");
        }
        gold_close(g);
        free(t.rows);
        assert_int_equal(release_buffers(state), 0);
    }
}

static void golden_norm(void** state) {
    (void)state;
    Gold* g = gold_open("global_norm");
    ParamTable t = {};
    const char* names[] = {"a", "b"};
    for (int i = 0; i < 2; i++) params_add_vector(&t, names[i], (int)gold_tensor(g, names[i])->count, INIT_ZERO, 0, true);
    Optim o = optim_open(t, NULL, 1.0f);
    float* grads = host_values(t.size);
    memset(grads, 0, t.size * sizeof(float));
    for (int i = 0; i < 2; i++) memcpy(grads + t.rows[i].offset, gold_floats(g, names[i]), t.rows[i].size * sizeof(float));
    float norm = optim_step(&o, plain_inputs(), grads).grad_norm;
    gold_check(g, "norm", &norm, PRECISION);
    gold_close(g);
    free(t.rows);
}

static void golden_schedule(void** state) {
    (void)state;
    Gold* g = gold_open("schedule");
    const char* names[] = {"trapezoid", "cosine", "linear", "constant"};
    const GoldTensor* it = gold_tensor(g, "it");
    double iterations = gold_param(g, "iterations"), lr = gold_param(g, "learning_rate");
    for (int kind = SCHEDULE_TRAPEZOID; kind <= SCHEDULE_CONSTANT; kind++) {
        bool falls = kind == SCHEDULE_COSINE || kind == SCHEDULE_LINEAR;
        float rates[64];
        for (size_t i = 0; i < it->count; i++) {
            rates[i] = (float)learning_rate_at((ScheduleKind)kind, it->i32[i], (int64_t)iterations, lr, gold_int(g, "warmup"),
                                               gold_int(g, "warmdown"), falls ? gold_param(g, "final_frac") : 0);
        }
        gold_check(g, names[kind], rates, PRECISION);
    }
    float overlap[10];
    for (int i = 0; i < 10; i++) overlap[i] = (float)learning_rate_at(SCHEDULE_TRAPEZOID, i, 10, 1.0, 6, 8, 0);
    gold_check(g, "overlap", overlap, PRECISION);
    gold_close(g);
}

// ---------------------------------------------------------------------------------------------------------------------
// The step
// 30 steps (briefly: 8) of all tensors with unusual betas and eps, against double. Copy and padding are looked at after each.
static void many_steps(void** state) {
    (void)state;
    ParamTable t = mixed_table();
    Optim o = optim_open(t, NULL, 1.0f);
    const float *start = host_f(o.masters, t.size), *grads = NULL;
    double* exact = (double*)xcalloc(3 * t.size * sizeof(double));  // w | m | v
    double *w = exact, *m = exact + t.size, *v = m + t.size;
    for (size_t i = 0; i < t.size; i++) w[i] = start[i];
    StepInputs in = plain_inputs();
    in.beta1 = 0.8f, in.beta2 = 0.99f, in.eps = 1e-3f;
    for (int step = 1; step <= (BRIEF ? 8 : 30); step++) {
        char name[16];
        snprintf(name, sizeof(name), "step %d", step % 10);
        grads = random_grads(&t, name, 0.01f * step);
        in.lr = 0.01f / step;
        StepState s = optim_step(&o, in, grads);
        assert_int_equal(s.steps, step);
        assert_int_equal(s.skip, 0);
        for (int id = 0; id < t.count; id++) {
            for (size_t i = t.rows[id].offset, end = i + t.rows[id].size; i < end; i++) {
                m[i] = in.beta1 * m[i] + (1.0 - in.beta1) * grads[i],
                v[i] = in.beta2 * v[i] + (1.0 - in.beta2) * grads[i] * grads[i];
                if (t.rows[id].decay) w[i] *= 1.0 - (double)in.lr * in.weight_decay;
                w[i] -= in.lr * (m[i] / (1 - pow(in.beta1, step))) / (sqrt(v[i] / (1 - pow(in.beta2, step))) + in.eps);
            }
        }
        assert_copy_is_rounded_masters(&o);
    }
    const float *ours = host_f(o.masters, t.size), *our_m = host_f(o.m, t.size), *our_v = host_f(o.v, t.size);
    for (size_t i = 0; i < t.size; i++) {
        assert_off(ours[i], w[i], 4e-6 * (1e-3 + fabs(w[i])) + 1e-7, "weight %zu", i);
        assert_off(our_m[i], m[i], 1e-6 * (0.1 + fabs(m[i])), "m %zu", i);
        assert_off(our_v[i], v[i], 2e-6 * (0.01 + fabs(v[i])), "v %zu", i);
    }
    size_t live = 0;
    for (size_t i = 0; i < t.size; i++) {
        bool padding = true;
        for (int id = 0; id < t.count; id++) {
            const Param* p = &t.rows[id];
            if (i >= p->offset && i < p->offset + p->size / p->dims[0] * p->live_rows) padding = false;
        }
        live += !padding;
        if (padding) assert_true(ours[i] == 0 && our_m[i] == 0 && our_v[i] == 0);
    }
    assert_int_equal(live, params_live(&t));
    free(exact);
    free(t.rows);
}

static void zero_gradient_decays(void** state) {
    (void)state;
    ParamTable t = mixed_table();
    Optim o = optim_open(t, NULL, 1.0f);
    const float* before = host_f(o.masters, t.size);
    StepInputs in = plain_inputs();
    StepState s = optim_step(&o, in, NULL);
    const float* after = host_f(o.masters, t.size);
    assert_true(s.skip == 0 && s.grad_norm == 0);
    for (int id = 0; id < t.count; id++) {
        const Param* p = &t.rows[id];
        for (size_t i = p->offset; i < p->offset + p->size; i++) {
            float want = p->decay ? before[i] * (1.0f - in.lr * in.weight_decay) : before[i];
            assert_off(after[i], want, 1.2e-7 * fabs(want) * p->decay, "%s", p->name);
            if (p->decay && before[i] != 0) assert_true(fabsf(after[i]) < fabsf(before[i]));
        }
    }
    assert_copy_is_rounded_masters(&o);
    free(t.rows);
}

static void clipping(void** state) {
    ParamTable t = mixed_table();
    const float* grads = random_grads(&t, "clip", 1.0f);
    double squares = 0;
    for (size_t i = 0; i < t.size; i++) squares += (double)grads[i] * grads[i];
    double norm = sqrt(squares);
    StepInputs in = plain_inputs(), off = in, wide = in, tight = in;
    wide.grad_clip = (float)norm * 1.001f, tight.grad_clip = (float)norm / 8;
    Optim a = optim_open(t, NULL, 1.0f), b = optim_open(t, NULL, 1.0f), c = optim_open(t, NULL, 1.0f);
    StepState s = optim_step(&a, off, grads);
    assert_off(s.grad_norm, norm, 1e-5 * norm, "norm");
    assert_true(s.grad_factor == 1.0f);
    assert_true(optim_step(&b, wide, grads).grad_factor == 1.0f);
    assert_same_optim(&a, &b);
    s = optim_step(&c, tight, grads);
    assert_off(s.grad_norm, norm, 1e-5 * norm, "the norm in the log is the one before clipping");
    assert_off(s.grad_factor, 0.125, 1e-6, "clip factor");
    const float *m = host_f(c.m, t.size), *v = host_f(c.v, t.size), *unclipped = host_f(a.m, t.size);
    for (size_t i = 0; i < t.size; i++) {
        assert_off(m[i], 0.125 * unclipped[i], 1e-6 * fabs(m[i]), "m %zu", i);
        assert_off(v[i], 0.05 * grads[i] * grads[i] / 64, 1e-5 * v[i], "v %zu", i);
    }
    assert_int_equal(release_buffers(state), 0);
    free(t.rows);
}

// A loss scale is a power of two: gradients times scale, with scale in the state, give the bits of plain gradients.
static void loss_scale_is_exact(void** state) {
    ParamTable t = mixed_table();
    for (float scale = 1; scale <= LOSS_SCALE_MAX; scale *= BRIEF ? 4096 : 64) {
        Optim plain = optim_open(t, NULL, 1.0f), scaled = optim_open(t, NULL, scale);
        StepInputs in = plain_inputs();
        in.grad_clip = 2.0f;
        for (int step = 0; step < 2; step++) {
            float* grads = random_grads(&t, step ? "b" : "a", step ? 1.0f : 1e-3f);  // the second is clipped
            in.scale_loss = false;
            StepState s = optim_step(&plain, in, grads);
            for (size_t i = 0; i < t.size; i++) grads[i] *= scale;
            in.scale_loss = true;
            assert_true(optim_step(&scaled, in, grads).grad_norm == s.grad_norm);
            assert_same_optim(&plain, &scaled);
        }
        assert_int_equal(release_buffers(state), 0);
    }
    free(t.rows);
}

static void mean_losses(void** state) {
    (void)state;
    ParamTable t = mixed_table();
    Optim o = optim_open(t, NULL, 1.0f);
    StepState s = optim_step(&o, plain_inputs(), NULL);
    assert_off(s.losses[0], (LOSSES - 1) / 2.0, 1e-5, "mean of the first offset");
    assert_off(s.losses[1], 2 * (LOSSES + (LOSSES - 1) / 2.0), 1e-4, "mean of the second offset");
    free(t.rows);
}

// ---------------------------------------------------------------------------------------------------------------------
// Skipped steps
// A step with one broken gradient between two good ones: as if it had never been, apart from the loss scale.
static void broken_gradient(void** state) {
    const float broken[] = {INFINITY, -INFINITY, NAN};
    ParamTable t = mixed_table();
    for (int i = 0; i < 3 * t.count; i += BRIEF ? 4 : 1) {
        const Param* p = &t.rows[i / 3];
        Optim ours = optim_open(t, NULL, 65536.0f), undisturbed = optim_open(t, NULL, 65536.0f);
        StepInputs in = plain_inputs();
        in.scale_loss = true, in.grad_clip = 1.0f;
        float *first = random_grads(&t, "first", 65536.0f), *last = random_grads(&t, "last", 65536.0f);
        float* bad = random_grads(&t, "bad", 65536.0f);
        bad[p->offset + (i % 2 ? 0 : p->size - 1)] = broken[i % 3];
        optim_step(&ours, in, first), optim_step(&undisturbed, in, first);
        Optim before = optim_copy(&ours);
        StepState s = optim_step(&ours, in, bad);
        assert_true(s.skip == 1 && s.skipped == 1 && s.steps == 1);
        assert_true(s.scaler.scale == 32768.0f && s.scaler.good_steps == 0);
        assert_same_optim(&ours, &before);
        assert_copy_is_rounded_masters(&ours);
        StepState want = optim_step(&undisturbed, in, last);
        for (size_t k = 0; k < t.size; k++) last[k] *= 0.5f;  // the scale is half of what it was
        s = optim_step(&ours, in, last);
        assert_true(s.skip == 0 && s.skipped == 1 && s.steps == 2 && s.grad_norm == want.grad_norm);
        assert_same_optim(&ours, &undisturbed);
        assert_int_equal(release_buffers(state), 0);
    }
    free(t.rows);
}

// A loss that is not finite is enough, whichever offset it belongs to, and all gradients may look healthy.
static void broken_loss(void** state) {
    const float broken[] = {NAN, INFINITY, -INFINITY};
    ParamTable t = mixed_table();
    for (int i = 0; i < 6; i++) {
        Optim o = optim_open(t, NULL, 1.0f), before = optim_copy(&o);
        int at = i % 2 ? 2 * LOSSES - 1 : 3;
        copy_to_device(o.losses + at, &broken[i / 2], sizeof(float));
        StepState s = optim_step(&o, plain_inputs(), random_grads(&t, "healthy", 1.0f));
        assert_true(s.skip == 1 && s.steps == 0 && s.scaler.scale == 1.0f);
        assert_same_optim(&o, &before);
        assert_int_equal(release_buffers(state), 0);
    }
    free(t.rows);
}

static void halt_stops_for_good(void** state) {
    (void)state;
    ParamTable t = mixed_table();
    float *good = random_grads(&t, "good", 1.0f), *bad = random_grads(&t, "bad", 1.0f), ten = 10.0f, inf = INFINITY;
    bad[5] = NAN;
    for (int halt = 0; halt < 2; halt++) {
        Optim o = optim_open(t, NULL, 1.0f);
        StepInputs in = plain_inputs();
        in.halt = halt;
        assert_int_equal(optim_step(&o, in, good).steps, 1);
        assert_int_equal(optim_step(&o, in, bad).skip, 1);
        Optim before = optim_copy(&o);
        for (int later = 1; later <= 3; later++) {
            StepState s = optim_step(&o, in, good);
            assert_int_equal(s.skip, halt);
            assert_int_equal(s.steps, halt ? 1 : 1 + later);
            assert_int_equal(s.skipped, halt ? 1 + later : 1);
        }
        if (halt) assert_same_optim(&o, &before);
        if (!halt) assert_false(same_bits(o.masters, before.masters, t.size));
        copy_to_device(o.losses, &inf, sizeof(float));
        assert_int_equal(optim_step(&o, in, good).skip, 1);
        copy_to_device(o.losses, &ten, sizeof(float));
        assert_int_equal(optim_step(&o, in, good).skip, halt);
    }
    free(t.rows);
}

// A loss or a norm 3.1 standard deviations above its mean: skipped with a limit of 3, as a step that never was; not with 3.2, not
// without a limit, not in the first 128 steps, not when it lies below. A step that is not finite leaves the detector alone.
static void outliers(void** state) {
    ParamTable t = mixed_table();
    for (int i = 0; i < 12; i += BRIEF && i % 2 == 0 ? 3 : 1) {  // briefly: each kind with one of the two
        Optim probe = optim_open(t, NULL, 1.0f), o = optim_open(t, NULL, 1.0f), before = optim_copy(&o);
        float* grads = random_grads(&t, "outlier", 1.0f);
        StepState once = optim_step(&probe, plain_inputs(), grads);
        float seen[OUTLIERS] = {once.losses[0], once.grad_norm};
        int k = i % 2, kind = i / 2;  // a skip, a wider limit, no limit, too early, below, not finite
        float sigma = 0.25f * seen[k], mean = seen[k] - (kind == 4 ? -3.1f : 3.1f) * sigma;
        StepState s = {};
        s.scaler.scale = 1.0f;
        s.outliers[k] = {mean, sigma * sigma, 0.0f, kind == 3 ? OUTLIER_STEPS - 1 : OUTLIER_STEPS};
        Outlier start = s.outliers[k];
        copy_to_device(o.state, &s, sizeof(s));
        StepInputs in = plain_inputs();
        in.skip_z[k] = kind == 2 ? 0.0f : kind == 1 ? 3.2f : 3.0f, grads[7] = kind == 5 ? NAN : grads[7];
        s = optim_step(&o, in, grads);
        assert_true(s.skip == (kind == 0 || kind == 5) && s.steps == !s.skip);
        if (s.skip) assert_same_optim(&o, &before);
        if (kind == 2 || kind == 5) assert_memory_equal(&s.outliers[k], &start, sizeof(start));
        if (kind == 0) assert_off(s.outliers[k].z, 3.1, 1e-4, "z of %d", k);
        if (kind == 0) assert_off(s.outliers[k].mean, mean + 3.0 * sigma / OUTLIER_STEPS, 1e-5 * seen[k], "mean of %d", k);
        assert_int_equal(release_buffers(state), 0);
    }
    free(t.rows);
}

// The gradient that is only ever added to starts the next step at zero, even when this step was skipped; no other is touched.
static void scatter_gradient_is_cleared(void** state) {
    (void)state;
    ParamTable t = mixed_table();
    Optim o = optim_open(t, NULL, 1.0f);
    for (int bad = 0; bad < 2; bad++) {
        float* grads = random_grads(&t, "clear", 1.0f);
        if (bad) grads[t.rows[params_find(&t, "scattered")].offset] = INFINITY;
        assert_int_equal(optim_step(&o, plain_inputs(), grads).skip, bad);
        const float* left = host_f(o.grads, t.size);
        for (int id = 0; id < t.count; id++) {
            const Param* p = &t.rows[id];
            for (size_t i = p->offset; i < p->offset + p->size; i++) assert_true(left[i] == (p->scatter ? 0.0f : grads[i]));
        }
    }
    free(t.rows);
}

static void loss_scale_moves(void** state) {
    (void)state;
    ParamTable t = mixed_table();
    float *good = random_grads(&t, "good", 1.0f), *bad = random_grads(&t, "bad", 1.0f);
    bad[0] = INFINITY;
    const struct {
        float scale;
        int good_steps;
        bool finite, scale_loss;
        float want;
        int want_good;
    } moves[] = {{65536, 0, true, true, 65536, 1},
                 {65536, 1998, true, true, 65536, 1999},
                 {65536, 1999, true, true, 131072, 0},
                 {65536, 1999, false, true, 32768, 0},
                 {1, 7, false, true, 1, 0},
                 {2, 7, false, true, 1, 0},
                 {0x1p24f, 1999, true, true, 0x1p24f, 0},
                 {1, 5, true, false, 1, 5},
                 {1, 5, false, false, 1, 5}};
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
        Optim o = optim_open(t, NULL, 1.0f);
        StepState s = {};
        s.scaler.scale = moves[i].scale, s.scaler.good_steps = moves[i].good_steps;
        copy_to_device(o.state, &s, sizeof(s));
        StepInputs in = plain_inputs();
        in.scale_loss = moves[i].scale_loss;
        s = optim_step(&o, in, moves[i].finite ? good : bad);
        assert_int_equal(s.skip, !moves[i].finite);
        if (s.scaler.scale != moves[i].want) fail_msg("move %zu: the scale is %g", i, s.scaler.scale);
        assert_int_equal(s.scaler.good_steps, moves[i].want_good);
    }
    free(t.rows);
}

static void threads_agree(void** state) {
    (void)state;
    ParamTable t = mixed_table();
    int threads = device_teams(1);
    const float* grads = random_grads(&t, "threads", 1.0f);
    device_threads(1);
    Optim one = optim_open(t, NULL, 1.0f);
    float norm = optim_step(&one, plain_inputs(), grads).grad_norm;
    for (int many = 2; many <= 34; many += many == 2 ? 1 : 31) {  // 34 teams share 35 units; the emulation's 3: reverse order
        device_threads(many);
        Optim o = optim_open(t, NULL, 1.0f);
        assert_off(optim_step(&o, plain_inputs(), grads).grad_norm, norm, 1e-6 * norm, "norm with %d threads", many);
        assert_same_optim(&o, &one);
    }
    device_threads(threads);
    free(t.rows);
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(golden_adamw),        TEST(golden_norm),          TEST(golden_schedule),
        TEST(many_steps),          TEST(zero_gradient_decays), TEST(clipping),
        TEST(loss_scale_is_exact), TEST(mean_losses),          TEST(broken_gradient),
        TEST(broken_loss),         TEST(halt_stops_for_good),  TEST(scatter_gradient_is_cleared),
        TEST(loss_scale_moves),    TEST(threads_agree),        TEST(outliers),
    };
    return cmocka_run_group_tests_name("optim " PRECISION_NAME, tests, NULL, NULL);
}
