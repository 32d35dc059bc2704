#include "base/random.h"

#include <string.h>
#include <sys/random.h>


static void system_fill(void *self, void *out, size_t len)
{
    (void)self;
    for (unsigned char *at = out; len > 0;) {
        const ssize_t got = getrandom(at, len, 0);
        if (got < 0) continue;       // EINTR: the only error that valid arguments can meet
        at += got;
        len -= (size_t)got;
    }
}

cn_random cn_random_system(void) { return (cn_random){system_fill, NULL}; }

static void seeded_fill(void *self, void *out, size_t len)
{
    uint64_t *state = self;
    for (unsigned char *at = out; len > 0;) {
        uint64_t z = *state += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        const size_t n = len < sizeof z ? len : sizeof z;
        memcpy(at, &z, n);
        at += n;
        len -= n;
    }
}

cn_random cn_random_seeded(uint64_t *state) { return (cn_random){seeded_fill, state}; }
