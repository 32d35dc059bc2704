#include "dataplane/items.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dataplane/json_body.h"

/* How it works. Each kind of item has one function that copies what Cairn knows of it, in a fixed
 * order, and refuses the rest; so what is stored has one form, whatever clients sent. Strings become
 * lists of parts, as OpenAI shows them.
 *
 *   stored                              message of the template
 *   message                             {role, content}
 *   function_call, one after another    one {assistant, tool_calls}; joined to an assistant's message
 *                                       right before it
 *   function_call_output                {tool, tool_call_id, content}
 *   reasoning                           nothing: a template gets no thoughts of earlier turns */

enum { TURN_DIGITS = 48, ITEM_DIGITS = TURN_DIGITS + 4 };

typedef struct reader {
    const json_t *item;          // the one at hand
    char place[64];              // its name in errors: "input[3]"
    char id[CN_ITEMS_ID_BYTES];
    const char *turn_id;
    uint32_t index;
    cn_err *err;
} reader;

static cn_code no_memory(cn_err *err)
{
    return cn_err_set(err, CN_E_MEMORY, "items: no memory");
}

static const char *prefix_of(const char *type)
{
    if (strcmp(type, "function_call") == 0) return "fc_";
    if (strcmp(type, "function_call_output") == 0) return "fco_";
    return strcmp(type, "reasoning") == 0 ? "rs_" : "msg_";
}

void cn_items_id(const char *prefix, const char *turn_id, uint32_t index,
                 char out[CN_ITEMS_ID_BYTES])
{
    const char *digits = strchr(turn_id, '_');
    snprintf(out, CN_ITEMS_ID_BYTES, "%s%.48s%04" PRIx32, prefix, digits ? digits + 1 : "", index);
}

static cn_code bad_member(const reader *r, const char *name, const char *must, cn_err *err)
{
    char place[128];
    snprintf(place, sizeof place, "%s.%s", r->place, name);
    return cn_err_set_param(err, CN_E_INVALID, place, "%s: %s; must be %s", place,
                            cn_json_body_kind(cn_json_body_get(r->item, name)), must);
}

static cn_code need_string(const reader *r, const char *name)
{
    if (json_is_string(cn_json_body_get(r->item, name))) return CN_OK;
    return bad_member(r, name, "a string", r->err);
}

// ---- content

static json_t *text_part(const char *role, const json_t *text)
{
    if (strcmp(role, "assistant") == 0) {
        return json_pack("{s:s, s:O, s:[], s:[]}", "type", "output_text", "text", text,
                         "annotations", "logprobs");
    }
    return json_pack("{s:s, s:O}", "type", "input_text", "text", text);
}

/* One part in stored form. Text may have the type of the other side: clients send back what they
 * got. */
static cn_code read_part(const reader *r, const char *member, size_t index, const char *role,
                         const json_t *part, json_t *list)
{
    static const char *const texts[] = {"input_text", "output_text", "text"};
    const json_t *type = cn_json_body_get(part, "type");
    const bool is_refusal = json_is_string(type) && !strcmp(json_string_value(type), "refusal");
    const json_t *text = cn_json_body_get(part, is_refusal ? "refusal" : "text");
    char place[128];
    bool known = is_refusal;
    snprintf(place, sizeof place, "%s.%s[%zu]", r->place, member, index);
    if (!json_is_object(part) || !json_is_string(type)) {
        return cn_err_set_param(r->err, CN_E_INVALID, place,
                                "%s: must be an object with a type and a text", place);
    }
    for (size_t i = 0; i < 3; i++) known |= strcmp(json_string_value(type), texts[i]) == 0;
    if (!known) {
        return cn_err_set_param(r->err, CN_E_UNSUPPORTED, place, "%s.type: \"%.32s\"; Cairn reads "
                                "text only (input_text, output_text, refusal)", place,
                                json_string_value(type));
    }
    if (!json_is_string(text)) {
        return cn_err_set_param(r->err, CN_E_INVALID, place, "%s.%s: %s; must be a string", place,
                                is_refusal ? "refusal" : "text", cn_json_body_kind(text));
    }
    json_t *made = is_refusal ? json_pack("{s:s, s:O}", "type", "refusal", "refusal", text)
                              : text_part(role, text);
    return json_array_append_new(list, made) ? no_memory(r->err) : CN_OK;
}

