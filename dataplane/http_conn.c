#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "dataplane/http_int.h"
#include "dataplane/proxy_header.h"

/* How it works. The bytes of a connection go through
 *
 *   IDLE ──first byte──▶ HEAD ──empty line──▶ BODY ──last byte──▶ ANSWERING ──END──▶ IDLE ...
 *                         │                    │  (none: at once)
 *                         └────────refuse──────┴──▶ CLOSING ──all has left──▶ finish
 *
 * While a request is with the api nothing is taken: the transport holds what comes, and with it the
 * client's window. A head that comes in one piece, as nearly all do, is scanned where it lies and
 * copied once; one that comes in pieces grows in the request's arena.
 *
 * Where a PROXY header is required, a connection begins in the state PROXY and becomes IDLE with it. */

enum { HEAD_BYTES_FIRST = 1024, BODY_BYTES_FIRST = 4096 };

static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";

static cn_http_conn *conn_of(cn_http *http, cn_conn conn)
{
    CN_ASSERT(conn.index < http->conn_max);
    cn_http_conn *c = &http->conns[conn.index];
    CN_ASSERT(c->state != CN_HTTP_CLOSED);
    CN_ASSERT(c->conn.generation == conn.generation);
    return c;
}

static void set_peer(cn_http_conn *c, const char *peer)
{
    snprintf(c->peer, sizeof c->peer, "%s", peer);
}

static void refuse_stranger(cn_http *http, cn_http_conn *c)
{
    cn_err err;
    cn_err_set(&err, CN_E_PEER, "connection from %s: this listener serves the load balancers in "
               "proxy_protocol.from alone", c->peer);
    c->framing = (cn_http_framing){0};
    cn_metrics_add(&http->metrics->malformed, 1);
    cn_http_refuse(http, c, &err);
}

void cn_http_opened(void *self, cn_conn conn, const char *peer)
{
    cn_http *http = self;
    CN_ASSERT(conn.index < http->conn_max);
    cn_http_conn *c = &http->conns[conn.index];
    CN_ASSERT(c->state == CN_HTTP_CLOSED);
    c->conn = conn;
    c->state = http->proxy_from ? CN_HTTP_PROXY : CN_HTTP_IDLE;
    c->is_fresh = true;
    c->is_forwarder = http->forwarded_from && cn_networks_has(http->forwarded_from, peer);
    set_peer(c, peer);
    cn_buf_init(&c->output, SIZE_MAX / 2);       // output_add holds it to the limit
    c->output_bytes_max = http->limits->http_output_bytes;
    http->open_count++;
    cn_metrics_add(&http->metrics->connections_total, 1);
    cn_metrics_set(&http->metrics->connections, http->open_count);
    cn_http_timer_set(http, c, CN_HTTP_KEEP);
    if (http->proxy_from && !cn_networks_has(http->proxy_from, peer)) refuse_stranger(http, c);
}

// Room for `len` bytes at *at + used, kept under `max` as long as that is enough.
static bool grow(cn_arena *arena, char **at, uint64_t used, uint64_t *capacity, uint64_t len,
                 uint64_t first, uint64_t max)
{
    if (len <= *capacity - used) return true;
    uint64_t wanted = *capacity ? *capacity * 2 : first;
    if (wanted > max) wanted = max;
    if (wanted < used + len) wanted = used + len;
    char *bigger = cn_arena_take(arena, (size_t)wanted + 1);
    if (!bigger) return false;
    if (used) memcpy(bigger, *at, (size_t)used);
    *at = bigger;
    *capacity = wanted;
    return true;
}

static cn_code body_too_large(const cn_http *http, cn_err *err)
{
    return cn_err_set(err, CN_E_BODY,
                      "body: with the rest of the request more than %llu bytes, the limit "
                      "request_bytes", (unsigned long long)http->limits->request_bytes);
}

