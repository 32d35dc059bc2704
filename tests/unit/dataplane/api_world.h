/* tests/unit/dataplane/api_world.h: an api between a net and an engine that a test plays itself.
 * Requests are put in, events are put in, and everything that the api sends or asks for is
 * recorded. Both rings can be made to refuse. Turns are kept in a store in memory, if it is wanted. It
 * takes the place of dataplane/http.c, scheduler/ and model/checkpoint.c in the program that includes
 * it.
 *
 * Threads: one.
 * Memory:  static; ends with the program. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/api.h"
#include "dataplane/reply.h"
#include "state/store_sim.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/dataplane/fake_tokenizer.h"
#include "tests/unit/test_rng.h"

enum { WORLD_EXCHANGES = 8, WORLD_EVENTS = 4096, WORLD_CONTEXT = 200 };

typedef struct world_exchange {
    unsigned status;
    int64_t length;
    char extra[CN_REPLY_EXTRA_BYTES], type[64];
    cn_buf body;
    uint32_t sends;
    bool ended;
    uint32_t generation;
} world_exchange;

static struct {
    cn_api *api;
    cn_limits limits;
    cn_metrics metrics;
    cn_wake wake;
    cn_template *tmpl;
    cn_store *store;             // NULL: turns are not kept
    cn_session *session;
    uint64_t now_ns, seed;
    test_rng *refuse;            // NULL: the rings always take
    world_exchange exchanges[WORLD_EXCHANGES];
    cn_http_message messages[64];
    uint32_t message_first, message_count;
    cn_generation *generations[64];
    bool cancelled[64], cancelled_choice[64][8];
    uint32_t generation_count, returned_count;
    uint32_t queue_room;
    cn_event events[WORLD_EVENTS];
    uint32_t event_first, event_count;
    uint32_t requests_open;
    const char *chat_template;
} world;

static bool refuses(void) { return world.refuse && test_rng_below(world.refuse, 3) == 0; }

// ---- http

bool cn_http_next(cn_http *http, cn_http_message *out)
{
    (void)http;
    if (world.message_first == world.message_count) return false;
    *out = world.messages[world.message_first++];
    return true;
}

const char *cn_http_request_header(const cn_http_request *request, const char *name)
{
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (strcmp(request->headers[i].name, name) == 0) return request->headers[i].value;
    }
    return NULL;
}

void cn_http_request_free(cn_http *http, cn_http_request *request)
{
    (void)http;
    cn_arena_close(&request->arena);
    free(request);
    world.requests_open--;
}

// NULL once the client has gone: what is sent to it is dropped, as the net side does.
static world_exchange *world_at(cn_exchange exchange)
{
    world_exchange *x = &world.exchanges[exchange.index];
    return x->generation == exchange.generation ? x : NULL;
}

bool cn_http_start(cn_http *http, cn_exchange exchange, unsigned status, const char *content_type,
                   int64_t length, const char *extra)
{
    (void)http;
    world_exchange *x = world_at(exchange);
    if (refuses()) return false;
    if (!x) return true;
    assert_int_equal(x->status, 0);
    x->status = status;
    x->length = length;
    snprintf(x->extra, sizeof x->extra, "%s", extra);
    snprintf(x->type, sizeof x->type, "%s", content_type);
    return true;
}

size_t cn_http_send(cn_http *http, cn_exchange exchange, const char *data, size_t len)
{
    (void)http;
    world_exchange *x = world_at(exchange);
    if (refuses()) return 0;
    if (!x) return len;
    assert_true(x->status && !x->ended);
    if (world.refuse) len = 1 + test_rng_below(world.refuse, (uint32_t)len);
    cn_buf_add(&x->body, data, len);
    x->sends++;
    return len;
}

bool cn_http_end(cn_http *http, cn_exchange exchange)
{
    (void)http;
    world_exchange *x = world_at(exchange);
    if (refuses()) return false;
    if (!x) return true;
    assert_true(x->status && !x->ended);
    if (x->length >= 0) assert_int_equal(x->body.len, x->length);
    x->ended = true;
    return true;
}

void cn_http_flush(cn_http *http) { (void)http; }

// ---- engine

void cn_engine_info_get(const cn_engine *engine, cn_engine_info *out)
{
    (void)engine;
    *out = (cn_engine_info){.context_tokens_max = WORLD_CONTEXT, .page_count = 8, .slot_count = 4};
}

void cn_engine_port_attach(cn_engine_port *port, cn_wake *wake)
{
    (void)port;
    assert_ptr_equal(wake, &world.wake);
}

cn_code cn_engine_port_admit(cn_engine_port *port, uint32_t choice_count, cn_err *err)
{
    (void)port;
    if (choice_count <= world.queue_room) return CN_OK;
    return cn_err_set(err, CN_E_QUEUE, "the queue is full (limit queue_requests)");
}

cn_code cn_engine_port_submit(cn_engine_port *port, cn_generation *generation, cn_err *err)
{
    const cn_code code = cn_engine_port_admit(port, generation->choice_count, err);
    if (code != CN_OK) return code;
    world.queue_room -= generation->choice_count;
    generation->engine_open = generation->choice_count;
    world.generations[world.generation_count++] = generation;
    return CN_OK;
}

static uint32_t world_find(const cn_generation *generation)
{
    for (uint32_t i = world.generation_count; i-- > 0;) {
        if (world.generations[i] == generation) return i;
    }
    fail_msg("a cancel for a generation that was never submitted");
    return 0;
}

bool cn_engine_port_cancel(cn_engine_port *port, cn_generation *generation)
{
    (void)port;
    if (refuses()) return false;
    world.cancelled[world_find(generation)] = true;
    return true;
}

bool cn_engine_port_cancel_choice(cn_engine_port *port, cn_generation *generation, uint32_t choice)
{
    (void)port;
    if (refuses()) return false;
    world.cancelled_choice[world_find(generation)][choice] = true;
    return true;
}

const cn_event *cn_engine_port_next(cn_engine_port *port)
{
    (void)port;
    return world.event_first < world.event_count ? &world.events[world.event_first] : NULL;
}

void cn_engine_port_done(cn_engine_port *port)
{
    (void)port;
    world.event_first++;
}

// ---- checkpoint

const cn_model_spec *cn_checkpoint_spec(const cn_checkpoint *checkpoint)
{
    static const cn_model_spec spec = {.vocab_count = FAKE_VOCAB, .dim = 8,
                                       .context_tokens_max = WORLD_CONTEXT};
    (void)checkpoint;
    return &spec;
}

const cn_generation_defaults *cn_checkpoint_generation(const cn_checkpoint *checkpoint)
{
    static const cn_generation_defaults defaults = {
        .eos_tokens = {FAKE_END}, .eos_count = 1, .bos_token = FAKE_BEGIN, .temperature = 0.5f,
        .top_p = 0.75f, .repetition_penalty = 1};
    (void)checkpoint;
    return &defaults;
}

uint64_t cn_checkpoint_parameter_count(const cn_checkpoint *checkpoint)
{
    (void)checkpoint;
    return 123;
}

const char *cn_checkpoint_chat_template(const cn_checkpoint *checkpoint, size_t *len)
{
    (void)checkpoint;
    *len = strlen(world.chat_template);
    return world.chat_template;
}

const char *cn_checkpoint_special_token(const cn_checkpoint *checkpoint, const char *name)
{
    (void)checkpoint;
    return strcmp(name, "bos_token") == 0 ? "<|begin|>" : "";
}

// ---- the test's own moves

static void world_open_store(void)
{
    const cn_store_sim_options store = {.port_count = 2, .op_max = 256, .page_bytes = 64, .seed = 7,
                                        .clock = cn_clock_simulated(&world.now_ns),
                                        .durability = CN_DURABILITY_FSYNC};
    assert_int_equal(cn_store_sim_open(&store, &world.store, NULL), CN_OK);
}

static cn_code world_metrics(void *self, const cn_http_request *request, cn_buf *out,
                             const char **content_type, cn_err *err)
{
    (void)self;
    *content_type = "text/plain";
    if (strcmp(request->query, "names=none") == 0) {
        return cn_err_set_param(err, CN_E_INVALID, "names", "names: none; must be some");
    }
    cn_buf_add_text(out, "a metric");
    return CN_OK;
}

// An api of an appliance that has just started; the store is what it was.
static void world_open_api(const char *const *keys, uint32_t key_count)
{
    const cn_session_options session = {
        .store = world.store ? cn_store_port_at(world.store, 0) : NULL,
        .clock = cn_clock_simulated(&world.now_ns), .random = cn_random_seeded(&world.seed),
        .life_ms = 86400000, .record_bytes_max = 1 << 20, .chain_max = 100, .call_max = 64};
    if (world.store) assert_int_equal(cn_session_open(&session, &world.session, NULL), CN_OK);
    cn_key_file *file = NULL;
    if (key_count) assert_int_equal(cn_key_file_open(&file, NULL), CN_OK);
    for (uint32_t i = 0; i < key_count; i++) {
        const cn_code code = keys[i][0] == '{' ? cn_key_file_read(file, keys[i], strlen(keys[i]), "keys", NULL)
                                               : cn_key_file_add(file, keys[i], 0, "keys", NULL);
        assert_int_equal(code, CN_OK);
    }
    const cn_api_options options = {
        .chat_template = world.tmpl,
        .session = world.session,
        .store = world.store,
        .model_name = "org/model",
        .keys = file,
        .limits = &world.limits,
        .clock = cn_clock_simulated(&world.now_ns),
        .random = cn_random_seeded(&world.seed),
        .metrics = &world.metrics,
        .metrics_page = {world_metrics, NULL},
        .wake = &world.wake,
    };
    assert_int_equal(cn_api_open(&options, &world.api, NULL), CN_OK);
    cn_key_file_close(file);
}

static void world_open_with(const char *const *keys, uint32_t key_count, const char *tmpl,
                            bool stateful)
{
    memset(&world, 0, sizeof world);
    world.chat_template = tmpl ? tmpl : "{{ bos_token }}{% for m in messages %}<|user|>"
                          "{% if m.role == 'system' %}S:{% endif %}{{ m.content }}<|end|>"
                          "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    world.limits = cn_limits_default();
    world.limits.connections = WORLD_EXCHANGES;
    world.limits.queue_requests = 8;
    world.queue_room = 1000;
    world.seed = 7;
    cn_metrics_init(&world.metrics);
    assert_int_equal(cn_wake_open(&world.wake, NULL), CN_OK);
    assert_int_equal(
        cn_template_open("t", world.chat_template, strlen(world.chat_template), &world.tmpl, NULL),
        CN_OK);
    for (int i = 0; i < WORLD_EXCHANGES; i++) cn_buf_init(&world.exchanges[i].body, 1 << 24);
    if (stateful) world_open_store();
    world_open_api(keys, key_count);
}

static inline void world_open(const char *const *keys, uint32_t key_count)
{
    world_open_with(keys, key_count, NULL, false);
}

static void world_close_api(void)
{
    assert_int_equal(world.requests_open, 0);
    assert_int_equal(cn_api_request_count(world.api), 0);
    cn_api_close(world.api);
    if (world.session) cn_session_close(world.session);
}

static void world_close(void)
{
    world_close_api();
    if (world.store) world.store->ops->close(world.store);
    cn_template_close(world.tmpl);
    cn_wake_close(&world.wake);
    for (int i = 0; i < WORLD_EXCHANGES; i++) cn_buf_close(&world.exchanges[i].body);
}

static void world_poll(void)
{
    int rounds = 0;
    for (bool worked = true; worked; assert_true(++rounds < 10000)) {
        worked = cn_api_poll(world.api);
        if (world.store) worked |= world.store->ops->poll(world.store, 0);
    }
}

static void world_send_with(uint32_t exchange, const char *method, const char *path,
                            const char *body, const cn_http_header *headers, uint32_t header_count)
{
    cn_http_request *request = calloc(1, sizeof *request);
    world_exchange *x = &world.exchanges[exchange];
    cn_buf_clear(&x->body);
    *x = (world_exchange){.body = x->body, .generation = x->generation + 1};
    cn_arena_init(&request->arena, world.limits.request_bytes);
    request->exchange = (cn_exchange){exchange, x->generation};
    request->method = cn_arena_copy(&request->arena, method, strlen(method));
    const size_t path_len = strcspn(path, "?");
    const char *query = path[path_len] ? path + path_len + 1 : "";
    request->path = cn_arena_copy(&request->arena, path, path_len);
    request->query = cn_arena_copy(&request->arena, query, strlen(query));
    request->headers = headers;
    request->header_count = header_count;
    request->body = cn_arena_copy(&request->arena, body, strlen(body));
    request->body_len = strlen(body);
    request->peer = "127.0.0.1";
    world.requests_open++;
    if (world.message_first == world.message_count) world.message_first = world.message_count = 0;
    world.messages[world.message_count++] =
        (cn_http_message){CN_HTTP_REQUEST, request->exchange, request};
    world_poll();
}

static void world_send(uint32_t exchange, const char *method, const char *path, const char *body)
{
    world_send_with(exchange, method, path, body, NULL, 0);
}

static void world_gone(uint32_t exchange)
{
    world_exchange *x = &world.exchanges[exchange];
    if (world.message_first == world.message_count) world.message_first = world.message_count = 0;
    world.messages[world.message_count++] =
        (cn_http_message){CN_HTTP_GONE, {exchange, x->generation}, NULL};
    x->generation++;             // whatever is sent from now on finds nobody
    world_poll();
}

static void world_event(cn_event event)
{
    if (world.event_first == world.event_count) world.event_first = world.event_count = 0;
    world.events[world.event_count++] = event;
}

static void world_start(uint32_t generation, uint32_t choice, uint32_t cached)
{
    world_event((cn_event){.generation = world.generations[generation], .kind = CN_EVENT_STARTED,
                           .choice = choice, .cached_tokens = cached});
}

static uint32_t world_output[64][8];     // [generation][choice]: tokens so far

static void world_token(uint32_t generation, uint32_t choice, int32_t token)
{
    cn_generation *g = world.generations[generation];
    const uint32_t at = world_output[generation][choice]++;
    assert_true(at < g->tokens_max);
    g->output[choice * g->tokens_max + at] = token;
    cn_event event = {.generation = g, .kind = CN_EVENT_TOKEN, .choice = choice, .token = token,
                      .position = g->prompt_count + at, .logprob = -0.5f};
    for (uint32_t i = 1; i < g->sampling.logprob_count; i++) {
        event.top[event.top_count++] = (cn_logprob){'a' + (int32_t)i, -1.0f * (float)i};
    }
    world_event(event);
}

static void world_text(uint32_t generation, uint32_t choice, const char *text)
{
    for (; *text; text++) world_token(generation, choice, (unsigned char)*text);
}

static void world_finish(uint32_t generation, uint32_t choice, cn_finish finish)
{
    cn_generation *g = world.generations[generation];
    const bool last = --g->engine_open == 0;
    world_event((cn_event){.generation = g, .kind = CN_EVENT_FINISHED, .finish = finish,
                           .code = finish == CN_FINISH_ERROR ? CN_E_NUMERIC : CN_OK,
                           .choice = choice, .last = last});
    world_output[generation][choice] = 0;
}

static const char *world_body(uint32_t exchange)
{
    cn_buf *body = &world.exchanges[exchange].body;
    cn_buf_add_char(body, '\0');
    body->len--;
    return body->data;
}

// The generated ids of a body differ from run to run; the rest of it is compared whole.
static inline void assert_body(uint32_t exchange, const char *want)
{
    assert_true(world.exchanges[exchange].ended);
    assert_string_equal(world_body(exchange), want);
}
