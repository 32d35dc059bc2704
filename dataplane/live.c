#include "dataplane/live.h"

#include <string.h>

static void make_key(const uint8_t tenant[CN_SESSION_TENANT_BYTES], const cn_session_id *id,
                     uint8_t key[CN_SESSION_TENANT_BYTES + CN_SESSION_ID_BYTES])
{
    memset(key, 0, CN_SESSION_TENANT_BYTES + CN_SESSION_ID_BYTES);
    memcpy(key, tenant, CN_SESSION_TENANT_BYTES);
    memcpy(key + CN_SESSION_TENANT_BYTES, id->text, strlen(id->text));
}

bool cn_live_enter(cn_map *live, cn_live_entry *entry, const cn_session_id *id, cn_answer *answer)
{
    uint64_t value;
    make_key(answer->tenant, id, entry->key);
    if (cn_map_find(live, entry->key, sizeof entry->key, &value)) return false;
    entry->is_in =
        cn_map_put(live, entry->key, sizeof entry->key, (uint64_t)(uintptr_t)answer) == CN_OK;
    return entry->is_in;
}

void cn_live_leave(cn_map *live, cn_live_entry *entry)
{
    if (entry->is_in) cn_map_del(live, entry->key, sizeof entry->key);
    entry->is_in = false;
}

cn_answer *cn_live_find(const cn_map *live, const uint8_t tenant[CN_SESSION_TENANT_BYTES],
                        const cn_session_id *id)
{
    uint8_t key[CN_SESSION_TENANT_BYTES + CN_SESSION_ID_BYTES];
    uint64_t value;
    make_key(tenant, id, key);
    return cn_map_find(live, key, sizeof key, &value) ? (cn_answer *)(uintptr_t)value : NULL;
}
