/* state/turn_cache.h: records of turns that were read or written lately, so that the next turn of a
 * long conversation does not read all of it from the store again.
 * Turns do not change, so what is here is right, with one exception: a turn that was deleted on
 * another appliance is here as it was. Who must know (is it fit as a parent?) asks the store.
 *
 * Threads: one.
 * Memory:  at most `bytes_max`, whatever the number of conversations; the record that was used
 *          longest ago goes first. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct cn_turn_cache cn_turn_cache;

/* `seed` perturbs the index. Errors: CN_E_MEMORY. */
cn_code cn_turn_cache_open(uint64_t bytes_max, uint64_t seed, cn_turn_cache **out);
void cn_turn_cache_close(cn_turn_cache *cache);

/* The record under a key of the store, borrowed until the next put or drop; NULL: it is not here. */
const void *cn_turn_cache_find(cn_turn_cache *cache, const char *key, uint32_t *len);
/* Keeps a copy. One that is larger than a 16th of everything is not kept, nor one for which there is
 * no memory. */
void cn_turn_cache_put(cn_turn_cache *cache, const char *key, const void *record, uint32_t len);
void cn_turn_cache_drop(cn_turn_cache *cache, const char *key);

/* Bytes held. */
uint64_t cn_turn_cache_bytes(const cn_turn_cache *cache);
