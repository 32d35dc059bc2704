#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "dataplane/api_int.h"
#include "dataplane/items.h"
#include "dataplane/json_body.h"
#include "dataplane/metadata.h"
#include "dataplane/responses.h"

/* The body of POST /v1/responses. What params.h does not know is read here; what is only told again
 * in the response goes into the object's head as it came. */

static cn_code no_memory(cn_err *err)
{
    return cn_err_set(err, CN_E_LIMIT,
                      "the request needs more working memory than limit request_bytes allows");
}

static cn_code bad_type(const char *param, const json_t *value, const char *must, cn_err *err)
{
    return cn_err_set_param(err, CN_E_INVALID, param, "%s: %s; must be %s", param,
                            cn_json_body_kind(value), must);
}

static cn_code read_flag(const json_t *body, const char *name, bool absent, bool *out, cn_err *err)
{
    const json_t *value = cn_json_body_get(body, name);
    *out = value ? json_is_true(value) : absent;
    return !value || json_is_boolean(value) ? CN_OK : bad_type(name, value, "true or false", err);
}

// ---- what the turn follows

static cn_code bad_id(const char *param, const char *text, cn_err *err)
{
    return cn_err_set_param(err, CN_E_INVALID, param, "Invalid '%s': '%.64s'. Expected an ID that "
                            "contains letters, numbers, underscores, or dashes, but this value "
                            "contained additional characters.", param, text);
}

static bool is_name(const char *text)
{
    for (; *text; text++) {
        if (!isalnum((unsigned char)*text) && *text != '_' && *text != '-') return false;
    }
    return true;
}

static cn_code read_parent(const json_t *body, cn_responses_turn *turn, cn_err *err)
{
    static const char name[] = "previous_response_id";
    const json_t *value = cn_json_body_get(body, name);
    if (!value) return CN_OK;
    if (!json_is_string(value)) return bad_type(name, value, "a string", err);
    const char *text = json_string_value(value);
    if (!*text || !is_name(text)) return bad_id(name, text, err);
    if (cn_session_id_parse(text, "resp_", &turn->parent)) return CN_OK;
    return cn_err_set_param(err, CN_E_PARENT, name, "Previous response with id '%.64s' not found.",
                            text);
}

static cn_code read_conversation(const json_t *body, cn_responses_turn *turn, cn_err *err)
{
    static const char name[] = "conversation";
    const json_t *value = cn_json_body_get(body, name);
    if (json_is_object(value)) value = cn_json_body_get(value, "id");
    else if (!value) return CN_OK;
    if (!json_is_string(value)) return bad_type(name, value, "an id or an object with one", err);
    const char *text = json_string_value(value);
    if (!*text || !is_name(text)) return bad_id(name, text, err);
    if (cn_session_id_parse(text, "conv_", &turn->conversation)) return CN_OK;
    return cn_err_set_param(err, CN_E_ABSENT, name, "Conversation with id '%.64s' not found.", text);
}

static cn_code read_place(const json_t *body, cn_responses_turn *turn, cn_err *err)
{
    cn_code code = read_flag(body, "store", true, &turn->stored, err);
    if (code == CN_OK) code = read_flag(body, "background", false, &turn->background, err);
    if (code == CN_OK && cn_json_body_get(body, "previous_response_id") &&
        cn_json_body_get(body, "conversation")) {
        code = cn_err_set_param(err, CN_E_EXCLUSIVE, "previous_response_id",
                                "previous_response_id: given together with conversation; a turn "
                                "follows one or the other");
    }
    if (code == CN_OK) code = read_parent(body, turn, err);
    if (code == CN_OK) code = read_conversation(body, turn, err);
    if (code != CN_OK || turn->stored) return code;
    if (turn->background) {
        return cn_err_set_param(err, CN_E_INVALID, "background", "background: true with \"store\": "
                                "false; a background response is stored, or nobody could read it");
    }
    if (*turn->conversation.text) {
        return cn_err_set_param(err, CN_E_INVALID, "store", "store: false in a conversation, whose "
                                "turns are stored; use previous_response_id, or send the items");
    }
    return CN_OK;
}

