#include "dataplane/nic_sim.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

enum { FRAMES = 8, MTU = 1500 };
static const uint64_t LATENCY_NS = 50000;

typedef struct wire {
    uint64_t now_ns;
    cn_nic *a, *b;
} wire;

static void wire_open(wire *w)
{
    cn_err err;
    *w = (wire){.now_ns = 1000};
    const cn_nic_sim_options options = {cn_clock_simulated(&w->now_ns), LATENCY_NS, FRAMES, MTU};
    assert_int_equal(cn_nic_sim_open(&options, &w->a, &w->b, &err), CN_OK);
}

static void wire_close(wire *w)
{
    assert_int_equal(cn_nic_sim_held(w->a), 0);
    assert_int_equal(cn_nic_sim_held(w->b), 0);
    w->a->ops->close(w->a);
    w->b->ops->close(w->b);
}

static bool send_number(cn_nic *nic, uint32_t number)
{
    cn_frame frame;
    if (!nic->ops->alloc(nic, 0, &frame)) return false;
    assert_int_equal((uintptr_t)frame.private % 64, 0);
    memset(frame.private, 0xee, CN_NIC_PRIVATE_BYTES);
    memcpy(frame.data, &number, sizeof number);
    frame.len = sizeof number;
    nic->ops->send(nic, 0, &frame, 1);
    return true;
}

// Receives one frame and gives it back; -1 if there is none.
static int64_t receive_number(cn_nic *nic)
{
    cn_frame frame;
    uint32_t number;
    if (nic->ops->receive(nic, 0, &frame, 1) == 0) return -1;
    assert_int_equal(frame.len, sizeof number);
    memcpy(&number, frame.data, sizeof number);
    nic->ops->free(nic, &frame);
    return number;
}

// Would catch a frame that arrives early, late, out of order, or at the end that sent it.
static void frames_arrive_after_the_latency(void **state)
{
    (void)state;
    wire w;
    wire_open(&w);
    assert_int_equal(cn_nic_sim_next_ns(w.b), UINT64_MAX);
    assert_true(send_number(w.a, 1));
    w.now_ns += 10;
    assert_true(send_number(w.a, 2));
    assert_int_equal(cn_nic_sim_next_ns(w.b), 1000 + LATENCY_NS);
    w.now_ns = 1000 + LATENCY_NS - 1;
    assert_int_equal(receive_number(w.b), -1);
    w.now_ns++;
    assert_int_equal(receive_number(w.b), 1);
    assert_int_equal(receive_number(w.b), -1);
    w.now_ns += 10;
    assert_int_equal(receive_number(w.b), 2);
    assert_int_equal(receive_number(w.a), -1);
    wire_close(&w);
}

// Would catch a pool that grows, or a loss that is not counted.
static void an_end_without_frames_loses_what_comes(void **state)
{
    (void)state;
    wire w;
    cn_frame held[FRAMES + 1];
    cn_nic_stats stats;
    wire_open(&w);
    for (uint32_t i = 0; i < FRAMES + 3; i++) assert_true(send_number(w.a, i));
    w.now_ns += LATENCY_NS;
    assert_int_equal(w.b->ops->receive(w.b, 0, held, FRAMES + 1), FRAMES);
    assert_int_equal(cn_nic_sim_held(w.b), FRAMES);
    cn_frame none;
    assert_false(w.b->ops->alloc(w.b, 0, &none));
    w.b->ops->stats(w.b, &stats);
    assert_int_equal(stats.rx_frames, FRAMES);
    assert_int_equal(stats.rx_no_frame, 3 + 1);
    w.a->ops->stats(w.a, &stats);
    assert_int_equal(stats.tx_frames, FRAMES + 3);
    for (uint32_t i = 0; i < FRAMES; i++) w.b->ops->free(w.b, &held[i]);
    wire_close(&w);
}

