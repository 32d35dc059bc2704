#include "dataplane/nic_lossy.h"

#include <string.h>

#include "dataplane/nic_sim.h"
#include "tests/unit/cmocka_all.h"

enum { POOL = 4096, SENT = 20000, FRAME_BYTES = 64, MILLION = 1000000 };
static const uint64_t DELAY_NS = 1000000, GAP_NS = 1000;

// What came out of the far end, for SENT numbered frames that went in, GAP_NS apart.
typedef struct outcome {
    uint32_t count;                          // frames that came
    uint32_t numbers[2 * SENT];
    uint64_t late_ns_max;
    uint32_t damaged_bits;
    uint8_t times[SENT];                     // how often each came
    cn_nic_lossy_counts counts;
} outcome;

static void send_number(cn_nic *nic, uint32_t number)
{
    cn_frame frame;
    assert_true(nic->ops->alloc(nic, 0, &frame));
    memset(frame.data, 0, FRAME_BYTES);
    memcpy(frame.data, &number, sizeof number);
    frame.len = FRAME_BYTES;
    nic->ops->send(nic, 0, &frame, 1);
}

static void look_at(outcome *o, const cn_frame *frame, uint64_t now_ns)
{
    uint32_t number;
    memcpy(&number, frame->data, sizeof number);
    for (uint32_t i = sizeof number; i < FRAME_BYTES; i++) {
        o->damaged_bits += (uint32_t)__builtin_popcount(frame->data[i]);
    }
    if (number >= SENT) return;              // the damage is in the number
    o->numbers[o->count++] = number;
    o->times[number]++;
    const uint64_t sent_ns = number * GAP_NS;
    if (now_ns - sent_ns > o->late_ns_max) o->late_ns_max = now_ns - sent_ns;
}

/* Sends through a lossy end; `rates` act on what it sends, or on what it receives. */
static void run(uint64_t seed, cn_nic_lossy_rates rates, bool on_receive, outcome *o)
{
    uint64_t now_ns = 0;
    cn_err err;
    cn_nic *a, *b, *lossy;
    cn_frame frames[CN_NIC_BURST_MAX];
    memset(o, 0, sizeof *o);
    const cn_nic_sim_options wire = {cn_clock_simulated(&now_ns), 0, POOL, 1500};
    assert_int_equal(cn_nic_sim_open(&wire, &a, &b, &err), CN_OK);
    cn_nic_lossy_options options = {on_receive ? b : a, wire.clock, seed, {0}, {0}, DELAY_NS};
    *(on_receive ? &options.received : &options.sent) = rates;
    assert_int_equal(cn_nic_lossy_open(&options, &lossy, &err), CN_OK);
    cn_nic *from = on_receive ? a : lossy, *to = on_receive ? lossy : b;
    for (uint32_t i = 0; i < SENT || now_ns < SENT * GAP_NS + 2 * DELAY_NS; i++, now_ns += GAP_NS) {
        if (i < SENT) send_number(from, i);
        from->ops->receive(from, 0, frames, CN_NIC_BURST_MAX);   // lets go what waits
        const uint32_t got = to->ops->receive(to, 0, frames, CN_NIC_BURST_MAX);
        for (uint32_t k = 0; k < got; k++) {
            look_at(o, &frames[k], now_ns);
            to->ops->free(to, &frames[k]);
        }
    }
    cn_nic_lossy_counted(lossy, &o->counts);
    assert_int_equal(cn_nic_lossy_next_ns(lossy), UINT64_MAX);
    assert_int_equal(cn_nic_sim_held(a), 0);                     // nothing leaks
    assert_int_equal(cn_nic_sim_held(b), 0);
    from->ops->close(from);
    to->ops->close(to);
}

/* Six standard deviations of a binomial count around its mean: false about twice in 10^9 seeds. */
static void assert_near(uint64_t count, double rate)
{
    const double mean = SENT * rate, variance = SENT * rate * (1 - rate);
    const double off = (double)count - mean;
    assert_true(off * off <= 36 * variance);
}

static uint32_t out_of_order(const outcome *o)
{
    uint32_t n = 0;
    for (uint32_t i = 1; i < o->count; i++) n += o->numbers[i] < o->numbers[i - 1];
    return n;
}

static outcome first, second;

static void a_clean_wire_changes_nothing(void **state)
{
    (void)state;
    run(1, (cn_nic_lossy_rates){0}, false, &first);
    assert_int_equal(first.count, SENT);
    assert_int_equal(out_of_order(&first) + first.damaged_bits, 0);
    assert_int_equal(first.late_ns_max, 0);
}

static void drops_at_the_rate(void **state)
{
    for (int on_receive = 0; on_receive < 2; on_receive++) {
        run(2, (cn_nic_lossy_rates){.drop = 100000}, on_receive, &first);
        assert_int_equal(first.count + first.counts.dropped, SENT);
        assert_near(first.counts.dropped, 0.1);
        assert_int_equal(out_of_order(&first), 0);
    }
    (void)state;
}

static void drops_all_at_a_million(void **state)
{
    (void)state;
    run(2, (cn_nic_lossy_rates){.drop = MILLION}, true, &first);
    assert_int_equal(first.count, 0);
}

