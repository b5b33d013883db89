/*
The consistency loss, in one pass over two chunks of logits: the head that looks k tokens ahead from position t (the student) and
the next-token head k - 1 positions later (the teacher) predict the same token; the one that knows less is drawn to the other.

    row r of student   position first + r         z       s = softmax(z / temp)
    row r + shift of teacher                      u       q = softmax(u / temp)

    pair     where the teacher's row lies in its chunk and in the same sequence: (first + r) mod T < T - (k - 1). The next
             sequence starts a new context; T < k leaves no pair
    loss     KL(q, s) = sum of q (log q - log s), nats
    student  dz = c (softmax(z) - e_y) + mu / temp (s - q)       c: weight of its own cross-entropy (y: k tokens ahead), 0: none
    teacher  du = mu / temp q (log q - log s - KL), 0 in rows without a student; only where its gradient is wanted

c and mu come with their factors (1 / positions, the loss scale). Gradients take the place of the logits; padding columns get 0.
There is no factor temp^2: a higher temperature is also a smaller weight.

    a = (u - max u) / temp, b = (z - max z) / temp:  log q - log s = a - b - D,  D = log(sum of exp a / sum of exp b)
    KL = sum of q (a - b - D) + s - q: no term is negative, and an error of either sum cancels to first order
    du = mu / temp q (a - b less its mean under q): D cancels, and the gradient sums to 0

Equal logits give a loss and a gradient of exactly 0: both sums are added in one loop, and s - q is a product of one factor.

    bytes per row: read 2 Vp, write Vp (2 Vp with the teacher's gradient) elements of floatX; the later reads hit the second-level
    cache (the CPU's first or second). Tried and dropped: rows kept in registers, as the classifier does (two rows do not fit).
*/
#pragma once

#include "classifier.cuh"

typedef struct {
    int first;  // position of row 0 of the chunk in the micro-batch
    int shift;  // the teacher of row r is row r + shift of its chunk
    int ahead;  // k - 1: how many positions later the teacher stands
    int T;      // positions of a sequence
    float temp;
    const int* ids;  // (rows): the token k ahead; NULL: no cross-entropy of its own
    const float* c;  // one number on the device each
    const float* mu;
    float ce_scale, kl_scale;  // 1 / (positions * micro-steps); 1 / (pairs * micro-steps)
} Consistency;

// What one pair of rows needs besides its logits
typedef struct {
    float max_z, max_u;
    float sum_z, sum_u;  // of exp b, of exp a
    float mean;          // of a - b under q (with the teacher's gradient)
} PairSums;

// a - b, and 0 where they are equal: were the product that made one of them fused into the difference, only the other would be
// rounded.
DEVICE float apart(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fsub_rn(a, b);
#else
    return a - b;
#endif
}

template <bool TEACHER>
DEVICE_ONLY void pair_sums(PairSums* p, const floatX* z, const floatX* u, int V, float cold) {
    float sum_u = 0.0f, sum_z = 0.0f, cross = 0.0f, max_z = p->max_z, max_u = p->max_u;
    FOR_LANES(i, (V + PACK - 1) / PACK) {
        Vec zi = load(z, (size_t)i), ui = load(u, (size_t)i);
        FOR_PACK(k) {
            float a = (ui.v[k] - max_u) * cold, b = (zi.v[k] - max_z) * cold, q = fast_exp(a);
            bool live = PACK == 1 || i * PACK + k < V;
            sum_u += live ? q : 0.0f;
            sum_z += live ? fast_exp(b) : 0.0f;
            if (TEACHER) cross += live ? q * apart(a, b) : 0.0f;
        }
    }
    p->sum_u = team_sum(sum_u), p->sum_z = team_sum(sum_z);
    p->mean = TEACHER ? team_sum(cross) / p->sum_u : 0.0f;
}

// KL, in a pass of its own: with the stores of the gradients in it, some compilers add up one element after the other.
DEVICE_ONLY float pair_loss(const PairSums* p, const floatX* z, const floatX* u, int V, float cold) {
    float sum = 0.0f, D = logf(p->sum_u / p->sum_z), inverse = p->sum_u / p->sum_z, max_z = p->max_z, max_u = p->max_u;
    FOR_LANES(i, (V + PACK - 1) / PACK) {
        Vec zi = load(z, (size_t)i), ui = load(u, (size_t)i);
        FOR_PACK(k) {
            float a = (ui.v[k] - max_u) * cold, b = (zi.v[k] - max_z) * cold, q = fast_exp(a);
            bool live = PACK == 1 || i * PACK + k < V;
            sum += live ? fmaf(q, apart(a, b) - D, fmaf(fast_exp(b), inverse, -q)) : 0.0f;
        }
    }
    return team_sum(sum) / p->sum_u;
}

