/*
The mixer seam: what moves information between positions. A mixer is three functions; a new one is a file, an enum value in
config.h and one case in each switch below.
*/
#pragma once

#include "mixer_attention.cuh"

UNUSED static void mixer_params(Model* m, int l) {
    switch (m->config.mixer) {
        case MIXER_ATTENTION: attention_mixer_params(m, l); break;
    }
}

// x (N,C) += mixer(y1) of layer l
UNUSED static void mixer_forward(Model* m, int l, int B, int T) {
    switch (m->config.mixer) {
        case MIXER_ATTENTION: attention_mixer_forward(m, l, B, T); break;
    }
}

// From dres: the mixer's parameter gradients, and dn = gradient of y1.
UNUSED static void mixer_backward(Model* m, int l, const Micro* micro) {
    switch (m->config.mixer) {
        case MIXER_ATTENTION: attention_mixer_backward(m, l, micro); break;
    }
}
