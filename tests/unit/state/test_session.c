#include "tests/unit/state/session_world.h"

static int set_up(void **state)
{
    world *w = malloc(sizeof *w);
    if (!w) return -1;
    world_open(w, 7, 0);
    *state = w;
    return 0;
}

static int set_up_cached(void **state)
{
    world *w = malloc(sizeof *w);
    if (!w) return -1;
    world_open(w, 7, 1 << 20);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_close(*state);
    free(*state);
    return 0;
}

static void expect(world_call *c, cn_code code, const char *names)
{
    assert_int_equal(c->call.err.code, code);
    if (names) assert_non_null(strstr(c->call.err.text, names));
    world_drop(c);
}

static bool is_same(const cn_session_id *a, const cn_session_id *b)
{
    return strcmp(a->text, b->text) == 0;
}

static cn_session_id head_of(world *w, const cn_session_id *conversation)
{
    world_call *c = world_ask(w, CN_SESSION_HISTORY, conversation);
    assert_int_equal(c->call.err.code, CN_OK);
    const cn_session_id head = c->call.conversation.head;
    world_drop(c);
    return head;
}

// ---- ids

static void ids_are_random_or_of_their_key(void **state)
{
    const world *w = *state;
    const uint8_t one[CN_SESSION_TENANT_BYTES] = {1}, two[CN_SESSION_TENANT_BYTES] = {2};
    cn_session_id id, back;
    for (int i = 0; i < 100; i++) {
        id = cn_session_id_new(w->sessions[0], i % 2 ? "resp_" : "conv_");
        assert_true(cn_session_id_parse(id.text, i % 2 ? "resp_" : "conv_", &back));
        assert_true(is_same(&id, &back));
        assert_false(cn_session_id_parse(id.text, i % 2 ? "conv_" : "resp_", &back));
    }
    const cn_session_id a = cn_session_id_for_key(one, "key");
    const cn_session_id b = cn_session_id_for_key(one, "key");
    const cn_session_id c = cn_session_id_for_key(two, "key");
    const cn_session_id d = cn_session_id_for_key(one, "kez");
    assert_true(is_same(&a, &b) && !is_same(&a, &c) && !is_same(&a, &d));
    static const char *const wrong[] = {
        "",
        "resp_",
        "resp",
        "resp_0123456789abcdef0123456789abcdef0123456789abcde",
        "resp_0123456789abcdef0123456789abcdef0123456789abcdef0",
        "resp_0123456789abcdef0123456789abcdef0123456789abcdeF",
        "resp_0123456789abcdef0123456789abcdef0123456789abcde:",
        "RESP_0123456789abcdef0123456789abcdef0123456789abcdef",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(cn_session_id_parse(wrong[i], "resp_", &back));
    }
}

// ---- retries, from outside

static cn_session_id keyed(const char *key)
{
    uint8_t tenant[CN_SESSION_TENANT_BYTES];
    memset(tenant, 1, sizeof tenant);
    return cn_session_id_for_key(tenant, key);
}

// Puts a turn as a process does that dies before its head is written.
static void put_half(world *w, const cn_session_id *conversation, const cn_session_id *id,
                     uint32_t tag)
{
    char key[CN_STORE_KEY_BYTES_MAX], head_key[CN_STORE_KEY_BYTES_MAX];
    uint32_t len;
    world_key(conversation, head_key);
    const void *head = cn_store_sim_peek(w->store, head_key, &len);
    char before[4096];
    assert_true(len <= sizeof before);
    memcpy(before, head, len);
    const uint32_t before_len = len;
    world_drop(world_commit_as(w, 2, conversation, id, tag));
    assert_true(cn_store_sim_poke(w->store, head_key, before, before_len));
    world_key(id, key);
    assert_non_null(cn_store_sim_peek(w->store, key, &len));
}

// ---- histories

// A history comes back in order and whole, and costs one round for 32 turns, not one for each.
static void a_history_is_read_in_few_rounds(void **state)
{
    enum { TURNS = 100 };
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    cn_session_id ids[TURNS];
    for (uint32_t i = 0; i < TURNS; i++) ids[i] = world_commit(w, &conversation, i);
    world_faults(w, (cn_store_sim_faults){.delay_ns_min = 1000000, .delay_ns_max = 1000000});
    for (uint32_t n = 1; n <= TURNS; n += 33) {
        const uint64_t start_ns = w->now_ns;
        world_call *c = world_ask(w, CN_SESSION_HISTORY, &ids[n - 1]);
        assert_int_equal(c->call.err.code, CN_OK);
        assert_int_equal(c->call.chain_count, n);
        for (uint32_t i = 0; i < n; i++) {
            const cn_turn *turn = &c->call.chain[i];
            assert_true(is_same(&turn->id, &ids[i]));
            assert_true(is_same(&turn->conversation, &conversation));
            assert_int_equal(turn->depth, i + 1);
            assert_int_equal(turn->tokens[0], i * 3);
            if (i) assert_true(is_same(&turn->parent, &ids[i - 1]));
        }
        const uint64_t rounds = 1 + (n - 1 + 31) / 32;
        assert_in_range(w->now_ns - start_ns, rounds * 1000000, rounds * 1100000);
        world_drop(c);
    }
}

