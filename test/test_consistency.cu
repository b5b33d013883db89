/*
The consistency loss as a kernel: worked numbers, every element against double precision for ragged class counts, temperatures and
chunks, gradients that sum to nothing, equal logits, sequences too short for a pair, NaN.
*/
#include "buffer.h"

#include "../llmc/ops/consistency.cuh"

typedef struct {
    int B, T, k, V, Vp;
    float temp, c, mu, loss_scale;  // c: 0 = no cross-entropy of its own
    bool teacher_gradient;
    const float *z, *u;  // (N,Vp) logits of the head k ahead and of the next-token head, position by position
    const int* ids;      // (N)
} Problem;

typedef struct {
    float *dz, *du, *ce, *kl;  // (N,Vp), (N,Vp), (N), (N)
} Result;

static Problem make(int B, int T, int k, int V, float temp, bool teacher_gradient) {
    Problem p = {B, T, k, V, (V + 7) / 8 * 8 + k % 2 * 8, temp, 0.75f, 0.5f, 4.0f, teacher_gradient, NULL, NULL, NULL};
    float* z = normal_values("student", (size_t)B * T * p.Vp, 2.0f);
    float* u = normal_values("teacher", (size_t)B * T * p.Vp, 2.0f);
    int* ids = (int*)host_values((size_t)B * T);
    Rng rng = rng_start(3, "ids");
    for (int n = 0; n < B * T; n++) {
        ids[n] = (int)rng_below(&rng, (uint64_t)V);
        for (int v = V; v < p.Vp; v++) z[n * p.Vp + v] = u[n * p.Vp + v] = 30.0f;  // padding must not count
    }
    p.z = z, p.u = u, p.ids = ids;
    return p;
}

// In chunks of `rows`, as a model does it: the teacher's chunk starts k - 1 rows later, or as late as it can.
static Result run(const Problem* p, int rows, const float* before) {
    int N = p->B * p->T, ahead = p->k - 1;
    Result r = {host_values((size_t)N * p->Vp), host_values((size_t)N * p->Vp), NULL, NULL};
    float *ce = buffer_f(before, (size_t)N), *kl = buffer_f(before, (size_t)N);
    float *numbers = buffer_f(&p->c, 3), scale = p->loss_scale;
    copy_to_device(numbers + 1, &p->mu, sizeof(float));
    copy_to_device(numbers + 2, &scale, sizeof(float));
    memset(r.du, 0, (size_t)N * p->Vp * sizeof(float));
    const int* ids = buffer_i(p->ids, (size_t)N);
    for (int row = 0; row < N; row += rows) {
        int count = N - row < rows ? N - row : rows, first = row + ahead < N - count ? row + ahead : N - count;
        floatX* z = buffer_x(p->z + (size_t)row * p->Vp, (size_t)count * p->Vp);
        floatX* u = buffer_x(p->u + (size_t)first * p->Vp, (size_t)count * p->Vp);
        Consistency c = {row,     row + ahead - first, ahead, p->T,  p->temp, p->c != 0 ? ids + row : NULL,
                         numbers, numbers + 1,         0.25f, 0.125f};
        consistency(z, u, ce + row, kl + row, c, numbers + 2, count, p->V, p->Vp, p->teacher_gradient, before != NULL, 0);
        memcpy(r.dz + (size_t)row * p->Vp, host_x(z, (size_t)count * p->Vp), (size_t)count * p->Vp * sizeof(float));
        const float* du = host_x(u, (size_t)count * p->Vp);
        for (int i = 0; i < count * p->Vp; i++) {
            if (p->teacher_gradient) r.du[(size_t)first * p->Vp + i] += du[i];  // each position gets one, the others are 0
            else if (du[i] != p->u[(size_t)first * p->Vp + i]) fail_msg("a stopped teacher's logits changed at %d", i);
        }
    }
    r.ce = host_f(ce, (size_t)N), r.kl = host_f(kl, (size_t)N);
    return r;
}

// log softmax(z / temp) of one row, in double precision
static void log_softmax(double* out, const float* z, int V, double temp) {
    double max = -INFINITY, sum = 0;
    for (int v = 0; v < V; v++) max = fmax(max, z[v] / temp);
    for (int v = 0; v < V; v++) sum += exp(z[v] / temp - max);
    for (int v = 0; v < V; v++) out[v] = z[v] / temp - max - log(sum);
}

