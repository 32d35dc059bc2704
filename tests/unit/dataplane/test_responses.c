#include "dataplane/responses.h"

#include "dataplane/api_int.h"
#include "tests/unit/dataplane/api_world.h"

/* The whole api over a session and a store in memory, with an engine that the test plays: what must
 * hold at every moment, whatever fails and whoever leaves. tests/api drives the same routes with the
 * real package. */

enum { STORE_NS_MAX = 2000000000 };      // limit store_ms

// What a template writes between turns stands between <|end|> and <|user|>, or nothing does.
#define TEMPLATE(between)                                                                          \
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>"            \
    "{% else %}<|user|>{% endif %}{{ m.content }}<|end|>" between "{% endfor %}"                   \
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"

static int open_world(void **state)
{
    (void)state;
    world_open_with(NULL, 0, TEMPLATE("-"), true);
    return 0;
}

static int open_world_without_seam(void **state)
{
    (void)state;
    world_open_with(NULL, 0, TEMPLATE(""), true);
    return 0;
}

static int open_world_that_trims(void **state)
{
    (void)state;
    world_open_with(NULL, 0, "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
                             "<|assistant|>{% else %}<|user|>{% endif %}{{ m.content | trim }}<|end|>-"
                             "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}", true);
    return 0;
}

static int open_world_that_asks_for_the_first(void **state)
{
    (void)state;
    world_open_with(NULL, 0, "{% if messages[0].content | length > 1 %}{% set mark = 'M' %}"
                             "{% else %}{% set mark = '' %}{% endif %}{{ mark }}{% for m in messages %}"
                             "<|user|>{{ loop.index }}{{ m.content }}{{ mark }}<|end|>-{% endfor %}"
                             "{% if add_generation_prompt %}<|user|>{% endif %}", true);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    assert_int_equal(cn_map_count(world.api->live), 0);
    assert_int_equal(world.api->background_count, 0);
    world_close();
    return 0;
}

static void post(uint32_t exchange, const char *path, const char *body)
{
    world_send(exchange, "POST", path, body);
}

static void create(uint32_t exchange, const char *members)
{
    char body[2048];
    snprintf(body, sizeof body, "{%s}", members);
    post(exchange, "/v1/responses", body);
}

// Plays the engine for the last generation: `text`, then the end token.
static uint32_t answer(const char *text)
{
    const uint32_t g = world.generation_count - 1;
    world_start(g, 0, 0);
    world_text(g, 0, text);
    world_token(g, 0, FAKE_END);
    world_finish(g, 0, CN_FINISH_STOP);
    world_poll();
    return g;
}

static void faults(cn_store_sim_faults f) { cn_store_sim_set_faults(world.store, &f); }

static void pass_ns(uint64_t ns)
{
    world.now_ns += ns;
    world_poll();
}

// The value of the first string member of this name in the reply of `exchange`.
static const char *member(uint32_t exchange, const char *name, char out[128])
{
    char begin[64];
    snprintf(begin, sizeof begin, "\"%s\":\"", name);
    const char *at = strstr(world_body(exchange), begin);
    assert_non_null(at);
    at += strlen(begin);
    snprintf(out, 128, "%.*s", (int)strcspn(at, "\""), at);
    return out;
}

static void assert_status(uint32_t exchange, unsigned status, const char *part)
{
    if (world.exchanges[exchange].status != status || !strstr(world_body(exchange), part)) {
        fail_msg("%u %s: should be %u with %s", world.exchanges[exchange].status,
                 world_body(exchange), status, part);
    }
    assert_true(world.exchanges[exchange].ended);
}

// The prompt of the last generation, which is gone with its request.
static int32_t prompt[WORLD_CONTEXT];
static uint32_t prompt_count;

// A turn that is made and kept; its id.
static const char *make_turn(const char *members, const char *text, char id[128])
{
    create(0, members);
    if (world.exchanges[0].status) fail_msg("%s", world_body(0));
    const cn_generation *g = world.generations[world.generation_count - 1];
    prompt_count = g->prompt_count;
    memcpy(prompt, g->prompt, prompt_count * sizeof *prompt);
    answer(text);
    assert_status(0, 200, "\"status\":\"completed\"");
    return member(0, "id", id);
}

static const char *make_conversation(char id[128])
{
    post(7, "/v1/conversations", "");
    return member(7, "id", id);
}

// ---- durable

static void nothing_ends_before_it_is_kept(void **state)
{
    (void)state;
    create(0, "\"input\":\"hi\"");
    create(1, "\"input\":\"hi\",\"stream\":true");
    faults((cn_store_sim_faults){.delay_ns_min = 1000, .delay_ns_max = 1000});
    for (uint32_t g = 0; g < 2; g++) {
        world_start(g, 0, 0);
        world_text(g, 0, "yo");
        world_token(g, 0, FAKE_END);
        world_finish(g, 0, CN_FINISH_STOP);
    }
    world_poll();
    assert_int_equal(world.exchanges[0].status, 0);
    assert_non_null(strstr(world_body(1), "response.output_item.done"));
    assert_null(strstr(world_body(1), "response.completed"));
    pass_ns(1000);
    assert_status(0, 200, "\"status\":\"completed\"");
    assert_status(1, 200, "event: response.completed");
    assert_non_null(strstr(world.exchanges[0].extra, "Cairn-Durability: fsync\r\n"));
}