// The next history of a conversation asks for nothing that it read before, here or by committing.
static void what_was_read_is_not_asked_for_again(void **state)
{
    enum { TURNS = 100 };
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    cn_session_id ids[TURNS];
    for (uint32_t i = 0; i < TURNS; i++) ids[i] = world_commit(w, &conversation, i);
    world_faults(w, (cn_store_sim_faults){.delay_ns_min = 1000000, .delay_ns_max = 1000000});
    for (uint32_t n = 0; n < 4; n++) {
        // 0: the appliance that wrote it; 1, 2: another one, twice; 3: by the id of its last turn.
        const uint64_t start_ns = w->now_ns, rounds[] = {1, 2 + 4, 1, 1};
        world_call *c = world_call_new(w, CN_SESSION_HISTORY, 1);
        c->call.id = n < 3 ? conversation : ids[TURNS - 1];
        assert_int_equal(world_run(w, n > 0, c), CN_OK);
        assert_int_equal(c->call.chain_count, TURNS);
        for (uint32_t i = 0; i < TURNS; i++) {
            assert_true(is_same(&c->call.chain[i].id, &ids[i]));
            assert_int_equal(c->call.chain[i].tokens[2], i * 3 + 2);
        }
        assert_in_range(w->now_ns - start_ns, rounds[n] * 1000000, rounds[n] * 1100000);
        world_drop(c);
    }
    // A deleted turn is deleted for those who would go on from it, whoever still has its record.
    world_call *c = world_call_new(w, CN_SESSION_TURN_DELETE, 1);
    c->call.id = ids[TURNS - 1];
    assert_int_equal(world_run(w, 2, c), CN_OK);
    world_drop(c);
    c = world_call_new(w, CN_SESSION_HISTORY, 1);
    c->call.id = ids[TURNS - 1];
    world_run(w, 1, c);
    expect(c, CN_E_NOT_FOUND, ids[TURNS - 1].text);
}

// A turn that no head has reached is not kept: its id may become another turn's.
static void what_may_change_is_not_kept(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w), id = keyed("x");
    put_half(w, &conversation, &id, 1);
    world_call *c = world_call_new(w, CN_SESSION_HISTORY, 1);
    c->call.id = id;
    assert_int_equal(world_run(w, 1, c), CN_OK);
    world_drop(c);
    world_commit(w, &conversation, 2);
    expect(world_commit_as(w, 0, &conversation, &id, 1), CN_OK, NULL);
    c = world_call_new(w, CN_SESSION_HISTORY, 1);
    c->call.id = conversation;
    assert_int_equal(world_run(w, 1, c), CN_OK);
    assert_int_equal(c->call.chain_count, 2);
    assert_int_equal(c->call.chain[1].depth, 2);
    world_drop(c);
}

static void an_empty_conversation_has_no_turns(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    world_call *c = world_ask(w, CN_SESSION_HISTORY, &conversation);
    assert_int_equal(c->call.err.code, CN_OK);
    assert_int_equal(c->call.chain_count, 0);
    assert_int_equal(c->call.conversation.revision, 1);
    assert_string_equal(c->call.conversation.head.text, "");
    world_drop(c);
}

// An id of another tenant is an id that does not exist, for every kind of call.
static void tenants_see_nothing_of_each_other(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    const cn_session_id turn = world_commit(w, &conversation, 1);
    static const cn_session_kind by_turn[] = {CN_SESSION_TURN, CN_SESSION_HISTORY,
                                              CN_SESSION_REPLAY, CN_SESSION_TURN_DELETE};
    static const cn_session_kind by_conversation[] = {CN_SESSION_HISTORY, CN_SESSION_CONVERSATION,
                                                      CN_SESSION_FORK, CN_SESSION_TREE};
    for (size_t i = 0; i < 8; i++) {
        world_call *c = world_call_new(w, i < 4 ? by_turn[i] : by_conversation[i - 4], 2);
        c->call.id = i < 4 ? turn : conversation;
        world_run(w, 0, c);
        expect(c, CN_E_NOT_FOUND, i < 4 ? turn.text : conversation.text);
    }
    world_call *c = world_call_new(w, CN_SESSION_LIST, 2);
    assert_int_equal(world_run(w, 0, c), CN_OK);
    assert_int_equal(c->call.list_count, 0);
    world_drop(c);
    // Nor may a turn name a parent or a conversation of another tenant.
    const cn_session_id mine = cn_session_id_new(w->sessions[0], "resp_");
    c = world_call_new(w, CN_SESSION_COMMIT, 2);
    world_turn(&c->call, &mine, 2);
    c->call.turn.parent = turn;
    world_run(w, 0, c);
    expect(c, CN_E_NOT_FOUND, turn.text);
    c = world_call_new(w, CN_SESSION_COMMIT, 2);
    world_turn(&c->call, &mine, 2);
    c->call.conversation.id = conversation;
    world_run(w, 0, c);
    expect(c, CN_E_NOT_FOUND, conversation.text);
    assert_true((head_of(w, &conversation).text[6] != 0));
    const cn_session_id head = head_of(w, &conversation);
    assert_true(is_same(&head, &turn));
}

// ---- commits

