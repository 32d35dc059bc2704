#include "dataplane/chat.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "dataplane/json_body.h"

/* How it works. Templates are written against what transformers gives them, so messages are brought
 * into that form, as other servers do it:
 *   - content as a list of text parts becomes one string, joined by line breaks, unless the template
 *     goes through the parts itself;
 *   - content that is null or missing becomes "", except beside tool_calls;
 *   - arguments of tool calls, which OpenAI writes as a string of JSON, become the object;
 *   - the role developer, OpenAI's newer word, becomes system unless the template knows it.
 * Nothing else is touched: names, ids and unknown members reach the template as they came. */

enum { TEXT_BYTES_KEPT = 1048576 };

typedef struct place {
    char text[64];               // "messages[3].content"
} place;

static place place_of(const char *format, uint32_t index, uint32_t part)
{
    place p;
    snprintf(p.text, sizeof p.text, format, index, part);
    return p;
}

// ---- open and close

/* Whether a block tag of the template loops over something named content. */
static bool loops_over_content(const char *text, size_t len)
{
    const char *end = text + len, *at = text;
    while ((at = memmem(at, (size_t)(end - at), "{%", 2))) {
        const char *close = memmem(at, (size_t)(end - at), "%}", 2);
        if (!close) return false;
        const size_t tag = (size_t)(close - at);
        const char *loop = memmem(at, tag, "for ", 4);
        const char *over = loop ? memmem(loop, (size_t)(close - loop), " in ", 4) : NULL;
        if (over && memmem(over, (size_t)(close - over), "content", 7)) return true;
        at = close;
    }
    return false;
}

static const char *const special_tokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                             "pad_token", "cls_token", "mask_token"};
enum { SPECIAL_TOKENS = sizeof special_tokens / sizeof special_tokens[0] };

static void digest_template(const cn_checkpoint *checkpoint, const char *text, size_t len,
                            uint8_t out[CN_KEY_BYTES])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, CN_KEY_BYTES);
    for (size_t i = 0; i < SPECIAL_TOKENS; i++) {
        const char *token = cn_checkpoint_special_token(checkpoint, special_tokens[i]);
        crypto_generichash_update(&state, (const unsigned char *)token, strlen(token) + 1);
    }
    crypto_generichash_update(&state, (const unsigned char *)text, len);
    crypto_generichash_final(&state, out, CN_KEY_BYTES);
}

void cn_chat_init(cn_chat *chat, const cn_template *chat_template, const cn_checkpoint *checkpoint,
                  const cn_prompt_guard *guard, const cn_limits *limits, cn_clock clock)
{
    size_t len = 0;
    const char *text = cn_checkpoint_chat_template(checkpoint, &len);
    *chat = (cn_chat){
        .chat_template = chat_template,
        .checkpoint = checkpoint,
        .guard = guard,
        .limits = limits,
        .clock = clock,
        .takes_parts = text && loops_over_content(text, len),
        .knows_developer = text && memmem(text, len, "developer", 9),
    };
    digest_template(checkpoint, text ? text : "", len, chat->digest);
    cn_buf_init(&chat->text, (size_t)limits->request_bytes);
}

void cn_chat_close(cn_chat *chat) { cn_buf_close(&chat->text); }

// ---- messages

static cn_code no_memory(cn_err *err)
{
    return cn_err_set_param(err, CN_E_MEMORY, "messages", "messages: no memory for the prompt");
}

static cn_code shape_role(const cn_chat *chat, json_t *message, uint32_t index, cn_err *err)
{
    static const char *const roles[] = {"system", "developer", "user",
                                        "assistant", "tool", "function"};
    json_t *role = cn_json_body_get(message, "role");
    const place at = place_of("messages[%u].role", index, 0);
    if (!json_is_string(role)) {
        return cn_err_set_param(err, CN_E_INVALID, at.text, "%s: %s; must be a string", at.text,
                                cn_json_body_kind(role));
    }
    const char *name = json_string_value(role);
    if (strcmp(name, "developer") == 0 && !chat->knows_developer) {
        return json_string_set(role, "system") ? no_memory(err) : CN_OK;
    }
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (strcmp(name, roles[i]) == 0) return CN_OK;
    }
    return cn_err_set_param(err, CN_E_INVALID, at.text, "%s: \"%.32s\"; must be system, developer, "
                            "user, assistant, tool or function", at.text, name);
}

