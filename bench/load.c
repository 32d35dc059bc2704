/* bench/load.c: closed-loop load on an OpenAI-compatible completions endpoint, for bench/serve.
 * N connections each send a request of random token ids, read the answer to its end, and send the next
 * one. Prints one JSON object: tokens per second, and quantiles of time to first token, inter-token
 * time and whole requests. It reconnects where a server closes after each answer.
 * (`cairn bench` with open-loop arrivals is another program: closed loop is what a comparison of two
 * engines at a fixed number of streams needs.) */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <http_parser.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "base/random.h"

typedef struct settings {
    struct sockaddr_in address;
    uint32_t streams, requests, prompt_tokens, prefix_tokens, max_tokens, vocab;
    bool stream;
    uint64_t seed;
} settings;

typedef struct load load;

typedef struct client {
    load *load;
    int fd;
    http_parser parser;
    cn_buf request;
    char line[8];                // start of the current line of the body
    uint32_t line_len;
    uint32_t frames;
    uint64_t start_ns, first_ns, last_ns;
    bool complete, answered;     // its end, its first byte has come
    bool fresh;                  // the connection was opened for this request
} client;

struct load {
    settings s;
    cn_clock clock;
    uint64_t rng;
    int epoll;
    uint32_t begun, done, failed;
    uint64_t start_ns, end_ns;
    uint64_t *frame_ns;          // times of all frames, for the window in which every stream decodes
    uint32_t frame_count, frame_max;
    cn_histogram first_token, inter_token, whole;
    uint64_t last_first_ns, first_last_ns;
};

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void on_frame(client *c)
{
    load *l = c->load;
    const uint64_t now = cn_clock_now_ns(&l->clock);
    if (c->frames == 0) c->first_ns = now;
    else cn_histogram_add(&l->inter_token, now - c->last_ns);
    c->frames++;
    c->last_ns = now;
    if (l->frame_count < l->frame_max) l->frame_ns[l->frame_count++] = now;
}

// A frame is a line that begins with `data: {`; the last line, `data: [DONE]`, is none.
static int on_body(http_parser *parser, const char *data, size_t len)
{
    client *c = parser->data;
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n') c->line_len = 0;
        else if (c->line_len < 7) {
            c->line[c->line_len++] = data[i];
            if (c->line_len == 7 && memcmp(c->line, "data: {", 7) == 0) on_frame(c);
        }
    }
    return 0;
}

static int on_complete(http_parser *parser)
{
    ((client *)parser->data)->complete = true;
    return 0;
}

static const http_parser_settings parser_settings = {.on_body = on_body,
                                                     .on_message_complete = on_complete};

