#include "tests/unit/state/session_world.h"

#include "tests/unit/test_rng.h"

/* Many writers on three appliances race on a few conversations, over a store that delays, loses,
 * fails, contradicts and crashes. Then the store is healed, all is read, and the checker, which
 * knows no more than who was told what and when, looks for a contradiction:
 *
 *   - a conversation is one chain, and each acknowledged turn is in it once, with its content;
 *   - a turn that was refused is in no chain; a request, however often it was tried, is there once;
 *   - time: what was acknowledged before something else began comes before it, for commits and for
 *     readers. So heads are linearizable registers. */

enum {
    WRITERS = 12,
    CONVERSATIONS = 4,
    REQUESTS_MAX = 4096,
    READS_MAX = 8192,
    STEPS = 60000,
    TRIES_MAX = 6
};

typedef enum outcome { UNKNOWN, ACKNOWLEDGED, REFUSED } outcome;

// One thing that a client wants to add, over all its tries.
typedef struct request {
    cn_session_id id;
    uint32_t conversation, number;
    outcome outcome;
    bool is_keyed;             // by an Idempotency-Key
    bool is_hedged;            // two clients try it at the same time
    uint64_t start_ns, end_ns; // of the first try; of the last answer
    cn_session_id parent;      // acknowledged: as the answer had it
    uint32_t in_chains;
} request;

typedef struct read_event {
    uint32_t conversation, turns; // how many turns it saw
    cn_session_id head;
    uint64_t start_ns, end_ns;
} read_event;

typedef enum phase { IDLE, READING, REPLAYING, COMMITTING, RENAMING } phase;

typedef struct writer {
    phase phase;
    world_call *call;
    request *request; // NULL: only reads, or changes metadata
    uint32_t conversation, session, tries;
    uint64_t read_start_ns;
} writer;

typedef struct race {
    world world;
    test_rng rng;
    cn_session_id conversations[CONVERSATIONS];
    writer writers[WRITERS];
    request requests[REQUESTS_MAX];
    read_event reads[READS_MAX];
    uint32_t request_count, read_count;
    uint32_t renames, crashes, hedges;
} race;

static void begin(race *r, writer *w, phase next, cn_session_kind kind)
{
    w->phase = next;
    w->call->call.kind = kind;
    w->call->done = false;
    w->call->call.deadline_ns = r->world.now_ns + WORLD_WAIT_NS;
    assert_int_equal(cn_session_start(r->world.sessions[w->session], &w->call->call), CN_OK);
}

static void begin_reading(race *r, writer *w)
{
    world_drop(w->call);
    w->call = world_call_new(&r->world, CN_SESSION_HISTORY, 1);
    w->call->call.id = r->conversations[w->conversation];
    w->read_start_ns = r->world.now_ns;
    begin(r, w, READING, CN_SESSION_HISTORY);
}

// A retry asks first what became of the try before.
static void begin_replaying(race *r, writer *w)
{
    world_drop(w->call);
    w->call = world_call_new(&r->world, CN_SESSION_REPLAY, 1);
    w->call->call.id = w->request->id;
    memcpy(w->call->call.turn.request_digest, &w->request->number, sizeof w->request->number);
    begin(r, w, REPLAYING, CN_SESSION_REPLAY);
}

static void begin_something(race *r, writer *w)
{
    w->conversation = test_rng_below(&r->rng, CONVERSATIONS);
    w->session = test_rng_below(&r->rng, WORLD_SESSIONS);
    w->request = NULL;
    w->tries = 0;
    const uint32_t what = test_rng_below(&r->rng, 10);
    const writer *other = &r->writers[test_rng_below(&r->rng, WRITERS)];
    const bool may_join = other->phase != IDLE && other->request && other->request->is_keyed;
    if (what == 9 && may_join) {
        w->request = other->request;
        w->conversation = other->conversation;
        w->request->is_hedged = true;
        r->hedges++;
    } else if (what < 7 && r->request_count < REQUESTS_MAX) {
        request *q = &r->requests[r->request_count];
        char key[32];
        *q = (request){.conversation = w->conversation,
                       .number = r->request_count++,
                       .start_ns = r->world.now_ns};
        uint8_t tenant[CN_SESSION_TENANT_BYTES];
        memset(tenant, 1, sizeof tenant);
        snprintf(key, sizeof key, "request %u", q->number);
        q->id = what < 4 ? cn_session_id_for_key(tenant, key)
                         : cn_session_id_new(r->world.sessions[w->session], "resp_");
        q->is_keyed = what < 4;
        w->request = q;
    }
    begin_reading(r, w);
}

