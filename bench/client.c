#include "bench/client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <http_parser.h>
#include <sodium.h>

#include "base/assert.h"
#include "bench/delta.h"

/* How it works. A connection is in one of four states:
 *
 *    connecting ──▶ busy ──whole answer──▶ idle ──next request──▶ busy
 *         └───────────┴──error, cancel, `Connection: close`──▶ closed, on the free list
 *
 * Structures are never freed before close, so an event of epoll that was read before its connection
 * was closed finds a structure that is closed, or one whose socket has nothing to say yet: both are
 * harmless. A server may close an idle connection just when a request goes out on it; if not a byte
 * of the answer had come, the request is sent once more on a fresh one (RFC 9112, 9.3.1), and its
 * time of sending stays the first.
 *
 * Waiting uses a timer descriptor: epoll's own timeout counts in milliseconds, which is the whole
 * lateness that a run is allowed. */
enum {
    READ_BYTES = 65536,
    EVENTS = 64,
    LINE_BYTES_MAX = 8 << 20,    // of one event
    BODY_BYTES_MAX = 64 << 20,   // of one whole answer
    ERROR_BYTES_MAX = 4096,      // of an answer that is no 200
    SLOW_BUFFER_BYTES = 4096
};

typedef enum state { CLOSED, CONNECTING, BUSY, IDLE } state;

struct cn_client_exchange {
    crypto_generichash_state digest;     // first: it wants 64-byte alignment
    cn_client_exchange *next;    // on the idle or free list
    int fd;
    state state;
    uint32_t interest;           // of epoll
    http_parser parser;
    cn_client_request request;
    cn_buf out;                  // the request; kept until the answer begins, to send it again
    size_t sent_bytes;
    cn_buf in;                   // the unfinished line of a stream, or the body so far
    cn_buf text;
    char id[80];
    int64_t sequence;            // of the last event; -1: none had one
    uint64_t allowed_bytes;      // slow readers
    bool reused, answered, complete, failed;
};

struct cn_client {
    cn_client_options options;
    struct sockaddr_storage address;
    socklen_t address_len;
    int epoll, timer;
    uint64_t armed_ns;
    cn_client_exchange *idle, *free;
    cn_client_exchange **all;
    uint32_t all_count, all_capacity;
    cn_buf scratch;              // a text without its escapes
    uint64_t now_ns;             // when the bytes that are being parsed were there
    cn_client_counts counts;
    char data[READ_BYTES];
};

cn_code cn_client_parse_url(const char *text, cn_client_url *out, cn_err *err)
{
    struct http_parser_url parts;
    http_parser_url_init(&parts);
    if (strncmp(text, "https://", 8) == 0) {
        return cn_err_set(err, CN_E_UNSUPPORTED,
                          "--url: %.100s; must begin with http://: TLS is not "
                          "spoken here, measure behind what terminates it",
                          text);
    }
    if (strncmp(text, "http://", 7) != 0 || strlen(text) >= sizeof out->prefix ||
        http_parser_parse_url(text, strlen(text), 0, &parts) != 0 ||
        !(parts.field_set & 1 << UF_HOST)) {
        return cn_err_set(err, CN_E_INVALID, "--url: %.100s; must look like http://127.0.0.1:8000",
                          text);
    }
    const uint16_t host_len = parts.field_data[UF_HOST].len;
    snprintf(out->host, sizeof out->host, "%.*s", host_len, text + parts.field_data[UF_HOST].off);
    snprintf(out->port, sizeof out->port, "%u", parts.field_set & 1 << UF_PORT ? parts.port : 80);
    size_t path_len = parts.field_set & 1 << UF_PATH ? parts.field_data[UF_PATH].len : 0;
    const char *path = path_len ? text + parts.field_data[UF_PATH].off : "";
    while (path_len > 0 && path[path_len - 1] == '/') path_len--;
    snprintf(out->prefix, sizeof out->prefix, "%.*s", (int)path_len, path);
    const char *bracket = strchr(out->host, ':') ? "[" : "", *end = bracket[0] ? "]" : "";
    snprintf(out->authority, sizeof out->authority, "%s%.255s%s:%s", bracket, out->host, end,
             out->port);
    return CN_OK;
}