static cn_code check_part(const json_t *part, uint32_t index, uint32_t part_index, cn_err *err)
{
    const place at = place_of("messages[%u].content[%u]", index, part_index);
    const json_t *type = cn_json_body_get(part, "type");
    if (!json_is_object(part) || !json_is_string(type)) {
        return cn_err_set_param(err, CN_E_INVALID, at.text,
                                "%s: must be an object with a type and a text", at.text);
    }
    if (strcmp(json_string_value(type), "text") != 0) {
        return cn_err_set_param(err, CN_E_UNSUPPORTED, at.text, "%s.type: \"%.32s\"; Cairn reads "
                                "text only", at.text, json_string_value(type));
    }
    if (json_is_string(cn_json_body_get(part, "text"))) return CN_OK;
    return cn_err_set_param(err, CN_E_INVALID, at.text, "%s.text: %s; must be a string", at.text,
                            cn_json_body_kind(cn_json_body_get(part, "text")));
}

static json_t *join_parts(const json_t *parts, uint64_t bytes_max)
{
    size_t i;
    json_t *part;
    cn_buf text;
    cn_buf_init(&text, (size_t)bytes_max);
    json_array_foreach(parts, i, part) {
        const json_t *piece = json_object_get(part, "text");
        if (i) cn_buf_add_char(&text, '\n');
        cn_buf_add(&text, json_string_value(piece), json_string_length(piece));
    }
    json_t *joined = text.overflowed ? NULL : json_stringn(text.len ? text.data : "", text.len);
    cn_buf_close(&text);
    return joined;
}

static cn_code shape_content(const cn_chat *chat, json_t *message, uint32_t index, cn_err *err)
{
    size_t i;
    json_t *part;
    json_t *content = cn_json_body_get(message, "content");
    if (!content) {
        if (cn_json_body_get(message, "tool_calls")) return CN_OK;
        return json_object_set_new(message, "content", json_string("")) ? no_memory(err) : CN_OK;
    }
    if (json_is_string(content)) return CN_OK;
    if (!json_is_array(content)) {
        const place at = place_of("messages[%u].content", index, 0);
        return cn_err_set_param(err, CN_E_INVALID, at.text, "%s: %s; must be a string or a list of "
                                "parts", at.text, cn_json_body_kind(content));
    }
    json_array_foreach(content, i, part) {
        const cn_code code = check_part(part, index, (uint32_t)i, err);
        if (code != CN_OK) return code;
    }
    if (chat->takes_parts) return CN_OK;
    json_t *joined = join_parts(content, chat->limits->request_bytes);
    return joined && json_object_set_new(message, "content", joined) == 0 ? CN_OK : no_memory(err);
}

// What is not an object after all stays the string that it was.
static cn_code shape_arguments(const cn_chat *chat, json_t *call, cn_err *err)
{
    json_t *function = cn_json_body_get(call, "function");
    const json_t *arguments = cn_json_body_get(function, "arguments");
    if (!json_is_string(arguments)) return CN_OK;
    const char *text = json_string_value(arguments);
    const size_t len = json_string_length(arguments);
    if (cn_json_body_depth(text, len) > chat->limits->json_depth) return CN_OK;
    json_t *object = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return CN_OK;
    }
    return json_object_set_new(function, "arguments", object) ? no_memory(err) : CN_OK;
}