// Of two that saw the same head one wins, and nothing of the other is visible.
static void one_of_two_wins(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    world_commit(w, &conversation, 0);
    world_call *calls[2];
    cn_session_id ids[2];
    for (uint32_t i = 0; i < 2; i++) calls[i] = world_ask(w, CN_SESSION_HISTORY, &conversation);
    for (uint32_t i = 0; i < 2; i++) {
        ids[i] = cn_session_id_new(w->sessions[i], "resp_");
        const cn_session_id parent = calls[i]->call.chain[0].id;
        world_turn(&calls[i]->call, &ids[i], i + 1);
        calls[i]->call.turn.parent = parent;
        calls[i]->call.kind = CN_SESSION_COMMIT;
        calls[i]->done = false;
        calls[i]->call.deadline_ns = w->now_ns + WORLD_WAIT_NS;
        assert_int_equal(cn_session_start(w->sessions[i], &calls[i]->call), CN_OK);
    }
    while (!calls[0]->done || !calls[1]->done) world_step(w);
    const uint32_t winner = calls[0]->call.err.code == CN_OK ? 0 : 1;
    assert_int_equal(calls[winner]->call.err.code, CN_OK);
    assert_int_equal(calls[winner]->call.conversation.revision, 3);
    expect(calls[!winner], CN_E_CONFLICT, conversation.text);
    world_drop(calls[winner]);
    assert_int_equal(cn_metrics_get(&w->metrics.turns_withdrawn), 1);
    const cn_session_id head = head_of(w, &conversation);
    assert_true(is_same(&head, &ids[winner]));
    expect(world_ask(w, CN_SESSION_TURN, &ids[!winner]), CN_E_NOT_FOUND, ids[!winner].text);
    expect(world_ask(w, CN_SESSION_TURN, &ids[winner]), CN_OK, NULL);
}

// A metadata change between reading and committing costs nobody a turn, nor loses the change.
static void metadata_and_turns_do_not_conflict(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    world_call *turn = world_ask(w, CN_SESSION_HISTORY, &conversation);
    world_call *change = world_ask(w, CN_SESSION_CONVERSATION, &conversation);
    change->call.kind = CN_SESSION_UPDATE;
    change->call.conversation.metadata = world_bytes(&change->arena, "{\"k\":\"v\"}");
    assert_int_equal(world_run(w, 1, change), CN_OK);
    assert_int_equal(change->call.conversation.revision, 2);
    world_drop(change);
    const cn_session_id id = cn_session_id_new(w->sessions[0], "resp_");
    world_turn(&turn->call, &id, 1);
    turn->call.kind = CN_SESSION_COMMIT;
    assert_int_equal(world_run(w, 0, turn), CN_OK);
    assert_int_equal(turn->call.conversation.revision, 3);
    assert_int_equal(turn->call.conversation.metadata.len, 9);
    world_drop(turn);
    const cn_session_id head = head_of(w, &conversation);
    assert_true(is_same(&head, &id));
}

static void an_update_needs_the_revision(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    for (uint64_t revision = 0; revision < 4; revision++) {
        world_call *c = world_call_new(w, CN_SESSION_UPDATE, 1);
        c->call.conversation.id = conversation; // as from a request: nothing was read
        c->call.conversation.revision = revision;
        c->call.conversation.metadata = world_bytes(&c->arena, "{}");
        world_run(w, 0, c);
        // Revision 1 is right, and makes it 2, which is right the next time, and so on.
        expect(c, revision == 0 ? CN_E_CONFLICT : CN_OK, revision == 0 ? "at revision 1" : NULL);
    }
    world_call *late = world_ask(w, CN_SESSION_CONVERSATION, &conversation);
    world_commit(w, &conversation, 1);
    late->call.kind = CN_SESSION_UPDATE;
    world_run(w, 0, late);
    expect(late, CN_E_CONFLICT, conversation.text);
}

static void a_deleted_conversation_is_gone(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    const cn_session_id turn = world_commit(w, &conversation, 1);
    world_call *late = world_ask(w, CN_SESSION_HISTORY, &conversation);
    world_call *c = world_ask(w, CN_SESSION_CONVERSATION, &conversation);
    c->call.kind = CN_SESSION_UPDATE;
    c->call.conversation.deleted = true;
    assert_int_equal(world_run(w, 0, c), CN_OK);
    world_drop(c);
    expect(world_ask(w, CN_SESSION_CONVERSATION, &conversation), CN_E_NOT_FOUND, conversation.text);
    expect(world_ask(w, CN_SESSION_HISTORY, &conversation), CN_E_NOT_FOUND, conversation.text);
    expect(world_ask(w, CN_SESSION_FORK, &conversation), CN_E_NOT_FOUND, conversation.text);
    expect(world_ask(w, CN_SESSION_TURN, &turn), CN_OK, NULL); // its turns stay
    // A commit that was under way finds nothing to be added to, and leaves nothing.
    const cn_session_id id = cn_session_id_new(w->sessions[0], "resp_");
    world_turn(&late->call, &id, 2);
    late->call.turn.parent = turn;
    late->call.kind = CN_SESSION_COMMIT;
    world_run(w, 0, late);
    expect(late, CN_E_NOT_FOUND, conversation.text);
    expect(world_ask(w, CN_SESSION_TURN, &id), CN_E_NOT_FOUND, id.text);
    c = world_ask(w, CN_SESSION_LIST, NULL);
    assert_int_equal(c->call.list_count, 0);
    world_drop(c);
}

