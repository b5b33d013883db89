/*
The head seam: what turns hidden rows into a distribution over the vocabulary. A head is NAME_params, NAME_loss (forward and
backward in one call over row chunks) and NAME_probs; a new one is a file, an enum value in config.h and one case in each switch.
*/
#pragma once

#include "head_dense.cuh"
#include "head_filter.cuh"
#include "head_lightrnn.cuh"

UNUSED static void head_params(Model* m) {
    switch (m->config.head) {
        case HEAD_DENSE: dense_params(m); break;
        case HEAD_LIGHTRNN: light_params(m); break;
    }
}

UNUSED static void head_loss(Model* m, const Micro* micro, Targets targets, float scale, bool gradient) {
    bool filtered = gradient && m->targets.filter != 0.0f;
    switch (m->config.head) {
        case HEAD_DENSE:
            if (filtered) dense_filtered_loss(m, micro, targets, scale);
            else dense_loss(m, micro, targets, scale, gradient);
            break;
        case HEAD_LIGHTRNN: light_loss(m, micro, targets, scale, gradient); break;
    }
}

UNUSED static void head_probs(Model* m, int n, float* probs) {
    switch (m->config.head) {
        case HEAD_DENSE: dense_probs(m, n, probs); break;
        case HEAD_LIGHTRNN: light_probs(m, n, probs); break;
    }
}

// Plans of the products for N positions, and for a sample.
UNUSED static void head_plan_shape(Model* m, int N) {
    switch (m->config.head) {
        case HEAD_DENSE: dense_plan_shape(m, N); break;
        case HEAD_LIGHTRNN: light_plan_shape(m, N); break;
    }
}

// What a head needs beside the logits: slices of the activations, and things that are not memory.
UNUSED static void head_plan_activations(Model* m) {
    if (m->config.head == HEAD_LIGHTRNN) light_plan_activations(m);
}
UNUSED static void head_allocate(Model* m) {
    if (m->config.head == HEAD_LIGHTRNN) light_allocate(m);
}
UNUSED static void head_free(Model* m) {
    if (m->config.head == HEAD_LIGHTRNN) light_free(m);
}