static void duplicates_come_twice_and_whole(void **state)
{
    for (int on_receive = 0; on_receive < 2; on_receive++) {
        run(3, (cn_nic_lossy_rates){.duplicate = 50000}, on_receive, &first);
        assert_near(first.counts.duplicated, 0.05);
        assert_int_equal(first.count, SENT + first.counts.duplicated);
        uint32_t twice = 0;
        for (uint32_t i = 0; i < SENT; i++) twice += first.times[i] == 2;
        assert_int_equal(twice, first.counts.duplicated);
    }
    (void)state;
}

// A frame is overtaken by 1 to 4 others, and the last one, which nobody overtakes, still comes.
static void reordered_frames_are_overtaken(void **state)
{
    for (int on_receive = 0; on_receive < 2; on_receive++) {
        run(4, (cn_nic_lossy_rates){.reorder = 20000}, on_receive, &first);
        assert_near(first.counts.reordered, 0.02);
        assert_int_equal(first.count, SENT);
        assert_true(out_of_order(&first) > first.counts.reordered / 2);
        assert_true(first.late_ns_max <= DELAY_NS + GAP_NS);
        run(4, (cn_nic_lossy_rates){.reorder = MILLION}, on_receive, &first);
        assert_int_equal(first.count, SENT);
    }
    (void)state;
}

static void delayed_frames_come_in_time(void **state)
{
    for (int on_receive = 0; on_receive < 2; on_receive++) {
        run(5, (cn_nic_lossy_rates){.delay = 30000}, on_receive, &first);
        assert_near(first.counts.delayed, 0.03);
        assert_int_equal(first.count, SENT);
        assert_true(first.late_ns_max > DELAY_NS / 2);
        assert_true(first.late_ns_max <= DELAY_NS + GAP_NS);
    }
    (void)state;
}

// One bit per damaged frame; what the device said about checksums is no longer claimed.
static void damage_is_one_bit(void **state)
{
    (void)state;
    run(6, (cn_nic_lossy_rates){.corrupt = 100000}, true, &first);
    assert_near(first.counts.corrupted, 0.1);
    // 4 of 64 bytes are the number.
    const double in_number = (double)first.counts.corrupted - first.damaged_bits;
    assert_true(in_number > 0 && in_number < first.counts.corrupted * 0.2);
}

static void the_seed_decides(void **state)
{
    (void)state;
    const cn_nic_lossy_rates all = {20000, 20000, 20000, 20000, 0};
    run(7, all, false, &first);
    run(7, all, false, &second);
    assert_int_equal(first.count, second.count);
    assert_memory_equal(first.numbers, second.numbers, sizeof first.numbers);
    run(8, all, false, &second);
    assert_memory_not_equal(first.numbers, second.numbers, sizeof first.numbers);
}

// Frames that wait at the end go back to the pool (LeakSanitizer and the pool's count would tell).
static void close_gives_waiting_frames_back(void **state)
{
    (void)state;
    uint64_t now_ns = 0;
    cn_err err;
    cn_nic *a, *b, *lossy;
    const cn_nic_sim_options wire = {cn_clock_simulated(&now_ns), 0, 16, 1500};
    assert_int_equal(cn_nic_sim_open(&wire, &a, &b, &err), CN_OK);
    const cn_nic_lossy_options options = {
        .below = a, .clock = wire.clock, .sent.delay = MILLION, .delay_ns_max = DELAY_NS};
    assert_int_equal(cn_nic_lossy_open(&options, &lossy, &err), CN_OK);
    send_number(lossy, 1);
    send_number(lossy, 2);
    assert_int_equal(cn_nic_sim_held(a), 2);
    assert_true(cn_nic_lossy_next_ns(lossy) <= DELAY_NS);
    now_ns = DELAY_NS;
    lossy->ops->wait(lossy, 0, NULL, 0);
    assert_int_equal(cn_nic_sim_held(a), 0);
    assert_int_equal(cn_nic_sim_next_ns(b), DELAY_NS);
    send_number(lossy, 3);
    lossy->ops->close(lossy);
    b->ops->close(b);
}

static void rates_above_a_million_are_refused(void **state)
{
    (void)state;
    uint64_t now_ns = 0;
    cn_err err;
    cn_nic *a, *b, *lossy;
    const cn_nic_sim_options wire = {cn_clock_simulated(&now_ns), 0, 16, 1500};
    assert_int_equal(cn_nic_sim_open(&wire, &a, &b, &err), CN_OK);
    const cn_nic_lossy_options options = {
        .below = a, .clock = wire.clock, .received.delay = MILLION + 1};
    assert_int_equal(cn_nic_lossy_open(&options, &lossy, &err), CN_E_INVALID);
    assert_string_equal(err.text, "nic_lossy: a rate is 1000001; must be 0 to 1000000");
    b->ops->close(b);                        // `a` went with the refused wire
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clean_wire_changes_nothing),
        cmocka_unit_test(drops_at_the_rate),
        cmocka_unit_test(drops_all_at_a_million),
        cmocka_unit_test(duplicates_come_twice_and_whole),
        cmocka_unit_test(reordered_frames_are_overtaken),
        cmocka_unit_test(delayed_frames_come_in_time),
        cmocka_unit_test(damage_is_one_bit),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(close_gives_waiting_frames_back),
        cmocka_unit_test(rates_above_a_million_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
