/* state/tier_rate.h: how fast something is, measured while it works, and what follows for the choice
 * between restoring pages and computing them.
 *
 * Threads: one.
 * Memory:  plain memory of the caller; all zero is a good beginning. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Amounts (bytes, tokens) and the time in which at least one was under way; the past counts half with
 * every half second of work. */
typedef struct cn_tier_rate {
    double amount, busy_ns;
    uint64_t since_ns;           // what is under way is counted from here on
    uint32_t in_flight;
} cn_tier_rate;

/* Something of the kind is under way from now on, and is done. */
void cn_tier_rate_begin(cn_tier_rate *rate, uint64_t now_ns);
void cn_tier_rate_end(cn_tier_rate *rate, uint64_t amount, uint64_t now_ns);
/* It came to nothing: neither it nor the time since the last one that ended is counted. */
void cn_tier_rate_cancel(cn_tier_rate *rate, uint64_t now_ns);
/* As begin and end, where the time is known. */
void cn_tier_rate_add(cn_tier_rate *rate, uint64_t amount, uint64_t busy_ns);

/* Time that `amount` takes at this rate; 0 if nothing was measured yet. */
double cn_tier_rate_ns(const cn_tier_rate *rate, double amount);
double cn_tier_rate_per_s(const cn_tier_rate *rate);

typedef struct cn_tier_choice {
    bool computes;               // the last decision
    uint32_t passed;             // restores not tried since the last one
} cn_tier_choice;

/* Whether to restore what takes `restore_ns` or to compute it in `compute_ns`; 0 is not known, and then
 * restoring is how to find out. A decision is changed where it is wrong by a quarter, so that two
 * ways of nearly equal speed do not alternate; and one restore in 16 is tried although computing was
 * faster, or nobody would notice that the store is fast again. */
bool cn_tier_choice_restores(cn_tier_choice *choice, double restore_ns, double compute_ns);
