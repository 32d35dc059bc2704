/* bench/state/turns.c: what a stored turn costs where the model costs nothing.
 * The whole api (JSON, chat template, tokenizer, session) between clients and an engine that this program
 * plays: an answer of 16 tokens is there at once. Neither sockets nor HTTP framing are in it.
 *
 *   bench_turns host MODEL TURNS TOKENS               a conversation of TURNS turns with about TOKENS tokens, in
 *                                                     a store in memory: from the request for the next turn to
 *                                                     its submission to the engine, as it is and with its
 *                                                     history rendered whole; the keys of its pages; a fork
 *   bench_turns rate MODEL ADDRESS CLIENTS SECONDS    acknowledged turns per second in the Redis at ADDRESS, each
 *                                                     client in a conversation of its own
 * Each prints one line of JSON. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/histogram.h"
#include "dataplane/api.h"
#include "state/page_key.h"
#include "state/store_redis.h"
#include "state/store_sim.h"

enum {
    CLIENTS_MAX = 512,
    CONTEXT_TOKENS = 40000,
    ANSWER_TOKENS = 16,
    EVENTS_MAX = CLIENTS_MAX * (ANSWER_TOKENS + 2),      // of as many generations as there may be
    ROUNDS = 200,
    BODY_BYTES = 1 << 20,
    LIVES = 24,                  // turns after which a client begins a new conversation
    WAIT_NS = 1000000000
};

// One client with one request at a time.
typedef struct client {
    cn_buf body;                 // of the answer
    char id[CN_SESSION_ID_BYTES];        // that the last answer began with
    char conversation[CN_SESSION_ID_BYTES];
    unsigned status;
    uint32_t turns;
    uint64_t start_ns;
    bool ended;
} client;

static struct {
    cn_clock clock;
    cn_wake store_wake, wake;
    cn_store *store;
    cn_session *session;
    cn_checkpoint *checkpoint;
    cn_tokenizer *tokenizer;
    cn_template *tmpl;
    cn_api *api;
    cn_limits limits;
    cn_metrics metrics;
    pthread_t thread;
    atomic_bool stop;
    client clients[CLIENTS_MAX];
    cn_http_message messages[CLIENTS_MAX];
    uint64_t message_first, message_count;       // they only grow
    cn_event events[EVENTS_MAX];
    uint64_t event_first, event_count;
    uint32_t prompt_count;       // tokens of the generation that was submitted last
    uint64_t submitted_ns;
    int32_t answer[ANSWER_TOKENS];
    char input[BODY_BYTES], request[BODY_BYTES];
} b;

static _Noreturn void give_up(const char *why)
{
    fprintf(stderr, "bench_turns: %s\n", why);
    exit(1);
}

static void must(cn_code code, const cn_err *err)
{
    if (code != CN_OK) give_up(err->text);
}

static uint64_t now_ns(void) { return cn_clock_now_ns(&b.clock); }

// ---- what stands in the place of dataplane/http.c

bool cn_http_next(cn_http *http, cn_http_message *out)
{
    (void)http;
    if (b.message_first == b.message_count) return false;
    *out = b.messages[b.message_first++ % CLIENTS_MAX];
    return true;
}

const char *cn_http_request_header(const cn_http_request *request, const char *name)
{
    (void)request;
    (void)name;
    return NULL;
}

void cn_http_request_free(cn_http *http, cn_http_request *request)
{
    (void)http;
    cn_arena_close(&request->arena);
    free(request);
}

bool cn_http_start(cn_http *http, cn_exchange exchange, unsigned status, const char *content_type,
                   int64_t length, const char *extra)
{
    (void)http;
    (void)content_type;
    (void)length;
    (void)extra;
    b.clients[exchange.index].status = status;
    return true;
}

size_t cn_http_send(cn_http *http, cn_exchange exchange, const char *data, size_t len)
{
    (void)http;
    cn_buf_add(&b.clients[exchange.index].body, data, len);
    return len;
}

bool cn_http_end(cn_http *http, cn_exchange exchange)
{
    (void)http;
    b.clients[exchange.index].ended = true;
    return true;
}

void cn_http_flush(cn_http *http) { (void)http; }

// ---- and in that of scheduler/

void cn_engine_info_get(const cn_engine *engine, cn_engine_info *out)
{
    (void)engine;
    *out = (cn_engine_info){.context_tokens_max = CONTEXT_TOKENS, .page_count = 1, .slot_count = CLIENTS_MAX};
}

void cn_engine_port_attach(cn_engine_port *port, cn_wake *wake)
{
    (void)port;
    (void)wake;
}

cn_code cn_engine_port_admit(cn_engine_port *port, uint32_t choice_count, cn_err *err)
{
    (void)port;
    (void)choice_count;
    (void)err;
    return CN_OK;
}

static void add_event(cn_generation *g, cn_event event)
{
    event.generation = g;
    b.events[b.event_count++ % EVENTS_MAX] = event;
}

cn_code cn_engine_port_submit(cn_engine_port *port, cn_generation *g, cn_err *err)
{
    (void)port;
    (void)err;
    b.submitted_ns = now_ns();
    b.prompt_count = g->prompt_count;
    add_event(g, (cn_event){.kind = CN_EVENT_STARTED});
    for (uint32_t i = 0; i < ANSWER_TOKENS; i++) {
        g->output[i] = b.answer[i];
        add_event(g, (cn_event){.kind = CN_EVENT_TOKEN, .token = b.answer[i],
                                .position = g->prompt_count + i});
    }
    add_event(g, (cn_event){.kind = CN_EVENT_FINISHED, .finish = CN_FINISH_STOP, .last = true});
    return CN_OK;
}

bool cn_engine_port_cancel(cn_engine_port *port, cn_generation *generation)
{
    (void)port;
    (void)generation;
    return true;
}

bool cn_engine_port_cancel_choice(cn_engine_port *port, cn_generation *generation, uint32_t choice)
{
    (void)choice;
    return cn_engine_port_cancel(port, generation);
}

const cn_event *cn_engine_port_next(cn_engine_port *port)
{
    (void)port;
    return b.event_first < b.event_count ? &b.events[b.event_first % EVENTS_MAX] : NULL;
}

void cn_engine_port_done(cn_engine_port *port)
{
    (void)port;
    b.event_first++;
}

// ---- open and close

static void *run_store(void *argument)
{
    (void)argument;
    while (!atomic_load(&b.stop)) b.store->ops->poll(b.store, WAIT_NS);
    return NULL;
}

// NULL: a store in memory, which the main thread polls.
static void open_store(const char *address)
{
    cn_err err = {0};
    if (!address) {
        const cn_store_sim_options sim = {.port_count = 1, .op_max = 4096, .page_bytes = 64, .seed = 1,
                                          .clock = b.clock, .durability = CN_DURABILITY_MEMORY};
        must(cn_store_sim_open(&sim, &b.store, &err), &err);
        return;
    }
    const cn_store_redis_options redis = {
        .log = address, .pages = "", .user = "", .password = "", .durability = CN_DURABILITY_FSYNC,
        .page_bytes = 4096, .port_count = 1, .op_max = 4096, .connection_count = 12,
        .log_timeout_ns = 2000000000, .page_timeout_ns = 1000000000, .clock = b.clock,
        .random = cn_random_system(), .wake = &b.store_wake};
    must(cn_store_redis_open(&redis, &b.store, &err), &err);
    cn_store_port_attach(cn_store_port_at(b.store, 0), &b.wake);
    if (pthread_create(&b.thread, NULL, run_store, NULL) != 0) give_up("no thread");
}

// An answer that every tokenizer and template give back as it is: words, and the end.
static void make_answer(void)
{
    static const char text[] = "the answer is that it is so and not that it is the other way as the one said to me then";
    cn_arena arena;
    cn_err err = {0};
    cn_token_list tokens;
    const cn_generation_defaults *defaults = cn_checkpoint_generation(b.checkpoint);
    cn_arena_init(&arena, 1 << 20);
    must(cn_tokenizer_encode(b.tokenizer, text, strlen(text), &(cn_encode_options){0}, &arena, &tokens, &err),
         &err);
    if (tokens.count < ANSWER_TOKENS - 1 || defaults->eos_count == 0) give_up("no answer can be made");
    memcpy(b.answer, tokens.ids, (ANSWER_TOKENS - 1) * sizeof *b.answer);
    b.answer[ANSWER_TOKENS - 1] = defaults->eos_tokens[0];
    cn_arena_close(&arena);
}

static void open_bench(const char *model, const char *address)
{
    cn_err err = {0};
    size_t len = 0;
    b.clock = cn_clock_system();
    b.limits = cn_limits_default();
    b.limits.connections = CLIENTS_MAX;
    cn_metrics_init(&b.metrics);
    must(cn_wake_open(&b.store_wake, &err), &err);
    must(cn_wake_open(&b.wake, &err), &err);
    must(cn_checkpoint_open(model, &b.checkpoint, &err), &err);
    must(cn_tokenizer_open(model, &b.tokenizer, &err), &err);
    const char *text = cn_checkpoint_chat_template(b.checkpoint, &len);
    must(cn_template_open("chat_template", text, len, &b.tmpl, &err), &err);
    make_answer();
    open_store(address);
    const cn_session_options session = {
        .store = cn_store_port_at(b.store, 0), .clock = b.clock, .random = cn_random_system(),
        .life_ms = 86400000, .record_bytes_max = 16 << 20, .chain_max = 100000, .call_max = CLIENTS_MAX,
        .cache_bytes = 256 << 20};
    must(cn_session_open(&session, &b.session, &err), &err);
    const cn_api_options api = {
        .tokenizer = b.tokenizer, .chat_template = b.tmpl, .session = b.session, .store = b.store,
        .checkpoint = b.checkpoint, .model_name = "m", .limits = &b.limits, .clock = b.clock,
        .random = cn_random_system(), .metrics = &b.metrics, .wake = &b.wake};
    must(cn_api_open(&api, &b.api, &err), &err);
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) cn_buf_init(&b.clients[i].body, 1 << 24);
}

static void close_bench(bool has_thread)
{
    atomic_store(&b.stop, true);
    if (has_thread) {
        cn_wake_signal(&b.store_wake);
        pthread_join(b.thread, NULL);
    }
    cn_api_close(b.api);
    b.store->ops->close(b.store);
    cn_session_close(b.session);
    cn_template_close(b.tmpl);
    cn_tokenizer_close(b.tokenizer);
    cn_checkpoint_close(b.checkpoint);
    cn_wake_close(&b.store_wake);
    cn_wake_close(&b.wake);
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) cn_buf_close(&b.clients[i].body);
}

// ---- requests

static void send(uint32_t at, const char *path, const char *body)
{
    client *c = &b.clients[at];
    cn_http_request *request = calloc(1, sizeof *request);
    if (!request) give_up("no memory");
    cn_arena_init(&request->arena, b.limits.request_bytes);
    request->exchange = (cn_exchange){at, 1};
    request->method = "POST";
    request->query = "";
    request->peer = "127.0.0.1";
    request->path = cn_arena_copy(&request->arena, path, strlen(path));
    request->body_len = strlen(body);
    request->body = cn_arena_copy(&request->arena, body, request->body_len);
    cn_buf_clear(&c->body);
    c->ended = false;
    c->start_ns = now_ns();
    b.messages[b.message_count++ % CLIENTS_MAX] = (cn_http_message){CN_HTTP_REQUEST, request->exchange, request};
}

// `place`: "conversation" or "previous_response_id", with its id.
static void send_turn(uint32_t at, const char *input, const char *place, const char *id, const char *more)
{
    const int len = snprintf(b.request, sizeof b.request, "{\"input\":\"%s\",\"%s\":\"%s\"%s}", input, place,
                             id, more);
    if (len < 0 || (size_t)len >= sizeof b.request) give_up("the input is too long");
    send(at, "/v1/responses", b.request);
}

static bool poll_all(bool has_thread)
{
    bool worked = cn_api_poll(b.api);
    if (!has_thread) worked |= b.store->ops->poll(b.store, 0);
    return worked;
}

// The id that the answer begins with is the turn's, or the conversation's.
static void take_id(client *c)
{
    cn_buf_add_char(&c->body, '\0');
    const char *id = strstr(c->body.data, "\"id\":\"");
    if (c->status != 200 || !id) give_up(c->body.data);
    snprintf(c->id, sizeof c->id, "%.*s", (int)strcspn(id + 6, "\""), id + 6);
}

// One request of client 0, in the store in memory; its duration.
static uint64_t wait_for(void)
{
    client *c = &b.clients[0];
    while (!c->ended) poll_all(false);
    const uint64_t took = now_ns() - c->start_ns;
    take_id(c);
    return took;
}

// ---- the work of the host before the first step

static void fill_input(uint32_t words)
{
    b.input[0] = '\0';
    for (uint32_t i = 0, at = 0; i < words && at + 8 < sizeof b.input; i++) {
        at += (uint32_t)snprintf(b.input + at, sizeof b.input - at, "%sthe", i ? " " : "");
    }
}

// A conversation of client 0 with so many turns and about so many tokens.
static void make_history(uint32_t turns, uint32_t tokens)
{
    client *c = &b.clients[0];
    const uint32_t own = ANSWER_TOKENS + 3, each = tokens / turns;
    fill_input(each > own ? each - own : 1);
    send(0, "/v1/conversations", "{}");
    wait_for();
    memcpy(c->conversation, c->id, sizeof c->id);
    for (uint32_t i = 0; i < turns; i++) {
        send_turn(0, b.input, "conversation", c->conversation, "");
        wait_for();
    }
}

// From the request for a next turn to its submission.
static uint64_t measure_prompt(const char *parent, const char *more)
{
    static cn_histogram took;
    cn_histogram_init(&took);
    for (int i = 0; i < ROUNDS; i++) {
        send_turn(0, "and now", "previous_response_id", parent, more);
        wait_for();
        cn_histogram_add(&took, b.submitted_ns - b.clients[0].start_ns);
    }
    return cn_histogram_quantile(&took, 0.5);
}

static uint64_t measure_keys(uint32_t tokens)
{
    static cn_histogram took;
    int32_t page[CN_PAGE_TOKENS] = {0};
    cn_histogram_init(&took);
    for (int i = 0; i < ROUNDS; i++) {
        cn_page_key key = {{(uint8_t)i}};
        const uint64_t start = now_ns();
        for (uint32_t at = 0; at + CN_PAGE_TOKENS < tokens; at += CN_PAGE_TOKENS) {
            page[0] = (int32_t)at;
            key = cn_page_key_next(&key, page);
        }
        cn_histogram_add(&took, now_ns() - start + key.bytes[0] % 2);
    }
    return cn_histogram_quantile(&took, 0.5);
}

static uint64_t measure_fork(void)
{
    static cn_histogram took;
    char path[128];
    snprintf(path, sizeof path, "/v1/conversations/%s/fork", b.clients[0].conversation);
    cn_histogram_init(&took);
    for (int i = 0; i < ROUNDS; i++) {
        send(0, path, "");
        cn_histogram_add(&took, wait_for());
    }
    return cn_histogram_quantile(&took, 0.5);
}

static void run_host(const char *model, uint32_t turns, uint32_t tokens)
{
    char head[CN_SESSION_ID_BYTES];
    open_bench(model, NULL);
    make_history(turns, tokens);
    memcpy(head, b.clients[0].id, sizeof head);
    const uint64_t rest = measure_prompt(head, "");
    const uint32_t prompt_count = b.prompt_count;
    const uint64_t whole = measure_prompt(head, ",\"chat_template_kwargs\":{\"unused\":1}");
    if (b.prompt_count != prompt_count) give_up("the two ways give different prompts");
    printf("{\"figure\":\"host\",\"turns\":%" PRIu32 ",\"tokens\":%" PRIu32 ",\"prompt_us_p50\":%.0f,"
           "\"whole_us_p50\":%.0f,\"keys_us_p50\":%.0f,\"fork_us_p50\":%.0f}\n",
           turns, prompt_count, (double)rest / 1e3, (double)whole / 1e3,
           (double)measure_keys(prompt_count) / 1e3, (double)measure_fork() / 1e3);
    close_bench(false);
}

// ---- turns per second

// A client's next request: a turn, or a new conversation after LIVES of them.
static void go_on(uint32_t at)
{
    client *c = &b.clients[at];
    if (c->turns++ % (LIVES + 1) == 0) send(at, "/v1/conversations", "{}");
    else send_turn(at, "and now", "conversation", c->conversation, "");
}

// What ended is counted and followed by the next request; how many turns it were.
static uint32_t take_ended(uint32_t client_count, cn_histogram *took)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < client_count; i++) {
        client *c = &b.clients[i];
        if (!c->ended) continue;
        const bool is_turn = c->id[0] != 0 && (c->turns - 1) % (LIVES + 1) != 0;
        const uint64_t ns = now_ns() - c->start_ns;
        take_id(c);
        if (is_turn) cn_histogram_add(took, ns);
        else memcpy(c->conversation, c->id, sizeof c->id);
        count += is_turn;
        go_on(i);
    }
    return count;
}

static void run_rate(const char *model, const char *address, uint32_t client_count, double seconds)
{
    static cn_histogram took;
    uint64_t count = 0;
    open_bench(model, address);
    cn_histogram_init(&took);
    for (uint32_t i = 0; i < client_count; i++) go_on(i);
    const uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9);
    while (now_ns() < end) {
        cn_wake_prepare(&b.wake);
        if (poll_all(true)) cn_wake_cancel(&b.wake);
        else cn_wake_wait(&b.wake, WAIT_NS);
        count += take_ended(client_count, &took);
    }
    const double rate = (double)count * 1e9 / (double)(now_ns() - start);
    for (uint32_t i = 0; i < client_count; i++) {
        while (!b.clients[i].ended) poll_all(true);
    }
    printf("{\"figure\":\"acknowledged_turns\",\"clients\":%" PRIu32 ",\"turns_per_s\":%.0f,\"us_p50\":%.0f,"
           "\"us_p99\":%.0f}\n",
           client_count, rate, (double)cn_histogram_quantile(&took, 0.5) / 1e3,
           (double)cn_histogram_quantile(&took, 0.99) / 1e3);
    close_bench(true);
}

static uint32_t number_of(const char *text, uint32_t max)
{
    const unsigned long value = strtoul(text, NULL, 10);
    if (value == 0 || value > max) give_up("a number is out of bounds");
    return (uint32_t)value;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc == 5 && strcmp(argv[1], "host") == 0) {
        run_host(argv[2], number_of(argv[3], 10000), number_of(argv[4], CONTEXT_TOKENS - 1000));
    } else if (argc == 6 && strcmp(argv[1], "rate") == 0) {
        run_rate(argv[2], argv[3], number_of(argv[4], CLIENTS_MAX), strtod(argv[5], NULL));
    } else {
        fprintf(stderr, "usage: bench_turns host MODEL TURNS TOKENS\n"
                        "       bench_turns rate MODEL ADDRESS CLIENTS SECONDS\n");
        return 2;
    }
    return 0;
}
