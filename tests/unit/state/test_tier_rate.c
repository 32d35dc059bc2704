#include "tests/unit/cmocka_all.h"

#include "state/tier_rate.h"

enum { MS = 1000000 };

// Catches time that is counted twice where several are under way, or while none is.
static void time_counts_once(void **state)
{
    (void)state;
    cn_tier_rate rate = {0};
    assert_true(cn_tier_rate_ns(&rate, 100) == 0);
    assert_true(cn_tier_rate_per_s(&rate) == 0);
    cn_tier_rate_begin(&rate, 10 * MS);
    cn_tier_rate_begin(&rate, 11 * MS);
    cn_tier_rate_end(&rate, 1000, 14 * MS);
    cn_tier_rate_end(&rate, 1000, 20 * MS);      // 2,000 in 10 ms
    assert_true(cn_tier_rate_per_s(&rate) == 200000);
    cn_tier_rate_begin(&rate, 90 * MS);          // the pause before does not count
    cn_tier_rate_end(&rate, 2000, 100 * MS);
    assert_true(cn_tier_rate_per_s(&rate) == 200000);
    assert_true(cn_tier_rate_ns(&rate, 200) == MS);
}

// Catches an operation that brought nothing and makes its tier look slow.
static void what_came_to_nothing_does_not_count(void **state)
{
    (void)state;
    cn_tier_rate rate = {0};
    cn_tier_rate_add(&rate, 1000, 10 * MS);
    cn_tier_rate_begin(&rate, 50 * MS);
    cn_tier_rate_cancel(&rate, 950 * MS);
    assert_true(cn_tier_rate_per_s(&rate) == 100000);
}

// Catches a measure that never forgets: a tier that became ten times slower must show.
static void the_past_fades(void **state)
{
    (void)state;
    cn_tier_rate rate = {0};
    for (int i = 0; i < 1000; i++) cn_tier_rate_add(&rate, 1000000, 100 * MS);
    assert_true(cn_tier_rate_per_s(&rate) > 9.9e6);
    for (int i = 0; i < 50; i++) cn_tier_rate_add(&rate, 100000, 100 * MS);
    assert_true(cn_tier_rate_per_s(&rate) < 1.1e6);
}

// Catches decisions that flutter between two ways of nearly equal speed, and one that is never revised.
static void a_decision_holds_until_it_is_clearly_wrong(void **state)
{
    (void)state;
    static const struct {
        double restore_ns, compute_ns;
        bool restores;
    } cases[] = {
        {0, 0, true},    {0, 100, true},   {100, 0, true},   // not known: try
        {100, 100, true}, {120, 100, true}, {130, 100, false},
        {110, 100, false}, {90, 100, false}, {79, 100, true}, {110, 100, true},
    };
    cn_tier_choice choice = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(cn_tier_choice_restores(&choice, cases[i].restore_ns, cases[i].compute_ns),
                         cases[i].restores);
    }
}

static void a_slow_tier_is_tried_now_and_then(void **state)
{
    (void)state;
    cn_tier_choice choice = {0};
    int tried = 0;
    for (int i = 0; i < 160; i++) tried += cn_tier_choice_restores(&choice, 1000, 100);
    assert_int_equal(tried, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_counts_once),
        cmocka_unit_test(what_came_to_nothing_does_not_count),
        cmocka_unit_test(the_past_fades),
        cmocka_unit_test(a_decision_holds_until_it_is_clearly_wrong),
        cmocka_unit_test(a_slow_tier_is_tried_now_and_then),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
