#include "bench/sink.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <http_parser.h>

#include "base/clock.h"
#include "base/wake.h"
#include "bench/draw.h"
#include "bench/drive.h"
#include "bench/words.h"

/* How it works. One loop over connections; an answer that takes time is in a heap by the time of
 * its next token. An answer that takes none is written in one piece. A request is not parsed as
 * JSON: the few members that matter are found by their names, the rest only seeds the words of the
 * answer. The id of a response says all that its tokens depend on, so that a stream can be resumed
 * although nothing is kept. */
typedef enum api { CHAT, COMPLETIONS, RESPONSES } api;
typedef enum fault {
    SOUND,
    CLOSE,
    CUT,
    GARBAGE,
    BAD_JSON,
    ERROR_EVENT,
    EMPTY,
    SILENT,
    STATUS
} fault;

typedef struct sink_conn {
    struct sink_conn *next_free, *next_waiting;
    int fd;
    uint32_t interest;
    http_parser parser;
    char path[160];
    uint32_t path_len;
    cn_buf in, out;
    size_t out_at;               // bytes of `out` that are sent
    api api;
    bool stream, whole_request, ends;
    bool playing;                // holds a slot
    bool resumed;                // its beginning was told on another connection
    uint32_t token_count, token_at;
    uint32_t input_tokens;
    uint64_t seed;
    uint64_t due_ns;             // of the next token; 0: not in the heap
} sink_conn;

typedef struct sink {
    int epoll, listener;
    cn_clock clock;
    cn_draw ttft_ms, itl_ms;
    cn_random random;
    uint64_t random_state, stall_at_ns, stall_ns, first_ns;
    fault fault;
    unsigned status;
    sink_conn **heap;
    uint32_t heap_count, heap_capacity;
    sink_conn **all, *free;
    uint32_t all_count, all_capacity;
    sink_conn *waiting, **waiting_end;       // for a slot, in their order
    uint32_t slots, playing_count;
    cn_buf events;
    uint64_t answer_count;
    char data[65536];
} sink;

enum { IN_BYTES_MAX = 64 << 20, OUT_BYTES_MAX = 64 << 20, EVENTS = 128, TOKENS_DEFAULT = 16 };

static uint64_t now_ns(const sink *s) { return cn_clock_now_ns(&s->clock); }

static void heap_set(sink *s, uint32_t at, sink_conn *c) { s->heap[at] = c; }

static void heap_push(sink *s, sink_conn *c)
{
    uint32_t at = s->heap_count++;
    for (; at > 0 && s->heap[(at - 1) / 2]->due_ns > c->due_ns; at = (at - 1) / 2) {
        heap_set(s, at, s->heap[(at - 1) / 2]);
    }
    heap_set(s, at, c);
}

static sink_conn *heap_pop(sink *s)
{
    sink_conn *top = s->heap[0], *last = s->heap[--s->heap_count];
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < s->heap_count; at = child) {
        if (child + 1 < s->heap_count && s->heap[child + 1]->due_ns < s->heap[child]->due_ns)
            child++;
        if (s->heap[child]->due_ns >= last->due_ns) break;
        heap_set(s, at, s->heap[child]);
    }
    heap_set(s, at, last);
    return top;
}

static void want(sink *s, sink_conn *c, uint32_t interest)
{
    if (c->interest == interest) return;
    struct epoll_event event = {.events = interest, .data.ptr = c};
    epoll_ctl(s->epoll, c->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event);
    c->interest = interest;
}

static void leave_slot(sink *s, sink_conn *c)
{
    s->playing_count -= c->playing;
    c->playing = false;
}

static void leave_queue(sink *s, const sink_conn *c)
{
    for (sink_conn **at = &s->waiting; *at; at = &(*at)->next_waiting) {
        if (*at != c) continue;
        *at = c->next_waiting;
        if (!*at) s->waiting_end = at;
        return;
    }
}

// In the heap it stays until its token is due, and goes to the free list then.
static void drop(sink *s, sink_conn *c)
{
    leave_slot(s, c);
    leave_queue(s, c);
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->interest = 0;
    cn_buf_close(&c->in);
    cn_buf_close(&c->out);
    if (c->due_ns) return;
    c->next_free = s->free;
    s->free = c;
}