static void a_store_that_is_away_is_waited_for_and_no_longer(void **state)
{
    (void)state;
    create(0, "\"input\":\"hi\"");
    create(1, "\"input\":\"hi\",\"stream\":true");
    faults((cn_store_sim_faults){.log_down = true});
    for (uint32_t g = 0; g < 2; g++) {
        world_start(g, 0, 0);
        world_text(g, 0, "yo");
        world_finish(g, 0, CN_FINISH_LENGTH);
    }
    world_poll();
    pass_ns(STORE_NS_MAX - 1000);
    assert_int_equal(world.exchanges[0].status, 0);
    pass_ns(2000);
    assert_status(0, 503, "\"code\":\"state_unavailable\"");
    assert_non_null(strstr(world.exchanges[0].extra, "Retry-After: 1\r\n"));
    assert_status(1, 200, "event: response.failed");
    assert_non_null(strstr(world_body(1), "\"status\":\"failed\",\"error\":{\"code\":\"state_unav"));
    // What comes now waits before the work, and goes on without a store.
    create(2, "\"input\":\"hi\"");
    create(3, "\"input\":\"hi\",\"store\":false");
    assert_int_equal(world.generation_count, 3);
    answer("yo");
    assert_status(3, 200, "\"status\":\"completed\"");
    pass_ns(STORE_NS_MAX + 1000);
    assert_status(2, 503, "state_unavailable");
    assert_int_equal(world.generation_count, 3);
}

static void a_full_store_says_so(void **state)
{
    (void)state;
    create(0, "\"input\":\"hi\"");
    faults((cn_store_sim_faults){.log_full = true});
    answer("yo");
    assert_status(0, 503, "\"code\":\"state_full\"");
}

static void is_done(cn_session_call *call) { *(bool *)call->user = true; }

// Another appliance on the same store puts a turn into the conversation.
static void other_appliance_goes_on(const char *conversation)
{
    const cn_session_options options = {
        .store = cn_store_port_at(world.store, 1), .clock = cn_clock_simulated(&world.now_ns),
        .random = cn_random_seeded(&world.seed), .record_bytes_max = 1 << 20, .chain_max = 100,
        .call_max = 4};
    cn_session *session;
    cn_arena arena;
    bool done = false;
    cn_session_call call = {.kind = CN_SESSION_HISTORY, .arena = &arena, .done = is_done,
                            .user = &done, .deadline_ns = world.now_ns + STORE_NS_MAX};
    cn_arena_init(&arena, 1 << 20);
    assert_int_equal(cn_session_open(&options, &session, NULL), CN_OK);
    assert_true(cn_session_id_parse(conversation, "conv_", &call.id));
    for (int i = 0; i < 2; i++, done = false) {
        assert_int_equal(cn_session_start(session, &call), CN_OK);
        while (!done) {
            world.store->ops->poll(world.store, 0);
            cn_session_poll(session);
        }
        assert_int_equal(call.err.code, CN_OK);
        call.kind = CN_SESSION_COMMIT;
        call.turn = (cn_turn){.id = cn_session_id_new(session, "resp_"),
                              .parent = call.conversation.head};
        call.id = call.turn.id;
    }
    cn_session_close(session);
    cn_arena_close(&arena);
}

static void a_lost_race_is_told_and_leaves_no_lock(void **state)
{
    (void)state;
    char conversation[128], members[256], id[128], path[256];
    make_conversation(conversation);
    snprintf(members, sizeof members, "\"input\":\"hi\",\"conversation\":\"%s\"", conversation);
    create(0, members);
    other_appliance_goes_on(conversation);
    answer("yo");
    assert_status(0, 400, "\"code\":\"conversation_locked\"");
    assert_non_null(strstr(world_body(0), "another turn was committed meanwhile"));
    assert_int_equal(cn_metrics_get(&world.metrics.turns_conflict), 1);
    assert_int_equal(cn_metrics_get(&world.metrics.turns_stored), 0);
    strcat(members, ",\"stream\":true");
    create(1, members);
    other_appliance_goes_on(conversation);
    answer("yo");
    assert_status(1, 200, "\"status\":\"failed\",\"error\":{\"code\":\"conversation_locked\"");
    snprintf(path, sizeof path, "/v1/responses/%s", member(1, "id", id));
    world_send(2, "GET", path, "");
    assert_status(2, 404, "not found");          // nothing of it is visible
    create(0, members);
    answer("yo");
    assert_status(0, 200, "event: response.completed");
}

// ---- locks and clients that leave

static void a_conversation_is_locked_while_a_turn_runs(void **state)
{
    (void)state;
    char conversation[128], members[256], path[256];
    make_conversation(conversation);
    snprintf(members, sizeof members, "\"input\":\"hi\",\"conversation\":\"%s\"", conversation);
    snprintf(path, sizeof path, "/v1/conversations/%s", conversation);
    create(0, members);
    create(1, members);
    assert_status(1, 400, "\"code\":\"conversation_locked\"");
    assert_non_null(strstr(world.exchanges[1].extra, "x-should-retry: true\r\n"));
    world_send(2, "DELETE", path, "");
    assert_status(2, 400, "conversation_locked");
    world_send(2, "GET", path, "");
    assert_status(2, 200, conversation);
    answer("yo");
    assert_status(0, 200, "completed");
    create(1, members);
    answer("yo");
    assert_status(1, 200, "completed");
}

