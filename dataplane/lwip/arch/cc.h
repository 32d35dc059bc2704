/* dataplane/lwip/arch/cc.h: what lwIP asks of its platform.
 *
 * Threads: those of lwIP: one, the net thread.
 * Memory:  lwIP's, from dataplane/lwip_pool.h. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

// Only guards against mistakes of lwIP's own and ours: what comes from the wire is checked before.
#define LWIP_PLATFORM_ASSERT(text) cn_assert_fail(text, __FILE__, __LINE__)
#define LWIP_PLATFORM_DIAG(text)                                                                   \
    do {                                                                                           \
    } while (0)

uint32_t cn_stack_random(void);
#define LWIP_RAND cn_stack_random

uint16_t cn_inet_sum_fold(const void *data, int len);

void *cn_lwip_pool_take(size_t bytes);
void *cn_lwip_pool_take_zeroed(size_t count, size_t bytes);
void cn_lwip_pool_put(void *block);
