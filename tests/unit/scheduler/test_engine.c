#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "scheduler/engine.h"
#include "state/store_sim.h"
#include "tests/unit/scheduler/fake_backend.h"
#include "tests/unit/test_rng.h"

enum { PROMPT_MAX = 120, ANSWER_MAX = 60, CHOICES_MAX = 3, GENERATIONS = 12 };

static const int32_t eos[] = {FAKE_EOS};

static uint64_t allocations;     // so far; stays 0 where a sanitizer has the allocator
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}
void *realloc(void *old, size_t size)
{
    allocations++;
    return __libc_realloc(old, size);
}
#endif

// One request of the test, with what was heard of it.
typedef struct ask {
    cn_generation generation;
    int32_t prompt[PROMPT_MAX];
    int32_t output[CHOICES_MAX * ANSWER_MAX];
    uint32_t heard[CHOICES_MAX];
    uint32_t prompt_heard;
    cn_finish finish[CHOICES_MAX];
    cn_code code[CHOICES_MAX];
    uint32_t cached[CHOICES_MAX];
    bool finished[CHOICES_MAX], started[CHOICES_MAX], last, cancelled;
    bool active;
} ask;

typedef struct fixture {
    fake_backend backend;
    cn_metrics metrics;
    cn_wake wake;
    uint64_t now_ns;
    cn_engine *engine;
    cn_engine_port *port;
    cn_store *store;             // NULL: none; outlives engines
    uint64_t host_pages;
} fixture;

static void open_engine(fixture *f, uint32_t page_count, uint32_t slot_count, uint32_t step_tokens)
{
    fake_backend_init(&f->backend);
    cn_metrics_init(&f->metrics);
    assert_int_equal(cn_wake_open(&f->wake, NULL), CN_OK);
    const cn_engine_options options = {
        .backend = &f->backend.base, .page_count = page_count, .slot_count = slot_count,
        .step_tokens = step_tokens, .context_tokens_max = PROMPT_MAX + ANSWER_MAX,
        .vocab_count = FAKE_VOCAB, .queue_max = 64, .choices_max = CHOICES_MAX, .port_count = 1,
        .index_seed = 1, .clock = cn_clock_simulated(&f->now_ns), .metrics = &f->metrics,
        .wake = &f->wake, .host_bytes = f->host_pages * sizeof f->backend.pages[0],
        .tenant_percent = 50, .store = f->store ? cn_store_port_at(f->store, 0) : NULL,
    };
    cn_err err = {0};
    assert_int_equal(cn_engine_open(&options, &f->engine, &err), CN_OK);
    f->port = cn_engine_port_at(f->engine, 0);
}

static void close_engine(fixture *f)
{
    cn_engine_close(f->engine);
    cn_wake_close(&f->wake);
}

static void init_ask(ask *a, uint32_t prompt_count, uint32_t answer_max, uint32_t choices)
{
    memset(a, 0, sizeof *a);
    a->active = true;
    a->generation = (cn_generation){
        .prompt = a->prompt, .prompt_count = prompt_count, .output = a->output,
        .choice_count = choices, .tokens_max = answer_max, .stop_ids = eos, .stop_count = 1,
        .user = a,
    };
    for (uint32_t i = 0; i < prompt_count; i++) a->prompt[i] = (int32_t)(i % FAKE_VOCAB);
}

// The answer that a choice must get, from its tokens alone. Returns its length.
static uint32_t reference(const ask *a, uint32_t choice, int32_t out[ANSWER_MAX])
{
    const cn_generation *g = &a->generation;
    uint64_t hash = 1;
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->prompt_count; i++) hash = fake_mix(hash, (uint32_t)g->prompt[i]);
    while (n < g->tokens_max) {
        const bool may_end = n >= g->tokens_min;
        out[n] = fake_choose(hash, g->sampling.seed + choice, g->prompt_count + n, may_end);
        hash = fake_mix(hash, (uint32_t)out[n]);
        if (out[n++] == FAKE_EOS) break;
    }
    return n;
}

