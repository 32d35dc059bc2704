#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "dataplane/http_int.h"

/* The api's side of the rings. What a call sends is all or nothing (start, end) or a prefix (send):
 * it counts the free places first, which only this thread takes, so nothing is left half pushed. */

bool cn_http_next(cn_http *http, cn_http_message *out) { return cn_ring_take(http->messages, out); }

const char *cn_http_request_header(const cn_http_request *request, const char *name)
{
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (strcmp(request->headers[i].name, name) == 0) return request->headers[i].value;
    }
    return NULL;
}

void cn_http_request_free(cn_http *http, cn_http_request *request)
{
    if (!request) return;
    cn_arena_reset(&request->arena);
    if (request->arena.total_bytes <= CN_HTTP_SPARE_BYTES_MAX &&
        cn_ring_push(http->spent, &request)) {
        return;
    }
    cn_arena_close(&request->arena);
    free(request);
}

// Whether `count` messages can be pushed. If not, the net thread is woken to make room.
static bool has_room(cn_http *http, size_t count)
{
    if (cn_ring_space(http->answers) >= count) return true;
    cn_metrics_add(&http->metrics->ring_answers, 1);
    cn_wake_signal(http->net_wake);
    return false;
}

static void push(cn_http *http, const cn_http_answer *answer)
{
    const bool pushed = cn_ring_push(http->answers, answer);
    CN_ASSERT(pushed);
    http->api_sent = true;
}

bool cn_http_start(cn_http *http, cn_exchange exchange, unsigned status, const char *content_type,
                   int64_t length, const char *extra)
{
    const size_t type_len = strlen(content_type), extra_len = strlen(extra);
    CN_ASSERT(type_len <= CN_HTTP_TYPE_BYTES_MAX);
    CN_ASSERT(status >= 200 && status <= 599);
    CN_ASSERT(length >= 0 || length == CN_HTTP_LENGTH_STREAM);
    const size_t count = (type_len + extra_len) / CN_HTTP_ANSWER_BYTES + 1;
    if (!has_room(http, count)) return false;

    cn_http_answer m = {.exchange = exchange, .kind = CN_HTTP_START, .total = length,
                        .status = (uint16_t)status, .type_len = (uint16_t)type_len, .first = true};
    size_t at = 0, used = type_len;
    memcpy(m.bytes, content_type, type_len);
    for (size_t i = 0; i < count; i++) {
        const size_t room = CN_HTTP_ANSWER_BYTES - used;
        const size_t n = extra_len - at < room ? extra_len - at : room;
        memcpy(m.bytes + used, extra + at, n);
        at += n;
        m.len = (uint16_t)(used + n);
        m.last = i == count - 1;
        push(http, &m);
        m.first = false;
        used = 0;
    }
    return true;
}

size_t cn_http_send(cn_http *http, cn_exchange exchange, const char *data, size_t len)
{
    if (len == 0 || !has_room(http, 1)) return 0;
    const size_t room = (size_t)cn_ring_space(http->answers) * CN_HTTP_ANSWER_BYTES;
    const size_t taken = len < room ? len : room;
    cn_http_answer m;
    memset(&m, 0, offsetof(cn_http_answer, bytes));
    m.exchange = exchange;
    m.kind = CN_HTTP_BYTES;
    m.total = (int64_t)taken;
    m.first = true;
    for (size_t at = 0; at < taken; at += m.len) {
        const size_t left = taken - at;
        m.len = (uint16_t)(left < CN_HTTP_ANSWER_BYTES ? left : CN_HTTP_ANSWER_BYTES);
        m.last = m.len == left;
        memcpy(m.bytes, data + at, m.len);
        push(http, &m);
        m.first = false;
    }
    return taken;
}

bool cn_http_end(cn_http *http, cn_exchange exchange)
{
    if (!has_room(http, 1)) return false;
    cn_http_answer m;
    memset(&m, 0, offsetof(cn_http_answer, bytes));
    m.exchange = exchange;
    m.kind = CN_HTTP_END;
    push(http, &m);
    return true;
}

void cn_http_flush(cn_http *http)
{
    if (!http->api_sent) return;
    http->api_sent = false;
    cn_wake_signal(http->net_wake);
}
