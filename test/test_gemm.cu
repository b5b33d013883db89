/*
Matrix products against double-precision loops, element by element: every function of gemm.cuh, every tile of the CPU, sizes that
fit nothing, sizes that need several k blocks, several groups of them, several chunks; one thread against many, bit by bit; NaN.

An element may be off by what rounding explains, and no more:

    SUM_ERROR * sum |left * right|  +  STORE_ERROR * |result|  (fp32 2^-22, bf16 2^-8, fp16 2^-11, the last with a floor of 2^-25)

The same file runs on a GPU, there with the sizes that are multiples of 8.
*/
#include "gelu_double.h"
#include "harness.h"

#include "../llmc/ops/gemm.cuh"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

static const double SUM_ERROR = 2e-6;
static const double STORE_ERROR = PRECISION == PRECISION_FP32 ? 0x1p-22 : PRECISION == PRECISION_BF16 ? 0x1.01p-8 : 0x1.01p-11;
static const double STORE_FLOOR = PRECISION == PRECISION_FP16 ? 0x1p-25 : 1e-30;

static uint32_t seed = 1;
static double uniform(void) {
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (1 << 23) - 1.0;
}

// --- memory: a tensor in floatX or fp32 on the execution's side, and as double here --------------------------------------------
typedef struct {
    size_t n;
    bool is_float;
    double* value;
    void* memory;
} Tensor;

static void* device_memory(size_t bytes) {
#if GPU_EXECUTION
    void* p;
    CUDA_CHECK(cudaMalloc(&p, bytes));
    return p;
#else
    return xmalloc(bytes);
#endif
}
static void device_free(void* p) {
#if GPU_EXECUTION
    CUDA_CHECK(cudaFree(p));
#else
    free(p);
#endif
}
static void copy(void* to, const void* from, size_t bytes, bool up) {
#if GPU_EXECUTION
    CUDA_CHECK(cudaMemcpy(to, from, bytes, up ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost));
#else
    (void)up;
    memcpy(to, from, bytes);
#endif
}

// value -> memory, and value becomes what memory can hold
static void upload(Tensor* t) {
    size_t bytes = t->n * (t->is_float ? sizeof(float) : sizeof(floatX));
    void* host = xmalloc(bytes);
    for (size_t i = 0; i < t->n; i++) {
        if (t->is_float) ((float*)host)[i] = (float)t->value[i];
        else from_float((floatX*)host + i, (float)t->value[i]);
        t->value[i] = t->is_float ? ((float*)host)[i] : to_float(((floatX*)host)[i]);
    }
    copy(t->memory, host, bytes, true);
    free(host);
}
static void download(Tensor* t) {
    size_t bytes = t->n * (t->is_float ? sizeof(float) : sizeof(floatX));
    void* host = xmalloc(bytes);
    copy(host, t->memory, bytes, false);
    for (size_t i = 0; i < t->n; i++) t->value[i] = t->is_float ? ((float*)host)[i] : to_float(((floatX*)host)[i]);
    free(host);
}
static Tensor tensor(size_t n, bool is_float, double scale) {
    Tensor t = {n, is_float, (double*)xmalloc(n * sizeof(double)),
                device_memory(n * (is_float ? sizeof(float) : sizeof(floatX)))};
    for (size_t i = 0; i < n; i++) t.value[i] = scale * uniform();
    upload(&t);
    return t;
}
static void tensor_free(Tensor* t) {
    free(t->value);
    device_free(t->memory);
}
static floatX* X(const Tensor* t) { return (floatX*)t->memory; }

// --- reference -----------------------------------------------------------------------------------------------------------------
// One element: what it should be before storing, and the sum of the magnitudes of its terms
typedef struct {
    double sum, size;
} Exact;
static Exact exact(const double* left, size_t left_step, const double* right, size_t right_step, int k) {
    Exact e = {0, 0};
    for (int i = 0; i < k; i++) {
        double product = left[i * left_step] * right[i * right_step];
        e.sum += product;
        e.size += fabs(product);
    }
    return e;
}

