#include "tests/unit/cmocka_all.h"

#include <stdlib.h>

#include "base/histogram.h"
#include "tests/unit/test_rng.h"

enum { VALUES = 5000 };

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// All magnitudes equally often, so every power of two is met.
static uint64_t any_magnitude(test_rng *rng) { return test_rng_u64(rng) >> test_rng_below(rng, 64); }

// The promise: a reported quantile is at or above the true one, by 1/32 at most.
static void quantiles_are_within_a_thirtysecond(void **state)
{
    (void)state;
    static cn_histogram histogram;
    static uint64_t values[VALUES];
    static const double wanted[] = {0.0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0};
    test_rng rng = test_rng_open("histogram");
    cn_histogram_init(&histogram);
    assert_int_equal(cn_histogram_quantile(&histogram, 0.5), 0);
    for (int i = 0; i < VALUES; i++) {
        values[i] = i < 4 ? UINT64_MAX - (uint64_t)i : any_magnitude(&rng);
        cn_histogram_add(&histogram, values[i]);
    }
    qsort(values, VALUES, sizeof *values, ascending);
    for (uint32_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        int rank = (int)(wanted[i] * VALUES);
        if ((double)rank < wanted[i] * VALUES) rank++;
        const uint64_t truth = values[rank ? rank - 1 : 0];
        const uint64_t told = cn_histogram_quantile(&histogram, wanted[i]);
        assert_true(told >= truth);
        assert_true(told - truth <= truth / 32);
    }
    assert_int_equal(histogram.count, VALUES);
}

// The edges of Prometheus: never more than there are, never less than those a thirty-second below.
static void counts_below_a_limit_are_safe(void **state)
{
    (void)state;
    static cn_histogram histogram;
    static uint64_t values[VALUES];
    test_rng rng = test_rng_open("histogram_limit");
    cn_histogram_init(&histogram);
    for (int i = 0; i < VALUES; i++) cn_histogram_add(&histogram, values[i] = any_magnitude(&rng));
    for (int round = 0; round < 200; round++) {
        const uint64_t limit = any_magnitude(&rng), told = cn_histogram_count_at_most(&histogram, limit);
        uint64_t below = 0, surely = 0;
        for (int i = 0; i < VALUES; i++) {
            below += values[i] <= limit;
            surely += values[i] <= limit - limit / 32;
        }
        assert_true(told <= below);
        assert_true(told >= surely);
    }
    assert_int_equal(cn_histogram_count_at_most(&histogram, UINT64_MAX), VALUES);
}

static void small_values_are_exact(void **state)
{
    (void)state;
    static cn_histogram histogram;
    cn_histogram_init(&histogram);
    for (uint64_t i = 0; i < 64; i++) cn_histogram_add(&histogram, i);
    for (uint64_t i = 0; i < 64; i++) assert_int_equal(cn_histogram_count_at_most(&histogram, i), i + 1);
    assert_int_equal(cn_histogram_quantile(&histogram, 0.5), 31);
    assert_int_equal(histogram.sum, 63 * 64 / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_within_a_thirtysecond),
        cmocka_unit_test(counts_below_a_limit_are_safe),
        cmocka_unit_test(small_values_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
