#include "base/map.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* How it works. An entry sits at its hash or behind it, with no hole between: a lookup walks until it
 * meets its key or a hole. Deleting would leave a hole that cuts such a walk short, so it moves later
 * entries of the walk back instead of leaving a tombstone (Knuth, vol. 3, 6.4, algorithm R). */

typedef struct entry {
    const void *key;         // NULL: hole
    uint32_t key_len;
    uint32_t hash;
    uint64_t value;
} entry;

struct cn_map {
    entry *entries;
    uint32_t mask;           // capacity - 1
    uint32_t count;
    uint64_t seed;
};

static uint32_t capacity_for(uint32_t entries)
{
    uint64_t capacity = 16;
    while (capacity * 7 / 8 < (uint64_t)entries + 1) capacity *= 2;
    return (uint32_t)capacity;
}

cn_code cn_map_open(uint32_t entries_hint, uint64_t seed, cn_map **out)
{
    *out = NULL;
    if (entries_hint > UINT32_MAX / 4) return CN_E_MEMORY;
    cn_map *map = malloc(sizeof *map);
    if (!map) return CN_E_MEMORY;
    const uint32_t capacity = capacity_for(entries_hint);
    *map = (cn_map){.entries = calloc(capacity, sizeof(entry)), .mask = capacity - 1, .seed = seed};
    if (!map->entries) {
        free(map);
        return CN_E_MEMORY;
    }
    *out = map;
    return CN_OK;
}

void cn_map_close(cn_map *map)
{
    if (!map) return;
    free(map->entries);
    free(map);
}

// The entry that holds the key, or the hole where it would go.
static entry *seek(const cn_map *map, const void *key, uint32_t key_len, uint32_t hash)
{
    for (uint32_t at = hash & map->mask;; at = (at + 1) & map->mask) {
        entry *e = &map->entries[at];
        if (!e->key) return e;
        if (e->hash == hash && e->key_len == key_len && memcmp(e->key, key, key_len) == 0) return e;
    }
}

static uint32_t hash_of(const cn_map *map, const void *key, uint32_t key_len)
{
    return (uint32_t)XXH3_64bits_withSeed(key, key_len, map->seed);
}

static cn_code grow(cn_map *map)
{
    const uint32_t old_mask = map->mask;
    entry *old = map->entries;
    if (old_mask > UINT32_MAX / 4) return CN_E_MEMORY;
    entry *fresh = calloc((size_t)(old_mask + 1) * 2, sizeof(entry));
    if (!fresh) return CN_E_MEMORY;
    map->entries = fresh;
    map->mask = old_mask * 2 + 1;
    for (uint32_t i = 0; i <= old_mask; i++) {
        if (old[i].key) *seek(map, old[i].key, old[i].key_len, old[i].hash) = old[i];
    }
    free(old);
    return CN_OK;
}

cn_code cn_map_put(cn_map *map, const void *key, uint32_t key_len, uint64_t value)
{
    const uint32_t hash = hash_of(map, key, key_len);
    entry *e = seek(map, key, key_len, hash);
    if (!e->key) {
        if ((uint64_t)(map->count + 1) * 8 > ((uint64_t)map->mask + 1) * 7) {
            if (grow(map) != CN_OK) return CN_E_MEMORY;
            e = seek(map, key, key_len, hash);
        }
        map->count++;
    }
    *e = (entry){key, key_len, hash, value};
    return CN_OK;
}

bool cn_map_find(const cn_map *map, const void *key, uint32_t key_len, uint64_t *value)
{
    const entry *e = seek(map, key, key_len, hash_of(map, key, key_len));
    if (!e->key) return false;
    *value = e->value;
    return true;
}

bool cn_map_del(cn_map *map, const void *key, uint32_t key_len)
{
    entry *e = seek(map, key, key_len, hash_of(map, key, key_len));
    if (!e->key) return false;
    uint32_t hole = (uint32_t)(e - map->entries);
    for (uint32_t at = (hole + 1) & map->mask; map->entries[at].key; at = (at + 1) & map->mask) {
        const uint32_t home = map->entries[at].hash & map->mask;
        // An entry may move back only if its home is not between the hole and itself.
        if (((at - home) & map->mask) >= ((at - hole) & map->mask)) {
            map->entries[hole] = map->entries[at];
            hole = at;
        }
    }
    map->entries[hole].key = NULL;
    map->count--;
    return true;
}

uint32_t cn_map_count(const cn_map *map) { return map->count; }
