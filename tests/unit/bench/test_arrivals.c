/* Due times have the distributions that their names claim. The Kolmogorov-Smirnov distance of n values
 * exceeds 1.95 / sqrt(n) with a probability of 0.001 (Smirnov 1948); seeds are fixed, so the tests are
 * not random: they fail only when the code changes. */
#include "tests/unit/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "bench/arrivals.h"
#include "bench/draw.h"
#include "bench/figures.h"

enum { COUNT = 20000 };
static uint64_t due[COUNT];
static double values[COUNT];

static uint32_t draw(const cn_arrivals *arrivals, uint64_t seed, double duration_s)
{
    const cn_random random = cn_random_seeded(&seed);
    const uint64_t duration_ns = duration_s > 0 ? (uint64_t)(duration_s * 1e9) : UINT64_MAX;
    return cn_arrivals_draw(arrivals, &random, duration_ns, COUNT, due);
}

// The largest distance between the values' distribution and `cdf`, times sqrt(n).
static double distance(uint32_t count, double (*cdf)(double))
{
    double worst = 0;
    cn_figures_sort(values, count);
    for (uint32_t i = 0; i < count; i++) {
        const double expected = cdf(values[i]);
        worst = fmax(worst, fmax(expected - (double)i / count, (double)(i + 1) / count - expected));
    }
    return worst * sqrt(count);
}

static double uniform_cdf(double x) { return fmin(1, fmax(0, x)); }
static double exponential_cdf(double x) { return 1 - exp(-x); }
static double normal_cdf(double x) { return erfc(-x / sqrt(2)) / 2; }
// The regularised incomplete gamma function P(1/2, x) is erf(sqrt(x)).
static double gamma_half_cdf(double x) { return erf(sqrt(x)); }

static uint32_t gaps(uint32_t count, double scale)
{
    for (uint32_t i = 1; i < count; i++) values[i - 1] = (double)(due[i] - due[i - 1]) / 1e9 * scale;
    return count - 1;
}

static void poisson_gaps_are_exponential(void **state)
{
    (void)state;
    const cn_arrivals arrivals = {.kind = CN_ARRIVALS_POISSON, .rate_per_s = 50};
    assert_int_equal(draw(&arrivals, 7, 0), COUNT);
    assert_true(distance(gaps(COUNT, 50), exponential_cdf) < 1.95);
}

static void gamma_gaps_have_their_shape(void **state)
{
    (void)state;
    const cn_arrivals arrivals = {.kind = CN_ARRIVALS_GAMMA, .rate_per_s = 50, .shape = 0.5};
    assert_int_equal(draw(&arrivals, 8, 0), COUNT);
    // Mean 1 / rate is shape * scale, so the scale is 2 / rate.
    assert_true(distance(gaps(COUNT, 25), gamma_half_cdf) < 1.95);
}

static void constant_gaps_are_equal_and_begin_at_0(void **state)
{
    (void)state;
    const cn_arrivals arrivals = {.kind = CN_ARRIVALS_CONSTANT, .rate_per_s = 4};
    assert_int_equal(draw(&arrivals, 9, 10), 40);
    for (uint32_t i = 0; i < 40; i++) assert_int_equal(due[i], i * UINT64_C(250000000));
}

// Of a Poisson process with a changing rate, the expected counts up to the arrivals are uniform.
static void ramps_have_their_rate_at_every_time(void **state)
{
    (void)state;
    const double from = 10, to = 190, duration = 100;
    cn_arrivals arrivals = {.kind = CN_ARRIVALS_RAMP, .rate_per_s = from, .rate_end_per_s = to};
    uint32_t count = draw(&arrivals, 10, duration);
    assert_in_range(count, 9600, 10400);        // 10000, 4 standard deviations of 100
    for (uint32_t i = 0; i < count; i++) {
        const double t = (double)due[i] / 1e9;
        values[i] = (from * t + (to - from) * t * t / 2 / duration) / 10000;
    }
    assert_true(distance(count, uniform_cdf) < 1.95);

    arrivals.kind = CN_ARRIVALS_RAMP_EXPONENTIAL;
    count = draw(&arrivals, 11, duration);
    const double k = log(to / from) / duration, whole = from * expm1(k * duration) / k;
    for (uint32_t i = 0; i < count; i++) {
        values[i] = from * expm1(k * (double)due[i] / 1e9) / k / whole;
    }
    assert_true(distance(count, uniform_cdf) < 1.95);
}

// A ramp down to nearly nothing: the square root of the inverse meets numbers below 0 at its end.
static void a_falling_ramp_ends(void **state)
{
    (void)state;
    const cn_arrivals arrivals = {.kind = CN_ARRIVALS_RAMP, .rate_per_s = 100, .rate_end_per_s = 1e-6};
    const uint32_t count = draw(&arrivals, 12, 20);
    assert_in_range(count, 870, 1130);          // 1000, 4 standard deviations
    assert_true(due[count - 1] < UINT64_C(20000000000));
}

