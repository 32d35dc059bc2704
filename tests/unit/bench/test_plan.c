/* Plans are functions of their seed: repeatable, with independent streams, with the shapes asked for. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "bench/plan.h"

static cn_plan_schedule schedule_of(uint64_t seed, uint32_t count)
{
    return (cn_plan_schedule){.arrivals = {.kind = CN_ARRIVALS_POISSON, .rate_per_s = 10}, .seed = seed,
                              .duration_ns = UINT64_MAX, .count_max = count};
}

static cn_plan_shape shape_of(uint64_t seed)
{
    return (cn_plan_shape){.seed = seed, .input_tokens = {CN_DRAW_UNIFORM, 5, 50},
                           .output_tokens = {CN_DRAW_UNIFORM, 1, 9}, .turns = {CN_DRAW_UNIFORM, 1, 4},
                           .think_s = {CN_DRAW_FIXED, 2, 0}, .prefix_tokens = 30, .prefix_groups = 3};
}

static void make(cn_plan *plan, uint64_t seed, uint32_t count)
{
    const cn_plan_schedule schedule = schedule_of(seed, count);
    const cn_plan_shape shape = shape_of(seed);
    cn_plan_init(plan);
    assert_int_equal(cn_plan_synthetic(plan, &schedule, &shape, NULL), CN_OK);
}

static void a_seed_gives_a_plan(void **state)
{
    (void)state;
    cn_plan a, b, c;
    make(&a, 1, 200);
    make(&b, 1, 200);
    make(&c, 2, 200);
    assert_int_equal(a.turn_count, b.turn_count);
    assert_memory_equal(a.sessions, b.sessions, a.session_count * sizeof *a.sessions);
    assert_memory_equal(a.turns, b.turns, a.turn_count * sizeof *a.turns);
    assert_true(a.sessions[0].due_ns != c.sessions[0].due_ns);
    cn_plan_close(&a);
    cn_plan_close(&b);
    cn_plan_close(&c);
}

// A run of twice the length asks the same in its first half, or runs could not be compared.
static void a_longer_plan_begins_with_the_shorter(void **state)
{
    (void)state;
    cn_plan a, b;
    make(&a, 3, 100);
    make(&b, 3, 200);
    assert_memory_equal(a.sessions, b.sessions, a.session_count * sizeof *a.sessions);
    assert_memory_equal(a.turns, b.turns, a.turn_count * sizeof *a.turns);
    cn_plan_close(&a);
    cn_plan_close(&b);
}

static void shapes_are_kept(void **state)
{
    (void)state;
    cn_plan plan;
    uint64_t seeds[3] = {0};
    make(&plan, 4, 300);
    for (uint32_t i = 0, next = 0; i < plan.session_count; i++) {
        const cn_plan_session *s = &plan.sessions[i];
        assert_int_equal(s->turn_first, next);
        assert_in_range(s->turn_count, 1, 4);
        assert_int_equal(s->prefix_tokens, 30);
        next += s->turn_count;
        for (uint32_t k = 0; k < s->turn_count; k++) {
            const cn_plan_turn *t = &plan.turns[s->turn_first + k];
            assert_in_range(t->input_tokens, 5, 50);
            assert_in_range(t->output_tokens, 1, 9);
            assert_true(t->think_ns == (k ? UINT64_C(2000000000) : 0));
        }
        uint32_t group = 0;
        while (group < 3 && seeds[group] && seeds[group] != s->prefix_seed) group++;
        assert_in_range(group, 0, 2);              // three groups and no more
        seeds[group] = s->prefix_seed;
    }
    assert_true(seeds[2] != 0);
    cn_plan_close(&plan);
}

static void trouble_hits_its_share(void **state)
{
    (void)state;
    cn_plan plan;
    uint32_t cancelled = 0, slow = 0;
    make(&plan, 5, 2000);
    const cn_plan_trouble trouble = {.seed = 5, .cancel_share = 0.25, .slow_share = 0.1,
                                     .cancel_after_s = {CN_DRAW_FIXED, 0.5, 0}, .slow_bytes_per_s = 77};
    cn_plan_disturb(&plan, &trouble);
    for (uint32_t i = 0; i < plan.turn_count; i++) {
        cancelled += plan.turns[i].cancel_after_ns == 500000001;
        slow += plan.turns[i].slow_bytes_per_s == 77;
    }
    // Four standard deviations of a binomial distribution of about 5,000 turns are 2.5 % and 1.7 %.
    assert_in_range(cancelled * 1000 / plan.turn_count, 225, 275);
    assert_in_range(slow * 1000 / plan.turn_count, 83, 117);
    cn_plan_close(&plan);
}

static void closed_loops_and_nobody(void **state)
{
    (void)state;
    cn_plan plan;
    cn_err err;
    cn_plan_schedule schedule = schedule_of(6, 20);
    const cn_plan_shape shape = shape_of(6);
    schedule.at_once = true;
    cn_plan_init(&plan);
    assert_int_equal(cn_plan_synthetic(&plan, &schedule, &shape, NULL), CN_OK);
    assert_int_equal(plan.session_count, 20);
    for (uint32_t i = 0; i < 20; i++) assert_int_equal(plan.sessions[i].due_ns, 0);
    cn_plan_close(&plan);
    schedule = schedule_of(6, 20);
    schedule.arrivals.rate_per_s = 1e-9;
    schedule.duration_ns = 1000;
    assert_int_equal(cn_plan_synthetic(&plan, &schedule, &shape, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "no session arrives"));
    cn_plan_close(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_a_plan),
        cmocka_unit_test(a_longer_plan_begins_with_the_shorter),
        cmocka_unit_test(shapes_are_kept),
        cmocka_unit_test(trouble_hits_its_share),
        cmocka_unit_test(closed_loops_and_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
