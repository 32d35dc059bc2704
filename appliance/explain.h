/* appliance/explain.h: `cairn explain CODE`: what an error means, what to do, and an example.
 *
 * Threads: main only.
 * Memory:  none of its own. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

typedef struct cn_explanation {
    const char *when, *cure, *example;
} cn_explanation;

/* NULL: nothing is written about it. */
const cn_explanation *cn_explain_find(cn_code code);

int cn_explain_run(int argc, char **argv);
