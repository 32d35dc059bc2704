/* The search finds the knee of a server that bears exactly so much, from any start, in few attempts. */
#include "tests/unit/cmocka_all.h"

#include <math.h>

#include "bench/capacity.h"
#include "tests/unit/test_rng.h"

static uint32_t search_for(double knee, double start, double precision, cn_capacity *search)
{
    uint32_t attempts = 0;
    cn_capacity_init(search, 1, 1000, start, precision);
    while (!cn_capacity_is_over(search)) {
        assert_in_range(++attempts, 1, 40);
        assert_true(search->next_per_s >= 1 && search->next_per_s <= 1000);
        cn_capacity_note(search, search->next_per_s <= knee);
    }
    return attempts;
}

static void a_knee_is_found_from_any_start(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("capacity");
    for (int round = 0; round < 2000; round++) {
        const double knee = pow(10, 0.01 + 2.98 * test_rng_below(&rng, 100000) / 1e5);
        const double start = 1 + test_rng_below(&rng, 999);
        const double precision = 0.01 + 0.2 * test_rng_below(&rng, 1000) / 1e3;
        cn_capacity search;
        const uint32_t attempts = search_for(knee, start, precision, &search);
        assert_int_equal(search.state, CN_CAPACITY_FOUND);
        assert_true(search.good_per_s <= knee && knee < search.bad_per_s);
        assert_true(search.bad_per_s <= search.good_per_s * (1 + precision));
        // Ten doublings at most, then log2(ln 2 / ln(1 + precision)) halvings.
        assert_true(attempts <= 12 + ceil(log2(log(2) / log1p(precision))));
    }
}

static void what_is_outside_of_the_bounds_is_said(void **state)
{
    (void)state;
    cn_capacity search;
    search_for(0.5, 16, 0.05, &search);
    assert_int_equal(search.state, CN_CAPACITY_BELOW);
    search_for(1e6, 16, 0.05, &search);
    assert_int_equal(search.state, CN_CAPACITY_ABOVE);
    assert_true(search.good_per_s == 1000);
}

// Three knees of 9, 10 and 11: deviation 1, t of 2 degrees 4.3027, over the root of 3.
static void repeats_give_a_confidence_interval(void **state)
{
    (void)state;
    const double knees[] = {9, 10, 11};
    const cn_capacity_estimate e = cn_capacity_estimate_of(knees, 3);
    assert_true(fabs(e.mean_per_s - 10) < 1e-12);
    assert_true(fabs(e.margin_per_s - 4.302653 / sqrt(3)) < 1e-5);
    assert_true(cn_capacity_estimate_of(knees, 1).margin_per_s == 0);
}

static void falling_behind_is_seen_and_noise_is_not(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("falls behind");
    double steady[100], growing[100], idle[100];
    for (int i = 0; i < 100; i++) {
        steady[i] = 20 + test_rng_below(&rng, 10);
        growing[i] = i + test_rng_below(&rng, 10);
        idle[i] = test_rng_below(&rng, 2);
    }
    assert_true(cn_capacity_falls_behind(growing, 100));
    assert_false(cn_capacity_falls_behind(steady, 100));
    assert_false(cn_capacity_falls_behind(idle, 100));
    assert_false(cn_capacity_falls_behind(growing, 19));       // too short to say
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_knee_is_found_from_any_start),
        cmocka_unit_test(what_is_outside_of_the_bounds_is_said),
        cmocka_unit_test(repeats_give_a_confidence_interval),
        cmocka_unit_test(falling_behind_is_seen_and_noise_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