static uint64_t now_ns(const cn_client *c) { return cn_clock_now_ns(&c->options.clock); }

static bool accepts(const struct addrinfo *a, uint64_t timeout_ns)
{
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval limit = {(time_t)(timeout_ns / 1000000000), 0};
    if (fd < 0) return false;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const bool accepted = connect(fd, a->ai_addr, a->ai_addrlen) == 0;
    close(fd);
    return accepted;
}

static cn_code resolve(cn_client *c, cn_err *err)
{
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
    const cn_client_url *url = &c->options.url;
    const int failure = getaddrinfo(url->host, url->port, &hints, &found);
    if (failure) return cn_err_set(err, CN_E_IO, "%s: %s", url->authority, gai_strerror(failure));
    const struct addrinfo *chosen = found;
    for (const struct addrinfo *a = found; a; a = a->ai_next) {
        if (!found->ai_next || !accepts(a, c->options.timeout_ns)) continue;
        chosen = a;
        break;
    }
    memcpy(&c->address, chosen->ai_addr, chosen->ai_addrlen);
    c->address_len = chosen->ai_addrlen;
    freeaddrinfo(found);
    return CN_OK;
}

cn_code cn_client_open(const cn_client_options *options, cn_client **out, cn_err *err)
{
    cn_client *c = calloc(1, sizeof *c);
    *out = c;
    if (!c) return cn_err_set(err, CN_E_MEMORY, "no memory for the client");
    c->options = *options;
    c->epoll = c->timer = -1;
    cn_buf_init(&c->scratch, BODY_BYTES_MAX);
    if (sodium_init() < 0) return cn_err_set(err, CN_E_INTERNAL, "libsodium does not start");
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    // Edge-triggered: it never has to be read.
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    if (c->epoll < 0 || c->timer < 0 || epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->timer, &event) != 0)
        return cn_err_set(err, CN_E_IO, "epoll: %s", strerror(errno));
    return resolve(c, err);
}

static void free_exchange(cn_client_exchange *x)
{
    if (x->fd >= 0) close(x->fd);
    cn_buf_close(&x->out);
    cn_buf_close(&x->in);
    cn_buf_close(&x->text);
    free(x);
}

void cn_client_close(cn_client *c)
{
    if (!c) return;
    for (uint32_t i = 0; i < c->all_count; i++) free_exchange(c->all[i]);
    free(c->all);
    cn_buf_close(&c->scratch);
    if (c->epoll >= 0) close(c->epoll);
    if (c->timer >= 0) close(c->timer);
    free(c);
}

cn_client_counts cn_client_count(const cn_client *c) { return c->counts; }

static cn_client_exchange *new_exchange(cn_client *c)
{
    if (c->free) {
        cn_client_exchange *x = c->free;
        c->free = x->next;
        return x;
    }
    if (c->all_count == c->all_capacity) {
        const uint32_t capacity = c->all_capacity ? c->all_capacity * 2 : 64;
        void *grown = realloc(c->all, capacity * sizeof(void *));
        if (!grown) return NULL;
        c->all = grown;
        c->all_capacity = capacity;
    }
    cn_client_exchange *x = aligned_alloc(64, (sizeof *x + 63) / 64 * 64);
    if (!x) return NULL;
    memset(x, 0, sizeof *x);
    x->fd = -1;
    cn_buf_init(&x->out, BODY_BYTES_MAX);
    cn_buf_init(&x->in, LINE_BYTES_MAX);
    cn_buf_init(&x->text, BODY_BYTES_MAX);
    c->all[c->all_count++] = x;
    return x;
}

static void drop_socket(cn_client_exchange *x)
{
    if (x->fd >= 0) close(x->fd);
    x->fd = -1;
    x->state = CLOSED;
    x->interest = 0;
}

// Puts the structure where the next request looks for it, and frees what only this one needed.
static void release(cn_client *c, cn_client_exchange *x, bool keep)
{
    cn_buf_close(&x->out);
    cn_buf_close(&x->in);
    cn_buf_close(&x->text);
    if (!keep) drop_socket(x);
    x->state = keep ? IDLE : CLOSED;
    cn_client_exchange **list = keep ? &c->idle : &c->free;
    x->next = *list;
    *list = x;
}

