/*
The LightRNN head by its definition, in double: a softmax over the rows and, per target, one over the cells of its row. Needs
tiny_light.h.
*/
#pragma once

typedef struct {
    double *dh, *dwr, *dbr, *dwc, *dbc, *loss;  // (N,C), (R,C), (R), (R,columns,C), (R,columns), (K,N)
} LightSums;

UNUSED static double* zeros_d(size_t n) { return (double*)memset(host_values(2 * n), 0, n * sizeof(double)); }

static void softmax_d(double* p, const float* w, const float* b, const float* h, int n, int C) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        p[i] = b[i];
        for (int j = 0; j < C; j++) p[i] += (double)w[i * C + j] * h[j];
        sum += p[i] = exp(p[i]);
    }
    for (int i = 0; i < n; i++) p[i] /= sum;
}

UNUSED static LightSums sums_by_definition(LightShape s, const float* wr, const float* br, const float* wc, const float* bc,
                                           const float* h, const int* tokens, const float* weights, double scale) {
    int N = s.B * s.T, C = s.C, R = s.book.rows, cells = s.book.columns, Kp = (int)round_up((size_t)cells, 8);
    LightSums o = {zeros_d((size_t)N * C),         zeros_d((size_t)R * C),     zeros_d((size_t)R),
                   zeros_d((size_t)R * cells * C), zeros_d((size_t)R * cells), zeros_d((size_t)s.K * N)};
    double *p = zeros_d((size_t)R), *q = zeros_d((size_t)cells);
    for (int n = 0; n < N; n++) {
        const float* hn = h + n * C;
        softmax_d(p, wr, br, hn, R, C);
        for (int k = 0; k < s.K; k++) {
            int id = tokens[n + 1 + k];
            if (id < 0) continue;
            int row = s.book.row[id], cell = s.book.col[id];
            double g = scale * weights[k];
            const float *w = wc + row * Kp * C, *b = bc + row * Kp;
            softmax_d(q, w, b, hn, s.book.length[row], C);
            o.loss[k * N + n] = -log(p[row]) - log(q[cell]);
            for (int r = 0; r < R; r++) {
                double d = g * (p[r] - (r == row));
                o.dbr[r] += d;
                for (int i = 0; i < C; i++) o.dh[n * C + i] += d * wr[r * C + i], o.dwr[r * C + i] += d * hn[i];
            }
            for (int c = 0; c < s.book.length[row]; c++) {
                double d = g * (q[c] - (c == cell));
                o.dbc[row * cells + c] += d;
                for (int i = 0; i < C; i++) {
                    o.dh[n * C + i] += d * w[c * C + i], o.dwc[(row * cells + c) * C + i] += d * hn[i];
                }
            }
        }
    }
    return o;
}