// A member that is a string or a list of parts, as a list of parts.
static cn_code read_parts(const reader *r, const char *member, const char *role, json_t **out)
{
    const json_t *value = cn_json_body_get(r->item, member);
    cn_code code = CN_OK;
    size_t i;
    json_t *part, *list = json_array();
    *out = list;
    if (!list) return no_memory(r->err);
    if (json_is_string(value)) {
        return json_array_append_new(list, text_part(role, value)) ? no_memory(r->err) : CN_OK;
    }
    if (!json_is_array(value)) {
        return bad_member(r, member, "a string or a list of parts", r->err);
    }
    json_array_foreach(value, i, part) {
        if (code == CN_OK) code = read_part(r, member, i, role, part, list);
    }
    return code;
}

// ---- kinds of items

// Gives `made` to *out; it has what pack was given, or is NULL without memory.
static cn_code give(const reader *r, json_t *made, json_t **out)
{
    *out = made;
    return made ? CN_OK : no_memory(r->err);
}

static cn_code read_message(const reader *r, json_t **out)
{
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    const json_t *role = cn_json_body_get(r->item, "role");
    json_t *content = NULL;
    bool known = false;
    cn_code code = need_string(r, "role");
    if (code != CN_OK) return code;
    for (size_t i = 0; i < 4; i++) known |= strcmp(json_string_value(role), roles[i]) == 0;
    if (!known) {
        char place[80];
        snprintf(place, sizeof place, "%s.role", r->place);
        return cn_err_set_param(r->err, CN_E_INVALID, place, "%s: \"%.32s\"; must be user, "
                                "assistant, system or developer", place, json_string_value(role));
    }
    code = read_parts(r, "content", json_string_value(role), &content);
    if (code == CN_OK) {
        code = give(r, json_pack("{s:s, s:s, s:s, s:O, s:O}", "id", r->id, "type", "message",
                                 "status", "completed", "role", role, "content", content), out);
    }
    json_decref(content);
    return code;
}

static cn_code read_call(const reader *r, json_t **out)
{
    cn_code code = need_string(r, "call_id");
    if (code == CN_OK) code = need_string(r, "name");
    if (code == CN_OK) code = need_string(r, "arguments");
    if (code != CN_OK) return code;
    return give(r, json_pack("{s:s, s:s, s:s, s:O, s:O, s:O}", "id", r->id, "type",
                             "function_call", "status", "completed", "call_id",
                             json_object_get(r->item, "call_id"), "name",
                             json_object_get(r->item, "name"), "arguments",
                             json_object_get(r->item, "arguments")), out);
}

static cn_code read_call_output(const reader *r, json_t **out)
{
    json_t *output = NULL;
    cn_code code = need_string(r, "call_id");
    if (code != CN_OK) return code;
    if (json_is_string(cn_json_body_get(r->item, "output"))) {
        output = json_incref(json_object_get(r->item, "output"));
    } else {
        code = read_parts(r, "output", "user", &output);
    }
    if (code == CN_OK) {
        code = give(r, json_pack("{s:s, s:s, s:s, s:O, s:O}", "id", r->id, "type",
                                 "function_call_output", "status", "completed", "call_id",
                                 json_object_get(r->item, "call_id"), "output", output), out);
    }
    json_decref(output);
    return code;
}

// The id is the client's, of an item that is stored already.
static cn_code read_reference(const reader *r, json_t **out)
{
    const cn_code code = need_string(r, "id");
    if (code != CN_OK) return code;
    return give(r, json_pack("{s:O, s:s}", "id", json_object_get(r->item, "id"), "type",
                             "item_reference"), out);
}

