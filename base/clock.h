/* base/clock.h: time, as an interface, so that a whole appliance can run under a simulated clock.
 * Nothing else in Cairn asks the system for the time.
 *
 * Threads: now and wall from any thread.
 * Memory:  a cn_clock is a plain value; a simulated one points to memory of the test. */
#pragma once

#include <stdint.h>

typedef struct cn_clock {
    uint64_t (*now_ns)(void *self);      // monotonic, for durations and deadlines
    uint64_t (*wall_ns)(void *self);     // since 1970 UTC, for what people read
    void *self;
} cn_clock;

static inline uint64_t cn_clock_now_ns(const cn_clock *clock) { return clock->now_ns(clock->self); }
static inline uint64_t cn_clock_wall_ns(const cn_clock *clock) { return clock->wall_ns(clock->self); }

/* The system's clocks (CLOCK_MONOTONIC, CLOCK_REALTIME). */
cn_clock cn_clock_system(void);

/* A clock that stands still until the test writes *now_ns; both times are that number. */
cn_clock cn_clock_simulated(uint64_t *now_ns);