static void begin_request(cn_http *http, cn_http_conn *c)
{
    c->request = cn_http_request_take(http);
    if (!c->request) {
        cn_http_drop(http, c);
        return;
    }
    c->state = CN_HTTP_HEAD;
    c->request->first_byte_ns = cn_http_now(http);
    c->framing = (cn_http_framing){0};
    c->head = c->body = NULL;
    c->head_len = c->head_capacity = 0;
    c->body_len = c->body_capacity = 0;
    c->status = 0;
    cn_http_scan_init(&c->scan);
    cn_http_timer_set(http, c, CN_HTTP_RECEIVE);
}

// The client that the nearest proxy names: the last of the last X-Forwarded-For, if it is an address.
static const char *forwarded_client(const cn_http_request *request)
{
    const char *value = NULL;
    uint8_t ip[16];
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (strcmp(request->headers[i].name, "x-forwarded-for") == 0) value = request->headers[i].value;
    }
    if (!value) return NULL;
    const char *comma = strrchr(value, ',');
    const char *last = comma ? comma + 1 + strspn(comma + 1, " \t") : value;
    return inet_pton(AF_INET, last, ip) == 1 || inet_pton(AF_INET6, last, ip) == 1 ? last : NULL;
}

static void complete(cn_http *http, cn_http_conn *c)
{
    cn_http_request *request = c->request;
    request->body = c->body ? c->body : "";
    request->body_len = (size_t)c->body_len;
    if (c->body) c->body[c->body_len] = '\0';
    const char *forwarded = c->is_forwarder ? forwarded_client(request) : NULL;
    request->peer = forwarded ? forwarded
                              : cn_arena_copy(&request->arena, c->peer, strlen(c->peer));
    request->received_ns = cn_http_now(http);
    if (!request->peer) {
        cn_http_drop(http, c);
        return;
    }
    cn_http_timer_set(http, c, CN_HTTP_NO_TIMER);
    cn_http_dispatch(http, c);
}

static cn_code head_complete(cn_http *http, cn_http_conn *c, bool more_follows, cn_err *err)
{
    const cn_code code = cn_http_parse_head(c->head, c->head_len, c->scan.header_count,
                                            http->limits, c->request, &c->framing, err);
    if (code) return code;
    if (c->framing.chunked) {
        cn_http_chunk_init(&c->chunk);
    } else if (c->framing.body_bytes == 0) {
        complete(http, c);
        return CN_OK;
    } else if (!grow(&c->request->arena, &c->body, 0, &c->body_capacity, c->framing.body_bytes,
                     c->framing.body_bytes, c->framing.body_bytes)) {
        return body_too_large(http, err);
    }
    c->state = CN_HTTP_BODY;
    if (c->framing.expects_continue && !more_follows) {
        cn_http_output_add(http, c, CONTINUE, sizeof CONTINUE - 1);
    }
    return CN_OK;
}

static cn_code receive_head(cn_http *http, cn_http_conn *c, const char *data, size_t len,
                            size_t *taken, cn_err *err)
{
    const cn_code code = cn_http_scan_feed(&c->scan, http->limits, data, len, taken, err);
    if (code) return code;
    uint64_t capacity = c->head_capacity;
    const uint64_t first = c->scan.done ? *taken : HEAD_BYTES_FIRST;
    if (!grow(&c->request->arena, &c->head, c->head_len, &capacity, *taken, first,
              http->limits->http_header_bytes)) {
        return cn_err_set(err, CN_E_MEMORY, "request: no memory for its head");
    }
    c->head_capacity = (uint32_t)capacity;
    memcpy(c->head + c->head_len, data, *taken);
    c->head_len += (uint32_t)*taken;
    return c->scan.done ? head_complete(http, c, *taken < len, err) : CN_OK;
}

static cn_code receive_length(cn_http *http, cn_http_conn *c, const char *data, size_t len,
                              size_t *taken)
{
    const uint64_t left = c->framing.body_bytes - c->body_len;
    *taken = len < left ? len : (size_t)left;
    memcpy(c->body + c->body_len, data, *taken);
    c->body_len += *taken;
    if (c->body_len == c->framing.body_bytes) complete(http, c);
    return CN_OK;
}

