/* dataplane/live.h: what is under way here: turns by id, and conversations that a request has locked.
 * An entry is made when its request is taken on and goes when its answer settles or dies, so no lock
 * outlives its holder.
 *
 * Threads: api only.
 * Memory:  an entry is in the request's arena; the map is sized by the number of answers. */
#pragma once

#include <stdbool.h>

#include "base/map.h"
#include "dataplane/answer.h"
#include "state/session.h"

typedef struct cn_live_entry {
    uint8_t key[CN_SESSION_TENANT_BYTES + CN_SESSION_ID_BYTES];
    bool is_in;
} cn_live_entry;

/* Enters `id` of the answer's tenant. False if it is there already, or without memory. */
bool cn_live_enter(cn_map *live, cn_live_entry *entry, const cn_session_id *id, cn_answer *answer);
/* Takes it out; nothing if it is not in. */
void cn_live_leave(cn_map *live, cn_live_entry *entry);
/* The answer that entered `id` of this tenant; NULL: none. */
cn_answer *cn_live_find(const cn_map *live, const uint8_t tenant[CN_SESSION_TENANT_BYTES],
                        const cn_session_id *id);
