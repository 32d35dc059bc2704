#include <http_parser.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "dataplane/http_int.h"

/* How it works. What the api sends is appended to the output of its connection, framed; at the end
 * of the round each connection that has something gets one write. So what was sent together leaves
 * together, and a token costs a stream one system call.
 *
 * The bytes of one cn_http_send become one chunk: its first message says how many they are in all,
 * and the rest follow surely, because the api counted the free places of the ring before it began.
 *
 * Output is bounded when it is appended: if it would go beyond the limit, what is there is offered
 * to the transport first, so that only a client that does not read is dropped and never one that
 * was merely given much at once. A whole answer may be as long as the api could make it: it is in
 * memory already, and the time until it has been read is bounded. */

enum {
    OUTPUT_BYTES_KEPT = 16384,       // a larger output gives its memory back once it has left
    HEAD_BYTES_MAX = 512             // status line and the fields that we add
};

void cn_http_mark_dirty(cn_http *http, cn_http_conn *c)
{
    if (c->dirty) return;
    c->dirty = true;
    http->dirty[http->dirty_count++] = c->conn.index;
}

static void all_has_left(cn_http *http, cn_http_conn *c)
{
    cn_buf_clear(&c->output);
    c->output_sent = 0;
    if (c->output.capacity > OUTPUT_BYTES_KEPT) cn_buf_close(&c->output);
    if (c->state == CN_HTTP_CLOSING || (http->draining && c->state == CN_HTTP_IDLE)) {
        const cn_conn conn = c->conn;
        cn_http_forget(http, c);
        http->ops->finish(http->transport, conn);
    }
}

static void write_some(cn_http *http, cn_http_conn *c)
{
    const size_t unsent = cn_http_unsent(c);
    if (c->write_blocked || !unsent) return;
    const size_t took =
        http->ops->write(http->transport, c->conn, c->output.data + c->output_sent, unsent);
    c->output_sent += took;
    c->write_blocked = took < unsent;
    cn_metrics_add(&http->metrics->sent_bytes, took);
    // A client that reads its last answer slowly gets as long as it goes on reading.
    if (took && c->timer == CN_HTTP_KEEP) cn_http_timer_set(http, c, CN_HTTP_KEEP);
}

void cn_http_output_flush(cn_http *http, cn_http_conn *c)
{
    write_some(http, c);
    if (cn_http_unsent(c) == 0) all_has_left(http, c);
}

// Moves what has not left to the front once that is less than what has, so each byte moves once.
static void compact(cn_http_conn *c)
{
    const size_t unsent = cn_http_unsent(c);
    if (c->output_sent == 0 || c->output_sent < unsent) return;
    memmove(c->output.data, c->output.data + c->output_sent, unsent);
    c->output.len = unsent;
    c->output_sent = 0;
}

bool cn_http_output_add(cn_http *http, cn_http_conn *c, const void *data, size_t len)
{
    if (cn_http_unsent(c) + len > c->output_bytes_max) {
        write_some(http, c);
        if (cn_http_unsent(c) + len > c->output_bytes_max) {
            cn_metrics_add(&http->metrics->slow_readers, 1);
            cn_http_drop(http, c);
            return false;
        }
    }
    compact(c);
    cn_buf_add(&c->output, data, len);
    if (c->output.overflowed) {      // no memory
        cn_http_drop(http, c);
        return false;
    }
    cn_http_mark_dirty(http, c);
    return true;
}

// ---- heads -------------------------------------------------------------------------------------

static const char *date(cn_http *http)
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const uint64_t s = cn_clock_wall_ns(&http->clock) / 1000000000u;
    if (s == http->date_s && http->date[0]) return http->date;
    const time_t t = (time_t)s;
    struct tm tm;
    gmtime_r(&t, &tm);
    // Field widths are the calendar's; the remainders only tell the compiler so.
    snprintf(http->date, sizeof http->date, "%s, %02u %s %04u %02u:%02u:%02u GMT",
             days[tm.tm_wday % 7], (unsigned)tm.tm_mday % 32, months[tm.tm_mon % 12],
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 24,
             (unsigned)tm.tm_min % 60, (unsigned)tm.tm_sec % 61);
    http->date_s = s;
    return http->date;
}