typedef struct {
    int rows, in, out;
} Shape;
typedef struct {
    Shape s;
    Tensor x, w, dy, bias, z, y0, yf0, dw0;  // inputs; z (rows,in); y0, yf0 (rows,out) and dw0 (out,in): what is added to
    Exact *forward, *dinput, *dweight;       // of the rows checked: (..,out), (..,in), (..,in)
} Problem;

static int rows_checked(int rows) { return rows <= 320 ? rows : 24; }  // large results: 24 rows from the first to the last
static int row_checked(int i, int rows) { return rows <= 320 ? i : (int)((int64_t)i * (rows - 1) / (rows_checked(rows) - 1)); }

// left (..,k) and right (k,n) by their steps along k and across
static Exact* exact_rows(const Tensor* left, size_t left_row, size_t left_k, const Tensor* right, size_t right_col,
                         size_t right_k, int m, int n, int k) {
    Exact* e = (Exact*)xmalloc((size_t)rows_checked(m) * n * sizeof(Exact));
    for (int i = 0; i < rows_checked(m); i++) {
        const double* line = left->value + row_checked(i, m) * left_row;
        for (int j = 0; j < n; j++) e[(size_t)i * n + j] = exact(line, left_k, right->value + j * right_col, right_k, k);
    }
    return e;
}

static Problem make_problem(Shape s) {
    size_t xn = (size_t)s.rows * s.in, wn = (size_t)s.out * s.in, yn = (size_t)s.rows * s.out;
    Problem p = {s,
                 tensor(xn, false, 1),
                 tensor(wn, false, 1),
                 tensor(yn, false, 1),
                 tensor(s.out, false, 2),
                 tensor(xn, false, 4),
                 tensor(yn, false, 3),
                 tensor(yn, true, 3),
                 tensor(wn, true, 3),
                 NULL,
                 NULL,
                 NULL};
    p.forward = exact_rows(&p.x, s.in, 1, &p.w, s.in, 1, s.rows, s.out, s.in);
    p.dinput = exact_rows(&p.dy, s.out, 1, &p.w, 1, s.in, s.rows, s.in, s.out);
    p.dweight = exact_rows(&p.dy, 1, s.out, &p.x, 1, s.in, s.out, s.in, s.rows);
    return p;
}
static void free_problem(Problem* p) {
    Tensor* all[] = {&p->x, &p->w, &p->dy, &p->bias, &p->z, &p->y0, &p->yf0, &p->dw0};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) tensor_free(all[i]);
    free(p->forward), free(p->dinput), free(p->dweight);
}

static const char *g_what, *g_tile = "";  // named in messages
static void check_element(double got, double want, double tolerance, Shape s, int row, int col) {
    if (fabs(got - want) <= tolerance) return;  // NaN is an error, too
    fail_msg("%s %s, rows %d in %d out %d: (%d,%d) is %.9g, expected %.9g +- %.2g", g_tile, g_what, s.rows, s.in, s.out, row, col,
             got, want, tolerance);
}
static double store_error(double value, bool is_float) {
    return is_float ? 0x1p-22 * fabs(value) + 1e-30 : STORE_ERROR * fabs(value) + STORE_FLOOR;
}
// cuBLASLt rounds a product to the result's type before it adds what is there (seen on sm_90)
static double added_error(double product, bool accumulate, bool is_float) {
    return GPU_EXECUTION && accumulate && !is_float ? store_error(product, false) : 0;
}