static void hear(const cn_event *event)
{
    ask *a = event->generation->user;
    const uint32_t c = event->choice;
    assert_false(a->finished[c]);
    switch (event->kind) {
    case CN_EVENT_STARTED:
        assert_false(a->started[c]);
        a->started[c] = true;
        a->cached[c] = event->cached_tokens;
        break;
    case CN_EVENT_PROMPT: {
        uint64_t hash = 1;
        assert_int_equal(event->position, ++a->prompt_heard);
        assert_int_equal(event->token, a->prompt[event->position]);
        for (uint32_t i = 0; i < event->position; i++) hash = fake_mix(hash, (uint32_t)a->prompt[i]);
        assert_true(event->logprob == fake_logprob(hash, event->token));
        break;
    }
    case CN_EVENT_TOKEN:
        assert_true(a->started[c]);
        assert_int_equal(event->position, a->generation.prompt_count + a->heard[c]);
        assert_int_equal(event->token, a->output[c * a->generation.tokens_max + a->heard[c]]);
        a->heard[c]++;
        break;
    case CN_EVENT_FINISHED:
        a->finished[c] = true;
        a->finish[c] = event->finish;
        a->code[c] = event->code;
        if (event->last) a->last = true;
        break;
    }
}

static uint32_t hear_all(fixture *f, uint32_t at_most)
{
    uint32_t n = 0;
    for (const cn_event *event; n < at_most && (event = cn_engine_port_next(f->port)); n++) {
        hear(event);
        cn_engine_port_done(f->port);
    }
    return n;
}

// Every token that was heard is the reference's, and an answer that was not cut short is whole.
static void check_answer(const ask *a)
{
    for (uint32_t c = 0; c < a->generation.choice_count; c++) {
        int32_t want[ANSWER_MAX];
        const uint32_t n = reference(a, c, want);
        assert_true(a->finished[c]);
        assert_true(a->heard[c] <= n);
        for (uint32_t i = 0; i < a->heard[c]; i++) {
            assert_int_equal(a->output[c * a->generation.tokens_max + i], want[i]);
        }
        if (a->finish[c] == CN_FINISH_CANCELLED || a->finish[c] == CN_FINISH_ERROR) continue;
        assert_int_equal(a->heard[c], n);
        assert_int_equal(a->finish[c], n && want[n - 1] == FAKE_EOS ? CN_FINISH_STOP : CN_FINISH_LENGTH);
        if (c == 0 && a->generation.prompt_logprobs) {
            assert_int_equal(a->prompt_heard, a->generation.prompt_count - 1);
        }
    }
}

static void open_store(fixture *f)
{
    const cn_store_sim_options options = {
        .port_count = 1, .op_max = 64, .page_bytes = sizeof f->backend.pages[0], .seed = 1,
        .clock = cn_clock_simulated(&f->now_ns),
    };
    assert_int_equal(cn_store_sim_open(&options, &f->store, NULL), CN_OK);
}

// The store closes before the engine, whose memory it may still be writing to.
static void close_store(fixture *f)
{
    if (f->store) f->store->ops->close(f->store);
    f->store = NULL;
}

static void run_until_idle(fixture *f)
{
    for (int round = 0; round < 10000; round++) {
        f->backend.runnable = 2;
        bool worked = cn_engine_poll(f->engine);
        cn_engine_check(f->engine);
        if (f->store) worked |= f->store->ops->poll(f->store, 0);
        const uint32_t heard = hear_all(f, UINT32_MAX);
        if (worked || heard > 0) continue;
        const bool waits = !cn_engine_idle(f->engine) || cn_engine_unsaved_pages(f->engine) > 0;
        if (!waits) return;
        f->now_ns += 1000000;            // only time can help
    }
    fail_msg("the engine does not come to rest");
}

static void random_ask(ask *a, test_rng *rng)
{
    // Few different prompts with common beginnings, so that prefixes are shared all the time.
    const uint32_t prompt_count = 1 + test_rng_below(rng, PROMPT_MAX);
    const uint32_t family = test_rng_below(rng, 3), fork = test_rng_below(rng, PROMPT_MAX);
    init_ask(a, prompt_count, test_rng_below(rng, ANSWER_MAX + 1), 1 + test_rng_below(rng, CHOICES_MAX));
    for (uint32_t i = 0; i < prompt_count; i++) {
        const uint32_t salt = i < fork ? 0 : test_rng_below(rng, 2) ? 0 : fork;
        a->prompt[i] = (int32_t)((i * 7 + family * 13 + salt) % FAKE_VOCAB);
    }
    a->generation.sampling.seed = test_rng_below(rng, 1000);
    a->generation.tokens_min = test_rng_below(rng, 4) ? 0 : test_rng_below(rng, 20);
    a->generation.prompt_logprobs = test_rng_below(rng, 4) == 0;
    a->generation.salt[0] = test_rng_below(rng, 5) == 0;
}

