#include "state/turn_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"

enum { SHARE_MAX = 16 }; // of the bytes, that one record may have: 1 / SHARE_MAX

typedef struct entry {
    struct entry *newer, *older;
    uint32_t key_len, record_len;
    char key[]; // with its 0; then the record
} entry;

struct cn_turn_cache {
    cn_map *by_key;
    entry *newest, *oldest;
    uint64_t bytes, bytes_max;
};

static uint64_t entry_bytes(uint32_t key_len, uint32_t record_len)
{
    return sizeof(entry) + key_len + 1u + (uint64_t)record_len;
}

static void unlink_entry(cn_turn_cache *cache, entry *e)
{
    *(e->newer ? &e->newer->older : &cache->newest) = e->older;
    *(e->older ? &e->older->newer : &cache->oldest) = e->newer;
}

static void link_newest(cn_turn_cache *cache, entry *e)
{
    e->newer = NULL;
    e->older = cache->newest;
    *(e->older ? &e->older->newer : &cache->oldest) = e;
    cache->newest = e;
}

static entry *entry_of(const cn_turn_cache *cache, const char *key)
{
    uint64_t at;
    const bool is_here = cn_map_find(cache->by_key, key, (uint32_t)strlen(key), &at);
    return is_here ? (entry *)(uintptr_t)at : NULL;
}

static void drop(cn_turn_cache *cache, entry *e)
{
    cn_map_del(cache->by_key, e->key, e->key_len);
    unlink_entry(cache, e);
    cache->bytes -= entry_bytes(e->key_len, e->record_len);
    free(e);
}

cn_code cn_turn_cache_open(uint64_t bytes_max, uint64_t seed, cn_turn_cache **out)
{
    *out = NULL;
    cn_turn_cache *cache = calloc(1, sizeof *cache);
    if (!cache) return CN_E_MEMORY;
    cache->bytes_max = bytes_max;
    const cn_code code = cn_map_open(0, seed, &cache->by_key);
    if (code == CN_OK) *out = cache;
    else free(cache);
    return code;
}

void cn_turn_cache_close(cn_turn_cache *cache)
{
    if (!cache) return;
    while (cache->oldest) drop(cache, cache->oldest);
    cn_map_close(cache->by_key);
    free(cache);
}

const void *cn_turn_cache_find(cn_turn_cache *cache, const char *key, uint32_t *len)
{
    entry *e = entry_of(cache, key);
    if (!e) return NULL;
    unlink_entry(cache, e);
    link_newest(cache, e);
    *len = e->record_len;
    return e->key + e->key_len + 1;
}

void cn_turn_cache_put(cn_turn_cache *cache, const char *key, const void *record, uint32_t len)
{
    const uint32_t key_len = (uint32_t)strlen(key);
    const uint64_t bytes = entry_bytes(key_len, len);
    cn_turn_cache_drop(cache, key);
    if (bytes > cache->bytes_max / SHARE_MAX) return;
    while (cache->bytes + bytes > cache->bytes_max) drop(cache, cache->oldest);
    entry *e = malloc(bytes);
    if (!e) return;
    e->key_len = key_len;
    e->record_len = len;
    memcpy(e->key, key, key_len + 1u);
    memcpy(e->key + key_len + 1, record, len);
    if (cn_map_put(cache->by_key, e->key, key_len, (uint64_t)(uintptr_t)e) != CN_OK) {
        free(e);
        return;
    }
    link_newest(cache, e);
    cache->bytes += bytes;
}

void cn_turn_cache_drop(cn_turn_cache *cache, const char *key)
{
    entry *e = entry_of(cache, key);
    if (e) drop(cache, e);
}

uint64_t cn_turn_cache_bytes(const cn_turn_cache *cache)
{
    return cache->bytes;
}