static cn_code read_key(cn_answer *answer, cn_responses_turn *turn, cn_err *err)
{
    const char *key = NULL;
    const cn_code code = turn->stored ? cn_ask_key(answer, &key, err) : CN_OK;
    if (code != CN_OK) return code;
    cn_ask_digest(answer, turn->digest);
    turn->keyed = key != NULL;
    if (turn->keyed) {
        turn->id = cn_session_id_for_key(answer->tenant, key);
    } else if (turn->stored && answer->api->options.session) {
        turn->id = cn_session_id_new(answer->api->options.session, "resp_");
    } else {
        uint8_t random[24];
        memcpy(turn->id.text, "resp_", 5);
        cn_random_fill(&answer->api->options.random, random, sizeof random);
        sodium_bin2hex(turn->id.text + 5, sizeof turn->id.text - 5, random, sizeof random);
    }
    return CN_OK;
}

// ---- what the answer is to be like

static cn_code read_include(cn_answer *answer, const json_t *body, cn_err *err)
{
    // Those but the first ask for parts of items that never occur here.
    static const char *const known[] = {
        "message.output_text.logprobs", "reasoning.encrypted_content",
        "message.input_image.image_url", "file_search_call.results",
        "web_search_call.results", "web_search_call.action.sources",
        "code_interpreter_call.outputs", "computer_call_output.output.image_url"};
    const json_t *include = cn_json_body_get(body, "include");
    size_t i;
    json_t *value;
    if (include && !json_is_array(include)) return bad_type("include", include, "a list", err);
    json_array_foreach(include, i, value) {
        const char *text = json_string_value(value);
        size_t at = 0;
        while (text && at < sizeof known / sizeof known[0] && strcmp(text, known[at])) at++;
        if (!text) return bad_type("include", value, "a list of strings", err);
        if (at == sizeof known / sizeof known[0]) {
            return cn_err_set_param(err, CN_E_INVALID, "include", "include[%zu]: \"%.64s\"; must "
                                    "be one of OpenAI's, such as message.output_text.logprobs", i,
                                    text);
        }
        answer->params.chat_logprobs |= at == 0;
    }
    return CN_OK;
}

static cn_code read_text_format(const json_t *body, cn_err *err)
{
    const json_t *text = cn_json_body_get(body, "text");
    const json_t *format = cn_json_body_get(text, "format");
    const json_t *type = cn_json_body_get(format, "type");
    const json_t *verbosity = cn_json_body_get(text, "verbosity");
    if (text && !json_is_object(text)) return bad_type("text", text, "an object", err);
    if (format && !json_is_string(type)) {
        return bad_type("text.format.type", type, "a string", err);
    }
    if (type && strcmp(json_string_value(type), "text") != 0) {
        return cn_err_set_param(err, CN_E_UNSUPPORTED, "text.format", "text.format.type: \"%.32s\";"
                                " Cairn does not serve structured output; use \"text\"",
                                json_string_value(type));
    }
    if (verbosity && (!json_is_string(verbosity) ||
                      strcmp(json_string_value(verbosity), "medium") != 0)) {
        return cn_err_set_param(err, CN_E_UNSUPPORTED, "text.verbosity", "text.verbosity: Cairn "
                                "does not steer the length of answers; leave it out");
    }
    return CN_OK;
}

static cn_code read_truncation(const json_t *body, cn_responses_turn *turn, cn_err *err)
{
    const json_t *value = cn_json_body_get(body, "truncation");
    const char *text = json_string_value(value);
    turn->truncates = text && strcmp(text, "auto") == 0;
    if (!value || turn->truncates || (text && strcmp(text, "disabled") == 0)) return CN_OK;
    return cn_err_set_param(err, CN_E_INVALID, "truncation", "truncation: %.32s; must be auto or "
                            "disabled", text ? text : cn_json_body_kind(value));
}

static cn_code check_tool(const json_t *tool, size_t index, cn_err *err)
{
    char place[32];
    const json_t *type = cn_json_body_get(tool, "type");
    snprintf(place, sizeof place, "tools[%zu]", index);
    if (!json_is_string(type)) return bad_type(place, tool, "an object with a type", err);
    if (strcmp(json_string_value(type), "function") != 0) {
        return cn_err_set_param(err, CN_E_UNSUPPORTED, place, "%s.type: \"%.32s\"; Cairn serves "
                                "tools of type function, which the client runs", place,
                                json_string_value(type));
    }
    if (json_is_string(cn_json_body_get(tool, "name"))) return CN_OK;
    return cn_err_set_param(err, CN_E_INVALID, place, "%s.name: %s; must be a string", place,
                            cn_json_body_kind(cn_json_body_get(tool, "name")));
}

