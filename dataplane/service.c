#include "dataplane/api_int.h"

#include <string.h>

#include "dataplane/json_body.h"

enum { MODEL_NAME_BYTES = 1024 };

static void reply_json(cn_answer *answer, unsigned status)
{
    cn_reply_whole(&answer->reply, status, "application/json");
}

static void add_json_text(cn_buf *out, const char *text)
{
    cn_buf_add_json(out, text, strlen(text));
}

// ---- models

static void add_model(const struct cn_api *api, cn_buf *out)
{
    const cn_checkpoint *checkpoint = api->options.checkpoint;
    const cn_model_spec *spec = cn_checkpoint_spec(checkpoint);
    cn_buf_add_text(out, "{\"id\":");
    add_json_text(out, api->options.model_name);
    cn_buf_add_text(out, ",\"object\":\"model\",\"created\":");
    cn_buf_add_u64(out, api->opened_s);
    cn_buf_add_text(out, ",\"owned_by\":\"cairn\",\"root\":");
    add_json_text(out, api->options.model_name);
    cn_buf_add_text(out, ",\"parent\":null,\"max_model_len\":");
    cn_buf_add_u64(out, api->engine.context_tokens_max);
    cn_buf_add_text(out, ",\"permission\":[],\"meta\":{\"n_vocab\":");
    cn_buf_add_u64(out, spec->vocab_count);
    cn_buf_add_text(out, ",\"n_ctx_train\":");
    cn_buf_add_u64(out, spec->context_tokens_max);
    cn_buf_add_text(out, ",\"n_embd\":");
    cn_buf_add_u64(out, spec->dim);
    cn_buf_add_text(out, ",\"n_params\":");
    cn_buf_add_u64(out, cn_checkpoint_parameter_count(checkpoint));
    cn_buf_add_text(out, "}}");
}

static cn_code list_models(cn_answer *answer)
{
    cn_buf *out = &answer->reply.out;
    cn_buf_add_text(out, "{\"object\":\"list\",\"data\":[");
    add_model(answer->api, out);
    cn_buf_add_text(out, "]}");
    reply_json(answer, 200);
    return CN_OK;
}

static cn_code show_model(cn_answer *answer, const char *path, cn_err *err)
{
    const char *name = answer->api->options.model_name;
    char asked[MODEL_NAME_BYTES];
    cn_route_decode(path, strlen(path), asked, sizeof asked);
    if (strcmp(asked, name) != 0) {
        return cn_err_set_param(err, CN_E_MODEL, "model", "model: \"%.128s\"; this server has "
                                "\"%.128s\"", path, name);
    }
    add_model(answer->api, &answer->reply.out);
    reply_json(answer, 200);
    return CN_OK;
}

// ---- tokens

static cn_code plain_tokens(cn_answer *answer, const json_t *body, cn_token_list *out, cn_err *err)
{
    const json_t *prompt = cn_json_body_get(body, "prompt");
    const cn_encode_options options = {
        .add_special_tokens =
            !answer->params.add_special_tokens_given || answer->params.add_special_tokens,
    };
    if (!json_is_string(prompt)) {
        return cn_err_set_param(err, CN_E_INVALID, "prompt", "prompt: %s; must be a string, or "
                                "messages must be given", cn_json_body_kind(prompt));
    }
    return cn_tokenizer_encode(answer->api->options.tokenizer, json_string_value(prompt),
                               json_string_length(prompt), &options, &answer->request->arena, out,
                               err);
}

static cn_code chat_tokens(cn_answer *answer, json_t *body, cn_token_list *out, cn_err *err)
{
    cn_chat *chat = &answer->api->chat;
    cn_arena *arena = &answer->request->arena;
    const cn_code code = cn_chat_render(chat, body, &answer->params, arena, err);
    return code == CN_OK ? cn_chat_encode(chat, &answer->params, 0, arena, out, err) : code;
}

