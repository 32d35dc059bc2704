#include <string.h>

#include "dataplane/api_int.h"
#include "dataplane/conversations.h"
#include "dataplane/items.h"
#include "dataplane/responses.h"

/* How it works. Instructions, the items of the history that are still shown, and those of the request
 * are made into messages, rendered and encoded. With `truncation: auto` a history that does not fit
 * loses its oldest turns, as few as will do: the number is found by halving, so a history of 1,000
 * turns is rendered at most 11 times. Turns are left out whole, so that no answer stands without its
 * question and no tool's output without its call. */

static cn_code no_memory(cn_err *err)
{
    return cn_err_set(err, CN_E_MEMORY, "input: no memory");
}

static cn_code add_instructions(const cn_responses_turn *turn, json_t *messages, cn_err *err)
{
    if (!turn->instructions) return CN_OK;
    json_t *made = json_pack("{s:s, s:o}", "role", "system", "content",
                             json_stringn(turn->instructions, turn->instructions_len));
    return json_array_append_new(messages, made) ? no_memory(err) : CN_OK;
}

static cn_code add_items(const cn_bytes *items, uint32_t count, const json_t *deleted,
                         json_t *messages, cn_err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (cn_conversations_is_deleted(deleted, items[i])) continue;
        const cn_code code = cn_items_add_stored(items[i], messages, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

// The items of the history from turn `first` on that are still shown.
static cn_code add_chain(const cn_responses_turn *turn, uint32_t first, json_t *messages,
                         cn_err *err)
{
    json_t *deleted = cn_conversations_deleted(&turn->head);
    cn_code code = CN_OK;
    for (uint32_t i = first; i < turn->chain_count && code == CN_OK; i++) {
        const cn_turn *t = &turn->chain[i];
        code = add_items(t->input, t->input_count, deleted, messages, err);
        if (code == CN_OK) code = add_items(t->output, t->output_count, deleted, messages, err);
    }
    json_decref(deleted);
    return code;
}

static cn_code make_messages(const cn_responses_turn *turn, uint32_t first, json_t *body,
                             cn_err *err)
{
    json_t *messages = json_array();
    if (json_object_set_new(body, "messages", messages)) return no_memory(err);
    cn_code code = add_instructions(turn, messages, err);
    if (code == CN_OK) code = add_chain(turn, first, messages, err);
    if (code == CN_OK && first == 0) code = cn_items_check_calls(messages, turn->items, err);
    return code == CN_OK ? add_items(turn->input, turn->input_count, NULL, messages, err) : code;
}

static cn_code check_room(cn_answer *answer, cn_err *err)
{
    const uint64_t window = answer->api->engine.context_tokens_max;
    const uint64_t wanted = answer->params.max_tokens > 0 ? (uint64_t)answer->params.max_tokens : 1;
    const uint32_t count = answer->turn->prompt.count;
    if (count + wanted <= window) return CN_OK;
    return cn_generate_context_error(answer, count, answer->params.max_tokens, err);
}

// Rendering alters what it is given, so it gets a body of its own.
static cn_code render_from(cn_answer *answer, uint32_t first, cn_err *err)
{
    struct cn_api *api = answer->api;
    cn_responses_turn *turn = answer->turn;
    json_t *body = json_deep_copy(turn->body);
    cn_code code = body ? make_messages(turn, first, body, err) : no_memory(err);
    if (code == CN_OK) {
        code = cn_chat_render(&api->chat, body, &answer->params, &answer->request->arena, err);
        // The chat speaks of messages, which nobody has sent.
        if (code != CN_OK && strncmp(err->param, "messages", 8) == 0) memcpy(err->param, "input", 6);
    }
    json_decref(body);
    if (code == CN_OK) code = cn_generate_check_bytes(answer, api->chat.text.len, err);
    if (code == CN_OK) {
        code = cn_history_encode(answer, turn->chain, turn->chain_count, &turn->prompt, err);
    }
    return code == CN_OK ? check_room(answer, err) : code;
}

static cn_code truncate(cn_answer *answer, cn_err *err)
{
    uint32_t low = 1, high = answer->turn->chain_count;  // what must be left out is in low..high
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const cn_code code = render_from(answer, middle, err);
        if (code != CN_OK && code != CN_E_CONTEXT) return code;
        if (code == CN_OK) high = middle;
        else low = middle + 1;
    }
    return render_from(answer, low, err);
}

cn_code cn_responses_prompt_make(cn_answer *answer, cn_err *err)
{
    cn_responses_turn *turn = answer->turn;
    cn_code code = cn_items_dump(turn->items, &answer->request->arena, &turn->input,
                                 &turn->input_count, err);
    if (code == CN_OK) code = render_from(answer, 0, err);
    if (code != CN_E_CONTEXT || !turn->truncates || turn->chain_count == 0) return code;
    code = truncate(answer, err);
    if (code == CN_OK) answer->error_prompt_tokens = 0;
    return code;
}