// --- the six functions ---------------------------------------------------------------------------------------------------------
static void check_forward(Gemm* g, Problem* p, bool to_float32, bool with_bias, bool accumulate, float alpha) {
    Shape s = p->s;
    Tensor* y0 = to_float32 ? &p->yf0 : &p->y0;
    Tensor y = tensor(y0->n, to_float32, 1);
    if (accumulate) memcpy(y.value, y0->value, y.n * sizeof(double));
    upload(&y);
    Tensor bias = tensor(s.out, to_float32, 2);  // of the result's type
    memcpy(bias.value, p->bias.value, s.out * sizeof(double));
    upload(&bias);
    if (to_float32) {
        const float* b = with_bias ? (const float*)bias.memory : NULL;
        matmul_forward(g, (float*)y.memory, X(&p->x), X(&p->w), b, s.rows, s.in, s.out, alpha, accumulate, 0);
    } else {
        const floatX* b = with_bias ? X(&bias) : NULL;
        matmul_forward(g, X(&y), X(&p->x), X(&p->w), b, s.rows, s.in, s.out, alpha, accumulate, 0);
    }
    download(&y);
    g_what = accumulate ? "forward, accumulate" : "forward";
    for (int i = 0; i < rows_checked(s.rows); i++) {
        int r = row_checked(i, s.rows);
        for (int j = 0; j < s.out; j++) {
            Exact e = p->forward[(size_t)i * s.out + j];
            double old = accumulate ? y0->value[(size_t)r * s.out + j] : 0, bias_j = with_bias ? p->bias.value[j] : 0;
            double want = alpha * e.sum + bias_j + old, sizes = fabs(alpha) * e.size + fabs(bias_j) + fabs(old);
            double slack = SUM_ERROR * sizes + store_error(want, to_float32) + added_error(alpha * e.sum, accumulate, to_float32);
            check_element(y.value[(size_t)r * s.out + j], want, slack, s, r, j);
        }
    }
    tensor_free(&y);
    tensor_free(&bias);
}

static void check_forward_gelu(Gemm* g, Problem* p, int kind, bool keep_z, bool with_bias) {
    Shape s = p->s;
    Tensor z = tensor(p->y0.n, false, 1), a = tensor(p->y0.n, false, 1);
    matmul_forward_gelu(g, keep_z ? X(&z) : NULL, X(&a), X(&p->x), X(&p->w), with_bias ? X(&p->bias) : NULL, s.rows, s.in, s.out,
                        kind, 0);
    download(&z);
    download(&a);
    g_what = kind == GELU_ERF ? "forward, gelu erf" : "forward, gelu tanh";
    for (int i = 0; i < rows_checked(s.rows); i++) {
        int r = row_checked(i, s.rows);
        for (int j = 0; j < s.out; j++) {
            size_t at = (size_t)r * s.out + j;
            Exact e = p->forward[(size_t)i * s.out + j];
            double want = e.sum + (with_bias ? p->bias.value[j] : 0), slack = SUM_ERROR * (e.size + 2) + store_error(want, false);
            if (keep_z) check_element(z.value[at], want, slack, s, r, j);
            double activated = gelu_double(want, kind);
            check_element(a.value[at], activated, 1.2 * slack + 1e-6 * (1 + fabs(want)) + store_error(activated, false), s, r, j);
        }
    }
    if (keep_z &&
        z.n % 8 == 0) {  // a belongs to the z that was stored, bit by bit: recomputing it in the backward pass changes nothing
        Tensor again = tensor(z.n, false, 1);
        gelu_forward(X(&again), X(&z), z.n, kind, 0);
        download(&again);
        assert_memory_equal(again.value, a.value, z.n * sizeof(double));
        tensor_free(&again);
    }
    tensor_free(&z);
    tensor_free(&a);
}

enum { PLAIN = -1, ADD = -2 };
static void check_dinput(Gemm* g, Problem* p, int gelu_kind, float alpha) {  // or PLAIN, or ADD: to what was there
    Shape s = p->s;
    Tensor dx = tensor(p->x.n, false, 1);
    if (gelu_kind == ADD) memcpy(dx.value, p->z.value, dx.n * sizeof(double)), upload(&dx);
    if (gelu_kind == ADD) matmul_dinput_add(g, X(&dx), X(&p->dy), X(&p->w), s.rows, s.in, s.out, alpha, 0);
    else if (gelu_kind < 0) matmul_dinput(g, X(&dx), X(&p->dy), X(&p->w), s.rows, s.in, s.out, alpha, 0);
    else matmul_dinput_gelu(g, X(&dx), X(&p->dy), X(&p->w), X(&p->z), s.rows, s.in, s.out, gelu_kind, 0);
    download(&dx);
    g_what = gelu_kind == ADD ? "dinput, accumulate" : gelu_kind < 0 ? "dinput" : "dinput, gelu";
    for (int i = 0; i < rows_checked(s.rows); i++) {
        int r = row_checked(i, s.rows);
        for (int c = 0; c < s.in; c++) {
            Exact e = p->dinput[(size_t)i * s.in + c];
            double z = p->z.value[(size_t)r * s.in + c], old = gelu_kind == ADD ? z : 0;
            double factor = gelu_kind < 0 ? alpha : gelu_grad_double(z, gelu_kind), want = factor * e.sum + old;
            // the product is rounded to floatX before the derivative meets it: two roundings
            double slack = (SUM_ERROR * fabs(factor) + 1e-6) * e.size + SUM_ERROR * fabs(old) + store_error(want, false);
            slack += added_error(factor * e.sum, gelu_kind == ADD, PRECISION == PRECISION_FP32);
            if (PRECISION != PRECISION_FP32 && gelu_kind >= 0) slack *= 2;
            check_element(dx.value[(size_t)r * s.in + c], want, slack, s, r, c);
        }
    }
    tensor_free(&dx);
}

