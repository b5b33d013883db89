/*
Heads of their own for the tokens 2 .. K ahead, and the consistency loss between one of them and the next token's head: what the
flags ask for. ahead_heads.cuh has the network, mtp.h the weights c_k.

    loss = c_1 CE(z_1, next token) + sum over k of c_k CE(z_k, token k ahead) + mu mean KL(q, s)
           q = softmax(z_1 / temp) at t + k - 1, s = softmax(z_k / temp) at t, k = --consist_k: one token, seen from two places

Unlike targets on shared logits, this leaves the best distribution of the next token what it is: no weight has to be let down at
the end. With shared logits the consistency loss would draw the prediction at t + k - 1 to the one at t, which knows k - 1 tokens
less: refused.
*/
#pragma once

#include "aux_weight.h"
#include "config.h"
#include "mtp.h"

#define MTP_HEADS_CHOICES "shared|linear|proj"  // in the order of AheadKind

typedef struct {
    AheadConfig config;
    AuxWeight consistency;
} Ahead;

// A contradiction ends the program with exit code 2.
UNUSED static Ahead ahead_from_flags(const FlagTable* flags, const Mtp* mtp, int64_t num_iterations) {
    Ahead a;
    memset(&a, 0, sizeof(a));
    double mu = *(const double*)flag_field(flags, "consist_weight");
    int k = *(const int*)flag_field(flags, "consist_k");
    aux_check_idle(flags, "consist_", mu != 0, "--consist_weight MU");
    a.consistency = aux_weight_from_flags(flags, "consist", mu, num_iterations);
    a.config.kind = mtp->K > 1 ? (AheadKind)flag_choice(flags, "mtp_heads") : AHEAD_SHARED;
    a.config.K = mtp->K;
    if (mu == 0) return a;
    if (a.config.kind == AHEAD_SHARED) {
        usage_error(
            "--consist_weight %g needs heads of their own: shared logits degenerate to drawing each prediction to an earlier one "
            "that "
            "knows less; add --mtp_enabled --mtp_heads linear, or proj",
            mu);
    }
    if (k > mtp->K) {
        usage_error("--consist_k %d is beyond the heads of --mtp_max_steps %d; use --consist_k %d or --mtp_max_steps %d", k,
                    mtp->K, mtp->K, k);
    }
    a.config.consist_k = k;
    a.config.consist_temp = (float)*(const double*)flag_field(flags, "consist_temp");
    a.config.consist_teacher_grad = *(const bool*)flag_field(flags, "consist_teacher_grad");
    return a;
}