// Until nothing is with the store any more, whatever it does.
static void run_until_quiet(fixture *f)
{
    cn_store_sim_set_faults(f->store, &(cn_store_sim_faults){0});
    for (int still = 0; still < 20;) {
        f->now_ns += 500000000;          // longer than any operation may take, or the store is left alone
        const bool worked = f->store->ops->poll(f->store, 0);
        still = cn_engine_poll(f->engine) || worked ? 0 : still + 1;
    }
    assert_int_equal(cn_engine_unsaved_pages(f->engine), 0);
}

// A store with faults of its own choosing, and one that changes them.
static void random_faults(cn_store *store, test_rng *rng)
{
    cn_store_sim_faults faults = {.delay_ns_max = test_rng_below(rng, 1000000)};
    if (test_rng_below(rng, 4) == 0) faults.delay_ns_max = 3000000000;
    if (test_rng_below(rng, 3) == 0) faults.lose_percent = test_rng_below(rng, 30);
    if (test_rng_below(rng, 3) == 0) faults.fail_percent = test_rng_below(rng, 30);
    if (test_rng_below(rng, 2) == 0) faults.absent_percent = test_rng_below(rng, 30);
    faults.pages_down = test_rng_below(rng, 10) == 0;
    cn_store_sim_set_faults(store, &faults);
    if (test_rng_below(rng, 4) == 0) cn_store_sim_evict(store, test_rng_below(rng, 100));
}

typedef struct totals {
    uint64_t preemptions, cached, cached_host, cached_store, whole, cut_short, late, lost;
} totals;

static void add_totals(totals *t, const cn_metrics *m)
{
    t->preemptions += cn_metrics_get(&m->preemptions);
    t->cached += cn_metrics_get(&m->cached_tokens);
    t->cached_host += cn_metrics_get(&m->cached_host_tokens);
    t->cached_store += cn_metrics_get(&m->cached_store_tokens);
    t->whole += cn_metrics_get(&m->restores_whole);
    t->cut_short += cn_metrics_get(&m->restores_short);
    t->late += cn_metrics_get(&m->restores_late);
    t->lost += cn_metrics_get(&m->write_behind_lost);
}

// Some rounds of one engine in random company; every answer must be the reference's.
static void run_random(fixture *f, test_rng *rng, int answers, totals *sum)
{
    static ask asks[GENERATIONS];
    const uint32_t slots = 1 + test_rng_below(rng, FAKE_SLOTS);
    const uint32_t spare = test_rng_below(rng, test_rng_below(rng, 2) ? 30 : 3);
    const uint32_t pages = (PROMPT_MAX + ANSWER_MAX + 15) / 16 + spare;
    open_engine(f, pages, slots, slots + 16 + test_rng_below(rng, FAKE_STEP - FAKE_SLOTS - 16));
    memset(asks, 0, sizeof asks);
    int done = 0;
    for (int round = 0; done < answers && round < 200000; round++) {
        const uint32_t what = test_rng_below(rng, 20);
        ask *a = &asks[test_rng_below(rng, GENERATIONS)];
        if (what == 0 && !a->active) {
            random_ask(a, rng);
            assert_int_equal(cn_engine_port_submit(f->port, &a->generation, NULL), CN_OK);
        } else if (what == 1 && a->active && test_rng_below(rng, 10) == 0) {
            assert_true(cn_engine_port_cancel(f->port, &a->generation));
        }
        f->backend.runnable = test_rng_below(rng, 3);
        f->backend.io_stuck = test_rng_below(rng, 3) == 0;
        cn_engine_poll(f->engine);
        cn_engine_check(f->engine);
        if (f->store) {
            f->now_ns += test_rng_below(rng, 400000);
            if (test_rng_below(rng, 100) == 0) random_faults(f->store, rng);
            if (test_rng_below(rng, 3)) f->store->ops->poll(f->store, 0);
        }
        hear_all(f, test_rng_below(rng, 40));
        for (int i = 0; i < GENERATIONS; i++) {
            if (!asks[i].last) continue;
            check_answer(&asks[i]);
            memset(&asks[i], 0, sizeof asks[i]);
            done++;
        }
    }
    assert_true(done >= answers);
    f->backend.io_stuck = false;
    run_until_idle(f);
    for (int i = 0; i < GENERATIONS; i++) {
        if (asks[i].active) check_answer(&asks[i]);
    }
    assert_true(cn_engine_idle(f->engine));
    assert_int_equal(cn_metrics_get(&f->metrics.pages_held), 0);
    add_totals(sum, &f->metrics);
}

