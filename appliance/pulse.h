/* appliance/pulse.h: whether the threads of the server go on.
 * A thread beats once per round of its loop. Whoever checks wakes each of them, so that one that only
 * sleeps beats as well, and one that does not is stuck: in a lock, in a system call, in an endless loop.
 * What has no thread of its own (the device) beats when its figure of work done moves, or has no work.
 *
 * Threads: beat on the thread that it is about; everything else on one other thread.
 * Memory:  plain memory of the caller. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/wake.h"

typedef struct cn_pulse {
    const char *name;
    cn_wake *wake;                       // NULL: there is nothing to wake
    _Atomic uint64_t rounds;             // relaxed: a figure that orders nothing
    uint64_t seen, advanced_ns;          // of the one who checks
} cn_pulse;

static inline void cn_pulse_beat(cn_pulse *pulse)
{
    atomic_fetch_add_explicit(&pulse->rounds, 1, memory_order_relaxed);
}

/* Looks who has beaten since the last check, and wakes them all for the next. A thread that was about
 * to sleep may miss one waking: two checks tell the truth, one does not. */
void cn_pulse_check(cn_pulse *const *pulses, uint32_t count, uint64_t now_ns);

/* The one that has been still for longest, if longer than `limit_ns`; NULL: all go on. */
const char *cn_pulse_stalled(cn_pulse *const *pulses, uint32_t count, uint64_t now_ns,
                             uint64_t limit_ns);

/* Whether all have beaten after `since_ns`. */
bool cn_pulse_all_since(cn_pulse *const *pulses, uint32_t count, uint64_t since_ns);