static void check_position(const Problem* p, const Result* r, int n) {
    int V = p->V, t = n % p->T, ahead = p->k - 1;
    const float *z = p->z + (size_t)n * p->Vp, *dz = r->dz + (size_t)n * p->Vp;
    double *plain = (double*)xmalloc(V * sizeof(double)), *s = (double*)xmalloc(V * sizeof(double));
    double *q = (double*)xmalloc(V * sizeof(double)), kl = 0;
    log_softmax(plain, z, V, 1), log_softmax(s, z, V, p->temp);
    bool pair = t + ahead < p->T;
    if (pair) log_softmax(q, p->u + (size_t)(n + ahead) * p->Vp, V, p->temp);
    for (int v = 0; pair && v < V; v++) kl += exp(q[v]) * (q[v] - s[v]);
    assert_off(r->kl[n], kl, 5e-6 * (1 + kl), "T %d, k %d, V %d, temp %g, position %d: KL", p->T, p->k, V, p->temp, n);
    if (p->c != 0) assert_off(r->ce[n], -plain[p->ids[n]], 5e-6 * (1 - plain[p->ids[n]]), "position %d: cross-entropy", n);
    double ce = p->c * 0.25 * p->loss_scale, mu = p->mu * 0.125 * p->loss_scale / p->temp;
    for (int v = 0; v < V; v++) {
        double own = ce * (exp(plain[v]) - (v == p->ids[n])), drawn = pair ? mu * (exp(s[v]) - exp(q[v])) : 0;
        assert_close(dz[v], own + drawn, 3e-6 * (ce + mu), "T %d, k %d, V %d, temp %g, position %d: student %d", p->T, p->k, V,
                     p->temp, n, v);
    }
    for (int v = V; v < p->Vp; v++) assert_true(dz[v] == 0);
    for (int v = 0; p->teacher_gradient && pair && v < V; v++) {
        double want = mu * exp(q[v]) * (q[v] - s[v] - kl);
        assert_close(r->du[(size_t)(n + ahead) * p->Vp + v], want, 1e-5 * mu * (1 + kl), "V %d, temp %g, position %d: teacher %d",
                     V, p->temp, n, v);
    }
    for (int v = 0; p->teacher_gradient && t < ahead && v < p->Vp; v++) assert_true(r->du[(size_t)n * p->Vp + v] == 0);
    free(plain), free(s), free(q);
}

static void every_element(void** state) {
    const struct {
        int B, T, k, V, rows;
        float temp;
    } cases[] = {{1, 1, 2, 3, 8, 1},     {2, 5, 2, 1, 10, 1},  {3, 4, 3, 7, 5, 2},    {2, 8, 8, 8, 6, 1},
                 {4, 3, 5, 9, 12, 0.5f}, {2, 16, 2, 17, 8, 1}, {2, 9, 4, 225, 7, 1},  {2, 8, 2, 259, 16, 4},
                 {1, 12, 3, 259, 11, 1}, {5, 2, 2, 64, 3, 1},  {2, 2, 2, 50257, 3, 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int variant = 0; variant < 4; variant++) {
            Problem p = make(cases[i].B, cases[i].T, cases[i].k, cases[i].V, cases[i].temp, variant % 2);
            if (variant / 2) p.c = 0;
            Result r = run(&p, cases[i].rows, NULL);
            for (int n = 0; n < p.B * p.T; n++) check_position(&p, &r, n);
            assert_int_equal(release_buffers(state), 0);
        }
    }
}

