#include "dataplane/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "dataplane/api_int.h"

/* How it works. The chain's text ends where the last answer ended, mostly with a control token:
 *
 *   stored    <user>Hi<end><assistant>Hello<end>
 *   rendered  <user>Hi<end><assistant>Hello<end><user>And you?<end><assistant>
 *             └──────── taken from the chain ───┘└────── tokenized ──────────┘
 *
 * Tokenizing the rest alone gives what tokenizing the whole would give only if no token could reach
 * across the seam: a control token stands on one of its sides. It is encoded together with the rest
 * if it stands before it, so that a tokenizer which treats the beginning of a text in its own way
 * does not see one.
 *
 * The chain is not taken, and this turn's text stands for the whole history, where
 *   - the template changed what came before (other instructions, thoughts left out, trimmed text);
 *   - a message of the common part has text that looks like a control token. Such places are marked
 *     (dataplane/prompt_guard.h), and equal bytes need not be equal tokens there;
 *   - the tokens are of another vocabulary.
 *
 * Where the template permits it (model/template_rest.h), a turn keeps its seam: which messages had written
 * the text up to where the answer was asked for. A next turn renders only the answer and what is new:
 *
 *   stored    <user>Hi<end>|<assistant>Hello<end>
 *   rendered                <assistant>Hello<end><user>And you?<end><assistant>
 *                           └──── the seam ─────┘└───── tokenized ────────────┘
 *
 * That the text before the seam would be the same is known from the template and the digest; that the answer
 * is rendered as it was generated is compared, as above. */

typedef struct stored {
    uint32_t first;              // turn of the chain whose text begins the history
    uint32_t token_count;
    size_t text_len;             // of it, that is compared with what was rendered
    int32_t last_token;          // -1: none
} stored;

static cn_code no_memory(cn_err *err)
{
    return cn_err_set(err, CN_E_LIMIT,
                      "the request needs more working memory than limit request_bytes allows");
}

void cn_history_tag(const cn_tokenizer *tokenizer, char out[CN_HISTORY_TAG_BYTES])
{
    unsigned char hash[8];
    char hex[sizeof hash * 2 + 1];
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, crypto_generichash_BYTES);
    for (uint32_t id = 0; id < cn_tokenizer_vocab_count(tokenizer); id++) {
        const char *token = cn_tokenizer_token(tokenizer, (int32_t)id);
        const char *text = token ? token : "";
        crypto_generichash_update(&state, (const unsigned char *)text, strlen(text) + 1);
    }
    unsigned char whole[crypto_generichash_BYTES];
    crypto_generichash_final(&state, whole, sizeof whole);
    memcpy(hash, whole, sizeof hash);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    snprintf(out, CN_HISTORY_TAG_BYTES, "{\"vocabulary\":\"%s\"", hex);
}

void cn_history_decode(cn_answer *answer, const int32_t *ids, uint32_t count, cn_buf *out)
{
    cn_tokenizer_decode(answer->api->options.tokenizer, ids, count, false, out);
}

static bool is_ours(const struct cn_api *api, const cn_turn *turn)
{
    const size_t len = strlen(api->vocabulary_tag);
    return turn->token_count == 0 ||
           (turn->settings.len > len && memcmp(turn->settings.data, api->vocabulary_tag, len) == 0);
}

// Measures the chain; false if its tokens are none of ours.
static bool survey(const struct cn_api *api, const cn_turn *chain, uint32_t count, stored *out)
{
    *out = (stored){.last_token = -1};
    for (uint32_t i = count; i-- > 0 && out->first == 0;) {
        if (chain[i].resets_text) out->first = i;
    }
    for (uint32_t i = out->first; i < count; i++) {
        if (!is_ours(api, &chain[i])) return false;
        out->token_count += chain[i].token_count;
        out->text_len += chain[i].text.len;
        if (chain[i].token_count) out->last_token = chain[i].tokens[chain[i].token_count - 1];
    }
    return true;
}

// Whether what was rendered begins with the chain's text, and nothing of that is marked.
static bool begins_with(const cn_chat *chat, const cn_turn *chain, uint32_t count, const stored *s)
{
    const char *at = chat->text.data;
    if (s->text_len > cn_chat_unmarked_len(chat)) return false;
    for (uint32_t i = s->first; i < count; i++) {
        if (chain[i].text.len && memcmp(at, chain[i].text.data, chain[i].text.len) != 0) return false;
        at += chain[i].text.len;
    }
    return true;
}

static cn_code too_long(cn_answer *answer, cn_err *err)
{
    return cn_generate_context_error(answer, (uint64_t)cn_generate_tokens_max(answer->api) + 1, -1,
                                     err);
}

static cn_code encode_from(cn_answer *answer, size_t from, uint32_t tokens_max, cn_token_list *out,
                           cn_err *err)
{
    const cn_code code = cn_chat_encode_from(&answer->api->chat, &answer->params, from, tokens_max,
                                             &answer->request->arena, out, err);
    return code == CN_E_LIMIT ? too_long(answer, err) : code;
}

