#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "dataplane/api_int.h"
#include "dataplane/conversations.h"
#include "dataplane/items.h"
#include "dataplane/responses.h"

/* How it works. Instructions, the items of the history that are still shown, and those of the request
 * are made into messages, rendered and encoded. With `truncation: auto` a history that does not fit
 * loses its oldest turns, as few as will do: the number is found by halving, so a history of 1,000
 * turns is rendered at most 11 times. Turns are left out whole, so that no answer stands without its
 * question and no tool's output without its call.
 *
 * A turn that follows one with a seam (dataplane/history.h) is rendered from there: of the history only the
 * first message, for the template to look at, and the last answer are made into messages. Whatever speaks
 * against it, all is rendered: so far nothing has been changed, and the errors are those of the whole. */

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

// ---- seams

// Of all that the template is given beside messages. False: no memory.
static bool digest_extras(const cn_answer *answer, uint8_t out[CN_KEY_BYTES])
{
    const cn_responses_turn *turn = answer->turn;
    const cn_chat *chat = &answer->api->chat;
    const unsigned char flags[] = {answer->params.add_generation_prompt, turn->instructions != NULL};
    char *body = json_dumps(turn->body, JSON_COMPACT | JSON_SORT_KEYS);
    crypto_generichash_state state;
    if (!body) return false;
    crypto_generichash_init(&state, NULL, 0, CN_KEY_BYTES);
    crypto_generichash_update(&state, chat->digest, sizeof chat->digest);
    crypto_generichash_update(&state, flags, sizeof flags);
    crypto_generichash_update(&state, (const unsigned char *)body, strlen(body) + 1);
    crypto_generichash_update(&state, (const unsigned char *)turn->instructions, turn->instructions_len);
    crypto_generichash_final(&state, out, CN_KEY_BYTES);
    free(body);
    return true;
}

static const char *role_of(const json_t *messages, size_t index)
{
    const char *role = json_string_value(json_object_get(json_array_get(messages, index), "role"));
    return role ? role : "";
}

/* Notes the seam that was rendered. A call would join the message of an assistant that stands before it, and
 * text with marks is not what it will be. `digest` is that of the extras, NULL where nobody has made it yet. */
static void note_seam(cn_answer *answer, const json_t *messages, uint32_t left_out,
                      const uint8_t *digest)
{
    const cn_chat *chat = &answer->api->chat;
    cn_history_prompt *prompt = &answer->turn->prompt;
    const size_t count = json_array_size(messages), behind = chat->text.len - chat->messages_bytes;
    if (chat->messages_bytes == 0 || *chat->mark.text || answer->params.continue_final ||
        behind > prompt->text_len || strcmp(role_of(messages, count - 1), "assistant") == 0) {
        return;
    }
    if (digest) memcpy(prompt->seam.digest, digest, sizeof prompt->seam.digest);
    else if (!digest_extras(answer, prompt->seam.digest)) return;
    prompt->seam.messages = (uint32_t)count + left_out;
    prompt->seam.bytes = (uint32_t)behind;
}

static bool may_continue(const cn_answer *answer)
{
    const cn_responses_turn *turn = answer->turn;
    const cn_chat *chat = &answer->api->chat;
    uint8_t digest[CN_KEY_BYTES];
    cn_err ignored;
    if (turn->chain_count == 0 || !chat->chat_template) return false;
    const cn_turn_seam *seam = &turn->chain[turn->chain_count - 1].seam;
    return seam->messages > 0 && cn_template_rest_is_possible(chat->chat_template) &&
           !answer->params.continue_final && turn->head.deleted_items.len <= strlen("[]") &&
           cn_items_check_calls(NULL, turn->items, &ignored) == CN_OK &&
           digest_extras(answer, digest) && memcmp(digest, seam->digest, sizeof digest) == 0;
}

/* The first message of the history; if the template does not ask for it, which may be long, some other.
 * False: not as it must be. */
static bool add_first(const cn_responses_turn *turn, bool asks_first, json_t *messages)
{
    const cn_turn *first = &turn->chain[0];
    cn_err ignored;
    if (!asks_first) {
        return json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", "")) == 0;
    }
    if (turn->instructions) return add_instructions(turn, messages, &ignored) == CN_OK;
    return first->input_count > 0 && add_items(first->input, 1, NULL, messages, &ignored) == CN_OK;
}

// The first message of the history and those from its seam on; false: not as it must be.
static bool make_rest(const cn_responses_turn *turn, bool asks_first, json_t *body)
{
    const cn_turn *last = &turn->chain[turn->chain_count - 1];
    json_t *messages = json_array();
    cn_err ignored;
    if (json_object_set_new(body, "messages", messages) || !add_first(turn, asks_first, messages)) {
        return false;
    }
    return json_array_size(messages) == 1 && strcmp(role_of(messages, 0), "assistant") != 0 &&
           add_items(last->output, last->output_count, NULL, messages, &ignored) == CN_OK &&
           add_items(turn->input, turn->input_count, NULL, messages, &ignored) == CN_OK;
}

// Makes the prompt from the seam of the history's last turn on; false: it must be made from all of it.
static bool render_rest(cn_answer *answer)
{
    cn_chat *chat = &answer->api->chat;
    cn_responses_turn *turn = answer->turn;
    bool takes = false;
    cn_err ignored;
    if (!may_continue(answer)) return false;
    const cn_turn_seam *seam = &turn->chain[turn->chain_count - 1].seam;
    const uint32_t from = seam->messages;
    json_t *body = json_deep_copy(turn->body);
    const bool made =
        body && make_rest(turn, cn_template_rest_asks_first(chat->chat_template), body);
    const json_t *messages = json_object_get(body, "messages");
    if (made && from - 1 + json_array_size(messages) <= chat->limits->messages &&
        cn_chat_render_rest(chat, body, from, &answer->params, &answer->request->arena, &ignored) ==
            CN_OK &&
        cn_generate_check_bytes(answer, chat->text.len, &ignored) == CN_OK &&
        cn_history_continue(answer, turn->chain, turn->chain_count, &takes, &turn->prompt, &ignored) !=
            CN_OK) {
        takes = false;
    }
    if (takes) note_seam(answer, messages, from - 1, seam->digest);    // may_continue found it equal
    json_decref(body);
    return takes && check_room(answer, &ignored) == CN_OK;
}

// ---- all of it

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
    if (code == CN_OK) code = cn_generate_check_bytes(answer, api->chat.text.len, err);
    if (code == CN_OK) {
        code = cn_history_encode(answer, turn->chain, turn->chain_count, &turn->prompt, err);
    }
    if (code == CN_OK && first == 0) note_seam(answer, json_object_get(body, "messages"), 0, NULL);
    json_decref(body);
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
    if (code == CN_OK && !render_rest(answer)) code = render_from(answer, 0, err);
    if (code != CN_E_CONTEXT || !turn->truncates || turn->chain_count == 0) return code;
    code = truncate(answer, err);
    if (code == CN_OK) answer->error_prompt_tokens = 0;
    return code;
}