// Turns without a conversation: a tree that nobody has a name for.
static void turns_grow_from_any_turn(void **state)
{
    world *w = *state;
    const cn_session_id root = world_commit(w, NULL, 0);
    const cn_session_id left = world_commit(w, &root, 1), right = world_commit(w, &root, 2);
    world_call *c = world_ask(w, CN_SESSION_HISTORY, &right);
    assert_int_equal(c->call.chain_count, 2);
    assert_true(is_same(&c->call.chain[0].id, &root) && is_same(&c->call.chain[1].id, &right));
    world_drop(c);
    expect(world_ask(w, CN_SESSION_TURN_DELETE, &left), CN_OK, NULL);
    expect(world_ask(w, CN_SESSION_TURN_DELETE, &left), CN_E_NOT_FOUND, left.text);
    expect(world_ask(w, CN_SESSION_TURN, &left), CN_E_NOT_FOUND, left.text);
    expect(world_ask(w, CN_SESSION_HISTORY, &left), CN_E_NOT_FOUND, left.text);
    // What grew from a deleted turn stays whole.
    expect(world_ask(w, CN_SESSION_TURN_DELETE, &root), CN_OK, NULL);
    c = world_ask(w, CN_SESSION_HISTORY, &right);
    assert_int_equal(c->call.chain_count, 2);
    assert_true(c->call.chain[0].deleted && !c->call.chain[1].deleted);
    expect(c, CN_OK, NULL);
    // A turn that is added without a chain finds out by itself.
    c = world_call_new(w, CN_SESSION_COMMIT, 1);
    const cn_session_id id = cn_session_id_new(w->sessions[0], "resp_");
    world_turn(&c->call, &id, 3);
    c->call.turn.parent = right;
    assert_int_equal(world_run(w, 0, c), CN_OK);
    assert_int_equal(c->call.turn.depth, 3);
    world_drop(c);
    c = world_call_new(w, CN_SESSION_COMMIT, 1);
    const cn_session_id other = cn_session_id_new(w->sessions[0], "resp_");
    world_turn(&c->call, &other, 4);
    c->call.turn.parent = left;
    world_run(w, 0, c);
    expect(c, CN_E_NOT_FOUND, left.text);
}

// ---- retries

static world_call *replay(world *w, const cn_session_id *id, uint32_t tag)
{
    world_call *c = world_call_new(w, CN_SESSION_REPLAY, 1);
    c->call.id = *id;
    memcpy(c->call.turn.request_digest, &tag, sizeof tag);
    world_run(w, 1, c);
    return c;
}

// A retry after a lost answer gets the same turn, also when others went on from it.
static void a_retry_gets_the_same_turn(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w), id = keyed("a");
    expect(replay(w, &id, 5), CN_E_NOT_FOUND, id.text);
    world_call *early = world_ask(w, CN_SESSION_HISTORY, &conversation);
    world_drop(world_commit_as(w, 0, &conversation, &id, 5));
    for (uint32_t n = 0; n < 41; n++) {
        if (n % 40 == 0) {
            world_call *c = replay(w, &id, 5);
            assert_int_equal(c->call.err.code, CN_OK);
            assert_int_equal(c->call.turn.tokens[0], 15);
            world_drop(c);
            expect(replay(w, &id, 6), CN_E_EXISTS, id.text);
        }
        world_commit(w, &conversation, 100 + n);
    }
    // The retry that was already on its way commits an answer of its own: it is not needed.
    world_turn(&early->call, &id, 5);
    early->call.turn.completed_s = 12345;
    early->call.kind = CN_SESSION_COMMIT;
    assert_int_equal(world_run(w, 2, early), CN_OK);
    assert_int_equal(early->call.turn.completed_s, 0);
    world_drop(early);
    world_call *c = world_ask(w, CN_SESSION_HISTORY, &conversation);
    assert_int_equal(c->call.chain_count, 42);
    world_drop(c);
    // The same key for another request is refused, with and without a conversation.
    expect(world_commit_as(w, 0, &conversation, &id, 6), CN_E_EXISTS, id.text);
    expect(world_commit_as(w, 0, NULL, &id, 5), CN_E_EXISTS, id.text);
    const cn_session_id alone = keyed("b");
    for (int i = 0; i < 2; i++) expect(world_commit_as(w, 0, NULL, &alone, 9), CN_OK, NULL);
}

// Two requests with one key at the same moment, in two conversations: one is told so, and its head
// does not point to the other's turn.
static void one_key_is_not_two_requests(void **state)
{
    world *w = *state;
    for (uint32_t n = 0; n < 200; n++) {
        char name[16];
        snprintf(name, sizeof name, "key %u", n);
        const cn_session_id id = keyed(name);
        world_call *calls[2];
        cn_session_id conversations[2], before[2];
        world_faults(w, (cn_store_sim_faults){.delay_ns_max = 1000000});
        for (uint32_t i = 0; i < 2; i++) {
            conversations[i] = world_conversation(w);
            before[i] = world_commit(w, &conversations[i], 1);
            calls[i] = world_ask(w, CN_SESSION_HISTORY, &conversations[i]);
        }
        for (uint32_t i = 0; i < 2; i++) {
            world_turn(&calls[i]->call, &id, 10 + i);
            calls[i]->call.turn.parent = before[i];
            calls[i]->call.kind = CN_SESSION_COMMIT;
            calls[i]->call.deadline_ns = w->now_ns + WORLD_WAIT_NS;
            calls[i]->done = false;
            assert_int_equal(cn_session_start(w->sessions[i], &calls[i]->call), CN_OK);
        }
        while (!calls[0]->done || !calls[1]->done) world_step(w);
        const uint32_t winner = calls[0]->call.err.code == CN_OK ? 0 : 1;
        expect(calls[winner], CN_OK, NULL);
        expect(calls[!winner], CN_E_EXISTS, id.text);
        const cn_session_id won = head_of(w, &conversations[winner]);
        const cn_session_id lost = head_of(w, &conversations[!winner]);
        assert_true(is_same(&won, &id) && is_same(&lost, &before[!winner]));
    }
}

static void half_a_commit_is_finished_by_its_retry(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    for (uint32_t way = 0; way < 2; way++) {
        const cn_session_id before = head_of(w, &conversation), id = keyed(way ? "x" : "y");
        put_half(w, &conversation, &id, way);
        cn_session_id head = head_of(w, &conversation);
        assert_true(is_same(&head, &before)); // half a turn shows nowhere
        expect(way ? replay(w, &id, way) : world_commit_as(w, 0, &conversation, &id, way), CN_OK,
               NULL);
        head = head_of(w, &conversation);
        assert_true(is_same(&head, &id));
    }
}

