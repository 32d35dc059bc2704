#include "appliance/pulse.h"

#include <stddef.h>

void cn_pulse_check(cn_pulse *const *pulses, uint32_t count, uint64_t now_ns)
{
    for (uint32_t i = 0; i < count; i++) {
        cn_pulse *p = pulses[i];
        const uint64_t rounds = atomic_load_explicit(&p->rounds, memory_order_relaxed);
        if (rounds != p->seen || p->advanced_ns == 0) p->advanced_ns = now_ns;
        p->seen = rounds;
        if (p->wake) cn_wake_signal(p->wake);
    }
}

const char *cn_pulse_stalled(cn_pulse *const *pulses, uint32_t count, uint64_t now_ns,
                             uint64_t limit_ns)
{
    const char *name = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t still_ns = now_ns - pulses[i]->advanced_ns;
        if (still_ns <= limit_ns) continue;
        limit_ns = still_ns;
        name = pulses[i]->name;
    }
    return name;
}

bool cn_pulse_all_since(cn_pulse *const *pulses, uint32_t count, uint64_t since_ns)
{
    for (uint32_t i = 0; i < count; i++) {
        if (pulses[i]->advanced_ns <= since_ns) return false;
    }
    return true;
}