static void check_dweight(Gemm* g, Problem* p, bool accumulate, float alpha) {
    Shape s = p->s;
    Tensor dw = tensor(p->w.n, true, 1);
    if (accumulate) memcpy(dw.value, p->dw0.value, dw.n * sizeof(double));
    upload(&dw);
    matmul_dweight(g, (float*)dw.memory, X(&p->dy), X(&p->x), s.rows, s.in, s.out, alpha, accumulate, 0);
    download(&dw);
    g_what = accumulate ? "dweight, accumulate" : "dweight";
    for (int i = 0; i < rows_checked(s.out); i++) {
        int o = row_checked(i, s.out);
        for (int c = 0; c < s.in; c++) {
            Exact e = p->dweight[(size_t)i * s.in + c];
            double old = accumulate ? p->dw0.value[(size_t)o * s.in + c] : 0, want = alpha * e.sum + old;
            double slack = SUM_ERROR * (fabs(alpha) * e.size + fabs(old)) + store_error(want, true);
            check_element(dw.value[(size_t)o * s.in + c], want, slack, s, o, c);
        }
    }
    tensor_free(&dw);
}

static void check_all(Gemm* g, Problem* p) {
    check_forward(g, p, true, false, false, 1.0f);
    check_forward(g, p, true, true, true, 0.75f);
    check_forward(g, p, false, true, false, 1.0f);
    check_forward(g, p, false, false, true, -0.5f);
    check_forward_gelu(g, p, GELU_TANH, true, true);
    check_forward_gelu(g, p, GELU_ERF, true, false);
    check_forward_gelu(g, p, GELU_TANH, false, false);
    check_forward_gelu(g, p, GELU_ERF, false, true);
    check_dinput(g, p, PLAIN, 1.0f);
    check_dinput(g, p, PLAIN, 0.125f);
    check_dinput(g, p, ADD, 1.0f);
    check_dinput(g, p, ADD, -0.5f);
    check_dinput(g, p, GELU_TANH, 1.0f);
    check_dinput(g, p, GELU_ERF, 1.0f);
    check_dweight(g, p, false, 1.0f);
    check_dweight(g, p, true, 1.0f);
    check_dweight(g, p, true, 0.3f);
}

// Multiples of 8: everywhere. Beyond: ragged in each place, rows so few that nothing is packed, k of 1, of one block and a bit,
// of several groups; more lines than a chunk of either side.
static const Shape ALIGNED[] = {{8, 8, 8},     {16, 48, 48},  {64, 64, 64},   {40, 72, 96},   {8, 768, 48},
                                {64, 384, 96}, {24, 392, 56}, {128, 768, 88}, {200, 104, 400}};
#if !GPU_EXECUTION
static const Shape RAGGED[] = {{1, 1, 1},     {1, 64, 33},   {2, 33, 72},    {4, 257, 49}, {5, 3, 7},
                               {7, 49, 1},    {33, 33, 33},  {9, 385, 17},   {257, 7, 13}, {13, 7, 257},
                               {6, 257, 50},  {31, 390, 47}, {1, 5, 300},    {300, 1, 5},  {70, 769, 65},
                               {65, 70, 769}, {769, 33, 70}, {1027, 72, 35}, {3, 1100, 50}};
static const Shape LARGE[] = {{1040, 1200, 2100}, {1032, 24, 1045}, {520, 3000, 530}, {530, 520, 3000}};