static void add_tokens(cn_answer *answer, const cn_token_list *tokens)
{
    cn_buf *out = &answer->reply.out;
    cn_buf_add_text(out, "{\"count\":");
    cn_buf_add_u64(out, tokens->count);
    cn_buf_add_text(out, ",\"max_model_len\":");
    cn_buf_add_u64(out, answer->api->engine.context_tokens_max);
    cn_buf_add_text(out, ",\"tokens\":[");
    for (uint32_t i = 0; i < tokens->count; i++) {
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add_u64(out, (uint64_t)tokens->ids[i]);
    }
    cn_buf_add_text(out, "],\"token_strs\":");
    if (!answer->params.token_strings) {
        cn_buf_add_text(out, "null}");
        return;
    }
    for (uint32_t i = 0; i < tokens->count; i++) {
        const char *text = cn_tokenizer_token(answer->api->options.tokenizer, tokens->ids[i]);
        cn_buf_add_char(out, i ? ',' : '[');
        add_json_text(out, text ? text : "");
    }
    cn_buf_add_text(out, tokens->count ? "]}" : "[]}");
}

static cn_code tokenize(cn_answer *answer, json_t *body, cn_err *err)
{
    cn_token_list tokens;
    const cn_code code = cn_json_body_get(body, "messages")
                             ? chat_tokens(answer, body, &tokens, err)
                             : plain_tokens(answer, body, &tokens, err);
    if (code != CN_OK) return code;
    add_tokens(answer, &tokens);
    reply_json(answer, 200);
    return CN_OK;
}

static cn_code detokenize(cn_answer *answer, const json_t *body, cn_err *err)
{
    const uint32_t vocab_count = cn_checkpoint_spec(answer->api->options.checkpoint)->vocab_count;
    cn_buf *out = &answer->reply.out, *text = &answer->api->text;
    int32_t *ids;
    uint32_t count;
    const cn_code code =
        cn_params_token_ids(cn_json_body_get(body, "tokens"), "tokens", vocab_count,
                            &answer->request->arena, &ids, &count, err);
    if (code != CN_OK) return code;
    cn_buf_clear(text);
    cn_tokenizer_decode(answer->api->options.tokenizer, ids, count, false, text);
    cn_buf_add_text(out, "{\"prompt\":");
    cn_buf_add_json(out, text->data, text->len);
    cn_buf_add_char(out, '}');
    reply_json(answer, 200);
    return CN_OK;
}

static cn_code apply_template(cn_answer *answer, json_t *body, cn_err *err)
{
    cn_chat *chat = &answer->api->chat;
    cn_buf *out = &answer->reply.out;
    const cn_code code =
        cn_chat_render(chat, body, &answer->params, &answer->request->arena, err);
    if (code != CN_OK) return code;
    cn_chat_strip(chat);
    cn_buf_add_text(out, "{\"prompt\":");
    cn_buf_add_json(out, chat->text.data, chat->text.len);
    cn_buf_add_char(out, '}');
    reply_json(answer, 200);
    return CN_OK;
}

static cn_code answer_body(cn_answer *answer, cn_route_id id, cn_err *err)
{
    const cn_http_request *request = answer->request;
    const cn_params_context context = cn_generate_params_context(answer, CN_PARAMS_TOKENS);
    json_t *body;
    cn_code code = cn_json_body_parse(request->body, request->body_len, context.limits->json_depth,
                                      &body, err);
    if (code != CN_OK) return code;
    code = cn_params_read(body, &context, &answer->params, err);
    if (code == CN_OK) {
        code = id == CN_ROUTE_TOKENIZE     ? tokenize(answer, body, err)
               : id == CN_ROUTE_DETOKENIZE ? detokenize(answer, body, err)
                                           : apply_template(answer, body, err);
    }
    json_decref(body);
    return code;
}

// ---- operators

