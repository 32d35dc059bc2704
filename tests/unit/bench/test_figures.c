/* Percentiles and tests of significance against values that numpy 2.4 and tables of Student's t give. */
#include "tests/unit/cmocka_all.h"

#include <math.h>

#include "bench/figures.h"

static void assert_near(double value, double expected, double relative)
{
    if (!(fabs(value - expected) <= relative * fmax(1e-12, fabs(expected)))) {
        fail_msg("%.12g is not %.12g", value, expected);
    }
}

// numpy.percentile([15, 20, 35, 40, 50], p), which interpolates between ranks.
static void percentiles_interpolate_as_numpy(void **state)
{
    (void)state;
    double values[] = {40, 15, 50, 35, 20};
    const cn_figures f = cn_figures_of(values, 5);
    assert_near(f.mean, 32, 0);
    assert_near(f.median, 35, 0);
    assert_near(f.p90, 46, 1e-15);
    assert_near(f.p95, 48, 1e-15);
    assert_near(f.p99, 49.6, 1e-15);
    assert_near(f.max, 50, 0);
    assert_near(f.std, sqrt(166), 1e-15);       // numpy.std: of the population
    assert_near(cn_figures_percentile(values, 5, 40), 29, 1e-15);
    assert_near(cn_figures_percentile(values, 5, 0), 15, 0);
    assert_near(cn_figures_percentile(values, 5, 100), 50, 0);
}

static void no_values_and_one_value(void **state)
{
    (void)state;
    double one[] = {3};
    assert_int_equal(cn_figures_of(NULL, 0).count, 0);
    assert_near(cn_figures_of(NULL, 0).p99, 0, 0);
    assert_near(cn_figures_of(one, 1).p99, 3, 0);
    assert_near(cn_figures_of(one, 1).std, 0, 0);
}

// Quantiles of t as printed in any table; the last row is the normal distribution's.
static void t_agrees_with_its_table(void **state)
{
    static const struct {
        double degrees, t_95;
    } rows[] = {{1, 12.7062047362}, {2, 4.3026527297}, {5, 2.5705818356}, {10, 2.2281388520},
                {30, 2.0422724563}, {1e7, 1.9599642}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_near(cn_figures_t_95(rows[i].degrees), rows[i].t_95, 1e-6);
        assert_near(cn_figures_t_tails(rows[i].t_95, rows[i].degrees), 0.05, 1e-6);
    }
    assert_near(cn_figures_t_tails(0, 7), 1, 1e-12);
    assert_near(cn_figures_t_tails(1, 1), 0.5, 1e-12);     // Cauchy: arctan
}

static void slope_of_a_line_and_of_noise(void **state)
{
    (void)state;
    const double line[] = {1, 3, 5, 7, 9}, noise[] = {1, -1, 1, -1, 1, -1, 1, -1, 1};
    assert_near(cn_figures_slope_of(line, 5).slope, 2, 1e-12);
    assert_near(cn_figures_slope_of(line, 5).margin, 0, 0);
    const cn_figures_slope flat = cn_figures_slope_of(noise, 9);
    assert_true(fabs(flat.slope) < flat.margin);
    assert_near(cn_figures_slope_of(line, 2).slope, 0, 0);
}

/* Means 2.8 and 4, variances 1.7 and 4, five values each: t = 1.2 / sqrt(0.34 + 0.8) = 1.123903 with
 * 1.14^2 / (0.34^2/4 + 0.8^2/4) = 6.8798 degrees of freedom. */
static void welch_agrees_with_the_hand(void **state)
{
    (void)state;
    const double a[] = {1, 2, 3, 4, 4}, b[] = {2, 2, 4, 6, 6};
    const cn_figures_difference d = cn_figures_compare(a, 5, b, 5);
    assert_near(d.difference, 1.2, 1e-12);
    assert_near(d.p_value, cn_figures_t_tails(1.2 / sqrt(1.14), 1.14 * 1.14 / ((0.34 * 0.34 + 0.64) / 4)),
                1e-9);
    assert_near((d.high - d.low) / 2, cn_figures_t_95(6.8798) * sqrt(1.14), 1e-4);
    assert_true(d.low < 0 && d.high > 0 && d.p_value > 0.05);
}

static void equal_and_plainly_different_samples(void **state)
{
    (void)state;
    const double a[] = {10, 11, 10, 11, 10}, b[] = {20, 21, 20, 21, 20}, same[] = {5, 5, 5};
    assert_near(cn_figures_compare(a, 5, a, 5).p_value, 1, 1e-9);
    const cn_figures_difference d = cn_figures_compare(a, 5, b, 5);
    assert_true(d.p_value < 1e-6 && d.low > 9 && d.high < 11);
    assert_near(cn_figures_compare(same, 3, same, 3).p_value, 1, 0);
    assert_near(cn_figures_compare(a, 1, b, 5).p_value, 1, 0);     // one value says nothing
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_interpolate_as_numpy),
        cmocka_unit_test(no_values_and_one_value),
        cmocka_unit_test(t_agrees_with_its_table),
        cmocka_unit_test(slope_of_a_line_and_of_noise),
        cmocka_unit_test(welch_agrees_with_the_hand),
        cmocka_unit_test(equal_and_plainly_different_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
