/*
Where a run spends its time: sections of the program, each opened and closed by two lines.

    Section outer = section_begin(SECTION_HEAD);
    ..
    section_end(outer);

At every moment one section is current: a section inside another takes its time out of the outer one, so that the sections add up
to the whole.

    OTHER | DATA | EMBED | MIXER | MLP | MIXER | MLP | HEAD | AUXILIARY | MLP_BACKWARD | .. | EMBED_BACKWARD | OPTIMIZER | OTHER
*/
#pragma once

#include "check.h"

typedef enum {
    SECTION_OTHER,  // logs, and what has no name below
    SECTION_DATA,   // waiting for the loader
    SECTION_EMBED,  // tokens to the residual stream; the last norm
    SECTION_MIXER,
    SECTION_MLP,
    SECTION_HEAD,       // logits, loss and their gradients, forward and backward in one
    SECTION_AUXILIARY,  // further heads of the objective
    SECTION_MLP_BACKWARD,
    SECTION_MIXER_BACKWARD,
    SECTION_EMBED_BACKWARD,
    SECTION_OPTIMIZER,
    SECTION_VALIDATION,  // from here on: whole, whatever is called inside
    SECTION_SAMPLE,
    SECTION_CHECKPOINT,
    SECTIONS
} Section;

static Section section_current;

// Opens s, inside what is open; hand what it returns to section_end.
UNUSED static inline Section section_begin(Section s) {
    Section outer = section_current;
    if (outer < SECTION_VALIDATION) section_current = s;
    return outer;
}
UNUSED static inline void section_end(Section outer) { section_current = outer; }
