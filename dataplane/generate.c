#include "dataplane/api_int.h"

#include <inttypes.h>
#include <string.h>

#include "dataplane/affinity.h"
#include "dataplane/json_body.h"

cn_params_context cn_generate_params_context(const cn_answer *answer, unsigned requests)
{
    const struct cn_api *api = answer->api;
    return (cn_params_context){
        .requests = requests,
        .limits = api->options.limits,
        .defaults = cn_checkpoint_generation(api->options.checkpoint),
        .vocab_count = cn_checkpoint_spec(api->options.checkpoint)->vocab_count,
        .arena = &answer->request->arena,
    };
}

/* Counting a prompt that is a little too long gives its sender an exact number; one that is far too
 * long is not worth the time. */
uint32_t cn_generate_tokens_max(const struct cn_api *api)
{
    const uint64_t tokens = (uint64_t)api->engine.context_tokens_max * 4;
    return tokens < INT32_MAX ? (uint32_t)tokens : INT32_MAX;
}

cn_code cn_generate_check_bytes(cn_answer *answer, size_t text_len, cn_err *err)
{
    const uint64_t tokens_max = cn_generate_tokens_max(answer->api);
    if (text_len <= tokens_max * answer->api->token_bytes_max) return CN_OK;
    return cn_generate_context_error(answer, tokens_max + 1, -1, err);
}

cn_code cn_generate_context_error(cn_answer *answer, uint64_t prompt_tokens, int64_t max_tokens,
                                  cn_err *err)
{
    const uint32_t window = answer->api->engine.context_tokens_max;
    const char *more = prompt_tokens > cn_generate_tokens_max(answer->api) ? " or more" : "";
    answer->error_prompt_tokens = prompt_tokens;
    if (answer->kind->requests == CN_PARAMS_RESPONSE && prompt_tokens >= window) {
        return cn_err_set_param(err, CN_E_CONTEXT, "input", "Your input exceeds the context window "
                                "of this model. Please adjust your input and try again. (%" PRIu64
                                " tokens%s; the window holds %u)", prompt_tokens, more, window);
    }
    if (prompt_tokens >= window) {
        return cn_err_set_param(err, CN_E_CONTEXT, answer->kind->input,
                                "the prompt has %" PRIu64 " tokens%s; the context window holds %u "
                                "for prompt and answer", prompt_tokens, more, window);
    }
    const char *name = answer->kind->requests == CN_PARAMS_RESPONSE ? "max_output_tokens"
                                                                    : "max_tokens";
    return cn_err_set_param(err, CN_E_CONTEXT, name,
                            "%s: %" PRId64 ", and the prompt has %" PRIu64 " tokens; the "
                            "context window holds %u for both, so at most %" PRIu64, name, max_tokens,
                            prompt_tokens, window, window - prompt_tokens);
}

static cn_code check_model(const cn_answer *answer, const json_t *body, cn_err *err)
{
    const char *name = answer->api->options.model_name;
    const json_t *model = cn_json_body_get(body, "model");
    if (!model) return CN_OK;
    if (!json_is_string(model)) {
        return cn_err_set_param(err, CN_E_INVALID, "model", "model: %s; must be a string",
                                cn_json_body_kind(model));
    }
    if (strcmp(json_string_value(model), name) == 0) return CN_OK;
    if (answer->kind->requests == CN_PARAMS_RESPONSE) {
        return cn_err_set_param(err, CN_E_BAD_MODEL, "model", "The requested model '%.128s' does "
                                "not exist. This server has '%.128s'.", json_string_value(model),
                                name);
    }
    return cn_err_set_param(err, CN_E_MODEL, "model",
                            "model: \"%.128s\"; this server has \"%.128s\"",
                            json_string_value(model), name);
}

