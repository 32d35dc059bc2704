/* bench/state/session.c: what turns and conversations cost above the store.
 *
 *   bench_session turns ADDRESS CONVERSATIONS SECONDS   each reads its history and commits a turn of
 *                                                       about 2 KB, again and again, all at once
 *   bench_session history ADDRESS TURNS TOKENS          one conversation of TURNS turns with TOKENS
 *                                                       tokens each: its history, read anew and read
 *                                                       again, and a fork of it; of 20 each
 * Each prints one line of JSON. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/histogram.h"
#include "state/session.h"
#include "state/store_redis.h"

enum {
    CALLS_MAX = 1024,
    TURN_TOKENS = 64,
    CHAIN_MAX = 100000,
    WAIT_NS = 1000000000,
    LIVES = 24 // turns after which a conversation is left for a new one
};

typedef struct bench {
    cn_clock clock;
    cn_wake store_wake, wake;
    cn_store *store;
    cn_session *session;
    pthread_t thread;
    atomic_bool stop;
} bench;

// One client, with one call at a time.
typedef struct client {
    bench *bench;
    cn_session_call call;
    cn_arena arena;
    cn_session_id conversation;
    uint32_t turns;
    uint64_t start_ns;
    bool done;
} client;

static cn_histogram latency;
static uint64_t turn_count;
static char text[1 << 20];
static int32_t tokens[1 << 16];

static uint64_t now_ns(const bench *b)
{
    return cn_clock_now_ns(&b->clock);
}

static _Noreturn void give_up(const cn_err *err)
{
    fprintf(stderr, "bench_session: %s\n", err->text);
    exit(1);
}

static void *run_store(void *argument)
{
    bench *b = argument;
    while (!atomic_load(&b->stop)) b->store->ops->poll(b->store, WAIT_NS);
    return NULL;
}

static void open_bench(bench *b, const char *address, uint64_t cache_bytes)
{
    cn_err err = {0};
    b->clock = cn_clock_system();
    if (cn_wake_open(&b->store_wake, &err) != CN_OK || cn_wake_open(&b->wake, &err) != CN_OK)
        give_up(&err);
    const cn_store_redis_options store = {
        .log = address,
        .pages = "",
        .user = "",
        .password = "",
        .durability = CN_DURABILITY_FSYNC,
        .page_bytes = 4096,
        .port_count = 1,
        .op_max = 4096,
        .connection_count = 12,
        .log_timeout_ns = 2000000000,
        .page_timeout_ns = 1000000000,
        .clock = b->clock,
        .random = cn_random_system(),
        .wake = &b->store_wake,
    };
    if (cn_store_redis_open(&store, &b->store, &err) != CN_OK) give_up(&err);
    const cn_session_options session = {
        .store = cn_store_port_at(b->store, 0),
        .clock = b->clock,
        .random = cn_random_system(),
        .life_ms = 86400000,
        .record_bytes_max = 16 << 20,
        .chain_max = CHAIN_MAX,
        .call_max = CALLS_MAX,
        .cache_bytes = cache_bytes,
    };
    cn_store_port_attach(session.store, &b->wake);
    if (cn_session_open(&session, &b->session, &err) != CN_OK) give_up(&err);
    if (pthread_create(&b->thread, NULL, run_store, b) != 0) abort();
}

static void close_bench(bench *b)
{
    atomic_store(&b->stop, true);
    cn_wake_signal(&b->store_wake);
    pthread_join(b->thread, NULL);
    b->store->ops->close(b->store);
    cn_session_close(b->session);
    cn_wake_close(&b->store_wake);
    cn_wake_close(&b->wake);
}

// ---- calls

static void start(client *c, cn_session_kind kind)
{
    c->call.kind = kind;
    c->call.deadline_ns = now_ns(c->bench) + 10ull * WAIT_NS;
    if (cn_session_start(c->bench->session, &c->call) != CN_OK) abort();
}

static void wait_and_poll(bench *b)
{
    if (cn_session_poll(b->session)) return;
    cn_wake_prepare(&b->wake);
    if (cn_session_poll(b->session)) cn_wake_cancel(&b->wake);
    else cn_wake_wait(&b->wake, WAIT_NS);
}

static void reset(client *c, void (*done)(cn_session_call *call))
{
    cn_arena_reset(&c->arena);
    c->call = (cn_session_call){.arena = &c->arena, .done = done, .user = c, .id = c->conversation};
    c->call.conversation.metadata = (cn_bytes){"{}", 2};
}

static void fill_turn(client *c, uint32_t token_count)
{
    static cn_bytes items[2];
    const uint32_t count = c->call.chain_count, bytes = token_count * 4;
    items[0] = items[1] = (cn_bytes){text, bytes / 2};
    c->call.turn = (cn_turn){.id = cn_session_id_new(c->bench->session, "resp_"),
                             .input = items,
                             .input_count = 1,
                             .output = items + 1,
                             .output_count = 1,
                             .response = {text, 512},
                             .settings = {text, 256},
                             .text = {text, bytes},
                             .tokens = tokens,
                             .token_count = token_count,
                             .output_token_count = token_count / 2};
    if (count) c->call.turn.parent = c->call.chain[count - 1].id;
}

// ---- many conversations at once

static void next_turn(cn_session_call *call)
{
    client *c = call->user;
    if (call->err.code != CN_OK) give_up(&call->err);
    if (call->kind == CN_SESSION_COMMIT) {
        cn_histogram_add(&latency, now_ns(c->bench) - c->start_ns);
        turn_count++;
        if (++c->turns == LIVES) c->conversation.text[0] = '\0';
    }
    if (call->kind == CN_SESSION_HISTORY) {
        fill_turn(c, TURN_TOKENS);
        c->start_ns = now_ns(c->bench);
        start(c, CN_SESSION_COMMIT);
        return;
    }
    if (call->kind == CN_SESSION_CREATE) {
        c->conversation = call->conversation.id;
        c->turns = 0;
    }
    const bool is_new = !c->conversation.text[0];
    reset(c, next_turn);
    start(c, is_new ? CN_SESSION_CREATE : CN_SESSION_HISTORY);
}

static void measure_turns(const char *address, uint32_t conversations, uint32_t seconds)
{
    static client clients[CALLS_MAX];
    bench b = {0};
    open_bench(&b, address, 64 << 20);
    cn_histogram_init(&latency);
    const uint64_t start_ns = now_ns(&b), end_ns = start_ns + (uint64_t)seconds * 1000000000u;
    for (uint32_t i = 0; i < conversations; i++) {
        clients[i].bench = &b;
        cn_arena_init(&clients[i].arena, 64 << 20);
        reset(&clients[i], next_turn);
        start(&clients[i], CN_SESSION_CREATE);
    }
    while (now_ns(&b) < end_ns) wait_and_poll(&b);
    const double took_s = (double)(now_ns(&b) - start_ns) / 1e9;
    printf("{\"figure\":\"turns\",\"conversations\":%u,\"turns_per_s\":%.0f,\"commit_us_p50\":%.0f,"
           "\"commit_us_p99\":%.0f}\n",
           conversations, (double)turn_count / took_s,
           (double)cn_histogram_quantile(&latency, 0.5) / 1000,
           (double)cn_histogram_quantile(&latency, 0.99) / 1000);
    close_bench(&b);
    for (uint32_t i = 0; i < conversations; i++) cn_arena_close(&clients[i].arena);
}

// ---- one long conversation

static void mark_done(cn_session_call *call)
{
    if (call->err.code != CN_OK) give_up(&call->err);
    ((client *)call->user)->done = true;
}

static double run(client *c, cn_session_kind kind)
{
    const uint64_t start_ns = now_ns(c->bench);
    c->done = false;
    start(c, kind);
    while (!c->done) wait_and_poll(c->bench);
    return (double)(now_ns(c->bench) - start_ns) / 1000;
}

// Prints `,"name_us_p50":...,"name_us_min":...` of 20 calls.
static void print_calls(client *c, cn_session_kind kind, const char *name)
{
    cn_histogram_init(&latency);
    for (int i = 0; i < 20; i++) {
        reset(c, mark_done);
        cn_histogram_add(&latency, (uint64_t)(run(c, kind) * 1000));
    }
    printf(",\"%s_us_p50\":%.0f,\"%s_us_min\":%.0f", name,
           (double)cn_histogram_quantile(&latency, 0.5) / 1000, name,
           (double)cn_histogram_quantile(&latency, 0.01) / 1000);
}

static void open_client(client *c, bench *b, const char *address, uint64_t cache_bytes)
{
    open_bench(b, address, cache_bytes);
    c->bench = b;
    cn_arena_init(&c->arena, 1ull << 30);
    reset(c, mark_done);
}

static void measure_history(const char *address, uint32_t turns, uint32_t token_count)
{
    static client writer, reader;
    bench without = {0}, with = {0};
    open_client(&writer, &without, address, 0);
    run(&writer, CN_SESSION_CREATE);
    writer.conversation = writer.call.conversation.id;
    for (uint32_t i = 0; i < turns; i++) {
        reset(&writer, mark_done);
        run(&writer, CN_SESSION_HISTORY);
        fill_turn(&writer, token_count);
        run(&writer, CN_SESSION_COMMIT);
    }
    printf("{\"figure\":\"history\",\"turns\":%u,\"tokens\":%u", turns, turns * token_count);
    print_calls(&writer, CN_SESSION_HISTORY, "anew");
    reader.conversation = writer.conversation;
    open_client(&reader, &with, address, 64 << 20);
    print_calls(&reader, CN_SESSION_HISTORY, "again");
    print_calls(&reader, CN_SESSION_FORK, "fork");
    puts("}");
    close_bench(&without);
    close_bench(&with);
    cn_arena_close(&writer.arena);
    cn_arena_close(&reader.arena);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: bench_session turns ADDRESS CONVERSATIONS SECONDS\n"
                        "       bench_session history ADDRESS TURNS TOKENS\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    memset(text, 'x', sizeof text);
    for (uint32_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        tokens[i] = (int32_t)(i * 7919 % 150000);
    const uint32_t first = (uint32_t)strtoul(argv[3], NULL, 10),
                   second = (uint32_t)strtoul(argv[4], NULL, 10);
    if (strcmp(argv[1], "turns") == 0 && first <= CALLS_MAX) measure_turns(argv[2], first, second);
    else measure_history(argv[2], first, second);
    return 0;
}
