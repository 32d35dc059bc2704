/* tests/unit/test_rng.h: the random numbers of property tests: seeded, printed, repeatable.
 * CN_SEED=... repeats a run.
 *
 * Threads: one.
 * Memory:  plain memory of the test. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"

typedef struct test_rng {
    uint64_t state;
} test_rng;

static inline test_rng test_rng_open(const char *name)
{
    const char *given = getenv("CN_SEED");
    test_rng rng;
    if (given) rng.state = strtoull(given, NULL, 0);
    else {
        const cn_random system = cn_random_system();
        rng.state = cn_random_u64(&system);
    }
    printf("%s: CN_SEED=0x%llx\n", name, (unsigned long long)rng.state);
    return rng;
}

static inline uint64_t test_rng_u64(test_rng *rng)
{
    const cn_random seeded = cn_random_seeded(&rng->state);
    return cn_random_u64(&seeded);
}

static inline uint32_t test_rng_below(test_rng *rng, uint32_t limit)
{
    return (uint32_t)(test_rng_u64(rng) % limit);
}