static cn_http_delimiter delimiter_of(const cn_http_conn *c, unsigned status, int64_t length)
{
    if (c->framing.is_head || status == 204 || status == 304) return CN_HTTP_NO_BODY;
    if (length >= 0) return CN_HTTP_BY_LENGTH;
    return c->framing.http10 ? CN_HTTP_BY_CLOSE : CN_HTTP_BY_CHUNKS;
}

// A buffer in `memory` that never grows: printf would be a third of the cost of a small answer.
static cn_buf fixed_buf(char *memory, size_t bytes)
{
    return (cn_buf){.data = memory, .capacity = bytes, .bytes_max = bytes};
}

// What tells the client where the body ends; HEAD is told the same as GET.
static void add_framing(const cn_http_conn *c, int64_t length, cn_buf *head)
{
    if (length >= 0) {
        cn_buf_add_text(head, "Content-Length: ");
        cn_buf_add_u64(head, (uint64_t)length);
        cn_buf_add_text(head, "\r\n");
    } else if (!c->framing.http10) {
        cn_buf_add_text(head, "Transfer-Encoding: chunked\r\n");
    }
}

// Everything but `extra` and the empty line. Decides how the body is framed.
static bool add_head(cn_http *http, cn_http_conn *c, unsigned status, int64_t length,
                     const char *type, size_t type_len)
{
    char memory[HEAD_BYTES_MAX];
    cn_buf head = fixed_buf(memory, sizeof memory);
    c->status = (uint16_t)status;
    c->answer_left = length > 0 ? (uint64_t)length : 0;
    c->output_bytes_max = http->limits->http_output_bytes + c->answer_left;
    c->delimiter = delimiter_of(c, status, length);
    if (http->retiring || c->delimiter == CN_HTTP_BY_CLOSE) c->framing.keep_alive = false;
    cn_buf_add_text(&head, "HTTP/1.1 ");
    cn_buf_add_u64(&head, status);
    cn_buf_add_char(&head, ' ');
    cn_buf_add_text(&head, http_status_str((enum http_status)status));
    cn_buf_add_text(&head, "\r\nDate: ");
    cn_buf_add_text(&head, date(http));
    cn_buf_add_text(&head, "\r\n");
    if (type_len) {
        cn_buf_add_text(&head, "Content-Type: ");
        cn_buf_add(&head, type, type_len);
        cn_buf_add_text(&head, "\r\n");
    }
    if (status != 204 && status != 304) add_framing(c, length, &head);
    if (!c->framing.keep_alive) cn_buf_add_text(&head, "Connection: close\r\n");
    else if (c->framing.http10) cn_buf_add_text(&head, "Connection: keep-alive\r\n");
    CN_ASSERT(!head.overflowed);
    return cn_http_output_add(http, c, head.data, head.len);
}

static void count_status(cn_http *http, unsigned status)
{
    cn_metrics *m = http->metrics;
    cn_metrics_add(status >= 500 ? &m->http_5xx : status >= 400 ? &m->http_4xx : &m->http_2xx, 1);
}

void cn_http_refuse(cn_http *http, cn_http_conn *c, const cn_err *err)
{
    static const char type[] = "application/json";
    const cn_code_info *info = cn_err_info(err->code);
    char memory[6 * sizeof err->text + 256];     // every byte escaped as \\u00xx, and the rest
    cn_buf body = fixed_buf(memory, sizeof memory);
    cn_buf_add_text(&body, "{\"error\":{\"message\":");
    cn_buf_add_json(&body, err->text, strlen(err->text));
    cn_buf_add_format(&body, ",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}", info->type,
                      info->code);
    CN_ASSERT(!body.overflowed);
    if (c->request) cn_http_request_put(http, c->request);
    c->request = NULL;
    c->framing.keep_alive = false;
    c->framing.http10 = false;
    if (!add_head(http, c, info->http_status, (int64_t)body.len, type, sizeof type - 1) ||
        !cn_http_output_add(http, c, "\r\n", 2) ||
        (c->delimiter != CN_HTTP_NO_BODY && !cn_http_output_add(http, c, body.data, body.len))) {
        return;                      // dropped
    }
    count_status(http, info->http_status);
    c->state = CN_HTTP_CLOSING;
    cn_http_timer_set(http, c, CN_HTTP_KEEP);
}

