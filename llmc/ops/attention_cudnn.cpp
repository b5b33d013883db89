/*
The fused attention of cuDNN (see attention_cudnn.h), described as graphs of the cudnn-frontend:

    packed row of qkv   | q: NH heads of D | k: NKV heads | v: NKV heads |     seen as (B,heads,T,D) with strides
                                                                              (T row, D, row, 1), row = (NH + 2 NKV) D
    out, dout           (B,T,NH,D) seen as (B,NH,T,D)        stats = lse (B,NH,T,1) fp32, natural logarithm

A plan is a built graph, kept by (direction, dtype, shape). A graph can be built for the GPU of a handle or for device properties
alone: with the latter a test builds every plan on a machine that has no GPU.

Deterministic backward. With cuDNN's own switch for it the plans of sm_80 to sm_90 and sm_120 write dP: B NH T T x 2 bytes
(403 MB at B = 16, T = 1024, 12 heads; `make plans`), written and read in every layer. That breaks the rule that no execution
holds a (T,T) matrix and by its bytes alone costs an estimated 5 to 10 % of a step, so the switch stays off: dq is summed by fp32
atomics and its last bits vary from run to run. Who needs equal bits asks attention_init for them and gets the project's own
backward kernels (7 products, no matrix). On sm_100 and sm_103 the deterministic plan is linear in T and small (0.8 MB instead
of 51): the switch could be on there. Workspace of the plans taken, B = 16 as above: 101 MB on sm_80, 86, 89 and 120, 51 MB on
sm_90, 100 and 103.
*/
#include "attention_cudnn.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cudnn.h>
#if !defined(CUDNN_VERSION) || CUDNN_VERSION < 90000
#error "attention needs cuDNN 9.0 or newer; install it or build without -DAHEAD_CUDNN (the own CUDA kernel is used then)"
#endif
#include <cudnn_frontend.h>
#if CUDNN_FRONTEND_MAJOR_VERSION < 1 || (CUDNN_FRONTEND_MAJOR_VERSION == 1 && CUDNN_FRONTEND_MINOR_VERSION < 14)
#error "attention needs cudnn-frontend 1.14 or newer (package nvidia-cudnn-frontend); update it or build without -DAHEAD_CUDNN"
#endif

namespace fe = cudnn_frontend;

enum { Q = 1, K, V, OUT, LSE, DOUT, DQ, DK, DV, TENSORS };  // names of tensors inside a graph
enum { MAX_PLANS = 32 };

typedef struct {
    int backward, dtype, B, T, NH, NKV, D;
} Key;

typedef struct {
    Key key;
    std::shared_ptr<fe::graph::Graph> graph;
    std::unordered_map<int64_t, void*> pointers;  // tensor name -> address, filled in before each run: no allocation then
} Plan;

struct AheadCudnn {
    cudnnHandle_t handle;                              // NULL: plans only
    std::shared_ptr<fe::DeviceProperties> properties;  // instead of a handle
    int sm;                                            // with properties: 89 for sm_89
    bool deterministic;  // cuDNN's switch for the backward pass: off where training runs (see above)
    char gpu[256];
    Plan plans[MAX_PLANS];
    int count;
};

// The frontend's messages are long and have line breaks: the first line, shortened, ends the sentence.
static void explain(char* why, size_t size, const AheadCudnn* c, const Key* k, const std::string& message) {
    std::string line = message.substr(0, message.find('\n')).substr(0, 160);
    size_t v = cudnnGetVersion();
    snprintf(why, size, "cuDNN %zu.%zu.%zu: no %s plan for %s, head size %d, %d tokens, %d heads, batch %d on %s: %s", v / 10000,
             v / 100 % 100, v % 100, k->backward ? "backward" : "forward", k->dtype == AHEAD_CUDNN_FP16 ? "fp16" : "bf16", k->D,
             k->T, k->NH, k->B, c->gpu, line.c_str());
}

// A tensor (B,heads,T,D) inside rows of `row` elements.
static fe::graph::Tensor_attributes tensor(int name, const Key* k, int heads, int64_t row) {
    return fe::graph::Tensor_attributes().set_uid(name).set_dim({k->B, heads, k->T, k->D}).set_stride({k->T * row, k->D, row, 1});
}
static fe::graph::Tensor_attributes stats(const Key* k) {
    return fe::graph::Tensor_attributes()
        .set_uid(LSE)
        .set_dim({k->B, k->NH, k->T, 1})
        .set_stride({(int64_t)k->NH * k->T, k->T, 1, 1})
        .set_data_type(fe::DataType_t::FLOAT);
}
static void set_output(const std::shared_ptr<fe::graph::Tensor_attributes>& t, const fe::graph::Tensor_attributes& like) {
    t->set_output(true).set_uid(like.get_uid()).set_dim(like.get_dim()).set_stride(like.get_stride());
}

