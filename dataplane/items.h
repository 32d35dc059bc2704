/* dataplane/items.h: the items of turns: what a request says, checked and made into what is stored;
 * what is stored, made into the messages that a chat template takes.
 * A stored item is a JSON object that begins with its id. The id is made of its turn's, so it is as
 * hard to guess, and a request that is answered twice has the same ids twice.
 *
 * Threads: any, nothing is kept.
 * Memory:  trees are jansson's, the caller gives them back; texts are in the arena given. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"
#include "state/session.h"

enum { CN_ITEMS_ID_BYTES = 64 };

/* The id of item `index` of a turn; `prefix` says its kind ("msg_"). */
void cn_items_id(const char *prefix, const char *turn_id, uint32_t index,
                 char out[CN_ITEMS_ID_BYTES]);

/* `input` (a string, or a list of items) as a list of stored items. `param` is its name in errors. An
 * item_reference stays one, {"id", "type"}, until put takes its place. Errors: CN_E_INVALID, CN_E_UNSUPPORTED (kinds of items and content that Cairn does not serve),
 * CN_E_LIMIT (more than count_max, a limit of this name), CN_E_MEMORY. */
cn_code cn_items_read(const json_t *input, const char *param, const char *turn_id,
                      uint64_t count_max, const char *limit, json_t **out, cn_err *err);

/* The place of the first item_reference in `items`, and its id; false if there is none. */
bool cn_items_find_reference(const json_t *items, uint32_t *index, const char **id);
/* The id of the turn that item `id` is of; false if no item has such an id. */
bool cn_items_turn_of(const char *id, cn_session_id *out);
/* Puts a stored item at `index`, under an id of this turn. Errors: CN_E_CORRUPT, CN_E_MEMORY. */
cn_code cn_items_put(json_t *items, uint32_t index, cn_bytes item, const char *turn_id, cn_err *err);

/* Refuses a function_call_output in `items` without its function_call in `messages`, those of the
 * history (may be NULL), or before it in `items`. Errors: CN_E_INVALID. */
cn_code cn_items_check_calls(const json_t *messages, const json_t *items, cn_err *err);

/* Appends what `items` are to a chat template. Errors: CN_E_MEMORY. */
cn_code cn_items_add_messages(const json_t *items, json_t *messages, cn_err *err);
/* As above for one item as it is stored. Errors: CN_E_CORRUPT (not JSON), CN_E_MEMORY. */
cn_code cn_items_add_stored(cn_bytes item, json_t *messages, cn_err *err);

/* The texts of `items`, in the arena. Errors: CN_E_MEMORY. */
cn_code cn_items_dump(const json_t *items, cn_arena *arena, cn_bytes **out, uint32_t *count,
                      cn_err *err);

/* The id that a stored item begins with; {NULL, 0} if it has none. */
cn_bytes cn_items_id_of(cn_bytes item);