/* The client leaves in each phase; the lock must be gone, and the work within a step. */
static void a_client_that_leaves_unlocks(void **state)
{
    (void)state;
    char conversation[128], members[256];
    make_conversation(conversation);
    snprintf(members, sizeof members, "\"input\":\"hi\",\"conversation\":\"%s\"", conversation);
    // While the history is loaded: nothing is generated any more.
    faults((cn_store_sim_faults){.delay_ns_min = 1000, .delay_ns_max = 1000});
    create(0, members);
    world_gone(0);
    pass_ns(2000);
    assert_int_equal(world.generation_count, 0);
    // While tokens come.
    faults((cn_store_sim_faults){0});
    create(0, members);
    world_start(0, 0, 0);
    world_text(0, 0, "y");
    world_poll();
    world_gone(0);
    assert_true(world.cancelled[0]);
    world_finish(0, 0, CN_FINISH_CANCELLED);
    world_poll();
    // While it is committed, which cannot be taken back: the lock stays until it is known.
    create(0, members);
    faults((cn_store_sim_faults){.delay_ns_min = 1000, .delay_ns_max = 1000});
    answer("yo");
    world_gone(0);
    create(1, members);
    assert_status(1, 400, "conversation_locked");
    pass_ns(2000);
    faults((cn_store_sim_faults){0});
    create(1, members);
    assert_int_equal(world.generation_count, 3);
    answer("yo");
    assert_status(1, 200, "completed");
}

// ---- the history

static void what_was_sampled_is_not_tokenized_again(void **state)
{
    (void)state;
    char first[128], second[128], members[256];
    make_turn("\"input\":\"hi\"", "yo", first);
    snprintf(members, sizeof members, "\"input\":\"and\",\"previous_response_id\":\"%s\"", first);
    make_turn(members, "so", second);
    static const int32_t two[] = {FAKE_BEGIN, FAKE_USER, 'h', 'i', FAKE_END, '-', FAKE_ASSISTANT, 'y',
                                  'o', FAKE_END, '-', FAKE_USER, 'a', 'n', 'd', FAKE_END, '-',
                                  FAKE_ASSISTANT};
    const uint32_t count = sizeof two / sizeof two[0];
    assert_int_equal(prompt_count, count);
    assert_memory_equal(prompt, two, sizeof two);
    // Of the third only its own text, and the control token before it, are encoded.
    snprintf(members, sizeof members, "\"input\":\"x\",\"previous_response_id\":\"%s\"", second);
    const uint64_t before = fake_encoded_bytes;
    create(0, members);
    assert_int_equal(fake_encoded_bytes - before, strlen("<|end|>-<|user|>x<|end|>-<|assistant|>"));
    assert_int_equal(world.generations[2]->prompt_count, count + 3 + 1 + 3 + 2);
    assert_memory_equal(world.generations[2]->prompt, two, sizeof two);
    answer("z");
}

// A turn that goes on is counted once, under the slowest tier that its history came from.
static void resumed_turns_are_counted(void **state)
{
    (void)state;
    static const struct {
        uint32_t cached, host, store;
        const _Atomic uint64_t *tier;
    } cases[] = {{0, 0, 0, &world.metrics.resumed_computed},
                 {9, 0, 0, &world.metrics.resumed_device},
                 {9, 4, 0, &world.metrics.resumed_host},
                 {9, 4, 3, &world.metrics.resumed_store}};
    const cn_metrics *m = &world.metrics;
    char first[128], members[256];
    uint64_t computed = 0;
    make_turn("\"input\":\"hi\"", "yo", first);
    assert_int_equal(cn_metrics_get(&m->resumed_age_ns.all.count), 0);      // it goes on from nothing
    snprintf(members, sizeof members, "\"input\":\"and\",\"previous_response_id\":\"%s\"", first);
    for (int i = 0; i < 4; i++) {
        pass_ns(UINT64_C(60000000000));
        create(0, members);
        const uint32_t g = world.generation_count - 1;
        world_event((cn_event){.generation = world.generations[g], .kind = CN_EVENT_STARTED,
                               .cached_tokens = cases[i].cached, .host_tokens = cases[i].host,
                               .store_tokens = cases[i].store});
        computed += world.generations[g]->prompt_count - cases[i].cached;
        world_text(g, 0, "so");
        world_token(g, 0, FAKE_END);
        world_finish(g, 0, CN_FINISH_STOP);
        world_poll();
        assert_status(0, 200, "completed");
        assert_int_equal(cn_metrics_get(cases[i].tier), 1);
    }
    assert_int_equal(cn_metrics_get(&m->resumed_age_ns.all.count), 4);
    assert_int_equal(cn_metrics_get(&m->resumed_age_ns.all.sum), UINT64_C(60000000000) * (1 + 2 + 3 + 4));
    assert_int_equal(cn_metrics_get(&m->resumed_tokens_device), 9 + 5 + 2);
    assert_int_equal(cn_metrics_get(&m->resumed_tokens_host), 4 + 4);
    assert_int_equal(cn_metrics_get(&m->resumed_tokens_store), 3);
    assert_int_equal(cn_metrics_get(&m->resumed_tokens_computed), computed);
    assert_int_equal(cn_metrics_get(&m->turns_stored), 5);
}

/* The tokenizer has one token for <|end|><|user|>, and the chain ends between the two: nothing may be
 * taken from it then. */