/* Catches whatever makes an answer depend on its company: a page shared before it is full, lost, or
 * written twice; a preempted sequence that repeats or skips a token; a result taken for another's. */
static void answers_depend_on_nothing_else(void **state)
{
    (void)state;
    static fixture f;
    test_rng rng = test_rng_open("engine");
    totals sum = {0};
    for (int run = 0; run < 800; run++) {
        run_random(&f, &rng, 40, &sum);
        close_engine(&f);
    }
    assert_true(sum.preemptions > 100);      // otherwise the test does not test what it says
    assert_true(sum.cached > 1000);
}

/* The same with host memory and a store that is slow, loses, fails, forgets and goes away, over engines
 * that end and leave their pages to the next. Catches a page that is used before its bytes are there, a
 * wrong page, one that is lost to the pool, and a sequence that waits for ever. */
static void answers_do_not_depend_on_where_pages_were(void **state)
{
    (void)state;
    static fixture f;
    test_rng rng = test_rng_open("engine tiers");
    totals sum = {0};
    for (int run = 0; run < 300; run++) {
        f.host_pages = 1 + test_rng_below(&rng, 150);
        if (test_rng_below(&rng, 4)) open_store(&f);
        for (int life = 0; life < 3; life++) {
            run_random(&f, &rng, 12, &sum);
            // The port's operations come back before the next engine takes it over.
            if (f.store && life < 2) run_until_quiet(&f);
            else close_store(&f);
            close_engine(&f);
            if (!f.store) break;
        }
        close_store(&f);
    }
    assert_true(sum.preemptions > 100 && sum.cached > 1000);
    assert_true(sum.cached_host > 1000 && sum.cached_store > 1000);
    assert_true(sum.whole > 100 && sum.cut_short > 100 && sum.late > 10 && sum.lost > 10);
}

// Catches memory that the engine takes once it is open: whatever it does, it must do without.
static void nothing_is_allocated_after_open(void **state)
{
    (void)state;
    static fixture f;
    static ask asks[GENERATIONS];
    test_rng rng = test_rng_open("engine memory");
    f.host_pages = 40;
    open_store(&f);
    open_engine(&f, 16, 4, 40);
    for (int round = 0; round < 20000; round++) {
        ask *a = &asks[test_rng_below(&rng, GENERATIONS)];
        if (!a->active) {
            random_ask(a, &rng);
            assert_int_equal(cn_engine_port_submit(f.port, &a->generation, NULL), CN_OK);
        }
        f.backend.runnable = 2;
        f.now_ns += 100000;
        const uint64_t before = allocations;
        cn_engine_poll(f.engine);
        assert_int_equal(allocations, before);
        f.store->ops->poll(f.store, 0);
        hear_all(&f, UINT32_MAX);
        for (int i = 0; i < GENERATIONS; i++) {
            if (asks[i].last) memset(&asks[i], 0, sizeof asks[i]);
        }
    }
    assert_true(cn_metrics_get(&f.metrics.cached_host_tokens) > 0);
    assert_true(cn_metrics_get(&f.metrics.cached_store_tokens) > 0);
    run_until_idle(&f);
    run_until_quiet(&f);
    close_store(&f);
    close_engine(&f);
}

// Catches a cache that is not used, or is used across tenants.
static void prefix_is_computed_once(void **state)
{
    (void)state;
    static fixture f;
    static ask first, same, stranger;
    open_engine(&f, FAKE_PAGES, FAKE_SLOTS, 32);
    init_ask(&first, 100, 5, 1);
    init_ask(&same, 100, 5, 1);
    init_ask(&stranger, 100, 5, 1);
    stranger.generation.salt[3] = 1;
    assert_int_equal(cn_engine_port_submit(f.port, &first.generation, NULL), CN_OK);
    // Submitted together: the second waits for the pages that the first is computing.
    assert_int_equal(cn_engine_port_submit(f.port, &same.generation, NULL), CN_OK);
    run_until_idle(&f);
    assert_int_equal(first.cached[0], 0);
    assert_int_equal(same.cached[0], 96);
    assert_int_equal(cn_engine_port_submit(f.port, &stranger.generation, NULL), CN_OK);
    run_until_idle(&f);
    assert_int_equal(stranger.cached[0], 0);
    check_answer(&first);
    check_answer(&same);
    check_answer(&stranger);
    close_engine(&f);
}

