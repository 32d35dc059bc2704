/* What a run is summed up to, from hand-made turns whose figures can be computed in the head. */
#include "tests/unit/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "bench/summary.h"

static const uint64_t MS = 1000000, START = 5000000000;

typedef struct world {
    cn_plan plan;
    cn_tally tally;
    cn_summary summary;
} world;

// A session of one turn for each; times are milliseconds after the start.
static cn_tally_turn *add(world *w, uint32_t index, uint64_t due, uint64_t sent, uint64_t first, uint64_t end,
                          int64_t tokens)
{
    cn_tally_turn *t = &w->tally.turns[index];
    t->due_ns = t->ready_ns = START + due * MS;
    t->sent_ns = START + sent * MS;
    t->first_ns = START + first * MS;
    t->last_ns = t->end_ns = START + end * MS;
    t->output_tokens = tokens;
    t->outcome = CN_OUTCOME_OK;
    t->status = 200;
    assert_true(cn_tally_event(t, t->first_ns));
    for (int64_t i = 1; i < tokens; i++) {
        assert_true(cn_tally_event(t, t->first_ns + (t->end_ns - t->first_ns) * (uint64_t)i / (uint64_t)(tokens - 1)));
    }
    return t;
}

static void open_world(world *w, uint32_t count)
{
    memset(w, 0, sizeof *w);
    cn_plan_init(&w->plan);
    for (uint32_t i = 0; i < count; i++) {
        assert_non_null(cn_plan_add_session(&w->plan));
        assert_non_null(cn_plan_add_turn(&w->plan));
    }
    assert_int_equal(cn_tally_open(count, &w->tally, NULL), CN_OK);
    w->tally.start_ns = START;
    w->tally.end_ns = START + 10000 * MS;
}

static void sum(world *w, cn_summary_slo slo)
{
    assert_int_equal(cn_summary_open(&w->plan, &w->tally, &slo, &w->summary, NULL), CN_OK);
}

static void close_world(world *w)
{
    cn_summary_close(&w->summary);
    cn_tally_close(&w->tally);
    cn_plan_close(&w->plan);
}

static void assert_near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-6 * fmax(1, fabs(expected)))) fail_msg("%g is not %g", value, expected);
}

static void latencies_count_from_both_clocks(void **state)
{
    (void)state;
    world w;
    open_world(&w, 2);
    add(&w, 0, 100, 150, 200, 400, 5);
    add(&w, 1, 1000, 1000, 1300, 1300, 1);
    sum(&w, (cn_summary_slo){0});
    assert_near(w.summary.due.ttft_ms.mean, 200);              // 100 and 300
    assert_near(w.summary.sent.ttft_ms.mean, 175);             // 50 and 300
    assert_near(w.summary.due.e2el_ms.max, 300);
    assert_near(w.summary.sent.e2el_ms.median, 275);
    assert_int_equal(w.summary.tpot_ms.count, 1);              // one token has no time per token
    assert_near(w.summary.tpot_ms.mean, 50);
    assert_int_equal(w.summary.itl_ms.count, 4);
    assert_near(w.summary.itl_ms.p99, 50);
    assert_near(w.summary.duration_s, 10);
    assert_near(w.summary.output_per_s, 0.6);
    assert_near(w.summary.request_per_s, 0.2);
    close_world(&w);
}

// One request for each way to be good or not: the limit itself is good.
static void goodput_needs_every_limit_and_counts_from_due(void **state)
{
    (void)state;
    world w;
    open_world(&w, 6);
    add(&w, 0, 0, 0, 500, 800, 11);                // 500 / 30: just good
    add(&w, 1, 0, 0, 501, 801, 11);                // first token too late
    add(&w, 2, 0, 0, 400, 711, 11);                // 31.1 ms per token
    add(&w, 3, 0, 100, 550, 800, 11);              // 450 from sent, 550 from due
    add(&w, 4, 0, 0, 100, 100, 1);                 // one token: nothing to be slow between
    add(&w, 5, 0, 0, 10, 20, 2)->outcome = CN_OUTCOME_CUT;
    sum(&w, (cn_summary_slo){.ttft_ms = 500, .tpot_ms = 30});
    assert_int_equal(w.summary.due.good, 2);
    assert_int_equal(w.summary.sent.good, 3);
    assert_near(w.summary.goodput_per_s, 0.2);
    assert_int_equal(w.summary.completed, 5);
    assert_int_equal(w.summary.failed, 1);
    close_world(&w);
}

