/* base/random.h: randomness, as an interface, so that a whole appliance can be replayed from a seed.
 * Nothing else in Cairn asks the system for random bytes.
 *
 * Threads: the system's from any thread; a seeded one from one thread.
 * Memory:  a cn_random is a plain value; a seeded one points to its state, memory of the caller. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct cn_random {
    void (*fill)(void *self, void *out, size_t len);
    void *self;
} cn_random;

static inline void cn_random_fill(const cn_random *random, void *out, size_t len)
{
    random->fill(random->self, out, len);
}

static inline uint64_t cn_random_u64(const cn_random *random)
{
    uint64_t value;
    cn_random_fill(random, &value, sizeof value);
    return value;
}

/* getrandom(2); cannot fail once the system has started. */
cn_random cn_random_system(void);

/* SplitMix64 (Steele, Lea, Flood 2014) from *state: for tests, never for secrets. */
cn_random cn_random_seeded(uint64_t *state);
