/* Bit-identity (docs/DESIGN.md, idea 3): the tokens and logprobs of an answer are the same bits alone
 * and in random company, on one thread and on two, however its prompt was cut into steps, with and
 * without cached pages, with its place lost and found again, with pages that come back from host memory
 * or from a store that an earlier engine filled, and that is slow, loses and forgets. On every path that
 * the machine has, and on groups of 1, 2, 4 and 8 ranks, which share pages where their bits are the same. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#if defined(CN_TEST_CUDA)
#include "kernels/cuda/cuda.h"
#define TEST_OPS CN_TEST_CUDA
#else
#include "kernels/cpu/cpu.h"
#define TEST_OPS cn_cpu_ops
#endif
#include "scheduler/engine.h"
#include "state/store_sim.h"
#include "tests/identity/random_model.h"

enum { PROMPT_MAX = 330, ANSWER_MAX = 70, ASKS = 10, CHOICES = 2, TOP = 6, DELAY_NS_MAX = 2000000 };
#if defined(CN_TEST_CUDA)
enum { CASES = 1 };              // a fiber per CUDA thread takes its time
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CASES = 10 };             // there a case takes ten times as long
#else
enum { CASES = 30 };
#endif

typedef struct heard_token {
    int32_t token;
    float logprob;
    uint32_t top_count;
    cn_logprob top[TOP];
} heard_token;

typedef struct ask {
    cn_generation generation;
    int32_t prompt[PROMPT_MAX];
    int32_t output[CHOICES * ANSWER_MAX];
    int32_t bias_ids[2];
    float bias_values[2];
    heard_token prompt_tokens[PROMPT_MAX];
    heard_token tokens[CHOICES][ANSWER_MAX];
    uint32_t token_count[CHOICES];
    uint32_t prompt_count;
    bool last, failed;
} ask;

// Of the backends that are opened next.
static struct {
    uint32_t ranks;
    bool drawn;                  // anew for each engine
    cn_numerics numerics;
} group = {.ranks = 1};

typedef struct world {
    cn_backend *backend;
    cn_metrics metrics;
    cn_wake wake;
    cn_engine *engine;
    cn_engine_port *port;
    cn_store *store;             // NULL: none; of the caller
} world;

// Where pages may be beside the device.
typedef struct elsewhere {
    cn_store *store;             // NULL: none
    uint64_t host_bytes;
} elsewhere;

static void open_world(world *w, const random_model *model, const char *path, uint32_t threads,
                       uint32_t pages, uint32_t slots, uint32_t step_tokens, elsewhere other)
{
    cn_err err = {0};
    memset(w, 0, sizeof *w);
    w->store = other.store;
    cn_metrics_init(&w->metrics);
    assert_int_equal(cn_wake_open(&w->wake, &err), CN_OK);
    const cn_backend_options options = {.rank_count = group.ranks, .numerics = group.numerics,
                                        .thread_count = threads, .path = path, .wake = &w->wake};
    if (TEST_OPS.open(&options, &w->backend, &err) != CN_OK) fail_msg("%s", err.text);
    if (TEST_OPS.model_load(w->backend, &model->spec, NULL, NULL, &err) != CN_OK) fail_msg("%s", err.text);
    const cn_engine_options engine = {
        .backend = w->backend, .page_count = pages, .slot_count = slots, .step_tokens = step_tokens,
        .context_tokens_max = PROMPT_MAX + ANSWER_MAX, .vocab_count = model->spec.vocab_count,
        .queue_max = 64, .choices_max = CHOICES, .port_count = 1, .index_seed = 1,
        .clock = cn_clock_system(), .metrics = &w->metrics, .wake = &w->wake,
        .host_bytes = other.host_bytes, .tenant_percent = 50,
        .store = other.store ? cn_store_port_at(other.store, 0) : NULL,
    };
    if (cn_engine_open(&engine, &w->engine, &err) != CN_OK) fail_msg("%s", err.text);
    w->port = cn_engine_port_at(w->engine, 0);
}

static void close_world(world *w)
{
    cn_backend *backend = w->backend;
    backend->ops->close(backend);
    cn_engine_close(w->engine);
    cn_wake_close(&w->wake);
}

static void note(heard_token *to, const cn_event *event)
{
    to->token = event->token;
    to->logprob = event->logprob;
    to->top_count = event->top_count;
    assert_in_range(event->top_count, 0, TOP);
    memcpy(to->top, event->top, event->top_count * sizeof(cn_logprob));
}

static void hear(const cn_event *event)
{
    ask *a = event->generation->user;
    if (event->kind == CN_EVENT_TOKEN) {
        note(&a->tokens[event->choice][a->token_count[event->choice]++], event);
    } else if (event->kind == CN_EVENT_PROMPT) {
        assert_int_equal(event->position, a->prompt_count + 1);
        note(&a->prompt_tokens[a->prompt_count++], event);
    } else if (event->kind == CN_EVENT_FINISHED) {
        a->failed |= event->finish == CN_FINISH_ERROR;
        a->last |= event->last;
    }
}

// One round of the engine and all its events; sleeps if there is nothing to do.
static void turn(world *w)
{
    cn_wake_prepare(&w->wake);
    bool worked = cn_engine_poll(w->engine);
    if (w->store) worked |= w->store->ops->poll(w->store, 0);
    if (worked) cn_wake_cancel(&w->wake);
    else cn_wake_wait(&w->wake, w->store ? 100000u : 1000000000u);   // the store has no thread here
    for (const cn_event *event; (event = cn_engine_port_next(w->port));) {
        hear(event);
        cn_engine_port_done(w->port);
    }
}

static void random_sampling(ask *a, test_rng *rng, uint32_t vocab)
{
    cn_sampling *s = &a->generation.sampling;
    *s = (cn_sampling){.top_p = 1, .repetition_penalty = 1, .seed = test_rng_u64(rng)};
    if (test_rng_below(rng, 3)) s->temperature = 0.5f + (float)test_rng_below(rng, 100) / 50.0f;
    if (test_rng_below(rng, 2)) s->top_k = 1 + test_rng_below(rng, vocab);
    if (test_rng_below(rng, 2)) s->top_p = 0.1f + (float)test_rng_below(rng, 90) / 100.0f;
    if (test_rng_below(rng, 3) == 0) s->min_p = (float)test_rng_below(rng, 30) / 100.0f;
    if (test_rng_below(rng, 3) == 0) s->repetition_penalty = 1.3f;
    if (test_rng_below(rng, 3) == 0) s->presence_penalty = 0.7f;
    if (test_rng_below(rng, 3) == 0) s->frequency_penalty = 0.4f;
    if (test_rng_below(rng, 2)) s->logprob_count = 1 + test_rng_below(rng, TOP);
    if (test_rng_below(rng, 3) == 0) {
        a->bias_ids[0] = (int32_t)test_rng_below(rng, vocab);
        a->bias_ids[1] = (int32_t)test_rng_below(rng, vocab);
        a->bias_values[0] = 3.5f;
        a->bias_values[1] = -100.0f;
        s->bias_ids = a->bias_ids;
        s->bias_values = a->bias_values;
        s->bias_count = 2;
    }
}

static struct {
    uint64_t preemptions, device, host, store, cut_short;
} sum;                           // of all paths so far; tokens by the tier that had them

// Prompts with common beginnings, so that pages are shared; long ones cross a split of attention.
static void random_ask(ask *a, test_rng *rng, uint32_t vocab)
{
    const uint32_t prompt_count = 1 + test_rng_below(rng, test_rng_below(rng, 3) ? 90 : PROMPT_MAX);
    const uint32_t family = test_rng_below(rng, 2), own = test_rng_below(rng, PROMPT_MAX);
    memset(a, 0, sizeof *a);
    for (uint32_t i = 0; i < prompt_count; i++) {
        a->prompt[i] = (int32_t)((i < own ? i * 31 + family * 17 : test_rng_below(rng, vocab)) % vocab);
    }
    a->generation = (cn_generation){
        .prompt = a->prompt, .prompt_count = prompt_count, .output = a->output,
        .choice_count = 1 + test_rng_below(rng, CHOICES), .tokens_max = test_rng_below(rng, ANSWER_MAX + 1),
        .prompt_logprobs = test_rng_below(rng, 4) == 0,
    };
    random_sampling(a, rng, vocab);
}

static void forget(ask *a)
{
    memset(a->output, 0, sizeof a->output);
    memset(a->prompt_tokens, 0, sizeof a->prompt_tokens);
    memset(a->tokens, 0, sizeof a->tokens);
    memset(a->token_count, 0, sizeof a->token_count);
    a->prompt_count = 0;
    a->last = a->failed = false;
    a->generation.user = a;
}

static void submit(world *w, ask *a)
{
    cn_err err = {0};
    if (cn_engine_port_submit(w->port, &a->generation, &err) != CN_OK) fail_msg("%s", err.text);
}

static void assert_same(const ask *a, const ask *b)
{
    assert_false(a->failed || b->failed);
    assert_memory_equal(a->token_count, b->token_count, sizeof a->token_count);
    assert_memory_equal(a->tokens, b->tokens, sizeof a->tokens);
    assert_int_equal(a->prompt_count, b->prompt_count);
    assert_memory_equal(a->prompt_tokens, b->prompt_tokens, sizeof a->prompt_tokens);
}

// Each alone, on one thread, its prompt in one piece, nothing cached before it.
static void run_alone(ask *asks, const random_model *model, const char *path)
{
    world w;
    open_world(&w, model, path, 1, 128, 4, PROMPT_MAX + 64, (elsewhere){0});
    for (int i = 0; i < ASKS; i++) {
        forget(&asks[i]);
        asks[i].generation.salt[0] = (uint8_t)(i + 1);
        submit(&w, &asks[i]);
        while (!asks[i].last) turn(&w);
    }
    close_world(&w);
}

// Until everything is saved, and every answer is in that may still be under way.
static void let_store_finish(world *w)
{
    const cn_clock clock = cn_clock_system();
    cn_store_sim_set_faults(w->store, &(cn_store_sim_faults){0});
    while (cn_metrics_get(&w->metrics.write_behind_pages) > 0) turn(w);
    const uint64_t end_ns = cn_clock_now_ns(&clock) + DELAY_NS_MAX + 1000000;
    while (cn_clock_now_ns(&clock) < end_ns) turn(w);
}

static void add_counts(const world *w)
{
    const cn_metrics *m = &w->metrics;
    sum.preemptions += cn_metrics_get(&m->preemptions);
    sum.device += cn_metrics_get(&m->cached_tokens);
    sum.host += cn_metrics_get(&m->cached_host_tokens);
    sum.store += cn_metrics_get(&m->cached_store_tokens);
    sum.cut_short += cn_metrics_get(&m->restores_short) + cn_metrics_get(&m->restores_late);
}

// All together, in random order and at random times, with little of everything.
static void run_together(ask *asks, const random_model *model, const char *path, test_rng *rng,
                         elsewhere other)
{
    world w;
    int next = 0, order[ASKS], left = ASKS;
    const uint32_t slots = 2 + test_rng_below(rng, 7);
    const uint32_t pages = (PROMPT_MAX + ANSWER_MAX + 15) / 16 + test_rng_below(rng, 4);
    if (group.drawn) group.ranks = 1u << test_rng_below(rng, 4);
    open_world(&w, model, path, 1 + test_rng_below(rng, 3), pages, slots,
               slots + 16 + test_rng_below(rng, 100), other);
    for (int i = 0; i < ASKS; i++) order[i] = i;
    for (int i = ASKS - 1; i > 0; i--) {
        const int j = (int)test_rng_below(rng, (uint32_t)i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    while (left > 0) {
        if (next < ASKS && (cn_engine_idle(w.engine) || test_rng_below(rng, 3) == 0)) {
            ask *a = &asks[order[next++]];
            forget(a);
            memset(a->generation.salt, 0, sizeof a->generation.salt);
            submit(&w, a);
        }
        turn(&w);
        left = ASKS - next;
        for (int i = 0; i < next; i++) left += !asks[order[i]].last;
    }
    assert_true(cn_engine_idle(w.engine));
    cn_engine_check(w.engine);
    if (w.store) let_store_finish(&w);
    add_counts(&w);
    close_world(&w);
}

/* One engine after another, each with little on the device, over host memory or a store that outlives
 * them: the first computes, and what it left is found by the next. */