static std::shared_ptr<fe::graph::Graph> describe(const AheadCudnn* c, const Key* k) {
    auto g = std::make_shared<fe::graph::Graph>();
    g->set_io_data_type(k->dtype == AHEAD_CUDNN_FP16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (c->properties) g->set_device_properties(c->properties).set_sm_version(c->sm);
    int64_t row = (int64_t)(k->NH + 2 * k->NKV) * k->D, out_row = (int64_t)k->NH * k->D;
    float scale = 1.0f / sqrtf((float)k->D);
    auto q = g->tensor(tensor(Q, k, k->NH, row)), key = g->tensor(tensor(K, k, k->NKV, row)),
         v = g->tensor(tensor(V, k, k->NKV, row));
    if (!k->backward) {
        auto options = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true).set_causal_mask(true);
        auto results = g->sdpa(q, key, v, options.set_attn_scale(scale));
        set_output(results[0], tensor(OUT, k, k->NH, out_row));
        set_output(results[1], stats(k));
        results[1]->set_data_type(fe::DataType_t::FLOAT);
    } else {
        auto out = g->tensor(tensor(OUT, k, k->NH, out_row)), dout = g->tensor(tensor(DOUT, k, k->NH, out_row));
        auto options = fe::graph::SDPA_backward_attributes().set_name("attention_backward").set_causal_mask(true);
        options.set_attn_scale(scale).set_deterministic_algorithm(c->deterministic);
        auto results = g->sdpa_backward(q, key, v, out, dout, g->tensor(stats(k)), options);
        set_output(results[0], tensor(DQ, k, k->NH, row));
        set_output(results[1], tensor(DK, k, k->NKV, row));
        set_output(results[2], tensor(DV, k, k->NKV, row));
    }
    return g;
}

static fe::error_t build(const AheadCudnn* c, fe::graph::Graph* g) {
    fe::error_t e = g->validate();
    if (e.is_good()) e = c->handle ? g->build_operation_graph(c->handle) : g->build_operation_graph();
    if (e.is_good()) e = g->create_execution_plans({fe::HeurMode_t::A});
    if (e.is_good()) e = g->check_support();
    if (e.is_good()) e = g->build_plans();
    return e;
}

static Plan* find(AheadCudnn* c, const Key* key) {
    for (int i = 0; i < c->count; i++)
        if (memcmp(&c->plans[i].key, key, sizeof *key) == 0) return &c->plans[i];
    return NULL;
}

static AheadCudnn* version_checked(char* why, size_t why_size) {
    size_t found = cudnnGetVersion();
    if (found / 10000 == CUDNN_MAJOR && found >= 90000) return new AheadCudnn();
    snprintf(why, why_size, "this program was built for cuDNN %d, version %zu.%zu.%zu was loaded; rebuild it", CUDNN_MAJOR,
             found / 10000, found / 100 % 100, found % 100);
    return NULL;
}

extern "C" AheadCudnn* ahead_cudnn_create(char* why, size_t why_size) {
    AheadCudnn* c = version_checked(why, why_size);
    if (!c) return NULL;
    int device = 0;
    cudaDeviceProp properties;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
    cudnnStatus_t status = error == cudaSuccess ? cudnnCreate(&c->handle) : CUDNN_STATUS_NOT_INITIALIZED;
    if (status != CUDNN_STATUS_SUCCESS) {
        snprintf(why, why_size, "cuDNN does not start: %s",
                 error != cudaSuccess ? cudaGetErrorString(error) : cudnnGetErrorString(status));
        delete c;
        return NULL;
    }
    snprintf(c->gpu, sizeof c->gpu, "%.200s (sm_%d%d)", properties.name, properties.major, properties.minor);
    return c;
}

extern "C" AheadCudnn* ahead_cudnn_create_for_device(const char* json, size_t bytes, int sm, int deterministic, char* why,
                                                     size_t why_size) {
    AheadCudnn* c = version_checked(why, why_size);
    if (!c) return NULL;
    c->sm = sm;
    c->deterministic = deterministic;
    c->properties = std::make_shared<fe::DeviceProperties>();
    fe::error_t e = c->properties->deserialize(std::vector<uint8_t>(json, json + bytes));
    snprintf(c->gpu, sizeof c->gpu, "a described sm_%d", sm);
    if (e.is_good()) return c;
    snprintf(why, why_size, "cuDNN does not take the device description: %.300s", e.get_message().c_str());
    delete c;
    return NULL;
}