// Half a commit whose head moved meanwhile is nothing any more; its retry writes it anew.
static void half_a_commit_may_come_too_late(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w), id = keyed("x");
    put_half(w, &conversation, &id, 1);
    const cn_session_id other = world_commit(w, &conversation, 2);
    expect(replay(w, &id, 1), CN_E_NOT_FOUND, id.text);
    cn_session_id head = head_of(w, &conversation);
    assert_true(is_same(&head, &other));
    expect(world_commit_as(w, 0, &conversation, &id, 1), CN_OK, NULL);
    world_call *c = world_ask(w, CN_SESSION_HISTORY, &conversation);
    assert_int_equal(c->call.chain_count, 2);
    assert_true(is_same(&c->call.chain[1].id, &id) && is_same(&c->call.chain[0].id, &other));
    world_drop(c);
}

// A turn that lost its race was withdrawn; the retry of its key takes the place.
static void a_withdrawn_turn_makes_room(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w), id = keyed("x");
    world_call *late = world_ask(w, CN_SESSION_HISTORY, &conversation);
    world_commit(w, &conversation, 1);
    world_turn(&late->call, &id, 2);
    late->call.kind = CN_SESSION_COMMIT;
    world_run(w, 1, late);
    expect(late, CN_E_CONFLICT, conversation.text);
    expect(world_ask(w, CN_SESSION_TURN, &id), CN_E_NOT_FOUND, id.text);
    expect(replay(w, &id, 2), CN_E_NOT_FOUND, id.text);
    expect(world_commit_as(w, 1, &conversation, &id, 2), CN_OK, NULL);
    expect(world_commit_as(w, 1, &conversation, &id, 2), CN_OK, NULL);
    const cn_session_id head = head_of(w, &conversation);
    assert_true(is_same(&head, &id));
    expect(replay(w, &id, 2), CN_OK, NULL);
}

// A head whose turn the store has lost: nobody is told that the conversation ends before it.
static void a_lost_turn_is_missed(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    const cn_session_id first = world_commit(w, &conversation, 1);
    world_call *early = world_ask(w, CN_SESSION_HISTORY, &conversation);
    const cn_session_id lost = world_commit(w, &conversation, 2);
    char key[CN_STORE_KEY_BYTES_MAX];
    world_key(&lost, key);
    assert_true(cn_store_sim_poke(w->store, key, NULL, 0));
    expect(world_ask(w, CN_SESSION_HISTORY, &conversation), CN_E_NOT_FOUND, lost.text);
    expect(world_ask(w, CN_SESSION_FORK, &conversation), CN_E_NOT_FOUND, lost.text);
    expect(world_ask(w, CN_SESSION_CONVERSATION, &conversation), CN_OK, NULL);
    world_call *tree = world_ask(w, CN_SESSION_TREE, &conversation);
    assert_int_equal(tree->call.chain_count, 0); // what is left of it
    expect(tree, CN_OK, NULL);
    // Whether a turn is below a head that is lost cannot be known, and is not guessed.
    const cn_session_id id = cn_session_id_new(w->sessions[1], "resp_");
    world_turn(&early->call, &id, 3);
    early->call.turn.parent = first;
    early->call.kind = CN_SESSION_COMMIT;
    world_run(w, 1, early);
    expect(early, CN_E_NOT_FOUND, lost.text);
    expect(world_ask(w, CN_SESSION_TURN, &first), CN_OK, NULL);
}

// ---- forks, lists, trees

static void forks_share_what_came_before(void **state)
{
    enum { TURNS = 70 };
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    cn_session_id ids[TURNS];
    for (uint32_t i = 0; i < TURNS; i++) ids[i] = world_commit(w, &conversation, i);
    const uint32_t at[] = {0, 1, 36, 37, 38, TURNS - 1};
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        world_call *c = world_call_new(w, CN_SESSION_FORK, 1);
        c->call.id = conversation;
        if (at[i] < TURNS - 1) c->call.at = ids[at[i]];
        assert_int_equal(world_run(w, 1, c), CN_OK);
        const cn_session_id fork = c->call.conversation.id;
        assert_true(is_same(&c->call.conversation.head, &ids[at[i]]));
        assert_true(is_same(&c->call.conversation.forked_from, &conversation));
        assert_true(is_same(&c->call.conversation.root, &ids[0]));
        world_drop(c);
        world_commit(w, &fork, 1000);
        c = world_ask(w, CN_SESSION_HISTORY, &fork);
        assert_int_equal(c->call.chain_count, at[i] + 2);
        world_drop(c);
    }
    const cn_session_id head = head_of(w, &conversation);
    assert_true(is_same(&head, &ids[TURNS - 1])); // the source did not move
    // The tree: all of it once, parents before children.
    world_call *c = world_ask(w, CN_SESSION_TREE, &conversation);
    assert_int_equal(c->call.err.code, CN_OK);
    assert_int_equal(c->call.list_count, 7);
    assert_int_equal(c->call.chain_count, TURNS + 6);
    for (uint32_t i = 0; i < c->call.chain_count; i++) {
        bool above = c->call.chain[i].depth == 1;
        for (uint32_t k = 0; k < i; k++) {
            assert_false(is_same(&c->call.chain[k].id, &c->call.chain[i].id));
            above |= is_same(&c->call.chain[k].id, &c->call.chain[i].parent);
        }
        assert_true(above);
    }
    world_drop(c);
    // A turn of another conversation is none of this one, and neither is a turn without one.
    const cn_session_id other = world_conversation(w), alien = world_commit(w, &other, 5);
    c = world_call_new(w, CN_SESSION_FORK, 1);
    c->call.id = conversation;
    c->call.at = alien;
    world_run(w, 0, c);
    expect(c, CN_E_NOT_FOUND, alien.text);
}