static void want(cn_client *c, cn_client_exchange *x, uint32_t interest)
{
    if (x->interest == interest) return;
    struct epoll_event event = {.events = interest, .data.ptr = x};
    const int op = x->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    x->interest = interest;
    const int done = epoll_ctl(c->epoll, op, x->fd, &event);
    CN_ASSERT(done == 0 || errno == ENOMEM || errno == ENOSPC);
}

static void end_digest(cn_client_exchange *x)
{
    crypto_generichash_final(&x->digest, x->request.turn->digest, CN_TALLY_DIGEST_BYTES);
}

// The request has ended by itself, or could not begin.
static void finish(cn_client *c, cn_client_exchange *x, cn_outcome outcome, bool keep)
{
    cn_tally_turn *turn = x->request.turn;
    void *tag = x->request.tag;
    turn->outcome = outcome;
    turn->end_ns = c->now_ns;
    end_digest(x);
    if (x->request.keep_text) {
        free(turn->text);
        turn->text = strndup(x->text.len ? x->text.data : "", x->text.len);
    }
    char id[sizeof x->id];
    memcpy(id, x->id, sizeof id);
    release(c, x, keep && !x->request.slow);
    c->options.on_end(c->options.self, tag, id);
}

static void fail(cn_client *c, cn_client_exchange *x, cn_outcome outcome, const char *what)
{
    if (what) cn_tally_error(x->request.turn, what, strlen(what));
    finish(c, x, outcome, false);
}

static cn_outcome outcome_of_errno(int number, bool connecting)
{
    if (number == ECONNREFUSED) return CN_OUTCOME_REFUSED;
    if (connecting) return CN_OUTCOME_CONNECT;
    return number == ECONNRESET || number == EPIPE ? CN_OUTCOME_RESET : CN_OUTCOME_CUT;
}

/* Opens a socket and begins to connect; if that fails at once, an outcome other than OK, with
 * errno. */