static void on_off_keeps_the_mean_rate_and_is_bursty(void **state)
{
    (void)state;
    const cn_arrivals arrivals = {.kind = CN_ARRIVALS_ON_OFF, .rate_per_s = 20, .on_s = 0.5, .off_s = 1.5};
    const uint32_t count = draw(&arrivals, 13, 500);
    /* The count has the variance of a doubly stochastic process: about 2 T a^2 / (1/on + 1/off) with
     * a the amplitude: 80/s at 1/4 and 3/4 of the time gives 4 standard deviations of 1,700. */
    assert_in_range(count, 8300, 11700);
    double squares = 0, mean = 0;
    for (uint32_t i = 1; i < count; i++) mean += (double)(due[i] - due[i - 1]) / 1e9 / (count - 1);
    for (uint32_t i = 1; i < count; i++) {
        const double gap = (double)(due[i] - due[i - 1]) / 1e9 - mean;
        squares += gap * gap / (count - 1);
    }
    assert_true(squares / mean / mean > 4);     // of a Poisson process: 1
}

static void times_ascend_below_the_duration_and_repeat(void **state)
{
    (void)state;
    static uint64_t again[COUNT];
    for (int kind = CN_ARRIVALS_POISSON; kind <= CN_ARRIVALS_RAMP_EXPONENTIAL; kind++) {
        const cn_arrivals arrivals = {(cn_arrivals_kind)kind, 100, 200, 0.2, 1, 1};
        const uint32_t count = draw(&arrivals, 14, 5);
        assert_true(count > 100);
        for (uint32_t i = 1; i < count; i++) assert_true(due[i] >= due[i - 1]);
        assert_true(due[count - 1] < UINT64_C(5000000000));
        memcpy(again, due, sizeof due);
        assert_int_equal(draw(&arrivals, 14, 5), count);
        assert_memory_equal(again, due, count * sizeof *due);
    }
}

static void draws_have_their_distributions(void **state)
{
    (void)state;
    uint64_t seed = 15;
    const cn_random random = cn_random_seeded(&seed);
    cn_draw d;
    assert_int_equal(cn_draw_parse("normal:1000:100", "", &d, NULL), CN_OK);
    for (int i = 0; i < COUNT; i++) values[i] = (cn_draw_take(&d, &random) - 1000) / 100;
    assert_true(distance(COUNT, normal_cdf) < 1.95);
    assert_int_equal(cn_draw_parse("lognormal:1020:4000", "", &d, NULL), CN_OK);
    for (int i = 0; i < COUNT; i++) {
        values[i] = log(cn_draw_take(&d, &random) / 1020) / (log(4000.0 / 1020) / 1.2815515655446004);
    }
    assert_true(distance(COUNT, normal_cdf) < 1.95);
    assert_int_equal(cn_draw_parse("uniform:10:30", "", &d, NULL), CN_OK);
    for (int i = 0; i < COUNT; i++) values[i] = (cn_draw_take(&d, &random) - 10) / 20;
    assert_true(distance(COUNT, uniform_cdf) < 1.95);
    assert_int_equal(cn_draw_parse("exponential:5", "", &d, NULL), CN_OK);
    for (int i = 0; i < COUNT; i++) values[i] = cn_draw_take(&d, &random) / 5;
    assert_true(distance(COUNT, exponential_cdf) < 1.95);
}

static void draws_stay_in_their_bounds(void **state)
{
    (void)state;
    uint64_t seed = 16;
    const cn_random random = cn_random_seeded(&seed);
    cn_draw d;
    assert_int_equal(cn_draw_parse("normal:10:100", "", &d, NULL), CN_OK);
    for (int i = 0; i < 1000; i++) assert_in_range(cn_draw_take_count(&d, &random, 1, 50), 1, 50);
    assert_int_equal(cn_draw_parse("7", "", &d, NULL), CN_OK);
    assert_int_equal(cn_draw_take_count(&d, &random, 1, 50), 7);
}

static void what_is_no_distribution_is_refused(void **state)
{
    static const char *const bad[] = {"",        "x",          "-1",          "1:2",     "normal:1",
                                      "normal:1:2:3", "uniform:5:2", "lognormal:0:1", "lognormal:5:4",
                                      "fixed",   "exponential:", "weibull:1:2", "nan",     "1e10"};
    cn_draw d;
    cn_err err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(cn_draw_parse(bad[i], "--turns", &d, &err), CN_E_INVALID);
        assert_non_null(strstr(err.text, "--turns: "));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poisson_gaps_are_exponential),
        cmocka_unit_test(gamma_gaps_have_their_shape),
        cmocka_unit_test(constant_gaps_are_equal_and_begin_at_0),
        cmocka_unit_test(ramps_have_their_rate_at_every_time),
        cmocka_unit_test(a_falling_ramp_ends),
        cmocka_unit_test(on_off_keeps_the_mean_rate_and_is_bursty),
        cmocka_unit_test(times_ascend_below_the_duration_and_repeat),
        cmocka_unit_test(draws_have_their_distributions),
        cmocka_unit_test(draws_stay_in_their_bounds),
        cmocka_unit_test(what_is_no_distribution_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
