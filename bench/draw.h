/* bench/draw.h: numbers drawn from distributions, and how a person writes a distribution.
 * A draw is a function of the random source alone, so a seed repeats a whole workload.
 *
 * Threads: any; the random source belongs to one thread.
 * Memory:  plain values. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/random.h"

typedef enum cn_draw_kind {
    CN_DRAW_FIXED,               // a
    CN_DRAW_UNIFORM,             // a to b
    CN_DRAW_NORMAL,              // mean a, standard deviation b
    CN_DRAW_LOGNORMAL,           // median a, 90th percentile b
    CN_DRAW_EXPONENTIAL          // mean a
} cn_draw_kind;

typedef struct cn_draw {
    cn_draw_kind kind;
    double a, b;
} cn_draw;

/* Reads `128`, `uniform:64:256`, `normal:128:32`, `lognormal:1020:4000` (median and 90th
 * percentile, as traces are described) or `exponential:10`; `what` names the setting in the error.
 * Errors: CN_E_INVALID. */
cn_code cn_draw_parse(const char *text, const char *what, cn_draw *out, cn_err *err);

/* One value, never negative. */
double cn_draw_take(const cn_draw *draw, const cn_random *random);
/* As above, rounded and moved into min to max. */
uint32_t cn_draw_take_count(const cn_draw *draw, const cn_random *random, uint32_t min,
                            uint32_t max);

/* The pieces: uniform in (0, 1); exponential with mean 1; normal with mean 0 and deviation 1; gamma
 * with this shape and scale 1 (mean `shape`). */
double cn_draw_uniform(const cn_random *random);
double cn_draw_exponential(const cn_random *random);
double cn_draw_normal(const cn_random *random);
double cn_draw_gamma(double shape, const cn_random *random);