// From the form of Responses to that of chats, which templates take.
static json_t *chat_tool(const json_t *tool)
{
    static const char *const names[] = {"name", "description", "parameters", "strict"};
    json_t *function = json_object();
    for (size_t i = 0; i < 4; i++) {
        json_t *value = cn_json_body_get(tool, names[i]);
        if (value) json_object_set(function, names[i], value);
    }
    return json_pack("{s:s, s:o}", "type", "function", "function", function);
}

static cn_code read_tools(const json_t *body, json_t *chat, cn_err *err)
{
    const json_t *tools = cn_json_body_get(body, "tools");
    size_t i;
    json_t *tool;
    if (!tools) return CN_OK;
    if (!json_is_array(tools)) return bad_type("tools", tools, "a list", err);
    json_t *list = json_array();
    if (json_object_set_new(chat, "tools", list)) return no_memory(err);
    json_array_foreach(tools, i, tool) {
        const cn_code code = check_tool(tool, i, err);
        if (code != CN_OK) return code;
        if (json_array_append_new(list, chat_tool(tool))) return no_memory(err);
    }
    return CN_OK;
}

static cn_code read_reasoning(const json_t *body, json_t *chat, cn_err *err)
{
    const json_t *reasoning = cn_json_body_get(body, "reasoning");
    json_t *effort = cn_json_body_get(reasoning, "effort");
    if (reasoning && !json_is_object(reasoning)) {
        return bad_type("reasoning", reasoning, "an object", err);
    }
    if (!effort) return CN_OK;
    if (!json_is_string(effort)) return bad_type("reasoning.effort", effort, "a string", err);
    return json_object_set(chat, "reasoning_effort", effort) ? no_memory(err) : CN_OK;
}

// What the chat template gets beside messages.
static cn_code read_chat(const json_t *body, cn_responses_turn *turn, cn_err *err)
{
    static const char *const passed_on[] = {"tool_choice", "chat_template_kwargs", "documents"};
    turn->body = json_object();
    if (!turn->body) return no_memory(err);
    cn_code code = read_tools(body, turn->body, err);
    if (code == CN_OK) code = read_reasoning(body, turn->body, err);
    for (size_t i = 0; i < 3 && code == CN_OK; i++) {
        json_t *value = cn_json_body_get(body, passed_on[i]);
        if (value && json_object_set(turn->body, passed_on[i], value)) code = no_memory(err);
    }
    return code;
}

static cn_code read_input(cn_answer *answer, const json_t *body, cn_responses_turn *turn,
                          cn_err *err)
{
    const json_t *input = cn_json_body_get(body, "input");
    const json_t *instructions = cn_json_body_get(body, "instructions");
    const bool follows = *turn->parent.text || *turn->conversation.text;
    if (instructions && !json_is_string(instructions)) {
        return bad_type("instructions", instructions, "a string", err);
    }
    if (instructions) {
        turn->instructions_len = json_string_length(instructions);
        turn->instructions = cn_arena_copy(&answer->request->arena,
                                           json_string_value(instructions), turn->instructions_len);
        if (!turn->instructions) return no_memory(err);
    }
    if (!follows && (!input || (json_is_array(input) && json_array_size(input) == 0))) {
        return cn_err_set_param(err, CN_E_INVALID, "input", "input: %s; must be a string or a list "
                                "of items", input ? "an empty list" : "nothing");
    }
    if (!input) {
        turn->items = json_array();
        return turn->items ? CN_OK : no_memory(err);
    }
    return cn_items_read(input, "input", turn->id.text, answer->api->options.limits->messages,
                         "messages", &turn->items, err);
}

// ---- the head of the object

typedef enum echo_kind { TEXT, NUMBER } echo_kind;

static const struct echo {
    const char *name;
    echo_kind kind;
} echoes[] = {
    {"max_tool_calls", NUMBER},        {"user", TEXT},
    {"safety_identifier", TEXT},       {"prompt_cache_key", TEXT},
    {"prompt_cache_retention", TEXT},
};

static cn_code add_echoes(const json_t *body, json_t *head, cn_err *err)
{
    for (size_t i = 0; i < sizeof echoes / sizeof echoes[0]; i++) {
        json_t *value = cn_json_body_get(body, echoes[i].name);
        if (value && echoes[i].kind == TEXT && !json_is_string(value)) {
            return bad_type(echoes[i].name, value, "a string", err);
        }
        if (value && echoes[i].kind == NUMBER && !json_is_integer(value)) {
            return bad_type(echoes[i].name, value, "an integer", err);
        }
        if (json_object_set(head, echoes[i].name, value ? value : json_null())) {
            return no_memory(err);
        }
    }
    return CN_OK;
}