static cn_code make_salt(const cn_answer *answer, const json_t *body, uint8_t out[CN_KEY_BYTES],
                         cn_err *err)
{
    const json_t *salt = cn_json_body_get(body, "cache_salt");
    if (salt && !json_is_string(salt)) {
        return cn_err_set_param(err, CN_E_INVALID, "cache_salt", "cache_salt: %s; must be a string",
                                cn_json_body_kind(salt));
    }
    cn_auth_salt(answer->tenant, salt ? json_string_value(salt) : "",
                 salt ? json_string_length(salt) : 0, out);
    return CN_OK;
}

// The body may name the request as well; the header has precedence.
static cn_code name_request(cn_answer *answer, const json_t *body, cn_err *err)
{
    const json_t *name = cn_json_body_get(body, "request_id");
    if (!name) return CN_OK;
    if (!json_is_string(name)) {
        return cn_err_set_param(err, CN_E_INVALID, "request_id", "request_id: %s; must be a string",
                                cn_json_body_kind(name));
    }
    if (!cn_http_request_header(answer->request, "x-request-id")) {
        cn_api_name_request(answer, json_string_value(name));
    }
    return CN_OK;
}

static cn_code chat_input(cn_answer *answer, json_t *body, cn_answer_input *out, cn_err *err)
{
    struct cn_api *api = answer->api;
    cn_arena *arena = &answer->request->arena;
    const uint32_t tokens_max = cn_generate_tokens_max(api);
    cn_token_list tokens;
    cn_code code = cn_chat_render(&api->chat, body, &answer->params, arena, err);
    if (code == CN_OK) code = cn_generate_check_bytes(answer, api->chat.text.len, err);
    if (code != CN_OK) return code;
    code = cn_chat_encode(&api->chat, &answer->params, tokens_max, arena, &tokens, err);
    if (code == CN_E_LIMIT) {
        return cn_generate_context_error(answer, (uint64_t)tokens_max + 1, -1, err);
    }
    if (code != CN_OK) return code;
    if (tokens.count == 0) {
        return cn_err_set_param(err, CN_E_INVALID, "messages",
                                "messages: the rendered prompt has no tokens; must have some");
    }
    *out = (cn_answer_input){.ids = tokens.ids, .count = tokens.count};
    return CN_OK;
}

cn_code cn_generate_read(cn_answer *answer, const json_t *body, uint8_t salt[CN_KEY_BYTES],
                         cn_err *err)
{
    const cn_params_context context = cn_generate_params_context(answer, answer->kind->requests);
    cn_code code = check_model(answer, body, err);
    if (code == CN_OK) code = cn_params_read(body, &context, &answer->params, err);
    if (code == CN_OK) code = name_request(answer, body, err);
    if (code == CN_OK) code = cn_affinity_read_body(answer, body, err);
    return code == CN_OK ? make_salt(answer, body, salt, err) : code;
}

static cn_code submit_body(cn_answer *answer, json_t *body, cn_err *err)
{
    uint8_t salt[CN_KEY_BYTES];
    cn_answer_input one, *inputs = &one;
    uint32_t count = 1;
    cn_code code = cn_generate_read(answer, body, salt, err);
    if (code != CN_OK) return code;
    code = answer->kind->is_chat ? chat_input(answer, body, &one, err)
                                 : cn_completions_prompts(answer, body, &inputs, &count, err);
    return code == CN_OK ? cn_answer_submit(answer, inputs, count, salt, err) : code;
}

static cn_code generate(cn_answer *answer, cn_err *err)
{
    json_t *body;
    const cn_http_request *request = answer->request;
    cn_code code = cn_json_body_parse(request->body, request->body_len,
                                      answer->api->options.limits->json_depth, &body, err);
    if (code != CN_OK) return code;
    code = submit_body(answer, body, err);
    json_decref(body);
    return code;
}

cn_code cn_generate_chat(cn_answer *answer, const cn_route *route, cn_err *err)
{
    (void)route;
    answer->kind = &cn_answer_chat;
    return generate(answer, err);
}

cn_code cn_generate_completion(cn_answer *answer, const cn_route *route, cn_err *err)
{
    (void)route;
    answer->kind = &cn_answer_text;
    return generate(answer, err);
}