static cn_outcome dial(cn_client *c, cn_client_exchange *x)
{
    const int one = 1, small = SLOW_BUFFER_BYTES;
    x->fd = socket(c->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (x->fd < 0) return CN_OUTCOME_DESCRIPTOR;
    setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (x->request.slow) setsockopt(x->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    c->counts.connections++;
    x->reused = false;
    const bool done = connect(x->fd, (const struct sockaddr *)&c->address, c->address_len) == 0;
    if (!done && errno != EINPROGRESS) return outcome_of_errno(errno, true);
    x->state = done ? BUSY : CONNECTING;
    want(c, x, EPOLLIN | EPOLLOUT);
    return CN_OUTCOME_OK;
}

static bool begin_again(cn_client *c, cn_client_exchange *x);

// A connection that was kept may turn out to be closed.
static bool may_begin_again(const cn_client_exchange *x) { return x->reused && !x->answered; }

// Writes what is left of the request. False: the request has ended.
static bool push(cn_client *c, cn_client_exchange *x)
{
    while (x->sent_bytes < x->out.len) {
        const ssize_t n = send(x->fd, x->out.data + x->sent_bytes, x->out.len - x->sent_bytes,
                               MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            want(c, x, EPOLLIN | EPOLLOUT);
            return true;
        }
        if (n < 0) {
            if (may_begin_again(x)) return begin_again(c, x);
            fail(c, x, outcome_of_errno(errno, false), strerror(errno));
            return false;
        }
        x->sent_bytes += (size_t)n;
    }
    want(c, x, x->request.slow && x->allowed_bytes == 0 ? EPOLLRDHUP : EPOLLIN);
    return true;
}

static void reset_answer(cn_client_exchange *x)
{
    http_parser_init(&x->parser, HTTP_RESPONSE);
    x->parser.data = x;
    x->sent_bytes = 0;
    x->answered = x->complete = x->failed = false;
}

// Connects and sends. False: the request has ended.
static bool begin(cn_client *c, cn_client_exchange *x)
{
    const cn_outcome outcome = dial(c, x);
    if (outcome == CN_OUTCOME_OK) return x->state == CONNECTING || push(c, x);
    fail(c, x, outcome, strerror(errno));
    return false;
}

static bool begin_again(cn_client *c, cn_client_exchange *x)
{
    drop_socket(x);
    reset_answer(x);
    return begin(c, x);
}

cn_client_exchange *cn_client_send(cn_client *c, const cn_client_request *request)
{
    cn_client_exchange *x = request->slow ? NULL : c->idle;
    c->now_ns = request->turn->sent_ns = now_ns(c);
    if (x) c->idle = x->next;
    else x = new_exchange(c);
    if (!x) {
        request->turn->outcome = CN_OUTCOME_DESCRIPTOR;
        request->turn->end_ns = c->now_ns;
        c->options.on_end(c->options.self, request->tag, "");
        return NULL;
    }
    x->request = *request;
    x->allowed_bytes = request->slow ? 0 : UINT64_MAX;
    x->id[0] = '\0';
    x->sequence = -1;
    x->reused = x->fd >= 0;
    x->state = BUSY;
    reset_answer(x);
    crypto_generichash_init(&x->digest, NULL, 0, CN_TALLY_DIGEST_BYTES);
    cn_buf_add(&x->out, request->bytes->data, request->bytes->len);
    if (x->out.overflowed) {
        fail(c, x, CN_OUTCOME_DESCRIPTOR, "no memory for the request");
        return NULL;
    }
    const bool lives = x->reused ? push(c, x) : begin(c, x);
    return lives ? x : NULL;
}

void cn_client_cancel(cn_client *c, cn_client_exchange *x, cn_outcome outcome)
{
    x->request.turn->outcome = outcome;
    x->request.turn->end_ns = now_ns(c);
    end_digest(x);
    release(c, x, false);
}

void cn_client_allow(cn_client *c, cn_client_exchange *x, uint32_t bytes)
{
    x->allowed_bytes += bytes;
    if (x->state == BUSY && x->sent_bytes == x->out.len) want(c, x, EPOLLIN);
}

const char *cn_client_id(const cn_client_exchange *x) { return x->id; }

int64_t cn_client_sequence(const cn_client_exchange *x) { return x->sequence; }

void cn_client_resume(cn_client *c, cn_client_exchange *x, const cn_buf *bytes)
{
    drop_socket(x);
    reset_answer(x);
    cn_buf_clear(&x->in);        // half an event, which will be told again
    cn_buf_clear(&x->out);
    cn_buf_add(&x->out, bytes->data, bytes->len);
    c->now_ns = now_ns(c);
    if (x->out.overflowed) fail(c, x, CN_OUTCOME_DESCRIPTOR, "no memory for the request");
    else begin(c, x);
}

static void take_usage(cn_tally_turn *turn, const cn_delta *delta)
{
    if (delta->input_tokens >= 0) turn->input_tokens = delta->input_tokens;
    if (delta->output_tokens >= 0) turn->output_tokens = delta->output_tokens;
    if (delta->cached_tokens >= 0) turn->cached_tokens = delta->cached_tokens;
}

// Token ids are the better digest where the server gives them: text may hide how it was cut.
static void take_texts(cn_client *c, cn_client_exchange *x, const cn_delta *delta)
{
    const bool by_ids = delta->id_count > 0;
    if (by_ids) {
        crypto_generichash_update(&x->digest, (const unsigned char *)delta->ids.at, delta->ids.len);
        crypto_generichash_update(&x->digest, (const unsigned char *)",", 1);
    }
    if (by_ids && !x->request.keep_text) return;
    for (uint32_t i = 0; i < delta->text_count; i++) {
        cn_buf_clear(&c->scratch);
        cn_delta_unescape(&delta->texts[i], &c->scratch);
        const unsigned char *text = (const unsigned char *)c->scratch.data;
        if (!by_ids) crypto_generichash_update(&x->digest, text, c->scratch.len);
        if (x->request.keep_text) cn_buf_add(&x->text, text, c->scratch.len);
    }
}

/* An event, a whole answer or an error body. False if it cannot be read, or says that the request
 * failed; the outcome is then in the turn. */
static bool take_json(cn_client *c, cn_client_exchange *x, const char *text, size_t len)
{
    cn_tally_turn *turn = x->request.turn;
    cn_delta delta;
    if (!cn_delta_parse(text, len, &delta)) {
        turn->outcome = CN_OUTCOME_BAD_EVENT;
        cn_tally_error(turn, text, len);
        return false;
    }
    if (delta.has_error) {
        turn->outcome = CN_OUTCOME_ERROR;
        cn_tally_error(turn, delta.error.at ? delta.error.at : text,
                       delta.error.at ? delta.error.len : len);
        return false;
    }
    take_usage(turn, &delta);
    if (delta.sequence >= 0) x->sequence = delta.sequence;
    if (delta.id.len > 0 && delta.id.len < sizeof x->id) {
        memcpy(x->id, delta.id.at, delta.id.len);
        x->id[delta.id.len] = '\0';
    }
    if (delta.text_count == 0 && delta.id_count == 0) return true;
    c->counts.events++;
    take_texts(c, x, &delta);
    if (cn_tally_event(turn, c->now_ns)) return true;
    turn->outcome = CN_OUTCOME_DESCRIPTOR;
    return false;
}

static bool take_line(cn_client *c, cn_client_exchange *x, const char *line, size_t len)
{
    if (len > 0 && line[len - 1] == '\r') len--;
    if (len < 5 || memcmp(line, "data:", 5) != 0) return true;   // a comment, a name, an empty line
    line += 5;
    len -= 5;
    if (len > 0 && *line == ' ') line++, len--;
    if (len == 6 && memcmp(line, "[DONE]", 6) == 0) return true;
    return take_json(c, x, line, len);
}

// Lines are parsed where they were received; only what is unfinished is copied.
static bool take_lines(cn_client *c, cn_client_exchange *x, const char *data, size_t len)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        if (!end) {
            cn_buf_add(&x->in, data, len);
            return !x->in.overflowed;
        }
        const size_t part = (size_t)(end - data);
        bool sound;
        if (x->in.len == 0) sound = take_line(c, x, data, part);
        else {
            cn_buf_add(&x->in, data, part);
            sound = !x->in.overflowed && take_line(c, x, x->in.data, x->in.len);
            cn_buf_clear(&x->in);
        }
        if (!sound) return false;
        data = end + 1;
        len -= part + 1;
    }
    return true;
}