// ---- messages ----------------------------------------------------------------------------------

static void take_start(cn_http *http, cn_http_conn *c, const cn_http_answer *m)
{
    const size_t type_len = m->first ? m->type_len : 0;
    if (m->first) {
        CN_ASSERT(!c->status);
        if (!add_head(http, c, m->status, m->total, m->bytes, type_len)) return;
    }
    if (!cn_http_output_add(http, c, m->bytes + type_len, m->len - type_len)) return;
    if (m->last) cn_http_output_add(http, c, "\r\n", 2);
}

// The size in hexadecimal digits, and CRLF.
static size_t chunk_size_line(uint64_t size, char out[16 + 2])
{
    size_t digits = 1;
    while (digits < 16 && size >> (4 * digits)) digits++;
    for (size_t i = 0; i < digits; i++) {
        out[i] = "0123456789abcdef"[size >> (4 * (digits - 1 - i)) & 15];
    }
    memcpy(out + digits, "\r\n", 2);
    return digits + 2;
}

static void take_bytes(cn_http *http, cn_http_conn *c, const cn_http_answer *m)
{
    CN_ASSERT(c->status);
    if (c->delimiter == CN_HTTP_NO_BODY) return;
    if (c->delimiter == CN_HTTP_BY_LENGTH) {
        CN_ASSERT(m->len <= c->answer_left);     // or the rest would be read as the next answer
        c->answer_left -= m->len;
    }
    const bool chunks = c->delimiter == CN_HTTP_BY_CHUNKS;
    if (chunks && m->first) {
        char size[16 + 2];
        const size_t len = chunk_size_line((uint64_t)m->total, size);
        if (!cn_http_output_add(http, c, size, len)) return;
    }
    if (!cn_http_output_add(http, c, m->bytes, m->len)) return;
    if (chunks && m->last) cn_http_output_add(http, c, "\r\n", 2);
}

// The api is done with the connection: it goes on with the next request, or closes.
static void take_end(cn_http *http, cn_http_conn *c)
{
    CN_ASSERT(c->status);
    if (c->delimiter == CN_HTTP_BY_CHUNKS && !cn_http_output_add(http, c, "0\r\n\r\n", 5)) return;
    if (c->delimiter == CN_HTTP_BY_LENGTH && c->answer_left) {
        cn_http_drop(http, c);       // cut short: the client must see that it is not whole
        return;
    }
    count_status(http, c->status);
    const bool goes_on = c->framing.keep_alive;
    c->state = goes_on ? CN_HTTP_IDLE : CN_HTTP_CLOSING;
    cn_http_timer_set(http, c, CN_HTTP_KEEP);
    cn_http_mark_dirty(http, c);
    if (goes_on) http->ops->resume(http->transport, c->conn);
}

void cn_http_answer_take(cn_http *http, const cn_http_answer *m)
{
    CN_ASSERT(m->exchange.index < http->conn_max);
    cn_http_conn *c = &http->conns[m->exchange.index];
    // The client went away before this came, and the api has been told or will be.
    if (c->state != CN_HTTP_ANSWERING || c->exchange_generation != m->exchange.generation) return;
    switch ((cn_http_answer_kind)m->kind) {
    case CN_HTTP_START: take_start(http, c, m); return;
    case CN_HTTP_BYTES: take_bytes(http, c, m); return;
    case CN_HTTP_END: take_end(http, c); return;
    }
}
