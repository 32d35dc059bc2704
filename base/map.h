/* base/map.h: byte-string keys to 64-bit values, by open addressing with linear probing.
 * Keys are borrowed: they must stay where they are while they are in the map (in an arena, in a page
 * slot), so an entry costs 24 bytes whatever its key.
 *
 * Threads: one writer; lookups from any thread while nobody writes.
 * Memory:  one table, doubled at 7/8 full; open with the final count and it never grows. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct cn_map cn_map;

/* Opens a map with room for `entries_hint` entries. `seed` perturbs the hash: give one that clients
 * cannot guess where they choose the keys. Errors: CN_E_MEMORY. */
cn_code cn_map_open(uint32_t entries_hint, uint64_t seed, cn_map **out);
void cn_map_close(cn_map *map);

/* Adds or replaces; on replacement the new key pointer is kept. Errors: CN_E_MEMORY. */
cn_code cn_map_put(cn_map *map, const void *key, uint32_t key_len, uint64_t value);

/* True and *value if the key is there. */
bool cn_map_find(const cn_map *map, const void *key, uint32_t key_len, uint64_t *value);

/* Removes; false if the key was not there. */
bool cn_map_del(cn_map *map, const void *key, uint32_t key_len);

uint32_t cn_map_count(const cn_map *map);
