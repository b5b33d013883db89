/*
What every execution of attention agrees on: the sizes, and where a head lies in the packed row.

    qkv row of one token     | q: NH heads of D | k: NKV heads of D | v: NKV heads of D |     (3,NH,D) when NKV = NH
    out row of one token     | NH heads of D |
    lse, delta               (B,NH,T) fp32

Query head h reads key and value head h / (NH / NKV). Callers use NKV = NH; the kernels already loop over the query heads of a
group, so grouped queries need a wider entry point and nothing below it.
*/
#pragma once

#include "../base/precision.cuh"

#include <math.h>

typedef struct {
    int B, T;     // sequences, tokens per sequence
    int NH, NKV;  // query heads, key and value heads: NH is a multiple of NKV
    int D;        // head size in elements
} AttentionShape;

// Elements from one token to the next in qkv and in out.
DEVICE size_t attention_qkv_row(AttentionShape s) { return (size_t)(s.NH + 2 * s.NKV) * (size_t)s.D; }
DEVICE size_t attention_out_row(AttentionShape s) { return (size_t)s.NH * (size_t)s.D; }

// Element at which query head h, or key head g, or value head g starts inside a qkv row.
DEVICE size_t attention_q_at(AttentionShape s, int h) { return (size_t)h * (size_t)s.D; }
DEVICE size_t attention_k_at(AttentionShape s, int g) { return (size_t)(s.NH + g) * (size_t)s.D; }
DEVICE size_t attention_v_at(AttentionShape s, int g) { return (size_t)(s.NH + s.NKV + g) * (size_t)s.D; }

DEVICE float attention_scale(AttentionShape s) { return 1.0f / sqrtf((float)s.D); }

// Checks what the user can get wrong. max_head: largest head size this execution takes, 0 for no limit.
static inline UNUSED void attention_check_shape(AttentionShape s, int max_head) {
    if (s.B < 1 || s.T < 1 || s.NH < 1 || s.NKV < 1)
        fail("attention: batch %d, length %d, heads %d (%d for keys) must all be at least 1", s.B, s.T, s.NH, s.NKV);
    if (s.NH % s.NKV) fail("attention: %d heads cannot share %d key heads evenly; use a divisor of %d", s.NH, s.NKV, s.NH);
    if (s.D < 8 || s.D % 8)
        fail("attention: head size %d (width / heads) must be a multiple of 8; change the width or the number of heads", s.D);
    if (max_head && s.D > max_head)
        fail("attention: head size %d (width / heads) is above %d, the most a GPU takes; use more heads", s.D, max_head);
}
