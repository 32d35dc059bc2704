#include <string.h>

#include "dataplane/items.h"
#include "dataplane/responses.h"

/* Items of the request that are stored already, named by their ids: the turn that an item is of
 * follows from its id, so each costs one call. They become items of this turn, with ids of their own. */

static cn_code not_found(const char *id, cn_err *err)
{
    return cn_err_set_param(err, CN_E_ABSENT, "input", "Item with id '%.64s' not found. Items are not "
                            "persisted when `store` is set to false.", id);
}

static const cn_bytes *find(const cn_turn *turn, const char *id)
{
    for (uint32_t i = 0; i < turn->input_count + turn->output_count; i++) {
        const cn_bytes *item = i < turn->input_count ? &turn->input[i]
                                                     : &turn->output[i - turn->input_count];
        const cn_bytes own = cn_items_id_of(*item);
        if (own.len == strlen(id) && memcmp(own.data, id, own.len) == 0) return item;
    }
    return NULL;
}

static cn_code resolved(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    cn_responses_turn *turn = answer->turn;
    uint32_t index;
    const char *id;
    cn_items_find_reference(turn->items, &index, &id);
    if (call->err.code == CN_E_NOT_FOUND) return not_found(id, err);
    if (call->err.code != CN_OK) return cn_ask_error(call, "Item", id, err);
    const cn_bytes *item = find(&call->turn, id);
    if (!item) return not_found(id, err);
    const cn_code code = cn_items_put(turn->items, index, *item, turn->id.text, err);
    return code == CN_OK ? cn_responses_references_resolve(answer, turn->resolved, err) : code;
}

cn_code cn_responses_references_resolve(cn_answer *answer, cn_responses_step then, cn_err *err)
{
    cn_session_id turn_id;
    uint32_t index;
    const char *id;
    if (!cn_items_find_reference(answer->turn->items, &index, &id)) return then(answer, err);
    if (!cn_items_turn_of(id, &turn_id)) return not_found(id, err);
    answer->turn->resolved = then;
    return cn_ask_id(answer, CN_SESSION_TURN, &turn_id, resolved, err);
}
