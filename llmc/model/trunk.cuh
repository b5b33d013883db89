/*
The network, read from top to bottom: forward, then backward as the same lines upwards.

    tokens -> embed -> L x ( norm -> mixer -> norm -> mlp ) -> norm -> head
*/
#pragma once

#include "embed.cuh"
#include "head.cuh"
#include "mixer.cuh"
#include "mlp.cuh"
#include "objective.cuh"

// Builds the parameter table. config must be final.
UNUSED static void model_params(Model* m) {
    const Config* c = &m->config;
    ParamTable* t = &m->table;
    embed_params(m);
    m->wpe = c->learned_positions ? config_matrix(t, c, "wpe", c->T, c->C, false) : -1;
    for (int l = 0; l < c->L; l++) {
        LayerParams* p = &m->layer[l];
        p->ln1_w = config_vector(t, c, c->layernorm, layer_name(l, "ln1.w"), c->C, INIT_ONE);
        p->ln1_b = config_vector(t, c, c->layernorm, layer_name(l, "ln1.b"), c->C, INIT_ZERO);
        mixer_params(m, l);
        p->ln2_w = config_vector(t, c, c->layernorm, layer_name(l, "ln2.w"), c->C, INIT_ONE);
        p->ln2_b = config_vector(t, c, c->layernorm, layer_name(l, "ln2.b"), c->C, INIT_ZERO);
        mlp_params(m, l);
    }
    m->lnf_w = config_vector(t, c, c->layernorm, "lnf.w", c->C, INIT_ONE);
    m->lnf_b = config_vector(t, c, c->layernorm, "lnf.b", c->C, INIT_ZERO);
    head_params(m);
    auxiliary_params(m);
}

// One layer: x (N,C) is updated in place, everything the backward pass needs stays in layer_acts(m, l).
UNUSED static void layer_forward(Model* m, int l, Lookup lookup, int B, int T) {
    const Config* c = &m->config;
    const LayerParams* p = &m->layer[l];
    LayerActs k = layer_acts(m, l);
    int N = B * T;
    Section outer = section_begin(SECTION_MIXER);
    norm_forward(k.y1, k.xhat1, k.rstd1, m->x, weight(m, p->ln1_w), weight(m, p->ln1_b), lookup, N, c->C, m->stream);
    if (m->saved_x && m->training) {
        float* saved = m->saved_x + (size_t)l * c->B * c->T * c->C;
        if (saved != m->x) copy_on_device(saved, m->x, (size_t)N * c->C * sizeof(float), m->stream);
    }
    mixer_forward(m, l, B, T);
    section_begin(SECTION_MLP);
    norm_forward(k.y2, k.xhat2, k.rstd2, m->x, weight(m, p->ln2_w), weight(m, p->ln2_b), no_lookup, N, c->C, m->stream);
    mlp_forward(m, l, N);
    section_end(outer);
}

// Hidden rows yf (N,C) from tokens.
UNUSED static void model_forward(Model* m, const int* tokens, int B, int T) {
    const Config* c = &m->config;
    Section outer = section_begin(SECTION_EMBED);
    Lookup lookup = embed_forward(m, tokens, B, T);
    for (int l = 0; l < c->L; l++) layer_forward(m, l, l == 0 ? lookup : no_lookup, B, T);
    norm_forward(m->yf, m->xhatf, m->rstdf, m->x, weight(m, m->lnf_w), weight(m, m->lnf_b), no_lookup, B * T, c->C, m->stream);
    section_end(outer);
}

UNUSED static void layer_backward(Model* m, int l, const Micro* micro) {
    const Config* c = &m->config;
    const LayerParams* p = &m->layer[l];
    LayerActs k = layer_acts(m, l);
    int N = micro->B * micro->T;
    bool add = micro->accumulate;
    Section outer = section_begin(SECTION_MLP_BACKWARD);
    mlp_backward(m, l, micro);
    norm_backward(m->dres, grad(m, p->ln2_w), grad(m, p->ln2_b), m->column_scratch, m->dn, normed(k.xhat2, k.y2), k.rstd2,
                  weight(m, p->ln2_w), N, c->C, true, add, m->stream);
    section_begin(SECTION_MIXER_BACKWARD);
    mixer_backward(m, l, micro);
    norm_backward(m->dres, grad(m, p->ln1_w), grad(m, p->ln1_b), m->column_scratch, m->dn, normed(k.xhat1, k.y1), k.rstd1,
                  weight(m, p->ln1_w), N, c->C, true, add, m->stream);
    section_end(outer);
}

// Gradients of every parameter; dn holds the gradient of yf, left there by head_loss.
UNUSED static void model_backward(Model* m, const Micro* micro) {
    const Config* c = &m->config;
    int N = micro->B * micro->T;
    Section outer = section_begin(SECTION_EMBED_BACKWARD);
    norm_backward(m->dres, grad(m, m->lnf_w), grad(m, m->lnf_b), m->column_scratch, m->dn, normed(m->xhatf, m->yf), m->rstdf,
                  weight(m, m->lnf_w), N, c->C, false, micro->accumulate, m->stream);
    for (int l = c->L - 1; l >= 0; l--) {
        if (c->recompute == RECOMPUTE_BLOCK && l < c->L - 1) {
            copy_on_device(m->x, m->saved_x + (size_t)l * c->B * c->T * c->C, (size_t)N * c->C * sizeof(float), m->stream);
            layer_forward(m, l, no_lookup, micro->B, micro->T);
        }
        layer_backward(m, l, micro);
    }
    embed_backward(m, micro);
    section_end(outer);
}

// One micro-step of training: losses and gradients of this micro-batch, divided by N * micro_steps.
UNUSED static void model_micro_step(Model* m, const Micro* micro, int micro_steps) {
    model_forward(m, micro->tokens, micro->B, micro->T);
    float scale = 1.0f / ((float)micro->B * micro->T * micro_steps);
    Section outer = section_begin(SECTION_HEAD);
    head_loss(m, micro, training_targets(m, micro), scale, true);
    section_begin(SECTION_AUXILIARY);
    auxiliary_loss(m, micro, scale);
    section_end(outer);
    model_backward(m, micro);
    check_launches();
}

// The optimizer step that closes the micro-steps: with the losses that m->targets made them fill, the parameters that it left
// alone, and `next`, the weights of the next step's targets.
UNUSED static void model_update(Model* m, StepInputs in, StepWeights next) {
    int N = m->config.B * m->config.T;
    in.loss_slots = targets_slots(m), in.idle = targets_idle(m);
    in.next = m->targets = next;
    Section outer = section_begin(SECTION_OPTIMIZER);
    adamw_step(&m->table, m->masters, m->weights, m->grads, m->m, m->v, m->unit_flags, m->norm_scratch, m->state, in, m->losses,
               N, m->stream);
    section_end(outer);
    check_launches();
}