// One pair, from the definition: teacher (2,0,-1), student (1,.5,0), mu 1
static void worked_example(void** state) {
    (void)state;
    const float z[16] = {1, 0.5f, 0, 9, 9, 9, 9, 9, 0}, u[16] = {0, 0, 0, 0, 0, 0, 0, 0, 2, 0, -1, 9, 9, 9, 9, 9},
                ones[2] = {1, 1};
    const double dz[] = {-0.337314, 0.193001, 0.144314}, du[] = {0.215432, -0.142137, -0.073294};
    floatX *student = buffer_x(z, 16), *teacher = buffer_x(u, 16);
    float *kl = buffer_f(NULL, 2), *one = buffer_f(ones, 2);
    Consistency c = {0, 1, 1, 2, 1.0f, NULL, NULL, one, 1.0f, 1.0f};
    consistency(student, teacher, NULL, kl, c, one, 2, 3, 8, true, false, 0);
    assert_off(host_f(kl, 2)[0], 0.255111, 2e-6, "KL");
    assert_true(host_f(kl, 2)[1] == 0);
    const float *s = host_x(student, 16), *t = host_x(teacher, 16);
    for (int v = 0; v < 3; v++) {
        assert_close(s[v], dz[v], 1e-6, "student %d", v);
        assert_close(t[8 + v], du[v], 1e-6, "teacher %d", v);
    }
    for (int v = 0; v < 8; v++) assert_true(t[v] == 0 && s[8 + v] == 0);
}

// Agreement costs nothing and moves nothing, to the bit.
static void equal_logits(void** state) {
    const int counts[] = {1, 9, 259, 50257};
    for (int i = 0; i < 8; i++) {
        Problem p = make(1, 4, 2, counts[i / 2], i % 2 ? 3.0f : 1.0f, true);
        p.c = 0;
        for (int n = 0; n < 3; n++) memcpy((float*)p.z + n * p.Vp, p.u + (n + 1) * p.Vp, p.Vp * sizeof(float));
        Result r = run(&p, 4, NULL);
        for (int n = 0; n < 4; n++) assert_true(r.kl[n] == 0);
        for (int j = 0; j < 4 * p.Vp; j++) assert_true(r.dz[j] == 0 && r.du[j] == 0);
        assert_int_equal(release_buffers(state), 0);
    }
}

// Losses add up over micro-steps; gradients do not depend on that, nor on the chunks or the number of threads.
static void losses_add_up(void** state) {
    (void)state;
    Problem p = make(2, 12, 3, 259, 2.0f, true);
    int N = 24, threads = device_teams(1);
    const float* before = normal_values("losses", (size_t)N, 10.0f);
    Result one = run(&p, N, NULL), more = run(&p, N, before);
    for (int n = 0; n < N; n++) {
        assert_off(more.ce[n], (double)before[n] + one.ce[n], 1e-5, "cross-entropy %d", n);
        assert_off(more.kl[n], (double)before[n] + one.kl[n], 1e-5, "KL %d", n);
    }
    for (int rows = 1; rows <= N; rows += 3) {
        device_threads(1 + rows % 4);
        Result r = run(&p, rows, NULL);
        assert_memory_equal(r.dz, one.dz, (size_t)N * p.Vp * sizeof(float));
        assert_memory_equal(r.du, one.du, (size_t)N * p.Vp * sizeof(float));
        assert_memory_equal(r.kl, one.kl, (size_t)N * sizeof(float));
    }
    device_threads(threads);
}

// Large logits neither overflow nor lose the loss; what is not a number reaches the loss and the gradient of its pair alone.
static void hard_logits(void** state) {
    (void)state;
    Problem p = make(1, 6, 2, 17, 1.0f, true);
    float *z = (float*)p.z, *u = (float*)p.u;
    for (int v = 0; v < 17; v++) {
        z[v] = v == 3 ? 9984.0f : -9984.0f, u[p.Vp + v] = v == 3 ? 9984.0f : -9984.0f;  // both certain, of the same
        z[p.Vp + v] = 9984.0f, u[2 * p.Vp + v] = -9984.0f;                              // both know nothing
    }
    z[3 * p.Vp + 16] = NAN, u[5 * p.Vp] = NAN;
    Result r = run(&p, 6, NULL);
    assert_true(r.kl[0] == 0 && fabs(r.kl[1]) < 1e-6);
    for (int n = 0; n < 6; n++) {
        bool broken = n == 3 || n == 4, finite = true;
        for (int v = 0; v < 17; v++) finite = finite && isfinite(r.dz[n * p.Vp + v]);
        if (broken != !isfinite(r.kl[n]) || broken == finite)
            fail_msg("position %d: KL %g, finite gradient: %d", n, r.kl[n], finite);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, release_buffers)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(worked_example), TEST(every_element), TEST(equal_logits), TEST(losses_add_up), TEST(hard_logits),
    };
    return cmocka_run_group_tests_name("consistency " PRECISION_NAME, tests, NULL, NULL);
}