static void end(race *r, writer *w, outcome what)
{
    request *q = w->request;
    w->phase = IDLE;
    if (!q || q->outcome == ACKNOWLEDGED) return; // the first answer counts
    // Another try may have been sent and still be under way.
    const bool is_sure = what != REFUSED || (w->tries <= 1 && !q->is_hedged);
    q->outcome = is_sure ? what : UNKNOWN;
    q->end_ns = r->world.now_ns;
}

// The client's network fails, or its patience: it tries the same request again, maybe elsewhere.
static void try_again_or_end(race *r, writer *w, outcome what)
{
    if (++w->tries >= TRIES_MAX || !w->request || !w->request->is_keyed) {
        end(r, w, what);
        return;
    }
    w->session = test_rng_below(&r->rng, WORLD_SESSIONS);
    begin_replaying(r, w);
}

static void acknowledged(race *r, writer *w)
{
    const cn_turn *turn = &w->call->call.turn;
    assert_string_equal(turn->id.text, w->request->id.text);
    assert_int_equal(turn->tokens[0], (int32_t)w->request->number * 3);
    w->request->parent = turn->parent;
    end(r, w, ACKNOWLEDGED);
}

static void after_reading(race *r, writer *w)
{
    cn_session_call *call = &w->call->call;
    if (call->err.code != CN_OK) {
        assert_int_equal(call->err.code, CN_E_STORE);
        try_again_or_end(r, w, REFUSED);
        return;
    }
    if (r->read_count < READS_MAX) {
        r->reads[r->read_count++] =
            (read_event){w->conversation, call->chain_count, call->conversation.head,
                         w->read_start_ns, r->world.now_ns};
    }
    if (w->request) {
        const uint32_t count = call->chain_count;
        world_turn(call, &w->request->id, w->request->number);
        call->turn.completed_s = w->tries; // each try computes an answer of its own
        if (count) call->turn.parent = call->chain[count - 1].id;
        begin(r, w, COMMITTING, CN_SESSION_COMMIT);
    } else if (test_rng_below(&r->rng, 2)) {
        call->conversation.metadata = world_bytes(call->arena, "{\"n\":\"1\"}");
        begin(r, w, RENAMING, CN_SESSION_UPDATE);
        r->renames++;
    } else w->phase = IDLE;
}

static void after(race *r, writer *w)
{
    const cn_code code = w->call->call.err.code;
    switch (w->phase) {
    case READING: after_reading(r, w); return;
    case RENAMING:
        assert_true(code == CN_OK || code == CN_E_CONFLICT || code == CN_E_STORE ||
                    code == CN_E_STORE_FULL);
        w->phase = IDLE;
        return;
    case REPLAYING:
        if (code == CN_OK) acknowledged(r, w);
        else if (code == CN_E_NOT_FOUND) begin_reading(r, w);
        else try_again_or_end(r, w, UNKNOWN);
        return;
    case COMMITTING:
        if (code == CN_OK) acknowledged(r, w);
        else if (code == CN_E_CONFLICT) try_again_or_end(r, w, REFUSED);
        else {
            assert_true(code == CN_E_STORE || code == CN_E_STORE_FULL);
            try_again_or_end(r, w, UNKNOWN);
        }
        return;
    case IDLE: return;
    }
}

static void change_the_weather(race *r)
{
    test_rng *rng = &r->rng;
    cn_store_sim_faults faults = {.delay_ns_max = 1000 + test_rng_below(rng, 3000000)};
    if (test_rng_below(rng, 2)) faults.lose_percent = test_rng_below(rng, 15);
    if (test_rng_below(rng, 2)) faults.fail_percent = test_rng_below(rng, 15);
    if (test_rng_below(rng, 2)) faults.conflict_percent = test_rng_below(rng, 15);
    faults.log_full = test_rng_below(rng, 30) == 0;
    faults.log_down = test_rng_below(rng, 60) == 0;
    world_faults(&r->world, faults);
    if (test_rng_below(rng, 20) == 0) {
        cn_store_sim_crash(r->world.store);
        r->crashes++;
    }
}

static void run(race *r)
{
    for (uint32_t step = 0; step < STEPS; step++) {
        if (test_rng_below(&r->rng, 200) == 0) change_the_weather(r);
        for (uint32_t i = 0; i < WRITERS; i++) {
            writer *w = &r->writers[i];
            if (w->phase == IDLE && test_rng_below(&r->rng, 20) == 0) begin_something(r, w);
            else if (w->phase != IDLE && w->call->done) after(r, w);
        }
        world_step(&r->world);
    }
    // What is under way ends; nothing new begins.
    for (bool busy = true; busy;) {
        busy = false;
        for (uint32_t i = 0; i < WRITERS; i++) {
            writer *w = &r->writers[i];
            w->tries = TRIES_MAX;
            if (w->phase != IDLE && w->call->done) after(r, w);
            busy |= w->phase != IDLE;
        }
        world_step(&r->world);
    }
    world_faults(&r->world, (cn_store_sim_faults){0});
    r->world.now_ns += 10 * WORLD_WAIT_NS; // what is carried out late has been
    for (int i = 0; i < 1000; i++) world_step(&r->world);
}