// Gradients of a pair in the place of its logits. own: c / sum of exp(z - max z); y, c: the target's column and weight.
template <bool TEACHER>
DEVICE_ONLY void pair_gradient(floatX* z, floatX* u, PairSums p, int V, float cold, float mu, float own, int y, float c) {
    float to_student = mu * cold / p.sum_z, to_teacher = mu * cold / p.sum_u, ratio = p.sum_z / p.sum_u;
    bool warm = cold == 1.0f;
    FOR_LANES(i, (V + PACK - 1) / PACK) {
        Vec zi = load((const floatX*)z, (size_t)i), ui = load((const floatX*)u, (size_t)i);
        FOR_PACK(k) {
            float a = (ui.v[k] - p.max_u) * cold, b = (zi.v[k] - p.max_z) * cold;
            float q = fast_exp(a), s = fast_exp(b), e = warm ? s : fast_exp(zi.v[k] - p.max_z);
            float dz = fmaf(to_student, fmaf(-q, ratio, s), fmaf(e, own, i * PACK + k == y ? -c : 0.0f));
            float share = to_teacher * q, du = fmaf(share, apart(a, b), -p.mean * share);
            bool live = PACK == 1 || i * PACK + k < V;
            zi.v[k] = live ? dz : 0.0f;
            ui.v[k] = live ? du : 0.0f;
        }
        store(z, (size_t)i, zi);
        if (TEACHER) store(u, (size_t)i, ui);
    }
}

// The same of a row without a teacher.
DEVICE_ONLY void lone_gradient(floatX* z, float max_z, int V, float own, int y, float c) {
    FOR_LANES(i, (V + PACK - 1) / PACK) {
        Vec zi = load((const floatX*)z, (size_t)i);
        FOR_PACK(k) {
            float dz = fmaf(fast_exp(zi.v[k] - max_z), own, i * PACK + k == y ? -c : 0.0f);
            zi.v[k] = PACK == 1 || i * PACK + k < V ? dz : 0.0f;
        }
        store(z, (size_t)i, zi);
    }
}

DEVICE_ONLY void clear_columns(floatX* row, int from, int to) {  // packs
    FOR_LANES(i, to - from) store(row, (size_t)(from + i), Vec{});
}

template <bool TEACHER>
KERNEL LAUNCH_BOUNDS(1024) consistency_kernel(floatX* student, floatX* teacher, float* ce, float* kl, Consistency c,
                                              const float* RESTRICT loss_scale, int rows, int V, int Vp, bool accumulate) {
    float cold = 1.0f / c.temp, mu = *c.mu * c.kl_scale * *loss_scale;
    int packs = (V + PACK - 1) / PACK;
    FOR_ROWS(r, rows) {
        floatX *z = student + (size_t)r * Vp, *u = teacher + (size_t)(r + c.shift) * Vp;
        bool pair = r + c.shift < rows && (c.first + r) % c.T < c.T - c.ahead;
        int y = c.ids ? c.ids[r] : -1;
        float weight = c.ids ? *c.c * c.ce_scale * *loss_scale : 0.0f, target = c.ids ? to_float(z[y]) : 0.0f, loss = 0.0f;
        Row<floatX, 0> again;
        PairSums p = {};
        float sum = row_softmax_sum(&again, (const floatX*)z, V, &p.max_z), own = weight / sum;
        if (pair) {
            row_softmax_sum(&again, (const floatX*)u, V, &p.max_u);
            pair_sums<TEACHER>(&p, z, u, V, cold);
            loss = pair_loss(&p, z, u, V, cold);
            pair_gradient<TEACHER>(z, u, p, V, cold, mu, own, y, weight);
        } else {
            lone_gradient(z, p.max_z, V, own, y, weight);
        }
        if (FIRST_LANE) {
            if (c.ids) ce[r] = (accumulate ? ce[r] : 0.0f) + (p.max_z + logf(sum) - target);
            kl[r] = (accumulate ? kl[r] : 0.0f) + loss;
        }
        if (TEACHER && !pair && r + c.shift < rows) clear_columns(u, 0, packs);
        clear_columns(z, packs, Vp / PACK);
        if (TEACHER && r + c.shift < rows) clear_columns(u, packs, Vp / PACK);
        if (TEACHER && r < c.shift) clear_columns(teacher + (size_t)r * Vp, 0, Vp / PACK);  // its student is in the chunk before
    }
}

// student, teacher (rows,Vp): logits -> gradients, the teacher's with teacher_gradient only (else it is left as it is).
// ce, kl (rows): losses (=|+=); ce is not touched without c.ids. V live columns, Vp a multiple of 8. c.c, c.mu and loss_scale are
// device memory.
UNUSED static void consistency(floatX* student, floatX* teacher, float* ce, float* kl, Consistency c, const float* loss_scale,
                               int rows, int V, int Vp, bool teacher_gradient, bool accumulate, stream_t stream) {
    (void)stream;
    int packs = (V + PACK - 1) / PACK, lanes = !GPU_EXECUTION ? 1 : packs > 2048 ? 1024 : packs > 64 ? 256 : 64;
    (void)lanes;
    moves(WORK_CLASSIFIER, (teacher_gradient ? 4.0 : 3.0) * rows * Vp * sizeof(floatX));
    if (teacher_gradient) {
        LAUNCH(consistency_kernel<true>, rows, lanes, stream)
        (student, teacher, ce, kl, c, loss_scale, rows, V, Vp, accumulate);
    } else {
        LAUNCH(consistency_kernel<false>, rows, lanes, stream)
        (student, teacher, ce, kl, c, loss_scale, rows, V, Vp, accumulate);
    }
}