// Catches choices that compute the prompt again instead of starting from a copy of its last page.
static void choices_share_the_prompt(void **state)
{
    (void)state;
    static fixture f;
    static ask a;
    open_engine(&f, FAKE_PAGES, FAKE_SLOTS, 64);
    init_ask(&a, 60, 20, 3);
    a.generation.tokens_min = 20;        // choice 0 is still there when the others start
    assert_int_equal(cn_engine_port_submit(f.port, &a.generation, NULL), CN_OK);
    run_until_idle(&f);
    check_answer(&a);
    assert_int_equal(a.cached[1], 59);
    assert_int_equal(a.cached[2], 59);
    close_engine(&f);
}

// Catches a cancelled generation that holds its pages for longer than the round that heard of it.
static void cancel_frees_at_once(void **state)
{
    (void)state;
    static fixture f;
    static ask a;
    open_engine(&f, FAKE_PAGES, FAKE_SLOTS, 64);
    init_ask(&a, 100, 50, 2);
    a.generation.tokens_min = 50;
    assert_int_equal(cn_engine_port_submit(f.port, &a.generation, NULL), CN_OK);
    for (int i = 0; i < 10; i++) {
        f.backend.runnable = 1;
        cn_engine_poll(f.engine);
        hear_all(&f, UINT32_MAX);
    }
    assert_true(cn_metrics_get(&f.metrics.pages_held) > 0);
    assert_true(cn_engine_port_cancel(f.port, &a.generation));
    f.backend.runnable = 0;
    cn_engine_poll(f.engine);
    hear_all(&f, UINT32_MAX);
    assert_true(a.last);
    assert_int_equal(a.finish[0], CN_FINISH_CANCELLED);
    assert_int_equal(cn_metrics_get(&f.metrics.pages_held), 0);
    run_until_idle(&f);
    close_engine(&f);
}

// Catches a fault that reaches the neighbours of the sequence it happened in.
static void faults_stay_where_they_are(void **state)
{
    (void)state;
    static fixture f;
    static ask a, b;
    open_engine(&f, FAKE_PAGES, FAKE_SLOTS, 64);
    init_ask(&a, 20, 30, 1);
    init_ask(&b, 20, 30, 1);
    b.prompt[0] = 5;
    int32_t want_a[ANSWER_MAX], want_b[ANSWER_MAX];
    a.generation.tokens_min = b.generation.tokens_min = 30;
    reference(&a, 0, want_a);
    reference(&b, 0, want_b);
    // A token that only a samples.
    for (int i = 0; i < 30 && f.backend.poison < 0; i++) {
        bool shared = false;
        for (int j = 0; j < 30; j++) shared |= want_b[j] == want_a[i];
        if (!shared) f.backend.poison = want_a[i];
    }
    assert_true(f.backend.poison >= 0);
    assert_int_equal(cn_engine_port_submit(f.port, &a.generation, NULL), CN_OK);
    assert_int_equal(cn_engine_port_submit(f.port, &b.generation, NULL), CN_OK);
    run_until_idle(&f);
    assert_int_equal(a.finish[0], CN_FINISH_ERROR);
    assert_int_equal(a.code[0], CN_E_NUMERIC);
    assert_int_equal(b.finish[0], CN_FINISH_LENGTH);
    check_answer(&b);
    close_engine(&f);
}

// Catches a failed step that leaves its sequences hanging.
static void failed_step_ends_its_sequences(void **state)
{
    (void)state;
    static fixture f;
    static ask a;
    open_engine(&f, FAKE_PAGES, FAKE_SLOTS, 64);
    init_ask(&a, 20, 30, 3);
    f.backend.fail = CN_E_INTERNAL;
    assert_int_equal(cn_engine_port_submit(f.port, &a.generation, NULL), CN_OK);
    run_until_idle(&f);
    assert_int_equal(a.finish[0], CN_FINISH_ERROR);
    assert_int_equal(a.code[0], CN_E_INTERNAL);
    assert_true(a.last);
    check_answer(&a);
    close_engine(&f);
}

