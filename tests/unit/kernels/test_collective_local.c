#include "kernels/collective.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

/* Ranks are threads that draw the same calls from the same seed. An assert of cmocka may only be made by
 * the test's own thread, so a rank counts what went wrong. A wait that never ends is ended by the
 * alarm. */

enum { RANKS_MAX = 9, FLOATS_MAX = 700, CALLS = 400, ALARM_S = 600 };

static const cn_collective_ops *const ops = &cn_collective_local_ops;

typedef struct world world;

typedef struct rank {
    world *world;
    cn_collective *end;
    pthread_t thread;
    uint32_t done;                   // calls that returned CN_OK
    uint32_t sent[RANKS_MAX], received[RANKS_MAX];   // messages, by the other side
    uint32_t wrong;
} rank;

struct world {
    uint64_t seed;
    uint32_t rank_count, call_count;
    rank ranks[RANKS_MAX];
    _Atomic uint32_t progress;       // calls of all ranks so far
    uint32_t missing;                // a rank that makes no more calls after missing_after, or none
    uint32_t missing_after;
};

static void open_world(world *w, test_rng *rng, uint32_t rank_count, uint32_t call_count)
{
    cn_collective *ends[RANKS_MAX];
    *w = (world){.seed = test_rng_u64(rng), .rank_count = rank_count, .call_count = call_count,
                 .missing = RANKS_MAX};
    assert_int_equal(ops->open(rank_count, ends, NULL), CN_OK);
    for (uint32_t r = 0; r < rank_count; r++) {
        w->ranks[r] = (rank){.world = w, .end = ends[r]};
        assert_int_equal(ends[r]->rank, r);
        assert_int_equal(ends[r]->rank_count, rank_count);
    }
}

static void start(world *w, void *(*run)(void *))
{
    for (uint32_t r = 0; r < w->rank_count; r++) {
        assert_int_equal(pthread_create(&w->ranks[r].thread, NULL, run, &w->ranks[r]), 0);
    }
}

static void finish(world *w)
{
    for (uint32_t r = 0; r < w->rank_count; r++) {
        pthread_join(w->ranks[r].thread, NULL);
        ops->close(w->ranks[r].end);
    }
    for (uint32_t r = 0; r < w->rank_count; r++) assert_int_equal(w->ranks[r].wrong, 0);
}

// What rank `r` brings to a call at index i: of every size, so that the order of a sum shows.
static float value_of(uint64_t call, uint32_t r, size_t i)
{
    uint64_t state = call * 1000003 + r * 10007 + i;
    const cn_random random = cn_random_seeded(&state);
    const uint64_t bits = cn_random_u64(&random);
    const float value = (float)(bits >> 40) * 0x1p-24f - 0.5f;
    return bits & 1 ? value * 4096.0f : value;
}

// The tree as the header describes it, by recursion: the left half is the largest power of two.
static float tree_sum(uint64_t call, uint32_t begin, uint32_t end, size_t i)
{
    uint32_t left = 1;
    if (end - begin == 1) return value_of(call, begin, i);
    while (left * 2 < end - begin) left *= 2;
    return tree_sum(call, begin, begin + left, i) + tree_sum(call, begin + left, end, i);
}

// ---- calls of the whole group

static cn_code sum_once(rank *me, uint64_t call, size_t count)
{
    float *data = malloc((count + 1) * sizeof *data);
    for (size_t i = 0; i < count; i++) data[i] = value_of(call, me->end->rank, i);
    data[count] = 7.0f;
    const cn_code code = ops->all_reduce(me->end, data, count);
    for (size_t i = 0; i < count && code == CN_OK; i++) {
        me->wrong += data[i] != tree_sum(call, 0, me->end->rank_count, i);
    }
    me->wrong += data[count] != 7.0f;
    free(data);
    return code;
}

static cn_code spread_once(rank *me, uint64_t call, size_t count, uint32_t root)
{
    float *data = malloc((count + 1) * sizeof *data);
    for (size_t i = 0; i < count; i++) data[i] = value_of(call, me->end->rank, i);
    const cn_code code = ops->broadcast(me->end, root, data, count * sizeof *data);
    for (size_t i = 0; i < count && code == CN_OK; i++) me->wrong += data[i] != value_of(call, root, i);
    free(data);
    return code;
}

