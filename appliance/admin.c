#include "appliance/admin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/http.h"
#include "dataplane/reply.h"

/* How it works. One thread has both sides of a cn_http: a round polls the net side, takes the
 * requests that it framed, puts the answers into its ring, and the next round sends them. The ring
 * is bounded, so an answer that does not fit is pumped again; a viewer that does not read is
 * dropped by cn_http at http_output_bytes, as any client. */

enum { CONNECTIONS = 64, VIEWERS_MAX = 16, OUTPUT_BYTES = 1 << 22, ANSWER_BYTES_MAX = 1 << 24 };
static const uint64_t SECOND_NS = 1000000000;
_Static_assert(VIEWERS_MAX == 16, "answer_events says so");

typedef struct exchange {
    cn_reply reply;
    bool open;
    bool views;                  // takes events until it goes
} exchange;

struct cn_admin {
    cn_admin_options options;
    cn_limits limits;
    cn_metrics *metrics;         // of this listener: its connections are not those of clients
    cn_http *http;               // NULL: does not listen
    exchange exchanges[CONNECTIONS];
    uint32_t viewer_count;
    uint64_t next_ns;            // when the observer looks again
    cn_buf live;                 // the event of this second
    char csp[CN_PAGE_CSP_BYTES];
};

// ---- life

static cn_code open_http(cn_admin *a, cn_err *err)
{
    a->limits = cn_limits_default();
    a->limits.connections = CONNECTIONS;
    a->limits.http_body_bytes = 1024;
    a->limits.http_output_bytes = OUTPUT_BYTES;
    a->metrics = malloc(sizeof *a->metrics);
    if (!a->metrics) return cn_err_set(err, CN_E_MEMORY, "admin: no memory");
    cn_metrics_init(a->metrics);
    const cn_http_options http = {
        .transport = &cn_transport_kernel_ops, .address = a->options.address, .limits = &a->limits,
        .clock = a->options.clock, .metrics = a->metrics, .net_wake = a->options.wake,
        .api_wake = a->options.wake};
    cn_err why;
    const cn_code code = cn_http_open(&http, &a->http, &why);
    // There are two listeners; the text does not say which.
    return code == CN_OK ? CN_OK : cn_err_set(err, code, "admin.listen: %s", why.text);
}

cn_code cn_admin_open(const cn_admin_options *options, cn_admin **out, cn_err *err)
{
    cn_admin *a = calloc(1, sizeof *a);
    *out = NULL;
    if (!a) return cn_err_set(err, CN_E_MEMORY, "admin: no memory");
    a->options = *options;
    cn_buf_init(&a->live, ANSWER_BYTES_MAX);
    cn_page_csp(a->csp);
    const cn_code code = options->address[0] ? open_http(a, err) : CN_OK;
    if (code != CN_OK) {
        cn_admin_close(a);
        return code;
    }
    *out = a;
    return CN_OK;
}

void cn_admin_close(cn_admin *a)
{
    if (!a) return;
    cn_http_close(a->http);
    for (uint32_t i = 0; i < CONNECTIONS; i++) cn_reply_close(&a->exchanges[i].reply);
    cn_buf_close(&a->live);
    free(a->metrics);
    free(a);
}

const char *cn_admin_address(const cn_admin *a) { return a->http ? cn_http_address(a->http) : ""; }

// ---- answers

static void refuse(cn_reply *reply, unsigned status, const char *text)
{
    cn_buf_clear(&reply->out);
    cn_buf_add_text(&reply->out, text);
    cn_buf_add_char(&reply->out, '\n');
    cn_reply_whole(reply, status, "text/plain; charset=utf-8");
}

static void answer_page(cn_admin *a, exchange *x)
{
    cn_reply_header(&x->reply, "Content-Security-Policy", a->csp);
    cn_reply_header(&x->reply, "X-Frame-Options", "DENY");
    cn_reply_header(&x->reply, "Referrer-Policy", "no-referrer");
    cn_page_write(cn_observer_page(a->options.observer), &x->reply.out);
    cn_reply_whole(&x->reply, 200, "text/html; charset=utf-8");
}

// The page of this second as one event; its id is the time of day that the page shows.
static void write_event(const cn_page *page, cn_buf *live, cn_buf *out)
{
    char time[24];
    cn_buf_clear(live);
    cn_page_write_live(page, live);
    cn_page_time(page->wall_ns, time, sizeof time);
    cn_buf_add_format(out, "id: %s\n", time);
    for (size_t at = 0; at < live->len;) {
        const char *line = live->data + at, *end = memchr(line, '\n', live->len - at);
        const size_t len = end ? (size_t)(end - line) : live->len - at;
        cn_buf_add_text(out, "data: ");
        cn_buf_add(out, line, len);
        cn_buf_add_char(out, '\n');
        at += len + 1;
    }
    cn_buf_add_char(out, '\n');
}

