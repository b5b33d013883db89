/*
The objective seam: what a position is trained to predict, as a list of weighted targets (ops/classifier.cuh).

    next token    one entry: (tokens[n + 1], 1)

Validation always uses next_token, whatever is trained.
*/
#pragma once

#include "model.cuh"

// Targets are views of the micro-batch's own tokens, shifted by one.
UNUSED static Targets next_token(const Model* m, const Micro* micro) {
    Targets t = {micro->tokens + 1, m->target_weights, 1, 1, 1, 0};
    return t;
}
