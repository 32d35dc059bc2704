/* state/redis_check_int.h: whether a server keeps what the configured durability promises.
 *
 * Threads: any, nothing is kept.
 * Memory:  replies are borrowed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <hiredis/hiredis.h>

#include "state/store.h"

/* Each reads one reply and says in `why` what is wrong; false if something is. */
bool cn_redis_check_role(const redisReply *role, char *why, size_t why_bytes);
/* Of CONFIG GET *append* */
bool cn_redis_check_appending(const redisReply *config, cn_durability wanted, char *why,
                              size_t why_bytes);
/* Of CONFIG GET maxmemory* */
bool cn_redis_check_memory(const redisReply *config, cn_durability wanted, char *why,
                           size_t why_bytes);
