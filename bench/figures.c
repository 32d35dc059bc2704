#include "bench/figures.h"

#include <math.h>
#include <stdlib.h>

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void cn_figures_sort(double *values, uint64_t count)
{
    if (count > 1) qsort(values, count, sizeof *values, compare_doubles);
}

double cn_figures_percentile(const double *sorted, uint64_t count, double p)
{
    if (count == 0) return 0;
    const double at = p / 100 * (double)(count - 1);
    const uint64_t below = (uint64_t)at;
    if (below + 1 >= count) return sorted[count - 1];
    return sorted[below] + (sorted[below + 1] - sorted[below]) * (at - (double)below);
}

static void mean_and_variance(const double *values, uint64_t count, double *mean, double *squares)
{
    double sum = 0;
    *squares = 0;
    for (uint64_t i = 0; i < count; i++) sum += values[i];
    *mean = count ? sum / (double)count : 0;
    for (uint64_t i = 0; i < count; i++) *squares += (values[i] - *mean) * (values[i] - *mean);
}

cn_figures cn_figures_of(double *values, uint64_t count)
{
    cn_figures f = {.count = count};
    double squares;
    if (count == 0) return f;
    cn_figures_sort(values, count);
    mean_and_variance(values, count, &f.mean, &squares);
    f.std = sqrt(squares / (double)count);
    f.median = cn_figures_percentile(values, count, 50);
    f.p90 = cn_figures_percentile(values, count, 90);
    f.p95 = cn_figures_percentile(values, count, 95);
    f.p99 = cn_figures_percentile(values, count, 99);
    f.p999 = cn_figures_percentile(values, count, 99.9);
    f.max = values[count - 1];
    return f;
}

/* The regularised incomplete beta function I_x(a, b) by its continued fraction (Lentz 1976), which
 * converges fast for x below the mean; the other side follows by symmetry. */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), f;
    d = 1 / (fabs(d) < tiny ? tiny : d);
    f = d;
    for (int m = 1; m <= 300; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + even * d;
        c = 1 + even / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        f *= d * c;
        d = 1 + odd * d;
        c = 1 + odd / c;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = fabs(c) < tiny ? tiny : c;
        f *= d * c;
        if (fabs(d * c - 1) < 1e-12) break;
    }
    return f;
}

static double beta(double a, double b, double x)
{
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    const double scale = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return scale * beta_fraction(a, b, x) / a;
    return 1 - scale * beta_fraction(b, a, 1 - x) / b;
}

double cn_figures_t_tails(double t, double degrees)
{
    return beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

// By bisection: the tails fall with t.
double cn_figures_t_95(double degrees)
{
    double low = 0, high = 1000;
    for (int i = 0; i < 100; i++) {
        const double middle = (low + high) / 2;
        if (cn_figures_t_tails(middle, degrees) > 0.05) low = middle;
        else high = middle;
    }
    return (low + high) / 2;
}

cn_figures_slope cn_figures_slope_of(const double *y, uint32_t count)
{
    if (count < 3) return (cn_figures_slope){0, 0};
    const double n = count, x_mean = (n - 1) / 2, xx = n * (n * n - 1) / 12;
    double y_mean, yy, xy = 0;
    mean_and_variance(y, count, &y_mean, &yy);
    for (uint32_t i = 0; i < count; i++) xy += (i - x_mean) * (y[i] - y_mean);
    const double slope = xy / xx, rest = fmax(0, yy - slope * xy);
    return (cn_figures_slope){slope, cn_figures_t_95(n - 2) * sqrt(rest / (n - 2) / xx)};
}

cn_figures_difference cn_figures_compare(const double *a, uint32_t a_count, const double *b,
                                         uint32_t b_count)
{
    double a_mean, a_squares, b_mean, b_squares;
    mean_and_variance(a, a_count, &a_mean, &a_squares);
    mean_and_variance(b, b_count, &b_mean, &b_squares);
    cn_figures_difference d = {.difference = b_mean - a_mean, .p_value = 1};
    d.low = d.high = d.difference;
    if (a_count < 2 || b_count < 2) return d;
    const double a_error = a_squares / (a_count - 1) / a_count;
    const double b_error = b_squares / (b_count - 1) / b_count, error = a_error + b_error;
    if (error <= 0) {
        d.p_value = d.difference == 0 ? 1 : 0;
        return d;
    }
    const double degrees = error * error / (a_error * a_error / (a_count - 1) +
                                            b_error * b_error / (b_count - 1));
    const double margin = cn_figures_t_95(degrees) * sqrt(error);
    d.low = d.difference - margin;
    d.high = d.difference + margin;
    d.p_value = cn_figures_t_tails(fabs(d.difference) / sqrt(error), degrees);
    return d;
}
