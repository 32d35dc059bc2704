#include "tests/unit/cmocka_all.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/ring.h"
#include "tests/unit/test_rng.h"

enum { MESSAGES = 200000, CAPACITY = 8 };

typedef struct message {
    uint64_t number, copy, inverse;
} message;

static message numbered(uint64_t number) { return (message){number, number, ~number}; }

static bool is_numbered(const message *m, uint64_t number)
{
    return m->number == number && m->copy == number && m->inverse == ~number;
}

// Catches a ring that loses, repeats or reorders, or counts its space wrongly, at any fill.
static void agrees_with_model(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("ring");
    cn_ring *ring;
    uint64_t pushed = 0, popped = 0;
    assert_int_equal(cn_ring_open(5, sizeof(message), &ring), CN_OK);    // rounded up to 8
    for (int step = 0; step < 100000; step++) {
        const message next = numbered(pushed);
        message got;
        assert_int_equal(cn_ring_space(ring), CAPACITY - (pushed - popped));
        switch (test_rng_below(&rng, 3)) {
        case 0:
            assert_int_equal(cn_ring_push(ring, &next), pushed - popped < CAPACITY);
            if (pushed - popped < CAPACITY) pushed++;
            break;
        case 1:
            assert_int_equal(cn_ring_take(ring, &got), popped < pushed);
            if (popped < pushed) assert_true(is_numbered(&got, popped++));
            break;
        default: {
            const message *oldest = cn_ring_peek(ring);
            assert_int_equal(oldest != NULL, popped < pushed);
            if (!oldest) break;
            assert_true(is_numbered(oldest, popped++));
            cn_ring_pop(ring);
        }
        }
    }
    cn_ring_close(ring);
}

static void *produce(void *argument)
{
    cn_ring *ring = argument;
    for (uint64_t i = 0; i < MESSAGES;) {
        const message m = numbered(i);
        if (cn_ring_push(ring, &m)) i++;
        else sched_yield();
    }
    return NULL;
}

// Catches a message that is seen before its bytes are, or a place that is reused too early. Under
// ThreadSanitizer also any access that the memory orders do not cover.
static void two_threads_see_the_same_order(void **state)
{
    (void)state;
    cn_ring *ring;
    pthread_t producer;
    uint64_t wrong = 0;
    assert_int_equal(cn_ring_open(CAPACITY, sizeof(message), &ring), CN_OK);
    assert_int_equal(pthread_create(&producer, NULL, produce, ring), 0);
    for (uint64_t i = 0; i < MESSAGES;) {
        message got;
        if (cn_ring_take(ring, &got)) wrong += !is_numbered(&got, i++);
        else sched_yield();
    }
    pthread_join(producer, NULL);
    assert_int_equal(wrong, 0);
    assert_null(cn_ring_peek(ring));
    cn_ring_close(ring);
}

static void close_accepts_null(void **state)
{
    (void)state;
    cn_ring_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_model),
        cmocka_unit_test(two_threads_see_the_same_order),
        cmocka_unit_test(close_accepts_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
