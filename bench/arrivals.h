/* bench/arrivals.h: when sessions arrive. All due times are drawn from a seed before a run starts,
 * so what a server does cannot change what it is asked: the load is open. The times are not
 * stretched to end at count / rate as some generators do: then they would no longer have the
 * distribution that they claim.
 *
 * Threads: any, nothing is kept.
 * Memory:  the caller's array. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/random.h"

typedef enum cn_arrivals_kind {
    CN_ARRIVALS_POISSON,         // independent arrivals
    CN_ARRIVALS_GAMMA,           // gaps with a gamma distribution; shape below 1 is burstier
    CN_ARRIVALS_CONSTANT,        // equal gaps
    CN_ARRIVALS_ON_OFF,          // Poisson in phases of on and off that are exponentially long
    CN_ARRIVALS_RAMP,            // Poisson with a rate that moves linearly from rate to rate_end
    CN_ARRIVALS_RAMP_EXPONENTIAL // the same, by equal factors in equal times
} cn_arrivals_kind;

typedef struct cn_arrivals {
    cn_arrivals_kind kind;
    double rate_per_s;           // above 0; of on/off, the mean over both phases
    double rate_end_per_s;       // ramps
    double shape;                // gamma
    double on_s, off_s;          // mean length of a phase
} cn_arrivals;

/* The kind with this name ("poisson", "gamma", "constant", "onoff", "ramp", "ramp-exponential").
 * Errors: CN_E_INVALID. */
cn_code cn_arrivals_parse(const char *name, cn_arrivals_kind *out, cn_err *err);
const char *cn_arrivals_name(cn_arrivals_kind kind);

/* Writes ascending due times, in nanoseconds from the start, below `duration_ns` and at most
 * `count_max`; returns how many. A ramp needs a duration; else UINT64_MAX means no end. */
uint32_t cn_arrivals_draw(const cn_arrivals *arrivals, const cn_random *random,
                          uint64_t duration_ns, uint32_t count_max, uint64_t *due_ns);