static void a_fork_of_nothing_is_empty(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    world_call *c = world_call_new(w, CN_SESSION_FORK, 1);
    c->call.id = conversation;
    c->call.conversation.metadata = world_bytes(&c->arena, "{\"of\":\"nothing\"}");
    assert_int_equal(world_run(w, 0, c), CN_OK);
    assert_string_equal(c->call.conversation.head.text, "");
    assert_int_equal(c->call.conversation.metadata.len, 16);
    const cn_session_id fork = c->call.conversation.id;
    world_drop(c);
    world_commit(w, &fork, 1);
    c = world_ask(w, CN_SESSION_TREE, &conversation);
    assert_int_equal(c->call.err.code, CN_OK);
    assert_int_equal(c->call.list_count, 1);
    assert_int_equal(c->call.chain_count, 0);
    world_drop(c);
}

static void a_conversation_may_begin_at_a_turn(void **state)
{
    world *w = *state;
    cn_session_id turn = world_commit(w, NULL, 0);
    const cn_session_id root = turn;
    for (uint32_t i = 0; i < 40; i++) turn = world_commit(w, &turn, i + 1);
    world_call *c = world_call_new(w, CN_SESSION_CREATE, 1);
    c->call.conversation.head = turn;
    assert_int_equal(world_run(w, 0, c), CN_OK);
    assert_true(is_same(&c->call.conversation.root, &root));
    const cn_session_id id = c->call.conversation.id;
    world_drop(c);
    c = world_ask(w, CN_SESSION_HISTORY, &id);
    assert_int_equal(c->call.chain_count, 41);
    world_drop(c);
    c = world_call_new(w, CN_SESSION_CREATE, 1);
    c->call.conversation.head = cn_session_id_new(w->sessions[0], "resp_");
    const cn_session_id none = c->call.conversation.head;
    world_run(w, 0, c);
    expect(c, CN_E_NOT_FOUND, none.text);
    // An id that is given, as by an Idempotency-Key, is made once: the same request is told what it made.
    for (uint8_t other = 0; other < 2; other++) {
        for (int forks = 0; forks < 2; forks++) {
            c = world_call_new(w, forks ? CN_SESSION_FORK : CN_SESSION_CREATE, 1);
            c->call.id = id;
            c->call.conversation.id = id;
            c->call.conversation.request_digest[5] = other;
            world_run(w, 0, c);
            if (!other) assert_true(is_same(&c->call.conversation.head, &turn));
            expect(c, other ? CN_E_EXISTS : CN_OK, other ? id.text : NULL);
        }
    }
}

static void a_list_has_each_conversation(void **state)
{
    enum { COUNT = 75 };
    world *w = *state;
    cn_session_id ids[COUNT];
    bool seen[COUNT] = {false};
    for (uint32_t i = 0; i < COUNT; i++) {
        ids[i] = world_conversation(w);
        world_commit(w, &ids[i], i);
    }
    char key[CN_STORE_KEY_BYTES_MAX];
    world_key(&ids[3], key);
    assert_true(cn_store_sim_poke(w->store, key, "rubbish", 7)); // hides none of the others
    uint32_t calls = 0;
    for (uint64_t cursor = 0; calls == 0 || cursor != 0; calls++) {
        world_call *c = world_call_new(w, CN_SESSION_LIST, 1);
        c->call.cursor = cursor;
        assert_int_equal(world_run(w, 0, c), CN_OK);
        cursor = c->call.cursor;
        for (uint32_t i = 0; i < c->call.list_count; i++) {
            for (uint32_t k = 0; k < COUNT; k++) seen[k] |= is_same(&c->call.list[i].id, &ids[k]);
        }
        world_drop(c);
        assert_true(calls < 100);
    }
    for (uint32_t k = 0; k < COUNT; k++) assert_int_equal(seen[k], k != 3);
    expect(world_ask(w, CN_SESSION_CONVERSATION, &ids[3]), CN_E_CORRUPT, ids[3].text);
}

// ---- life

// Used once in 20 days, a conversation with a life of 30 days lives for ever, all of it; and a use
// renews it at most once a day.
static void what_is_used_lives(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w), idle = world_conversation(w);
    for (uint32_t i = 0; i < 40; i++) world_commit(w, &conversation, i);
    world_commit(w, &idle, 0);
    for (uint32_t n = 0; n < 6; n++) {
        w->now_ns += 20 * WORLD_DAY_NS;
        world_call *c = world_ask(w, CN_SESSION_HISTORY, &conversation);
        assert_int_equal(c->call.err.code, CN_OK);
        assert_int_equal(c->call.chain_count, 40 + n / 2);
        world_drop(c);
        if (n % 2) world_commit(w, &conversation, 40 + n);
    }
    expect(world_ask(w, CN_SESSION_HISTORY, &idle), CN_E_NOT_FOUND, idle.text);
}