// ---- the checker

// The request that a turn says it is of.
static request *request_of(race *r, const cn_turn *turn)
{
    const uint32_t number = (uint32_t)turn->tokens[0] / 3;
    assert_true(number < r->request_count);
    assert_string_equal(r->requests[number].id.text, turn->id.text);
    return &r->requests[number];
}

static void check_turns(race *r, uint32_t conversation, const cn_turn *chain, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        request *q = request_of(r, &chain[i]);
        assert_int_equal(q->conversation, conversation);
        assert_int_not_equal(q->outcome, REFUSED);
        assert_int_equal(q->in_chains, 0);
        q->in_chains++;
        if (q->outcome == ACKNOWLEDGED) assert_string_equal(chain[i].parent.text, q->parent.text);
    }
    // Turns in the order of the chain: none ended before one above it began.
    uint64_t latest_start_ns = 0;
    for (uint32_t i = 0; i < count; i++) {
        const request *q = request_of(r, &chain[i]);
        if (q->outcome == ACKNOWLEDGED) assert_true(q->end_ns >= latest_start_ns);
        if (q->start_ns > latest_start_ns) latest_start_ns = q->start_ns;
    }
}

static void check_reads(race *r, uint32_t conversation, const cn_turn *chain, uint32_t count)
{
    for (uint32_t k = 0; k < r->read_count; k++) {
        const read_event *e = &r->reads[k];
        if (e->conversation != conversation) continue;
        assert_true(e->turns <= count);
        if (e->turns) assert_string_equal(chain[e->turns - 1].id.text, e->head.text);
        else assert_string_equal(e->head.text, "");
        for (uint32_t i = 0; i < count; i++) {
            const request *q = request_of(r, &chain[i]);
            if (i < e->turns) assert_true(q->start_ns <= e->end_ns);
            else if (q->outcome == ACKNOWLEDGED) assert_true(q->end_ns >= e->start_ns);
        }
        // Readers among themselves: a later one sees no less.
        for (uint32_t j = 0; j < r->read_count; j++) {
            const read_event *other = &r->reads[j];
            if (other->conversation != conversation || other->end_ns >= e->start_ns) continue;
            assert_true(other->turns <= e->turns);
        }
    }
}

static void heads_are_linearizable(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    enum { RACES = 3 }; // the store's comparisons of keys are ten times as slow
#else
    enum { RACES = 12 };
#endif
    test_rng seeds = test_rng_open("session_races");
    uint32_t counts[3] = {0}, longest = 0;
    for (uint32_t n = 0; n < RACES; n++) {
        race *r = calloc(1, sizeof *r);
        assert_non_null(r);
        r->rng.state = test_rng_u64(&seeds);
        // With caches that hold some of it, so that records come and go, or with none.
        world_open(&r->world, r->rng.state ^ 1, n % 3 ? 20000 * n : 0);
        for (uint32_t i = 0; i < CONVERSATIONS; i++)
            r->conversations[i] = world_conversation(&r->world);
        run(r);
        for (uint32_t i = 0; i < CONVERSATIONS; i++) {
            world_call *c = world_ask(&r->world, CN_SESSION_HISTORY, &r->conversations[i]);
            assert_int_equal(c->call.err.code, CN_OK);
            check_turns(r, i, c->call.chain, c->call.chain_count);
            check_reads(r, i, c->call.chain, c->call.chain_count);
            if (c->call.chain_count > longest) longest = c->call.chain_count;
            world_drop(c);
        }
        for (uint32_t i = 0; i < r->request_count; i++) {
            if (r->requests[i].outcome == ACKNOWLEDGED)
                assert_int_equal(r->requests[i].in_chains, 1);
            counts[r->requests[i].outcome]++;
        }
        assert_true(r->crashes > 0 && r->renames > 0 && r->hedges > 0);
        for (uint32_t i = 0; i < WRITERS; i++) world_drop(r->writers[i].call);
        world_close(&r->world);
        free(r);
    }
    printf("session_races: %u acknowledged, %u refused, %u unknown, longest chain %u\n",
           counts[ACKNOWLEDGED], counts[REFUSED], counts[UNKNOWN], longest);
    assert_true(counts[ACKNOWLEDGED] > RACES * 40 && counts[REFUSED] > RACES * 4 &&
                counts[UNKNOWN] > RACES * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(heads_are_linearizable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
