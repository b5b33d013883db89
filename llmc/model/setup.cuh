/*
From a Config to a model that can run: declare, check that it fits, allocate, plan every library call, fill the weights.

    Model m = {};
    model_declare(&m, config, training);     the parameter table and the four arenas, nothing allocated
    arenas_must_fit(..)                      the caller prints the plan and may stop here
    m.masters = ..;                          only without training: the trained model's masters
    model_allocate(&m);                      memory, handles, plans: after this nothing is allocated or planned any more
    model_init_weights(&m, seed);            or load masters yourself, then model_weights_changed(&m)
*/
#pragma once

#include "trunk.cuh"

UNUSED static void model_declare(Model* m, Config config, bool training) {
    m->config = config;
    m->training = training;
    if (!training) m->config.recompute = RECOMPUTE_BLOCK;  // one layer's activations serve all layers
    if (!training) m->config.aux.exact = false;            // n-grams are training's alone
    model_params(m);
    model_plan_parameters(m);
    model_plan_activations(m);
    embed_plan_activations(m);
    head_plan_activations(m);
    auxiliary_plan_activations(m);
}

// Makes the plans for micro-batches of B rows of T tokens; the trainer calls it for every shape it will use.
UNUSED static void model_plan_shape(Model* m, int B, int T) {
    const Config* c = &m->config;
    int N = B * T, C = c->C;
    plan_linear(m, N, C, 3 * C, c->bias, false);
    plan_linear(m, N, C, C, c->bias, true);
    plan_linear(m, N, C, 4 * C, c->bias, false);
    plan_linear(m, N, 4 * C, C, c->bias, true);
    head_plan_shape(m, N);
    auxiliary_plan_shape(m, B, T);
    attention_plan(&m->attention, B, T, c->NH, C / c->NH, m->training);
}

// Bytes that the libraries' scratch takes beside the arenas, for sequences of up to T tokens. sm_major: of a GPU.
UNUSED static size_t model_workspace_bytes(const Model* m, int T, int sm_major) {
    const Config* c = &m->config;
    int D = c->C / c->NH;
    size_t attention = attention_workspace_bytes(c->B, T, c->NH, D);
    if (attention_backward_is_cudnn(&m->attention)) attention = attention_cudnn_bytes(c->B, T, c->NH, D, sm_major);
    attention = round_up(attention, 256);
    if (planning.gpu) return gemm_gpu_bytes(sm_major) + (m->training ? attention : 0);
#if !GPU_EXECUTION
    int threads = device_team_count();
    bool grouped = c->head == HEAD_LIGHTRNN && c->decoder == DECODER_PER_ROW;
    size_t groups = grouped ? (size_t)threads * gemm_cpu_bytes(1) : 0;
    return gemm_cpu_bytes(omp_get_max_threads()) + groups + attention;
#else
    return 0;
#endif
}

// masters changed on the device: refresh the floatX copy.
UNUSED static void model_weights_changed(Model* m) {
    cast_weights(m->weights, m->masters, m->table.size, m->stream);
    device_sync();
}

UNUSED static void model_allocate(Model* m, bool allow_tf32, bool deterministic) {
    const Config* c = &m->config;
    if (m->parameters.bytes) arena_allocate(&m->parameters);
    if (!m->weights) m->weights = (floatX*)m->masters;  // fp32: one arena serves both
    if (m->training) {
        arena_allocate(&m->gradients);
        arena_allocate(&m->optimizer);
        uint8_t* flags = (uint8_t*)xcalloc(m->table.size / PARAM_UNIT);
        unit_flags_fill(&m->table, flags);
        copy_to_device(m->unit_flags, flags, m->table.size / PARAM_UNIT);
        free(flags);
    }
    arena_allocate(&m->activations);
#if GPU_EXECUTION
    CUDA_CHECK(cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking));
#endif
    gemm_init(&m->gemm, 0);
    head_allocate(m);
    (void)allow_tf32;
#if GPU_EXECUTION
    m->gemm.allow_tf32 = allow_tf32, m->gemm.measure = !deterministic;
#endif
    attention_init(&m->attention, deterministic);
    cells_upload(m);
    StepState state = {};
    state.scaler = loss_scale_start();
    if (PRECISION != PRECISION_FP16) state.scaler.scale = 1.0f;
    copy_to_device(m->state, &state, sizeof(state));
    StepWeights next_token_only = {};
    next_token_only.token[0] = 1.0f;
    targets_start(m, next_token_only);
    if (m->rope_cos) {
        size_t bytes = (size_t)c->T * (size_t)(c->C / c->NH / 2) * sizeof(float);
        float *cos_table = (float*)xmalloc(bytes), *sin_table = (float*)xmalloc(bytes);
        rope_tables(cos_table, sin_table, c->T, c->C / c->NH);
        copy_to_device(m->rope_cos, cos_table, bytes);
        copy_to_device(m->rope_sin, sin_table, bytes);
        free(cos_table);
        free(sin_table);
    }
}

UNUSED static void model_init_weights(Model* m, uint64_t seed) {
#if GPU_EXECUTION
    float* host = (float*)xcalloc(m->table.size * sizeof(float));
    params_init(&m->table, host, seed);
    copy_to_device(m->masters, host, m->table.size * sizeof(float));
    free(host);
#else
    params_init(&m->table, m->masters, seed);
#endif
    cells_init(m);
    model_weights_changed(m);
}

UNUSED static void model_free(Model* m) {
    head_free(m);
    attention_free(&m->attention);
    gemm_free(&m->gemm);
#if GPU_EXECUTION
    if (m->stream) cudaStreamDestroy(m->stream);
#endif
    arena_free(&m->activations);
    arena_free(&m->optimizer);
    arena_free(&m->gradients);
    arena_free(&m->parameters);
    free(m->table.rows);
    memset(m, 0, sizeof(*m));
}
