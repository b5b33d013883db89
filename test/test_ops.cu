/*
The row kernels against recorded tensors, and against double loops where none are recorded: norms, rotary positions, embedding,
column sums, GELU. (The classifier has its own program, the matrix products and attention theirs.)

A double loop reads what the kernel reads (the rounded xhat, not the exact one), so an element may be off by fp32 arithmetic and
one rounding to floatX, and by nothing else. Widths that are no multiple of PACK run on the CPU only.
*/
#include "buffer.h"
#include "gold.h"

#include "llmc/ops/activation.cuh"
#include "llmc/ops/embedding.cuh"
#include "llmc/ops/norm.cuh"
#include "llmc/ops/rope.cuh"

static const Lookup NO_LOOKUP = {};
static const double EPS = 4e-7;  // fp32 arithmetic, relative to the sum of the magnitudes of what is added

// Stable order of positions by token id, as the loader makes it; host memory that the buffers own.
static int* sorted_order(const int* tokens, int N, int V) {
    int *order = (int*)host_values((size_t)N), at = 0;
    for (int v = 0; v < V; v++) {
        for (int n = 0; n < N; n++) {
            if (tokens[n] == v) order[at++] = n;
        }
    }
    assert_int_equal(at, N);
    return order;
}

static int* random_ids(const char* name, int count, int V) {
    int* ids = (int*)host_values((size_t)count);
    Rng rng = rng_start(1, name);
    for (int i = 0; i < count; i++) ids[i] = (int)rng_below(&rng, (uint64_t)V);
    return ids;
}

// ---------------------------------------------------------------------------------------------------------------------
// Recorded tensors
static void golden_layernorm(void** state) {
    (void)state;
    const char* names[] = {"layernorm_c64", "layernorm_c72", "layernorm_flat"};
    for (int i = 0; i < 3; i++) {
        Gold* g = gold_open(names[i]);
        int N = gold_int(g, "N"), C = gold_int(g, "C");
        size_t n = (size_t)N * C;
        float *x = buffer_f(gold_floats(g, "x"), n), *rstd = buffer_f(NULL, N);
        floatX *w = buffer_x(gold_floats(g, "w"), C), *b = buffer_x(gold_floats(g, "b"), C),
               *dy = buffer_x(gold_floats(g, "dy"), n);
        floatX *y = buffer_x(NULL, n), *xhat = buffer_x(NULL, n), *dx = buffer_x(NULL, n);
        float *dw = buffer_f(gold_floats(g, "dw_before"), C), *db = buffer_f(gold_floats(g, "db_before"), C);
        norm_forward(y, xhat, rstd, x, w, b, NO_LOOKUP, N, C, 0);
        norm_backward(dx, dw, db, buffer_f(NULL, (size_t)COLUMN_TEAMS * 2 * C), dy, xhat, rstd, w, N, C, false, true, 0);
        gold_check(g, "y", host_x(y, n), PRECISION);
        gold_check(g, "rstd", host_f(rstd, N), PRECISION);
        gold_check(g, "dx", host_x(dx, n), PRECISION);
        gold_check(g, "dw", host_f(dw, C), PRECISION);
        gold_check(g, "db", host_f(db, C), PRECISION);
        gold_close(g);
    }
}

static void golden_rmsnorm(void** state) {
    (void)state;
    const char* names[] = {"rmsnorm_c64", "rmsnorm_c72", "rmsnorm_flat", "rmsnorm_vector"};
    for (int i = 0; i < 4; i++) {
        Gold* g = gold_open(names[i]);
        int N = gold_int(g, "N"), C = gold_int(g, "C");
        size_t n = (size_t)N * C;
        if (C % PACK == 0) {
            float *x = buffer_f(gold_floats(g, "x"), n), *rstd = buffer_f(NULL, N);
            floatX *y = buffer_x(NULL, n), *dx = buffer_x(NULL, n), *dy = buffer_x(gold_floats(g, "dy"), n);
            norm_forward(y, NULL, rstd, x, NULL, NULL, NO_LOOKUP, N, C, 0);
            norm_backward(dx, NULL, NULL, NULL, dy, y, rstd, NULL, N, C, false, false, 0);
            gold_check(g, "y", host_x(y, n), PRECISION);
            gold_check(g, "rho", host_f(rstd, N), PRECISION);
            gold_check(g, "dx", host_x(dx, n), PRECISION);
        }
        gold_close(g);
    }
}

