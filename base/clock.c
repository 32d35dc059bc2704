#include "base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t system_now(void *self)
{
    (void)self;
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t system_wall(void *self)
{
    (void)self;
    return read_clock(CLOCK_REALTIME);
}

cn_clock cn_clock_system(void) { return (cn_clock){system_now, system_wall, NULL}; }

static uint64_t simulated(void *self) { return *(uint64_t *)self; }

cn_clock cn_clock_simulated(uint64_t *now_ns) { return (cn_clock){simulated, simulated, now_ns}; }