static cn_code receive_chunks(cn_http *http, cn_http_conn *c, const char *data, size_t len,
                              size_t *taken, cn_err *err)
{
    const char *bytes;
    size_t bytes_len;
    const cn_code code = cn_http_chunk_feed(&c->chunk, http->limits, data, len, taken, &bytes,
                                            &bytes_len, err);
    if (code) return code;
    if (bytes_len) {
        if (!grow(&c->request->arena, &c->body, c->body_len, &c->body_capacity, bytes_len,
                  BODY_BYTES_FIRST, http->limits->http_body_bytes)) {
            return body_too_large(http, err);
        }
        memcpy(c->body + c->body_len, bytes, bytes_len);
        c->body_len += bytes_len;
    }
    if (c->chunk.done) complete(http, c);
    return CN_OK;
}

static cn_code receive_some(cn_http *http, cn_http_conn *c, const char *data, size_t len,
                            size_t *taken, cn_err *err)
{
    if (c->state == CN_HTTP_HEAD) return receive_head(http, c, data, len, taken, err);
    if (c->framing.chunked) return receive_chunks(http, c, data, len, taken, err);
    return receive_length(http, c, data, len, taken);
}

static cn_code begin_proxy_header(cn_http *http, cn_http_conn *c)
{
    c->request = cn_http_request_take(http);
    if (!c->request) return CN_E_MEMORY;
    c->framing = (cn_http_framing){0};
    c->head = cn_arena_take(&c->request->arena, CN_PROXY_HEADER_BYTES_MAX);
    c->head_len = 0;
    cn_http_timer_set(http, c, CN_HTTP_RECEIVE);
    return c->head ? CN_OK : CN_E_MEMORY;
}

/* Collects the PROXY header in a request's arena; returns how much of the data is its. Whatever is
 * longer than any header is wrong before it is whole, so there is always room. */
static size_t receive_proxy_header(cn_http *http, cn_http_conn *c, const char *data, size_t len)
{
    cn_proxy_header header;
    cn_err err;
    if (!c->request && begin_proxy_header(http, c) != CN_OK) {
        cn_http_drop(http, c);
        return len;
    }
    const uint32_t had = c->head_len, room = CN_PROXY_HEADER_BYTES_MAX - had;
    const uint32_t added = len < room ? (uint32_t)len : room;
    memcpy(c->head + had, data, added);
    c->head_len += added;
    if (cn_proxy_header_parse(c->head, c->head_len, &header, &err) != CN_OK) {
        cn_metrics_add(&http->metrics->malformed, 1);
        cn_http_refuse(http, c, &err);
        return len;
    }
    if (header.bytes == 0) return added;
    if (header.client[0]) set_peer(c, header.client);
    cn_http_request_put(http, c->request);
    c->request = NULL;
    c->state = CN_HTTP_IDLE;
    cn_http_timer_set(http, c, CN_HTTP_KEEP);
    return header.bytes - had;
}

size_t cn_http_received(void *self, cn_conn conn, const char *data, size_t len)
{
    cn_http *http = self;
    cn_http_conn *c = conn_of(http, conn);
    c->is_fresh = false;
    size_t at = c->state == CN_HTTP_PROXY && len ? receive_proxy_header(http, c, data, len) : 0;
    if (c->state == CN_HTTP_IDLE && at < len) begin_request(http, c);
    while (at < len && (c->state == CN_HTTP_HEAD || c->state == CN_HTTP_BODY)) {
        cn_err err;
        size_t taken = 0;
        if (receive_some(http, c, data + at, len - at, &taken, &err)) {
            cn_metrics_add(&http->metrics->malformed, 1);
            cn_http_refuse(http, c, &err);
        }
        at += taken;
    }
    // Whoever has had the last answer is listened to no longer: finish discards what follows.
    if (c->state == CN_HTTP_CLOSING || c->state == CN_HTTP_CLOSED) at = len;
    cn_metrics_add(&http->metrics->received_bytes, at);
    return at;
}

void cn_http_writable(void *self, cn_conn conn)
{
    cn_http *http = self;
    cn_http_conn *c = conn_of(http, conn);
    c->write_blocked = false;
    cn_http_output_flush(http, c);
}

void cn_http_closed(void *self, cn_conn conn)
{
    cn_http *http = self;
    cn_http_forget(http, conn_of(http, conn));
}