static void flush(sink *s, sink_conn *c)
{
    while (c->out_at < c->out.len) {
        const ssize_t n =
            send(c->fd, c->out.data + c->out_at, c->out.len - c->out_at, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            want(s, c, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n < 0) {
            drop(s, c);
            return;
        }
        c->out_at += (size_t)n;
    }
    c->out_at = 0;
    cn_buf_clear(&c->out);
    if (c->ends) drop(s, c);
    else want(s, c, EPOLLIN);
}

// What follows `name` and a colon in the body; NULL if the body has no such member.
static const char *find_member(const cn_buf *body, const char *name)
{
    const char *at = body->len ? memmem(body->data, body->len, name, strlen(name)) : NULL;
    return at ? at + strlen(name) : NULL;
}

static uint32_t read_count(const cn_buf *body, const char *name, uint32_t otherwise)
{
    const char *at = find_member(body, name), *end = body->data + body->len;
    uint32_t value = 0;
    if (!at) return otherwise;
    while (at < end && *at == ' ') at++;
    for (; at < end && *at >= '0' && *at <= '9' && value < 100000000; at++) {
        value = value * 10 + (uint32_t)(*at - '0');
    }
    return value ? value : otherwise;
}

static void add_id(const sink_conn *c, cn_buf *out)
{
    cn_buf_add_format(out, "\"id\":\"resp_%016llx_%u_%u\"", (unsigned long long)c->seed,
                      c->token_count, c->input_tokens);
}

/* GET .../responses/ID?stream=true&starting_after=N. Event 0 is response.created, event N the token
 * of this number. */
static bool read_resume(sink_conn *c)
{
    char path[sizeof c->path + 1];
    unsigned long long seed;
    uint32_t after;
    snprintf(path, sizeof path, "%.*s", (int)c->path_len, c->path);
    const char *at = c->parser.method == HTTP_GET ? strstr(path, "/responses/") : NULL;
    if (!at || sscanf(at, "/responses/resp_%16llx_%u_%u?stream=true&starting_after=%u", &seed,
                      &c->token_count, &c->input_tokens, &after) != 4) return false;
    c->seed = seed;
    c->api = RESPONSES;
    c->stream = true;
    c->token_at = after < c->token_count ? after : c->token_count;
    return true;
}

static void read_request(sink_conn *c)
{
    c->resumed = read_resume(c);
    if (c->resumed) return;
    static const uint64_t prime = 0x100000001B3u;            // FNV-1a
    const char *stream = find_member(&c->in, "\"stream\":");
    const char *path = c->path;
    c->api = memmem(path, c->path_len, "/chat", 5)        ? CHAT
             : memmem(path, c->path_len, "/responses", 10) ? RESPONSES
                                                           : COMPLETIONS;
    c->stream = stream && *(stream + (*stream == ' ')) == 't';
    c->token_count = read_count(&c->in, "\"max_tokens\":",
                                read_count(&c->in, "\"max_output_tokens\":", TOKENS_DEFAULT));
    c->token_at = 0;
    c->input_tokens = (uint32_t)(c->in.len / 5 + 1);
    c->seed = 0xCBF29CE484222325u;
    for (size_t i = 0; i < c->in.len; i++)
        c->seed = (c->seed ^ (unsigned char)c->in.data[i]) * prime;
    cn_buf_close(&c->in);
}

static void add_usage(const sink_conn *c, cn_buf *out)
{
    const char *in = c->api == RESPONSES ? "input" : "prompt";
    const char *produced = c->api == RESPONSES ? "output" : "completion";
    cn_buf_add_format(out, "\"usage\":{\"%s_tokens\":%u,\"%s_tokens\":%u,\"total_tokens\":%u,"
                      "\"%s_tokens_details\":{\"cached_tokens\":0}}", in, c->input_tokens, produced,
                      c->token_count, c->input_tokens + c->token_count, in);
}

// One token, framed as one event and one chunk.
static void add_token(const sink *s, const sink_conn *c, cn_buf *out)
{
    char frame[320];
    cn_buf word = {.bytes_max = 64};
    cn_words_write(cn_words_mix(c->seed, c->token_at), 1, &word);
    const int text_len = (int)word.len;
    const char *text = word.data;
    int len = 0;
    switch (c->api) {
    case CHAT:
        len =
            snprintf(frame, sizeof frame,
                     "data: {\"id\":\"sink-%llu\",\"object\":\"chat.completion."
                     "chunk\",\"created\":0,\"model\":\"sink\",\"choices\":[{\"index\":0,\"delta\":"
                     "{\"content\":\"%.*s\"},\"finish_reason\":null}]}\n\n",
                     (unsigned long long)s->answer_count, text_len, text);
        break;
    case COMPLETIONS:
        len =
            snprintf(frame, sizeof frame,
                     "data: {\"id\":\"sink-%llu\",\"object\":\"text_completion\","
                     "\"created\":0,\"model\":\"sink\",\"choices\":[{\"index\":0,\"text\":\"%.*s\","
                     "\"finish_reason\":null}]}\n\n",
                     (unsigned long long)s->answer_count, text_len, text);
        break;
    case RESPONSES:
        len = snprintf(frame, sizeof frame, "event: response.output_text.delta\ndata: {\"type\":"
                       "\"response.output_text.delta\",\"item_id\":\"msg_0\",\"output_index\":0,"
                       "\"content_index\":0,\"sequence_number\":%u,\"delta\":\"%.*s\"}\n\n",
                       c->token_at + 1, text_len, text);
        break;
    }
    cn_buf_add_format(out, "%x\r\n", (unsigned)len);
    cn_buf_add(out, frame, (size_t)len);
    cn_buf_add_text(out, "\r\n");
    cn_buf_close(&word);
}

static void add_chunk(const cn_buf *text, cn_buf *out)
{
    cn_buf_add_format(out, "%zx\r\n", text->len);
    cn_buf_add(out, text->data, text->len);
    cn_buf_add_text(out, "\r\n");
}

// The last events of a stream: usage, and the end.
static void add_end(sink *s, const sink_conn *c, cn_buf *out)
{
    cn_buf_clear(&s->events);
    if (c->api == RESPONSES) {
        cn_buf_add_format(&s->events,
                          "event: response.completed\ndata: {\"type\":\"response.completed\","
                          "\"sequence_number\":%u,\"response\":{\"status\":\"completed\",",
                          c->token_count + 1);
        add_id(c, &s->events);
        cn_buf_add_char(&s->events, ',');
        add_usage(c, &s->events);
        cn_buf_add_text(&s->events, "}}\n\n");
    } else {
        cn_buf_add_text(&s->events, "data: {\"id\":\"sink\",\"choices\":[],");
        add_usage(c, &s->events);
        cn_buf_add_text(&s->events, "}\n\ndata: [DONE]\n\n");
    }
    add_chunk(&s->events, out);
    cn_buf_add_text(out, "0\r\n\r\n");
}

static void add_whole(const sink_conn *c, cn_buf *out)
{
    cn_buf json, text;
    cn_buf_init(&json, OUT_BYTES_MAX);
    cn_buf_init(&text, OUT_BYTES_MAX);
    for (uint32_t i = 0; i < c->token_count; i++)
        cn_words_write(cn_words_mix(c->seed, i), 1, &text);
    switch (c->api) {
    case CHAT:
        cn_buf_add_text(&json,
                        "{\"id\":\"sink\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,"
                        "\"message\":{\"role\":\"assistant\",\"content\":");
        cn_buf_add_json(&json, text.data, text.len);
        cn_buf_add_text(&json, "},\"finish_reason\":\"length\"}],");
        break;
    case COMPLETIONS:
        cn_buf_add_text(&json,
                        "{\"id\":\"sink\",\"object\":\"text_completion\",\"choices\":[{\"text\":");
        cn_buf_add_json(&json, text.data, text.len);
        cn_buf_add_text(&json, ",\"index\":0,\"finish_reason\":\"length\"}],");
        break;
    case RESPONSES:
        cn_buf_add_char(&json, '{');
        add_id(c, &json);
        cn_buf_add_text(&json, ",\"object\":\"response\",\"output\":[{\"type\":"
                               "\"message\",\"content\":[{\"type\":\"output_text\",\"text\":");
        cn_buf_add_json(&json, text.data, text.len);
        cn_buf_add_text(&json, "}]}],");
        break;
    }
    add_usage(c, &json);
    cn_buf_add_char(&json, '}');
    cn_buf_add_format(out,
                      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu"
                      "\r\n\r\n",
                      json.len);
    cn_buf_add(out, json.data, json.len);
    cn_buf_close(&json);
    cn_buf_close(&text);
}

static void add_created(sink *s, const sink_conn *c, cn_buf *out)
{
    cn_buf_clear(&s->events);
    cn_buf_add_text(&s->events, "event: response.created\ndata: {\"type\":\"response.created\","
                                "\"sequence_number\":0,\"response\":{");
    add_id(c, &s->events);
    cn_buf_add_text(&s->events, "}}\n\n");
    add_chunk(&s->events, out);
}

// True if the answer is not to go on as it should.
static bool add_fault(const sink *s, sink_conn *c)
{
    static const char events[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                 "Connection: close\r\n\r\n";
    switch (s->fault) {
    case SOUND:
    case CUT: return false;
    case SILENT: return true;
    case CLOSE: break;
    case GARBAGE: cn_buf_add_text(&c->out, "220 mail.example ESMTP\r\n"); break;
    case EMPTY: cn_buf_add_format(&c->out, "%sdata: [DONE]\n\n", events); break;
    case BAD_JSON: cn_buf_add_format(&c->out, "%sdata: {\"choices\":[{\"te\n\n", events); break;
    case ERROR_EVENT:
        cn_buf_add_format(&c->out, "%sdata: {\"error\":{\"message\":\"the sink was told to fail\","
                          "\"type\":\"server_error\"}}\n\n", events);
        break;
    case STATUS:
        cn_buf_add_format(&c->out, "HTTP/1.1 %u Sink\r\nContent-Type: application/json\r\n"
                          "Content-Length: 50\r\nConnection: close\r\n\r\n"
                          "{\"error\":{\"message\":\"the sink was told to fail\"}}\n", s->status);
        break;
    }
    c->ends = true;
    return true;
}

static void schedule(sink *s, sink_conn *c, const cn_draw *wait_ms)
{
    const double ms = cn_draw_take(wait_ms, &s->random);
    c->due_ns = (c->due_ns ? c->due_ns : now_ns(s)) + (uint64_t)(ms * 1e6);
    heap_push(s, c);
}

// Writes tokens until one has to wait, or to the end.
static void play(sink *s, sink_conn *c)
{
    const bool waits = s->itl_ms.kind != CN_DRAW_FIXED || s->itl_ms.a > 0;
    const uint32_t cut_at = s->fault == CUT ? c->token_count / 2 : c->token_count;
    if (!c->stream) {
        add_whole(c, &c->out);
        c->token_at = c->token_count;
    }
    while (c->token_at < cut_at) {
        add_token(s, c, &c->out);
        c->token_at++;
        if (waits && c->token_at < cut_at) {
            schedule(s, c, &s->itl_ms);
            flush(s, c);
            return;
        }
    }
    c->due_ns = 0;
    c->ends = s->fault == CUT;
    leave_slot(s, c);
    if (c->stream && !c->ends) add_end(s, c, &c->out);
    flush(s, c);
}

static void begin(sink *s, sink_conn *c)
{
    c->playing = true;
    s->playing_count++;
    s->answer_count++;
    if (c->stream) {
        cn_buf_add_text(&c->out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n");
        if (c->api == RESPONSES && !c->resumed) add_created(s, c, &c->out);
    }
    if (s->ttft_ms.kind == CN_DRAW_FIXED && s->ttft_ms.a <= 0) {
        play(s, c);
        return;
    }
    schedule(s, c, &s->ttft_ms);
    flush(s, c);
}

static bool has_slot(const sink *s) { return s->slots == 0 || s->playing_count < s->slots; }

static void begin_waiting(sink *s)
{
    while (s->waiting && has_slot(s)) {
        sink_conn *c = s->waiting;
        leave_queue(s, c);
        begin(s, c);
    }
}

static void answer(sink *s, sink_conn *c)
{
    if (s->first_ns == 0) s->first_ns = now_ns(s);
    c->whole_request = false;
    read_request(c);
    if (add_fault(s, c)) {
        flush(s, c);
        return;
    }
    if (has_slot(s) && !s->waiting) {
        begin(s, c);
        return;
    }
    c->next_waiting = NULL;
    *s->waiting_end = c;
    s->waiting_end = &c->next_waiting;
}

static int on_url(http_parser *parser, const char *data, size_t len)
{
    sink_conn *c = parser->data;
    for (size_t i = 0; i < len && c->path_len < sizeof c->path; i++)
        c->path[c->path_len++] = data[i];
    return 0;
}

static int on_body(http_parser *parser, const char *data, size_t len)
{
    sink_conn *c = parser->data;
    cn_buf_add(&c->in, data, len);
    return c->in.overflowed;
}

static int on_begin(http_parser *parser)
{
    ((sink_conn *)parser->data)->path_len = 0;
    return 0;
}

static int on_complete(http_parser *parser)
{
    ((sink_conn *)parser->data)->whole_request = true;
    return 0;
}

static const http_parser_settings settings = {.on_message_begin = on_begin,
                                              .on_url = on_url,
                                              .on_body = on_body,
                                              .on_message_complete = on_complete};

// The list of models and new conversations: what a generator asks before it begins.
static bool answer_small(sink *s, sink_conn *c)
{
    const bool models = c->parser.method == HTTP_GET && !read_resume(c);
    if (c->parser.method == HTTP_GET && !models) return false;
    if (!models && !memmem(c->path, c->path_len, "/conversations", 14)) return false;
    char json[128];
    const int len = models ? snprintf(json, sizeof json,
                                      "{\"object\":\"list\",\"data\":[{\"id\":\"sink\","
                                      "\"object\":\"model\"}]}")
                           : snprintf(json, sizeof json,
                                      "{\"id\":\"conv_%llu\",\"object\":"
                                      "\"conversation\"}",
                                      (unsigned long long)++s->answer_count);
    cn_buf_add_format(&c->out,
                      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d"
                      "\r\n\r\n%s",
                      len, json);
    c->whole_request = false;
    cn_buf_close(&c->in);
    flush(s, c);
    return true;
}

static void receive(sink *s, sink_conn *c)
{
    const ssize_t n = recv(c->fd, s->data, sizeof s->data, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        drop(s, c);
        return;
    }
    const size_t parsed = http_parser_execute(&c->parser, &settings, s->data, (size_t)n);
    if (parsed != (size_t)n) drop(s, c);
    else if (c->whole_request && !answer_small(s, c)) answer(s, c);
}

static sink_conn *new_conn(sink *s)
{
    sink_conn *c = s->free;
    if (c) {
        s->free = c->next_free;
        return c;
    }
    if (s->all_count == s->all_capacity) {
        const uint32_t capacity = s->all_capacity ? s->all_capacity * 2 : 1024;
        void *all = realloc(s->all, capacity * sizeof(void *));
        if (all) s->all = all;
        void *heap = all ? realloc(s->heap, capacity * sizeof(void *)) : NULL;
        if (!heap) return NULL;
        s->heap = heap;
        s->all_capacity = capacity;
    }
    c = calloc(1, sizeof *c);
    if (c) s->all[s->all_count++] = c;
    return c;
}

static void accept_all(sink *s)
{
    for (;;) {
        const int one = 1, fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        sink_conn *c = fd >= 0 ? new_conn(s) : NULL;
        if (!c) {
            if (fd >= 0) close(fd);
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        memset(c, 0, sizeof *c);
        c->fd = fd;
        cn_buf_init(&c->in, IN_BYTES_MAX);
        cn_buf_init(&c->out, OUT_BYTES_MAX);
        http_parser_init(&c->parser, HTTP_REQUEST);
        c->parser.data = c;
        want(s, c, EPOLLIN);
    }
}

static void play_due(sink *s)
{
    while (s->heap_count > 0 && s->heap[0]->due_ns <= now_ns(s)) {
        sink_conn *c = heap_pop(s);
        if (c->fd >= 0) play(s, c);
        else {
            c->due_ns = 0;
            drop(s, c);
        }
    }
}

// Stands still, as a server does that collects garbage or loses its disk.
static void stall(sink *s)
{
    cn_wake wake;
    if (s->stall_ns == 0 || s->first_ns == 0 || now_ns(s) < s->first_ns + s->stall_at_ns) return;
    if (cn_wake_open(&wake, NULL) == CN_OK) {
        const uint64_t end_ns = s->first_ns + s->stall_at_ns + s->stall_ns;
        for (uint64_t now; (now = now_ns(s)) < end_ns;) {
            cn_wake_prepare(&wake);
            cn_wake_wait(&wake, end_ns - now);
        }
        cn_wake_close(&wake);
    }
    s->stall_ns = 0;
}

static void loop(sink *s, const volatile sig_atomic_t *stop)
{
    struct epoll_event events[EVENTS];
    while (!*stop) {
        stall(s);
        int64_t wait_ns = 100000000;
        if (s->heap_count > 0) {
            const uint64_t now = now_ns(s), due = s->heap[0]->due_ns;
            if (due < now + (uint64_t)wait_ns) wait_ns = due > now ? (int64_t)(due - now) : 0;
        }
        const struct timespec wait = {0, wait_ns};
        const int count = epoll_pwait2(s->epoll, events, EVENTS, &wait, NULL);
        for (int i = 0; i < count; i++) {
            sink_conn *c = events[i].data.ptr;
            if (!c) accept_all(s);
            else if (c->fd >= 0 && events[i].events & EPOLLOUT) flush(s, c);
            if (c && c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
                receive(s, c);
        }
        play_due(s);
        begin_waiting(s);
    }
}

static cn_code open_listener(sink *s, const char *listen_on, cn_err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    char host[64] = "", text[INET_ADDRSTRLEN];
    unsigned port = 65536;
    const int one = 1;
    if (sscanf(listen_on, "%63[0-9.]:%u", host, &port) != 2 || port > 65535 ||
        inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        return cn_err_set(err, CN_E_INVALID, "--listen: %.60s; must look like 127.0.0.1:8001",
                          listen_on);
    }
    address.sin_port = htons((uint16_t)port);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(s->listener, 4096) != 0 || s->epoll < 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &event) != 0 ||
        getsockname(s->listener, (struct sockaddr *)&address, &len) != 0) {
        return cn_err_set(err, CN_E_IO, "%s: %s", listen_on, strerror(errno));
    }
    inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
    printf("listening on %s:%u\n", text, ntohs(address.sin_port));
    fflush(stdout);
    return CN_OK;
}

static cn_code read_fault(const char *text, sink *s, cn_err *err)
{
    static const char *const names[] = {"", "close", "cut", "garbage", "badjson", "error", "empty",
                                        "silent"};
    for (int i = 0; i < 8; i++) {
        s->fault = (fault)i;
        if (strcmp(text, names[i]) == 0) return CN_OK;
    }
    s->fault = STATUS;
    if (sscanf(text, "status:%u", &s->status) == 1 && s->status >= 201 && s->status <= 599)
        return CN_OK;
    return cn_err_set(err, CN_E_INVALID,
                      "--fault: %.40s; must be close, cut, garbage, badjson, error, "
                      "empty, silent or status:NNN (201 to 599)",
                      text);
}

cn_code cn_sink_serve(const cn_settings *given, const volatile sig_atomic_t *stop, cn_err *err)
{
    sink *s = calloc(1, sizeof *s);
    if (!s) return cn_err_set(err, CN_E_MEMORY, "no memory for the sink");
    s->clock = cn_clock_system();
    s->random_state = 1;
    s->random = cn_random_seeded(&s->random_state);
    s->stall_at_ns = (uint64_t)(given->stall_at * 1e9);
    s->stall_ns = (uint64_t)(given->stall * 1e9);
    s->listener = s->epoll = -1;
    s->slots = (uint32_t)given->slots;
    s->waiting_end = &s->waiting;
    cn_buf_init(&s->events, OUT_BYTES_MAX);
    cn_code code = cn_draw_parse(given->ttft, "--ttft", &s->ttft_ms, err);
    if (code == CN_OK) code = cn_draw_parse(given->itl, "--itl", &s->itl_ms, err);
    if (code == CN_OK) code = read_fault(given->fault, s, err);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (code == CN_OK) code = open_listener(s, given->listen, err);
    if (given->realtime) cn_drive_set_realtime(true);
    if (code == CN_OK) loop(s, stop);
    for (uint32_t i = 0; i < s->all_count; i++) {
        if (s->all[i]->fd >= 0) close(s->all[i]->fd);
        cn_buf_close(&s->all[i]->in);
        cn_buf_close(&s->all[i]->out);
        free(s->all[i]);
    }
    if (s->listener >= 0) close(s->listener);
    if (s->epoll >= 0) close(s->epoll);
    cn_buf_close(&s->events);
    free(s->all);
    free(s->heap);
    free(s);
    return code;
}