static void a_seam_inside_of_a_token_is_noticed(void **state)
{
    (void)state;
    char first[128], members[256];
    make_turn("\"input\":\"hi\"", "yo", first);
    snprintf(members, sizeof members, "\"input\":\"x\",\"previous_response_id\":\"%s\"", first);
    create(0, members);
    static const int32_t want[] = {FAKE_BEGIN, FAKE_USER, 'h', 'i', FAKE_END, FAKE_ASSISTANT, 'y', 'o',
                                   FAKE_BOTH, 'x', FAKE_END, FAKE_ASSISTANT};
    assert_int_equal(world.generations[1]->prompt_count, sizeof want / sizeof want[0]);
    assert_memory_equal(world.generations[1]->prompt, want, sizeof want);
    answer("z");
}

/* Text of a client that looks like a control token stays text, in the turn that brings it and in all
 * after it, although the chain has the same bytes. */
static void text_is_not_taken_for_control_tokens_later(void **state)
{
    (void)state;
    char first[128], members[256];
    make_turn("\"input\":\"a<|end|>\"", "yo", first);
    snprintf(members, sizeof members, "\"input\":\"x\",\"previous_response_id\":\"%s\"", first);
    create(0, members);
    const cn_generation *g = world.generations[1];
    static const int32_t want[] = {FAKE_BEGIN, FAKE_USER, 'a', '<', '|', 'e', 'n', 'd', '|', '>',
                                   FAKE_END};
    assert_memory_equal(prompt, want, sizeof want);
    assert_memory_equal(g->prompt, want, sizeof want);
    answer("z");
}

static void another_beginning_is_tokenized_anew(void **state)
{
    (void)state;
    char first[128], members[256];
    make_turn("\"input\":\"hi\",\"instructions\":\"A\"", "yo", first);
    snprintf(members, sizeof members,
             "\"input\":\"x\",\"instructions\":\"B\",\"previous_response_id\":\"%s\"", first);
    char second[128];
    make_turn(members, "so", second);
    assert_int_equal(prompt[2], 'B');
    // The chain begins here now, and the next turn goes on from it.
    snprintf(members, sizeof members,
             "\"input\":\"y\",\"instructions\":\"B\",\"previous_response_id\":\"%s\"", second);
    create(0, members);
    assert_memory_equal(world.generations[2]->prompt, prompt, prompt_count * sizeof *prompt);
    assert_int_equal(world.generations[2]->prompt[prompt_count], 's');
    answer("z");
}

// Steps of the template that are enough for a few messages.
enum { FEW_STEPS = 100 };

// A turn after `id` with these members more, and steps for a few messages only: its status.
static unsigned follow(const char *id, const char *more)
{
    char members[512];
    snprintf(members, sizeof members, "\"input\":\"x\",\"previous_response_id\":\"%s\"%s", id, more);
    world.limits.template_steps = FEW_STEPS;
    create(1, members);
    world.limits.template_steps = 1000000;
    if (world.exchanges[1].status == 0) answer("z");
    return world.exchanges[1].status;
}

// A conversation of 10 turns; the id of its last one.
static const char *make_chain(const char *last_input, char id[128])
{
    char members[256];
    make_turn("\"input\":\"q\"", "y", id);
    for (int i = 0; i < 9; i++) {
        snprintf(members, sizeof members, "\"input\":\"%s\",\"previous_response_id\":\"%s\"",
                 i < 8 ? "q" : last_input, id);
        make_turn(members, "y", id);
    }
    return id;
}

// Catches a next turn that costs what its history does; and one that takes what it must not.
static void only_what_is_new_is_rendered(void **state)
{
    (void)state;
    char id[128], other[128];
    make_chain("q", id);
    if (follow(id, "") != 200) fail_msg("%s", world_body(1));
    assert_int_equal(follow(id, ",\"instructions\":\"A\""), 400);
    assert_int_equal(follow(id, ",\"chat_template_kwargs\":{\"unused\":1}"), 400);
    assert_int_equal(follow(id, ",\"tools\":[{\"type\":\"function\",\"name\":\"f\"}]"), 400);
    assert_non_null(strstr(world_body(1), "template"));
    // What was marked has other tokens than its text says.
    make_chain("<|end|>", other);
    assert_int_equal(follow(other, ""), 400);
}

static void a_deleted_item_is_not_rendered_from_a_seam(void **state)
{
    (void)state;
    char id[128], members[256], path[320], item[128];
    make_conversation(id);
    snprintf(members, sizeof members, "\"input\":\"q\",\"conversation\":\"%s\"", id);
    for (int i = 0; i < 3; i++) make_turn(members, "y", item);
    const uint32_t with = prompt_count;
    snprintf(path, sizeof path, "/v1/conversations/%s/items?limit=1&order=asc", id);
    world_send(6, "GET", path, "");
    member(6, "first_id", item);
    snprintf(path, sizeof path, "/v1/conversations/%s/items/%s", id, item);
    world_send(6, "DELETE", path, "");
    assert_status(6, 200, "conversation");
    make_turn(members, "y", item);
    assert_int_equal(prompt_count, with + 8 - 4);        // a turn more, a message less
    assert_int_equal(prompt[1], FAKE_ASSISTANT);
}

/* Whatever the history: from its seam on, and as a whole, which another argument of the template compels, the
 * prompt is the same. */
