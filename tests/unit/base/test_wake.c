#include "tests/unit/cmocka_all.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/ring.h"
#include "base/wake.h"

enum { ROUNDS = 20000 };

static const uint64_t LOST_NS = 5000000000u;     // a wait this long has missed its signal

typedef struct side {
    cn_ring *in, *out;
    cn_wake own, *other;
    uint64_t lost;
} side;

static uint64_t now_ns(void)
{
    const cn_clock clock = cn_clock_system();
    return cn_clock_now_ns(&clock);
}

// The loop of every room: poll, announce, poll again, sleep.
static void receive(side *s, uint64_t *message)
{
    while (!cn_ring_take(s->in, message)) {
        cn_wake_prepare(&s->own);
        if (cn_ring_take(s->in, message)) {
            cn_wake_cancel(&s->own);
            return;
        }
        const uint64_t start_ns = now_ns();
        cn_wake_wait(&s->own, LOST_NS);
        s->lost += now_ns() - start_ns >= LOST_NS;
    }
}

static void send(side *s, uint64_t message)
{
    if (!cn_ring_push(s->out, &message)) s->lost++;
    cn_wake_signal(s->other);
}

static void *echo(void *argument)
{
    side *s = argument;
    uint64_t message;
    for (int i = 0; i < ROUNDS; i++) {
        receive(s, &message);
        send(s, message + 1);
    }
    return NULL;
}

// Catches a signal that falls between the last look and the sleep: the round would take 5 seconds.
static void no_signal_is_lost(void **state)
{
    (void)state;
    side here = {0}, there = {0};
    pthread_t thread;
    uint64_t wrong = 0;
    assert_int_equal(cn_ring_open(2, sizeof(uint64_t), &here.in), CN_OK);
    assert_int_equal(cn_ring_open(2, sizeof(uint64_t), &here.out), CN_OK);
    there.in = here.out;
    there.out = here.in;
    assert_int_equal(cn_wake_open(&here.own, NULL), CN_OK);
    assert_int_equal(cn_wake_open(&there.own, NULL), CN_OK);
    here.other = &there.own;
    there.other = &here.own;
    assert_int_equal(pthread_create(&thread, NULL, echo, &there), 0);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t answer = 0;
        send(&here, i);
        receive(&here, &answer);
        wrong += answer != i + 1;
    }
    pthread_join(thread, NULL);
    assert_int_equal(wrong, 0);
    assert_int_equal(here.lost + there.lost, 0);
    cn_wake_close(&here.own);
    cn_wake_close(&there.own);
    cn_ring_close(here.in);
    cn_ring_close(here.out);
}

// After a signal was taken back, the next sleep is a sleep: no busy loop.
static void a_cancelled_signal_is_gone(void **state)
{
    (void)state;
    cn_wake wake;
    assert_int_equal(cn_wake_open(&wake, NULL), CN_OK);
    cn_wake_prepare(&wake);
    cn_wake_signal(&wake);
    cn_wake_cancel(&wake);
    cn_wake_prepare(&wake);
    const uint64_t start_ns = now_ns();
    cn_wake_wait(&wake, 20000000);
    assert_true(now_ns() - start_ns >= 20000000);
    cn_wake_close(&wake);
}

static void a_signal_to_a_sleeper_ends_the_wait(void **state)
{
    (void)state;
    cn_wake wake;
    assert_int_equal(cn_wake_open(&wake, NULL), CN_OK);
    cn_wake_signal(&wake);               // nobody sleeps: nothing is kept
    cn_wake_prepare(&wake);
    cn_wake_signal(&wake);
    cn_wake_signal(&wake);
    const uint64_t start_ns = now_ns();
    cn_wake_wait(&wake, UINT64_MAX);
    assert_true(now_ns() - start_ns < LOST_NS);
    cn_wake_close(&wake);
    cn_wake_close(&wake);                // accepts what is closed
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_signal_is_lost),
        cmocka_unit_test(a_cancelled_signal_is_gone),
        cmocka_unit_test(a_signal_to_a_sleeper_ends_the_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