// Kept whole behind our id, since nothing is made of it.
static cn_code read_reasoning(const reader *r, json_t **out)
{
    json_t *made = json_pack("{s:s}", "id", r->id);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)r->item, key, value) {
        if (made && strcmp(key, "id") != 0 && json_object_set(made, key, value)) {
            json_decref(made);
            made = NULL;
        }
    }
    return give(r, made, out);
}

static cn_code read_item(reader *r, json_t **out)
{
    const json_t *type = cn_json_body_get(r->item, "type");
    if (!json_is_object(r->item)) {
        return cn_err_set_param(r->err, CN_E_INVALID, r->place, "%s: %s; must be an object",
                                r->place, cn_json_body_kind(r->item));
    }
    if (type && !json_is_string(type)) return bad_member(r, "type", "a string", r->err);
    const char *name = type ? json_string_value(type) : "message";
    cn_items_id(prefix_of(name), r->turn_id, r->index, r->id);
    if (strcmp(name, "message") == 0) return read_message(r, out);
    if (strcmp(name, "function_call") == 0) return read_call(r, out);
    if (strcmp(name, "function_call_output") == 0) return read_call_output(r, out);
    if (strcmp(name, "reasoning") == 0) return read_reasoning(r, out);
    if (strcmp(name, "item_reference") == 0) return read_reference(r, out);
    return cn_err_set_param(r->err, CN_E_UNSUPPORTED, r->place, "%s.type: \"%.32s\"; Cairn serves "
                            "message, function_call, function_call_output, reasoning and "
                            "item_reference", r->place, name);
}

static cn_code read_text(reader *r, const json_t *text, json_t *list)
{
    cn_items_id("msg_", r->turn_id, 0, r->id);
    json_t *made = json_pack("{s:s, s:s, s:s, s:s, s:[{s:s, s:O}]}", "id", r->id, "type", "message",
                             "status", "completed", "role", "user", "content", "type",
                             "input_text", "text", text);
    return json_array_append_new(list, made) ? no_memory(r->err) : CN_OK;
}

static cn_code read_list(reader *r, const json_t *input, const char *param, json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach(input, i, item) {
        json_t *made = NULL;
        r->item = item;
        r->index = (uint32_t)i;
        snprintf(r->place, sizeof r->place, "%.32s[%zu]", param, i);
        const cn_code code = read_item(r, &made);
        if (code != CN_OK) return code;
        if (json_array_append_new(list, made)) return no_memory(r->err);
    }
    return CN_OK;
}

cn_code cn_items_read(const json_t *input, const char *param, const char *turn_id,
                      uint64_t count_max, const char *limit, json_t **out, cn_err *err)
{
    reader r = {.turn_id = turn_id, .err = err};
    *out = NULL;
    if (!json_is_string(input) && !json_is_array(input)) {
        return cn_err_set_param(err, CN_E_INVALID, param, "%s: %s; must be a string or a list of "
                                "items", param, cn_json_body_kind(input));
    }
    if (json_array_size(input) > count_max) {
        return cn_err_set_param(err, CN_E_LIMIT, param, "%s: %zu items; must be at most %" PRIu64
                                " (limit %s)", param, json_array_size(input), count_max, limit);
    }
    json_t *list = json_array();
    if (!list) return no_memory(err);
    const cn_code code = json_is_string(input) ? read_text(&r, input, list)
                                               : read_list(&r, input, param, list);
    if (code == CN_OK) *out = list;
    else json_decref(list);
    return code;
}

static bool is_type(const json_t *item, const char *type)
{
    const char *name = json_string_value(json_object_get(item, "type"));
    return name && strcmp(name, type) == 0;
}

// ---- references

bool cn_items_find_reference(const json_t *items, uint32_t *index, const char **id)
{
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item) {
        if (!is_type(item, "item_reference")) continue;
        *index = (uint32_t)i;
        *id = json_string_value(json_object_get(item, "id"));
        return true;
    }
    return false;
}

bool cn_items_turn_of(const char *id, cn_session_id *out)
{
    char text[CN_ITEMS_ID_BYTES];
    const char *digits = strchr(id, '_');
    if (!digits || strlen(digits + 1) != ITEM_DIGITS) return false;
    snprintf(text, sizeof text, "resp_%.48s", digits + 1);
    return cn_session_id_parse(text, "resp_", out);
}