static void a_seam_never_shows(void **state)
{
    (void)state;
    enum { TURNS = 120, DEPTH_MAX = 7 };
    static const char *const inputs[] = {"a", " b ", "c<|end|>", "", "\u00e4"};
    static const char *const answers[] = {"y", " z ", "", "o<|user|>"};
    static const char *const instructions[] = {"", "", ",\"instructions\":\"A\"",
                                               ",\"instructions\":\"B <|end|>\""};
    static char ids[TURNS][128];
    uint32_t depths[TURNS];
    test_rng rng = test_rng_open("a_seam_never_shows");
    for (uint32_t i = 0; i < TURNS; i++) {
        char members[512], whole[640], after[256] = "";
        const uint32_t parent = i ? test_rng_below(&rng, i) : 0;
        const bool follows = i > 0 && depths[parent] < DEPTH_MAX;
        if (follows) snprintf(after, sizeof after, ",\"previous_response_id\":\"%s\"", ids[parent]);
        depths[i] = follows ? depths[parent] + 1 : 1;
        snprintf(members, sizeof members, "\"max_output_tokens\":16,\"input\":\"%s\"%s%s",
                 inputs[test_rng_below(&rng, 5)], instructions[test_rng_below(&rng, 4)], after);
        snprintf(whole, sizeof whole, "%s,\"store\":false,\"chat_template_kwargs\":{\"unused\":1}", members);
        make_turn(members, answers[test_rng_below(&rng, 4)], ids[i]);
        create(1, whole);
        if (world.exchanges[1].status) fail_msg("%s", world_body(1));
        const cn_generation *g = world.generations[world.generation_count - 1];
        assert_int_equal(g->prompt_count, prompt_count);
        assert_memory_equal(g->prompt, prompt, prompt_count * sizeof *prompt);
        answer("n");
        world.generation_count = 0;
    }
}

// ---- background

static void a_background_turn_needs_no_client(void **state)
{
    (void)state;
    char id[128], path[256];
    create(0, "\"input\":\"hi\",\"background\":true");
    assert_status(0, 200, "\"status\":\"queued\"");
    snprintf(path, sizeof path, "/v1/responses/%s", member(0, "id", id));
    world_send(1, "GET", path, "");
    assert_status(1, 200, "\"status\":\"queued\"");
    world_start(0, 0, 0);
    world_text(0, 0, "yo");
    world_poll();
    world_send(1, "GET", path, "");
    assert_status(1, 200, "\"status\":\"in_progress\"");
    strcat(path, "?stream=true&starting_after=5");
    world_send(2, "GET", path, "");
    assert_non_null(strstr(world_body(2), "\"sequence_number\":6,"));
    assert_null(strstr(world_body(2), "\"sequence_number\":5,"));
    world_send(3, "GET", path, "");
    world_gone(3);                       // which takes nothing with it
    world_token(0, 0, FAKE_END);
    world_finish(0, 0, CN_FINISH_STOP);
    world_poll();
    assert_status(2, 200, "event: response.completed");
    path[strcspn(path, "?")] = '\0';
    world_send(1, "GET", path, "");
    assert_status(1, 200, "\"status\":\"completed\"");
}

static void a_background_turn_outlives_its_stream(void **state)
{
    (void)state;
    char id[128], path[256];
    create(0, "\"input\":\"hi\",\"background\":true,\"stream\":true");
    assert_non_null(strstr(world_body(0), "event: response.queued"));
    member(0, "id", id);
    world_gone(0);
    assert_false(world.cancelled[0]);
    assert_int_equal(cn_api_request_count(world.api), 1);
    answer("yo");
    assert_int_equal(cn_api_request_count(world.api), 0);
    snprintf(path, sizeof path, "/v1/responses/%s", id);
    world_send(1, "GET", path, "");
    assert_status(1, 200, "\"text\":\"yo\"");
}

static void cancelled_and_failed_turns_are_kept(void **state)
{
    (void)state;
    char id[128], path[256];
    create(0, "\"input\":\"hi\",\"background\":true");
    snprintf(path, sizeof path, "/v1/responses/%s/cancel", member(0, "id", id));
    world_start(0, 0, 0);
    world_text(0, 0, "yo");
    world_poll();
    post(1, path, "");
    assert_status(1, 200, "\"status\":\"cancelled\"");
    assert_non_null(strstr(world_body(1), "\"text\":\"yo\""));
    assert_true(world.cancelled[0]);
    post(1, path, "");
    assert_status(1, 200, "\"status\":\"cancelled\"");
    world_finish(0, 0, CN_FINISH_CANCELLED);
    world_poll();
    create(0, "\"input\":\"hi\",\"background\":true");
    snprintf(path, sizeof path, "/v1/responses/%s", member(0, "id", id));
    world_start(1, 0, 0);
    world_finish(1, 0, CN_FINISH_ERROR);
    world_poll();
    world_send(1, "GET", path, "");
    assert_status(1, 200, "\"status\":\"failed\",\"error\":{\"code\":\"numeric_error\"");
}

static void a_background_turn_that_cannot_be_kept_is_told_as_failed(void **state)
{
    (void)state;
    char id[128], path[256];
    create(0, "\"input\":\"hi\",\"background\":true");
    snprintf(path, sizeof path, "/v1/responses/%s?stream=true", member(0, "id", id));
    world_send(1, "GET", path, "");
    faults((cn_store_sim_faults){.log_down = true});
    answer("yo");
    pass_ns(STORE_NS_MAX + 1000);
    assert_status(1, 200, "event: response.failed");
    assert_int_equal(cn_api_request_count(world.api), 0);
}

