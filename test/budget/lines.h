/*
What each kernel of a micro-step may cost, by trunk: launches, and bytes per row in units of C (bf16: a tensor of C columns that
is read or written once is 2). Positions, distinct ids, partial sums and tables are counted apart (run.h).
*/
#pragma once

typedef struct {
    const char* kernel;              // name begins so
    int per_layer, once, per_chunk;  // launches
    double layer, ends;              // bytes per row / C: of each layer, and outside the layers
    double plan_layer, plan_ends;
    const char* why;  // ours is more
} Line;

// clang-format off
static const Line LINES_NOCAP[] = {
    {"norm_forward_kernel",       2, 1, 0, 12, 6 + 2, 12, 6 + 2, ""},
    {"rope_kernel",               2, 0, 0, 16,     0, 16,     0, ""},
    {"attention_forward_kernel",  1, 0, 0,  0,     0,  0,     0, ""},
    {"gelu_forward_kernel",       1, 0, 0, 16,     0, 16,     0, ""},
    {"classifier_kernel",         0, 0, 1,  0,     0,  0,     0, ""},
    {"gelu_backward_kernel",      1, 0, 0, 24,     0, 24,     0, ""},
    {"norm_backward_kernel",      2, 1, 0, 16,     6, 16,     6, ""},
    {"attention_delta_kernel",    1, 0, 0,  0,     0,  0,     0, ""},
    {"attention_dkdv_kernel",     1, 0, 0,  0,     0,  0,     0, ""},
    {"attention_dq_kernel",       1, 0, 0,  0,     0,  0,     0, ""},
    {"embedding_backward_kernel", 0, 1, 0,  0,     2,  0,     2, ""},
    {NULL, 0, 0, 0, 0, 0, 0, 0, ""},
};
static const Line LINES_GPT2[] = {
    {"norm_forward_kernel",       2, 1, 0, 16, 8 + 4, 16, 8 + 4, ""},
    {"attention_forward_kernel",  1, 0, 0,  0,     0,  0,     0, ""},
    {"gelu_forward_kernel",       1, 0, 0, 16,     0, 16,     0, ""},
    {"classifier_kernel",         0, 0, 1,  0,     0,  0,     0, ""},
    {"gelu_backward_kernel",      1, 0, 0, 24,     0, 24,     0, ""},
    {"norm_backward_kernel",      2, 1, 0, 16,     6, 16,     6, ""},
    {"column_sum_kernel",         4, 0, 0, 18,     0,  6,     0, "bias gradients of proj, fc and attn.proj are passes of their own"},
    {"column_reduce_kernel",      8, 2, 0,  0,     0,  0,     0, ""},
    {"attention_delta_kernel",    1, 0, 0,  0,     0,  0,     0, ""},
    {"attention_dkdv_kernel",     1, 0, 0,  0,     0,  0,     0, ""},
    {"attention_dq_kernel",       1, 0, 0,  0,     0,  0,     0, ""},
    {"embedding_backward_kernel", 0, 1, 0,  0,     2,  0,     2, ""},
    {"position_backward_kernel",  0, 1, 0,  0,     2,  0,     2, ""},
    {NULL, 0, 0, 0, 0, 0, 0, 0, ""},
};
// clang-format on
static const Line* lines_of(const char* arch) { return !strcmp(arch, "nocap") ? LINES_NOCAP : LINES_GPT2; }
