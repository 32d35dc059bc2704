/* bench/capacity.h: where a service level breaks: the search for the highest load that a server
 * bears. The search is a state machine without clock or sockets: it says which rate to try next and
 * is told how that went.
 *
 * Threads: any, nothing is kept.
 * Memory:  plain values of the caller. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bench/figures.h"

typedef enum cn_capacity_state {
    CN_CAPACITY_GROWING,         // doubling from the lowest rate; nothing has failed yet
    CN_CAPACITY_BISECTING,
    CN_CAPACITY_FOUND,           // the knee lies between good and bad
    CN_CAPACITY_BELOW,           // even the lowest rate failed
    CN_CAPACITY_ABOVE            // even the highest rate passed
} cn_capacity_state;

typedef struct cn_capacity {
    cn_capacity_state state;
    double good_per_s, bad_per_s;        // highest rate that passed, lowest that failed; 0: none
    double next_per_s;                   // to try, while growing or bisecting
    double min_per_s, max_per_s, precision;
} cn_capacity;

/* A search from `start_per_s`, which lies in min to max. It is over when bad <= good * (1 +
 * precision). */
void cn_capacity_init(cn_capacity *search, double min_per_s, double max_per_s, double start_per_s,
                      double precision);
bool cn_capacity_is_over(const cn_capacity *search);
void cn_capacity_note(cn_capacity *search, bool passed);

/* The mean of repeated searches and half the width of its 95 % confidence interval (Student's t);
 * the latter is 0 for a single one. */
typedef struct cn_capacity_estimate {
    double mean_per_s, margin_per_s;
} cn_capacity_estimate;
cn_capacity_estimate cn_capacity_estimate_of(const double *knees, uint32_t count);

/* Whether a server falls behind: over the second half of the samples, the number of requests under
 * way grows for certain (the slope's 95 % confidence interval is above 0), and by more than half of
 * its own mean. Needs 20 samples. */
bool cn_capacity_falls_behind(const double *in_flight, uint32_t count);