// Away is no reason not to be ready: what needs no store is served.
static void add_store(const cn_api *api, cn_buf *out)
{
    const cn_store *store = api->options.store;
    cn_store_state state;
    if (!store) {
        cn_buf_add_text(out, ",\"store\":null}");
        return;
    }
    store->ops->state(store, &state);
    cn_buf_add_format(out, ",\"store\":{\"durability\":\"%s\",\"log\":\"%s\",\"pages\":\"%s\"}}",
                      cn_store_durability_name(state.durability), state.log_up ? "up" : "away",
                      state.pages_up ? "up" : "away");
}

/* `status` is the gravest reason; `reasons` has all of them. */
unsigned cn_service_ready(const cn_api *api, cn_buf *out)
{
    const char *stalled = cn_api_stalled(api), *blocked = cn_api_blocked(api);
    const bool draining = cn_api_is_retiring(api);
    const char *status = stalled ? "stalled" : draining ? "draining" : blocked ? "blocked" : NULL;
    cn_buf_add_format(out, "{\"ready\":%s,\"status\":\"%s\",\"reasons\":[", status ? "false" : "true",
                      status ? status : "ok");
    if (stalled) cn_buf_add_format(out, "\"stalled: the %s thread does not go on\",", stalled);
    if (draining)
        cn_buf_add_text(out, "\"draining: the server is shutting down; running answers go on\",");
    if (blocked) cn_buf_add_format(out, "\"%s\",", blocked);
    if (status) out->len--;              // the last comma
    cn_buf_add_char(out, ']');
    add_store(api, out);
    return status ? 503 : 200;
}

unsigned cn_service_live(const cn_api *api, cn_buf *out)
{
    const char *stalled = cn_api_stalled(api);
    if (stalled) cn_buf_add_format(out, "{\"live\":false,\"stalled\":\"%s\"}", stalled);
    else cn_buf_add_text(out, "{\"live\":true}");
    return stalled ? 503 : 200;
}

static cn_code answer_ready(cn_answer *answer)
{
    const unsigned status = cn_service_ready(answer->api, &answer->reply.out);
    if (status != 200) cn_reply_header(&answer->reply, "Retry-After", "1");
    reply_json(answer, status);
    return CN_OK;
}

static cn_code answer_live(cn_answer *answer)
{
    reply_json(answer, cn_service_live(answer->api, &answer->reply.out));
    return CN_OK;
}

static cn_code answer_metrics(cn_answer *answer, cn_err *err)
{
    const cn_api_page *page = &answer->api->options.metrics_page;
    const char *type;
    if (!page->write) {
        return cn_err_set(err, CN_E_NOT_FOUND, "GET /metrics: is on the listener for operators here "
                          "(admin.listen)");
    }
    const cn_code code = page->write(page->self, answer->request, &answer->reply.out, &type, err);
    if (code == CN_OK) cn_reply_whole(&answer->reply, 200, type);
    return code;
}

static cn_code answer_text(cn_answer *answer, const char *json)
{
    cn_buf_add_text(&answer->reply.out, json);
    reply_json(answer, 200);
    return CN_OK;
}

cn_code cn_service_answer(cn_answer *answer, const cn_route *route, cn_err *err)
{
    switch (route->id) {
    case CN_ROUTE_MODELS: return list_models(answer);
    case CN_ROUTE_MODEL: return show_model(answer, route->tail, err);
    case CN_ROUTE_TOKENIZE:
    case CN_ROUTE_DETOKENIZE:
    case CN_ROUTE_APPLY_TEMPLATE: return answer_body(answer, route->id, err);
    case CN_ROUTE_LIVEZ: return answer_live(answer);
    case CN_ROUTE_READYZ:
    case CN_ROUTE_HEALTH: return answer_ready(answer);
    case CN_ROUTE_METRICS: return answer_metrics(answer, err);
    case CN_ROUTE_VERSION: return answer_text(answer, "{\"version\":\"" CN_VERSION "\"}");
    default: break;              // elsewhere, or nowhere
    }
    return cn_err_set(err, CN_E_INTERNAL, "route %d has no answer", (int)route->id);
}