static void run_restored(ask *alone, ask *asks, const random_model *model, const char *path, test_rng *rng,
                         uint64_t page_bytes)
{
    const bool stored = test_rng_below(rng, 2);
    elsewhere other = {.host_bytes = page_bytes * (16 + test_rng_below(rng, 150))};
    if (stored) {
        const cn_store_sim_options options = {.port_count = 1, .op_max = 64, .page_bytes = page_bytes,
                                              .seed = test_rng_u64(rng), .clock = cn_clock_system()};
        assert_int_equal(cn_store_sim_open(&options, &other.store, NULL), CN_OK);
    }
    for (int life = 0; life < 2; life++) {
        if (stored && life == 1 && test_rng_below(rng, 2)) {
            cn_store_sim_evict(other.store, test_rng_below(rng, 30));
            cn_store_sim_set_faults(other.store, &(cn_store_sim_faults){
                .delay_ns_max = DELAY_NS_MAX, .absent_percent = test_rng_below(rng, 10),
                .fail_percent = test_rng_below(rng, 4) == 0});
        }
        run_together(asks, model, path, rng, other);
        for (int j = 0; j < ASKS; j++) assert_same(&alone[j], &asks[j]);
    }
    if (stored) other.store->ops->close(other.store);
}

static uint64_t page_bytes_of(const random_model *model, const char *path)
{
    cn_kv_info info;
    cn_backend *backend;
    const cn_backend_options options = {.thread_count = 1, .path = path};
    assert_int_equal(TEST_OPS.open(&options, &backend, NULL), CN_OK);
    assert_int_equal(TEST_OPS.model_load(backend, &model->spec, NULL, NULL, NULL), CN_OK);
    TEST_OPS.kv_info(backend, &info);
    TEST_OPS.close(backend);
    return info.page_bytes;
}

