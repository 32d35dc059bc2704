/* tests/unit/state/session_world.h: sessions over a store in memory, with simulated time.
 *
 * Threads: one, which polls everything.
 * Memory:  each call has an arena of its own, freed by world_drop. */
#pragma once

#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/session_int.h"
#include "state/store_sim.h"

enum { WORLD_SESSIONS = 3, WORLD_ARENA_BYTES = 64 << 20, WORLD_RECORD_BYTES = 1 << 20 };
#define WORLD_DAY_NS  (86400 * 1000000000ull)
#define WORLD_WAIT_NS 2000000000ull // what a call may take

typedef struct world {
    uint64_t cache_bytes; // of each session
    uint64_t now_ns, random_state;
    cn_clock clock;
    cn_store *store;
    cn_session *sessions[WORLD_SESSIONS]; // as many appliances
    cn_metrics metrics;                   // of all of them
} world;

typedef struct world_call {
    cn_session_call call;
    cn_arena arena;
    bool done;
} world_call;

static inline void world_options(world *w, uint32_t port, cn_session_options *out)
{
    *out = (cn_session_options){
        .store = cn_store_port_at(w->store, port),
        .clock = w->clock,
        .random = cn_random_seeded(&w->random_state),
        .life_ms = 30 * 86400000ull,
        .record_bytes_max = WORLD_RECORD_BYTES,
        .chain_max = 2000,
        .call_max = 64,
        .cache_bytes = w->cache_bytes,
        .metrics = &w->metrics,
    };
}

static inline void world_open(world *w, uint64_t seed, uint64_t cache_bytes)
{
    *w = (world){.cache_bytes = cache_bytes, .now_ns = 1700000000000000000ull, .random_state = seed};
    w->clock = cn_clock_simulated(&w->now_ns);
    const cn_store_sim_options options = {.port_count = WORLD_SESSIONS,
                                          .op_max = 2048,
                                          .page_bytes = 64,
                                          .seed = seed,
                                          .clock = w->clock,
                                          .durability = CN_DURABILITY_FSYNC};
    assert_int_equal(cn_store_sim_open(&options, &w->store, NULL), CN_OK);
    for (uint32_t i = 0; i < WORLD_SESSIONS; i++) {
        cn_session_options session;
        world_options(w, i, &session);
        assert_int_equal(cn_session_open(&session, &w->sessions[i], NULL), CN_OK);
    }
}

static inline void world_close(world *w)
{
    for (uint32_t i = 0; i < WORLD_SESSIONS; i++) cn_session_close(w->sessions[i]);
    w->store->ops->close(w->store);
}

static inline void world_faults(world *w, cn_store_sim_faults faults)
{
    cn_store_sim_set_faults(w->store, &faults);
}

static inline void world_done(cn_session_call *call)
{
    ((world_call *)call->user)->done = true;
}

static inline world_call *world_call_new(const world *w, cn_session_kind kind, uint8_t tenant)
{
    world_call *c = calloc(1, sizeof *c);
    assert_non_null(c);
    cn_arena_init(&c->arena, WORLD_ARENA_BYTES);
    c->call = (cn_session_call){.kind = kind,
                                .arena = &c->arena,
                                .done = world_done,
                                .user = c,
                                .deadline_ns = w->now_ns + WORLD_WAIT_NS};
    memset(c->call.tenant, tenant, sizeof c->call.tenant);
    return c;
}

static inline void world_drop(world_call *c)
{
    if (!c) return;
    cn_arena_close(&c->arena);
    free(c);
}

/* One round of everything; time goes on if nothing happened. */
static inline void world_step(world *w)
{
    bool worked = w->store->ops->poll(w->store, 0);
    for (uint32_t i = 0; i < WORLD_SESSIONS; i++) worked |= cn_session_poll(w->sessions[i]);
    if (!worked) w->now_ns += 20000;
}