static void outcomes_are_kept_apart(void **state)
{
    (void)state;
    world w;
    open_world(&w, 5);
    add(&w, 0, 0, 0, 1, 2, 2);
    add(&w, 1, 0, 0, 1, 2, 2)->outcome = CN_OUTCOME_CANCELLED;
    add(&w, 2, 0, 0, 1, 2, 2)->outcome = CN_OUTCOME_TIMEOUT;
    add(&w, 3, 0, 0, 100, 900, 2);
    w.plan.turns[3].slow_bytes_per_s = 10;         // answered, and no latency of the server
    sum(&w, (cn_summary_slo){0});
    assert_int_equal(w.summary.completed, 2);
    assert_int_equal(w.summary.failed, 1);
    assert_int_equal(w.summary.outcomes[CN_OUTCOME_UNSENT], 1);
    assert_int_equal(w.summary.due.ttft_ms.count, 1);
    assert_int_equal(w.summary.output_tokens, 4);
    close_world(&w);
}

// 1,000 sends of which two are late by more than 1 ms: the 99.9th percentile lies between the two.
static void lateness_above_a_millisecond_is_invalid(void **state)
{
    (void)state;
    world w;
    open_world(&w, 1000);
    for (uint32_t i = 0; i < 1000; i++) add(&w, i, i, i, i + 1, i + 1, 1)->sent_ns += 10000;
    w.tally.turns[7].sent_ns = w.tally.turns[7].ready_ns + 3 * MS;
    sum(&w, (cn_summary_slo){0});
    assert_true(w.summary.valid);                  // one in a thousand is just allowed
    assert_string_equal(w.summary.invalid_why, "");
    cn_summary_close(&w.summary);
    w.tally.turns[8].sent_ns = w.tally.turns[8].ready_ns + 2 * MS;
    sum(&w, (cn_summary_slo){0});
    assert_false(w.summary.valid);
    assert_string_equal(w.summary.invalid_why, "sending was 2.001 ms late at p99.9 (at most 1).");
    close_world(&w);
}

static void a_busy_generator_is_invalid(void **state)
{
    (void)state;
    world w;
    open_world(&w, 2);
    add(&w, 0, 0, 0, 1, 1, 1);
    add(&w, 1, 0, 0, 1, 1, 1)->outcome = CN_OUTCOME_DESCRIPTOR;
    w.tally.cpu_s = 8.1;
    sum(&w, (cn_summary_slo){0});
    assert_false(w.summary.valid);
    assert_string_equal(w.summary.invalid_why,
                        "the generator used 81 % of a core (at most 80). 1 requests found no descriptor or "
                        "memory in the generator.");
    close_world(&w);
}

static void concurrency_is_of_half_open_intervals(void **state)
{
    (void)state;
    world w;
    open_world(&w, 4);
    add(&w, 0, 0, 0, 10, 100, 2);
    add(&w, 1, 50, 50, 60, 150, 2);
    add(&w, 2, 100, 100, 110, 200, 2);             // begins when the first ends
    add(&w, 3, 300, 300, 310, 400, 2);
    sum(&w, (cn_summary_slo){0});
    assert_int_equal(w.summary.concurrent_max, 2);
    close_world(&w);
}