static void check_some(Gemm* g, Problem* p) {
    check_forward(g, p, false, true, true, 0.5f);
    check_forward_gelu(g, p, GELU_TANH, true, true);
    check_dinput(g, p, GELU_ERF, 1.0f);
    check_dweight(g, p, true, 0.3f);
}
#endif
#define COUNT(a) (int)(sizeof(a) / sizeof(a[0]))

// Every shape with every tile (on the GPU there is one way)
static void check_shapes(const Shape* shapes, int count, void (*check)(Gemm*, Problem*)) {
    Gemm g;
    gemm_init(&g, 0);
    for (int i = 0; i < count; i++) {
        Problem p = make_problem(shapes[i]);
#if GPU_EXECUTION
        g.measure = i % 2;  // the fastest of the library's offers computes the same as the first
        check(&g, &p);
        int plans = g.plans_made;
        check(&g, &p);
        assert_int_equal(plans, g.plans_made);  // the second time nothing is planned
#ifdef AHEAD_EMU
        for (int k = 0; k < plans; k++) assert_false(g.plans[k].bias_apart);  // what is documented is asked for as documented
#endif
#else
        for (int tile = 0; tile < TILE_KINDS; tile++) {
            if (!tile_supported((TileKind)tile)) continue;
            g.tile = (TileKind)tile;
            g_tile = TILE_SHAPES[tile].name;
            check(&g, &p);
        }
#endif
        free_problem(&p);
    }
    gemm_free(&g);
}
static void test_aligned(void** state) { (void)state, check_shapes(ALIGNED, COUNT(ALIGNED), check_all); }
#if !GPU_EXECUTION
static void test_ragged(void** state) { (void)state, check_shapes(RAGGED, COUNT(RAGGED), check_all); }
static void test_large(void** state) { (void)state, check_shapes(LARGE, COUNT(LARGE), check_some); }

// The same bits for 1, 2, 3, 5 and 16 threads, with every tile: one group and several, either side shared, few panels
static void test_threads(void** state) {
    (void)state;
    static const Shape SHAPES[] = {{64, 64, 64},     {3, 200, 1000},  {257, 385, 49},
                                   {1040, 1200, 60}, {70, 3100, 600}, {60, 600, 3100}};
    static const int THREADS[] = {1, 2, 3, 5, 16};
    int before = omp_get_max_threads();
    for (int i = 0; i < COUNT(SHAPES); i++) {
        Shape s = SHAPES[i];
        Problem p = make_problem(s);
        size_t yn = (size_t)s.rows * s.out, xn = (size_t)s.rows * s.in, wn = (size_t)s.out * s.in;
        size_t bytes = 2 * yn * sizeof(floatX) + xn * sizeof(floatX) + wn * sizeof(float);
        char *first = (char*)xcalloc(bytes), *again = (char*)xcalloc(bytes);
        for (int tile = 0; tile < TILE_KINDS; tile++) {
            for (int t = 0; t < COUNT(THREADS) && tile_supported((TileKind)tile); t++) {
                omp_set_num_threads(THREADS[t]);
                Gemm g;
                gemm_init(&g, 0);
                g.tile = (TileKind)tile;
                char* to = t == 0 ? first : again;
                floatX *z = (floatX*)to, *a = z + yn, *dx = a + yn;
                float* dw = (float*)(dx + xn);
                matmul_forward_gelu(&g, z, a, X(&p.x), X(&p.w), X(&p.bias), s.rows, s.in, s.out, GELU_TANH, 0);
                matmul_dinput(&g, dx, X(&p.dy), X(&p.w), s.rows, s.in, s.out, 1.0f, 0);
                matmul_dweight(&g, dw, X(&p.dy), X(&p.x), s.rows, s.in, s.out, 1.0f, false, 0);
                gemm_free(&g);
                if (t > 0) assert_memory_equal(first, again, bytes);
            }
        }
        free(first);
        free(again);
        free_problem(&p);
    }
    omp_set_num_threads(before);
}

