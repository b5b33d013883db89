/*
The auxiliary seam: parts of the objective that have logits, parameters or memory of their own. Each ADDS its gradient to dn,
which the head has stored, and fills its own slots of the losses. A part whose weight is 0 in a step does nothing in it.
*/
#pragma once

#include "ahead_heads.cuh"
#include "head_filter.cuh"
#include "smoothing.cuh"
#include "spelling.cuh"

UNUSED static void auxiliary_params(Model* m) {
    ahead_params(m);
    spelling_params(m);
}

UNUSED static void auxiliary_plan_activations(Model* m) {
    smoothing_plan_activations(m);
    ahead_plan_activations(m);
    spelling_plan_activations(m);
    filter_plan_activations(m);
}

// Plans of the products for micro-batches of B rows of T tokens.
UNUSED static void auxiliary_plan_shape(Model* m, int B, int T) {
    ahead_plan_shape(m, B, T);
    spelling_plan_shape(m, B, T);
    filter_plan_shape(m, B, T);
}

// scale: 1 / (N * micro-steps).
UNUSED static void auxiliary_loss(Model* m, const Micro* micro, float scale) {
    ahead_loss(m, micro, scale);
    if (m->targets.spelling != 0.0f) spelling_loss(m, micro, scale);
}

// Validation: what head_loss with measured_targets does not measure.
UNUSED static void auxiliary_measure(Model* m, const Micro* micro) { ahead_measure(m, micro); }