static void a_day_is_renewed_once(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    cn_session_id turn = {""};
    for (uint32_t i = 0; i < 3; i++) turn = world_commit(w, &conversation, i);
    // 29.5 days later a use renews; half a day after that, a use does not, so that the record dies
    // 30 days after the first.
    const uint64_t half = WORLD_DAY_NS / 2;
    w->now_ns += 59 * half;
    expect(world_ask(w, CN_SESSION_HISTORY, &conversation), CN_OK, NULL);
    w->now_ns += half;
    expect(world_ask(w, CN_SESSION_HISTORY, &conversation), CN_OK, NULL);
    w->now_ns += 59 * half - 1000000000;
    expect(world_ask(w, CN_SESSION_TURN, &turn), CN_OK, NULL);
    w->now_ns += 2000000000;
    expect(world_ask(w, CN_SESSION_TURN, &turn), CN_E_NOT_FOUND, turn.text);
    expect(world_ask(w, CN_SESSION_CONVERSATION, &conversation), CN_E_NOT_FOUND, conversation.text);
}

// A wall clock that was a year ahead when a turn was written must not keep it from being renewed.
static void a_wrong_clock_does_not_end_lives(void **state)
{
    world *w = *state;
    w->now_ns += 365 * WORLD_DAY_NS;
    cn_session_id turn = world_commit(w, NULL, 1);
    w->now_ns -= 365 * WORLD_DAY_NS;
    const uint64_t ahead = cn_session_now_s(w->sessions[0]) + 365 * 86400;
    assert_true(cn_session_kept_due(w->sessions[0], ahead));
    assert_false(cn_session_kept_due(w->sessions[0], cn_session_now_s(w->sessions[0])));
    expect(world_ask(w, CN_SESSION_HISTORY, &turn), CN_OK, NULL);
}

// ---- damage and bounds

static void damage_names_its_record(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    cn_session_id ids[3];
    char key[CN_STORE_KEY_BYTES_MAX];
    for (uint32_t i = 0; i < 3; i++) ids[i] = world_commit(w, &conversation, i);
    uint32_t len;
    char copy[4096];
    world_key(&ids[1], key);
    const char *record = cn_store_sim_peek(w->store, key, &len);
    assert_true(record && len < sizeof copy);
    memcpy(copy, record, len);
    copy[len - 1] ^= 1;
    assert_true(cn_store_sim_poke(w->store, key, copy, len));
    expect(world_ask(w, CN_SESSION_TURN, &ids[1]), CN_E_CORRUPT, ids[1].text);
    expect(world_ask(w, CN_SESSION_HISTORY, &conversation), CN_E_CORRUPT, ids[1].text);
    expect(world_ask(w, CN_SESSION_TURN_DELETE, &ids[1]), CN_E_CORRUPT, ids[1].text);
    expect(world_ask(w, CN_SESSION_TURN, &ids[2]), CN_OK, NULL); // its child is readable
    expect(world_ask(w, CN_SESSION_TURN, &ids[0]), CN_OK, NULL);
    // Whole, but another turn's record.
    copy[len - 1] ^= 1;
    world_key(&ids[0], key);
    assert_true(cn_store_sim_poke(w->store, key, copy, len));
    expect(world_ask(w, CN_SESSION_TURN, &ids[0]), CN_E_CORRUPT, ids[0].text);
    // Forgotten in the middle of a chain.
    world_key(&ids[1], key);
    assert_true(cn_store_sim_poke(w->store, key, NULL, 0));
    expect(world_ask(w, CN_SESSION_HISTORY, &conversation), CN_E_NOT_FOUND, ids[1].text);
    // A head whose own record is damaged is not overwritten.
    world_key(&conversation, key);
    record = cn_store_sim_peek(w->store, key, &len);
    memcpy(copy, record, len);
    copy[30] ^= 4;
    world_call *late = world_ask(w, CN_SESSION_CONVERSATION, &conversation);
    assert_true(cn_store_sim_poke(w->store, key, copy, len));
    const cn_session_id id = cn_session_id_new(w->sessions[0], "resp_");
    world_turn(&late->call, &id, 9);
    late->call.turn.parent = ids[2];
    late->call.kind = CN_SESSION_COMMIT;
    world_run(w, 0, late);
    expect(late, CN_E_CORRUPT, conversation.text);
    assert_memory_equal(cn_store_sim_peek(w->store, key, &len), copy, len);
}

static void bounds_are_kept(void **state)
{
    world *w = *state;
    cn_session_options options;
    cn_session *small;
    cn_err err;
    world_options(w, 2, &options);
    cn_session_close(w->sessions[2]);
    w->sessions[2] = NULL;
    options.chain_max = 0;
    assert_int_equal(cn_session_open(&options, &small, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "chain_max 0"));
    options.chain_max = 3;
    options.record_bytes_max = 512;
    options.call_max = 1;
    assert_int_equal(cn_session_open(&options, &small, &err), CN_OK);
    w->sessions[2] = small;
    const cn_session_id conversation = world_conversation(w);
    cn_session_id id = {""};
    for (uint32_t i = 0; i < 4; i++) {
        id = cn_session_id_new(small, "resp_");
        expect(world_commit_as(w, 2, &conversation, &id, i), i < 3 ? CN_OK : CN_E_LIMIT,
               i < 3 ? NULL : "4 turns; at most 3");
    }
    world_commit(w, &conversation, 4); // by one that allows more
    world_call *c = world_call_new(w, CN_SESSION_HISTORY, 1);
    c->call.id = conversation;
    world_run(w, 2, c);
    expect(c, CN_E_LIMIT, "4 turns; at most 3");
    char long_text[600];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    c = world_call_new(w, CN_SESSION_COMMIT, 1);
    world_turn(&c->call, &id, 1);
    c->call.turn.text = world_bytes(&c->arena, long_text);
    world_run(w, 2, c);
    expect(c, CN_E_LIMIT, id.text);
    id = cn_session_id_new(small, "resp_");      // and read by one that allows less
    c = world_call_new(w, CN_SESSION_COMMIT, 1);
    world_turn(&c->call, &id, 1);
    c->call.turn.text = world_bytes(&c->arena, long_text);
    assert_int_equal(world_run(w, 0, c), CN_OK);
    world_drop(c);
    c = world_call_new(w, CN_SESSION_TURN, 1);
    c->call.id = id;
    world_run(w, 2, c);
    expect(c, CN_E_LIMIT, "longer than the 512 bytes of limit turn_record_bytes");
    // One call at a time; the second is not started.
    c = world_call_new(w, CN_SESSION_CONVERSATION, 1);
    c->call.id = conversation;
    assert_int_equal(cn_session_start(small, &c->call), CN_OK);
    world_call *second = world_call_new(w, CN_SESSION_CONVERSATION, 1);
    assert_int_equal(cn_session_start(small, &second->call), CN_E_QUEUE);
    world_drop(second);
    while (!c->done) world_step(w);
    expect(c, CN_OK, NULL);
    // An arena that is too small ends the call, not the process.
    for (uint64_t bytes = 4096; bytes < 40000; bytes += 1024) {
        c = world_call_new(w, CN_SESSION_TREE, 1);
        cn_arena_init(&c->arena, bytes);
        c->call.id = conversation;
        const cn_code started = cn_session_start(w->sessions[0], &c->call);
        if (started == CN_OK) {
            while (!c->done) world_step(w);
            assert_int_equal(c->call.err.code, CN_E_LIMIT);
        } else assert_int_equal(started, CN_E_MEMORY);
        world_drop(c);
    }
}