static cn_code collect_once(rank *me, uint64_t call, size_t count, uint32_t root)
{
    const uint32_t ranks = me->end->rank_count;
    float *part = malloc((count + 1) * sizeof *part);
    float *whole = me->end->rank == root ? malloc((count * ranks + 1) * sizeof *whole) : NULL;
    for (size_t i = 0; i < count; i++) part[i] = value_of(call, me->end->rank, i);
    const cn_code code = ops->gather(me->end, root, part, count * sizeof *part, whole);
    for (uint32_t r = 0; r < ranks && whole && code == CN_OK; r++) {
        for (size_t i = 0; i < count; i++) me->wrong += whole[r * count + i] != value_of(call, r, i);
    }
    free(part);
    free(whole);
    return code;
}

static cn_code random_call(rank *me, test_rng *rng, uint64_t call)
{
    const uint32_t kind = test_rng_below(rng, 4), root = test_rng_below(rng, me->end->rank_count);
    const size_t count = test_rng_below(rng, test_rng_below(rng, 2) ? FLOATS_MAX : 20);
    atomic_fetch_add_explicit(&me->world->progress, 1, memory_order_relaxed);
    switch (kind) {
    case 0: return sum_once(me, call, count);
    case 1: return spread_once(me, call, count, root);
    case 2: return collect_once(me, call, count, root);
    default: return ops->barrier(me->end);
    }
}

static void *make_calls(void *argument)
{
    rank *me = argument;
    test_rng rng = {me->world->seed};
    for (uint32_t call = 0; call < me->world->call_count; call++) {
        if (me->end->rank == me->world->missing && call == me->world->missing_after) break;
        if (random_call(me, &rng, call) != CN_OK) break;
        me->done++;
    }
    return NULL;
}

/* Catches another order of a sum, parts at the wrong place, stretches that overlap or leave gaps, and a
 * call that returns while others still read what it was given (with the address sanitizer). */
static void calls_of_the_group_agree_with_their_definition(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("collective");
    for (uint32_t ranks = 1; ranks <= RANKS_MAX; ranks++) {
        world w;
        open_world(&w, &rng, ranks, CALLS);
        start(&w, make_calls);
        finish(&w);
        for (uint32_t r = 0; r < ranks; r++) assert_int_equal(w.ranks[r].done, CALLS);
    }
}

/* Otherwise the test before could not tell one order from another. */
static void the_order_of_a_sum_shows(void **state)
{
    uint32_t differs = 0;
    (void)state;
    for (size_t i = 0; i < FLOATS_MAX; i++) {
        float ascending = value_of(1, 0, i);
        for (uint32_t r = 1; r < 8; r++) ascending += value_of(1, r, i);
        differs += ascending != tree_sum(1, 0, 8, i);
    }
    assert_true(differs > 10);
}

// ---- messages

static cn_code random_message(rank *me, test_rng *rng, uint64_t call)
{
    const uint32_t ranks = me->end->rank_count, from = test_rng_below(rng, ranks);
    const uint32_t to = (from + 1 + test_rng_below(rng, ranks - 1)) % ranks;
    const size_t count = test_rng_below(rng, FLOATS_MAX);
    const bool sends = me->end->rank == from;
    if (!sends && me->end->rank != to) return CN_OK;
    atomic_fetch_add_explicit(&me->world->progress, 1, memory_order_relaxed);
    float *data = malloc((count + 1) * sizeof *data);
    for (size_t i = 0; i < count; i++) data[i] = sends ? value_of(call, from, i) : 0.0f;
    const cn_code code = sends ? ops->send(me->end, to, data, count * sizeof *data)
                               : ops->receive(me->end, from, data, count * sizeof *data);
    for (size_t i = 0; i < count && code == CN_OK; i++) me->wrong += data[i] != value_of(call, from, i);
    free(data);
    if (code == CN_OK) ++*(sends ? &me->sent[to] : &me->received[from]);
    return code;
}

static void *exchange_messages(void *argument)
{
    rank *me = argument;
    test_rng rng = {me->world->seed};
    for (uint32_t call = 0; call < me->world->call_count; call++) {
        if (me->end->rank == me->world->missing && call == me->world->missing_after) break;
        if (random_message(me, &rng, call) != CN_OK) break;
    }
    return NULL;
}

static void assert_both_sides_agree(const world *w, uint32_t *total)
{
    *total = 0;
    for (uint32_t a = 0; a < w->rank_count; a++) {
        for (uint32_t b = 0; b < w->rank_count; b++) {
            assert_int_equal(w->ranks[a].sent[b], w->ranks[b].received[a]);
            *total += w->ranks[a].sent[b];
        }
    }
}

