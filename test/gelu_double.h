// GELU and its derivative in double precision: what the fused and the separate kernels are compared with.
#pragma once

#include "../llmc/ops/activation.cuh"

#include <math.h>

UNUSED static double gelu_double(double x, int kind) {
    if (kind == GELU_ERF) return 0.5 * x * erfc(-x * M_SQRT1_2);
    return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
UNUSED static double gelu_grad_double(double x, int kind) {
    if (fabs(x) > 30) return x > 0;
    if (kind == GELU_ERF) return 0.5 * erfc(-x * M_SQRT1_2) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
    double c = sqrt(2 / M_PI), t = tanh(c * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
}