static void a_store_that_is_away_ends_calls_in_time(void **state)
{
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    const cn_session_id turn = world_commit(w, &conversation, 1);
    world_call *ready = world_ask(w, CN_SESSION_HISTORY, &conversation);
    world_faults(w, (cn_store_sim_faults){.log_full = true});
    const cn_session_id id = cn_session_id_new(w->sessions[0], "resp_");
    world_turn(&ready->call, &id, 2);
    ready->call.turn.parent = turn;
    ready->call.kind = CN_SESSION_COMMIT;
    assert_int_equal(world_run(w, 0, ready), CN_E_STORE_FULL);
    world_faults(w, (cn_store_sim_faults){.log_down = true});
    const uint64_t start_ns = w->now_ns;
    ready->call.turn.conversation = conversation;
    assert_int_equal(world_run(w, 0, ready), CN_E_STORE);
    assert_in_range(w->now_ns - start_ns, WORLD_WAIT_NS, WORLD_WAIT_NS + 100000);
    expect(world_ask(w, CN_SESSION_HISTORY, &conversation), CN_E_STORE, conversation.text);
    expect(world_ask(w, CN_SESSION_LIST, NULL), CN_E_STORE, NULL);
    world_faults(w, (cn_store_sim_faults){0});
    assert_int_equal(world_run(w, 0, ready), CN_OK); // the same call, once more
    world_drop(ready);
    const cn_session_id head = head_of(w, &conversation);
    assert_true(is_same(&head, &id));
}

// More operations than the store's ring takes: they wait, and all are done.
static void a_full_ring_makes_calls_wait(void **state)
{
    enum { CALLS = 60 };
    world *w = *state;
    const cn_session_id conversation = world_conversation(w);
    for (uint32_t i = 0; i < 40; i++) world_commit(w, &conversation, i);
    world_call *calls[CALLS];
    world_faults(w, (cn_store_sim_faults){.delay_ns_min = 1000000, .delay_ns_max = 2000000});
    for (uint32_t i = 0; i < CALLS; i++) {
        calls[i] = world_call_new(w, CN_SESSION_HISTORY, 1);
        calls[i]->call.id = conversation;
        assert_int_equal(cn_session_start(w->sessions[0], &calls[i]->call), CN_OK);
    }
    for (uint32_t i = 0; i < CALLS; i++) {
        while (!calls[i]->done) world_step(w);
        assert_int_equal(calls[i]->call.chain_count, 40);
        expect(calls[i], CN_OK, NULL);
    }
}

int main(void)
{
#define CACHED(name) cmocka_unit_test_setup_teardown(name, set_up_cached, tear_down)
#define TEST(name)   cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(ids_are_random_or_of_their_key),
        TEST(a_history_is_read_in_few_rounds),
        CACHED(what_was_read_is_not_asked_for_again),
        CACHED(what_may_change_is_not_kept),
        TEST(an_empty_conversation_has_no_turns),
        TEST(tenants_see_nothing_of_each_other),
        TEST(one_of_two_wins),
        TEST(metadata_and_turns_do_not_conflict),
        TEST(an_update_needs_the_revision),
        TEST(a_deleted_conversation_is_gone),
        TEST(turns_grow_from_any_turn),
        TEST(a_retry_gets_the_same_turn),
        TEST(one_key_is_not_two_requests),
        TEST(half_a_commit_is_finished_by_its_retry),
        TEST(half_a_commit_may_come_too_late),
        TEST(a_withdrawn_turn_makes_room),
        TEST(a_lost_turn_is_missed),
        TEST(forks_share_what_came_before),
        TEST(a_fork_of_nothing_is_empty),
        TEST(a_conversation_may_begin_at_a_turn),
        TEST(a_list_has_each_conversation),
        TEST(what_is_used_lives),
        TEST(a_day_is_renewed_once),
        TEST(a_wrong_clock_does_not_end_lives),
        TEST(damage_names_its_record),
        TEST(bounds_are_kept),
        TEST(a_store_that_is_away_ends_calls_in_time),
        TEST(a_full_ring_makes_calls_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