static void open_connection(client *c)
{
    const int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket");
    const struct sockaddr_in *address = &c->load->s.address;
    if (connect(c->fd, (const struct sockaddr *)address, sizeof *address) != 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(c->load->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) die("epoll_ctl");
}

static void write_prompt(load *l, cn_buf *body)
{
    // The prefix is the same for all runs and requests; the rest differs, by --seed.
    uint64_t shared = 1;
    for (uint32_t i = 0; i < l->s.prompt_tokens; i++) {
        const cn_random random = cn_random_seeded(i < l->s.prefix_tokens ? &shared : &l->rng);
        cn_buf_add_format(body, i ? ",%u" : "%u", (unsigned)(cn_random_u64(&random) % l->s.vocab));
    }
}

static void drop_connection(client *c)
{
    close(c->fd);
    c->fd = -1;
}

/* Sends what is in c->request. A server may have closed the connection after its last answer, which
 * shows when this one is written or read: then a fresh one is tried, once (RFC 9112, 9.3.1). */
static void send_request(client *c)
{
    http_parser_init(&c->parser, HTTP_RESPONSE);
    c->parser.data = c;
    c->frames = c->line_len = 0;
    c->complete = c->answered = false;
    c->fresh = c->fd < 0;
    if (c->fresh) open_connection(c);
    for (size_t sent = 0; sent < c->request.len;) {
        const ssize_t n = send(c->fd, c->request.data + sent, c->request.len - sent, MSG_NOSIGNAL);
        if (n <= 0 && c->fresh) die("send");
        if (n <= 0) {
            drop_connection(c);
            send_request(c);
            return;
        }
        sent += (size_t)n;
    }
}

static void begin(client *c)
{
    load *l = c->load;
    cn_buf body;
    cn_buf_init(&body, 1 << 24);
    cn_buf_add_text(&body, "{\"prompt\":[");
    write_prompt(l, &body);
    cn_buf_add_format(&body, "],\"max_tokens\":%u,\"temperature\":0,\"ignore_eos\":true,"
                             "\"cache_prompt\":%s,\"stream\":%s}",
                      l->s.max_tokens, l->s.prefix_tokens ? "true" : "false",
                      l->s.stream ? "true" : "false");
    cn_buf_clear(&c->request);
    cn_buf_add_format(&c->request,
                      "POST /v1/completions HTTP/1.1\r\nHost: bench\r\n"
                      "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                      body.len);
    cn_buf_add(&c->request, body.data, body.len);
    cn_buf_close(&body);
    c->start_ns = c->first_ns = cn_clock_now_ns(&l->clock);
    l->begun++;
    send_request(c);
}

static void finish(client *c)
{
    load *l = c->load;
    const bool ok = c->complete && c->parser.status_code == 200 && (c->frames || !l->s.stream);
    l->done++;
    l->failed += !ok;
    l->end_ns = cn_clock_now_ns(&l->clock);
    if (ok) {
        cn_histogram_add(&l->whole, l->end_ns - c->start_ns);
        cn_histogram_add(&l->first_token, (l->s.stream ? c->first_ns : l->end_ns) - c->start_ns);
        if (c->first_ns > l->last_first_ns) l->last_first_ns = c->first_ns;
        if (l->first_last_ns == 0 || c->last_ns < l->first_last_ns) l->first_last_ns = c->last_ns;
    }
    if (!c->complete || !http_should_keep_alive(&c->parser)) drop_connection(c);
    if (l->begun < l->s.requests) begin(c);
}

static void receive(client *c)
{
    char data[65536];
    const ssize_t n = recv(c->fd, data, sizeof data, 0);
    if (n <= 0 && !c->answered && !c->complete && !c->fresh) {
        drop_connection(c);
        send_request(c);
        return;
    }
    if (n < 0) die("recv");
    c->answered = true;
    http_parser_execute(&c->parser, &parser_settings, data, (size_t)n);
    if (n == 0 || HTTP_PARSER_ERRNO(&c->parser) != HPE_OK) {
        if (c->complete || c->load->done == c->load->s.requests) drop_connection(c);
        else finish(c);
    } else if (c->complete) {
        finish(c);
    }
}

// Frames per second while all streams decode: only where each stream has one request.
static double decode_rate(const load *l)
{
    uint64_t inside = 0;
    if (l->s.requests != l->s.streams || l->first_last_ns <= l->last_first_ns) return 0;
    for (uint32_t i = 0; i < l->frame_count; i++) {
        inside += l->frame_ns[i] > l->last_first_ns && l->frame_ns[i] <= l->first_last_ns;
    }
    return (double)inside * 1e9 / (double)(l->first_last_ns - l->last_first_ns);
}

static void print_quantiles(const char *name, const cn_histogram *h)
{
    printf("\"%s_ms\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f},", name,
           (double)cn_histogram_quantile(h, 0.5) / 1e6, (double)cn_histogram_quantile(h, 0.9) / 1e6,
           (double)cn_histogram_quantile(h, 0.99) / 1e6);
}

static void report(const load *l)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    const double seconds = (double)(l->end_ns - l->start_ns) / 1e9;
    const double answered = (double)(l->done - l->failed);
    printf("{\"streams\":%u,\"requests\":%u,\"failed\":%u,\"seconds\":%.3f,", l->s.streams,
           l->s.requests, l->failed, seconds);
    printf("\"requests_per_s\":%.2f,\"output_tokens_per_s\":%.2f,\"decode_tokens_per_s\":%.2f,",
           answered / seconds, answered * l->s.max_tokens / seconds, decode_rate(l));
    print_quantiles("first_token", &l->first_token);
    print_quantiles("inter_token", &l->inter_token);
    print_quantiles("request", &l->whole);
    printf("\"client_cpu_s\":%.3f}\n",
           (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6 +
               (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6);
}

static const struct option flags[] = {
    {"port", required_argument, NULL, 'p'},        {"streams", required_argument, NULL, 's'},
    {"requests", required_argument, NULL, 'r'},    {"prompt-tokens", required_argument, NULL, 'i'},
    {"prefix-tokens", required_argument, NULL, 'x'}, {"max-tokens", required_argument, NULL, 'o'},
    {"vocab", required_argument, NULL, 'v'},       {"seed", required_argument, NULL, 'd'},
    {"whole", no_argument, NULL, 'w'},             {0},
};

static settings parse_flags(int argc, char **argv)
{
    settings s = {.streams = 1, .requests = 1, .prompt_tokens = 128, .max_tokens = 128,
                  .vocab = 1000, .stream = true, .seed = 1};
    s.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(8000),
                                     .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        const uint32_t n = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
        switch (flag) {
        case 'p': s.address.sin_port = htons((uint16_t)n); break;
        case 's': s.streams = n; break;
        case 'r': s.requests = n; break;
        case 'i': s.prompt_tokens = n; break;
        case 'x': s.prefix_tokens = n; break;
        case 'o': s.max_tokens = n; break;
        case 'v': s.vocab = n; break;
        case 'd': s.seed = n; break;
        case 'w': s.stream = false; break;
        default:
            fprintf(stderr, "usage: bench_load --port N [--streams N] [--requests N] "
                            "[--prompt-tokens N] [--prefix-tokens N] [--max-tokens N] [--vocab N] "
                            "[--seed N] [--whole]\n");
            exit(2);
        }
    }
    if (s.streams == 0 || s.vocab == 0 || s.prompt_tokens == 0 || s.requests < s.streams) {
        fprintf(stderr, "load: streams, vocab and prompt-tokens must be above 0, and requests at "
                        "least as many as streams\n");
        exit(2);
    }
    return s;
}

int main(int argc, char **argv)
{
    static load l;
    l.s = parse_flags(argc, argv);
    l.clock = cn_clock_system();
    l.rng = l.s.seed ^ 0x5DEECE66Du;
    l.epoll = epoll_create1(0);
    l.frame_max = l.s.requests * (l.s.max_tokens + 2);
    l.frame_ns = calloc(l.frame_max, sizeof *l.frame_ns);
    client *clients = calloc(l.s.streams, sizeof *clients);
    if (l.epoll < 0 || !l.frame_ns || !clients) die("start");
    l.start_ns = cn_clock_now_ns(&l.clock);
    for (uint32_t i = 0; i < l.s.streams; i++) {
        clients[i] = (client){.load = &l, .fd = -1};
        cn_buf_init(&clients[i].request, 1 << 24);
        begin(&clients[i]);
    }
    while (l.done < l.s.requests) {
        struct epoll_event events[64];
        const int n = epoll_wait(l.epoll, events, 64, -1);
        for (int i = 0; i < n; i++) receive(events[i].data.ptr);
    }
    report(&l);
    for (uint32_t i = 0; i < l.s.streams; i++) cn_buf_close(&clients[i].request);
    free(clients);
    free(l.frame_ns);
    return l.failed ? 1 : 0;
}