static void answer_events(cn_admin *a, exchange *x)
{
    if (a->viewer_count == VIEWERS_MAX) {
        cn_reply_header(&x->reply, "Retry-After", "10");
        refuse(&x->reply, 503,
               "16 viewers are connected, which is the most; reload the page to see more");
        return;
    }
    x->views = true;
    a->viewer_count++;
    cn_reply_stream(&x->reply, 200, "text/event-stream");
    cn_buf_add_text(&x->reply.out, "retry: 2000\n");
    write_event(cn_observer_page(a->options.observer), &a->live, &x->reply.out);
}

static void answer_metrics(cn_admin *a, exchange *x, const cn_http_request *request)
{
    const cn_api_page *page = &a->options.metrics_page;
    const char *type;
    cn_err err;
    const cn_code code = page->write(page->self, request, &x->reply.out, &type, &err);
    if (code == CN_OK) cn_reply_whole(&x->reply, 200, type);
    else refuse(&x->reply, cn_err_info(code)->http_status, err.text);
}

static void answer_ready(cn_admin *a, exchange *x)
{
    const unsigned status = cn_api_ready(a->options.api, &x->reply.out);
    if (status != 200) cn_reply_header(&x->reply, "Retry-After", "1");
    cn_reply_whole(&x->reply, status, "application/json");
}

static void answer(cn_admin *a, exchange *x, const cn_http_request *request)
{
    const char *path = request->path;
    cn_reply_header(&x->reply, "Cache-Control", "no-store");
    cn_reply_header(&x->reply, "X-Content-Type-Options", "nosniff");
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
        cn_reply_header(&x->reply, "Allow", "GET, HEAD");
        refuse(&x->reply, 405, "this listener only shows: the method must be GET or HEAD");
    } else if (strcmp(path, "/") == 0) {
        answer_page(a, x);
    } else if (strcmp(path, "/events") == 0) {
        answer_events(a, x);
    } else if (strcmp(path, "/metrics") == 0) {
        answer_metrics(a, x, request);
    } else if (strcmp(path, "/readyz") == 0 || strcmp(path, "/health") == 0) {
        answer_ready(a, x);
    } else if (strcmp(path, "/livez") == 0) {
        const unsigned status = cn_api_live(a->options.api, &x->reply.out);
        cn_reply_whole(&x->reply, status, "application/json");
    } else {
        refuse(&x->reply, 404,
               "no such path; there are /, /events, /metrics, /livez, /readyz and /health");
    }
}

// ---- the round

static void end(cn_admin *a, exchange *x)
{
    a->viewer_count -= x->views;
    x->open = x->views = false;
}

static void take(cn_admin *a, const cn_http_message *message)
{
    exchange *x = &a->exchanges[message->exchange.index];
    if (message->kind == CN_HTTP_GONE) {
        if (!x->open || x->reply.exchange.generation != message->exchange.generation) return;
        cn_reply_drop(&x->reply);
        end(a, x);
        return;
    }
    cn_reply_init(&x->reply, a->http, message->exchange, ANSWER_BYTES_MAX);
    x->open = true;
    answer(a, x, message->request);
    cn_http_request_free(a->http, message->request);
}

// False if the ring is full: what is left is sent in the next round.
static bool pump(cn_admin *a)
{
    bool all = true;
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        exchange *x = &a->exchanges[i];
        if (!x->open) continue;
        all &= cn_reply_pump(&x->reply);
        if (x->reply.state == CN_REPLY_ENDED) end(a, x);
    }
    cn_http_flush(a->http);
    return all;
}

static void tell_viewers(cn_admin *a)
{
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        exchange *x = &a->exchanges[i];
        // One whose last event has not left skips this one.
        if (x->open && x->views && x->reply.out.len == 0) {
            write_event(cn_observer_page(a->options.observer), &a->live, &x->reply.out);
        }
    }
}

static bool look(cn_admin *a, uint64_t now_ns)
{
    if (now_ns < a->next_ns) return false;
    a->next_ns = now_ns + SECOND_NS;
    cn_observer_sample(a->options.observer);
    tell_viewers(a);
    return true;
}

bool cn_admin_poll(cn_admin *a, uint64_t timeout_ns)
{
    cn_http_message message;
    bool did = look(a, cn_clock_now_ns(&a->options.clock));
    const uint64_t now_ns = cn_clock_now_ns(&a->options.clock);
    const uint64_t left_ns = a->next_ns > now_ns ? a->next_ns - now_ns : 0;
    if (left_ns < timeout_ns) timeout_ns = left_ns;
    if (!a->http) {
        cn_wake_prepare(a->options.wake);
        cn_wake_wait(a->options.wake, timeout_ns);
        return did;
    }
    did |= cn_http_poll(a->http, pump(a) ? timeout_ns : 0);
    while (cn_http_next(a->http, &message)) {
        take(a, &message);
        did = true;
    }
    return did;
}