static cn_client *parsing; // http_parser's callbacks have one pointer, and that is the exchange

static int on_body(http_parser *parser, const char *data, size_t len)
{
    cn_client_exchange *x = parser->data;
    if (parser->status_code == 200 && x->request.stream) {
        if (!take_lines(parsing, x, data, len)) x->failed = true;
        if (x->in.overflowed) x->request.turn->outcome = CN_OUTCOME_BAD_EVENT;
        return x->failed;
    }
    if (parser->status_code != 200 && x->in.len + len > ERROR_BYTES_MAX) return 0;
    cn_buf_add(&x->in, data, len);
    if (x->in.overflowed) {
        x->request.turn->outcome = CN_OUTCOME_BAD_EVENT;
        x->failed = true;
    }
    return x->failed;
}

static int on_complete(http_parser *parser)
{
    ((cn_client_exchange *)parser->data)->complete = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {.on_body = on_body,
                                              .on_message_complete = on_complete};

// The outcome of an answer that came whole.
static cn_outcome judge(cn_client *c, cn_client_exchange *x)
{
    cn_tally_turn *turn = x->request.turn;
    const unsigned status = turn->status = (uint16_t)x->parser.status_code;
    if (status != 200) {
        take_json(c, x, x->in.data ? x->in.data : "", x->in.len);
        return status / 100 == 4   ? CN_OUTCOME_HTTP_4XX
               : status / 100 == 5 ? CN_OUTCOME_HTTP_5XX
                                   : CN_OUTCOME_HTTP_OTHER;
    }
    if (!x->request.stream && !take_json(c, x, x->in.data ? x->in.data : "", x->in.len)) {
        return turn->outcome;
    }
    if (turn->event_count > 0) return CN_OUTCOME_OK;
    if (turn->output_tokens <= 0) return CN_OUTCOME_EMPTY;
    // Tokens without any text, as an end of sequence that is to be ignored: seen when the answer
    // ends.
    turn->first_ns = turn->last_ns = c->now_ns;
    return CN_OUTCOME_OK;
}

static void take_bytes(cn_client *c, cn_client_exchange *x, size_t len)
{
    parsing = c;
    x->answered = true;
    const size_t parsed = http_parser_execute(&x->parser, &settings, c->data, len);
    if (x->complete) {
        const bool keep = parsed + 1 >= len && x->sent_bytes == x->out.len &&
                          http_should_keep_alive(&x->parser);
        finish(c, x, judge(c, x), keep);
    } else if (x->failed) fail(c, x, x->request.turn->outcome, NULL);
    else if (HTTP_PARSER_ERRNO(&x->parser) != HPE_OK) {
        fail(c, x, CN_OUTCOME_BAD_HTTP,
             http_errno_description(HTTP_PARSER_ERRNO(&x->parser)));
    }
}

static void end_of_stream(cn_client *c, cn_client_exchange *x, int number)
{
    if (may_begin_again(x)) {
        begin_again(c, x);
        return;
    }
    // A body without a length ends with its connection.
    if (number == 0 && x->answered) http_parser_execute(&x->parser, &settings, c->data, 0);
    if (x->complete) finish(c, x, judge(c, x), false);
    else if (number) fail(c, x, outcome_of_errno(number, false), strerror(number));
    else fail(c, x, CN_OUTCOME_CUT, "the server closed the connection");
}

static void receive(cn_client *c, cn_client_exchange *x)
{
    const size_t wanted = x->allowed_bytes < READ_BYTES ? x->allowed_bytes : READ_BYTES;
    if (wanted == 0) {
        want(c, x, EPOLLRDHUP);
        return;
    }
    const ssize_t n = recv(x->fd, c->data, wanted, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n <= 0) {
        end_of_stream(c, x, n < 0 ? errno : 0);
        return;
    }
    c->counts.received_bytes += (uint64_t)n;
    if (x->request.slow) x->allowed_bytes -= (uint64_t)n;
    take_bytes(c, x, (size_t)n);
}

static void on_connected(cn_client *c, cn_client_exchange *x)
{
    int reason = 0;
    socklen_t len = sizeof reason;
    getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &reason, &len);
    if (reason) {
        fail(c, x, outcome_of_errno(reason, true), strerror(reason));
        return;
    }
    x->state = BUSY;
    push(c, x);
}

