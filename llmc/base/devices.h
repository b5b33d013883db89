/*
What devices can do, as their makers publish it, and how much of that a training step is assumed to reach: the one table behind
the times of a dry run (model/plan_print.cuh).

    rates    dense products with fp32 sums, no sparsity: 16-bit (bf16 and fp16), TF32, and fp32 without tensor cores
    shares   h100: MEASURED with this program, 12 layers x 768 at 16 x 1024 tokens, --deterministic 0 (dev/LOG.md).
             The others: ASSUMED, chosen so that the same arithmetic gives the published speeds of other trainers of GPT-2 124M on
             that card. An H100 is far from its peak because matrices 768 wide are small for it.
*/
#pragma once

#include "check.h"

typedef struct {
    const char *name, *title;
    int sm_major;
    double memory_gib;                           // 0: what the machine says is free
    double gb_per_s;                             // 1e9 bytes
    double tflops_16, tflops_tf32, tflops_fp32;  // 1e12
    double products, attention, bandwidth;       // shares of the above that are reached
    bool measured;                               // .. by this program
    const char* source;
} DeviceRates;

#define GPU_CHOICES "auto|rtx4090|rtx3090|a100|h100|cpu"

// clang-format off
static const DeviceRates DEVICE_RATES[] = {
    {"rtx4090", "GeForce RTX 4090",     8, 24, 1008, 165.2,  82.6, 82.6, 0.90, 0.59, 0.92, false, "NVIDIA Ada GPU Architecture whitepaper, appendix A"},
    {"rtx3090", "GeForce RTX 3090",     8, 24,  936,  71.0,  35.6, 35.6, 0.88, 0.59, 0.92, false, "NVIDIA Ampere GA102 GPU Architecture whitepaper, appendix A"},
    {"a100",    "A100 80GB SXM",        8, 80, 2039, 312.0, 156.0, 19.5, 0.68, 0.48, 0.88, false, "NVIDIA A100 Tensor Core GPU datasheet"},
    {"h100",    "H100 80GB SXM",        9, 80, 3350, 989.4, 494.7, 66.9, 0.66, 0.20, 0.78, true,  "NVIDIA H100 Tensor Core GPU datasheet and Hopper whitepaper"},
};
// clang-format on
enum { DEVICE_RATES_COUNT = sizeof(DEVICE_RATES) / sizeof(DEVICE_RATES[0]) };

// Memory that is not the program's own: the CUDA context, its kernels, what a screen uses, holes.
#define DEVICE_RESERVED_GIB 1.0

// The row called name, NULL when there is none ("auto", "cpu").
UNUSED static const DeviceRates* device_rates(const char* name) {
    for (int i = 0; i < DEVICE_RATES_COUNT; i++) {
        if (!strcmp(DEVICE_RATES[i].name, name)) return &DEVICE_RATES[i];
    }
    return NULL;
}
