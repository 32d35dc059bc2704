#include "dataplane/reply.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"

enum { OUT_BYTES_KEPT = 65536 };

void cn_reply_init(cn_reply *reply, cn_http *http, cn_exchange exchange, size_t bytes_max)
{
    cn_buf out = reply->out;
    cn_buf_clear(&out);
    out.bytes_max = bytes_max;
    *reply = (cn_reply){.http = http, .exchange = exchange, .out = out};
}

void cn_reply_close(cn_reply *reply) { cn_buf_close(&reply->out); }

void cn_reply_header(cn_reply *reply, const char *name, const char *value)
{
    const size_t len = strlen(reply->extra);
    const int added =
        snprintf(reply->extra + len, sizeof reply->extra - len, "%s: %s\r\n", name, value);
    CN_ASSERT(added > 0 && len + (size_t)added < sizeof reply->extra);
}

static void begin(cn_reply *reply, unsigned status, const char *content_type, int64_t length)
{
    CN_ASSERT(reply->state == CN_REPLY_IDLE || reply->gone);
    if (reply->gone) return;
    reply->state = CN_REPLY_STARTING;
    reply->status = status;
    reply->content_type = content_type;
    reply->length = length;
}

void cn_reply_stream(cn_reply *reply, unsigned status, const char *content_type)
{
    begin(reply, status, content_type, CN_HTTP_LENGTH_STREAM);
}

void cn_reply_whole(cn_reply *reply, unsigned status, const char *content_type)
{
    begin(reply, status, content_type, (int64_t)reply->out.len);
    reply->complete = true;
}

void cn_reply_end(cn_reply *reply) { reply->complete = true; }

static void shrink(cn_reply *reply)
{
    cn_buf_clear(&reply->out);
    reply->sent = 0;
    if (reply->out.capacity > OUT_BYTES_KEPT) cn_buf_close(&reply->out);
}

void cn_reply_drop(cn_reply *reply)
{
    reply->gone = true;
    reply->complete = true;
    reply->state = CN_REPLY_ENDED;
    shrink(reply);
}

static bool send_body(cn_reply *reply)
{
    while (reply->sent < reply->out.len) {
        const size_t took =
            cn_http_send(reply->http, reply->exchange, reply->out.data + reply->sent,
                         reply->out.len - reply->sent);
        if (took == 0) return false;
        reply->sent += took;
    }
    shrink(reply);
    return true;
}

bool cn_reply_pump(cn_reply *reply)
{
    if (reply->state == CN_REPLY_ENDED || reply->state == CN_REPLY_IDLE) return true;
    if (reply->state == CN_REPLY_STARTING) {
        if (!cn_http_start(reply->http, reply->exchange, reply->status, reply->content_type,
                           reply->length, reply->extra)) {
            return false;
        }
        reply->state = CN_REPLY_OPEN;
    }
    if (!send_body(reply)) return false;
    if (!reply->complete) return true;
    if (!cn_http_end(reply->http, reply->exchange)) return false;
    reply->state = CN_REPLY_ENDED;
    return true;
}