// Catches decodes that wait for a long prompt: each step must carry one token of every answer.
static void decodes_go_on_beside_a_prompt(void **state)
{
    (void)state;
    static fixture f;
    static ask a, b;
    open_engine(&f, FAKE_PAGES, FAKE_SLOTS, 24);
    init_ask(&a, 10, 40, 1);
    a.generation.tokens_min = 40;
    init_ask(&b, PROMPT_MAX, 1, 1);
    b.prompt[0] = 9;
    assert_int_equal(cn_engine_port_submit(f.port, &a.generation, NULL), CN_OK);
    while (a.heard[0] < 5) {
        f.backend.runnable = 1;
        cn_engine_poll(f.engine);
        hear_all(&f, UINT32_MAX);
    }
    const uint64_t steps = f.backend.step_count;
    const uint32_t heard = a.heard[0];
    assert_int_equal(cn_engine_port_submit(f.port, &b.generation, NULL), CN_OK);
    while (!b.last) {
        f.backend.runnable = 1;
        cn_engine_poll(f.engine);
        hear_all(&f, UINT32_MAX);
        assert_int_equal(a.heard[0] - heard, f.backend.step_count - steps);
    }
    assert_in_range(f.backend.step_count - steps, (PROMPT_MAX + 22) / 23, (PROMPT_MAX + 22) / 23 + 2);
    run_until_idle(&f);
    close_engine(&f);
}

// Catches bad requests that reach the engine, and texts that do not say what is wrong.
static void refuses_what_cannot_work(void **state)
{
    (void)state;
    static fixture f;
    static ask a;
    cn_err err;
    open_engine(&f, 8, 4, 32);           // 8 pages: 128 tokens, less than the context of 180
    init_ask(&a, 100, 29, 1);
    assert_int_equal(cn_engine_port_submit(f.port, &a.generation, &err), CN_E_CONTEXT);
    assert_string_equal(err.param, "max_tokens");
    assert_string_equal(err.text, "the prompt has 100 tokens and max_tokens is 29, together 129; the "
                                  "context window holds 128");
    init_ask(&a, 100, 28, 1);
    a.prompt[7] = FAKE_VOCAB;
    assert_int_equal(cn_engine_port_submit(f.port, &a.generation, &err), CN_E_INVALID);
    assert_string_equal(err.text, "prompt token 7: 50; must be 0 to 49");
    init_ask(&a, 0, 28, 1);
    assert_int_equal(cn_engine_port_submit(f.port, &a.generation, &err), CN_E_INVALID);
    init_ask(&a, 5, 5, CHOICES_MAX + 1);
    assert_int_equal(cn_engine_port_submit(f.port, &a.generation, &err), CN_E_LIMIT);
    assert_string_equal(err.param, "n");
    assert_int_equal(cn_engine_port_admit(f.port, 64, &err), CN_OK);
    assert_int_equal(cn_engine_port_admit(f.port, 65, &err), CN_E_QUEUE);
    close_engine(&f);
}

// Catches a queue that grows: 64 may wait, and the place of a refused one is free again.
static void queue_is_bounded(void **state)
{
    (void)state;
    static fixture f;
    static ask asks[65];
    open_engine(&f, FAKE_PAGES, 2, 32);
    for (int i = 0; i < 64; i++) {
        init_ask(&asks[i], 20, 3, 1);
        assert_int_equal(cn_engine_port_submit(f.port, &asks[i].generation, NULL), CN_OK);
    }
    init_ask(&asks[64], 20, 3, 1);
    assert_int_equal(cn_engine_port_submit(f.port, &asks[64].generation, NULL), CN_E_QUEUE);
    run_until_idle(&f);
    for (int i = 0; i < 64; i++) check_answer(&asks[i]);
    assert_int_equal(cn_engine_port_submit(f.port, &asks[64].generation, NULL), CN_OK);
    run_until_idle(&f);
    check_answer(&asks[64]);
    close_engine(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_depend_on_nothing_else),
        cmocka_unit_test(answers_do_not_depend_on_where_pages_were),
        cmocka_unit_test(nothing_is_allocated_after_open),
        cmocka_unit_test(prefix_is_computed_once),
        cmocka_unit_test(choices_share_the_prompt),
        cmocka_unit_test(cancel_frees_at_once),
        cmocka_unit_test(faults_stay_where_they_are),
        cmocka_unit_test(failed_step_ends_its_sequences),
        cmocka_unit_test(decodes_go_on_beside_a_prompt),
        cmocka_unit_test(refuses_what_cannot_work),
        cmocka_unit_test(queue_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