extern "C" void ahead_cudnn_destroy(AheadCudnn* c) {
    if (c->handle) cudnnDestroy(c->handle);
    delete c;
}

extern "C" int ahead_cudnn_plan(AheadCudnn* c, int dtype, int backward, int B, int T, int NH, int NKV, int D,
                                size_t* workspace_bytes, char* why, size_t why_size) {
    Key key = {backward ? 1 : 0, dtype, B, T, NH, NKV, D};
    Plan* plan = find(c, &key);
    bool made = !plan;
    if (made) {
        if (c->count == MAX_PLANS) return explain(why, why_size, c, &key, "too many shapes are in use"), -1;
        auto graph = describe(c, &key);
        fe::error_t e = build(c, graph.get());
        if (e.is_bad()) return explain(why, why_size, c, &key, e.get_message()), -1;
        plan = &c->plans[c->count++];
        plan->key = key;
        plan->graph = graph;
        for (int name : {Q, K, V, OUT, LSE}) plan->pointers[name] = NULL;
        if (backward)
            for (int name : {DOUT, DQ, DK, DV}) plan->pointers[name] = NULL;
    }
    int64_t bytes = 0;
    fe::error_t e = plan->graph->get_workspace_size(bytes);
    if (e.is_bad()) return explain(why, why_size, c, &key, e.get_message()), -1;
    *workspace_bytes = (size_t)bytes;
    return made;
}

extern "C" void ahead_cudnn_plan_name(AheadCudnn* c, int dtype, int backward, int B, int T, int NH, int NKV, int D, char* name,
                                      size_t name_size) {
    Key key = {backward ? 1 : 0, dtype, B, T, NH, NKV, D};
    Plan* plan = find(c, &key);
    std::string found;
    if (plan && plan->graph->get_plan_name(found).is_bad()) found = "";
    snprintf(name, name_size, "%s", found.c_str());
}

// Fills in what both directions share and runs the plan.
static int run(AheadCudnn* c, Plan* plan, const void* qkv, const void* out, const float* lse, void* workspace, void* stream,
               char* why, size_t why_size) {
    const Key* k = &plan->key;
    char* at = (char*)qkv;
    size_t head = (size_t)k->D * 2;
    plan->pointers[Q] = at;
    plan->pointers[K] = at + head * k->NH;
    plan->pointers[V] = at + head * (k->NH + k->NKV);
    plan->pointers[OUT] = (void*)out;
    plan->pointers[LSE] = (void*)lse;
    cudnnStatus_t status = cudnnSetStream(c->handle, (cudaStream_t)stream);
    if (status != CUDNN_STATUS_SUCCESS) return explain(why, why_size, c, k, cudnnGetErrorString(status)), -1;
    fe::error_t e = plan->graph->execute(c->handle, plan->pointers, workspace);
    if (e.is_bad()) return explain(why, why_size, c, k, "it failed to run: " + e.get_message()), -1;
    return 1;
}

extern "C" int ahead_cudnn_forward(AheadCudnn* c, int dtype, void* out, float* lse, const void* qkv, int B, int T, int NH,
                                   int NKV, int D, void* workspace, void* stream, char* why, size_t why_size) {
    Key key = {0, dtype, B, T, NH, NKV, D};
    Plan* plan = find(c, &key);
    if (!plan) return 0;
    return run(c, plan, qkv, out, lse, workspace, stream, why, why_size);
}

extern "C" int ahead_cudnn_backward(AheadCudnn* c, int dtype, void* dqkv, const void* dout, const void* out, const float* lse,
                                    const void* qkv, int B, int T, int NH, int NKV, int D, void* workspace, void* stream,
                                    char* why, size_t why_size) {
    Key key = {1, dtype, B, T, NH, NKV, D};
    Plan* plan = find(c, &key);
    if (!plan) return 0;
    size_t head = (size_t)D * 2;
    plan->pointers[DOUT] = (void*)dout;
    plan->pointers[DQ] = dqkv;
    plan->pointers[DK] = (char*)dqkv + head * NH;
    plan->pointers[DV] = (char*)dqkv + head * (NH + NKV);
    return run(c, plan, qkv, out, lse, workspace, stream, why, why_size);
}