static void series_have_every_event_once(void **state)
{
    (void)state;
    world w;
    open_world(&w, 2);
    add(&w, 0, 0, 0, 500, 2500, 5);                // tokens at 0.5, 1, 1.5, 2, 2.5 s
    add(&w, 1, 1100, 1200, 1900, 1900, 1);
    sum(&w, (cn_summary_slo){0});
    assert_int_equal(w.summary.bin_count, 10);
    const double events[] = {1, 3, 2}, due[] = {1, 1, 0}, done[] = {0, 1, 1}, flight[] = {1, 1.7, 0.5};
    for (int i = 0; i < 3; i++) {
        assert_near(w.summary.bins[i].events, events[i]);
        assert_near(w.summary.bins[i].due, due[i]);
        assert_near(w.summary.bins[i].completed, done[i]);
        assert_near(w.summary.bins[i].in_flight, flight[i]);
    }
    assert_near(w.summary.output_per_s_max, 3);
    assert_near(w.summary.bins[1].ttft_p99_ms, 800);
    close_world(&w);
}

static void the_digest_is_of_what_was_said_in_the_plans_order(void **state)
{
    (void)state;
    world a, b;
    open_world(&a, 2);
    open_world(&b, 2);
    for (uint32_t i = 0; i < 2; i++) {
        memset(add(&a, i, i, i, 5, 9, 2)->digest, (int)i + 1, CN_TALLY_DIGEST_BYTES);
        memset(add(&b, i, 9 - i, 9 - i, 50, 90, 2)->digest, (int)i + 1, CN_TALLY_DIGEST_BYTES);
    }
    sum(&a, (cn_summary_slo){0});
    sum(&b, (cn_summary_slo){0});
    assert_memory_equal(a.summary.digest, b.summary.digest, sizeof a.summary.digest);
    cn_summary_close(&b.summary);
    b.tally.turns[1].digest[3] ^= 1;
    sum(&b, (cn_summary_slo){0});
    assert_memory_not_equal(a.summary.digest, b.summary.digest, sizeof a.summary.digest);
    close_world(&a);
    close_world(&b);
}

static void a_run_without_answers_has_figures_of_0(void **state)
{
    (void)state;
    world w;
    open_world(&w, 3);
    sum(&w, (cn_summary_slo){.ttft_ms = 1});
    assert_int_equal(w.summary.completed + w.summary.failed, 0);
    assert_near(w.summary.due.ttft_ms.p99, 0);
    assert_int_equal(w.summary.batch_count, 0);
    assert_true(w.summary.valid);
    close_world(&w);
}

static void service_levels_by_name_and_by_limits(void **state)
{
    (void)state;
    cn_summary_slo slo;
    cn_err err;
    assert_int_equal(cn_summary_find_slo("llama3.1-8b-interactive", &slo, NULL), CN_OK);
    assert_near(slo.ttft_ms, 500);
    assert_near(slo.tpot_ms, 30);
    assert_int_equal(cn_summary_parse_slo(" tpot:12.5,e2el:900 ", &slo, NULL), CN_OK);
    assert_near(slo.ttft_ms, 0);
    assert_near(slo.tpot_ms, 12.5);
    assert_near(slo.e2el_ms, 900);
    static const char *const bad[] = {"ttft", "ttft:", "ttft:0", "itl:5", "ttft:5x", "ttft:-1", "tt:1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(cn_summary_parse_slo(bad[i], &slo, &err), CN_E_INVALID);
    }
    assert_int_equal(cn_summary_find_slo("gpt-9", &slo, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "code-generation"));      // the list is whole
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latencies_count_from_both_clocks),
        cmocka_unit_test(goodput_needs_every_limit_and_counts_from_due),
        cmocka_unit_test(outcomes_are_kept_apart),
        cmocka_unit_test(lateness_above_a_millisecond_is_invalid),
        cmocka_unit_test(a_busy_generator_is_invalid),
        cmocka_unit_test(concurrency_is_of_half_open_intervals),
        cmocka_unit_test(series_have_every_event_once),
        cmocka_unit_test(the_digest_is_of_what_was_said_in_the_plans_order),
        cmocka_unit_test(a_run_without_answers_has_figures_of_0),
        cmocka_unit_test(service_levels_by_name_and_by_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