// A Gemm made for many threads also serves fewer, and the caller may have lowered the number since
static void test_fewer_threads_later(void** state) {
    (void)state;
    int before = omp_get_max_threads();
    omp_set_num_threads(4);
    Gemm g;
    gemm_init(&g, 0);
    Problem p = make_problem((Shape){128, 384, 96});
    for (int threads = 6; threads >= 1; threads--) {
        omp_set_num_threads(threads);
        check_all(&g, &p);
    }
    free_problem(&p);
    omp_set_num_threads(before);
    gemm_free(&g);
}

static int exit_code_with_tile(const char* name) {
    pid_t child = fork();
    if (child == 0) {
        setenv("AHEAD_GEMM_TILE", name, 1);
        if (!freopen("/dev/null", "w", stderr)) _exit(9);
        _exit(10 + (int)tile_choose());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
static void test_tile_by_name(void** state) {
    (void)state;
    assert_int_equal(exit_code_with_tile("plain"), 10 + TILE_PLAIN);
    assert_int_equal(exit_code_with_tile("avx512"), tile_supported(TILE_AVX512) ? 10 + TILE_AVX512 : EXIT_FAIL);
    assert_int_equal(exit_code_with_tile("sse9"), EXIT_FAIL);
}
#endif

// A NaN in one row of x is in that row of y and in no other; in dy it is in that row of dx, and in one row of dw.
static void test_nan(void** state) {
    (void)state;
    Gemm g;
    gemm_init(&g, 0);
    Shape shapes[] = {{40, 72, 96}, {8, 768, 48}, {3, 33, 50}};
    for (int i = 0; i < (GPU_EXECUTION ? 2 : 3); i++) {
        Shape s = shapes[i];
        Problem p = make_problem(s);
        Tensor y = tensor((size_t)s.rows * s.out, false, 1), dx = tensor((size_t)s.rows * s.in, false, 1);
        Tensor dw = tensor((size_t)s.out * s.in, true, 1);
        int row = s.rows - 2, col = s.out - 3;
        p.x.value[(size_t)row * s.in + s.in - 1] = NAN;
        upload(&p.x);
        matmul_forward(&g, X(&y), X(&p.x), X(&p.w), (const floatX*)NULL, s.rows, s.in, s.out, 1.0f, false, 0);
        download(&y);
        for (size_t j = 0; j < y.n; j++) assert_int_equal(isnan(y.value[j]) != 0, (int)(j / s.out) == row);
        p.x.value[(size_t)row * s.in + s.in - 1] = 1;
        upload(&p.x);
        p.dy.value[(size_t)row * s.out + col] = NAN;
        upload(&p.dy);
        matmul_dinput_gelu(&g, X(&dx), X(&p.dy), X(&p.w), X(&p.z), s.rows, s.in, s.out, GELU_TANH, 0);
        matmul_dweight(&g, (float*)dw.memory, X(&p.dy), X(&p.x), s.rows, s.in, s.out, 1.0f, false, 0);
        download(&dx);
        download(&dw);
        for (size_t j = 0; j < dx.n; j++) assert_int_equal(isnan(dx.value[j]) != 0, (int)(j / s.in) == row);
        for (size_t j = 0; j < dw.n; j++) assert_int_equal(isnan(dw.value[j]) != 0, (int)(j / s.in) == col);
        tensor_free(&y), tensor_free(&dx), tensor_free(&dw);
        free_problem(&p);
    }
    gemm_free(&g);
}

#ifdef AHEAD_EMU
// A library that fuses no bias: a kernel of ours adds it.
static void test_bias_apart(void** state) {
    (void)state;
    Gemm g;
    gemm_init(&g, 0);
    emu_refuses_bias = true;
    Problem p = make_problem((Shape){24, 16, 40});
    check_forward(&g, &p, true, true, true, 0.5f);
    check_forward(&g, &p, true, true, false, 1.0f);
    emu_refuses_bias = false;
    for (int i = 0; i < g.plans_made; i++) assert_true(g.plans[i].bias_apart);
    free_problem(&p);
    gemm_free(&g);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aligned),
#if !GPU_EXECUTION
        cmocka_unit_test(test_ragged),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_fewer_threads_later),
        cmocka_unit_test(test_tile_by_name),
#endif
#ifdef AHEAD_EMU
        cmocka_unit_test(test_bias_apart),
#endif
        cmocka_unit_test(test_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