/* What follows the chain. *safe says whether it may be tokenized alone. */
static cn_code encode_rest(cn_answer *answer, const stored *s, cn_token_list *out, bool *safe,
                           cn_err *err)
{
    const struct cn_api *api = answer->api;
    const cn_tokenizer *tokenizer = api->options.tokenizer;
    const uint32_t tokens_max = cn_generate_tokens_max(api);
    const char *control = s->last_token >= 0 && cn_tokenizer_is_special(tokenizer, s->last_token)
                              ? cn_tokenizer_token(tokenizer, s->last_token) : NULL;
    const size_t len = control ? strlen(control) : 0;
    const bool before = len && len <= s->text_len &&
                        memcmp(api->chat.text.data + s->text_len - len, control, len) == 0;
    if (s->token_count >= tokens_max) return too_long(answer, err);
    const cn_code code = encode_from(answer, s->text_len - (before ? len : 0),
                                     tokens_max - s->token_count + before, out, err);
    if (code != CN_OK) return code;
    if (before) {
        *safe = out->count > 0 && out->ids[0] == s->last_token;
        out->ids++;
        out->count -= *safe;
    } else {
        *safe = s->token_count == 0 || out->count == 0 ||
                cn_tokenizer_is_special(tokenizer, out->ids[0]);
    }
    return CN_OK;
}

static cn_code join(cn_answer *answer, const cn_turn *chain, uint32_t chain_count, const stored *s,
                    const cn_token_list *rest, cn_history_prompt *out, cn_err *err)
{
    const size_t count = (size_t)s->token_count + rest->count;
    int32_t *ids = cn_arena_take(&answer->request->arena, (count + 1) * sizeof *ids), *at = ids;
    if (!ids) return no_memory(err);
    for (uint32_t i = s->first; i < chain_count; i++) {
        if (chain[i].token_count) memcpy(at, chain[i].tokens, chain[i].token_count * sizeof *ids);
        at += chain[i].token_count;
    }
    if (rest->count) memcpy(at, rest->ids, rest->count * sizeof *ids);
    out->ids = ids;
    out->count = (uint32_t)count;
    out->taken_count = s->token_count;
    return CN_OK;
}

// The text from `from` on, without marks.
static cn_code keep_text(cn_answer *answer, size_t from, cn_history_prompt *out, cn_err *err)
{
    const cn_chat *chat = &answer->api->chat;
    char *text = cn_arena_copy(&answer->request->arena, chat->text.data + from,
                               chat->text.len - from);
    if (!text) return no_memory(err);
    out->text = text;
    out->text_len = (uint32_t)cn_prompt_guard_strip(&chat->mark, text, chat->text.len - from);
    return CN_OK;
}

static cn_code no_tokens(const cn_answer *answer, cn_err *err)
{
    return cn_err_set_param(err, CN_E_INVALID, answer->kind->input,
                            "%s: the rendered prompt has no tokens; must have some",
                            answer->kind->input);
}

// Tokens and text of a prompt that consists of what is stored and `rest`.
static cn_code fill(cn_answer *answer, const cn_turn *chain, uint32_t chain_count, const stored *s,
                    const cn_token_list *rest, cn_history_prompt *out, cn_err *err)
{
    if (s->token_count + rest->count == 0) return no_tokens(answer, err);
    const cn_code code = join(answer, chain, chain_count, s, rest, out, err);
    return code == CN_OK ? keep_text(answer, s->text_len, out, err) : code;
}

cn_code cn_history_encode(cn_answer *answer, const cn_turn *chain, uint32_t chain_count,
                          cn_history_prompt *out, cn_err *err)
{
    const cn_chat *chat = &answer->api->chat;
    stored s;
    cn_token_list rest = {NULL, 0};
    bool takes = survey(answer->api, chain, chain_count, &s) &&
                 begins_with(chat, chain, chain_count, &s);
    cn_code code = takes ? encode_rest(answer, &s, &rest, &takes, err) : CN_OK;
    if (code != CN_OK) return code;
    *out = (cn_history_prompt){.resets_text = !takes};
    if (!takes) {
        s = (stored){.first = chain_count};
        code = encode_from(answer, 0, cn_generate_tokens_max(answer->api), &rest, err);
        if (code != CN_OK) return code;
    }
    return fill(answer, chain, chain_count, &s, &rest, out, err);
}

cn_code cn_history_continue(cn_answer *answer, const cn_turn *chain, uint32_t chain_count, bool *takes,
                            cn_history_prompt *out, cn_err *err)
{
    const cn_chat *chat = &answer->api->chat;
    const cn_turn *last = &chain[chain_count - 1];
    const size_t len = last->seam.bytes;
    stored s;
    cn_token_list rest = {NULL, 0};
    *out = (cn_history_prompt){0};
    *takes = survey(answer->api, chain, chain_count, &s) && len > 0 &&
             len <= cn_chat_unmarked_len(chat) &&
             memcmp(chat->text.data, last->text.data + last->text.len - len, len) == 0;
    s.text_len = len;
    cn_code code = *takes ? encode_rest(answer, &s, &rest, takes, err) : CN_OK;
    if (code != CN_OK || !*takes) return code;
    return fill(answer, chain, chain_count, &s, &rest, out, err);
}