static void compare_once(const random_model *model, const char *path, test_rng *rng)
{
    static ask alone[ASKS], together[ASKS];
    for (int j = 0; j < ASKS; j++) random_ask(&alone[j], rng, model->spec.vocab_count);
    memcpy(together, alone, sizeof together);
    for (int j = 0; j < ASKS; j++) {
        together[j].generation.prompt = together[j].prompt;
        together[j].generation.output = together[j].output;
    }
    run_alone(alone, model, path);
    run_together(together, model, path, rng, (elsewhere){0});
    for (int j = 0; j < ASKS; j++) assert_same(&alone[j], &together[j]);
    run_restored(alone, together, model, path, rng, page_bytes_of(model, path));
}

static void compare_on(const char *path)
{
    cn_backend *probe = NULL;
    const cn_backend_options options = {.thread_count = 1, .path = path};
    if (TEST_OPS.open(&options, &probe, NULL) != CN_OK) {
        print_message("this machine has no path %s\n", path ? path : TEST_OPS.name);
        skip();
    }
    TEST_OPS.close(probe);
    test_rng rng = test_rng_open(path ? path : TEST_OPS.name);
    for (int i = 0; i < CASES; i++) {
        random_model model;
        random_model_open(&model, &rng, test_rng_below(&rng, 2) ? CN_DTYPE_BF16 : CN_DTYPE_F32);
        compare_once(&model, path, &rng);
        random_model_close(&model);
    }
}