// An idle connection has nothing to say but that it ends.
static void drop_idle(cn_client *c, cn_client_exchange *x)
{
    for (cn_client_exchange **at = &c->idle; *at; at = &(*at)->next) {
        if (*at != x) continue;
        *at = x->next;
        release(c, x, false);
        return;
    }
}

static void handle(cn_client *c, cn_client_exchange *x, uint32_t events)
{
    switch (x->state) {
    case CLOSED: break;
    case CONNECTING:
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) on_connected(c, x);
        break;
    case BUSY:
        if (events & EPOLLOUT && x->sent_bytes < x->out.len && !push(c, x)) break;
        if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(c, x);
        break;
    case IDLE: drop_idle(c, x); break;
    }
}

static void arm(cn_client *c, uint64_t until_ns)
{
    if (c->armed_ns == until_ns) return;
    const uint64_t at = until_ns ? until_ns : 1;     // 0 would disarm
    const struct itimerspec when = {
        .it_value = {(time_t)(at / 1000000000), (long)(at % 1000000000)}};
    timerfd_settime(c->timer, TFD_TIMER_ABSTIME, &when, NULL);
    c->armed_ns = until_ns;
}

void cn_client_poll(cn_client *c, uint64_t until_ns)
{
    struct epoll_event events[EVENTS];
    const bool waits = now_ns(c) < until_ns;
    if (waits) arm(c, until_ns);
    const int count = epoll_wait(c->epoll, events, EVENTS, waits ? -1 : 0);
    for (int i = 0; i < count; i++) {
        if (!events[i].data.ptr) {
            c->armed_ns = 0;
            continue;
        }
        c->now_ns = now_ns(c);
        // What is not handled now is reported again: everything but the timer is level-triggered.
        if (waits && c->now_ns >= until_ns) {
            c->armed_ns = 0;
            return;
        }
        handle(c, events[i].data.ptr, events[i].events);
    }
}