static void a_link_that_is_down_loses_and_recovers(void **state)
{
    (void)state;
    wire w;
    cn_nic_stats stats;
    wire_open(&w);
    cn_nic_sim_set_link(w.b, false);
    assert_true(send_number(w.a, 1));
    w.a->ops->stats(w.a, &stats);
    assert_false(stats.link_up);
    assert_false(stats.gone);
    assert_int_equal(stats.tx_full, 1);
    cn_nic_sim_set_link(w.a, true);
    assert_true(send_number(w.a, 2));
    w.now_ns += LATENCY_NS;
    assert_int_equal(receive_number(w.b), 2);
    cn_nic_sim_remove(w.b);
    w.b->ops->stats(w.b, &stats);
    assert_true(stats.gone);
    w.a->ops->stats(w.a, &stats);
    assert_false(stats.link_up);
    assert_true(send_number(w.b, 3));
    w.now_ns += LATENCY_NS;
    assert_int_equal(receive_number(w.a), -1);
    wire_close(&w);
}

// A device that is back has lost what was on its way, and nothing else.
static void a_device_that_has_gone_comes_back(void **state)
{
    (void)state;
    wire w;
    cn_nic_stats stats;
    cn_err err;
    wire_open(&w);
    assert_true(send_number(w.a, 1));
    cn_nic_sim_remove(w.b);
    w.now_ns += LATENCY_NS;
    assert_int_equal(receive_number(w.b), -1);
    assert_int_equal(w.b->ops->recover(w.b, &err), CN_OK);
    assert_int_equal(receive_number(w.b), -1);
    w.a->ops->stats(w.a, &stats);
    assert_true(stats.link_up);
    for (uint32_t i = 0; i < 2 * FRAMES; i++) {          // no frame was lost with the device
        assert_true(send_number(w.a, i));
        w.now_ns += LATENCY_NS;
        assert_int_equal(receive_number(w.b), (int)i);
    }
    assert_int_equal(w.b->ops->recover(w.b, &err), CN_OK);
    wire_close(&w);
}

// Random sends, receives and time against a queue that is an array.
static void agrees_with_a_queue(void **state)
{
    (void)state;
    enum { STEPS = 100000 };
    static uint64_t due[STEPS];
    uint32_t sent = 0, received = 0;
    test_rng rng = test_rng_open("nic_sim");
    wire w;
    wire_open(&w);
    for (int step = 0; step < STEPS; step++) {
        const uint32_t what = test_rng_below(&rng, 3);
        if (what == 0 && sent - received < FRAMES) {
            due[sent] = w.now_ns + LATENCY_NS;
            assert_true(send_number(w.a, sent++));
        } else if (what == 1) {
            const bool is_there = received < sent && due[received] <= w.now_ns;
            assert_int_equal(receive_number(w.b), is_there ? (int64_t)received : -1);
            received += is_there;
        } else {
            w.now_ns += test_rng_below(&rng, 20000);
        }
    }
    wire_close(&w);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    uint64_t now_ns = 0;
    cn_err err;
    cn_nic *a, *b;
    cn_nic_sim_options options = {cn_clock_simulated(&now_ns), 0, 0, MTU};
    assert_int_equal(cn_nic_sim_open(&options, &a, &b, &err), CN_E_INVALID);
    options = (cn_nic_sim_options){cn_clock_simulated(&now_ns), 0, 1, 67};
    assert_int_equal(cn_nic_sim_open(&options, &a, &b, &err), CN_E_INVALID);
    assert_null(a);
    assert_null(b);
    assert_non_null(strstr(err.text, "mtu 67"));
}

// A closed end: what is sent to it is lost, the other goes on (ASan would see a dangling pointer).
static void an_end_survives_the_other(void **state)
{
    (void)state;
    wire w;
    wire_open(&w);
    assert_true(send_number(w.a, 1));
    w.b->ops->close(w.b);
    assert_true(send_number(w.a, 2));
    w.a->ops->close(w.a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_arrive_after_the_latency),
        cmocka_unit_test(an_end_without_frames_loses_what_comes),
        cmocka_unit_test(a_link_that_is_down_loses_and_recovers),
        cmocka_unit_test(a_device_that_has_gone_comes_back),
        cmocka_unit_test(agrees_with_a_queue),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(an_end_survives_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