#if defined(CN_TEST_CUDA)
static void on_cuda_emu(void **state) { (void)state; compare_on(NULL); }
#else
static void on_avx512_bf16(void **state) { (void)state; compare_on("avx512-bf16"); }
static void on_avx512(void **state) { (void)state; compare_on("avx512"); }
static void on_avx2(void **state) { (void)state; compare_on("avx2"); }
static void on_portable(void **state) { (void)state; compare_on("portable"); }

// Under shard_invariant each engine has another number of ranks than the one whose pages it finds.
static void on_groups(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("groups");
    for (int i = 0; i < CASES / 2; i++) {
        random_model model;
        const bool invariant = i % 2 == 0;
        group.numerics = invariant ? CN_NUMERICS_SHARD_INVARIANT : CN_NUMERICS_PER_RANK;
        group.ranks = invariant ? 1 : 2u << test_rng_below(&rng, 3);
        group.drawn = invariant;
        random_model_open_as(&model, &rng, test_rng_below(&rng, 2) ? CN_DTYPE_BF16 : CN_DTYPE_F32,
                             RANDOM_MODEL_SHAPES + test_rng_below(&rng, RANDOM_MODEL_SHARED_SHAPES));
        compare_once(&model, NULL, &rng);
        random_model_close(&model);
    }
}
#endif

#if !defined(CN_TEST_CUDA)
// Otherwise the tests before do not test what they say.
static void it_was_not_easy(void **state)
{
    (void)state;
    assert_true(sum.preemptions > 0 && sum.device > 0 && sum.host > 0 && sum.store > 0);
    assert_true(sum.cut_short > 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#if defined(CN_TEST_CUDA)
        cmocka_unit_test(on_cuda_emu),
#else
        cmocka_unit_test(on_avx512_bf16),
        cmocka_unit_test(on_avx512),
        cmocka_unit_test(on_avx2),
        cmocka_unit_test(on_portable),
        cmocka_unit_test(on_groups),
        cmocka_unit_test(it_was_not_easy),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