static void background_turns_are_bounded(void **state)
{
    (void)state;
    world.limits.background_turns = 2;
    create(0, "\"input\":\"hi\",\"background\":true");
    create(1, "\"input\":\"hi\",\"background\":true");
    create(2, "\"input\":\"hi\",\"background\":true");
    assert_status(2, 503, "limit background_turns");
    for (uint32_t g = 0; g < 2; g++) {
        world_start(g, 0, 0);
        world_finish(g, 0, CN_FINISH_LENGTH);
    }
    world_poll();
    create(2, "\"input\":\"hi\",\"background\":true");
    assert_status(2, 200, "queued");
    answer("yo");
}

static void an_abort_keeps_what_ran_in_the_background(void **state)
{
    (void)state;
    char id[128], path[256], first[128], members[256];
    make_turn("\"input\":\"hi\"", "yo", first);
    create(0, "\"input\":\"hi\",\"background\":true");
    snprintf(path, sizeof path, "/v1/responses/%s", member(0, "id", id));
    create(1, "\"input\":\"hi\"");
    world_start(1, 0, 0);
    world_text(1, 0, "yo");
    world_poll();
    // A third is still loading its history.
    snprintf(members, sizeof members, "\"input\":\"x\",\"previous_response_id\":\"%s\"", first);
    faults((cn_store_sim_faults){.delay_ns_min = 1000, .delay_ns_max = 1000});
    create(2, members);
    cn_api_drain(world.api);
    cn_api_abort(world.api);
    world_poll();
    assert_status(1, 503, "server_draining");
    pass_ns(2000);
    assert_status(2, 503, "server_draining");
    assert_int_equal(world.generation_count, 3);
    faults((cn_store_sim_faults){0});
    for (uint32_t g = 1; g < 3; g++) {
        assert_true(world.cancelled[g]);
        world_finish(g, 0, CN_FINISH_CANCELLED);
    }
    world_poll();
    assert_int_equal(cn_api_request_count(world.api), 0);
    world_close_api();
    world_open_api(NULL, 0);
    world_send(1, "GET", path, "");
    assert_status(1, 200, "\"status\":\"failed\",\"error\":{\"code\":\"server_draining\"");
    assert_non_null(strstr(world_body(1), "\"text\":\"yo\""));
}

// ---- another appliance

static void a_stream_is_told_again_after_a_restart(void **state)
{
    (void)state;
    char id[128], path[256];
    cn_buf live;
    create(0, "\"input\":\"hi\",\"stream\":true,\"include\":[\"message.output_text.logprobs\"],"
              "\"top_logprobs\":2");
    answer("y\xC3\xA9s \"quoted\"");
    cn_buf_init(&live, 1 << 20);
    cn_buf_add(&live, world_body(0), world.exchanges[0].body.len + 1);
    snprintf(path, sizeof path, "/v1/responses/%s?stream=true", member(0, "id", id));
    world_close_api();
    world_open_api(NULL, 0);
    world_send(1, "GET", path, "");
    assert_string_equal(world_body(1), live.data);
    strcat(path, "&starting_after=4");
    world_send(1, "GET", path, "");
    assert_string_equal(world_body(1), strstr(live.data, "event: response.output_text.delta\ndata: {"
                                              "\"type\":\"response.output_text.delta\","
                                              "\"sequence_number\":5,"));
    cn_buf_close(&live);
}

/* Rings that refuse now and then must not change a byte of what is told. */
static void full_rings_change_nothing(void **state)
{
    (void)state;
    char id[128], path[256];
    test_rng rng = test_rng_open("responses");
    cn_buf live;
    cn_buf_init(&live, 1 << 22);
    create(0, "\"input\":\"hi\",\"stream\":true,\"max_output_tokens\":150");
    world.refuse = &rng;
    answer("a rather long answer that is told in many events, one for each of its tokens, to readers");
    cn_buf_add(&live, world_body(0), world.exchanges[0].body.len + 1);
    snprintf(path, sizeof path, "/v1/responses/%s?stream=true", member(0, "id", id));
    for (int i = 0; i < 20; i++) {
        world_send(1, "GET", path, "");
        assert_true(world.exchanges[1].ended);
        assert_string_equal(world_body(1), live.data);
    }
    world.refuse = NULL;
    cn_buf_close(&live);
}

// ---- keys

static void keyed(uint32_t exchange, const char *members, const char *key)
{
    static cn_http_header header = {"idempotency-key", NULL};
    char body[1024];
    header.value = key;
    snprintf(body, sizeof body, "{%s}", members);
    world_send_with(exchange, "POST", "/v1/responses", body, &header, 1);
}

static void a_key_makes_one_turn(void **state)
{
    (void)state;
    char first[128], again[128];
    keyed(0, "\"input\":\"hi\"", "k");
    keyed(1, "\"input\":\"hi\"", "k");
    assert_status(1, 409, "is being answered");
    answer("yo");
    member(0, "id", first);
    keyed(1, "\"input\":\"hi\"", "k");
    assert_int_equal(world.generation_count, 1);
    assert_string_equal(member(1, "id", again), first);
    assert_string_equal(world_body(1), world_body(0));
    keyed(1, "\"input\":\"ho\"", "k");
    assert_status(1, 409, "\"code\":\"idempotency_key_reused\"");
    keyed(1, "\"input\":\"hi\"", "");
    assert_status(1, 400, "Idempotency-Key: 0 characters");
    keyed(1, "\"input\":\"hi\",\"store\":false", "k");       // nothing is kept, so nothing is found
    answer("yo");
    assert_status(1, 200, "completed");
}