typedef struct {
    float *cos, *sin;
} Tables;
static Tables device_tables(int T, int D) {
    size_t n = (size_t)T * (D / 2);
    float *c = host_values(n), *s = host_values(n);
    rope_tables(c, s, T, D);
    return (Tables){buffer_f(c, n), buffer_f(s, n)};
}

static void golden_rope(void** state) {
    (void)state;
    const char* names[] = {"rope", "rope_far", "rope_vector"};
    for (int i = 0; i < 3; i++) {
        Gold* g = gold_open(names[i]);
        int B = gold_int(g, "B"), T = gold_int(g, "T"), NH = gold_int(g, "NH"), D = gold_int(g, "D");
        size_t n = (size_t)B * T * 3 * NH * D;
        if (D / 2 % PACK == 0) {
            Tables t = device_tables(T, D);
            floatX *qkv = buffer_x(gold_floats(g, "qkv"), n), *dqkv = buffer_x(gold_floats(g, "dy"), n);
            rope(qkv, t.cos, t.sin, false, B * T, T, NH, D, 0);
            rope(dqkv, t.cos, t.sin, true, B * T, T, NH, D, 0);
            gold_check(g, "y", host_x(qkv, n), PRECISION);
            gold_check(g, "dqkv", host_x(dqkv, n), PRECISION);
        }
        gold_close(g);
    }
}

static void golden_embedding(void** state) {
    (void)state;
    const char* names[] = {"embedding", "embedding_one_token"};
    for (int i = 0; i < 2; i++) {
        Gold* g = gold_open(names[i]);
        int B = gold_int(g, "B"), T = gold_int(g, "T"), C = gold_int(g, "C"), V = gold_int(g, "V"), Vp = gold_int(g, "Vp"),
            N = B * T;
        size_t n = (size_t)N * C;
        int* ids = buffer_i(gold_ints(g, "ids"), N);
        Lookup lookup = {ids, buffer_x(gold_floats(g, "wte"), (size_t)Vp * C), buffer_x(gold_floats(g, "wpe"), (size_t)T * C), T,
                         0};
        float* x = buffer_f(NULL, n);
        norm_forward(buffer_x(NULL, n), NULL, buffer_f(NULL, N), x, NULL, NULL, lookup, N, C, 0);
        gold_check(g, "y", host_f(x, n), PRECISION);
        floatX* dy = buffer_x(gold_floats(g, "dy"), n);
        float *dwte = buffer_f(gold_floats(g, "dwte_before"), (size_t)Vp * C),
              *dwpe = buffer_f(gold_floats(g, "dwpe_before"), (size_t)T * C);
        embedding_backward(dwte, dy, ids, buffer_i(sorted_order(gold_ints(g, "ids"), N, V), N), N, C, 0);
        position_backward(dwpe, dy, B, T, C, true, 0);
        gold_check(g, "dwte", host_f(dwte, (size_t)Vp * C), PRECISION);
        gold_check(g, "dwpe", host_f(dwpe, (size_t)T * C), PRECISION);
        gold_close(g);
    }
}