static inline cn_code world_run(world *w, uint32_t session, world_call *c)
{
    c->done = false;
    c->call.deadline_ns = w->now_ns + WORLD_WAIT_NS;
    assert_int_equal(cn_session_start(w->sessions[session], &c->call), CN_OK);
    while (!c->done) {
        world_step(w);
        assert_true(w->now_ns < c->call.deadline_ns + 1000000000u); // none waits for ever
    }
    return c->call.err.code;
}

/* A call by id, run to its end. */
static inline world_call *world_ask(world *w, cn_session_kind kind, const cn_session_id *id)
{
    world_call *c = world_call_new(w, kind, 1);
    if (id) c->call.id = *id;
    world_run(w, 0, c);
    return c;
}

static inline cn_bytes world_bytes(cn_arena *arena, const char *text)
{
    const char *copy = cn_arena_copy(arena, text, strlen(text));
    assert_non_null(copy);
    return (cn_bytes){copy, (uint32_t)strlen(text)};
}

/* Fills the turn of a COMMIT with content that `tag` names. */
static inline void world_turn(cn_session_call *call, const cn_session_id *id, uint32_t tag)
{
    char text[32];
    snprintf(text, sizeof text, "turn %u", tag);
    cn_bytes *items = cn_arena_take_array(call->arena, 2, sizeof *items);
    int32_t *tokens = cn_arena_take_array(call->arena, 3, sizeof *tokens);
    assert_true(items && tokens);
    for (int i = 0; i < 3; i++) tokens[i] = (int32_t)tag * 3 + i;
    items[0] = items[1] = world_bytes(call->arena, text);
    call->turn = (cn_turn){.id = *id,
                           .input = items,
                           .input_count = 1,
                           .output = items + 1,
                           .output_count = 1,
                           .text = items[0],
                           .tokens = tokens,
                           .token_count = 3,
                           .output_token_count = 1};
    memcpy(call->turn.request_digest, &tag, sizeof tag);
}

static inline cn_session_id world_conversation(world *w)
{
    world_call *c = world_call_new(w, CN_SESSION_CREATE, 1);
    c->call.conversation.metadata = world_bytes(&c->arena, "{}");
    assert_int_equal(world_run(w, 0, c), CN_OK);
    const cn_session_id id = c->call.conversation.id;
    world_drop(c);
    return id;
}

/* Reads the history of `from` (a conversation or a turn) and commits one turn more. The commit's
 * call is returned, whatever its result. */
static inline world_call *world_commit_as(world *w, uint32_t session, const cn_session_id *from,
                                          const cn_session_id *id, uint32_t tag)
{
    world_call *c = world_call_new(w, CN_SESSION_HISTORY, 1);
    if (from) {
        c->call.id = *from;
        assert_int_equal(world_run(w, session, c), CN_OK);
    }
    const uint32_t count = c->call.chain_count;
    world_turn(&c->call, id, tag);
    if (count) c->call.turn.parent = c->call.chain[count - 1].id;
    c->call.kind = CN_SESSION_COMMIT;
    world_run(w, session, c);
    return c;
}

static inline cn_session_id world_commit(world *w, const cn_session_id *from, uint32_t tag)
{
    const cn_session_id id = cn_session_id_new(w->sessions[0], "resp_");
    world_call *c = world_commit_as(w, 0, from, &id, tag);
    assert_int_equal(c->call.err.code, CN_OK);
    assert_string_equal(c->call.turn.id.text, id.text);
    world_drop(c);
    return id;
}

/* The key of a record of tenant 1, for peeking and poking. */
static inline void world_key(const cn_session_id *id, char out[CN_STORE_KEY_BYTES_MAX])
{
    char tenant[2 * CN_SESSION_TENANT_BYTES + 1] = "";
    for (uint32_t i = 0; i < CN_SESSION_TENANT_BYTES; i++) strcat(tenant, "01");
    snprintf(out, CN_STORE_KEY_BYTES_MAX, "cairn:%s:%s:%s", id->text[0] == 'r' ? "turn" : "conv",
             tenant, id->text);
}