cn_code cn_items_put(json_t *items, uint32_t index, cn_bytes item, const char *turn_id, cn_err *err)
{
    char id[CN_ITEMS_ID_BYTES];
    json_t *parsed = json_loadb(item.data, item.len, JSON_ALLOW_NUL, NULL);
    const char *type = json_string_value(json_object_get(parsed, "type"));
    if (!type) {
        json_decref(parsed);
        return cn_err_set(err, CN_E_CORRUPT, "a stored item is not a JSON object with a type");
    }
    cn_items_id(prefix_of(type), turn_id, index, id);
    const bool ok = !json_object_set_new(parsed, "id", json_string(id)) &&
                    !json_array_set(items, index, parsed);
    json_decref(parsed);
    return ok ? CN_OK : no_memory(err);
}

// ---- calls and their outputs

static bool has_call(const json_t *items, size_t count, const json_t *call_id)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(items, i);
        if (is_type(item, "function_call") &&
            json_equal(json_object_get(item, "call_id"), call_id)) {
            return true;
        }
    }
    return false;
}

static bool had_call(const json_t *messages, const json_t *call_id)
{
    size_t i, j;
    json_t *message, *call;
    json_array_foreach(messages, i, message) {
        json_array_foreach(json_object_get(message, "tool_calls"), j, call) {
            if (json_equal(json_object_get(call, "id"), call_id)) return true;
        }
    }
    return false;
}

cn_code cn_items_check_calls(const json_t *messages, const json_t *items, cn_err *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item) {
        const json_t *call_id = json_object_get(item, "call_id");
        if (!is_type(item, "function_call_output") || has_call(items, i, call_id) ||
            had_call(messages, call_id)) {
            continue;
        }
        return cn_err_set_param(err, CN_E_INVALID, "input", "No tool call found for function call "
                                "output with call_id %.64s.", json_string_value(call_id));
    }
    return CN_OK;
}

// ---- messages

// A part's text; refusals are text to a template.
static json_t *part_text(const json_t *part)
{
    json_t *text = json_object_get(part, "text");
    return text ? text : json_object_get(part, "refusal");
}

// One part is its text; several are a list, which the chat joins where the template wants it.
static json_t *content_of(const json_t *parts)
{
    size_t i;
    json_t *part;
    if (json_is_string(parts)) return json_incref((json_t *)parts);
    if (json_array_size(parts) == 1) return json_incref(part_text(json_array_get(parts, 0)));
    json_t *list = json_array();
    json_array_foreach(parts, i, part) {
        json_t *made = json_pack("{s:s, s:O}", "type", "text", "text", part_text(part));
        if (list && json_array_append_new(list, made)) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static bool add_message(const json_t *item, json_t *messages)
{
    json_t *made = json_pack("{s:O, s:o}", "role", json_object_get(item, "role"), "content",
                             content_of(json_object_get(item, "content")));
    return json_array_append_new(messages, made) == 0;
}

static bool add_call(const json_t *item, json_t *messages)
{
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    json_t *calls = json_object_get(last, "tool_calls");
    const char *role = json_string_value(json_object_get(last, "role"));
    json_t *call = json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", json_object_get(item, "call_id"),
                             "type", "function", "function", "name",
                             json_object_get(item, "name"), "arguments",
                             json_object_get(item, "arguments"));
    if (calls) return json_array_append_new(calls, call) == 0;
    if (role && strcmp(role, "assistant") == 0) {
        return json_object_set_new(last, "tool_calls", json_pack("[o]", call)) == 0;
    }
    json_t *made = json_pack("{s:s, s:n, s:[o]}", "role", "assistant", "content", "tool_calls",
                             call);
    return json_array_append_new(messages, made) == 0;
}

static bool add_call_output(const json_t *item, json_t *messages)
{
    json_t *made = json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id",
                             json_object_get(item, "call_id"), "content",
                             content_of(json_object_get(item, "output")));
    return json_array_append_new(messages, made) == 0;
}