static void golden_gelu(void** state) {
    (void)state;
    const char* names[] = {"gelu_tanh", "gelu_erf"};
    for (int kind = GELU_TANH; kind <= GELU_ERF; kind++) {
        Gold* g = gold_open(names[kind]);
        size_t n = (size_t)gold_int(g, "n");
        floatX *z = buffer_x(gold_floats(g, "x"), n), *a = buffer_x(NULL, n), *da = buffer_x(gold_floats(g, "dy"), n);
        gelu_forward(a, z, n, kind, 0);
        gelu_backward(da, z, (floatX*)NULL, n, kind, 0);
        gold_check(g, "y", host_x(a, n), PRECISION);
        gold_check(g, "dx", host_x(da, n), PRECISION);
        gold_close(g);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Norms
typedef struct {
    int N, C;
    bool layernorm;
    float *x, *rstd, *dw, *db, *scratch;  // (N,C), (N), (C), (C), (teams,2C)
    floatX *w, *b, *y, *xhat, *dy, *dx;   // w, b (C), the others (N,C); for RMS norm w, b and xhat are NULL
} Norm;

static Norm norm_problem(int N, int C, bool layernorm) {
    size_t n = (size_t)N * C;
    float *x = normal_values("x", n, 3.0f), *w = normal_values("w", C, 0.3f);
    for (size_t i = 0; i < n; i++) x[i] += 1.0f;
    for (int c = 0; c < C; c++) w[c] += c % 5 == 4 ? -w[c] : 1.0f;  // every fifth weight is 0
    Norm p = {N,
              C,
              layernorm,
              buffer_f(x, n),
              buffer_f(NULL, N),
              buffer_f(NULL, C),
              buffer_f(NULL, C),
              NULL,
              NULL,
              NULL,
              buffer_x(NULL, n),
              NULL,
              buffer_x(normal_values("dy", n, 1.0f), n),
              buffer_x(NULL, n)};
    if (!layernorm) return p;
    p.w = buffer_x(w, C), p.b = buffer_x(normal_values("b", C, 1.0f), C), p.xhat = buffer_x(NULL, n);
    p.scratch = buffer_f(NULL, (size_t)COLUMN_TEAMS * 2 * C);
    return p;
}

static void norm_run(Norm* p, bool add, bool accumulate) {
    norm_forward(p->y, p->xhat, p->rstd, p->x, p->w, p->b, NO_LOOKUP, p->N, p->C, 0);
    norm_backward(p->dx, p->dw, p->db, p->scratch, p->dy, p->layernorm ? p->xhat : p->y, p->rstd, p->w, p->N, p->C, add,
                  accumulate, 0);
}

static void check_norm_forward(const Norm* p) {
    int C = p->C;
    size_t n = (size_t)p->N * C;
    float *x = host_f(p->x, n), *y = host_x(p->y, n), *rstd = host_f(p->rstd, p->N),
          *xhat = p->layernorm ? host_x(p->xhat, n) : NULL;
    float *w = p->w ? host_x(p->w, C) : NULL, *b = p->b ? host_x(p->b, C) : NULL;
    for (int r = 0; r < p->N; r++) {
        double mean = 0, squares = 0;
        for (int c = 0; c < C && p->layernorm; c++) mean += (double)x[r * C + c] / C;
        for (int c = 0; c < C; c++) squares += (x[r * C + c] - mean) * (x[r * C + c] - mean) / C;
        double s = 1 / sqrt(squares + (p->layernorm ? 1e-5 : 1e-6)),
               sums = (4 + C / 256) * EPS;  // sums of C terms, perhaps in one chain
        assert_close_f(rstd[r], s, sums * s, "rstd of row %d of (%d,%d)", r, p->N, C);
        for (int c = 0; c < C; c++) {
            double normed = (x[r * C + c] - mean) * s, error = sums * (fabs(x[r * C + c]) + fabs(mean)) * s;
            if (p->layernorm) assert_close(xhat[r * C + c], normed, error, "xhat at %d,%d of (%d,%d)", r, c, p->N, C);
            double want = p->layernorm ? normed * w[c] + b[c] : normed;
            if (p->layernorm) error = error * fabs(w[c]) + EPS * (fabs(normed * w[c]) + fabs(b[c]));
            assert_close(y[r * C + c], want, error, "y at %d,%d of (%d,%d)", r, c, p->N, C);
        }
    }
}

// before: what dx held, NULL if it was overwritten.
static void check_norm_backward(const Norm* p, const float* before, const float* dw_before) {
    int C = p->C;
    size_t n = (size_t)p->N * C;
    float *normed = host_x(p->layernorm ? p->xhat : p->y, n), *dy = host_x(p->dy, n), *dx = host_x(p->dx, n),
          *rstd = host_f(p->rstd, p->N);
    float *w = p->w ? host_x(p->w, C) : NULL, *dw = host_f(p->dw, C), *db = host_f(p->db, C);
    for (int r = 0; r < p->N; r++) {
        double sum = 0, dot = 0, sum_size = 0, dot_size = 0;
        for (int c = 0; c < C; c++) {
            double d = dy[r * C + c] * (w ? w[c] : 1.0), term = d * normed[r * C + c];
            sum += d / C, dot += term / C, sum_size += fabs(d) / C, dot_size += fabs(term) / C;
        }
        if (!p->layernorm) sum = sum_size = 0;
        for (int c = 0; c < C; c++) {
            double d = dy[r * C + c] * (w ? w[c] : 1.0), m = normed[r * C + c], old = before ? before[r * C + c] : 0;
            double want = old + rstd[r] * (d - sum - m * dot);
            double size = fabs(old) + rstd[r] * (fabs(d) + sum_size + fabs(m) * dot_size);
            assert_close(dx[r * C + c], want, 2 * EPS * size, "dx at %d,%d of (%d,%d)", r, c, p->N, C);
        }
    }
    for (int c = 0; c < C && p->layernorm; c++) {
        double sum_w = dw_before ? dw_before[c] : 0, sum_b = dw_before ? dw_before[c] : 0, size_w = fabs(sum_w),
               size_b = fabs(sum_b);
        for (int r = 0; r < p->N; r++) {
            double d = dy[r * C + c], term = d * normed[r * C + c];
            sum_w += term, sum_b += d, size_w += fabs(term), size_b += fabs(d);
        }
        assert_close_f(dw[c], sum_w, EPS * size_w, "dw at %d of (%d,%d)", c, p->N, C);
        assert_close_f(db[c], sum_b, EPS * size_b, "db at %d of (%d,%d)", c, p->N, C);
    }
}

static void norm_shapes(void** state) {
    const int shapes[][2] = {{1, 8}, {5, 8}, {1, 768}, {2, 72}, {33, 264}, {3, 1600}, {2, 4096}};
    for (int i = 0; i < 14; i++) {
        int N = shapes[i / 2][0], C = shapes[i / 2][1];
        Norm p = norm_problem(N, C, i % 2);
        norm_run(&p, false, false);  // stores over NaN
        check_norm_forward(&p);
        check_norm_backward(&p, NULL, NULL);
        float *before = normal_values("before", (size_t)N * C, 2.0f), *dw_before = normal_values("dw", C, 2.0f);
        p.dx = buffer_x(before, (size_t)N * C), p.dw = buffer_f(dw_before, C), p.db = buffer_f(dw_before, C);
        norm_run(&p, true, true);
        check_norm_backward(&p, before, dw_before);
        assert_int_equal(release_buffers(state), 0);
    }
}

// Filling the stream from the tables changes nothing else: same bits as a norm of the sum made beforehand.
static void norm_lookup(void** state) {
    enum { T = 5, N = 15, C = 72, V = 11 };
    const float *wte = normal_values("wte", V * C, 1.0f), *wpe = normal_values("wpe", T * C, 1.0f);
    const int* ids = random_ids("lookup", N, V);
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool positions = i % 2;
        Norm ours = norm_problem(N, C, i / 2), plain = norm_problem(N, C, i / 2);
        float *sum = host_values(N * C), *x = buffer_f(NULL, N * C);
        for (int j = 0; j < N * C; j++) sum[j] = wte[ids[j / C] * C + j % C] + (positions ? wpe[j / C % T * C + j % C] : 0.0f);
        plain.x = buffer_f(sum, N * C);
        Lookup lookup = {buffer_i(ids, N), buffer_x(wte, V * C), positions ? buffer_x(wpe, T * C) : NULL, T, 0};
        norm_forward(ours.y, ours.xhat, ours.rstd, x, ours.w, ours.b, lookup, N, C, 0);
        norm_forward(plain.y, plain.xhat, plain.rstd, plain.x, plain.w, plain.b, NO_LOOKUP, N, C, 0);
        assert_true(same_bits(x, plain.x, N * C));
        assert_true(same_bits(ours.y, plain.y, N * C));
        assert_true(same_bits(ours.rstd, plain.rstd, N));
        if (ours.xhat) assert_true(same_bits(ours.xhat, plain.xhat, N * C));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Rotary positions
static void rope_inverse(void** state) {
    enum { B = 2, T = 20, NH = 3, D = 64, ROW = 3 * NH * D, SIZE = B * T * ROW };
    (void)state;
    const float* values = normal_values("rope", SIZE, 2.0f);
    floatX* qkv = buffer_x(values, SIZE);
    Tables t = device_tables(T, D);
    rope(qkv, t.cos, t.sin, false, B * T, T, NH, D, 0);
    float* turned = host_x(qkv, SIZE);
    rope(qkv, t.cos, t.sin, true, B * T, T, NH, D, 0);
    float* back = host_x(qkv, SIZE);
    for (int i = 0; i < SIZE; i++) {
        int in_row = i % ROW, head = i / D * D, pair = head + (i + D / 2) % D;
        if (in_row >= 2 * NH * D || i / ROW % T == 0) {  // v, and position 0
            assert_true(turned[i] == values[i] && back[i] == values[i]);
            continue;
        }
        double size = fabs(values[i]) + fabs(values[pair]);  // three roundings of numbers of this size
        assert_off(back[i], values[i], 3 * (STORE_ERROR + EPS) * size, "element %d", i);
        double before = hypot(values[i], values[pair]), after = hypot(turned[i], turned[pair]);
        assert_off(after, before, 2 * (STORE_ERROR + EPS) * size, "length of the pair at %d", i);
    }
}

// Every position turns by its own angle, also far out, and each row of the batch starts at position 0 again.
static void rope_positions(void** state) {
    enum { B = 2, T = 1024, NH = 1, D = 16, ROW = 3 * NH * D, SIZE = B * T * ROW };
    (void)state;
    float* values = host_values(SIZE);
    for (int i = 0; i < SIZE; i++) values[i] = i % D < D / 2 ? 1.0f : 0.0f;
    floatX* qkv = buffer_x(values, SIZE);
    Tables t = device_tables(T, D);
    rope(qkv, t.cos, t.sin, false, B * T, T, NH, D, 0);
    float* y = host_x(qkv, SIZE);
    for (int r = 0; r < B * T; r++) {
        for (int i = 0; i < D / 2; i++) {  // (1, 0) turned by -angle is (cos, -sin)
            double angle = r % T * pow(10000.0, -2.0 * i / D);
            for (int part = 0; part < 2; part++) {
                const float* head = y + (size_t)r * ROW + part * NH * D;
                assert_close(head[i], cos(angle), 1e-7, "position %d, pair %d", r % T, i);
                assert_close(head[i + D / 2], -sin(angle), 1e-7, "position %d, pair %d", r % T, i);
            }
        }
    }
    for (int a = 0; a < T; a++) {
        for (int b = a + 1; b < T && b < a + 300; b++) assert_true(memcmp(y + a * ROW, y + b * ROW, D * sizeof(float)) != 0);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Embedding, column sums
static void embedding_scatter(void** state) {
    const int shapes[][3] = {{1, 8, 1}, {1, 72, 50}, {64, 8, 3}, {57, 768, 1}, {200, 264, 31}, {40, 72, 50257}};  // N, C, V
    for (int i = 0; i < 6; i++) {
        int N = shapes[i][0], C = shapes[i][1], V = shapes[i][2];
        size_t n = (size_t)N * C, size = (size_t)V * C;
        const int* tokens = random_ids("scatter", N, V);
        const float *dy = normal_values("dy", n, 1.0f), *before = normal_values("before", size, 1.0f);
        float *want = host_values(size), *dwte = buffer_f(before, size);
        memcpy(want, before, size * sizeof(float));
        for (int r = 0; r < N; r++) {
            for (int c = 0; c < C; c++) want[(size_t)tokens[r] * C + c] += dy[(size_t)r * C + c];
        }
        embedding_backward(dwte, buffer_x(dy, n), buffer_i(tokens, N), buffer_i(sorted_order(tokens, N, V), N), N, C, 0);
        assert_true(same_bits(dwte, buffer_f(want, size), size));  // in the order of the positions, so bit for bit
        assert_int_equal(release_buffers(state), 0);
    }
}

static void positions_gradient(void** state) {
    const int shapes[][3] = {{1, 1, 8}, {1, 7, 72}, {5, 3, 768}, {9, 16, 8}};  // B, T, C
    (void)state;
    for (int i = 0; i < 8; i++) {
        int B = shapes[i / 2][0], T = shapes[i / 2][1], C = shapes[i / 2][2];
        bool accumulate = i % 2;
        size_t n = (size_t)B * T * C, size = (size_t)T * C;
        const float *dy = normal_values("dy", n, 1.0f), *before = normal_values("before", size, 1.0f);
        float* dwpe = buffer_f(accumulate ? before : NULL, size);
        position_backward(dwpe, buffer_x(dy, n), B, T, C, accumulate, 0);
        const float* ours = host_f(dwpe, size);
        for (size_t j = 0; j < size; j++) {
            double sum = accumulate ? before[j] : 0, total = fabs(sum);
            for (int b = 0; b < B; b++) sum += dy[b * size + j], total += fabs(dy[b * size + j]);
            assert_close_f(ours[j], sum, EPS * total, "dwpe at %zu of (%d,%d), batch %d", j, T, C, B);
        }
    }
}

static void column_sums(void** state) {
    const int widest = PRECISION == PRECISION_FP32 ? 6400 : 1600;  // in fp32 more packs than 256 lanes keep
    const int shapes[][2] = {{1, 8}, {2, 72}, {3, 768}, {17, 2304}, {100, 8}, {257, 264}, {3, widest}};
    for (int i = 0; i < 14; i++) {
        int N = shapes[i / 2][0], C = shapes[i / 2][1];
        bool accumulate = i % 2;
        size_t n = (size_t)N * C;
        const float *dy = normal_values("dy", n, 1.0f), *before = normal_values("before", C, 4.0f);
        float* out = buffer_f(accumulate ? before : NULL, C);
        column_sum(out, buffer_x(dy, n), buffer_f(NULL, (size_t)COLUMN_TEAMS * C), N, C, accumulate, 0);
        const float* ours = host_f(out, C);
        for (int c = 0; c < C; c++) {
            double sum = accumulate ? before[c] : 0, total = fabs(sum);
            for (int r = 0; r < N; r++) sum += dy[(size_t)r * C + c], total += fabs(dy[(size_t)r * C + c]);
            assert_close_f(ours[c], sum, EPS * total, "column %d of (%d,%d)", c, N, C);
        }
        assert_int_equal(release_buffers(state), 0);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// One thread against several: rows are independent, so their bits are the same; sums over rows are only close.
enum { TN = 29, TC = 72, TV = 13, TH = 4, TD = 16 };
typedef struct {
    Norm norm;
    floatX* qkv;
    float *dwte, *dwpe, *sum;
} Outcome;

static Outcome work_with(int threads) {
    enum { QKV = TN * 3 * TH * TD };
    device_threads(threads);
#if !GPU_EXECUTION
    omp_set_dynamic(1);  // what OMP_DYNAMIC=true does: launches get fewer threads than there are teams unless they prevent it
#endif
    const int* tokens = random_ids("work", TN, TV);
    floatX* dy = buffer_x(normal_values("work", TN * TC, 1.0f), TN * TC);
    Outcome w = {norm_problem(TN, TC, true), buffer_x(normal_values("qkv", QKV, 1.0f), QKV),
                 buffer_f(normal_values("e", TV * TC, 1.0f), TV * TC), buffer_f(NULL, TN * TC), buffer_f(NULL, TC)};
    norm_run(&w.norm, false, false);
    Tables t = device_tables(TN, TD);
    rope(w.qkv, t.cos, t.sin, false, TN, TN, TH, TD, 0);
    embedding_backward(w.dwte, dy, buffer_i(tokens, TN), buffer_i(sorted_order(tokens, TN, TV), TN), TN, TC, 0);
    position_backward(w.dwpe, dy, 1, TN, TC, false, 0);
    column_sum(w.sum, dy, buffer_f(NULL, COLUMN_TEAMS * TC), TN, TC, false, 0);
    return w;
}

static void threads_agree(void** state) {
    (void)state;
    Outcome one = work_with(1);
    for (int threads = 2; threads <= 40; threads = threads < 4 ? threads + 1 : 40) {  // 40 threads: some have no row
        Outcome many = work_with(threads), again = work_with(threads);
        assert_true(same_bits(one.norm.y, many.norm.y, TN * TC));
        assert_true(same_bits(one.norm.xhat, many.norm.xhat, TN * TC));
        assert_true(same_bits(one.norm.rstd, many.norm.rstd, TN));
        assert_true(same_bits(one.norm.dx, many.norm.dx, TN * TC));
        assert_true(same_bits(one.qkv, many.qkv, TN * 3 * TH * TD));
        assert_true(same_bits(one.dwte, many.dwte, TV * TC));
        assert_true(same_bits(one.dwpe, many.dwpe, TN * TC));
        const float *a[] = {one.norm.dw, one.norm.db, one.sum}, *b[] = {many.norm.dw, many.norm.db, many.sum};
        const float* c[] = {again.norm.dw, again.norm.db, again.sum};
        for (int k = 0; k < 3; k++) {
            assert_true(same_bits(b[k], c[k], TC));                     // with the same number of threads always the same bits
            if (GPU_EXECUTION) assert_true(same_bits(a[k], b[k], TC));  // there are as many teams, whatever their order
            const float *x = host_f(a[k], TC), *y = host_f(b[k], TC);
            for (int i = 0; i < TC; i++) assert_off(y[i], x[i], 1e-5, "column %d with %d threads", i, threads);
        }
        if (threads == 40) break;
    }
}

static int clean_up(void** state) {
    static int threads;
    if (!threads) threads = device_teams(1);
    device_threads(threads);
    return release_buffers(state);
}

#define TEST(name) cmocka_unit_test_teardown(name, clean_up)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(golden_layernorm),   TEST(golden_rmsnorm), TEST(golden_rope),   TEST(golden_embedding), TEST(golden_gelu),
        TEST(norm_shapes),        TEST(norm_lookup),    TEST(rope_inverse),  TEST(rope_positions),   TEST(embedding_scatter),
        TEST(positions_gradient), TEST(column_sums),    TEST(threads_agree),
    };
    return cmocka_run_group_tests_name("ops " PRECISION_NAME, tests, NULL, NULL);
}