/* Catches messages that overtake or replace one another, or that arrive in part. */
static void messages_arrive_in_their_order(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("messages");
    for (uint32_t ranks = 2; ranks <= RANKS_MAX; ranks += 2) {
        world w;
        uint32_t total;
        open_world(&w, &rng, ranks, CALLS);
        start(&w, exchange_messages);
        finish(&w);
        assert_both_sides_agree(&w, &total);
        assert_int_equal(total, CALLS);
    }
}

// ---- aborting

// Runs until `after` calls were begun, or where a rank is missing until nobody can go on, and aborts.
static void abort_in_the_middle(world *w, test_rng *rng, void *(*run)(void *))
{
    const uint32_t after = test_rng_below(rng, 2000);
    if (test_rng_below(rng, 2)) {
        w->missing = test_rng_below(rng, w->rank_count);
        w->missing_after = test_rng_below(rng, 100);
    }
    start(w, run);
    if (w->missing < w->rank_count) pthread_join(w->ranks[w->missing].thread, NULL);
    else while (atomic_load_explicit(&w->progress, memory_order_relaxed) < after) sched_yield();
    ops->abort(w->ranks[test_rng_below(rng, w->rank_count)].end);
    for (uint32_t r = 0; r < w->rank_count; r++) {
        if (r != w->missing) pthread_join(w->ranks[r].thread, NULL);
    }
    for (uint32_t r = 0; r < w->rank_count; r++) {
        float data[4] = {0};
        assert_int_equal(w->ranks[r].wrong, 0);
        assert_int_equal(ops->all_reduce(w->ranks[r].end, data, 4), CN_E_IO);
        assert_int_equal(ops->barrier(w->ranks[r].end), CN_E_IO);
        assert_int_equal(ops->send(w->ranks[r].end, (r + 1) % w->rank_count, data, 4), CN_E_IO);
        assert_int_equal(ops->receive(w->ranks[r].end, (r + 1) % w->rank_count, data, 4), CN_E_IO);
    }
    for (uint32_t r = 0; r < w->rank_count; r++) ops->close(w->ranks[r].end);
}

/* Catches a rank that waits on, a call that some ranks take for done and others do not, and memory that
 * is freed after an abort while a slower rank still reads it (with the address sanitizer). */
static void an_abort_ends_a_call_on_all_ranks_or_on_none(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("abort");
    for (int i = 0; i < 60; i++) {
        world w;
        open_world(&w, &rng, 2 + test_rng_below(&rng, 7), UINT32_MAX);
        abort_in_the_middle(&w, &rng, make_calls);
        for (uint32_t r = 1; r < w.rank_count; r++) {
            assert_int_equal(w.ranks[r].done, w.ranks[0].done);
        }
    }
}

/* Catches a message that one side takes for sent and the other for lost. */
static void an_abort_ends_a_message_on_both_sides_or_on_none(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("abort of messages");
    for (int i = 0; i < 60; i++) {
        world w;
        uint32_t total;
        open_world(&w, &rng, 2 + test_rng_below(&rng, 7), UINT32_MAX);
        abort_in_the_middle(&w, &rng, exchange_messages);
        assert_both_sides_agree(&w, &total);
    }
}

// ---- open and close

static void impossible_groups_are_refused(void **state)
{
    cn_collective *ends[CN_COLLECTIVE_RANKS_MAX + 1];
    cn_err err;
    (void)state;
    assert_int_equal(ops->open(0, ends, &err), CN_E_LIMIT);
    assert_string_equal(err.text, "collective: 0 ranks; must be 1 to 64");
    assert_int_equal(ops->open(CN_COLLECTIVE_RANKS_MAX + 1, ends, &err), CN_E_LIMIT);
    assert_string_equal(err.text, "collective: 65 ranks; must be 1 to 64");
    assert_int_equal(ops->open(CN_COLLECTIVE_RANKS_MAX, ends, &err), CN_OK);
    for (uint32_t r = 0; r < CN_COLLECTIVE_RANKS_MAX; r++) ops->close(ends[r]);
    ops->close(NULL);
}

int main(void)
{
    alarm(ALARM_S);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_of_the_group_agree_with_their_definition),
        cmocka_unit_test(the_order_of_a_sum_shows),
        cmocka_unit_test(messages_arrive_in_their_order),
        cmocka_unit_test(an_abort_ends_a_call_on_all_ranks_or_on_none),
        cmocka_unit_test(an_abort_ends_a_message_on_both_sides_or_on_none),
        cmocka_unit_test(impossible_groups_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