// What is there already needs no lock: a retry gets its answer although the next turn runs.
static void a_key_is_answered_while_its_conversation_is_busy(void **state)
{
    (void)state;
    char conversation[128], members[256];
    make_conversation(conversation);
    snprintf(members, sizeof members, "\"input\":\"hi\",\"conversation\":\"%s\"", conversation);
    keyed(0, members, "k");
    answer("yo");
    create(1, members);
    keyed(2, members, "k");
    assert_string_equal(world_body(2), world_body(0));
    keyed(2, members, "new");
    assert_status(2, 400, "conversation_locked");
    answer("so");
    assert_status(1, 200, "completed");
}

// A client whose answer got lost sends again with its key, and finds the turn.
static void a_key_finds_what_a_dropped_client_left(void **state)
{
    (void)state;
    keyed(0, "\"input\":\"hi\"", "k");
    faults((cn_store_sim_faults){.delay_ns_min = 1000, .delay_ns_max = 1000});
    answer("yo");
    world_gone(0);
    pass_ns(2000);
    faults((cn_store_sim_faults){0});
    keyed(1, "\"input\":\"hi\"", "k");
    assert_status(1, 200, "\"text\":\"yo\"");
    assert_int_equal(world.generation_count, 1);
}

// ---- without a store

static void a_server_without_store_answers_what_needs_none(void **state)
{
    (void)state;
    cn_session *session = world.session;
    cn_store *store = world.store;
    world.session = NULL;
    world.store = NULL;
    world_close_api();
    world_open_api(NULL, 0);
    create(0, "\"input\":\"hi\"");
    assert_status(0, 503, "send \\\"store\\\": false");
    create(0, "\"input\":\"hi\",\"store\":false");
    answer("yo");
    assert_status(0, 200, "\"text\":\"yo\"");
    post(0, "/v1/conversations", "");
    assert_status(0, 503, "state_unavailable");
    world_send(0, "GET", "/v1/responses/resp_0123456789abcdef0123456789abcdef0123456789abcdef", "");
    assert_status(0, 503, "state_unavailable");
    world.session = session;
    world.store = store;
}

// Ends whatever the engine has.
static void end_generations(void)
{
    for (uint32_t g = 0; g < world.generation_count; g++) {
        world_start(g, 0, 0);
        if (g % 2) world_text(g, 0, "yo");
        world_finish(g, 0, world.cancelled[g] ? CN_FINISH_CANCELLED : CN_FINISH_LENGTH);
        world.cancelled[g] = false;
    }
    world.generation_count = 0;
    world_poll();
}

/* Everything at once, with a store that loses, fails and conflicts and clients that leave: no answer,
 * lock or generation may be left over. The world's close checks that. */
static void nothing_is_left_over_whatever_happens(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("responses_faults");
    char conversation[128], members[256];
    make_conversation(conversation);
    snprintf(members, sizeof members, "\"input\":\"hi\",\"conversation\":\"%s\"", conversation);
    for (int step = 0; step < 3000; step++) {
        const uint32_t exchange = test_rng_below(&rng, 6);
        const world_exchange *x = &world.exchanges[exchange];
        faults((cn_store_sim_faults){.delay_ns_max = 100000, .lose_percent = 5, .fail_percent = 5,
                                     .conflict_percent = 5});
        end_generations();
        const bool idle = x->generation == 0 || x->ended;
        if (!idle && test_rng_below(&rng, 2)) world_gone(exchange);
        else if (idle) {
            static const char *const kinds[] = {"\"input\":\"hi\"", "\"input\":\"hi\",\"stream\":true",
                                                "\"input\":\"hi\",\"background\":true", NULL};
            const char *kind = kinds[test_rng_below(&rng, 4)];
            create(exchange, kind ? kind : members);
        }
        pass_ns(test_rng_below(&rng, 300000));
        if (step % 100 == 0) pass_ns(STORE_NS_MAX);
    }
    faults((cn_store_sim_faults){0});
    for (int i = 0; i < 4; i++) {
        for (uint32_t g = 0; g < world.generation_count; g++) {
            world_finish(g, 0, CN_FINISH_CANCELLED);
        }
        world.generation_count = 0;
        pass_ns(STORE_NS_MAX + 1000);
    }
    assert_int_equal(cn_api_request_count(world.api), 0);
}

/* Bodies with a few wrong bytes, and exports too: each gets an answer, and an error that is ours is
 * never the client's fault. */
