#include "dataplane/ask.h"

#include <string.h>

#include <sodium.h>

#include "base/assert.h"
#include "dataplane/api_int.h"

enum { KEY_CHARS_MAX = 255 };

cn_session_call *cn_ask_prepare(cn_answer *answer, cn_err *err)
{
    if (!answer->api->options.session) {
        cn_err_set(err, CN_E_STORE, "this server keeps no turns; send \"store\": false");
        return NULL;
    }
    if (!answer->ask) {
        answer->ask = cn_arena_take_array(&answer->request->arena, 1, sizeof *answer->ask);
    }
    if (!answer->ask) {
        cn_err_set(err, CN_E_LIMIT,
                   "the request needs more working memory than limit request_bytes allows");
        return NULL;
    }
    CN_ASSERT(!answer->ask->is_open);
    return &answer->ask->call;
}

static void done(cn_session_call *call)
{
    cn_answer *answer = call->user;
    if (call->kind == CN_SESSION_COMMIT) {
        answer->marks.written_ns = cn_clock_now_ns(&answer->api->options.clock);
    }
    answer->ask->is_open = false;
    answer->ask->is_back = true;
    cn_api_todo(answer);
}

cn_code cn_ask_start(cn_answer *answer, cn_session_kind kind, cn_ask_then then, cn_err *err)
{
    const struct cn_api *api = answer->api;
    cn_ask *ask = answer->ask;
    cn_session_call *call = &ask->call;
    memcpy(call->tenant, answer->tenant, sizeof call->tenant);
    call->kind = kind;
    call->arena = &answer->request->arena;
    const uint64_t now_ns = cn_clock_now_ns(&api->options.clock);
    if (kind == CN_SESSION_COMMIT) answer->marks.write_ns = now_ns;
    call->deadline_ns = now_ns + api->options.limits->store_ms * 1000000u;
    call->err = (cn_err){.code = CN_OK};
    call->done = done;
    call->user = answer;
    ask->then = then;
    ask->is_open = true;
    if (cn_session_start(api->options.session, call) == CN_OK) return CN_OK;
    ask->is_open = false;
    return cn_err_set(err, CN_E_QUEUE, "too many requests wait for the store of turns");
}

cn_code cn_ask_id(cn_answer *answer, cn_session_kind kind, const cn_session_id *id,
                  cn_ask_then then, cn_err *err)
{
    cn_session_call *call = cn_ask_prepare(answer, err);
    if (!call) return err->code;
    call->id = *id;
    return cn_ask_start(answer, kind, then, err);
}

bool cn_ask_is_open(const cn_answer *answer)
{
    return answer->ask && (answer->ask->is_open || answer->ask->is_back);
}

void cn_ask_go_on(cn_answer *answer)
{
    cn_err err = {.code = CN_OK};
    if (!answer->ask || !answer->ask->is_back) return;
    answer->ask->is_back = false;
    if (answer->reply.gone && !answer->detached) return;
    if (answer->ask->then(answer, &answer->ask->call, &err) != CN_OK) cn_answer_fail(answer, &err);
}

cn_code cn_ask_error(const cn_session_call *call, const char *what, const char *id, cn_err *err)
{
    if (call->err.code == CN_E_NOT_FOUND) {
        return cn_err_set(err, CN_E_ABSENT, "%s with id '%.64s' not found.", what, id);
    }
    if (call->err.code == CN_E_CONFLICT) {
        return cn_err_set_param(err, CN_E_CONFLICT, "conversation", "Another process has changed this "
                                "conversation first, and nothing of this request is kept: %.192s. "
                                "Please retry.", call->err.text);
    }
    *err = call->err;
    return err->code;
}

void cn_ask_digest(const cn_answer *answer, uint8_t out[CN_KEY_BYTES])
{
    const cn_http_request *request = answer->request;
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, CN_KEY_BYTES);
    crypto_generichash_update(&state, (const unsigned char *)request->path,
                              strlen(request->path) + 1);
    crypto_generichash_update(&state, (const unsigned char *)request->body, request->body_len);
    crypto_generichash_final(&state, out, CN_KEY_BYTES);
}

cn_code cn_ask_key(const cn_answer *answer, const char **out, cn_err *err)
{
    *out = cn_http_request_header(answer->request, "idempotency-key");
    if (!*out || (**out && strlen(*out) <= KEY_CHARS_MAX)) return CN_OK;
    return cn_err_set(err, CN_E_INVALID, "Idempotency-Key: %zu characters; must be 1 to %d", strlen(*out),
                      KEY_CHARS_MAX);
}

cn_code cn_ask_parse_id(const char *text, const char *prefix, const char *what, cn_session_id *out,
                        cn_err *err)
{
    if (cn_session_id_parse(text, prefix, out)) return CN_OK;
    return cn_err_set(err, CN_E_ABSENT, "%s with id '%.64s' not found.", what, text);
}