static cn_code add_item(const json_t *item, json_t *messages, cn_err *err)
{
    const bool ok = is_type(item, "function_call")          ? add_call(item, messages)
                    : is_type(item, "function_call_output") ? add_call_output(item, messages)
                    : is_type(item, "message")              ? add_message(item, messages)
                                                            : true;
    return ok ? CN_OK : no_memory(err);
}

cn_code cn_items_add_messages(const json_t *items, json_t *messages, cn_err *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item) {
        const cn_code code = add_item(item, messages, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

// What is between `text` and the next quote; *at moves behind it. False if `text` is not there.
static bool take(const char **at, const char *end, const char *text, cn_bytes *out)
{
    const size_t len = strlen(text);
    if ((size_t)(end - *at) < len || memcmp(*at, text, len) != 0) return false;
    const char *begin = *at + len, *quote = memchr(begin, '"', (size_t)(end - begin));
    if (!quote) return false;
    *out = (cn_bytes){begin, (uint32_t)(quote - begin)};
    *at = quote;
    return true;
}

/* Nearly all of a history are messages of one part without escapes, in the order in which they are
 * written here. They need no tree: that is most of what a long history costs. False: parse it. */
static bool add_plain(cn_bytes item, json_t *messages)
{
    static const char *const ends[] = {"\"}]}", "\",\"annotations\":[],\"logprobs\":[]}]}"};
    const char *at = item.data, *end = at + item.len;
    cn_bytes skipped, role, text;
    if (!take(&at, end, "{\"id\":\"", &skipped) ||
        !take(&at, end, "\",\"type\":\"message\",\"status\":\"", &skipped) ||
        !take(&at, end, "\",\"role\":\"", &role) ||
        !take(&at, end, "\",\"content\":[{\"type\":\"", &skipped) ||
        !take(&at, end, "\",\"text\":\"", &text)) {
        return false;
    }
    bool whole = false;
    for (size_t i = 0; i < 2; i++) {
        whole |= (size_t)(end - at) == strlen(ends[i]) && !memcmp(at, ends[i], strlen(ends[i]));
    }
    if (!whole || memchr(text.data, '\\', text.len)) return false;
    json_t *made = json_object();
    const bool ok = made &&
                    !json_object_set_new(made, "role", json_stringn(role.data, role.len)) &&
                    !json_object_set_new(made, "content", json_stringn(text.data, text.len)) &&
                    !json_array_append(messages, made);
    json_decref(made);
    return ok;
}

cn_code cn_items_add_stored(cn_bytes item, json_t *messages, cn_err *err)
{
    if (add_plain(item, messages)) return CN_OK;
    json_t *parsed = json_loadb(item.data, item.len, JSON_ALLOW_NUL, NULL);
    const cn_code code = json_is_object(parsed)
                             ? add_item(parsed, messages, err)
                             : cn_err_set(err, CN_E_CORRUPT, "a stored item is not a JSON object");
    json_decref(parsed);
    return code;
}

// ---- texts

cn_code cn_items_dump(const json_t *items, cn_arena *arena, cn_bytes **out, uint32_t *count,
                      cn_err *err)
{
    size_t i;
    json_t *item;
    cn_bytes *texts = cn_arena_take_array(arena, json_array_size(items) + 1, sizeof *texts);
    if (!texts) return no_memory(err);
    json_array_foreach(items, i, item) {
        const cn_code code = cn_json_body_dump(item, arena, &texts[i].data, &texts[i].len, err);
        if (code != CN_OK) return code;
    }
    *out = texts;
    *count = (uint32_t)json_array_size(items);
    return CN_OK;
}

cn_bytes cn_items_id_of(cn_bytes item)
{
    static const char begin[] = "{\"id\":\"";
    const size_t len = sizeof begin - 1;
    if (item.len <= len || memcmp(item.data, begin, len) != 0) return (cn_bytes){NULL, 0};
    const char *id = item.data + len;
    const char *end = memchr(id, '"', item.len - len);
    return (cn_bytes){end ? id : NULL, end ? (uint32_t)(end - id) : 0};
}