// A default of the model is a float: its shortest form is what people wrote.
static json_t *number_of(const json_t *body, const char *name, double value)
{
    char text[32];
    json_t *given = cn_json_body_get(body, name);
    if (given) return json_incref(given);
    snprintf(text, sizeof text, "%.7g", value);
    return json_real(strtod(text, NULL));
}

static json_t *or_null(const json_t *body, const char *name)
{
    json_t *value = cn_json_body_get(body, name);
    return json_incref(value ? value : json_null());
}

static json_t *integer_or_null(int64_t value)
{
    return value >= 0 ? json_integer(value) : json_null();
}

static json_t *text_or_null(const char *text) { return *text ? json_string(text) : json_null(); }

static json_t *or_new(const json_t *body, const char *name, json_t *absent)
{
    json_t *value = cn_json_body_get(body, name);
    if (!value) return absent;
    json_decref(absent);
    return json_incref(value);
}

static json_t *make_head(const cn_answer *answer, const json_t *body)
{
    const cn_responses_turn *turn = answer->turn;
    const cn_params *p = &answer->params;
    const json_t *reasoning = cn_json_body_get(body, "reasoning");
    json_t *conversation = *turn->conversation.text
                               ? json_pack("{s:s}", "id", turn->conversation.text) : json_null();
    return json_pack(
        "{s:s, s:s, s:I, s:s, s:b, s:o, s:o, s:o, s:o, s:b, s:o, s:{s:o, s:o}, s:s, s:b, s:o, "
        "s:{s:{s:s}, s:s}, s:o, s:o, s:I, s:o, s:s}",
        "id", turn->id.text, "object", "response", "created_at", (json_int_t)turn->created_s,
        "model", answer->api->options.model_name, "background", turn->background,
        "conversation", conversation, "instructions", or_null(body, "instructions"),
        "max_output_tokens", integer_or_null(p->max_output_tokens),
        "metadata", or_new(body, "metadata", json_object()), "parallel_tool_calls",
        p->parallel_tools, "previous_response_id", text_or_null(turn->parent.text),
        "reasoning", "effort", or_null(reasoning, "effort"), "summary",
        or_null(reasoning, "summary"), "service_tier", "default", "store", turn->stored,
        "temperature", number_of(body, "temperature", p->temperature), "text", "format", "type",
        "text", "verbosity", "medium", "tool_choice",
        or_new(body, "tool_choice", json_string("auto")), "tools",
        or_new(body, "tools", json_array()), "top_logprobs",
        (json_int_t)(p->top_logprobs > 0 ? p->top_logprobs : 0), "top_p",
        number_of(body, "top_p", p->top_p), "truncation", turn->truncates ? "auto" : "disabled");
}

static cn_code write_head(cn_answer *answer, const json_t *body, cn_err *err)
{
    cn_responses_turn *turn = answer->turn;
    cn_bytes *head = &turn->view.head;
    json_t *made = make_head(answer, body);
    cn_code code = made ? add_echoes(body, made, err) : no_memory(err);
    if (code == CN_OK) {
        code = cn_json_body_dump(made, &answer->request->arena, &head->data, &head->len, err);
    }
    json_decref(made);
    if (code == CN_OK) head->len--;      // its closing brace
    return code;
}

cn_code cn_responses_read(cn_answer *answer, const json_t *body, cn_err *err)
{
    cn_responses_turn *turn = answer->turn;
    turn->created_s = cn_clock_wall_ns(&answer->api->options.clock) / 1000000000u;
    cn_code code = cn_generate_read(answer, body, turn->salt, err);
    if (code == CN_OK) code = read_place(body, turn, err);
    if (code == CN_OK) code = read_include(answer, body, err);
    if (code == CN_OK) code = read_text_format(body, err);
    if (code == CN_OK) code = read_truncation(body, turn, err);
    if (code == CN_OK) code = cn_metadata_check(cn_json_body_get(body, "metadata"), err);
    if (code == CN_OK) code = read_key(answer, turn, err);
    if (code == CN_OK) code = read_chat(body, turn, err);
    if (code == CN_OK) code = read_input(answer, body, turn, err);
    return code == CN_OK ? write_head(answer, body, err) : code;
}
