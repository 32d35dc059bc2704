#include "dataplane/affinity.h"

#include <ctype.h>
#include <string.h>

#include "dataplane/json_body.h"

static const struct {
    const char *header, *reply;
} names[] = {
    {"x-session-id", NULL},              // which is always in the reply
    {"x-session-affinity", "X-Session-Affinity"},
    {"x-dynamo-session-id", "X-Dynamo-Session-Id"},
    {"x-correlation-id", "X-Correlation-ID"},
};
enum { NAME_COUNT = sizeof names / sizeof names[0] };

bool cn_affinity_is_name(const char *text)
{
    const size_t len = text ? strlen(text) : 0;
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr("-_.:/+=", text[i])) return false;
    }
    return len > 0 && len <= CN_AFFINITY_NAME_BYTES_MAX;
}

static const char *header_of(const cn_answer *answer, int i)
{
    const char *value = cn_http_request_header(answer->request, names[i].header);
    return cn_affinity_is_name(value) ? value : NULL;
}

void cn_affinity_read(cn_answer *answer)
{
    for (int i = 0; i < NAME_COUNT && !answer->session; i++) answer->session = header_of(answer, i);
}

static const char *name_of(const json_t *value)
{
    const char *text = json_string_value(value);
    return cn_affinity_is_name(text) ? text : NULL;
}

cn_code cn_affinity_read_body(cn_answer *answer, const json_t *body, cn_err *err)
{
    if (answer->session) return CN_OK;
    const json_t *conversation = cn_json_body_get(body, "conversation");
    const char *name = name_of(cn_json_body_get(body, "prompt_cache_key"));
    if (!name) name = name_of(conversation);
    if (!name) name = name_of(json_object_get(conversation, "id"));
    answer->session = answer->request_id;
    if (!name) return CN_OK;
    const char *copy = cn_arena_copy(&answer->request->arena, name, strlen(name));
    if (!copy) {
        return cn_err_set(err, CN_E_LIMIT,
                          "the request needs more working memory than limit request_bytes allows");
    }
    answer->session = copy;
    return CN_OK;
}

void cn_affinity_reply(cn_answer *answer)
{
    if (!answer->session) return;
    cn_reply_header(&answer->reply, "X-Session-Id", answer->session);
    for (int i = 1; i < NAME_COUNT; i++) {
        const char *given = header_of(answer, i);
        if (given) cn_reply_header(&answer->reply, names[i].reply, given);
    }
    answer->session = NULL;
}