static cn_code shape_tool_calls(const cn_chat *chat, json_t *message, uint32_t index, cn_err *err)
{
    size_t i;
    json_t *call;
    json_t *calls = cn_json_body_get(message, "tool_calls");
    if (!calls) return CN_OK;
    if (!json_is_array(calls)) {
        const place at = place_of("messages[%u].tool_calls", index, 0);
        return cn_err_set_param(err, CN_E_INVALID, at.text, "%s: %s; must be a list", at.text,
                                cn_json_body_kind(calls));
    }
    json_array_foreach(calls, i, call) {
        const cn_code code = shape_arguments(chat, call, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

static cn_code shape_messages(const cn_chat *chat, json_t *messages, cn_err *err)
{
    size_t i;
    json_t *message;
    if (!json_is_array(messages) || json_array_size(messages) == 0) {
        return cn_err_set_param(err, CN_E_INVALID, "messages",
                                "messages: %s; must be a list with at least 1 message",
                                json_is_array(messages) ? "an empty list"
                                                        : cn_json_body_kind(messages));
    }
    if (json_array_size(messages) > chat->limits->messages) {
        return cn_err_set_param(err, CN_E_LIMIT, "messages",
                                "messages: %zu; must be at most %" PRIu64 " (limit messages)",
                                json_array_size(messages), chat->limits->messages);
    }
    json_array_foreach(messages, i, message) {
        const place at = place_of("messages[%u]", (uint32_t)i, 0);
        if (!json_is_object(message)) {
            return cn_err_set_param(err, CN_E_INVALID, at.text, "%s: %s; must be an object",
                                    at.text, cn_json_body_kind(message));
        }
        cn_code code = shape_role(chat, message, (uint32_t)i, err);
        if (code == CN_OK) code = shape_content(chat, message, (uint32_t)i, err);
        if (code == CN_OK) code = shape_tool_calls(chat, message, (uint32_t)i, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

// ---- rendering

typedef struct extras {
    json_t *tools, *documents, *kwargs;          // borrowed, NULL if absent
} extras;

static cn_code read_extras(const json_t *body, extras *out, cn_err *err)
{
    *out = (extras){cn_json_body_get(body, "tools"), cn_json_body_get(body, "documents"),
                    cn_json_body_get(body, "chat_template_kwargs")};
    if (out->tools && !json_is_array(out->tools)) {
        return cn_err_set_param(err, CN_E_INVALID, "tools", "tools: %s; must be a list",
                                cn_json_body_kind(out->tools));
    }
    if (out->documents && !json_is_array(out->documents)) {
        return cn_err_set_param(err, CN_E_INVALID, "documents", "documents: %s; must be a list",
                                cn_json_body_kind(out->documents));
    }
    if (out->kwargs && !json_is_object(out->kwargs)) {
        return cn_err_set_param(err, CN_E_INVALID, "chat_template_kwargs",
                                "chat_template_kwargs: %s; must be an object",
                                cn_json_body_kind(out->kwargs));
    }
    return CN_OK;
}

static bool set_special_tokens(const cn_checkpoint *checkpoint, json_t *variables)
{
    bool ok = true;
    for (size_t i = 0; i < SPECIAL_TOKENS; i++) {
        const char *token = cn_checkpoint_special_token(checkpoint, special_tokens[i]);
        if (*token) ok &= json_object_set_new(variables, special_tokens[i], json_string(token)) == 0;
    }
    return ok;
}

static bool pass_on(const json_t *body, const char *name, json_t *variables)
{
    json_t *value = cn_json_body_get(body, name);
    return !value || json_object_set(variables, name, value) == 0;
}

// What the template sees. Our own names win over chat_template_kwargs.
static json_t *make_variables(const cn_chat *chat, const json_t *body, const cn_params *params,
                              const extras *with)
{
    json_t *variables = json_object();
    bool ok = variables != NULL;
    ok &= pass_on(body, "reasoning_effort", variables);
    ok &= pass_on(body, "tool_choice", variables);
    if (with->kwargs) ok &= json_object_update(variables, with->kwargs) == 0;
    ok &= json_object_set(variables, "messages", json_object_get(body, "messages")) == 0;
    ok &= json_object_set(variables, "tools", with->tools ? with->tools : json_null()) == 0;
    ok &= json_object_set(variables, "documents",
                          with->documents ? with->documents : json_null()) == 0;
    ok &= json_object_set_new(variables, "add_generation_prompt",
                              json_boolean(params->add_generation_prompt &&
                                           !params->continue_final)) == 0;
    ok &= set_special_tokens(chat->checkpoint, variables);
    if (ok) return variables;
    json_decref(variables);
    return NULL;
}

static cn_code run_template(cn_chat *chat, const json_t *variables, uint32_t from, cn_arena *arena,
                            cn_err *err)
{
    const cn_template_limits limits = {
        .steps_max = chat->limits->template_steps,
        .depth_max = (uint32_t)chat->limits->template_depth,
        .now_s = (int64_t)(cn_clock_wall_ns(&chat->clock) / 1000000000u),
    };
    if (chat->text.capacity > TEXT_BYTES_KEPT) cn_buf_close(&chat->text);
    cn_buf_clear(&chat->text);
    const cn_code code = cn_template_rest_render(chat->chat_template, variables, &limits, from, arena,
                                                 &chat->text, &chat->messages_bytes, err);
    if (code != CN_OK && !*err->param) memcpy(err->param, "messages", sizeof "messages");
    return code;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// The last place of `needle`; NULL if there is none.
static char *find_last(char *text, size_t len, const char *needle, size_t needle_len)
{
    for (size_t at = len - needle_len + 1; len >= needle_len && at-- > 0;) {
        if (memcmp(text + at, needle, needle_len) == 0) return text + at;
    }
    return NULL;
}

/* Cuts the prompt behind the last message's text, as transformers does: behind its trailing white
 * space if the template kept it. */
static cn_code cut_after_final(cn_chat *chat, const json_t *messages, cn_err *err)
{
    const json_t *content = cn_json_body_get(
        json_array_get(messages, json_array_size(messages) - 1), "content");
    if (json_is_array(content)) {
        content = cn_json_body_get(json_array_get(content, json_array_size(content) - 1), "text");
    }
    const char *text = json_string_value(content);
    size_t len = json_string_length(content), trimmed;
    for (; len && is_space(*text); text++) len--;
    for (trimmed = len; trimmed && is_space(text[trimmed - 1]);) trimmed--;
    char *at = trimmed ? find_last(chat->text.data, chat->text.len, text, trimmed) : NULL;
    if (!at) {
        return cn_err_set_param(err, CN_E_INVALID, "continue_final_message",
                                "continue_final_message: the last message's text is %s; must be "
                                "there to be continued", trimmed ? "not in the rendered prompt"
                                : "empty");
    }
    const size_t start = (size_t)(at - chat->text.data);
    const bool kept = chat->text.len - start >= len && memcmp(at, text, len) == 0;
    chat->text.len = start + (kept ? len : trimmed);
    return CN_OK;
}

cn_code cn_chat_render_rest(cn_chat *chat, json_t *body, uint32_t from, const cn_params *params,
                            cn_arena *arena, cn_err *err)
{
    extras with;
    json_t *messages = cn_json_body_get(body, "messages");
    if (!chat->chat_template) {
        return cn_err_set_param(err, CN_E_UNSUPPORTED, "messages",
                                "messages: this model has no chat template; use /v1/completions");
    }
    cn_code code = shape_messages(chat, messages, err);
    if (code == CN_OK) code = read_extras(body, &with, err);
    if (code != CN_OK) return code;
    json_t *const guarded[] = {messages, with.tools, with.documents, with.kwargs};
    code = cn_prompt_guard_apply(chat->guard, guarded, 4, &chat->mark, err);
    if (code != CN_OK) return code;
    json_t *variables = make_variables(chat, body, params, &with);
    if (!variables) return no_memory(err);
    code = run_template(chat, variables, from, arena, err);
    json_decref(variables);
    if (code == CN_OK && params->continue_final) code = cut_after_final(chat, messages, err);
    return code;
}

cn_code cn_chat_render(cn_chat *chat, json_t *body, const cn_params *params, cn_arena *arena,
                       cn_err *err)
{
    return cn_chat_render_rest(chat, body, 0, params, arena, err);
}

cn_code cn_chat_encode_from(cn_chat *chat, const cn_params *params, size_t from,
                            uint32_t tokens_max, cn_arena *arena, cn_token_list *out, cn_err *err)
{
    const cn_encode_options options = {
        .add_special_tokens =
            from == 0 && params->add_special_tokens_given && params->add_special_tokens,
        .tokens_max = tokens_max,
    };
    return cn_prompt_guard_encode(chat->guard, &chat->mark,
                                  chat->text.len ? chat->text.data + from : "",
                                  chat->text.len - from, &options, arena, out, err);
}

cn_code cn_chat_encode(cn_chat *chat, const cn_params *params, uint32_t tokens_max, cn_arena *arena,
                       cn_token_list *out, cn_err *err)
{
    return cn_chat_encode_from(chat, params, 0, tokens_max, arena, out, err);
}

size_t cn_chat_unmarked_len(const cn_chat *chat)
{
    const char *mark = *chat->mark.text && chat->text.len
                           ? memmem(chat->text.data, chat->text.len, chat->mark.text,
                                    strlen(chat->mark.text)) : NULL;
    return mark ? (size_t)(mark - chat->text.data) : chat->text.len;
}

void cn_chat_strip(cn_chat *chat)
{
    if (!chat->text.len) return;
    chat->text.len = cn_prompt_guard_strip(&chat->mark, chat->text.data, chat->text.len);
    chat->mark = (cn_prompt_guard_mark){""};
}