static void damaged_bodies_are_answered_or_refused(void **state)
{
    (void)state;
    char id[128], conversation[128], item[160], bodies[6][4096];
    make_turn("\"input\":\"hi\"", "yo", id);
    make_conversation(conversation);
    snprintf(item, sizeof item, "\"input\":\"hi\",\"conversation\":\"%s\"", conversation);
    make_turn(item, "yo", item);
    char paths[6][192] = {"/v1/responses", "/v1/responses", "/v1/conversations", "", "",
                          "/v1/conversations/import"};
    snprintf(bodies[0], sizeof bodies[0],
             "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a<|end|>"
             "\"}]},{\"type\":\"item_reference\",\"id\":\"msg_%s0000\"},{\"type\":\"function_call\","
             "\"call_id\":\"c\",\"name\":\"n\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\""
             ",\"call_id\":\"c\",\"output\":\"o\"}],\"previous_response_id\":\"%s\",\"store\":false}",
             strchr(id, '_') + 1, id);
    snprintf(bodies[1], sizeof bodies[1],
             "{\"input\":\"hi\",\"background\":true,\"stream\":true,\"instructions\":\"x\",\"tools\":[{"
             "\"type\":\"function\",\"name\":\"<|user|>\",\"parameters\":{}}],\"metadata\":{\"a\":\"b\"},"
             "\"include\":[\"message.output_text.logprobs\"],\"reasoning\":{\"effort\":\"low\"},\"text\":"
             "{\"format\":{\"type\":\"text\"}},\"truncation\":\"auto\",\"temperature\":1e-3}");
    snprintf(bodies[2], sizeof bodies[2],
             "{\"metadata\":{\"a\":\"\\u0000\"},\"items\":[{\"role\":\"user\",\"content\":\"x\"},"
             "{\"type\":\"reasoning\",\"summary\":[]}]}");
    snprintf(paths[3], sizeof paths[3], "/v1/conversations/%s/fork", conversation);
    snprintf(bodies[3], sizeof bodies[3], "{\"at\":\"%s\",\"metadata\":{\"a\":\"b\"}}", item);
    snprintf(paths[4], sizeof paths[4], "/v1/conversations/%s", conversation);
    snprintf(bodies[4], sizeof bodies[4], "{\"metadata\":{\"a\":\"b\"}}");
    char path[192];
    snprintf(path, sizeof path, "/v1/conversations/%s/export", conversation);
    world_send(0, "GET", path, "");
    snprintf(bodies[5], sizeof bodies[5], "%s", world_body(0));
    assert_true(strlen(bodies[5]) < sizeof bodies[5] - 8);
    world.generation_count = 0;          // those of above have ended
    test_rng rng = test_rng_open("responses_damage");
    uint32_t accepted = 0;
    for (int round = 0; round < 6000; round++) {
        char body[4096];
        const uint32_t at = test_rng_below(&rng, 6);
        size_t len = strlen(bodies[at]);
        memcpy(body, bodies[at], len + 1);
        for (uint32_t n = test_rng_below(&rng, 4); n > 0; n--) {
            const size_t where = test_rng_below(&rng, (uint32_t)len - 1);
            const uint32_t how = test_rng_below(&rng, 3);
            if (how == 0) body[where] = "\"\\[]{},:0-9.eEnx\xC3\xFF"[test_rng_below(&rng, 19)];
            else if (how == 1) memmove(body + where, body + where + 1, len-- - where);
            else memmove(body + where + 1, body + where, len++ - where + 1);
        }
        world.queue_room = 1000;
        post(0, paths[at], body);
        end_generations();
        const unsigned status = world.exchanges[0].status;
        if (!world.exchanges[0].ended || status >= 500) fail_msg("%u: %s", status, body);
        accepted += status == 200;
    }
    assert_in_range(accepted, 1000, 5900);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(nothing_ends_before_it_is_kept),
        IN_WORLD(a_store_that_is_away_is_waited_for_and_no_longer),
        IN_WORLD(a_full_store_says_so),
        IN_WORLD(a_lost_race_is_told_and_leaves_no_lock),
        IN_WORLD(resumed_turns_are_counted),
        IN_WORLD(a_conversation_is_locked_while_a_turn_runs),
        IN_WORLD(a_client_that_leaves_unlocks),
        IN_WORLD(what_was_sampled_is_not_tokenized_again),
        cmocka_unit_test_setup_teardown(a_seam_inside_of_a_token_is_noticed,
                                        open_world_without_seam, close_world),
        IN_WORLD(text_is_not_taken_for_control_tokens_later),
        IN_WORLD(another_beginning_is_tokenized_anew),
        IN_WORLD(only_what_is_new_is_rendered),
        IN_WORLD(a_deleted_item_is_not_rendered_from_a_seam),
        cmocka_unit_test_setup_teardown(a_seam_never_shows, open_world_that_trims, close_world),
        cmocka_unit_test_setup_teardown(a_seam_never_shows, open_world_that_asks_for_the_first, close_world),
        IN_WORLD(a_background_turn_needs_no_client),
        IN_WORLD(a_background_turn_outlives_its_stream),
        IN_WORLD(cancelled_and_failed_turns_are_kept),
        IN_WORLD(a_background_turn_that_cannot_be_kept_is_told_as_failed),
        IN_WORLD(background_turns_are_bounded),
        IN_WORLD(an_abort_keeps_what_ran_in_the_background),
        IN_WORLD(a_stream_is_told_again_after_a_restart),
        IN_WORLD(full_rings_change_nothing),
        IN_WORLD(a_key_makes_one_turn),
        IN_WORLD(a_key_is_answered_while_its_conversation_is_busy),
        IN_WORLD(a_key_finds_what_a_dropped_client_left),
        IN_WORLD(a_server_without_store_answers_what_needs_none),
        IN_WORLD(nothing_is_left_over_whatever_happens),
        IN_WORLD(damaged_bodies_are_answered_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
